//! [`Cell`]: one value of a row, whoever sent it.

use formats::Value;

/// A cell before its column gives it a meaning.
#[derive(Debug, Clone, Copy)]
pub enum Cell<'a> {
    /// A text.
    Text(&'a str),
    /// A number.
    Number(f64),
    /// A truth value.
    Bool(bool),
    /// Nothing.
    Missing,
    /// Named fields.
    Record(&'a Value),
    /// Any other value, by what a person calls it.
    Other(&'static str),
}

impl Cell<'_> {
    /// What a person calls it.
    pub fn kind(&self) -> &'static str {
        match self {
            Cell::Text(_) => "a string",
            Cell::Number(_) => "a number",
            Cell::Bool(_) => "a boolean",
            Cell::Missing => "nothing",
            Cell::Record(_) => "an object",
            Cell::Other(kind) => kind,
        }
    }
}

impl<'a> From<&'a Value> for Cell<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Text(text) => Cell::Text(text),
            Value::Number(n) => Cell::Number(*n),
            Value::Bool(b) => Cell::Bool(*b),
            Value::Null => Cell::Missing,
            Value::Record(_) => Cell::Record(value),
            other => Cell::Other(other.kind()),
        }
    }
}
