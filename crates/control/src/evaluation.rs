//! [`Evaluation`]: figures of one version on labelled rows, and the [`EvaluationJob`] that takes them.

use serde::{Deserialize, Serialize};

use crate::{RowFormat, Timestamp};

/// Figures of one model version on one set of rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// `projects/{p}/locations/{l}/models/{m}/evaluations/{id}`.
    pub name: String,
    /// What people call it.
    pub display_name: String,
    /// The version evaluated.
    pub version: u32,
    /// The schema of `metrics`.
    pub metrics_schema_uri: String,
    /// The figures, in that schema.
    pub metrics: serde_json::Value,
    /// The same figures for parts of the rows.
    pub slices: Vec<Slice>,
    /// Anything else that an importing client gave, to be read back.
    pub metadata: serde_json::Value,
    /// When it was created.
    pub create_time: Timestamp,
    /// Changes with every write.
    pub etag: String,
}

/// Figures for the rows whose column has one value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// Last segment of its name.
    pub id: String,
    /// The column.
    pub column: String,
    /// The value.
    pub value: String,
    /// The figures.
    pub metrics: serde_json::Value,
    /// When it was created.
    pub create_time: Timestamp,
}

/// What an evaluation job does and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationJob {
    /// The model's resource name, without a version.
    pub model: String,
    /// The version, resolved when the job was created.
    pub version: u32,
    /// Where the labelled rows lie.
    pub uris: Vec<String>,
    /// How they are written.
    pub format: RowFormat,
    /// The column with the truth; the training label column when absent.
    pub target: Option<String>,
    /// Columns to slice by.
    pub slice_by: Vec<String>,
    /// The version that it is compared with.
    #[serde(default)]
    pub against: Option<Against>,
    /// What the classes are called, in the order of the scores, where the client says.
    #[serde(default)]
    pub class_labels: Vec<String>,
    /// The pipeline that the client believes to run, as it wrote it, to be read back.
    #[serde(default)]
    pub pipeline: Option<serde_json::Value>,
    /// Rows measured so far.
    pub rows: u64,
    /// The evaluation made, by resource name.
    pub result: Option<String>,
}

/// The version that an evaluated one is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Against {
    /// The model's resource name, without a version.
    pub model: String,
    /// The version, resolved when the job was created.
    pub version: u32,
}
