//! What form an answer has to have: `response_format`, and `text.format` in responses.

use serde_json::Value;

use crate::Fault;
use crate::fields::{Fields, invalid};
use crate::language::Format;

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
