//! [`TrainingJob`]: a specification and rows in, a registered version out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::artifact::Digest;

/// What a training job does and how far it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingJob {
    /// The dataset's resource name, when it was given as one.
    pub dataset: Option<String>,
    /// Where the rows lie.
    pub uris: Vec<String>,
    /// The specification as it will be run: `formats::spec::TrainSpec` in JSON.
    pub spec: serde_json::Value,
    /// The task definition and inputs as the client wrote them, to be read back.
    pub as_written: serde_json::Value,
    /// The model to register the result as.
    pub target: TrainingTarget,
    /// One entry per finished epoch.
    pub progress: Vec<EpochProgress>,
    /// Epochs in all.
    pub epochs: u32,
    /// Rows trained and validated on, once read.
    #[serde(default)]
    pub rows: u64,
    /// Rows left out because they could not be used.
    #[serde(default)]
    pub skipped: u64,
    /// The first few reasons, for the job's own page.
    #[serde(default)]
    pub partial_failures: Vec<String>,
    /// SHA-256 over the rows' bytes, once read.
    pub dataset_digest: Option<Digest>,
    /// The registered version, once there: model resource name and version number.
    pub result: Option<(String, u32)>,
}

/// What the trained model is registered as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainingTarget {
    /// Display name of the model.
    pub display_name: String,
    /// Free text for the version.
    pub description: String,
    /// Labels of the model.
    pub labels: BTreeMap<String, String>,
    /// The id to create, when the client chooses it.
    pub model_id: Option<String>,
    /// An existing model's resource name, to add a version to.
    pub parent_model: Option<String>,
    /// Aliases of the version.
    pub aliases: Vec<String>,
}

/// Figures of one finished epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpochProgress {
    /// From 1.
    pub epoch: u32,
    /// Mean training loss.
    pub loss: f64,
    /// Training accuracy, for classifiers.
    pub accuracy: Option<f64>,
    /// Mean loss on the validation split, where there is one.
    pub validation_loss: Option<f64>,
    /// Accuracy on the validation split, where there is one.
    pub validation_accuracy: Option<f64>,
    /// Wall-clock seconds.
    pub seconds: f64,
}
