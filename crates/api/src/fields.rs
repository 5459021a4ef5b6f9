//! [`Fields`]: a JSON object read field by field. What nobody has read is refused by its name.

mod asked;

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};

use crate::Fault;
pub(crate) use asked::asked;

/// What a field must be.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    Text,
    Flag,
    List,
    Number,
    Whole,
}

impl Wanted {
    /// For people.
    fn words(self) -> &'static str {
        match self {
            Wanted::Text => "a string",
            Wanted::Flag => "true or false",
            Wanted::List => "a list",
            Wanted::Number => "a number",
            Wanted::Whole => "a whole number of 64 bits",
        }
    }

    /// In JSON Schema.
    fn name(self) -> &'static str {
        match self {
            Wanted::Text => "string",
            Wanted::Flag => "boolean",
            Wanted::List => "array",
            Wanted::Number => "number",
            Wanted::Whole => "integer",
        }
    }
}

/// A JSON object on its way to being read. A field that is `null` counts as absent.
#[derive(Debug)]
pub(crate) struct Fields {
    map: Map<String, Value>,
    /// Where it lies in the request: empty, or `messages[0].`.
    path: String,
}

/// A fault about the field `field`.
pub(crate) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Fault {
    let field = field.into();
    Fault::invalid(format!("field `{field}` {}", message.into())).about(field).because("invalid_value")
}

/// A fault about the field `field`, which is not honoured.
pub(crate) fn unsupported(field: impl Into<String>, message: impl Into<String>) -> Fault {
    invalid(field, message).because("unsupported_parameter")
}

