//! [`Books`]: what everybody may use and has used, in memory.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::allowance::Allowance;
use super::{ANY_MODEL, Exceeded, JobMeter, Meter, Price, QuotaLimits, QuotaScope};
use crate::usage::{Account, Amount, Day, JobUsage, Ledger, Money, Report, Wanted, now_ms};
use crate::{Principal, Result};

/// What projects and keys may use and have used. Requests touch memory, and the ledger when they end.
pub struct Books {
    ledger: Ledger,
    allowances: RwLock<Allowances>,
    /// By what people call the models.
    prices: RwLock<HashMap<String, Price>>,
}

/// Those of projects and keys that have a quota, or have spent money in this month.
#[derive(Default)]
struct Allowances {
    projects: HashMap<String, Arc<Allowance>>,
    keys: HashMap<String, Arc<Allowance>>,
}

impl Allowances {
    fn get(&self, scope: &QuotaScope) -> Option<&Arc<Allowance>> {
        match scope {
            QuotaScope::Project(project) => self.projects.get(project),
            QuotaScope::Key(key) => self.keys.get(key),
        }
    }

    fn get_or_insert(&mut self, scope: QuotaScope, limits: QuotaLimits) -> &Arc<Allowance> {
        let (found, name) = match &scope {
            QuotaScope::Project(project) => (&mut self.projects, project.clone()),
            QuotaScope::Key(key) => (&mut self.keys, key.clone()),
        };
        found.entry(name).or_insert_with(|| Arc::new(Allowance::new(scope, limits)))
    }
}

/// Why a request is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// A limit stands against it.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
    /// What it uses could not be written down.
    #[error(
        "the server's disk takes no record of what is used, so nothing is answered; its operator must make room"
    )]
    Unwritable,
}

/// What is back by now matters no more.
const MINUTE_MS: u64 = 60_000;

impl Books {
    /// Opens the ledger in `directory` and takes up what was used of the present minute and month, by `jobs`, too.
    pub(crate) fn open(
        directory: &Path,
        limits: Vec<(QuotaScope, QuotaLimits)>,
        prices: Vec<(String, Price)>,
        jobs: &[JobUsage],
    ) -> Result<Books> {
        let mut allowances = Allowances::default();
        for (scope, limits) in limits {
            allowances.get_or_insert(scope, limits);
        }
        let books = Books {
            ledger: Ledger::open(directory)?,
            allowances: RwLock::new(allowances),
            prices: RwLock::new(prices.into_iter().collect()),
        };
        let now = now_ms();
        books.ledger.read_recent(now.saturating_sub(MINUTE_MS), |at_ms, account, amount| {
            for scope in scopes(&account.project, &account.key) {
                if let Some(allowance) = books.find(&scope) {
                    allowance.remember(amount, at_ms);
                }
            }
        })?;
        let mut spent: HashMap<QuotaScope, Money> = HashMap::new();
        let today = Day::of(now);
        let mut add_spent = |account: &Account, amount: &Amount| {
            if amount.cost > Money(0) {
                for scope in scopes(&account.project, &account.key) {
                    let sum = spent.entry(scope).or_default();
                    *sum = Money(sum.0.saturating_add(amount.cost.0));
                }
            }
        };
        books.ledger.read(today.month_begin(), today, |_, account, amount| add_spent(account, amount))?;
        let of_month =
            |used: &&JobUsage| used.day().is_some_and(|day| day.month_begin() == today.month_begin());
        for used in jobs.iter().filter(of_month) {
            add_spent(&used.account, &used.amount);
            let project = QuotaScope::Project(used.account.project.clone());
            books.find_or_make(project).remember_trained(used.amount.training_seconds, now);
        }
        for (scope, spent) in spent {
            books.find_or_make(scope).remember_spent(spent, now);
        }
        Ok(books)
    }

    /// Admits a request of `principal`, or says which limit stands against it.
    ///
    /// # Errors
    /// See [`NotAdmitted`].
    pub fn admit(self: &Arc<Self>, principal: &Arc<Principal>) -> std::result::Result<Meter, NotAdmitted> {
        if !self.ledger.takes_entries() {
            return Err(NotAdmitted::Unwritable);
        }
        Ok(Meter::admit(self, principal)?)
    }

    /// What a job of `project` takes of the model that people call `model`.
    pub(crate) fn meter(&self, project: &str, model: &str) -> JobMeter {
        let allowance = self.find_or_make(QuotaScope::Project(project.to_owned()));
        JobMeter::new(allowance, project, model, self.price(model))
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What was used, by `jobs`, too. Reads files.
    pub(super) fn report(&self, jobs: &[JobUsage], wanted: &Wanted) -> Result<Report> {
        Report::of(&self.ledger, jobs, wanted)
    }

    pub(crate) fn of_project(&self, project: &str) -> Option<Arc<Allowance>> {
        self.allowances().projects.get(project).cloned()
    }

    pub(super) fn of_key(&self, key: &str) -> Option<Arc<Allowance>> {
        self.allowances().keys.get(key).cloned()
    }

    fn find(&self, scope: &QuotaScope) -> Option<Arc<Allowance>> {
        self.allowances().get(scope).cloned()
    }

    pub(super) fn find_or_make(&self, scope: QuotaScope) -> Arc<Allowance> {
        let mut allowances = self.allowances.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(allowances.get_or_insert(scope, QuotaLimits::default()))
    }

    fn allowances(&self) -> RwLockReadGuard<'_, Allowances> {
        self.allowances.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The limits of `scope` from now on.
    pub(super) fn set_limits(&self, scope: QuotaScope, limits: QuotaLimits) {
        self.find_or_make(scope).set_limits(limits, now_ms());
    }

    /// What `scope` has spent in this month.
    pub(super) fn spent(&self, scope: &QuotaScope) -> Money {
        self.find(scope).map_or(Money(0), |allowance| allowance.spent(now_ms()))
    }

    /// Seconds that `scope` has trained in this month.
    pub(super) fn trained(&self, scope: &QuotaScope) -> u64 {
        self.find(scope).map_or(0, |allowance| allowance.trained(now_ms()))
    }

    /// What the model that people call `model` costs.
    pub(crate) fn price(&self, model: &str) -> Price {
        let prices = self.prices.read().unwrap_or_else(PoisonError::into_inner);
        prices.get(model).or_else(|| prices.get(ANY_MODEL)).copied().unwrap_or_default()
    }

    /// The price of `model` from now on; the usual one where there is none.
    pub(super) fn set_price(&self, model: &str, price: Option<Price>) {
        let mut prices = self.prices.write().unwrap_or_else(PoisonError::into_inner);
        match price {
            Some(price) => prices.insert(model.to_owned(), price),
            None => prices.remove(model),
        };
    }
}

/// Those who are bound by what was used.
fn scopes(project: &str, key: &str) -> impl Iterator<Item = QuotaScope> {
    let key = Some(key).filter(|key| !key.is_empty()).map(|key| QuotaScope::Key(key.to_owned()));
    std::iter::once(QuotaScope::Project(project.to_owned())).chain(key)
}

#[cfg(test)]
mod tests;
