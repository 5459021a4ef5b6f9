//! [`SpecError`]: what is wrong with a specification, and where.

/// A specification that cannot be used: the place in the document, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}{message}", .at, if .at.is_empty() { "" } else { ": " })]
pub struct SpecError {
    at: String,
    message: String,
}

impl SpecError {
    /// An error at `at`, a path such as `layers[2].activation`; "" is the whole document.
    pub fn new(at: impl Into<String>, message: impl Into<String>) -> Self {
        SpecError { at: at.into(), message: message.into() }
    }

    /// The place in the document.
    pub fn at(&self) -> &str {
        &self.at
    }
}
