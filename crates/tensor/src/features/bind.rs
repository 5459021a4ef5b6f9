//! [`Instance`]: where an instance holds the cell of a column.

use formats::Value;

use super::{Cell, ColumnKind, FeatureStep};

/// An instance or row that cannot be fed to the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("instance {instance}: {message}")]
pub struct BindError {
    /// Number of the instance, from 0.
    pub instance: usize,
    /// The field to blame, and why.
    pub message: String,
}

/// An instance whose form is known to fit the model's columns.
pub(crate) enum Instance<'a> {
    /// The one column itself.
    Single(&'a Value),
    /// Numbers in column order.
    Numbers(Vec<f64>),
    /// Values in column order.
    List(&'a [Value]),
    /// One value per column, by name.
    Fields(Vec<&'a Value>),
}

impl<'a> Instance<'a> {
    /// Finds the columns of `step` in `value`.
    pub(crate) fn new(step: &FeatureStep, value: &'a Value) -> Result<Self, String> {
        let columns = step.columns();
        match value {
            Value::Record(fields) => Self::record(step, value, fields),
            Value::Numbers(numbers) if numbers.len() == columns.len() => {
                Ok(Instance::Numbers(numbers.clone()))
            }
            Value::List(list) if list.len() == columns.len() && !list.iter().any(is_list) => {
                Ok(Instance::List(list))
            }
            Value::Numbers(_) | Value::List(_) => {
                let all_numbers = columns.iter().all(|c| c.kind == ColumnKind::Number);
                let mut numbers = Vec::with_capacity(columns.len());
                if all_numbers
                    && flatten(value, columns.len(), &mut numbers)
                    && numbers.len() == columns.len()
                {
                    return Ok(Instance::Numbers(numbers));
                }
                Err(format!("expected a list of {} values: {}", columns.len(), describe(step)))
            }
            _ if columns.len() == 1 => Ok(Instance::Single(value)),
            other => Err(format!("expected an object with {}, found {}", describe(step), other.kind())),
        }
    }

    fn record(step: &FeatureStep, value: &'a Value, fields: &'a [(String, Value)]) -> Result<Self, String> {
        let known = |name: &String| *name == step.label || step.columns().iter().any(|c| c.name == *name);
        if let Some((name, _)) = fields.iter().find(|(name, _)| !known(name)) {
            return Err(format!(
                "field `{name}` is not an input of the model, which takes {}",
                describe(step)
            ));
        }
        let find = |name: &str| value.get(name).ok_or_else(|| format!("field `{name}` is missing"));
        step.columns().iter().map(|c| find(&c.name)).collect::<Result<_, _>>().map(Instance::Fields)
    }

    /// The cell of a column.
    pub(crate) fn cell(&self, column: usize) -> Cell<'_> {
        match self {
            Instance::Single(value) => Cell::from(*value),
            Instance::Numbers(numbers) => numbers.get(column).map_or(Cell::Missing, |n| Cell::Number(*n)),
            Instance::List(list) => list.get(column).map_or(Cell::Missing, Cell::from),
            Instance::Fields(fields) => fields.get(column).map_or(Cell::Missing, |v| Cell::from(*v)),
        }
    }
}

fn is_list(value: &Value) -> bool {
    matches!(value, Value::List(_) | Value::Numbers(_))
}

/// Numbers of nested lists in order; false if there is anything else or more than `max`.
fn flatten(value: &Value, max: usize, into: &mut Vec<f64>) -> bool {
    match value {
        Value::Numbers(numbers) => {
            into.extend(numbers);
            into.len() <= max
        }
        Value::List(list) => list.iter().all(|v| flatten(v, max, into)),
        _ => false,
    }
}

/// The columns, a few by name.
fn describe(step: &FeatureStep) -> String {
    let names: Vec<String> = step.columns().iter().take(8).map(|c| format!("`{}`", c.name)).collect();
    let more = step.columns().len().saturating_sub(names.len());
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{tail}", names.join(", "))
}
