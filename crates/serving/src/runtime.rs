//! [`Runtime`]: the port behind which every kind of model predicts.

use tensor::{RunError, Signature, Tensors};

/// Something that turns named tensors into named tensors.
///
/// Implementations promise, and `tests/runtime_conformance.rs` checks for each of them:
/// - **Whole batches.** Inputs come in the order of the signature and all hold the same number of rows,
///   at least one. Where the signature's first dimensions are open, every output has as many rows as the
///   inputs.
/// - **Row independence.** A row's result is the same, bit for bit, whatever the other rows are and however
///   many there are. This is what lets requests of different callers share one run.
/// - **Determinism.** The same inputs give the same bits each time, from any thread.
/// - **Errors, not panics**, on inputs that the signature does not admit.
///
/// Nothing here says that the model is in this process.
pub trait Runtime: Send + Sync {
    /// What goes in and what comes out.
    fn signature(&self) -> &Signature;

    /// Predicts one batch.
    ///
    /// # Errors
    /// If the inputs do not fit the signature or the computation cannot be done on these values.
    fn predict(&self, inputs: &Tensors) -> Result<Tensors, RuntimeError>;

    /// Whether it can predict at once; if not, its memory was given back, and it is loaded first.
    fn is_loaded(&self) -> bool {
        true
    }

    /// Gives its memory back if nobody has asked for as long as it was told to wait.
    fn rest(&self) {}

    /// Whether a library from outside computes it.
    fn is_foreign(&self) -> bool {
        false
    }

    /// Whether rows together take as long as each by itself, so that requests of different callers run apart.
    fn runs_apart(&self) -> bool {
        false
    }
}

/// A network's error as the port has it.
pub(crate) fn of_run(error: RunError) -> RuntimeError {
    match error {
        RunError::TooLarge { .. } => RuntimeError::too_large(error.to_string()),
        other => RuntimeError::new(other.to_string()),
    }
}

/// Why a batch could not be predicted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RuntimeError {
    /// What happened, on what; safe to send to the client.
    pub message: String,
    /// What stands in the way.
    pub kind: RuntimeErrorKind,
}

/// What stands in the way of a prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeErrorKind {
    /// The computation cannot be done, or has failed.
    Failed,
    /// The request wants more than one request may.
    TooLarge,
    /// There is not the memory now.
    NoMemory,
}

impl RuntimeError {
    /// An error that tells the client `message`.
    pub fn new(message: impl Into<String>) -> Self {
        RuntimeError { message: message.into(), kind: RuntimeErrorKind::Failed }
    }

    /// An error of a request that is too large.
    pub fn too_large(message: impl Into<String>) -> Self {
        RuntimeError { kind: RuntimeErrorKind::TooLarge, ..Self::new(message) }
    }

    /// An error for want of memory.
    pub fn no_memory(message: impl Into<String>) -> Self {
        RuntimeError { kind: RuntimeErrorKind::NoMemory, ..Self::new(message) }
    }
}
