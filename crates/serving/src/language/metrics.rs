//! [`LanguageMetrics`]: how long answers took and how they ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use llm::{Event, FinishReason, Sink};

use crate::counters::{Histogram, HistogramSnapshot, bump};

/// Upper bounds of the histograms, in microseconds; one more bucket holds what is longer.
pub const GENERATION_US_BOUNDS: [u64; 20] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    750_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    20_000_000,
    40_000_000,
    80_000_000,
    160_000_000,
    320_000_000,
    640_000_000,
];

const BUCKETS: usize = GENERATION_US_BOUNDS.len() + 1;

/// How an answer ended, as far as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The model ended it, or a stop text came.
    Stop,
    /// It had as many tokens as it might.
    Length,
    /// The client left, or time was up.
    Abort,
    /// The model failed.
    Error,
}

impl EndReason {
    /// All of them.
    pub const ALL: [EndReason; 4] = [EndReason::Stop, EndReason::Length, EndReason::Abort, EndReason::Error];
}

/// How answers of one model went, since it was loaded.
#[derive(Debug, Default)]
pub struct LanguageMetrics {
    ended: [AtomicU64; EndReason::ALL.len()],
    first_token: Histogram<BUCKETS>,
    between_tokens: Histogram<BUCKETS>,
    whole: Histogram<BUCKETS>,
}

impl LanguageMetrics {
    /// Answers that ended so.
    pub fn ended(&self, reason: EndReason) -> u64 {
        self.ended[reason as usize].load(Relaxed)
    }

    /// From a request's arrival to its first token.
    pub fn first_token_us(&self) -> HistogramSnapshot {
        self.first_token.snapshot()
    }

    /// From one token of an answer to the next.
    pub fn between_tokens_us(&self) -> HistogramSnapshot {
        self.between_tokens.snapshot()
    }

    /// From a request's arrival to its end.
    pub fn whole_us(&self) -> HistogramSnapshot {
        self.whole.snapshot()
    }

    /// Counts what passes on its way to `sink`.
    pub(super) fn watch(metrics: &Arc<LanguageMetrics>, mut sink: Sink) -> Sink {
        let metrics = Arc::clone(metrics);
        let mut times = Times { begun: Instant::now(), latest: Vec::new() };
        Box::new(move |event| {
            metrics.see(&event, &mut times);
            sink(event)
        })
    }

    fn see(&self, event: &Event, times: &mut Times) {
        match event {
            Event::Token { choice, .. } => self.token(*choice, times),
            Event::Finished { reason, .. } => self.end(match reason {
                FinishReason::Stop | FinishReason::StopText(_) => EndReason::Stop,
                FinishReason::Length => EndReason::Length,
                FinishReason::Cancelled | FinishReason::Deadline => EndReason::Abort,
            }),
            Event::Failed { .. } => self.end(EndReason::Error),
            Event::Done { .. } => self.whole.add_time(&GENERATION_US_BOUNDS, times.begun.elapsed()),
        }
    }

    fn token(&self, choice: usize, times: &mut Times) {
        let now = Instant::now();
        if times.latest.is_empty() {
            self.first_token.add_time(&GENERATION_US_BOUNDS, now - times.begun);
        }
        if times.latest.len() <= choice {
            times.latest.resize(choice + 1, None);
        }
        if let Some(before) = times.latest[choice].replace(now) {
            self.between_tokens.add_time(&GENERATION_US_BOUNDS, now - before);
        }
    }

    fn end(&self, reason: EndReason) {
        bump(&self.ended[reason as usize]);
    }
}

/// When a request's tokens came.
struct Times {
    begun: Instant,
    /// The latest token of each answer.
    latest: Vec<Option<Instant>>,
}
