//! [`Allowance`]: what one project or key has used and reserved, against its limits.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::bucket::Bucket;
use super::{Exceeded, Limited, Price, QuotaLimits, QuotaScope, Rate};
use crate::usage::{Amount, Day, Money};

/// What one project or key has used and reserved, against its limits. All of it is under one lock, held for some
/// additions, so that whatever is let in is let in whole.
#[derive(Debug)]
pub(crate) struct Allowance {
    scope: QuotaScope,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    limits: QuotaLimits,
    requests: Bucket,
    tokens: Bucket,
    concurrent: u64,
    /// Of the month.
    spent: u64,
    /// For requests that are under way.
    reserved: u64,
    /// Seconds of training of the month.
    trained: u64,
    /// For trainings that go on.
    training: u64,
    /// Bytes that are about to be kept, and are not counted where they lie yet.
    storing: u64,
    /// How often some of those were counted where they lie, or given up.
    stored: u64,
    /// The moment at which the next month begins.
    month_end_ms: u64,
}

/// Tokens, money and seconds of training that are reserved, or used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) tokens: u64,
    pub(super) cost: Money,
    pub(super) training: u64,
}

impl Hold {
    /// What `amount` takes of the minute and of the month.
    pub(super) fn of(amount: &Amount) -> Hold {
        Hold { tokens: amount.tokens(), cost: amount.cost, training: amount.training_seconds }
    }

    /// Both together.
    pub(super) fn and(self, more: Hold) -> Hold {
        Hold {
            tokens: self.tokens.saturating_add(more.tokens),
            cost: Money(self.cost.0.saturating_add(more.cost.0)),
            training: self.training.saturating_add(more.training),
        }
    }

    /// Takes from it what there is of `used`.
    pub(super) fn split(&mut self, used: Hold) -> Hold {
        let taken = Hold {
            tokens: self.tokens.min(used.tokens),
            cost: self.cost.min(used.cost),
            training: self.training.min(used.training),
        };
        self.tokens -= taken.tokens;
        self.cost.0 -= taken.cost.0;
        self.training -= taken.training;
        taken
    }
}

impl Allowance {
    pub(super) fn new(scope: QuotaScope, limits: QuotaLimits) -> Allowance {
        Allowance { scope, state: Mutex::new(State { limits, ..State::default() }) }
    }

    /// Reserves a place among the requests that are being answered, and one of the minute's.
    pub(super) fn enter(&self, now_ms: u64) -> Result<(), Exceeded> {
        let mut state = self.lock();
        state.advance(now_ms);
        let QuotaLimits { requests_per_minute, concurrent_requests, monthly_budget, .. } = state.limits;
        let refuse = |limit, retry_after| {
            Err(Exceeded { scope: self.scope.clone(), limit, retry_after: Some(retry_after) })
        };
        if let Some(limit) = concurrent_requests.filter(|limit| state.concurrent >= *limit) {
            return refuse(Limited::Concurrent(limit), CONCURRENT_RETRY);
        }
        if let Some(limit) = requests_per_minute.filter(|limit| state.requests.left(*limit) == 0) {
            let wait = Duration::from_millis(state.requests.wait_ms(limit, 1));
            return refuse(Limited::Requests(limit), wait);
        }
        if let Some(budget) =
            monthly_budget.filter(|budget| state.spent.saturating_add(state.reserved) >= budget.0)
        {
            return refuse(Limited::Budget(budget), state.month_left(now_ms));
        }
        state.concurrent += 1;
        state.requests.take(1);
        Ok(())
    }

    /// Gives back the place, and what was reserved and not used.
    pub(super) fn leave(&self, held: Hold) {
        let mut state = self.lock();
        state.concurrent = state.concurrent.saturating_sub(1);
        state.give_back(held);
    }

    /// Reserves `more` of the minute's tokens and of the month's money: all of it, or nothing.
    pub(super) fn reserve(&self, more: Hold, now_ms: u64) -> Result<(), Exceeded> {
        let mut state = self.lock();
        state.advance(now_ms);
        let refuse = |limit, retry_after| Err(Exceeded { scope: self.scope.clone(), limit, retry_after });
        if let Some(limit) = state.limits.tokens_per_minute {
            let (asked, left) = (more.tokens, state.tokens.left(limit));
            if asked > left {
                let wait = Duration::from_millis(state.tokens.wait_ms(limit, asked));
                return refuse(Limited::Tokens { limit, asked, left }, (asked <= limit).then_some(wait));
            }
        }
        if let Some(budget) = state.limits.monthly_budget {
            let sum = state.spent.saturating_add(state.reserved).saturating_add(more.cost.0);
            if sum > budget.0 {
                let month_left = (more.cost <= budget).then(|| state.month_left(now_ms));
                return refuse(Limited::Budget(budget), month_left);
            }
        }
        state.tokens.take(more.tokens);
        state.reserved = state.reserved.saturating_add(more.cost.0);
        Ok(())
    }

    /// Gives back what was reserved and not used.
    pub(super) fn give_back(&self, held: Hold) {
        self.lock().give_back(held);
    }

    /// Counts what was used, in place of what was reserved for it.
    pub(super) fn settle(&self, held: Hold, used: Hold, now_ms: u64) {
        let mut state = self.lock();
        state.advance(now_ms);
        state.give_back(held);
        state.tokens.take(used.tokens);
        state.spent = state.spent.saturating_add(used.cost.0);
        state.trained = state.trained.saturating_add(used.training);
    }

