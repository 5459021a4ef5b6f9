//! [`Counters`]: what happened to a deployed model's requests, cheap to count and to read.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the batch-size histogram, in rows; one more bucket holds what is larger.
pub const BATCH_ROWS_BOUNDS: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// Upper bounds of the queue-time and run-time histograms, in microseconds; one more bucket holds what is
/// longer.
pub const TIME_US_BOUNDS: [u64; 12] =
    [10, 50, 100, 500, 1_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 10_000_000];

/// Live counts. They only grow, and outlive changes of the routing table.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: AtomicU64,
    pub(crate) bad_requests: AtomicU64,
    pub(crate) overloaded: AtomicU64,
    pub(crate) expired: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) explanations: AtomicU64,
    batch_rows: Histogram<{ BATCH_ROWS_BOUNDS.len() + 1 }>,
    queue_time: Histogram<{ TIME_US_BOUNDS.len() + 1 }>,
    run_time: Histogram<{ TIME_US_BOUNDS.len() + 1 }>,
}

/// Counts of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterSnapshot {
    /// Predict requests routed to this deployed model, however they ended.
    pub requests: u64,
    /// Refused because an instance or the request did not fit the model.
    pub bad_requests: u64,
    /// Refused because the queue was full.
    pub overloaded: u64,
    /// Ended by their deadline.
    pub expired: u64,
    /// Left by their caller while they waited.
    pub cancelled: u64,
    /// Failed in the model.
    pub failed: u64,
    /// Explain requests, however they ended.
    pub explanations: u64,
    /// Rows in each batch that was run; buckets end at [`BATCH_ROWS_BOUNDS`].
    pub batch_rows: HistogramSnapshot,
    /// Microseconds that each request waited before its batch began; buckets end at [`TIME_US_BOUNDS`].
    pub queue_time_us: HistogramSnapshot,
    /// Microseconds that each batch took; buckets end at [`TIME_US_BOUNDS`].
    pub run_time_us: HistogramSnapshot,
}

/// A histogram of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// Observations by bucket, not cumulated; the last bucket has no upper bound.
    pub buckets: Vec<u64>,
    /// Sum of all observations.
    pub sum: u64,
}

impl HistogramSnapshot {
    /// How many observations there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// Observations by bucket.
#[derive(Debug)]
pub(crate) struct Histogram<const N: usize> {
    buckets: [AtomicU64; N],
    sum: AtomicU64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Histogram { buckets: [const { AtomicU64::new(0) }; N], sum: AtomicU64::new(0) }
    }
}

impl<const N: usize> Histogram<N> {
    fn add(&self, bounds: &[u64], value: u64) {
        let bucket = bounds.partition_point(|&bound| bound < value);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// Adds a time, by bounds in microseconds.
    pub(crate) fn add_time(&self, bounds: &[u64], time: Duration) {
        self.add(bounds, micros(time));
    }

    pub(crate) fn snapshot(&self) -> HistogramSnapshot {
        let buckets = self.buckets.iter().map(|b| b.load(Relaxed)).collect();
        HistogramSnapshot { buckets, sum: self.sum.load(Relaxed) }
    }
}

impl Counters {
    pub(crate) fn batch(&self, rows: usize, run: Duration) {
        self.batch_rows.add(&BATCH_ROWS_BOUNDS, rows as u64);
        self.run_time.add(&TIME_US_BOUNDS, micros(run));
    }

    pub(crate) fn queued(&self, waited: Duration) {
        self.queue_time.add(&TIME_US_BOUNDS, micros(waited));
    }

    pub(crate) fn snapshot(&self) -> CounterSnapshot {
        CounterSnapshot {
            requests: self.requests.load(Relaxed),
            bad_requests: self.bad_requests.load(Relaxed),
            overloaded: self.overloaded.load(Relaxed),
            expired: self.expired.load(Relaxed),
            cancelled: self.cancelled.load(Relaxed),
            failed: self.failed.load(Relaxed),
            explanations: self.explanations.load(Relaxed),
            batch_rows: self.batch_rows.snapshot(),
            queue_time_us: self.queue_time.snapshot(),
            run_time_us: self.run_time.snapshot(),
        }
    }
}

pub(crate) fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let counters = Counters::default();
        for rows in [1, 2, 3, 4, 256, 257, 100_000] {
            counters.batch(rows, Duration::from_micros(10));
        }
        let snapshot = counters.snapshot();
        assert_eq!(snapshot.batch_rows.buckets, [1, 1, 2, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(snapshot.run_time_us.buckets[0], 7);
        assert_eq!((snapshot.run_time_us.count(), snapshot.run_time_us.sum), (7, 70));
    }
}
