//! [`BatchJob`]: every row of some objects in, one prediction a row out.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What a batch prediction job does and how far it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchJob {
    /// The model's resource name, without a version.
    pub model: String,
    /// The version, resolved when the job was created.
    pub version: u32,
    /// How the instances are written.
    pub instances_format: InputFormat,
    /// Where the instances lie.
    pub input_uris: Vec<String>,
    /// How to write the predictions.
    pub predictions_format: RowFormat,
    /// The directory under which the job makes its own.
    pub output_uri_prefix: String,
    /// What the model sees of a row.
    #[serde(default)]
    pub fields: InstanceFields,
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

/// Which fields, or columns, of a row become its instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceFields {
    /// These, in this order; all where none is named.
    pub included: Vec<String>,
    /// All but these. The output has them all the same.
    pub excluded: Vec<String>,
    /// The one that stands for the row in the output, where the others are then left out. The model does not see it.
    pub key: Option<String>,
    /// The instance's form.
    pub kind: InstanceType,
}

/// The form of an instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceType {
    /// As the row is written; of a table, as the model takes it.
    #[default]
    AsWritten,
    /// An object by field.
    Object,
    /// The fields' values, in order.
    Array,
}

impl InstanceFields {
    /// Refuses what contradicts itself.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub(crate) fn check(&self) -> Result<()> {
        if !self.included.is_empty() && !self.excluded.is_empty() {
            return Err(Error::invalid(
                "includedFields and excludedFields exclude each other: give one of them",
            ));
        }
        let named = self.included.iter().chain(&self.excluded).chain(&self.key);
        if named.clone().any(String::is_empty) {
            return Err(Error::invalid("a field of instanceConfig has an empty name"));
        }
        let names: HashSet<&String> = named.clone().collect();
        match names.len() == named.count() {
            true => Ok(()),
            false => Err(Error::invalid(
                "instanceConfig names a field twice; the key is neither included nor excluded, as no model sees it",
            )),
        }
    }
}

/// How rows to be read are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputFormat {
    /// Comma-separated, with a header line (RFC 4180).
    #[default]
    Csv,
    /// One JSON value a line.
    Jsonl,
    /// Flat columns of Apache Parquet.
    Parquet,
}

impl InputFormat {
    /// The format that the end of an object's name suggests: CSV where it suggests none.
    pub fn of(name: &str) -> Self {
        match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
            "jsonl" | "ndjson" => InputFormat::Jsonl,
            "parquet" => InputFormat::Parquet,
            _ => InputFormat::Csv,
        }
    }
}

/// How rows are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowFormat {
    /// Comma-separated, with a header line (RFC 4180).
    #[default]
    Csv,
    /// One JSON value a line.
    Jsonl,
}
