//! [`Format`]: what form an answer has to have.

use llm::Constraint;
use serde_json::Value;

/// The form of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Format {
    /// Any text.
    Text,
    /// A JSON object.
    Object,
    /// JSON that fits this schema.
    Schema(Value),
}

impl Format {
    /// What the engine holds answers to.
    pub(super) fn constraint(&self) -> Option<Constraint> {
        match self {
            Format::Text => None,
            Format::Object => Some(Constraint::JsonObject),
            Format::Schema(schema) => Some(Constraint::JsonSchema(schema.to_string())),
        }
    }
}
