//! The tensors that a model takes by name: those of its network, or one for each column of a model that has such.

use formats::Value;
use tensor::features::{ColumnKind, InputColumn};
use tensor::{Data, DataType, Dim, Signature, Tensor, TensorSpec, Tensors};

use crate::error::PredictError;
use crate::predictions::{Form, LABEL, Ranked, SCORES, VALUE};

/// What a model with columns takes and gives: a cell of each column a row, and what its answers read as.
pub(crate) fn of_columns(columns: &[InputColumn], form: &Form) -> Signature {
    let spec = |name: &str, data_type, shape: &[Dim]| TensorSpec {
        name: name.to_owned(),
        data_type,
        shape: shape.to_vec(),
    };
    let inputs = columns.iter().map(|column| {
        let data_type = match column.kind {
            ColumnKind::Number => DataType::F32,
            ColumnKind::Text | ColumnKind::Category | ColumnKind::Image => DataType::Text,
        };
        spec(&column.name, data_type, &[Dim::Any, Dim::Fixed(1)])
    });
    let outputs = match form {
        Form::Classes(labels) | Form::Ranked(Ranked { labels, .. }) => vec![
            spec(LABEL, DataType::Text, &[Dim::Any]),
            spec(SCORES, DataType::F32, &[Dim::Any, Dim::Fixed(labels.len())]),
        ],
        Form::Value => vec![spec(VALUE, DataType::F32, &[Dim::Any])],
        Form::Tensors => Vec::new(),
    };
    Signature { inputs: inputs.collect(), outputs }
}

/// The tensors given in the order of `ports`, if they are what these say.
pub(crate) fn ordered(ports: &Signature, given: Tensors) -> Result<Tensors, PredictError> {
    let mut places: Vec<Option<Tensor>> = ports.inputs.iter().map(|_| None).collect();
    for (name, tensor) in given {
        let place = ports.inputs.iter().position(|spec| spec.name == name);
        let (Some(place), Some(spec)) = (place, place.and_then(|i| ports.inputs.get(i))) else {
            return Err(misfit(format!(
                "`{name}` is not an input of the model, which takes {}",
                taken(ports)
            )));
        };
        let tensor = fitting(spec, tensor)?;
        if places.get_mut(place).is_some_and(|free| free.replace(tensor).is_some()) {
            return Err(misfit(format!("input `{name}` is given twice")));
        }
    }
    let mut ordered = Tensors::with_capacity(places.len());
    for (spec, tensor) in ports.inputs.iter().zip(places) {
        let missing =
            || misfit(format!("input `{}` is missing; the model takes {}", spec.name, taken(ports)));
        ordered.push((spec.name.clone(), tensor.ok_or_else(missing)?));
    }
    let counts = |spec: &TensorSpec| spec.shape.first() == Some(&Dim::Any);
    let mut counted = ports.inputs.iter().zip(&ordered).filter(|(spec, _)| counts(spec));
    if let Some((_, (first, tensor))) = counted.next() {
        let rows = tensor.rows();
        if let Some((_, (other, tensor))) = counted.find(|(_, (_, tensor))| tensor.rows() != rows) {
            let other_rows = tensor.rows();
            return Err(misfit(format!(
                "input `{first}` has {rows} rows and input `{other}` has {other_rows}; they must have as many"
            )));
        }
    }
    Ok(ordered)
}

/// The tensor, if it is what `spec` says. Rows of one element may come without the dimension for it.
fn fitting(spec: &TensorSpec, tensor: Tensor) -> Result<Tensor, PredictError> {
    let found = tensor.data().data_type();
    if found != spec.data_type {
        return Err(misfit(format!("input `{}` is {}, not {found}", spec.name, spec.data_type)));
    }
    if tensor.data().is_empty() {
        return Err(misfit(format!("input `{}` has no elements; send at least one row", spec.name)));
    }
    let lone =
        matches!(spec.shape.as_slice(), [Dim::Any, ones @ ..] if ones.iter().all(|d| *d == Dim::Fixed(1)));
    let tensor = match tensor.shape() {
        [rows] if lone => {
            let mut shape = vec![1; spec.shape.len()];
            shape[0] = *rows;
            let (_, data) = tensor.into_parts();
            Tensor::new(shape, data).map_err(|e| misfit(format!("input `{}`: {e}", spec.name)))?
        }
        _ => tensor,
    };
    let fits = |(dim, n): (&Dim, &usize)| *dim == Dim::Any || *dim == Dim::Fixed(*n);
    if tensor.shape().len() == spec.shape.len() && spec.shape.iter().zip(tensor.shape()).all(fits) {
        return Ok(tensor);
    }
    Err(misfit(format!("input `{spec}` does not take the shape {:?}", tensor.shape())))
}

