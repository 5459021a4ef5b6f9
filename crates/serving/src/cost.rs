//! [`Cost`]: what a batch of a model has been taking, to tell cheap models from expensive ones.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Each new measurement counts for an eighth.
const SMOOTHING: u64 = 8;

/// Moving averages of batch duration and batch size. Updates from several threads may overwrite each other:
/// an average that lost one sample is as good.
#[derive(Debug, Default)]
pub(crate) struct Cost {
    /// Nanoseconds a batch; 0 until the first measurement.
    nanos: AtomicU64,
    /// Rows a batch, in 1/256 rows.
    rows: AtomicU64,
}

impl Cost {
    /// Adds a batch of `rows` that took `elapsed`.
    ///
    /// One outlier, such as a thread that lost the processor for a while, can at most double the average.
    pub(crate) fn record(&self, rows: usize, elapsed: Duration) {
        let sample = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX).max(1);
        let rows = (rows as u64).saturating_mul(256);
        let nanos = self.nanos.load(Relaxed);
        if nanos == 0 {
            self.nanos.store(sample, Relaxed);
            self.rows.store(rows, Relaxed);
            return;
        }
        let sample = sample.min(nanos.saturating_mul(SMOOTHING));
        self.nanos.store(blend(nanos, sample).max(1), Relaxed);
        self.rows.store(blend(self.rows.load(Relaxed), rows), Relaxed);
    }

    /// What a batch of `rows` is likely to take, rather too much than too little; `None` before the first
    /// measurement.
    pub(crate) fn estimate(&self, rows: usize) -> Option<Duration> {
        let nanos = self.nanos.load(Relaxed);
        if nanos == 0 {
            return None;
        }
        let usual = self.rows.load(Relaxed).max(256);
        let rows = (rows as u64).saturating_mul(256).max(usual);
        let nanos = u128::from(nanos) * u128::from(rows) / u128::from(usual);
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

fn blend(average: u64, sample: u64) -> u64 {
    average - average / SMOOTHING + sample / SMOOTHING
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const US: Duration = Duration::from_micros(1);

    #[test]
    fn unknown_until_measured() {
        let cost = Cost::default();
        assert_eq!(cost.estimate(1), None);
        cost.record(1, 10 * US);
        assert_eq!(cost.estimate(1), Some(10 * US));
        assert_eq!(cost.estimate(32), Some(320 * US));
    }

    #[test]
    fn learns_that_larger_batches_are_cheap() {
        let cost = Cost::default();
        cost.record(1, 28 * US);
        for _ in 0..20 {
            cost.record(64, 80 * US);
        }
        assert!(cost.estimate(64).unwrap() < 100 * US);
    }

    #[test]
    fn one_outlier_at_most_doubles_it() {
        let cost = Cost::default();
        cost.record(1, 10 * US);
        cost.record(1, Duration::from_secs(5));
        assert!(cost.estimate(1).unwrap() <= 20 * US);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let cost = Cost::default();
        for _ in 0..3 {
            cost.record(usize::MAX, Duration::MAX);
            cost.record(0, Duration::ZERO);
        }
        assert!(cost.estimate(usize::MAX).is_some());
    }
}
