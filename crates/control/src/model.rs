//! [`Model`] and its numbered [`Version`]s.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::artifact::Digest;

/// A registered model: a name under which numbered versions are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// `projects/{p}/locations/{l}/models/{id}`.
    pub name: String,
    /// What people call it. In protocols that name a model it answers as this, or as its id.
    pub display_name: String,
    /// Free text.
    pub description: String,
    /// The owner's labels.
    pub labels: BTreeMap<String, String>,
    /// Versions, ascending by number. Never empty; a number is never given twice.
    pub versions: Vec<Version>,
    /// The number that the next version takes.
    pub next_version: u32,
    /// When it was first registered.
    pub create_time: Timestamp,
    /// When it or a version last changed.
    pub update_time: Timestamp,
    /// Changes with every write; a write that names another one is refused.
    pub etag: String,
}

/// One immutable artifact of a [`Model`], with what is said about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// 1, 2, …
    pub number: u32,
    /// Aliases in the order given; `default` stands on exactly one version of a model.
    pub aliases: Vec<String>,
    /// Free text.
    pub description: String,
    /// Where the client said the artifact lies; absent for models trained here.
    pub artifact_uri: Option<String>,
    /// The content that is served: the digest of the stored artifact's manifest.
    pub artifact: Digest,
    /// Whether it may be deployed and used by jobs.
    pub serving: ServingStatus,
    /// The serving container that the client named, kept as said. See [`ContainerSpec`].
    pub container: Option<ContainerSpec>,
    /// How it explains by default; requests may override it.
    pub explanation: Option<ExplanationSpec>,
    /// The training job that made it, by resource name.
    pub training_job: Option<String>,
    /// The dataset content that it was trained on.
    pub dataset_digest: Option<Digest>,
    /// When it was registered.
    pub create_time: Timestamp,
    /// When it last changed.
    pub update_time: Timestamp,
}

/// Whether a version may serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServingStatus {
    /// It may be deployed.
    Enabled,
    /// It may not.
    Disabled,
}

/// A serving container as upload scripts name it. Meuse runs no container: the image's name chooses
/// one of its runtimes, the rest is kept so that the client reads back what it wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The image's URI.
    pub image_uri: String,
    /// Everything else of the specification, as the client wrote it.
    pub rest: serde_json::Value,
}

/// How to explain, when the request does not say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplanationSpec {
    /// The method with its effort.
    pub method: ExplanationMethod,
    /// The examples, where it is by these.
    #[serde(default)]
    pub examples: Option<ExampleSource>,
    /// The specification as the client wrote it, to be read back.
    pub as_written: serde_json::Value,
}

/// An attribution method with its effort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExplanationMethod {
    /// Sampled Shapley values over this many permutations (1 to 50).
    SampledShapley {
        /// Permutations.
        path_count: u32,
    },
    /// Integrated gradients over this many steps (1 to 100); for networks trained here.
    IntegratedGradients {
        /// Steps from the baseline to the input.
        step_count: u32,
    },
    /// The examples that lie nearest to the instance.
    NearestExamples {
        /// How many (1 to 1,000).
        neighbor_count: u32,
    },
}

/// The instances that others are explained by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExampleSource {
    /// JSON Lines: an instance each, with its name as `id`.
    pub uris: Vec<String>,
    /// The model's output in which nearness is measured; its first float output when absent.
    pub output: Option<String>,
    /// The artifact that holds what the model made of them, once the version is registered.
    pub index: Option<Digest>,
}
