//! Resources as the server writes them, as far as commands show them. Everything else is left alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A model version.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Model {
    /// Resource name, perhaps with `@version`.
    pub name: String,
    /// What people call it.
    pub display_name: String,
    /// The version's number.
    pub version_id: String,
    /// The version's aliases.
    pub version_aliases: Vec<String>,
    /// Free text about the version.
    pub version_description: String,
    /// When the version was registered, RFC 3339.
    pub version_create_time: String,
    /// When the model or version was registered, RFC 3339.
    pub create_time: String,
    /// Where it is deployed.
    pub deployed_models: Vec<DeployedAt>,
    /// The training job that made it.
    pub training_pipeline: String,
    /// Where its bytes came from.
    pub artifact_uri: String,
}

impl Model {
    /// Resource name without a version.
    pub fn resource(&self) -> &str {
        without_version(&self.name)
    }

    /// Resource name with the version.
    pub fn versioned(&self) -> String {
        format!("{}@{}", self.resource(), self.version_id)
    }

    /// When this version was registered.
    pub fn created(&self) -> &str {
        if self.version_create_time.is_empty() { &self.create_time } else { &self.version_create_time }
    }
}

/// A place where a model is deployed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeployedAt {
    /// The endpoint's resource name.
    pub endpoint: String,
    /// The deployed model's id there.
    pub deployed_model_id: String,
}

/// An endpoint.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// Resource name.
    pub name: String,
    /// What people call it.
    pub display_name: String,
    /// What is deployed to it.
    pub deployed_models: Vec<DeployedModel>,
    /// Percent by deployed model id.
    pub traffic_split: BTreeMap<String, u32>,
}

impl Endpoint {
    /// Percent that the deployed model `id` gets.
    pub fn traffic(&self, id: &str) -> u32 {
        self.traffic_split.get(id).copied().unwrap_or(0)
    }
}

/// A model version behind an endpoint.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeployedModel {
    /// Its id in the endpoint.
    pub id: String,
    /// The model's resource name, perhaps with `@version`.
    pub model: String,
    /// The version's number.
    pub model_version_id: String,
    /// What people call it.
    pub display_name: String,
    /// When it was deployed, RFC 3339.
    pub create_time: String,
    /// How what it will say is guessed.
    pub speculative_decoding_spec: Speculation,
    /// What else it was told when it was deployed.
    pub system_labels: BTreeMap<String, String>,
}

/// The system label that says how many batches, or answers of a language model, are computed at once at most.
pub const CONCURRENCY: &str = "meuse-concurrency";

/// How what a language model will say is guessed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Speculation {
    /// By which small model.
    pub draft_model_speculation: DraftModel,
}

/// A small language model that guesses what a large one will say.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DraftModel {
    /// Its resource name with the version; empty where there is none.
    pub draft_model: String,
}

impl DeployedModel {
    /// The version's number.
    pub fn version(&self) -> &str {
        match self.model.rsplit_once('@') {
            Some((_, version)) if self.model_version_id.is_empty() => version,
            _ => &self.model_version_id,
        }
    }

    /// The resource name of its draft model's version; empty where there is none.
    pub fn draft(&self) -> &str {
        &self.speculative_decoding_spec.draft_model_speculation.draft_model
    }

    /// How much of it is computed at once at most; empty where nobody said.
    pub fn concurrency(&self) -> &str {
        self.system_labels.get(CONCURRENCY).map_or("", String::as_str)
    }

    /// Whether it is this version of this model.
    pub fn is(&self, model: &Model) -> bool {
        without_version(&self.model) == model.resource() && self.version() == model.version_id
    }
}

