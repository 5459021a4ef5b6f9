//! The metadata port: [`MetadataStore`], documents with optimistic concurrency and atomic commits.
//!
//! Everything that the control plane knows is a [`Document`]. The port is narrow on purpose, so that a
//! second database is one file that passes `conformance`.

#[cfg(test)]
mod conformance;
mod memory;
mod record;
mod sqlite;

pub use memory::MemoryStore;
pub(crate) use record::{Record, fresh_etag, get, list_all, list_of_project, modify, remove, update};
pub use sqlite::SqliteStore;
pub(crate) use sqlite::file_in;

use std::fmt;

use async_trait::async_trait;

use crate::{Error, ErrorCode, Timestamp};

/// What a document is about. Names are unique within a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A [`crate::Model`]; its parent is the project and location.
    Model,
    /// An [`crate::Endpoint`]; its parent is the project and location.
    Endpoint,
    /// One deployed model; its parent is the version, `…/models/m@3`. It answers who uses a version,
    /// and a version that has one cannot be deleted.
    Deployment,
    /// A [`crate::Dataset`]; its parent is the project and location.
    Dataset,
    /// An [`crate::Evaluation`]; its parent is the model.
    Evaluation,
    /// A [`crate::Job`]; its parent is the project, location and collection.
    Job,
    /// An [`crate::Operation`]; its parent is the project and location.
    Operation,
    /// An access key; its parent is the project.
    Key,
    /// Where the audit log ends; its parent is empty.
    AuditHead,
    /// A stored artifact; its parent is empty.
    Artifact,
    /// A local bucket; its parent is empty.
    Bucket,
    /// A [`crate::StoredFile`]; its parent is the project, location and collection.
    File,
    /// That a job reads a file; its parent is the file, and a file that has one cannot be deleted.
    FileUse,
    /// A [`crate::Note`]; its parent is its store and collection.
    Note,
    /// A [`crate::Board`]; its parent is what it lies in, and the collection.
    Board,
    /// The points of a curve; its parent is the curve.
    Curve,
    /// A [`crate::QuotaLimits`]; its name is a [`crate::QuotaScope`], its parent is empty.
    Quota,
    /// A [`crate::Price`]; its name is a model's, its parent is empty.
    Price,
    /// What a project's jobs took of a model on a day; its parent is empty.
    JobUsage,
}

impl Kind {
    /// How the kind is written in a database.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Model => "model",
            Kind::Endpoint => "endpoint",
            Kind::Deployment => "deployment",
            Kind::Dataset => "dataset",
            Kind::Evaluation => "evaluation",
            Kind::Job => "job",
            Kind::Operation => "operation",
            Kind::Key => "key",
            Kind::AuditHead => "audit_head",
            Kind::Artifact => "artifact",
            Kind::Bucket => "bucket",
            Kind::File => "file",
            Kind::FileUse => "file_use",
            Kind::Note => "note",
            Kind::Board => "board",
            Kind::Curve => "curve",
            Kind::Quota => "quota",
            Kind::Price => "price",
            Kind::JobUsage => "job_usage",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A stored noun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// What it is about.
    pub kind: Kind,
    /// Its resource name, unique within the kind.
    pub name: String,
    /// What it belongs to; documents are listed by it.
    pub parent: String,
    /// Chosen by the writer, different at every write.
    pub etag: String,
    /// When it was created.
    pub created: Timestamp,
    /// When it was last written.
    pub updated: Timestamp,
    /// The noun in JSON. The store does not look into it.
    pub body: String,
}

/// One part of a commit: a precondition with, mostly, a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Adds a document. Fails with [`StoreError::Exists`] if the name is taken.
    Insert(Document),
    /// Replaces a document. Fails with [`StoreError::Stale`] if it is not there under `etag`.
    Update {
        /// The new document; its kind and name say which one it replaces.
        document: Document,
        /// The etag that must be stored.
        etag: String,
    },
    /// Removes a document. Fails with [`StoreError::Stale`] if it is not there under `etag`.
    Delete {
        /// The document's kind.
        kind: Kind,
        /// The document's name.
        name: String,
        /// The etag that must be stored.
        etag: String,
    },
    /// Changes nothing. Fails with [`StoreError::Stale`] if the document is not there under `etag`.
    Require {
        /// The document's kind.
        kind: Kind,
        /// The document's name.
        name: String,
        /// The etag that must be stored.
        etag: String,
    },
    /// Changes nothing. Fails with [`StoreError::HasChildren`] if a document of `kind` has `parent`.
    RequireNone {
        /// The kind that must be absent.
        kind: Kind,
        /// Under this parent.
        parent: String,
    },
}

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The name is taken.
    #[error("{kind} {name} exists")]
    Exists {
        /// The document's kind.
        kind: Kind,
        /// The document's name.
        name: String,
    },
    /// The document is absent or has another etag.
    #[error("{kind} {name} is absent or was changed by someone else")]
    Stale {
        /// The document's kind.
        kind: Kind,
        /// The document's name.
        name: String,
    },
    /// A document that must be absent is there.
    #[error("{parent} has a {kind}")]
    HasChildren {
        /// The kind that must be absent.
        kind: Kind,
        /// Under this parent.
        parent: String,
    },
    /// The store did not answer in time. A commit may have happened or not.
    #[error("the metadata store did not answer in time")]
    Timeout,
    /// No room to write; nothing was changed.
    #[error("the disk that holds the metadata is full")]
    Full,
    /// What is stored cannot be read.
    #[error("the metadata is damaged: {0}")]
    Damaged(String),
    /// Anything else, with the database's own words.
    #[error("the metadata store failed: {0}")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Where the control plane keeps what it knows.
///
/// Commits are serializable: each sees the effects of all those before it and none of those after. A
/// commit that was acknowledged survives the death of the process and of the machine.
#[async_trait]
pub trait MetadataStore: Send + Sync {
    /// The document, or `None`.
    async fn get(&self, kind: Kind, name: &str) -> Result<Option<Document>, StoreError>;

    /// Up to `limit` documents of `kind` whose name comes after `after`, ascending by name (byte
    /// order); of every parent when `parent` is `None`.
    async fn list(
        &self,
        kind: Kind,
        parent: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Document>, StoreError>;

    /// Does all of `writes` in their order, or none. A later write sees the earlier ones.
    async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError>;
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Exists { name, .. } => {
                Error::new(ErrorCode::AlreadyExists, format!("{name} exists already"))
            }
            StoreError::Stale { name, .. } => Error::new(
                ErrorCode::Aborted,
                format!("{name} was changed by someone else meanwhile; read it again and repeat the change"),
            ),
            StoreError::HasChildren { kind, parent } => {
                Error::precondition(format!("{parent} still has a {kind}"))
            }
            StoreError::Timeout => Error::new(
                ErrorCode::Unavailable,
                "the metadata store did not answer in time; the change may have been made or not: read, \
                 then repeat",
            )
            .caused_by(error),
            StoreError::Full => Error::new(
                ErrorCode::ResourceExhausted,
                "the disk that holds the metadata is full; nothing was changed: free some space and repeat",
            ),
            StoreError::Damaged(_) => Error::new(
                ErrorCode::DataLoss,
                "a stored resource cannot be read; the server's log has the cause",
            )
            .caused_by(error),
            StoreError::Failed(_) => Error::internal("using the metadata store", error),
        }
    }
}
