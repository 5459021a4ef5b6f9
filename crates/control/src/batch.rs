//! [`BatchJob`]: every row of some objects in, one prediction a row out.

use serde::{Deserialize, Serialize};

/// What a batch prediction job does and how far it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchJob {
    /// The model's resource name, without a version.
    pub model: String,
    /// The version, resolved when the job was created.
    pub version: u32,
    /// How the instances are written.
    pub instances_format: RowFormat,
    /// Where the instances lie.
    pub input_uris: Vec<String>,
    /// How to write the predictions.
    pub predictions_format: RowFormat,
    /// The directory under which the job makes its own.
    pub output_uri_prefix: String,
    /// Attributions beside each prediction (JSONL only).
    pub explain: bool,
    /// The protocol that the rows are requests in, where the model is a language model.
    #[serde(default)]
    pub protocol: String,
    /// The request as the client wrote it, to be read back.
    pub as_written: serde_json::Value,
    /// The directory that the job writes to, known once it has started.
    pub output_directory: Option<String>,
    /// Rows predicted.
    pub successful: u64,
    /// Rows that could not be, each listed with its reason in the errors object.
    pub failed: u64,
    /// The first few reasons, for the job's own page.
    pub partial_failures: Vec<String>,
    /// Where to go on after a restart; private to the worker.
    pub checkpoint: Option<serde_json::Value>,
}

/// A row file's format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowFormat {
    /// Comma-separated, with a header line (RFC 4180).
    #[default]
    Csv,
    /// One JSON value a line.
    Jsonl,
}
