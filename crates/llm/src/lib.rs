//! Large language models: from text to tokens, through a model's layers, and back to text, for many people at once.
//!
//! [`encoder`] is apart from all of that: models that make one vector, or one score, of a whole text.
//!
//! Synchronous throughout: the engine owns its thread, `serving` bridges. Nothing here knows a protocol, and nothing
//! here reads JSON: what a model file says of itself is read in [`formats`].

mod constraint;
mod decoder;
pub mod encoder;
mod engine;
mod family;
mod forward;
mod load;
mod machine;
pub mod mock;
mod request;
mod rows;
mod sampler;
pub mod scheduler;
pub mod template;
mod text;
pub mod tokenizer;
mod vocabulary;
mod weights;

pub use constraint::{Compiler, Constraint, ConstraintError, Follower};
pub use engine::{
    Counters, Draft, End, Engine, EngineOptions, Model, STOP_BYTES_MAX, STOPS_MAX, TOP_LOGPROBS_MAX, Ticket,
};
pub use family::ARCHITECTURES;
pub use forward::{Batch, Forward, ForwardError, Span, Watch};
pub use kernels::Isa;
pub use load::{About, LoadError, LoadOptions, LoadedModel, Need, memory_available};
pub use request::{
    Event, FinishReason, GenerateRequest, Given, RankedToken, Sink, SubmitError, TokenLogprob, Usage,
};
pub use sampler::{
    Candidate, History, InvalidSampling, LogProb, LogProbs, Place, SamplingParams, TokenMask, log_probs,
    sample,
};
pub use scheduler::BACKGROUND;
pub use vocabulary::Vocabulary;
