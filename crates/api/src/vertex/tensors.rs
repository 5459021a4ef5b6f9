//! Vertex's `Tensor`, a value with its type beside it, as instances and predictions are in `serverStreamingPredict`.

use std::collections::BTreeMap;

use formats::Value as Instance;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::Fault;

/// Dimensions of a tensor at most.
const DIMENSIONS_MAX: usize = 8;

/// `Tensor`, as canonical JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Tensor {
    #[serde(default)]
    dtype: String,
    #[serde(default)]
    shape: Vec<String>,
    #[serde(default)]
    bool_val: Vec<Instance>,
    #[serde(default)]
    string_val: Vec<Instance>,
    #[serde(default)]
    bytes_val: Vec<Instance>,
    #[serde(default)]
    float_val: Vec<Instance>,
    #[serde(default)]
    double_val: Vec<Instance>,
    #[serde(default)]
    int_val: Vec<Instance>,
    #[serde(default)]
    int64_val: Vec<String>,
    #[serde(default)]
    uint_val: Vec<Instance>,
    #[serde(default)]
    uint64_val: Vec<String>,
    #[serde(default)]
    list_val: Vec<Tensor>,
    #[serde(default)]
    struct_val: BTreeMap<String, Tensor>,
    #[serde(default)]
    tensor_val: String,
}

impl Tensor {
    /// Whether nothing is said.
    pub(super) fn is_empty(&self) -> bool {
        self.tensor_val.is_empty() && self.struct_val.is_empty() && self.list_val.is_empty() && {
            let values = [&self.bool_val, &self.string_val, &self.bytes_val, &self.float_val];
            let more = [&self.double_val, &self.int_val, &self.uint_val];
            values.iter().chain(&more).all(|values| values.is_empty())
                && self.int64_val.is_empty()
                && self.uint64_val.is_empty()
        }
    }

    /// The instance that it is: a value, or lists of the shape that it states; bytes are as an image's, `{"b64": …}`.
    pub(super) fn instance(self) -> Result<Instance, Fault> {
        if !self.tensor_val.is_empty() {
            let message =
                "field `tensorVal`: values in bytes are not read: give them in the field of their type";
            return Err(Fault::unimplemented(message));
        }
        let bytes = |text| Instance::Record(vec![("b64".to_owned(), text)]);
        let long =
            [self.int64_val, self.uint64_val].map(|texts| texts.iter().map(|text| whole(text)).collect());
        let [int64, uint64]: [Result<Vec<Instance>, Fault>; 2] = long;
        let typed = [
            (&["BOOL"][..], self.bool_val),
            (&["STRING"], self.string_val),
            (&["STRING"], self.bytes_val.into_iter().map(bytes).collect()),
            (&["FLOAT"], self.float_val),
            (&["DOUBLE"], self.double_val),
            (&["INT8", "INT16", "INT32"], self.int_val),
            (&["INT64"], int64?),
            (&["UINT8", "UINT16", "UINT32"], self.uint_val),
            (&["UINT64"], uint64?),
        ];
        let mut given = typed.into_iter().filter(|(_, values)| !values.is_empty());
        let (first, second) = (given.next(), given.next());
        let kinds = usize::from(first.is_some())
            + usize::from(second.is_some())
            + usize::from(!self.list_val.is_empty())
            + usize::from(!self.struct_val.is_empty());
        if kinds > 1 {
            return Err(Fault::invalid("a tensor has values of one type, in one of its fields"));
        }
        if let Some((types, values)) = first {
            if !matches!(self.dtype.as_str(), "" | "DATA_TYPE_UNSPECIFIED") && !types.contains(&&*self.dtype)
            {
                let message = format!("a tensor's dtype is {}, and its values are {}", self.dtype, types[0]);
                return Err(Fault::invalid(message));
            }
            return shaped(values, &self.shape);
        }
        if !self.struct_val.is_empty() {
            let fields = self.struct_val.into_iter();
            let fields = fields.map(|(name, tensor)| Ok((name, tensor.instance()?)));
            return Ok(Instance::Record(fields.collect::<Result<_, Fault>>()?));
        }
        let items = self.list_val.into_iter().map(Tensor::instance).collect::<Result<_, Fault>>()?;
        Ok(list(items))
    }
}

/// An integer of 64 bits, which JSON has as a text.
fn whole(text: &str) -> Result<Instance, Fault> {
    serde_json::from_str(text).map_err(|e| Fault::invalid(format!("the integer {text:?} of a tensor: {e}")))
}

