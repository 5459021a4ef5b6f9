//! [`Selector`]: which fields of a row the model sees, and which one stands for the row in the output.

use std::borrow::Cow;

use formats::Value;
use formats::rows::RowBlock;

use crate::{Error, InstanceFields, InstanceType, Result};

/// Does what a job's [`InstanceFields`] say.
pub(super) struct Selector(InstanceFields);

/// An instance that the model sees, and the row's key where there is one.
pub(super) type Selected = (Value, Option<Value>);

impl Selector {
    pub(super) fn new(fields: &InstanceFields) -> Self {
        Selector(fields.clone())
    }

    /// Whether rows are written as their keys.
    pub(super) fn has_key(&self) -> bool {
        self.0.key.is_some()
    }

    /// The part of a table that the model sees, and the column of the key.
    ///
    /// # Errors
    /// If a column that is named is not there; or no column is left.
    pub(super) fn table<'b>(
        &self,
        uri: &str,
        block: &'b RowBlock,
    ) -> Result<(Cow<'b, RowBlock>, Option<usize>)> {
        let InstanceFields { included, excluded, key, .. } = &self.0;
        let place = |name: &String| {
            block.column(name).ok_or_else(|| Error::invalid(format!("{uri} has no column `{name}`")))
        };
        let key = key.as_ref().map(place).transpose()?;
        let excluded = excluded.iter().map(place).collect::<Result<Vec<_>>>()?;
        let seen: Vec<usize> = match included.is_empty() {
            true => (0..block.columns()).filter(|at| Some(*at) != key && !excluded.contains(at)).collect(),
            false => included.iter().map(place).collect::<Result<_>>()?,
        };
        if seen.is_empty() {
            return Err(Error::invalid(format!("of {uri} no column is left for the model")));
        }
        let all = seen.iter().copied().eq(0..block.columns());
        Ok((if all { Cow::Borrowed(block) } else { Cow::Owned(block.project(&seen)) }, key))
    }

    /// What the model sees of an instance, and its key.
    ///
    /// # Errors
    /// Why there is no such part of it.
    pub(super) fn value(&self, value: &Value) -> std::result::Result<Selected, String> {
        let InstanceFields { included, excluded, key, kind } = &self.0;
        if *kind == InstanceType::AsWritten && included.is_empty() && excluded.is_empty() && key.is_none() {
            return Ok((value.clone(), None));
        }
        let Value::Record(fields) = value else {
            return Err(format!("expected an object, of which fields are chosen; found {}", value.kind()));
        };
        let field =
            |name: &String| value.get(name).cloned().ok_or_else(|| format!("field `{name}` is missing"));
        let key = key.as_ref().map(|name| Ok::<_, String>((name, field(name)?))).transpose()?;
        let is_key = |name: &String| key.as_ref().is_some_and(|(key, _)| *key == name);
        let seen: Vec<(String, Value)> = match included.is_empty() {
            true => {
                let kept = fields.iter().filter(|(name, _)| !is_key(name) && !excluded.contains(name));
                kept.cloned().collect()
            }
            false => {
                let chosen = included.iter().map(|name| Ok((name.clone(), field(name)?)));
                chosen.collect::<std::result::Result<_, String>>()?
            }
        };
        let instance = match kind {
            InstanceType::Array => list(seen.into_iter().map(|(_, value)| value).collect()),
            InstanceType::Object | InstanceType::AsWritten => Value::Record(seen),
        };
        Ok((instance, key.map(|(_, value)| value)))
    }
}

/// A list, which is one of numbers where it holds nothing else.
fn list(values: Vec<Value>) -> Value {
    let number = |value: &Value| if let Value::Number(number) = value { Some(*number) } else { None };
    match values.iter().map(number).collect::<Option<Vec<f64>>>().filter(|numbers| !numbers.is_empty()) {
        Some(numbers) => Value::Numbers(numbers),
        None => Value::List(values),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn selector(change: impl FnOnce(&mut InstanceFields)) -> Selector {
        let mut fields = InstanceFields::default();
        change(&mut fields);
        Selector::new(&fields)
    }

    fn value(json: &str) -> Value {
        serde_json::from_str(json).unwrap()
    }

    const ROW: &str = r#"{"id": "a7", "x": 1, "y": 2, "note": "n"}"#;

    #[test]
    fn an_instance_is_what_is_chosen_of_the_row() {
        let keyed = selector(|fields| {
            fields.key = Some("id".into());
            fields.excluded = vec!["note".into()];
        });
        let key = Some(Value::Text("a7".into()));
        assert_eq!(keyed.value(&value(ROW)).unwrap(), (value(r#"{"x": 1, "y": 2}"#), key.clone()));
        let ordered = selector(|fields| {
            fields.key = Some("id".into());
            fields.included = vec!["y".into(), "x".into()];
            fields.kind = InstanceType::Array;
        });
        assert_eq!(ordered.value(&value(ROW)).unwrap(), (value("[2, 1]"), key));
        let plain = selector(|_| {});
        assert_eq!(plain.value(&value("[1]")).unwrap(), (value("[1]"), None));
        assert!(keyed.value(&value("[1]")).unwrap_err().contains("expected an object"));
        assert_eq!(keyed.value(&value("{}")).unwrap_err(), "field `id` is missing");
    }

    #[test]
    fn a_table_keeps_the_columns_that_are_chosen() {
        let names = ["id", "x", "y"].map(str::to_owned).to_vec();
        let block = RowBlock::new(names, 4, &[vec!["a7", "1", "2"]]).unwrap();
        let keyed = selector(|fields| fields.key = Some("id".into()));
        let (seen, key) = keyed.table("gs://b/o", &block).unwrap();
        assert_eq!((seen.names(), key), (&["x".to_owned(), "y".to_owned()][..], Some(0)));
        assert_eq!((seen.cell(0, 1), seen.row_number(0)), ("2", 4));
        let turned = selector(|fields| fields.included = vec!["y".into(), "x".into()]);
        assert_eq!(turned.table("gs://b/o", &block).unwrap().0.cell(0, 0), "2");
        let none = selector(|fields| fields.excluded = vec!["id".into(), "x".into(), "y".into()]);
        assert!(none.table("gs://b/o", &block).unwrap_err().message.contains("no column is left"));
        let unknown = selector(|fields| fields.key = Some("key".into()));
        assert!(unknown.table("gs://b/o", &block).unwrap_err().message.contains("no column `key`"));
    }
}
