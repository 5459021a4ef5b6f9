//! [`Metrics`]: a few counters, for Prometheus.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;

/// Counters of the server.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Replies by the first digit of their status.
    replies: [AtomicU64; 6],
    /// Connections open.
    pub(super) connections: AtomicUsize,
    /// Connections turned away.
    pub(super) refused: AtomicU64,
    /// Handlers that panicked.
    pub(super) panics: AtomicU64,
    /// Online predictions by how long they took: up to each of [`BUCKETS_US`], then above.
    predict: [AtomicU64; BUCKETS_US.len() + 1],
    predict_us: AtomicU64,
}

/// Upper ends of the latency buckets, in microseconds.
const BUCKETS_US: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_000_000];

impl Metrics {
    /// Counts a reply.
    pub(super) fn replied(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).min(5);
        self.replies[class].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an online prediction that took `elapsed`.
    pub fn predicted(&self, elapsed: Duration) {
        let us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.iter().position(|&end| us <= end).unwrap_or(BUCKETS_US.len());
        self.predict[bucket].fetch_add(1, Ordering::Relaxed);
        self.predict_us.fetch_add(us, Ordering::Relaxed);
    }

    /// All of them in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(2048);
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        text.push_str("# TYPE meuse_replies_total counter\n");
        for (class, count) in self.replies.iter().enumerate().skip(2) {
            // Writing to a string does not fail.
            let _ = writeln!(text, "meuse_replies_total{{class=\"{class}xx\"}} {}", get(count));
        }
        let connections = self.connections.load(Ordering::Relaxed);
        let _ = writeln!(text, "# TYPE meuse_connections gauge\nmeuse_connections {connections}");
        for (name, counter) in [("connections_refused", &self.refused), ("panics", &self.panics)] {
            let _ = writeln!(text, "# TYPE meuse_{name}_total counter\nmeuse_{name}_total {}", get(counter));
        }
        text.push_str("# TYPE meuse_predict_seconds histogram\n");
        let mut total = 0;
        for (i, count) in self.predict.iter().enumerate() {
            total += get(count);
            let end =
                BUCKETS_US.get(i).map_or_else(|| "+Inf".to_owned(), |us| (*us as f64 / 1e6).to_string());
            let _ = writeln!(text, "meuse_predict_seconds_bucket{{le=\"{end}\"}} {total}");
        }
        let sum = get(&self.predict_us) as f64 / 1e6;
        let _ = writeln!(text, "meuse_predict_seconds_sum {sum}\nmeuse_predict_seconds_count {total}");
        text
    }
}
