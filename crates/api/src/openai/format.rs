//! What form an answer has to have: `response_format`, and `text.format` in responses.

use llm::Constraint;
use serde_json::Value;

use super::fields::{Fields, invalid};
use crate::Fault;

/// The form of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Format {
    /// Any text.
    Text,
    /// A JSON object.
    Object,
    /// JSON that fits a schema; as the client wrote it, and the schema.
    Schema(Value),
}

impl Format {
    /// Reads the field `name`. In responses the schema lies `flat` beside its type.
    pub(super) fn read(fields: &mut Fields, name: &str, flat: bool) -> Result<Format, Fault> {
        let Some(mut format) = fields.object(name)? else { return Ok(Format::Text) };
        let kind = format.needed_text("type")?;
        let read = match kind.as_str() {
            "text" => Format::Text,
            "json_object" => Format::Object,
            "json_schema" if flat => Format::Schema(schema(&mut format)?),
            "json_schema" => {
                let mut inner = format.object("json_schema")?.ok_or_else(|| format.missing("json_schema"))?;
                let schema = schema(&mut inner)?;
                inner.finish()?;
                Format::Schema(schema)
            }
            _ => {
                let known = "must be \"text\", \"json_object\" or \"json_schema\"";
                return Err(invalid(format.path("type"), known));
            }
        };
        format.finish()?;
        Ok(read)
    }

    /// What the engine holds answers to.
    pub(super) fn constraint(&self) -> Option<Constraint> {
        match self {
            Format::Text => None,
            Format::Object => Some(Constraint::JsonObject),
            Format::Schema(schema) => Some(Constraint::JsonSchema(schema.to_string())),
        }
    }
}

/// `{name, description, schema, strict}`. Answers fit the schema whether `strict` says so or not.
fn schema(fields: &mut Fields) -> Result<Value, Fault> {
    fields.labels(&["name", "description"]);
    fields.flag("strict")?;
    let path = fields.path("schema");
    match fields.take("schema") {
        Some(schema) if schema.is_object() => Ok(schema),
        Some(_) => Err(invalid(path, "must be an object: a JSON schema")),
        None => Err(fields.missing("schema")),
    }
}
