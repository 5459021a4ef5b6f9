//! Instances and predictions in rows and in columns, as TensorFlow Serving and MLflow have them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use formats::Value;
use serving::{Model, PredictorRoute};
use tensor::features::ColumnKind;
use tensor::{Data, Tensor, Tensors};

use crate::http::App;
use crate::{Fault, metering};

/// Numbers that JSON does not have, as these protocols write them.
const NOT_NUMBERS: [(&str, f64); 3] =
    [("NaN", f64::NAN), ("Infinity", f64::INFINITY), ("-Infinity", f64::NEG_INFINITY)];

/// JSON in which `NaN`, `Infinity` and `-Infinity` may stand for numbers, as JSON: they become objects whose one field
/// has no name, which no model takes.
pub(crate) fn without_tokens(body: &[u8]) -> Vec<u8> {
    let mut clean = Vec::with_capacity(body.len());
    let mut rest = body;
    let mut quoted = false;
    while let Some((&byte, after)) = rest.split_first() {
        let token = NOT_NUMBERS.iter().position(|(token, _)| !quoted && rest.starts_with(token.as_bytes()));
        if let Some(place) = token {
            clean.extend_from_slice(format!("{{\"\":{place}}}").as_bytes());
            rest = &rest[NOT_NUMBERS[place].0.len()..];
            continue;
        }
        if quoted && byte == b'\\' {
            let (escape, after) = rest.split_at(rest.len().min(2));
            clean.extend_from_slice(escape);
            rest = after;
            continue;
        }
        quoted ^= byte == b'"';
        clean.push(byte);
        rest = after;
    }
    clean
}

/// The value with what stands for numbers that JSON does not have and for bytes in base64 (`{"b64": …}`) put in place.
/// Of a model with columns a cell may come in a list of one.
pub(crate) fn unwrapped(model: &Model, value: Value) -> Result<Value, Fault> {
    Ok(match value {
        Value::Record(fields) => match fields.as_slice() {
            [(name, Value::Number(place))] if name.is_empty() => {
                let token = NOT_NUMBERS.get(*place as usize).map_or(f64::NAN, |(_, number)| *number);
                Value::Number(token)
            }
            [(name, Value::Text(base64))] if name == "b64" => decoded(model, base64)?,
            _ => {
                let cells = model.columns().is_some();
                let fields = fields.into_iter().map(|(name, value)| {
                    let value = unwrapped(model, value)?;
                    Ok((name, if cells { lone(value) } else { value }))
                });
                Value::Record(fields.collect::<Result<_, Fault>>()?)
            }
        },
        Value::List(items) => {
            let items = items.into_iter().map(|item| unwrapped(model, item));
            Value::List(items.collect::<Result<_, Fault>>()?)
        }
        plain => plain,
    })
}

/// Bytes as the model takes them: a text, or an image file in base64.
fn decoded(model: &Model, base64: &str) -> Result<Value, Fault> {
    let broken = |e| Fault::invalid(format!("`b64` does not hold base64: {e}"));
    let bytes = STANDARD.decode(base64).map_err(broken)?;
    let pictures = model.columns().unwrap_or_default().iter().any(|column| column.kind == ColumnKind::Image);
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Value::Text(text)),
        Err(_) if pictures => Ok(Value::Text(base64.to_owned())),
        Err(_) => Err(Fault::invalid("`b64` holds bytes that are no text, and the model takes no images")),
    }
}

/// The one element of a list, or what is no list of one.
fn lone(value: Value) -> Value {
    match value {
        Value::Numbers(numbers) if numbers.len() == 1 => {
            Value::Number(numbers.first().copied().unwrap_or_default())
        }
        Value::List(mut items) if items.len() == 1 => items.pop().unwrap_or(Value::Null),
        other => other,
    }
}

/// Rows from columns: an object of lists by input, or the one input's list. What stands for numbers and bytes is put in place.
pub(crate) fn of_columns(model: &Model, columns: Value) -> Result<Vec<Value>, Fault> {
    let Value::Record(fields) = columns else {
        return items("inputs", columns)?.into_iter().map(|row| unwrapped(model, row)).collect();
    };
    let known = |name: &String| model.ports().inputs.iter().any(|spec| spec.name == *name);
    if let Some((name, _)) = fields.iter().find(|(name, _)| !known(name)) {
        let taken: Vec<String> =
            model.ports().inputs.iter().take(8).map(|spec| format!("`{spec}`")).collect();
        let (name, taken) = (name.chars().take(80).collect::<String>(), taken.join(", "));
        return Err(Fault::invalid(format!("`{name}` is not an input of the model, which takes {taken}")));
    }
    let mut rows: Vec<Vec<(String, Value)>> = Vec::new();
    for (place, (name, column)) in fields.into_iter().enumerate() {
        let cells = items(&name, column)?;
        if place == 0 {
            rows.resize_with(cells.len(), Vec::new);
        }
        if cells.len() != rows.len() {
            let (wanted, found) = (rows.len(), cells.len());
            return Err(Fault::invalid(format!(
                "input `{name}` has {found} rows and the one before it {wanted}"
            )));
        }
        for (row, cell) in rows.iter_mut().zip(cells) {
            row.push((name.clone(), cell));
        }
    }
    rows.into_iter().map(|row| unwrapped(model, Value::Record(row))).collect()
}

