//! [`Endpoint`]: an address behind which deployed models share the traffic.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// An address for predictions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// `projects/{p}/locations/{l}/endpoints/{id}`.
    pub name: String,
    /// What people call it.
    pub display_name: String,
    /// Free text.
    pub description: String,
    /// The owner's labels.
    pub labels: BTreeMap<String, String>,
    /// Models behind it, in the order deployed.
    pub deployed_models: Vec<DeployedModel>,
    /// Percent by [`DeployedModel::id`], one entry for each: sums to 100, or to 0 when nothing takes
    /// traffic.
    pub traffic_split: BTreeMap<String, u32>,
    /// Fields that mean nothing here, as the client wrote them, to be read back.
    pub as_written: serde_json::Value,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it last changed.
    pub update_time: Timestamp,
    /// Changes with every write; a write that names another one is refused.
    pub etag: String,
}

/// A model version behind an [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeployedModel {
    /// Unique in its endpoint; decimal digits.
    pub id: String,
    /// The model's resource name, without a version.
    pub model: String,
    /// The version deployed. An alias is resolved once, when deploying.
    pub version: u32,
    /// What people call it.
    pub display_name: String,
    /// When it was deployed.
    pub create_time: Timestamp,
    /// Machine resources as the client asked for them, kept so that it reads back what it wrote.
    pub resources: serde_json::Value,
    /// Overrides the version's own.
    pub explanation: Option<crate::ExplanationSpec>,
    /// A small language model that guesses what this one will say; changes no answer.
    #[serde(default)]
    pub draft: Option<DraftModel>,
    /// Batches, or answers of a language model, that are computed at once at most; as many as usual when absent.
    #[serde(default)]
    pub concurrency: Option<NonZeroUsize>,
}

/// The version of a small language model that guesses what a large one will say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DraftModel {
    /// The model's resource name, without a version.
    pub model: String,
    /// The version. An alias is resolved once, when deploying.
    pub version: u32,
}

/// Where a model version is deployed, or is the draft model of what is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployedAt {
    /// The endpoint's name, then `/deployedModels/{id}`; of a draft model, then `/draft`.
    pub name: String,
    /// The endpoint's resource name.
    pub endpoint: String,
    /// [`DeployedModel::id`] there.
    pub id: String,
    /// The model's resource name, without a version.
    pub model: String,
    /// The version.
    pub version: u32,
    /// When it was deployed.
    pub create_time: Timestamp,
    /// Whether it is the draft model there.
    #[serde(default)]
    pub is_draft: bool,
    /// Changes with every write.
    pub etag: String,
}