impl Fields {
    /// The body of a request.
    pub(crate) fn of_body(bytes: &[u8]) -> Result<Fields, Fault> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(map)) => Ok(Fields { map, path: String::new() }),
            Ok(_) => Err(Fault::invalid("the request's body must be a JSON object")),
            Err(error) => Err(Fault::invalid(format!("the request's body is not JSON: {error}"))),
        }
    }

    /// The object `value`, which lies at `path` in the request.
    pub(crate) fn of(value: Value, path: &str) -> Result<Fields, Fault> {
        match value {
            Value::Object(map) => Ok(Fields { map, path: format!("{path}.") }),
            other => Err(invalid(path, format!("must be an object, not {}", kind(&other)))),
        }
    }

    /// The same with every field under the name that `rename` gives it.
    pub(crate) fn renamed(self, rename: impl Fn(&str) -> String) -> Fields {
        let map = self.map.into_iter().map(|(name, value)| (rename(&name), value)).collect();
        Fields { map, path: self.path }
    }

    /// Where the field `name` lies in the request.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// The field as it is.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        asked::note(|| (self.path(name), json!({})));
        self.map.shift_remove(name).filter(|value| !value.is_null())
    }

    /// The field as it is, to be read later.
    pub(crate) fn peek(&self, name: &str) -> Option<&Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &mut self,
        name: &str,
        wanted: Wanted,
        read: impl FnOnce(Value) -> Result<T, Value>,
    ) -> Result<Option<T>, Fault> {
        asked::note(|| (self.path(name), json!({"type": wanted.name()})));
        let Some(value) = self.take(name) else { return Ok(None) };
        let wrong = |other: Value| {
            invalid(self.path(name), format!("must be {}, not {}", wanted.words(), kind(&other)))
        };
        read(value).map(Some).map_err(wrong)
    }

    /// A text.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, Fault> {
        self.typed(name, Wanted::Text, |value| match value {
            Value::String(text) => Ok(text),
            other => Err(other),
        })
    }

    /// A text that must be there.
    pub(crate) fn needed_text(&mut self, name: &str) -> Result<String, Fault> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    /// The fault that the field `name` is not there.
    pub(crate) fn missing(&self, name: &str) -> Fault {
        invalid(self.path(name), "is missing").because("missing_required_parameter")
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, Fault> {
        self.typed(name, Wanted::Flag, |value| value.as_bool().ok_or(value))
    }

    /// A list.
    pub(crate) fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, Fault> {
        self.typed(name, Wanted::List, |value| match value {
            Value::Array(items) => Ok(items),
            other => Err(other),
        })
    }

    /// An object.
    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Fields>, Fault> {
        let path = self.path(name);
        asked::note(|| (path.clone(), json!({"type": "object"})));
        self.take(name).map(|value| Fields::of(value, &path)).transpose()
    }

    /// A number within `range`.
    pub(crate) fn number(&mut self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f32>, Fault> {
        asked::note(|| (self.path(name), json!({"minimum": range.start(), "maximum": range.end()})));
        let Some(found) = self.typed(name, Wanted::Number, |value| value.as_f64().ok_or(value))? else {
            return Ok(None);
        };
        if !range.contains(&found) {
            let (least, most) = range.into_inner();
            return Err(invalid(
                self.path(name),
                format!("is {found}; it must be between {least} and {most}"),
            ));
        }
        Ok(Some(found as f32))
    }

    /// A whole number within `range`.
    pub(crate) fn whole(&mut self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, Fault> {
        asked::note(|| (self.path(name), json!({"minimum": range.start(), "maximum": range.end()})));
        let Some(found) = self.typed(name, Wanted::Whole, |value| value.as_i64().ok_or(value))? else {
            return Ok(None);
        };
        if !range.contains(&found) {
            let (least, most) = range.into_inner();
            return Err(invalid(
                self.path(name),
                format!("is {found}; it must be between {least} and {most}"),
            ));
        }
        Ok(Some(found))
    }

    /// A number of things within `range`.
    pub(crate) fn count(&mut self, name: &str, range: RangeInclusive<i64>) -> Result<Option<usize>, Fault> {
        Ok(self.whole(name, range)?.and_then(|found| usize::try_from(found).ok()))
    }

    /// Takes the field as long as it says what holds anyway.
    pub(crate) fn only(&mut self, name: &str, fine: impl Fn(&Value) -> bool, so: &str) -> Result<(), Fault> {
        match self.take(name) {
            Some(value) if !fine(&value) => Err(unsupported(self.path(name), so)),
            _ => Ok(()),
        }
    }

    /// Takes labels, which ask for nothing.
    pub(crate) fn labels(&mut self, names: &[&str]) {
        for name in names {
            self.take(name);
        }
    }

    /// Refuses what nobody has read.
    pub(crate) fn finish(self) -> Result<(), Fault> {
        match self.map.iter().find(|(_, value)| !value.is_null()) {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(80).collect();
                Err(unsupported(self.path(&name), "has no effect on this server: leave it out"))
            }
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "such a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn fields(text: &str) -> Fields {
        Fields::of_body(text.as_bytes()).unwrap()
    }

    #[test]
    fn values_are_read_within_their_bounds() {
        let mut read = fields(r#"{"a": 1, "b": 0.5, "c": null, "d": -1, "e": "x"}"#);
        assert_eq!(read.count("a", 0..=5).unwrap(), Some(1));
        assert_eq!(read.number("b", 0.0..=1.0).unwrap(), Some(0.5));
        assert_eq!(read.text("c").unwrap(), None);
        let fault = read.count("d", 0..=5).unwrap_err();
        assert_eq!((fault.field.as_deref(), fault.reason), (Some("d"), Some("invalid_value")));
        assert!(read.flag("e").unwrap_err().message.contains("`e` must be true or false, not a string"));
        assert!(read.finish().is_ok());
    }

    #[test]
    fn what_nobody_reads_is_named() {
        let fault = fields(r#"{"frobnicate": 1}"#).finish().unwrap_err();
        assert_eq!(fault.field.as_deref(), Some("frobnicate"));
        assert_eq!(fault.reason, Some("unsupported_parameter"));
        assert!(fields(r#"{"x": null}"#).finish().is_ok());
    }

    #[test]
    fn what_is_no_number_is_no_json() {
        for body in ["{\"a\": NaN}", "{\"a\": 1e400}", "{\"a\": Infinity}", "[]", "", "{"] {
            assert!(Fields::of_body(body.as_bytes()).is_err(), "{body}");
        }
    }
}
