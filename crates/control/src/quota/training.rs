//! [`TrainingLease`]: how long a training may go on.

use std::sync::Arc;
use std::time::Instant;

use super::{Exceeded, JobMeter};

/// Seconds that are reserved at a time.
const LEASE_SECONDS: u64 = 10;

/// How long a training may go on: some seconds at a time, reserved before they begin.
pub(crate) struct TrainingLease {
    meter: Arc<JobMeter>,
    begun: Instant,
    /// Seconds since the beginning that are reserved.
    held: u64,
    /// Seconds since the beginning that are counted.
    counted: u64,
}

impl TrainingLease {
    /// Begins one.
    ///
    /// # Errors
    /// If nothing is left.
    pub(crate) fn take(meter: Arc<JobMeter>) -> Result<Self, Exceeded> {
        let held = meter.reserve_training(LEASE_SECONDS)?;
        Ok(TrainingLease { meter, begun: Instant::now(), held, counted: 0 })
    }

    /// Lets it go on for some more, where what is reserved is over.
    ///
    /// # Errors
    /// If nothing is left.
    pub(crate) fn go_on(&mut self) -> Result<(), Exceeded> {
        if self.begun.elapsed().as_secs() >= self.held {
            self.held += self.meter.reserve_training(LEASE_SECONDS)?;
        }
        Ok(())
    }

    /// Counts what it has taken until now, a begun second as a whole one.
    pub(crate) fn count(&mut self) {
        let taken = self.begun.elapsed();
        let taken = taken.as_secs() + u64::from(taken.subsec_nanos() > 0);
        self.meter.count_training(taken.saturating_sub(self.counted));
        self.counted = taken;
    }
}

impl Drop for TrainingLease {
    fn drop(&mut self) {
        self.count();
    }
}
