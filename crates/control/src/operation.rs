//! [`Operation`]: work that was asked for and can be waited on by name.

use serde::{Deserialize, Serialize};

use crate::{Dataset, DeployedModel, Endpoint, Evaluation, JobError, Timestamp, Transfer};

/// Work that was asked for: done at once when it is quick, else going on behind its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// The target's resource name, then `/operations/{id}`.
    pub name: String,
    /// The resource that it works on, or makes.
    pub target: String,
    /// What it does.
    pub kind: OperationKind,
    /// Whether it has ended, one way or the other.
    pub done: bool,
    /// How it ended. `None` until it has.
    pub outcome: Option<Result<OperationResult, JobError>>,
    /// How far it is, 0 to 100.
    pub progress_percent: u32,
    /// The durable job that does the work, by resource name: the operation ends as the job does.
    pub job: Option<String>,
    /// Of a pull: how far it is.
    #[serde(default)]
    pub transfer: Option<Transfer>,
    /// When it was asked for.
    pub create_time: Timestamp,
    /// When it last changed.
    pub update_time: Timestamp,
    /// Changes with every write.
    pub etag: String,
}

/// What an [`Operation`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// Registers a model or a version of one.
    UploadModel,
    /// Deletes a model with its versions.
    DeleteModel,
    /// Deletes one version.
    DeleteModelVersion,
    /// Creates an endpoint.
    CreateEndpoint,
    /// Deletes an endpoint.
    DeleteEndpoint,
    /// Deploys a version to an endpoint.
    DeployModel,
    /// Takes a deployed model off its endpoint.
    UndeployModel,
    /// Changes a deployed model.
    MutateDeployedModel,
    /// Creates a dataset.
    CreateDataset,
    /// Deletes a dataset.
    DeleteDataset,
    /// Adds objects to a dataset.
    ImportData,
    /// Measures a version on labelled rows, by an evaluation job.
    EvaluateModel,
    /// Fetches a model's file and registers it, by a pull.
    PullModel,
}

/// What a successful [`Operation`] leaves behind, as it was at that moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationResult {
    /// Nothing: the target is gone.
    Deleted,
    /// A registered version.
    Version {
        /// The model's resource name, without a version.
        model: String,
        /// The version's number.
        version: u32,
    },
    /// An endpoint as created.
    Endpoint(Endpoint),
    /// A model as deployed or changed; the endpoint is the operation's target.
    Deployed(DeployedModel),
    /// The target endpoint no longer has it.
    Undeployed,
    /// A dataset as created or after an import.
    Dataset(Dataset),
    /// An evaluation as made.
    Evaluation(Evaluation),
}
