//! [`Fields`]: the named options of one part of a specification, taken one by one; what is left over is
//! an error, so that nothing a person writes is ignored.

use super::SpecError;
use crate::Value;

/// A record being read. Every option is taken by name; [`Fields::finish`] refuses what was not taken.
pub(crate) struct Fields<'a> {
    path: String,
    left: Vec<(&'a str, &'a Value)>,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Reads `value`, a record, found at `path` ("" is the document itself).
    pub(crate) fn new(path: impl Into<String>, value: &'a Value) -> Result<Self, SpecError> {
        let path = path.into();
        match value {
            Value::Record(fields) => {
                let left = fields.iter().map(|(name, value)| (name.as_str(), value)).collect();
                Ok(Fields { path, left, known: Vec::new() })
            }
            other => Err(SpecError::new(path, format!("expected named options, found {}", other.kind()))),
        }
    }

    /// Reads a configuration that Keras wrote: null there means "not used", whatever the option.
    pub(crate) fn keras(path: impl Into<String>, value: &'a Value) -> Result<Self, SpecError> {
        let mut fields = Self::new(path, value)?;
        fields.left.retain(|(_, value)| **value != Value::Null);
        Ok(fields)
    }

    /// The place of these fields in the document.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The place of the field `name` in the document.
    pub(crate) fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// An error about the field `name`.
    pub(crate) fn error(&self, name: &str, message: impl Into<String>) -> SpecError {
        SpecError::new(self.at(name), message.into())
    }

    /// Whether `name` is present and not yet taken, null or not.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.left.iter().any(|(n, _)| *n == name)
    }

    /// Names not yet taken.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.left.iter().map(|(name, _)| *name)
    }

    /// Takes `name`; null counts as absent.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        let i = self.left.iter().position(|(n, _)| *n == name)?;
        let (_, value) = self.left.remove(i);
        (*value != Value::Null).then_some(value)
    }

    /// Takes `name`, which must be there.
    pub(crate) fn require(&mut self, name: &'static str) -> Result<&'a Value, SpecError> {
        self.take(name).ok_or_else(|| self.error(name, "is missing"))
    }

    /// Takes fields that carry no meaning for training (names, versions).
    pub(crate) fn ignore(&mut self, names: &[&'static str]) {
        for name in names {
            self.take(name);
        }
    }

    /// Takes fields whose names end so and that carry no meaning here.
    pub(crate) fn ignore_ending(&mut self, endings: &[&str]) {
        self.left.retain(|(name, _)| !endings.iter().any(|ending| name.ends_with(ending)));
    }

    /// A text.
    pub(crate) fn text(&mut self, name: &'static str) -> Result<Option<&'a str>, SpecError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(self.error(name, format!("expected a string, found {}", other.kind()))),
        }
    }

    /// A truth value.
    pub(crate) fn flag(&mut self, name: &'static str) -> Result<Option<bool>, SpecError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.error(name, format!("expected true or false, found {}", other.kind()))),
        }
    }

    /// A whole number in `min..=max`.
    pub(crate) fn count(
        &mut self,
        name: &'static str,
        min: usize,
        max: usize,
    ) -> Result<Option<usize>, SpecError> {
        let at = self.at(name);
        self.take(name).map(|value| count_of(&at, value, min, max)).transpose()
    }

    /// A number in `min..=max`.
    pub(crate) fn number(
        &mut self,
        name: &'static str,
        min: f64,
        max: f64,
    ) -> Result<Option<f64>, SpecError> {
        let at = self.at(name);
        self.take(name).map(|value| number_of(&at, value, min, max)).transpose()
    }

    /// One whole number, or two for height and width.
    pub(crate) fn pair(
        &mut self,
        name: &'static str,
        min: usize,
        max: usize,
    ) -> Result<Option<[usize; 2]>, SpecError> {
        let at = self.at(name);
        self.take(name).map(|value| pair_of(&at, value, min, max)).transpose()
    }

    /// A list of texts; one text is a list of one.
    pub(crate) fn texts(&mut self, name: &'static str) -> Result<Option<Vec<String>>, SpecError> {
        let at = self.at(name);
        self.take(name).map(|value| texts_of(&at, value)).transpose()
    }

    /// Refuses `name` unless it is absent or equals the one value that means "not used".
    pub(crate) fn only(&mut self, name: &'static str, allowed: &[Value]) -> Result<(), SpecError> {
        match self.take(name) {
            None => Ok(()),
            Some(value) if allowed.contains(value) => Ok(()),
            Some(value) => Err(self.error(name, format!("{} is not supported", brief(value)))),
        }
    }

    /// Refuses what was not taken.
    pub(crate) fn finish(self) -> Result<(), SpecError> {
        match self.left.first() {
            None => Ok(()),
            Some((name, _)) => {
                let known = self.known.join(", ");
                Err(SpecError::new(self.at(name), format!("is not an option here; there are: {known}")))
            }
        }
    }
}