fn items(name: &str, list: Value) -> Result<Vec<Value>, Fault> {
    match list {
        Value::List(items) => Ok(items),
        Value::Numbers(numbers) => Ok(numbers.into_iter().map(Value::Number).collect()),
        other => Err(Fault::invalid(format!(
            "`{name}` must be a list with an item for each row, not {}",
            other.kind()
        ))),
    }
}

/// What the model that was chosen predicts of `instances`.
pub(crate) async fn predict(
    app: &App,
    route: &PredictorRoute,
    instances: Vec<Value>,
    began: std::time::Instant,
) -> Result<serving::Predictions, Fault> {
    let deadline = began + app.limits.predict_timeout;
    let rows = instances.len();
    metering::reserve_rows(app, &route.deployed, rows)?;
    let predictions = app.router.predict_on(route, instances, deadline).await?;
    metering::predicted(app, rows).await;
    Ok(predictions)
}

/// The predictions as tensors by name.
pub(crate) fn tensors(
    app: &App,
    route: &PredictorRoute,
    predictions: &serving::Predictions,
) -> Result<Tensors, Fault> {
    Ok(app.router.tensors(route, predictions)?)
}

/// Appends row `i` of the tensors: of one output as it is, of several as an object by name.
pub(crate) fn put_row(tensors: &Tensors, i: usize, into: &mut Vec<u8>) {
    let row = |tensor: &Tensor, into: &mut Vec<u8>| {
        let shape = tensor.shape().get(1..).unwrap_or_default();
        put(tensor.data(), i * tensor.row_len(), shape, into);
    };
    match tensors.as_slice() {
        [(_, only)] => row(only, into),
        several => put_object(several, into, row),
    }
}

/// Appends the tensors whole: one output as it is, several as an object by name.
pub(crate) fn put_columns(tensors: &Tensors, into: &mut Vec<u8>) {
    let whole = |tensor: &Tensor, into: &mut Vec<u8>| put(tensor.data(), 0, tensor.shape(), into);
    match tensors.as_slice() {
        [(_, only)] => whole(only, into),
        several => put_object(several, into, whole),
    }
}

fn put_object(tensors: &[(String, Tensor)], into: &mut Vec<u8>, put: impl Fn(&Tensor, &mut Vec<u8>)) {
    into.push(b'{');
    for (place, (name, tensor)) in tensors.iter().enumerate() {
        if place > 0 {
            into.push(b',');
        }
        put_text(name, into);
        into.push(b':');
        put(tensor, into);
    }
    into.push(b'}');
}

/// Appends the elements from `start` on as lists nested like `shape`.
fn put(data: &Data, start: usize, shape: &[usize], into: &mut Vec<u8>) {
    let [count, inner @ ..] = shape else {
        match data {
            Data::F32(v) => put_number(v.get(start).copied().unwrap_or(f32::NAN), into),
            Data::I32(v) => into.extend_from_slice(v.get(start).copied().unwrap_or(0).to_string().as_bytes()),
            Data::Text(v) => put_text(v.get(start).map_or("", String::as_str), into),
        }
        return;
    };
    let width: usize = inner.iter().product();
    into.push(b'[');
    for i in 0..*count {
        if i > 0 {
            into.push(b',');
        }
        put(data, start + i * width, inner, into);
    }
    into.push(b']');
}

/// Appends a number, or the token for what is none.
pub(crate) fn put_number(number: f32, into: &mut Vec<u8>) {
    let token = match number {
        n if n.is_nan() => "NaN",
        f32::INFINITY => "Infinity",
        f32::NEG_INFINITY => "-Infinity",
        n => {
            // Writing to memory does not fail.
            let _ = serde_json::to_writer(into, &n);
            return;
        }
    };
    into.extend_from_slice(token.as_bytes());
}

/// Appends a text.
pub(crate) fn put_text(text: &str, into: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(into, text);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn tokens_stand_for_what_json_has_not() {
        let clean = |body: &str| String::from_utf8(without_tokens(body.as_bytes())).unwrap();
        assert_eq!(clean("[1,NaN,-Infinity]"), r#"[1,{"":0},{"":2}]"#);
        assert_eq!(clean(r#"{"a":Infinity,"NaN":"\"NaN"}"#), r#"{"a":{"":1},"NaN":"\"NaN"}"#);
        assert_eq!(clean("\"\\"), "\"\\");
    }

    #[test]
    fn rows_and_columns_are_nested_as_their_shapes() {
        let number = |shape: &[usize], data| Tensor::new(shape.to_vec(), Data::F32(data)).unwrap();
        let text = Tensor::new(vec![2], Data::Text(vec!["a\"".into(), "b".into()])).unwrap();
        let both =
            vec![("l".to_owned(), text), ("s".to_owned(), number(&[2, 2], vec![0.1, f32::NAN, 1.0, 2.0]))];
        let row = |tensors: &Tensors, i| {
            let mut into = Vec::new();
            put_row(tensors, i, &mut into);
            String::from_utf8(into).unwrap()
        };
        assert_eq!(row(&both, 0), r#"{"l":"a\"","s":[0.1,NaN]}"#);
        assert_eq!(row(&both[1..].to_vec(), 1), "[1.0,2.0]");
        let mut into = Vec::new();
        put_columns(&both[1..].to_vec(), &mut into);
        assert_eq!(into, b"[[0.1,NaN],[1.0,2.0]]");
    }
}
