//! Registry, endpoints, durable jobs, keys, metadata store, artifact store, object storage.
//!
//! The nouns are one file each; [`Control`] is the door through which `api` and `meuse` come in.

pub mod artifact;
mod batch;
mod dataset;
mod endpoint;
mod error;
mod evaluation;
mod job;
mod model;
mod name;
mod training;

pub use batch::{BatchJob, RowFormat};
pub use dataset::{Dataset, DatasetKind};
pub use endpoint::{DeployedModel, Endpoint};
pub use error::{Error, ErrorCode, Result};
pub use evaluation::{Evaluation, EvaluationJob, Slice};
pub use job::{Job, JobError, JobKind, JobState};
pub use jiff::Timestamp;
pub use model::{ContainerSpec, ExplanationMethod, ExplanationSpec, Model, ServingStatus, Version};
pub use name::{NameError, Parent, is_id};
pub use training::{EpochProgress, TrainingJob, TrainingTarget};
