//! [`PredictError`] of a model and [`ServeError`] of the router that stands before it.

use std::time::Duration;

use crate::runtime::{RuntimeError, RuntimeErrorKind};

/// Why a model gave no prediction. All texts are safe to send to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PredictError {
    /// One instance does not fit the model.
    #[error("instance {index}: {message}")]
    BadInstance {
        /// Which one, from 0.
        index: usize,
        /// The field, what was expected and what was found.
        message: String,
    },
    /// The request as a whole does not fit the model: a missing column, a method that it does not have.
    #[error("{message}")]
    BadRequest {
        /// What does not fit and what would.
        message: String,
    },
    /// The model could not compute.
    #[error("{message}")]
    Failed {
        /// What happened.
        message: String,
    },
    /// The model's memory was given back, and there is not enough to load it again.
    #[error("{message}")]
    NoMemory {
        /// The figures.
        message: String,
    },
    /// The caller's deadline passed, or the caller left, before the work was done.
    #[error("the deadline passed before the model was done")]
    Stopped,
}

/// Why the router gave no answer. All texts are safe to send to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    /// No endpoint of that name takes requests.
    #[error("endpoint `{endpoint}` does not exist or serves nothing yet; deploy a model to it first")]
    UnknownEndpoint {
        /// The resource name asked for.
        endpoint: String,
    },
    /// The endpoint exists, but no deployed model takes traffic.
    #[error(
        "endpoint `{endpoint}` has no deployed model that takes traffic; deploy one or set its traffic split"
    )]
    NothingDeployed {
        /// The endpoint's resource name.
        endpoint: String,
    },
    /// The request names a deployed model that the endpoint does not have.
    #[error("endpoint `{endpoint}` has no deployed model `{deployed}`")]
    UnknownDeployed {
        /// The endpoint's resource name.
        endpoint: String,
        /// The deployed model's id as asked for.
        deployed: String,
    },
    /// The queue is full; nothing was done.
    #[error("too many requests are waiting for this model; try again in {} ms", retry_after.as_millis())]
    Overloaded {
        /// When the queue is likely to have room.
        retry_after: Duration,
    },
    /// The deadline passed before an answer was there.
    #[error("the deadline passed before the model answered")]
    DeadlineExceeded,
    /// One instance does not fit the model; none was predicted.
    #[error("instance {index}: {message}")]
    BadInstance {
        /// Which one, from 0.
        index: usize,
        /// The field, what was expected and what was found.
        message: String,
    },
    /// The request as a whole does not fit the model.
    #[error("{message}")]
    BadRequest {
        /// What does not fit and what would.
        message: String,
    },
    /// The model's memory was given back, and there is not enough to load it again.
    #[error("{message}")]
    NoMemory {
        /// The figures.
        message: String,
    },
    /// The model could not compute; other requests are not concerned.
    #[error("{message}")]
    Failed {
        /// What happened.
        message: String,
    },
}

impl From<RuntimeError> for PredictError {
    fn from(e: RuntimeError) -> Self {
        let message = e.message;
        match e.kind {
            RuntimeErrorKind::Failed => PredictError::Failed { message },
            RuntimeErrorKind::TooLarge => PredictError::BadRequest { message },
            RuntimeErrorKind::NoMemory => PredictError::NoMemory { message },
        }
    }
}

impl From<RuntimeError> for ServeError {
    fn from(e: RuntimeError) -> Self {
        PredictError::from(e).into()
    }
}

impl From<PredictError> for ServeError {
    fn from(e: PredictError) -> Self {
        match e {
            PredictError::BadInstance { index, message } => ServeError::BadInstance { index, message },
            PredictError::BadRequest { message } => ServeError::BadRequest { message },
            PredictError::Failed { message } => ServeError::Failed { message },
            PredictError::NoMemory { message } => ServeError::NoMemory { message },
            PredictError::Stopped => ServeError::DeadlineExceeded,
        }
    }
}
