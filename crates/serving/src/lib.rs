//! The data plane: the Runtime port, routing table, admission and dynamic batching.

mod batcher;
mod cost;
mod counters;
mod error;
mod pool;
mod rows;
mod runtime;
mod split;

pub use batcher::Limits;
pub use counters::{BATCH_ROWS_BOUNDS, CounterSnapshot, HistogramSnapshot, TIME_US_BOUNDS};
pub use error::{PredictError, ServeError};
pub use runtime::{Runtime, RuntimeError};
