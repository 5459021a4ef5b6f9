//! [`Meter`]: what one request may take, and what it took.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::allowance::{Allowance, Hold};
use super::{Books, Exceeded, Price, QuotaScope, Rates};
use crate::usage::{Amount, Money, Noted, User, now_ms};
use crate::{ALL_PROJECTS, Principal};

/// One request, from its admission to its end. What is reserved and not used goes back when it is dropped.
pub struct Meter {
    books: Arc<Books>,
    principal: Arc<Principal>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// That of what is asked, for a principal that is bound to none.
    project: String,
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
    /// Admits a request of `principal`.
    pub(super) fn admit(books: &Arc<Books>, principal: &Arc<Principal>) -> Result<Meter, Exceeded> {
        let (books, principal) = (Arc::clone(books), Arc::clone(principal));
        let meter = Meter { books, principal, state: Mutex::default() };
        let (mut state, now) = (meter.lock(), now_ms());
        if let Some(allowance) = meter.key().and_then(|key| meter.books.of_key(key)) {
            allowance.enter(now)?;
            state.allowances[0] = Some(allowance);
        }
        if let Some(project) = meter.own_project() {
            meter.enter(&mut state, project, now)?;
        }
        drop(state);
        Ok(meter)
    }

    /// The key's public part; `None` for what is asked from within.
    fn key(&self) -> Option<&str> {
        Some(self.principal.key_id.as_str()).filter(|key| !key.is_empty())
    }

    /// The project that the principal is bound to, if it is to one.
    fn own_project(&self) -> Option<&str> {
        Some(self.principal.project.as_str()).filter(|project| *project != ALL_PROJECTS)
    }

    fn enter(&self, state: &mut State, project: &str, now: u64) -> Result<(), Exceeded> {
        if let Some(allowance) = self.books.of_project(project) {
            allowance.enter(now)?;
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
        let (mut state, now) = (self.lock(), now_ms());
        if state.model.is_empty() {
            state.model = model.to_owned();
            state.price = self.books.price(model);
        }
        if state.project.is_empty() && self.own_project().is_none() {
            let project = resource.split('/').nth(1).unwrap_or_default();
            state.project.push_str(project);
            self.enter(&mut state, project, now)?;
        }
        let more = Hold { cost: state.price.of(&more), ..Hold::of(&more) };
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
        drop(self.note(used));
    }

    /// Counts that `used` was used. It is written down when what is returned is dropped.
    pub fn note(&self, used: Amount) -> Noted<'_> {
        let (mut state, now) = (self.lock(), now_ms());
        let counted = std::mem::replace(&mut state.counted, true);
        let cost = state.price.of(&used);
        let used = Amount { requests: u64::from(!counted), cost, ..used };
        let taken = Hold::of(&used);
        let held = state.held.split(taken);
        let (key, project) = (self.key(), self.own_project().unwrap_or(&state.project));
        for allowance in state.allowances.iter().flatten() {
            allowance.settle(held, taken, now);
        }
        // Money counts from the first of the month, also for a quota that is set later.
        if taken.cost > Money(0) {
            let of_key = key.map(|key| QuotaScope::Key(key.to_owned()));
            let scopes = [of_key, Some(QuotaScope::Project(project.to_owned()))];
            let unlimited = state.allowances.iter().zip(scopes).filter(|(allowance, _)| allowance.is_none());
            for scope in unlimited.filter_map(|(_, scope)| scope) {
                self.books.find_or_make(scope).settle(Hold::default(), taken, now);
            }
        }
        let user = User { project, key: key.unwrap_or_default(), model: &state.model };
        self.books.ledger().append(user, &used, now)
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
            allowance.leave(state.held);
        }
    }
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter").field("principal", &self.principal).finish_non_exhaustive()
    }
}
