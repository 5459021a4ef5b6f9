//! [`StoredFile`]: bytes that a client keeps here for its jobs, or that a job has left.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::store::{Kind, Record};

/// What is known of a file without reading it. Its content never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// `projects/{p}/locations/{l}/files/{id}`.
    pub name: String,
    /// What its owner calls it: `requests.jsonl`.
    pub file_name: String,
    /// What it is for, in the words of the protocol that it came through.
    pub purpose: String,
    /// Its length.
    pub bytes: u64,
    /// When it became whole.
    pub create_time: Timestamp,
    /// When it last changed.
    pub update_time: Timestamp,
    /// Changes with every write.
    pub etag: String,
}

/// That a job reads a file: it cannot be deleted meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileUse {
    /// The job's name.
    pub(crate) name: String,
    /// The file's name.
    pub(crate) file: String,
    pub(crate) create_time: Timestamp,
    pub(crate) etag: String,
}

impl Record for StoredFile {
    const KIND: Kind = Kind::File;

    fn name(&self) -> &str {
        &self.name
    }

    fn etag(&self) -> &str {
        &self.etag
    }

    fn created(&self) -> Timestamp {
        self.create_time
    }

    fn stamp(&mut self, etag: String, now: Timestamp) {
        (self.etag, self.update_time) = (etag, now);
    }
}

impl Record for FileUse {
    const KIND: Kind = Kind::FileUse;

    fn name(&self) -> &str {
        &self.name
    }

    fn parent(&self) -> String {
        self.file.clone()
    }

    fn etag(&self) -> &str {
        &self.etag
    }

    fn created(&self) -> Timestamp {
        self.create_time
    }

    fn stamp(&mut self, etag: String, _: Timestamp) {
        self.etag = etag;
    }
}
