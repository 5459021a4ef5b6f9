//! Schemas in the API's own words (an OpenAPI dialect) as the JSON schemas that they mean.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::wire::{camel, word};
use crate::Fault;
use crate::fields::{Fields, invalid, unsupported};

/// Types, by their numbers.
const TYPES: [&str; 7] = ["TYPE_UNSPECIFIED", "STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT"];
/// Fields that JSON schema has as they are.
const SAME: [&str; 8] =
    ["title", "description", "default", "enum", "required", "minimum", "maximum", "pattern"];
/// Fields that are counts: clients may send 64-bit numbers as texts.
const COUNTS: [&str; 6] =
    ["minItems", "maxItems", "minProperties", "maxProperties", "minLength", "maxLength"];

/// The JSON schema that `schema`, which lies at `path`, means.
pub(super) fn json_schema(schema: Value, path: &str) -> Result<Value, Fault> {
    let mut fields = camel(Fields::of(schema, path)?);
    let mut meant = Map::new();
    let kind = word(&mut fields, "type", &TYPES)?.map(|kind| kind.to_ascii_lowercase());
    let kind = kind.filter(|kind| kind != "type_unspecified");
    for name in SAME {
        if let Some(value) = fields.take(name) {
            meant.insert(name.to_owned(), value);
        }
    }
    for name in COUNTS {
        if let Some(count) = count(&mut fields, name)? {
            meant.insert(name.to_owned(), count.into());
        }
    }
    match fields.text("format")? {
        // What these say of a text can be kept; of a number they repeat the type, of an enumeration nothing.
        Some(format) if kind.as_deref() == Some("string") && format != "enum" => {
            meant.insert("format".to_owned(), format.into());
        }
        _ => {}
    }
    if let Some(properties) = properties(&mut fields)? {
        meant.insert("additionalProperties".to_owned(), false.into());
        meant.insert("properties".to_owned(), properties.into());
    }
    if let Some(items) = fields.take("items") {
        meant.insert("items".to_owned(), json_schema(items, &fields.path("items"))?);
    }
    let at = fields.path("anyOf");
    if let Some(choices) = fields.list("anyOf")? {
        let choice = |(i, choice)| json_schema(choice, &format!("{at}[{i}]"));
        let choices = choices.into_iter().enumerate().map(choice).collect::<Result<Vec<_>, _>>()?;
        meant.insert("anyOf".to_owned(), choices.into());
    }
    let at = fields.path("additionalProperties");
    match fields.take("additionalProperties") {
        None => {}
        Some(Value::Bool(any)) => drop(meant.insert("additionalProperties".to_owned(), any.into())),
        Some(schema) => drop(meant.insert("additionalProperties".to_owned(), json_schema(schema, &at)?)),
    }
    let at = fields.path("type");
    match kind.as_deref() {
        None => {}
        Some(kind @ ("string" | "number" | "integer" | "boolean" | "array" | "object" | "null")) => {
            meant.insert("type".to_owned(), kind.into());
        }
        Some(_) => return Err(invalid(at, "must be one of STRING, NUMBER, INTEGER, BOOLEAN, ARRAY, OBJECT")),
    }
    let nullable = fields.flag("nullable")?.unwrap_or(false);
    fields.labels(&["example"]);
    fields.finish()?;
    let meant = Value::Object(meant);
    Ok(if nullable { json!({"anyOf": [meant, {"type": "null"}]}) } else { meant })
}

/// `properties`, in the order of `propertyOrdering`; those that it does not name, and all where there is none, by name.
fn properties(fields: &mut Fields) -> Result<Option<Map<String, Value>>, Fault> {
    let (at, path) = (fields.path("propertyOrdering"), fields.path("properties"));
    let order = fields.list("propertyOrdering")?.unwrap_or_default();
    let Some(properties) = fields.take("properties") else { return Ok(None) };
    let Value::Object(properties) = properties else {
        return Err(invalid(path, "must be an object of schemas"));
    };
    let mut left: BTreeMap<String, Value> = properties.into_iter().collect();
    let mut ordered = Map::new();
    let mut add = |(name, schema): (String, Value)| {
        let meant = json_schema(schema, &format!("{path}.{name}"))?;
        ordered.insert(name, meant);
        Ok::<(), Fault>(())
    };
    for name in &order {
        let next = name.as_str().and_then(|name| left.remove_entry(name));
        add(next.ok_or_else(|| unsupported(at.clone(), "must name each of `properties` once at most"))?)?;
    }
    left.into_iter().try_for_each(add)?;
    Ok(Some(ordered))
}

fn count(fields: &mut Fields, name: &str) -> Result<Option<u64>, Fault> {
    let path = fields.path(name);
    let count = match fields.take(name) {
        None => return Ok(None),
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_u64(),
    };
    count.map(Some).ok_or_else(|| invalid(path, "must be a count"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_openapi_says_becomes_what_json_schema_says() {
        let schema = json!({
            "type": "OBJECT",
            "property_ordering": ["b", "a"],
            "properties": {
                "a": {"type": 1, "nullable": true, "maxLength": "5"},
                "b": {"type": "array", "items": {"type": "INTEGER", "format": "int64"}, "minItems": 1},
                "d": {"type": "STRING", "format": "date"},
                "c": {"type": "STRING", "format": "enum", "enum": ["x", "y"]},
            },
            "required": ["b"],
        });
        let meant = json_schema(schema, "s").unwrap();
        let expected = json!({
            "required": ["b"],
            "additionalProperties": false,
            "properties": {
                "b": {"minItems": 1, "items": {"type": "integer"}, "type": "array"},
                "a": {"anyOf": [{"maxLength": 5, "type": "string"}, {"type": "null"}]},
                "c": {"enum": ["x", "y"], "type": "string"},
                "d": {"format": "date", "type": "string"},
            },
            "type": "object",
        });
        assert_eq!(meant, expected);
        let order: Vec<&String> = meant["properties"].as_object().unwrap().keys().collect();
        assert_eq!(order, ["b", "a", "c", "d"]);
    }

    #[test]
    fn what_means_nothing_here_is_named() {
        for (schema, named) in [
            (json!({"type": "TUPLE"}), "s.type"),
            (json!({"properties": {"a": {"frobnicate": 1}}}), "s.properties.a.frobnicate"),
            (json!({"properties": {}, "propertyOrdering": ["z"]}), "s.propertyOrdering"),
            (json!({"properties": {"a": {}}, "propertyOrdering": ["a", "a"]}), "s.propertyOrdering"),
            (json!({"minItems": "many"}), "s.minItems"),
        ] {
            assert_eq!(json_schema(schema, "s").unwrap_err().field.as_deref(), Some(named));
        }
    }
}
