//! [`ObjectInfo`] and [`BucketInfo`]: what is known of an object and of a bucket without reading it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// What is known of an object without reading it.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectInfo {
    /// The bucket; empty for `file://`.
    pub bucket: String,
    /// The name inside the bucket.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// MD5 of the bytes, where known: always for what was put through an [`ObjectWriter`].
    ///
    /// [`ObjectWriter`]: crate::storage::ObjectWriter
    pub md5: Option<[u8; 16]>,
    /// CRC-32C (Castagnoli) of the bytes, where known; Cloud Storage shows it big-endian in base64.
    pub crc32c: Option<u32>,
    /// Changes whenever the bytes change.
    pub etag: String,
    /// Grows with every write of this name: the time of the write in microseconds.
    pub generation: i64,
    /// The media type, as given when written or guessed from the name.
    pub content_type: String,
    /// When it was written.
    pub updated: Timestamp,
    /// The writer's own keys and values.
    pub custom: BTreeMap<String, String>,
}

/// What is known of a local bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BucketInfo {
    /// Its name, unique on this server.
    pub name: String,
    /// The project that made it; empty for a directory that was made by hand.
    pub project: String,
    /// The location as the client spelt it.
    pub location: String,
    /// When it was made.
    pub created: Timestamp,
}

impl BucketInfo {
    /// Whether `project` may know of it: its own, or one that is everybody's.
    pub fn is_for(&self, project: &str) -> bool {
        self.project.is_empty() || self.project == project
    }
}

/// What must hold for a write to take place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing: an object of that name is replaced.
    None,
    /// No object has that name.
    Absent,
    /// The object of that name has this generation.
    Generation(i64),
}

/// How an object is to be kept.
#[derive(Debug, Clone, PartialEq)]
pub struct PutOptions {
    /// The media type; guessed from the name when absent.
    pub content_type: Option<String>,
    /// The writer's own keys and values.
    pub custom: BTreeMap<String, String>,
    /// What must hold.
    pub precondition: Precondition,
}

impl Default for PutOptions {
    fn default() -> Self {
        PutOptions { content_type: None, custom: BTreeMap::new(), precondition: Precondition::None }
    }
}

/// The media type that a name's ending suggests.
pub(crate) fn guessed_content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "csv" => "text/csv",
        "json" => "application/json",
        "jsonl" | "ndjson" => "application/x-ndjson",
        "txt" => "text/plain",
        "yaml" | "yml" => "application/yaml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        _ => "application/octet-stream",
    }
}
