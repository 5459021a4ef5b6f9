//! [`JobMeter`]: what one job may take of one model, and what it took.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::allowance::{Allowance, Hold};
use super::{Exceeded, Price};
use crate::usage::{Account, Amount, Money, now_ms};

/// What one job may take of one model, and what it took: reserved slice by slice before the work of each, counted when
/// it is done, spent once a commit has written it down. What is reserved and not used goes back when it is dropped.
pub(crate) struct JobMeter {
    allowance: Arc<Allowance>,
    account: Account,
    price: Price,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Hold,
    /// Done, and not written down yet.
    done: Amount,
}

/// What was done and is to be written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    /// For whom, of what.
    pub(crate) account: Account,
    /// How much, with what it costs.
    pub(crate) amount: Amount,
}

impl JobMeter {
    pub(super) fn new(allowance: Arc<Allowance>, project: &str, model: &str, price: Price) -> JobMeter {
        let account = Account { project: project.to_owned(), key: String::new(), model: model.to_owned() };
        JobMeter { allowance, account, price, state: Mutex::default() }
    }

    /// Refuses a job of which not even one row can be paid.
    ///
    /// # Errors
    /// Which limit stands against it.
    pub(crate) fn check_rows(&self) -> Result<(), Exceeded> {
        self.reserve_rows(1).map(|()| self.count_rows(1, 0))
    }

    /// Refuses a training of which not even one second is to be had.
    ///
    /// # Errors
    /// Which limit stands against it.
    pub(crate) fn check_training(&self) -> Result<(), Exceeded> {
        let held = self.allowance.reserve_training(1, &self.price, now_ms())?;
        self.allowance.give_back(held);
        Ok(())
    }

    /// Reserves that `rows` are predicted, which [`JobMeter::count_rows`] then counts.
    ///
    /// # Errors
    /// If they cannot be paid. Nothing is reserved then.
    pub(crate) fn reserve_rows(&self, rows: u64) -> Result<(), Exceeded> {
        let more = Hold { cost: self.cost_of_rows(rows), ..Hold::default() };
        // What is free is not refused to those who have spent too much.
        if more.cost > Money(0) {
            self.allowance.reserve(more, now_ms())?;
            let mut state = self.lock();
            state.held = state.held.and(more);
        }
        Ok(())
    }

    /// Counts that of `reserved` rows so many were predicted.
    pub(crate) fn count_rows(&self, reserved: u64, predicted: u64) {
        let mut state = self.lock();
        state.done.rows = state.done.rows.saturating_add(predicted);
        let unused = self.cost_of_rows(reserved).0.saturating_sub(self.cost_of_rows(predicted).0);
        let unused = state.held.split(Hold { cost: Money(unused), ..Hold::default() });
        drop(state);
        self.allowance.give_back(unused);
    }

    /// Reserves `wanted` seconds of training, or as many as there are; says how many.
    ///
    /// # Errors
    /// If there are none.
    pub(super) fn reserve_training(&self, wanted: u64) -> Result<u64, Exceeded> {
        let more = self.allowance.reserve_training(wanted, &self.price, now_ms())?;
        let mut state = self.lock();
        state.held = state.held.and(more);
        Ok(more.training)
    }

    /// Counts `seconds` of training.
    pub(super) fn count_training(&self, seconds: u64) {
        let mut state = self.lock();
        state.done.training_seconds = state.done.training_seconds.saturating_add(seconds);
    }

    /// What is to be written down; `None` where that is nothing.
    pub(crate) fn due(&self) -> Option<Due> {
        let amount = self.lock().done;
        let cost = self.price.of(&amount);
        let due = || Due { account: self.account.clone(), amount: Amount { cost, ..amount } };
        (amount != Amount::default()).then(due)
    }

    /// Counts as spent what a commit has written down.
    pub(crate) fn written(&self, amount: &Amount) {
        let mut state = self.lock();
        state.done.rows = state.done.rows.saturating_sub(amount.rows);
        state.done.training_seconds = state.done.training_seconds.saturating_sub(amount.training_seconds);
        let used = Hold::of(amount);
        let held = state.held.split(used);
        drop(state);
        self.allowance.settle(held, used, now_ms());
    }

    fn cost_of_rows(&self, rows: u64) -> Money {
        self.price.of(&Amount { rows, ..Amount::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain values, whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for JobMeter {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.allowance.give_back(state.held);
    }
}
