//! [`Endpoint`]: an address behind which deployed models share the traffic.

use std::collections::BTreeMap;

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
}

/// Where a model version is deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployedAt {
    /// The endpoint's name, then `/deployedModels/{id}`.
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
    /// Changes with every write.
    pub etag: String,
}