/// A job of any kind.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Job {
    /// Resource name.
    pub name: String,
    /// What people call it.
    pub display_name: String,
    /// `JOB_STATE_…` or `PIPELINE_STATE_…`.
    pub state: String,
    /// Why it failed.
    pub error: Option<Status>,
    /// When it was asked for, RFC 3339.
    pub create_time: String,
    /// When it ended, RFC 3339.
    pub end_time: String,
    /// Rows of a batch job.
    pub completion_stats: Option<CompletionStats>,
    /// Where a batch job writes.
    pub output_info: Option<OutputInfo>,
    /// Rows of a batch job that could not be predicted; the first few.
    pub partial_failures: Vec<Status>,
    /// The model that a training job registered.
    pub model_to_upload: Option<Model>,
    /// Progress of a training job.
    pub training_task_metadata: Option<TrainingProgress>,
    /// Progress of a pull.
    pub pull: Option<PullProgress>,
}

impl Job {
    /// The state in one lower-case word.
    pub fn state(&self) -> String {
        let state = self.state.trim_start_matches("JOB_STATE_").trim_start_matches("PIPELINE_STATE_");
        state.to_lowercase()
    }

    /// Whether it will not change any more.
    pub fn is_final(&self) -> bool {
        matches!(
            self.state().as_str(),
            "succeeded" | "failed" | "cancelled" | "expired" | "partially_succeeded"
        )
    }

    /// Whether all went well.
    pub fn succeeded(&self) -> bool {
        self.state() == "succeeded"
    }

    /// Why it did not.
    pub fn reason(&self) -> String {
        match &self.error {
            Some(status) if !status.message.is_empty() => status.message.clone(),
            _ => format!("it is {}", self.state()),
        }
    }
}

/// An error as jobs carry it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    /// What happened.
    pub message: String,
}

/// Rows of a batch job.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CompletionStats {
    /// Predicted.
    #[serde(deserialize_with = "count")]
    pub successful_count: u64,
    /// Not predicted, each listed with its reason.
    #[serde(deserialize_with = "count")]
    pub failed_count: u64,
    /// Still to do; absent or negative when unknown.
    #[serde(deserialize_with = "count")]
    pub incomplete_count: u64,
}

/// Where a batch job writes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OutputInfo {
    /// The directory, as a URI.
    pub gcs_output_directory: String,
}

/// How far a training job is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TrainingProgress {
    /// Epochs in all.
    #[serde(deserialize_with = "count")]
    pub epochs: u64,
    /// Finished epochs.
    pub progress: Vec<Epoch>,
    /// Rows that could not be used.
    #[serde(deserialize_with = "count")]
    pub skipped_rows: u64,
    /// Why the first of them could not.
    pub skipped_reasons: Vec<String>,
}

/// Figures of one epoch.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Epoch {
    /// From 1.
    #[serde(deserialize_with = "count")]
    pub epoch: u64,
    /// Mean training loss.
    pub loss: f64,
    /// Training accuracy.
    pub accuracy: Option<f64>,
    /// Mean loss on the validation split.
    #[serde(alias = "validation_loss")]
    pub validation_loss: Option<f64>,
    /// Accuracy on the validation split.
    #[serde(alias = "validation_accuracy")]
    pub validation_accuracy: Option<f64>,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// How far a pull is, as its operation's metadata.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PullProgress {
    /// Where it reads from.
    pub source: String,
    /// Bytes that are here.
    #[serde(deserialize_with = "count")]
    pub bytes_done: u64,
    /// Bytes in all; 0 where unknown.
    #[serde(deserialize_with = "count")]
    pub bytes_total: u64,
    /// When it was asked for, RFC 3339.
    pub create_time: String,
}

/// Resource name without `@version`.
pub fn without_version(name: &str) -> &str {
    name.split('@').next().unwrap_or(name)
}

/// The last segment of a resource name.
pub fn last_segment(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// A whole number, written as a number or, as 64-bit numbers are, as a string. Negative is unknown: 0.
fn count<'de, D: Deserializer<'de>>(input: D) -> Result<u64, D::Error> {
    let value = Value::deserialize(input)?;
    let number = value.as_f64().or_else(|| value.as_str().and_then(|t| t.parse().ok()));
    // Saturates; what is no number shows as 0.
    Ok(number.unwrap_or(0.0) as u64)
}
