//! Registry, endpoints, durable jobs, keys, metadata store, artifact store, object storage.
//!
//! The nouns are one file each; [`Control`] is the door through which `api` and `meuse` come in.

mod account;
mod answerer;
pub mod artifact;
pub mod audit;
mod batch;
mod board;
mod boards;
mod catalogue;
mod check;
mod control;
mod dataset;
mod datasets;
mod endpoint;
mod endpoints;
mod error;
mod evaluation;
mod evaluations;
mod examples;
pub mod fault;
mod file;
mod files;
mod job;
mod jobs;
mod jwt;
mod keys;
mod lineage;
mod loader;
mod model;
mod models;
mod name;
mod network;
mod note;
mod notes;
mod oidc;
mod operation;
mod operations;
mod principal;
mod publisher;
mod pull;
mod query;
mod quota;
mod request_batch;
mod role;
mod room;
mod source;
pub mod storage;
pub mod store;
mod traffic;
mod training;
mod usage;
mod web;

pub use account::address as account_address;
pub use answerer::{Answered, Answerer, Asked, BatchEnding, Closed, LineChecker, LineFault};
pub use artifact::Artifacts;
pub use audit::Audit;
pub use batch::{BatchJob, InputFormat, InstanceFields, InstanceType, RowFormat};
pub use board::{Board, BoardKind, CurvePoint};
pub use boards::Boards;
pub use catalogue::{Catalogue, CatalogueEntry};
pub use control::{Control, Options};
pub use dataset::{Dataset, DatasetKind};
pub use datasets::{DatasetPatch, Datasets, NewDataset};
pub use endpoint::{DeployedAt, DeployedModel, DraftModel, Endpoint};
pub use endpoints::{
    CONCURRENCY_MAX, DeployedPatch, EndpointPatch, Endpoints, NewDeployedModel, NewEndpoint,
};
pub use error::{Error, ErrorCode, Result};
pub use evaluation::{Against, Evaluation, EvaluationJob, LabelSets, Slice};
pub use evaluations::{Evaluations, NewEvaluationImport};
pub use file::StoredFile;
pub use files::{FILE_BYTES_MAX, FileReader, FileWriter, Files};
pub use jiff::Timestamp;
pub use job::{Job, JobError, JobKind, JobState};
pub use jobs::{
    CRASHES_MAX, JobCollection, JobOptions, Jobs, NewBatch, NewEvaluation, NewPipeline, NewRequestBatch,
    NewTraining,
};
pub use jwt::{Algorithm, Jwt};
pub use keys::{KeyInfo, Keys, NewKey, Secret, write_private};
pub use lineage::Lineage;
pub use model::{
    ContainerSpec, ExampleSource, ExplanationMethod, ExplanationSpec, Model, ServingStatus, Version,
};
pub use models::{AliasChange, ArtifactSource, ModelPatch, Models, UploadModel};
pub use name::{ModelName, NameError, Parent, VersionRef, is_id};
pub use network::{Network, NetworkError};
pub use note::{Note, NoteEvent, NoteKind};
pub use notes::Notes;
pub use oidc::Oidc;
pub use operation::{Operation, OperationKind, OperationResult};
pub use operations::Operations;
pub use principal::{ALL_PROJECTS, Principal};
pub use pull::{NewPull, PullJob, Transfer};
pub use query::{ListQuery, Page};
pub use quota::{
    ANY_MODEL, Books, Exceeded, Limited, Meter, NotAdmitted, Price, Quota, QuotaLimits, QuotaScope, Quotas,
    Rate, Rates,
};
pub use request_batch::{BatchPhase, RequestBatch};
pub use role::Role;
pub use serving::open_onnxruntime;
pub use source::Source;
pub use storage::{Storage, StorageOptions};
pub use training::{EpochProgress, TrainingJob, TrainingTarget};
pub use usage::{Account, Amount, Day, Money, Noted, Report, ReportBy, ReportRow, Wanted};
pub use web::SourceOptions;
