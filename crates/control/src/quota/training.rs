//! [`TrainingLease`]: how long a training may go on.

use std::sync::Arc;
use std::time::Instant;

use super::Exceeded;
use super::allowance::Allowance;
use crate::usage::now_ms;

/// Seconds that are reserved at a time.
const LEASE_SECONDS: u64 = 10;

/// How long a training may go on: some seconds at a time, reserved before they begin. What it took is counted when it is
/// dropped.
pub(crate) struct TrainingLease {
    allowance: Arc<Allowance>,
    begun: Instant,
    /// Seconds since the beginning that are reserved.
    held: u64,
}

impl TrainingLease {
    pub(super) fn take(allowance: Arc<Allowance>) -> Result<Self, Exceeded> {
        let held = allowance.reserve_training(LEASE_SECONDS, now_ms())?;
        Ok(TrainingLease { allowance, begun: Instant::now(), held })
    }

    /// Lets it go on for some more, where what is reserved is over.
    ///
    /// # Errors
    /// If nothing is left.
    pub(crate) fn go_on(&mut self) -> Result<(), Exceeded> {
        if self.begun.elapsed().as_secs() >= self.held {
            self.held += self.allowance.reserve_training(LEASE_SECONDS, now_ms())?;
        }
        Ok(())
    }

    /// What it has taken, in seconds, begun ones included.
    pub(crate) fn taken(&self) -> u64 {
        let taken = self.begun.elapsed();
        taken.as_secs() + u64::from(taken.subsec_nanos() > 0)
    }
}

impl Drop for TrainingLease {
    fn drop(&mut self) {
        self.allowance.settle_training(self.held, self.taken(), now_ms());
    }
}
