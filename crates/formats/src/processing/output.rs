//! [`Output`]: what the numbers of a network say.

use crate::Value;
use crate::spec::SpecError;
use crate::spec::fields::{Fields, texts_of};

/// The most labels.
pub(super) const LABELS_MAX: usize = 1 << 20;

/// What a network's numbers say. With labels it is a classifier; without, they are told as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// The output that holds the scores; `None` is the only one.
    pub tensor: Option<String>,
    /// What they are scores of, in their order.
    pub labels: Option<Vec<String>>,
    /// Whether they become shares of one by the softmax.
    pub softmax: bool,
    /// How many of the best are told; `None` tells all.
    pub top_k: Option<usize>,
}

impl Output {
    pub(super) fn read(
        value: &Value,
        read: impl Fn(&str) -> Result<Vec<u8>, SpecError>,
    ) -> Result<Self, SpecError> {
        let mut fields = Fields::new("output", value)?;
        let at = fields.at("labels");
        let labels = match fields.take("labels") {
            None => None,
            Some(Value::Text(file)) => Some(lines(&at, &read(file)?)?),
            Some(list) => Some(texts_of(&at, list)?),
        };
        let output = Output {
            tensor: fields.text("tensor")?.map(str::to_owned),
            labels: labels.map(|labels| checked(&at, labels)).transpose()?,
            softmax: fields.flag("softmax")?.unwrap_or(false),
            top_k: fields.count("top_k", 1, LABELS_MAX)?,
        };
        fields.finish()?;
        let without = [("top_k", output.top_k.is_some()), ("softmax", output.softmax)];
        match without.iter().find(|(_, given)| *given && output.labels.is_none()) {
            Some((field, _)) => Err(SpecError::new(format!("output.{field}"), "needs `labels` beside it")),
            None => Ok(output),
        }
    }
}

/// The lines of a file of labels.
pub(super) fn lines(at: &str, bytes: &[u8]) -> Result<Vec<String>, SpecError> {
    let text = std::str::from_utf8(bytes).map_err(|_| SpecError::new(at, "the file is not UTF-8"))?;
    let mut lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    checked(at, lines)
}

/// Labels, of which there are some and none empty.
pub(super) fn checked(at: &str, labels: Vec<String>) -> Result<Vec<String>, SpecError> {
    if labels.is_empty() || labels.len() > LABELS_MAX {
        let n = labels.len();
        return Err(SpecError::new(at, format!("{n} labels; 1 to {LABELS_MAX} are possible")));
    }
    match labels.iter().position(String::is_empty) {
        Some(place) => Err(SpecError::new(at, format!("label {place} is empty"))),
        None => Ok(labels),
    }
}
