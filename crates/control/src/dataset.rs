//! [`Dataset`]: labelled rows somewhere, under a name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Rows to train on or to evaluate with. Holds addresses, not rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dataset {
    /// `projects/{p}/locations/{l}/datasets/{id}`.
    pub name: String,
    /// What people call it.
    pub display_name: String,
    /// The owner's labels.
    pub labels: BTreeMap<String, String>,
    /// `tabular`, `text`, `image`: read from the client's schema.
    pub kind: DatasetKind,
    /// The schema's URI as the client wrote it.
    pub schema_uri: String,
    /// Where the rows lie: CSV or JSONL objects.
    pub uris: Vec<String>,
    /// The client's metadata, to be read back.
    pub metadata: serde_json::Value,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it last changed.
    pub update_time: Timestamp,
    /// Changes with every write; a write that names another one is refused.
    pub etag: String,
}

/// What a dataset's rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatasetKind {
    /// Named columns.
    Tabular,
    /// A text and a label.
    Text,
    /// An image and a label.
    Image,
}
