//! [`Value`]: a row, or a part of one, as a client wrote it, before a signature gives it a shape.

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
            Value::Numbers(v) => serializer.collect_seq(v),
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
        let mut numbers = Vec::new();
        while let Some(value) = seq.next_element()? {
            match value {
                Value::Number(n) => numbers.push(n),
                other => {
                    let mut list: Vec<Value> = numbers.into_iter().map(Value::Number).collect();
                    list.push(other);
                    while let Some(value) = seq.next_element()? {
                        list.push(value);
                    }
                    return Ok(Value::List(list));
                }
            }
        }
        Ok(if numbers.is_empty() { Value::List(Vec::new()) } else { Value::Numbers(numbers) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields: Vec<(String, Value)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if fields.iter().any(|(n, _)| *n == name) {
                return Err(de::Error::custom(format_args!("field `{name}` occurs twice")));
            }
            fields.push((name, value));
        }
        Ok(Value::Record(fields))
    }
}

fn exact<E: de::Error>(magnitude: u64, v: f64) -> Result<Value, E> {
    if magnitude > MAX_EXACT_INTEGER {
        return Err(E::custom("an integer beyond 2^53 cannot be carried exactly; send it as a string"));
    }
    Ok(Value::Number(v))
}
