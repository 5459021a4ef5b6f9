//! [`Value`]: a row, or a part of one, as a client wrote it, before a signature gives it a shape.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// A protocol-free dynamic value: an instance of a prediction request, a cell, a parameter.
///
/// A list that holds nothing but numbers is one [`Value::Numbers`], so that the usual instance
/// (a feature vector) costs one allocation.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Absent or explicitly null.
    Null,
    /// A truth value.
    Bool(bool),
    /// A number. Integers beyond 2^53 do not survive an `f64` and are refused when read.
    Number(f64),
    /// A text.
    Text(String),
    /// A non-empty list of numbers only.
    Numbers(Vec<f64>),
    /// Any other list.
    List(Vec<Value>),
    /// Named fields, in the order written; a name occurs once.
    Record(Vec<(String, Value)>),
}

/// The largest integer magnitude that an `f64` carries exactly: 2^53.
const MAX_EXACT_INTEGER: u64 = 1 << 53;

impl Value {
    /// The field `name` of a record; `None` for other values and absent fields.
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Record(fields) => fields.iter().find(|(n, _)| n == name).map(|(_, v)| v),
            _ => None,
        }
    }

    /// What a person calls this kind of value, for error messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "a string",
            Value::Numbers(_) => "a list of numbers",
            Value::List(_) => "a list",
            Value::Record(_) => "an object",
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(v) => serializer.serialize_bool(*v),
            Value::Number(v) => serialize_number(*v, serializer),
            Value::Text(v) => serializer.serialize_str(v),
            Value::Numbers(v) => serializer.collect_seq(v.iter().map(|&n| Whole(n))),
            Value::List(v) => serializer.collect_seq(v),
            Value::Record(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

/// An element of a list of numbers, written as [`serialize_number`] says.
struct Whole(f64);

impl Serialize for Whole {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_number(self.0, serializer)
    }
}

/// Writes whole numbers without a fraction, as clients wrote them.
fn serialize_number<S: Serializer>(v: f64, serializer: S) -> Result<S::Ok, S::Error> {
    if v.fract() == 0.0 && v.abs() <= MAX_EXACT_INTEGER as f64 {
        serializer.serialize_i64(v as i64)
    } else {
        serializer.serialize_f64(v)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("null, a boolean, a number, a string, a list or an object")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E: de::Error>(self, v: i64) -> Result<Value, E> {
        exact(v.unsigned_abs(), v as f64)
    }

    fn visit_u64<E: de::Error>(self, v: u64) -> Result<Value, E> {
        exact(v, v as f64)
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Value::Number(v))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::Text(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::Text(v))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut numbers = Scratch::take();
        while let Some(value) = seq.next_element()? {
            match value {
                Value::Number(n) => numbers.0.push(n),
                other => {
                    let mut list: Vec<Value> = numbers.0.drain(..).map(Value::Number).collect();
                    drop(numbers);
                    list.push(other);
                    while let Some(value) = seq.next_element()? {
                        list.push(value);
                    }
                    return Ok(Value::List(list));
                }
            }
        }
        Ok(if numbers.0.is_empty() {
            Value::List(Vec::new())
        } else {
            Value::Numbers(numbers.0.as_slice().into())
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields: Vec<(String, Value)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            fields.push((name, value));
        }
        match repeated_name(&fields) {
            Some(name) => Err(de::Error::custom(format_args!("field `{name}` occurs twice"))),
            None => Ok(Value::Record(fields)),
        }
    }
}

/// Room for a list of numbers while nobody knows how long it is, kept by the thread from one list to the next.
struct Scratch(Vec<f64>);

/// A longer list's room is not kept.
const SCRATCH_NUMBERS_MAX: usize = 8192;

thread_local! {
    static SCRATCH: Cell<Vec<f64>> = const { Cell::new(Vec::new()) };
}

impl Scratch {
    /// The thread's; fresh room where that is in use for the list around this one.
    fn take() -> Scratch {
        Scratch(SCRATCH.take())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.0.capacity() <= SCRATCH_NUMBERS_MAX {
            self.0.clear();
            SCRATCH.set(std::mem::take(&mut self.0));
        }
    }
}

/// Records up to this many fields are compared pair by pair, wider ones through a hash set.
const PAIRWISE_FIELDS_MAX: usize = 8;

/// A name that occurs twice among `fields`, in linear time.
fn repeated_name(fields: &[(String, Value)]) -> Option<&str> {
    let names = || fields.iter().map(|(name, _)| name.as_str());
    if fields.len() <= PAIRWISE_FIELDS_MAX {
        return names()
            .enumerate()
            .find(|&(i, name)| names().take(i).any(|n| n == name))
            .map(|(_, name)| name);
    }
    let mut seen = HashSet::with_capacity(fields.len());
    names().find(|name| !seen.insert(*name))
}

fn exact<E: de::Error>(magnitude: u64, v: f64) -> Result<Value, E> {
    if magnitude > MAX_EXACT_INTEGER {
        return Err(E::custom("an integer beyond 2^53 cannot be carried exactly; send it as a string"));
    }
    Ok(Value::Number(v))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Result<Value, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn values_are_read_as_written() {
        let cases = [
            ("null", Value::Null),
            ("true", Value::Bool(true)),
            ("-1.5", Value::Number(-1.5)),
            ("\"a\"", Value::Text("a".into())),
            ("[]", Value::List(vec![])),
            ("[1,2.5]", Value::Numbers(vec![1.0, 2.5])),
            ("[1,null]", Value::List(vec![Value::Number(1.0), Value::Null])),
            ("[[1],[2]]", Value::List(vec![Value::Numbers(vec![1.0]), Value::Numbers(vec![2.0])])),
            (
                "{\"b\":1,\"a\":{}}",
                Value::Record(vec![("b".into(), Value::Number(1.0)), ("a".into(), Value::Record(vec![]))]),
            ),
        ];
        for (text, value) in cases {
            assert_eq!(read(text).unwrap(), value, "{text}");
            assert_eq!(read(&serde_json::to_string(&value).unwrap()).unwrap(), value, "{text}");
        }
        assert_eq!(serde_json::to_string(&Value::Number(3.0)).unwrap(), "3");
    }

    #[test]
    fn integers_that_would_change_are_refused() {
        assert_eq!(read("9007199254740992").unwrap(), Value::Number(9_007_199_254_740_992.0));
        for text in ["9007199254740993", "-9007199254740993", "18446744073709551615"] {
            assert!(read(text).unwrap_err().contains("2^53"), "{text}");
        }
    }

    #[test]
    fn a_repeated_field_is_named_in_narrow_and_wide_records() {
        for fields in [1, PAIRWISE_FIELDS_MAX - 1, PAIRWISE_FIELDS_MAX, 200] {
            let mut text: Vec<String> = (0..fields).map(|i| format!("\"f{i}\":{i}")).collect();
            assert!(read(&format!("{{{}}}", text.join(","))).is_ok());
            text.push("\"f0\":1".into());
            let error = read(&format!("{{{}}}", text.join(","))).unwrap_err();
            assert!(error.starts_with("field `f0` occurs twice"), "{error}");
        }
    }

    #[test]
    fn a_very_wide_record_is_read() {
        let text: Vec<String> = (0..200_000).map(|i| format!("\"f{i}\":0")).collect();
        assert!(read(&format!("{{{}}}", text.join(","))).is_ok());
    }

    #[test]
    fn nesting_is_bounded_by_the_reader() {
        let depth = 100_000;
        assert!(
            read(&format!("{}{}", "[".repeat(depth), "]".repeat(depth))).unwrap_err().contains("recursion")
        );
    }
}
