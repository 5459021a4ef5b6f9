//! Conversions that several collections share.

use std::collections::BTreeMap;

use control::{Job, JobError, Parent, Timestamp};
use serde_json::{Map, Value, json};

use crate::{Code, Fault};

/// A timestamp as ProtoJSON writes it.
pub(super) fn time(at: Timestamp) -> Value {
    Value::String(at.to_string())
}

/// Whole numbers written as such: a `Struct` carries every number as a double.
pub(super) fn whole_numbers(value: Value) -> Value {
    match value {
        Value::Number(n) => match n.as_f64() {
            Some(f) if n.is_f64() && f.fract() == 0.0 && f.abs() < 9_007_199_254_740_992.0 => {
                Value::from(f as i64)
            }
            _ => Value::Number(n),
        },
        Value::Array(items) => items.into_iter().map(whole_numbers).collect(),
        Value::Object(fields) => fields.into_iter().map(|(k, v)| (k, whole_numbers(v))).collect(),
        other => other,
    }
}

/// `google.rpc.Status` of a job's error.
pub(super) fn status(error: &JobError) -> Value {
    json!({"code": Code::from(error.code).number(), "message": error.message})
}

/// Labels as a JSON object.
pub(super) fn labels(labels: &BTreeMap<String, String>) -> Value {
    labels.iter().map(|(k, v)| (k.clone(), Value::from(v.as_str()))).collect::<Map<_, _>>().into()
}

/// What all kinds of jobs say of themselves, with the word that their kind has for the state.
pub(super) fn job(job: &Job, state: &str) -> Map<String, Value> {
    let mut wire = Map::new();
    let mut set = |name: &str, value: Value| wire.insert(name.to_owned(), value);
    set("name", job.name.clone().into());
    set("labels", labels(&job.labels));
    set("state", state.into());
    set("createTime", time(job.create_time));
    set("updateTime", time(job.update_time));
    for (name, at) in [("startTime", job.start_time), ("endTime", job.end_time)] {
        if let Some(at) = at {
            set(name, time(at));
        }
    }
    if let Some(error) = &job.error {
        set("error", status(error));
    }
    wire
}

/// The fields of a field mask, camelCase as ProtoJSON has them.
pub(super) fn mask(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|path| !path.is_empty())
}

/// A field of an update mask that cannot be changed.
pub(super) fn unchangeable(path: &str) -> Fault {
    Fault::unimplemented(format!("updateMask names `{path}`, which cannot be changed on this server"))
}

/// Traffic percentages as `control` takes them.
pub(super) fn split(percents: BTreeMap<String, i32>) -> Result<BTreeMap<String, u32>, Fault> {
    percents
        .into_iter()
        .map(|(id, percent)| match u32::try_from(percent) {
            Ok(percent) => Ok((id, percent)),
            Err(_) => Err(Fault::invalid(format!("trafficSplit[{id:?}] is {percent}; it must be 0 to 100"))),
        })
        .collect()
}

/// A model, endpoint or dataset that a body names by resource name or by its id alone.
pub(super) fn full_name(parent: &Parent, collection: &str, text: &str) -> String {
    if text.contains('/') { text.to_owned() } else { parent.child(collection, text) }
}

/// Moves the fields of `from` into `into`, leaving what is there.
pub(super) fn overlay(into: &mut Map<String, Value>, from: &Value) {
    for (name, value) in from.as_object().into_iter().flatten() {
        into.entry(name.clone()).or_insert_with(|| value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_doubles_become_integers_and_others_stay() {
        let read = json!({"epochs": 10.0, "rate": 0.5, "layers": [64.0], "big": 1e300, "n": 3, "t": "1.0"});
        let expected = json!({"epochs": 10, "rate": 0.5, "layers": [64], "big": 1e300, "n": 3, "t": "1.0"});
        assert_eq!(whole_numbers(read), expected);
    }
}