    /// Counts what another process let in at `at_ms`, as far as it is not back yet.
    pub(super) fn remember(&self, used: &Amount, at_ms: u64) {
        let mut state = self.lock();
        state.advance(at_ms);
        state.requests.take(used.requests);
        state.tokens.take(used.tokens());
    }

    /// Counts what was spent in this month before this process.
    pub(super) fn remember_spent(&self, spent: Money, now_ms: u64) {
        let mut state = self.lock();
        state.advance(now_ms);
        state.spent = state.spent.saturating_add(spent.0);
    }

    /// Reserves `wanted` seconds of the month's training at `price`, or as many as are left and can be paid.
    pub(super) fn reserve_training(&self, wanted: u64, price: &Price, now_ms: u64) -> Result<Hold, Exceeded> {
        let mut state = self.lock();
        state.advance(now_ms);
        let mut granted = wanted;
        let over = |limit| {
            let retry_after = Some(state.month_left(now_ms));
            Err(Exceeded { scope: self.scope.clone(), limit, retry_after })
        };
        if let Some(minutes) = state.limits.training_minutes {
            let taken = state.trained.saturating_add(state.training);
            granted = granted.min(minutes.saturating_mul(60).saturating_sub(taken));
            if granted == 0 {
                return over(Limited::Training(minutes));
            }
        }
        if let Some(budget) = state.limits.monthly_budget {
            let left = budget.0.saturating_sub(state.spent.saturating_add(state.reserved));
            granted = granted.min(price.training_seconds(Money(left)));
            if granted == 0 {
                return over(Limited::Budget(budget));
            }
        }
        let cost = price.of(&Amount { training_seconds: granted, ..Amount::default() });
        state.training = state.training.saturating_add(granted);
        state.reserved = state.reserved.saturating_add(cost.0);
        Ok(Hold { tokens: 0, cost, training: granted })
    }

    /// Counts seconds that were trained in this month before this process.
    pub(super) fn remember_trained(&self, seconds: u64, now_ms: u64) {
        let mut state = self.lock();
        state.advance(now_ms);
        state.trained = state.trained.saturating_add(seconds);
    }

    /// Seconds of training of this month.
    pub(super) fn trained(&self, now_ms: u64) -> u64 {
        let mut state = self.lock();
        state.advance(now_ms);
        state.trained
    }

    /// How many bytes may be kept, where that is limited, and how often some were counted where they lie.
    pub(crate) fn stored_limit(&self) -> (Option<u64>, u64) {
        let state = self.lock();
        (state.limits.stored_bytes, state.stored)
    }

    /// Reserves room for `more` bytes beside the `kept` ones that lie here. `None` if some were counted there since the
    /// state `as_of`, so that `kept` must be asked again.
    pub(crate) fn reserve_stored(&self, more: u64, kept: u64, as_of: u64) -> Option<Result<(), Exceeded>> {
        let mut state = self.lock();
        if state.stored != as_of {
            return None;
        }
        let stored = kept.saturating_add(state.storing);
        if let Some(limit) = state.limits.stored_bytes.filter(|limit| stored.saturating_add(more) > *limit) {
            let limit = Limited::Stored { limit, stored, asked: more };
            return Some(Err(Exceeded { scope: self.scope.clone(), limit, retry_after: None }));
        }
        state.storing = state.storing.saturating_add(more);
        Some(Ok(()))
    }

    /// Gives back room that was reserved: what it was for is counted where it lies, or given up.
    pub(crate) fn release_stored(&self, held: u64) {
        let mut state = self.lock();
        state.storing = state.storing.saturating_sub(held);
        state.stored = state.stored.wrapping_add(1);
    }

    /// Changes the limits. What was used and reserved stays.
    pub(super) fn set_limits(&self, limits: QuotaLimits, now_ms: u64) {
        let mut state = self.lock();
        state.advance(now_ms);
        state.limits = limits;
    }

    /// What was spent in this month.
    pub(super) fn spent(&self, now_ms: u64) -> Money {
        let mut state = self.lock();
        state.advance(now_ms);
        Money(state.spent)
    }

    /// How the minute's requests and tokens stand, where they are limited.
    pub(super) fn rates(&self, now_ms: u64) -> [Option<Rate>; 2] {
        let mut state = self.lock();
        state.advance(now_ms);
        let rate = |limit: Option<u64>, bucket: &Bucket| {
            limit.map(|limit| Rate {
                limit,
                left: bucket.left(limit),
                reset: Duration::from_millis(bucket.full_ms(limit)),
            })
        };
        [
            rate(state.limits.requests_per_minute, &state.requests),
            rate(state.limits.tokens_per_minute, &state.tokens),
        ]
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain values, whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When someone who has too many requests under way had better come back.
const CONCURRENT_RETRY: Duration = Duration::from_secs(1);

impl State {
    /// Lets time pass.
    fn advance(&mut self, now_ms: u64) {
        // Without a limit everything is back after a minute.
        self.requests.refill(self.limits.requests_per_minute.unwrap_or(u64::MAX), now_ms);
        self.tokens.refill(self.limits.tokens_per_minute.unwrap_or(u64::MAX), now_ms);
        if now_ms >= self.month_end_ms {
            self.month_end_ms = Day::of(now_ms).month_end().begin_ms();
            (self.spent, self.trained) = (0, 0);
        }
    }

    fn give_back(&mut self, held: Hold) {
        self.tokens.give_back(held.tokens);
        self.reserved = self.reserved.saturating_sub(held.cost.0);
        self.training = self.training.saturating_sub(held.training);
    }

    fn month_left(&self, now_ms: u64) -> Duration {
        Duration::from_millis(self.month_end_ms.saturating_sub(now_ms))
    }
}
