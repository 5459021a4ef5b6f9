//! [`Meter`]: what one request may take, and what it took.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::allowance::{Allowance, Hold};
use super::{Books, Exceeded, Price, QuotaScope, Rates};
use crate::usage::{Account, Amount, Money, now_ms};

/// One request, from its admission to its end. What is reserved and not used goes back when it is dropped.
pub struct Meter {
    books: Arc<Books>,
    key: String,
    state: Mutex<State>,
}

struct State {
    project: Option<String>,
    /// The key's and the project's, where there are some.
    allowances: [Option<Arc<Allowance>>; 2],
    held: Hold,
    price: Price,
    /// What people call the model that is asked.
    model: String,
    /// Whether the request was counted.
    counted: bool,
}

impl Meter {
    /// Admits a request of `key`, which is bound to `project`, if it is to one.
    pub(super) fn admit(books: &Arc<Books>, key: &str, project: Option<&str>) -> Result<Meter, Exceeded> {
        let of_key = if key.is_empty() { None } else { books.find(&QuotaScope::Key(key.to_owned())) };
        let meter = Meter {
            books: Arc::clone(books),
            key: key.to_owned(),
            state: Mutex::new(State {
                project: None,
                allowances: [None, None],
                held: Hold::default(),
                price: Price::default(),
                model: String::new(),
                counted: false,
            }),
        };
        if let Some(allowance) = of_key {
            allowance.enter(now_ms())?;
            meter.lock().allowances[0] = Some(allowance);
        }
        if let Some(project) = project {
            let mut state = meter.lock();
            state.project = Some(project.to_owned());
            meter.enter(&mut state, project)?;
            drop(state);
        }
        Ok(meter)
    }

    fn enter(&self, state: &mut State, project: &str) -> Result<(), Exceeded> {
        if let Some(allowance) = self.books.find(&QuotaScope::Project(project.to_owned())) {
            allowance.enter(now_ms())?;
            state.allowances[1] = Some(allowance);
        }
        Ok(())
    }

    /// Reserves what the model called `model`, whose resource name is `resource`, is about to take: `more` in all that it
    /// may be.
    ///
    /// # Errors
    /// If it is not there. Nothing is reserved then.
    pub fn reserve(&self, resource: &str, model: &str, more: Amount) -> Result<(), Exceeded> {
        let mut state = self.lock();
        if state.model.is_empty() {
            state.model = model.to_owned();
            state.price = self.books.price(model);
        }
        if state.project.is_none() {
            let project = resource.split('/').nth(1).unwrap_or_default();
            state.project = Some(project.to_owned());
            self.enter(&mut state, project)?;
        }
        let more = Hold { cost: state.price.of(&more), ..Hold::of(&more) };
        let now = now_ms();
        let [first, second] = &state.allowances;
        if let Some(allowance) = first {
            allowance.reserve(more, now)?;
        }
        if let Some(allowance) = second {
            allowance.reserve(more, now).inspect_err(|_| {
                if let Some(allowance) = first {
                    allowance.give_back(more);
                }
            })?;
        }
        state.held = state.held.and(more);
        Ok(())
    }

    /// Counts what could not be reserved, as nobody could know it before.
    pub fn charge(&self, resource: &str, model: &str, used: Amount) {
        // What is refused here is done already; whoever has nothing left is not admitted again.
        let _ = self.reserve(resource, model, used);
        self.record(used);
    }

    /// Writes down that `used` was used, before anybody is told. The request itself is counted with the first use.
    pub fn record(&self, used: Amount) {
        let mut state = self.lock();
        let counted = std::mem::replace(&mut state.counted, true);
        let cost = state.price.of(&used);
        let used = Amount { requests: u64::from(!counted), cost, ..used };
        let taken = Hold::of(&used);
        let held = state.held.split(taken);
        let project = state.project.clone().unwrap_or_default();
        let scopes = [QuotaScope::Key(self.key.clone()), QuotaScope::Project(project.clone())];
        for (allowance, scope) in state.allowances.iter().zip(scopes) {
            match allowance {
                Some(allowance) => allowance.settle(held, taken, now_ms()),
                // Money counts from the first of the month, also for a quota that is set later.
                None if taken.cost > Money(0) && (scope != QuotaScope::Key(String::new())) => {
                    self.books.find_or_make(scope).settle(Hold::default(), taken, now_ms());
                }
                None => {}
            }
        }
        let account = Account { project, key: self.key.clone(), model: state.model.clone() };
        drop(state);
        self.books.ledger().append(account, used);
    }

    /// How the minute's requests and tokens stand: the key's or the project's, of which less is left.
    pub fn rates(&self) -> Rates {
        let state = self.lock();
        let now = now_ms();
        let mut rates = Rates::default();
        for allowance in state.allowances.iter().flatten() {
            let [requests, tokens] = allowance.rates(now);
            rates = rates.or_less(Rates { requests, tokens });
        }
        rates
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain values, whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for allowance in state.allowances.iter().flatten() {
            allowance.give_back(state.held);
            allowance.leave();
        }
    }
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter").field("key", &self.key).finish_non_exhaustive()
    }
}
