//! [`Evaluation`]: figures of one version on labelled rows, and the [`EvaluationJob`] that takes them.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::{Error, InputFormat, Result, Timestamp};

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
    pub format: InputFormat,
    /// The column with the truth; the training label column when absent.
    pub target: Option<String>,
    /// Columns to slice by.
    pub slice_by: Vec<String>,
    /// How labels are read and predicted, where a row may have any number of them.
    #[serde(default)]
    pub multi_label: Option<LabelSets>,
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

/// How sets of labels are written in a table, and which labels a model predicts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelSets {
    /// What stands between labels in a cell.
    pub separator: String,
    /// A label with a score of at least this is predicted.
    pub threshold: f32,
    /// What the scores are of, in their order; empty where the model says, or they have numbers from 0.
    pub labels: Vec<String>,
}

impl LabelSets {
    /// Refuses what cannot be meant.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub(crate) fn check(&self) -> Result<()> {
        if self.separator.is_empty() {
            return Err(Error::invalid("multiLabel.separator is empty"));
        }
        if !self.threshold.is_finite() {
            return Err(Error::invalid("multiLabel.threshold is not a number"));
        }
        let names: HashSet<&String> = self.labels.iter().collect();
        match names.len() == self.labels.len() {
            true => Ok(()),
            false => Err(Error::invalid("multiLabel.labels names a label twice")),
        }
    }
}

/// The version that an evaluated one is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Against {
    /// The model's resource name, without a version.
    pub model: String,
    /// The version, resolved when the job was created.
    pub version: u32,
}
