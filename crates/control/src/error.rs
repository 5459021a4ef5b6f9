//! [`Error`]: what a control operation refuses or fails with, for two readers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of error: decides the protocol's own status in `api`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request is wrong whatever the state of the system.
    InvalidArgument,
    /// No such resource, or none that the caller may know of.
    NotFound,
    /// A resource of that name exists.
    AlreadyExists,
    /// The request is right, but not in the present state.
    FailedPrecondition,
    /// Someone else wrote first (etag).
    Aborted,
    /// The caller may not.
    PermissionDenied,
    /// A limit is reached; try later.
    ResourceExhausted,
    /// It took longer than allowed.
    DeadlineExceeded,
    /// Stopped on request.
    Cancelled,
    /// A known part of the protocol that this server does not have.
    Unimplemented,
    /// A dependency cannot be reached now; try later.
    Unavailable,
    /// Stored bytes are not what was stored.
    DataLoss,
    /// A defect or an unforeseen state.
    Internal,
}

/// An error with a text for the client and, apart from it, a cause for the log.
#[derive(Debug)]
pub struct Error {
    /// What kind.
    pub code: ErrorCode,
    /// What happened, on what, and what to do: safe to send to the client.
    pub message: String,
    /// The cause, for the log alone.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `code` that tells the client `message`.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Error { code, message: message.into(), source: None }
    }

    /// Adds the cause, for the log.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// [`ErrorCode::InvalidArgument`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message)
    }

    /// [`ErrorCode::NotFound`] of the resource `name`.
    pub fn not_found(name: impl fmt::Display) -> Self {
        Self::new(ErrorCode::NotFound, format!("{name} does not exist"))
    }

    /// [`ErrorCode::FailedPrecondition`].
    pub fn precondition(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::FailedPrecondition, message)
    }

    /// [`ErrorCode::Internal`], with the cause for the log: the client learns only what was attempted.
    pub fn internal(
        attempted: impl fmt::Display,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::new(ErrorCode::Internal, format!("failed {attempted}; the server's log has the cause"))
            .caused_by(source)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| &**s as _)
    }
}