/// A whole number in `min..=max`.
pub(crate) fn count_of(at: &str, value: &Value, min: usize, max: usize) -> Result<usize, SpecError> {
    match value {
        Value::Number(n) if n.fract() == 0.0 && *n >= min as f64 && *n <= max as f64 => Ok(*n as usize),
        other => Err(SpecError::new(
            at,
            format!("expected a whole number from {min} to {max}, found {}", brief(other)),
        )),
    }
}

/// A finite number in `min..=max`.
pub(crate) fn number_of(at: &str, value: &Value, min: f64, max: f64) -> Result<f64, SpecError> {
    match value {
        Value::Number(n) if *n >= min && *n <= max => Ok(*n),
        other => {
            Err(SpecError::new(at, format!("expected a number from {min} to {max}, found {}", brief(other))))
        }
    }
}

/// One whole number for both, or a list of two.
pub(crate) fn pair_of(at: &str, value: &Value, min: usize, max: usize) -> Result<[usize; 2], SpecError> {
    match value {
        Value::Numbers(list) if list.len() == 2 => Ok([
            count_of(at, &Value::Number(list[0]), min, max)?,
            count_of(at, &Value::Number(list[1]), min, max)?,
        ]),
        Value::Numbers(list) if list.len() == 1 => pair_of(at, &Value::Number(list[0]), min, max),
        Value::Number(_) => count_of(at, value, min, max).map(|n| [n, n]),
        other => {
            Err(SpecError::new(at, format!("expected one or two whole numbers, found {}", brief(other))))
        }
    }
}

/// A list of texts; one text is a list of one.
pub(crate) fn texts_of(at: &str, value: &Value) -> Result<Vec<String>, SpecError> {
    let wrong = |v: &Value| SpecError::new(at, format!("expected strings, found {}", brief(v)));
    match value {
        Value::Text(text) => Ok(vec![text.clone()]),
        Value::List(list) => {
            list.iter().map(|v| if let Value::Text(t) = v { Ok(t.clone()) } else { Err(wrong(v)) }).collect()
        }
        other => Err(wrong(other)),
    }
}

/// A list of finite numbers.
pub(crate) fn numbers_of(at: &str, value: &Value) -> Result<Vec<f64>, SpecError> {
    match value {
        Value::Number(n) => Ok(vec![*n]),
        Value::Numbers(list) => Ok(list.clone()),
        // Keras writes the statistics of a Normalization layer as nested lists of one row.
        Value::List(list) if list.len() == 1 => numbers_of(at, &list[0]),
        other => Err(SpecError::new(at, format!("expected numbers, found {}", brief(other)))),
    }
}

/// How a message shows a value: itself if short, else its kind.
pub(crate) fn brief(value: &Value) -> String {
    match value {
        Value::Number(n) => n.to_string(),
        Value::Bool(b) => b.to_string(),
        Value::Text(t) if t.chars().count() <= 60 => format!("`{t}`"),
        Value::Record(_) => {
            let class = value.get("class_name");
            match class {
                Some(Value::Text(name)) => format!("`{name}`"),
                _ => value.kind().to_owned(),
            }
        }
        other => other.kind().to_owned(),
    }
}