/// An instance for each row of the columns' tensors, which are ordered and of one length.
pub(crate) fn instances(columns: &Tensors) -> Vec<Value> {
    let rows = columns.first().map_or(0, |(_, tensor)| tensor.rows());
    let numbers: Option<Vec<&[f32]>> = columns.iter().map(|(_, tensor)| tensor.as_f32()).collect();
    if let Some(numbers) = numbers {
        let row = |i| numbers.iter().filter_map(|cells| cells.get(i)).map(|n| f64::from(*n)).collect();
        return (0..rows).map(|i| Value::Numbers(row(i))).collect();
    }
    let cell = |data: &Data, i: usize| match data {
        Data::F32(v) => v.get(i).map(|n| Value::Number(f64::from(*n))),
        Data::I32(v) => v.get(i).map(|n| Value::Number(f64::from(*n))),
        Data::Text(v) => v.get(i).map(|text| Value::Text(text.clone())),
    };
    let row = |i| columns.iter().map(|(_, tensor)| cell(tensor.data(), i).unwrap_or(Value::Null)).collect();
    (0..rows).map(|i| Value::List(row(i))).collect()
}

/// What the model takes, some of it by name.
fn taken(ports: &Signature) -> String {
    const SHOWN: usize = 8;
    let names: Vec<String> = ports.inputs.iter().take(SHOWN).map(|spec| format!("`{spec}`")).collect();
    let more = ports.inputs.len().saturating_sub(SHOWN);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{tail}", names.join(", "))
}

fn misfit(message: String) -> PredictError {
    PredictError::BadRequest { message }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn column(name: &str, kind: ColumnKind) -> InputColumn {
        InputColumn { name: name.into(), kind }
    }

    fn texts(name: &str, shape: &[usize], cells: &[&str]) -> (String, Tensor) {
        let data = Data::Text(cells.iter().map(|s| (*s).to_owned()).collect());
        (name.into(), Tensor::new(shape.to_vec(), data).unwrap())
    }

    fn numbers(name: &str, shape: &[usize], cells: &[f32]) -> (String, Tensor) {
        (name.into(), Tensor::new(shape.to_vec(), Data::F32(cells.to_vec())).unwrap())
    }

    #[test]
    fn columns_become_rows_in_their_order() {
        let columns = [column("t", ColumnKind::Text), column("n", ColumnKind::Number)];
        let ports = of_columns(&columns, &Form::Classes(vec!["a".into(), "b".into()]));
        let outputs: Vec<String> = ports.outputs.iter().map(ToString::to_string).collect();
        assert_eq!(outputs, ["label: string[?]", "scores: float32[?, 2]"]);
        let given = vec![numbers("n", &[2, 1], &[1.0, 2.5]), texts("t", &[2], &["x", "y"])];
        let rows = instances(&ordered(&ports, given).unwrap());
        assert_eq!(rows[1], Value::List(vec![Value::Text("y".into()), Value::Number(2.5)]));
        let ports = of_columns(&columns[1..], &Form::Value);
        let rows = instances(&ordered(&ports, vec![numbers("n", &[2], &[1.0, 2.5])]).unwrap());
        assert_eq!(rows, [Value::Numbers(vec![1.0]), Value::Numbers(vec![2.5])]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let ports =
            of_columns(&[column("a", ColumnKind::Number), column("b", ColumnKind::Number)], &Form::Value);
        let good = || numbers("a", &[1], &[0.0]);
        for (given, named) in [
            (vec![good()], "input `b` is missing"),
            (vec![good(), good()], "`a` is given twice"),
            (vec![good(), numbers("c", &[1], &[0.0])], "`c` is not an input"),
            (vec![good(), texts("b", &[1], &["x"])], "`b` is float32, not string"),
            (vec![good(), numbers("b", &[2], &[0.0; 2])], "1 rows and input `b` has 2"),
            (vec![good(), numbers("b", &[1, 2], &[0.0; 2])], "[1, 2]"),
            (vec![numbers("a", &[0], &[]), numbers("b", &[0], &[])], "no elements"),
        ] {
            let message = ordered(&ports, given).unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
        }
    }
}
