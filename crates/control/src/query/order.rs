//! Orders: `create_time desc, display_name`.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{lookup, snake_case};
use crate::{Error, Result, Timestamp};

/// Fields that one order names at most.
const KEYS_MAX: usize = 8;

/// An order of items. Equals are ordered by name.
pub(super) struct Order(Vec<Key>);

struct Key {
    path: Vec<String>,
    descending: bool,
}

/// An item's value in one field, as it is ordered: absent ones first.
#[derive(Debug, Clone, PartialEq, PartialOrd, Serialize, Deserialize)]
pub(super) enum SortKey {
    #[serde(rename = "-")]
    Absent,
    #[serde(rename = "b")]
    Bool(bool),
    #[serde(rename = "n")]
    Number(f64),
    /// Nanoseconds since 1970, in decimal: JSON numbers do not carry them.
    #[serde(rename = "t")]
    Time(Nanoseconds),
    #[serde(rename = "s")]
    Text(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(super) struct Nanoseconds(i128);

impl From<Nanoseconds> for String {
    fn from(time: Nanoseconds) -> String {
        time.0.to_string()
    }
}

impl TryFrom<String> for Nanoseconds {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> std::result::Result<Self, Self::Error> {
        text.parse().map(Nanoseconds)
    }
}

impl Order {
    /// Reads an order; an empty one puts the newest first.
    pub(super) fn parse(text: &str) -> Result<Self> {
        if text.trim().is_empty() {
            return Ok(Order(vec![Key { path: vec!["create_time".to_owned()], descending: true }]));
        }
        let parts: Vec<&str> = text.split(',').take(KEYS_MAX + 1).collect();
        if parts.len() > KEYS_MAX {
            return Err(Error::invalid(format!("order_by names more than {KEYS_MAX} fields")));
        }
        parts.into_iter().map(Key::parse).collect::<Result<_>>().map(Order)
    }

    pub(super) fn keys(&self, fields: &Value) -> Result<Vec<SortKey>> {
        self.0.iter().map(|key| lookup(fields, &key.path).map(SortKey::of)).collect()
    }

    pub(super) fn compare(&self, a: (&[SortKey], &str), b: (&[SortKey], &str)) -> Ordering {
        for (key, (a, b)) in self.0.iter().zip(a.0.iter().zip(b.0)) {
            let ordering = a.partial_cmp(b).unwrap_or(Ordering::Equal);
            let ordering = if key.descending { ordering.reverse() } else { ordering };
            if ordering.is_ne() {
                return ordering;
            }
        }
        a.1.cmp(b.1)
    }
}

impl Key {
    fn parse(text: &str) -> Result<Self> {
        let mut words = text.split_whitespace();
        let (field, direction, rest) = (words.next(), words.next(), words.next());
        let descending = match direction {
            None => Some(false),
            Some(word) if word.eq_ignore_ascii_case("asc") => Some(false),
            Some(word) if word.eq_ignore_ascii_case("desc") => Some(true),
            Some(_) => None,
        };
        match (field, descending, rest) {
            (Some(field), Some(descending), None) => {
                let mut path: Vec<String> = field.split('.').map(str::to_owned).collect();
                path[0] = snake_case(&path[0]);
                Ok(Key { path, descending })
            }
            _ => Err(Error::invalid(format!(
                "order_by part {:?} is not a field, alone or followed by `desc` or `asc`",
                text.trim()
            ))),
        }
    }
}

impl SortKey {
    fn of(value: Option<&Value>) -> Self {
        match value {
            Some(Value::Bool(b)) => SortKey::Bool(*b),
            Some(Value::Number(n)) => SortKey::Number(n.as_f64().unwrap_or(f64::MAX)),
            // As text, 00:00:00.5Z would come before 00:00:00Z.
            Some(Value::String(text)) => match text.parse::<Timestamp>() {
                Ok(time) => SortKey::Time(Nanoseconds(time.as_nanosecond())),
                Err(_) => SortKey::Text(text.clone()),
            },
            _ => SortKey::Absent,
        }
    }
}
