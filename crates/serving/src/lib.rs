//! The data plane: from an endpoint's name and instances to predictions and explanations.
//!
//! - [`Runtime`] is the port behind which every kind of model predicts.
//! - [`Model`] is a loaded version: instances or rows in, [`Predictions`] and [`Explanation`]s out; synchronous, used
//!   by jobs as by the router.
//! - [`Language`] is the part of a loaded version that is a language model: prompts in, tokens out.
//! - [`Embedder`] is the part of one that is an encoder: texts in, vectors or scores out.
//! - [`PredictorRoute`] leads to a model that predicts, by its name: instances or tensors by name in, the like out.
//! - [`Router`] serves models to many callers at once: a routing table that is swapped atomically, a traffic
//!   split, a bounded queue for each deployed model, deadlines, and batches formed of what waits.
//!
//! Sharing a batch never changes a result: see [`Runtime`] for the promise.

mod admission;
mod artifact;
mod batcher;
mod bind;
mod cost;
mod counters;
mod declared;
mod dormant;
mod embedder;
mod error;
mod examples;
mod explain;
mod file_state;
#[cfg(test)]
mod fixture;
mod gradients;
mod keras;
mod language;
mod model;
mod plan;
mod pool;
mod ports;
mod predictions;
mod predictor;
mod router;
mod rows;
mod runtime;
mod scores;
mod source;
mod split;

pub use admission::Shortage;
pub use artifact::LoadError;
pub use batcher::Limits;
pub use counters::{BATCH_ROWS_BOUNDS, CounterSnapshot, HistogramSnapshot, TIME_US_BOUNDS};
pub use embedder::{Embedder, EmbedderRoute, InputError, NamedEmbedder, TooLong};
pub use error::{PredictError, ServeError};
pub use examples::{Examples, NearExample, Vectors};
pub use explain::{Attribution, Explain, Explanation, Method};
pub use keras::KerasLoadError;
pub use language::{
    EXPLAINED_TOKENS_MAX, EndReason, GENERATION_US_BOUNDS, Keep, Language, LanguageExplain,
    LanguageExplanation, LanguageMethod, LanguageMetrics, LanguageOptions, LanguageRoute, LanguageRouteError,
    NamedLanguage, Outcome, PromptError, Said, SpanKind, SpanShare,
};
pub use model::Model;
pub use predictions::{PredictionRow, Predictions};
pub use predictor::{NamedPredictor, Pick, PredictorRoute};
pub use router::{
    Answer, Call, Chosen, Deployed, DeployedMetrics, ExplainAnswer, NearAnswer, Nearest, Route, Router,
    RoutingTable,
};
pub use runtime::{Runtime, RuntimeError, RuntimeErrorKind};
pub use tensor::open_onnxruntime;