/// A list of numbers only is one of [`Instance::Numbers`].
fn list(items: Vec<Instance>) -> Instance {
    let numbers = items.iter().map(|item| match item {
        Instance::Number(number) => Some(*number),
        _ => None,
    });
    match numbers.collect::<Option<Vec<f64>>>() {
        Some(numbers) if !numbers.is_empty() => Instance::Numbers(numbers),
        _ => Instance::List(items),
    }
}

/// The values in lists of these lengths. One value without a shape is that value.
fn shaped(mut values: Vec<Instance>, shape: &[String]) -> Result<Instance, Fault> {
    if shape.is_empty() {
        return Ok(match values.len() {
            1 => values.remove(0),
            _ => list(values),
        });
    }
    let wrong =
        || Fault::invalid(format!("a tensor's shape {shape:?} is not that of {} values", values.len()));
    let lengths: Vec<usize> =
        shape.iter().map(|length| length.parse().map_err(|_| wrong())).collect::<Result<_, Fault>>()?;
    let product = lengths.iter().try_fold(1usize, |product, &length| product.checked_mul(length));
    if product != Some(values.len()) || lengths.len() > DIMENSIONS_MAX {
        return Err(wrong());
    }
    for &length in lengths.iter().skip(1).rev() {
        let mut rest = values.into_iter();
        values = std::iter::from_fn(|| {
            let part: Vec<Instance> = rest.by_ref().take(length).collect();
            (!part.is_empty()).then(|| list(part))
        })
        .collect();
    }
    Ok(list(values))
}

/// A prediction as a tensor.
pub(super) fn tensor(value: Value) -> Value {
    match value {
        Value::Null => json!({}),
        Value::Bool(value) => json!({"dtype": "BOOL", "boolVal": [value]}),
        Value::Number(number) => json!({"dtype": "DOUBLE", "doubleVal": [number]}),
        Value::String(text) => json!({"dtype": "STRING", "stringVal": [text]}),
        Value::Array(items) if items.iter().all(Value::is_number) => {
            json!({"dtype": "DOUBLE", "shape": [items.len()], "doubleVal": items})
        }
        Value::Array(items) if items.iter().all(Value::is_string) => {
            json!({"dtype": "STRING", "shape": [items.len()], "stringVal": items})
        }
        Value::Array(items) => json!({"listVal": items.into_iter().map(tensor).collect::<Vec<_>>()}),
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, tensor(value)));
            json!({"structVal": fields.collect::<Map<_, _>>()})
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(json: Value) -> Result<Instance, Fault> {
        serde_json::from_value::<Tensor>(json).unwrap().instance()
    }

    #[test]
    fn a_tensor_is_an_instance() {
        for (json, instance) in [
            (json!({"dtype": "DOUBLE", "doubleVal": [1.5]}), Instance::Number(1.5)),
            (json!({"floatVal": [1, 2]}), Instance::Numbers(vec![1.0, 2.0])),
            (json!({"shape": ["1"], "int64Val": ["7"]}), Instance::Numbers(vec![7.0])),
            (
                json!({"shape": ["2", "2"], "intVal": [1, 2, 3, 4]}),
                Instance::List(vec![Instance::Numbers(vec![1.0, 2.0]), Instance::Numbers(vec![3.0, 4.0])]),
            ),
            (
                json!({"structVal": {"a": {"stringVal": ["x"]}}}),
                Instance::Record(vec![("a".to_owned(), Instance::Text("x".to_owned()))]),
            ),
            (
                json!({"listVal": [{"boolVal": [true]}, {}]}),
                Instance::List(vec![Instance::Bool(true), Instance::List(vec![])]),
            ),
        ] {
            assert_eq!(read(json.clone()).unwrap(), instance, "{json}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for json in [
            json!({"doubleVal": [1], "intVal": [1]}),
            json!({"doubleVal": [1], "structVal": {"a": {}}}),
            json!({"dtype": "INT64", "doubleVal": [1]}),
            json!({"shape": ["3"], "doubleVal": [1]}),
            json!({"shape": ["-1"], "doubleVal": [1]}),
            json!({"shape": ["18446744073709551615", "2"], "doubleVal": [1]}),
            json!({"shape": ["1", "1", "1", "1", "1", "1", "1", "1", "1"], "doubleVal": [1]}),
            json!({"int64Val": ["9007199254740993"]}),
            json!({"tensorVal": "AAAA"}),
        ] {
            assert!(read(json.clone()).is_err(), "{json}");
        }
    }

    #[test]
    fn a_prediction_is_a_tensor() {
        let made = tensor(json!({"label": "a", "scores": [0.5, 0.5]}));
        assert_eq!(made["structVal"]["label"], json!({"dtype": "STRING", "stringVal": ["a"]}));
        assert_eq!(made["structVal"]["scores"]["shape"], json!([2]));
    }
}
