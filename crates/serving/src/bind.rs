//! Binding: instances and table rows to the tensors that a model made elsewhere takes.

use std::fmt::Write as _;

use formats::Value;
use formats::rows::{RowBlock, RowFault, parse_number};
use tensor::{Data, DataType, Dim, Tensor, Tensors};

use crate::error::PredictError;
use crate::plan::{Input, empty};

/// The inputs' tensors with one row per instance.
///
/// For a model with one input an instance is that input's row: nested lists of numbers or texts, a bare value
/// where the row has one element, or an object with the input's name. For a model with several inputs an
/// instance is an object by input name.
pub(crate) fn instances(inputs: &[Input], instances: &[Value]) -> Result<Tensors, PredictError> {
    let mut rows: Vec<Filling> = inputs.iter().map(|input| Filling::new(input, instances.len())).collect();
    for (index, instance) in instances.iter().enumerate() {
        add_instance(&mut rows, instance).map_err(|message| PredictError::BadInstance { index, message })?;
    }
    rows.into_iter().map(|filling| filling.finish(instances.len())).collect()
}

fn add_instance(rows: &mut [Filling<'_>], instance: &Value) -> Result<(), String> {
    match (rows, instance) {
        ([only], value) if !matches!(value, Value::Record(_)) => only.add(value),
        (rows, Value::Record(fields)) => {
            if let Some((unknown, _)) = fields.iter().find(|(n, _)| !rows.iter().any(|r| r.input.name == *n))
            {
                return Err(format!(
                    "field `{unknown}` is not an input of the model; it takes {}",
                    describe(rows)
                ));
            }
            rows.iter_mut().try_for_each(|row| match instance.get(&row.input.name) {
                Some(value) => row.add(value),
                None => Err(format!("field `{}` is missing; expected {}", row.input.name, row.expected())),
            })
        }
        (rows, other) => {
            Err(format!("expected an object with the fields {}, found {}", describe(rows), other.kind()))
        }
    }
}

fn describe(rows: &[Filling<'_>]) -> String {
    rows.iter().map(|row| format!("`{}` ({})", row.input.name, row.expected())).collect::<Vec<_>>().join(", ")
}

/// About how many bytes a value takes.
pub(crate) fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::Text(text) => text.len(),
        Value::Numbers(numbers) => 8 * numbers.len(),
        Value::List(values) => values.iter().map(value_bytes).sum(),
        Value::Record(fields) => fields.iter().map(|(name, value)| name.len() + value_bytes(value)).sum(),
    }
}

/// One input's tensor while rows are added.
struct Filling<'a> {
    input: &'a Input,
    /// The shape of a row; open dimensions are decided by the first one.
    shape: Option<Vec<usize>>,
    data: Data,
}

impl<'a> Filling<'a> {
    fn new(input: &'a Input, rows: usize) -> Self {
        let width = input.row.iter().try_fold(1usize, |n, dim| match dim {
            Dim::Fixed(k) => n.checked_mul(*k),
            Dim::Any => Some(n),
        });
        // A signature may claim any size: only what is likely is set aside before the data is there.
        let room = width.unwrap_or(0).saturating_mul(rows).min(1 << 16);
        Filling { input, shape: None, data: empty(input.data_type, room) }
    }

    fn add(&mut self, value: &Value) -> Result<(), String> {
        let mut found = shape_of(value);
        if found.is_empty() && self.wanted().iter().all(|d| *d == Dim::Fixed(1)) {
            found = vec![1; self.input.row.len()];
        }
        let wanted = self.wanted();
        let fits = found.len() == wanted.len()
            && found.iter().zip(&wanted).all(|(n, dim)| matches!(dim, Dim::Any) || *dim == Dim::Fixed(*n));
        if !fits {
            let found = if found.is_empty() { value.kind().to_owned() } else { shape_text(found) };
            return Err(format!("`{}`: expected {}, found {found}", self.input.name, self.expected()));
        }
        let before = self.data.len();
        append(value, &mut self.data, self.input.missing, 0)
            .map_err(|e| format!("`{}`: {e}", self.input.name))?;
        if self.data.len() - before != found.iter().product::<usize>() {
            return Err(format!(
                "`{}`: lists of different lengths; expected {}",
                self.input.name,
                self.expected()
            ));
        }
        self.shape = Some(found);
        Ok(())
    }

    fn wanted(&self) -> Vec<Dim> {
        match &self.shape {
            Some(shape) => shape.iter().copied().map(Dim::Fixed).collect(),
            None => self.input.row.clone(),
        }
    }

    /// `float32[3, ?]`, `a string`.
    fn expected(&self) -> String {
        let wanted = self.wanted();
        if wanted.is_empty() {
            return match self.input.data_type {
                DataType::F32 => "a number".into(),
                DataType::I32 => "an integer".into(),
                DataType::Text => "a string".into(),
            };
        }
        let mut text = format!("{}[", self.input.data_type);
        for (i, dim) in wanted.iter().enumerate() {
            text.push_str(if i > 0 { ", " } else { "" });
            match dim {
                Dim::Any => text.push('?'),
                Dim::Fixed(n) => {
                    let _ = write!(text, "{n}");
                }
            }
        }
        text.push(']');
        text
    }

    fn finish(self, rows: usize) -> Result<(String, Tensor), PredictError> {
        let mut shape = vec![rows];
        shape.extend(self.shape.unwrap_or_default());
        let tensor = Tensor::new(shape, self.data)
            .map_err(|e| PredictError::Failed { message: format!("input `{}`: {e}", self.input.name) })?;
        Ok((self.input.name.clone(), tensor))
    }
}

/// The lengths of nested lists along their first elements.
fn shape_of(value: &Value) -> Vec<usize> {
    let mut shape = Vec::new();
    let mut at = value;
    loop {
        match at {
            Value::Numbers(v) => {
                shape.push(v.len());
                return shape;
            }
            Value::List(v) => {
                shape.push(v.len());
                match v.first() {
                    Some(first) => at = first,
                    None => return shape,
                }
            }
            _ => return shape,
        }
    }
}

fn shape_text(shape: Vec<usize>) -> String {
    let lengths: Vec<String> = shape.iter().map(usize::to_string).collect();
    format!("a list of shape [{}]", lengths.join(", "))
}

/// How deep lists may nest; no tensor has as many dimensions.
const DEPTH_MAX: usize = 32;

fn append(value: &Value, data: &mut Data, missing: bool, depth: usize) -> Result<(), String> {
    match (value, data) {
        (Value::List(values), data) if depth < DEPTH_MAX => {
            values.iter().try_for_each(|v| append(v, data, missing, depth + 1))
        }
        (Value::Null, Data::F32(all)) if missing => {
            all.push(f32::NAN);
            Ok(())
        }
        (Value::Null, _) => Err("a value is missing, and the model says nothing of missing values".into()),
        (Value::Number(v), Data::F32(all)) => float(*v).map(|v| all.push(v)),
        (Value::Numbers(v), Data::F32(all)) => {
            for v in v {
                all.push(float(*v)?);
            }
            Ok(())
        }
        (Value::Number(v), Data::I32(all)) => integer(*v).map(|v| all.push(v)),
        (Value::Numbers(v), Data::I32(all)) => {
            for v in v {
                all.push(integer(*v)?);
            }
            Ok(())
        }
        (Value::Bool(v), Data::I32(all)) => {
            all.push(i32::from(*v));
            Ok(())
        }
        (Value::Text(v), Data::Text(all)) => {
            all.push(v.clone());
            Ok(())
        }
        (other, data) => Err(format!("expected {}, found {}", data.data_type(), other.kind())),
    }
}

fn float(v: f64) -> Result<f32, String> {
    let narrow = v as f32;
    // What is no number came as such: only a number that would become none is refused.
    if narrow.is_finite() || !v.is_finite() {
        Ok(narrow)
    } else {
        Err(format!("{v} is not a finite float32 number"))
    }
}

fn integer(v: f64) -> Result<i32, String> {
    if v.fract() == 0.0 && v >= f64::from(i32::MIN) && v <= f64::from(i32::MAX) {
        Ok(v as i32)
    } else {
        Err(format!("{v} is not an integer between {} and {}", i32::MIN, i32::MAX))
    }
}

/// The inputs' tensors with one row per good row of a table, and what is wrong with the others.
///
/// The columns feed the inputs by name; a model with one input that no column is named after takes all
/// columns in their order.
pub(crate) fn table(inputs: &[Input], block: &RowBlock) -> Result<(Tensors, Vec<RowFault>), PredictError> {
    let sources =
        inputs.iter().map(|input| columns_of(input, inputs.len(), block)).collect::<Result<Vec<_>, _>>()?;
    let missing: Vec<bool> = inputs.iter().map(|input| input.missing).collect();
    let mut data: Vec<Data> = inputs
        .iter()
        .zip(&sources)
        .map(|(input, (columns, _))| empty(input.data_type, columns.len() * block.rows()))
        .collect();
    let mut faults = Vec::new();
    let mut rows = 0;
    for row in 0..block.rows() {
        let before: Vec<usize> = data.iter().map(Data::len).collect();
        match append_row(&sources, &missing, block, row, &mut data) {
            Ok(()) => rows += 1,
            Err(reason) => {
                faults.push(RowFault { row: block.row_number(row), reason });
                data.iter_mut().zip(before).for_each(|(data, n)| truncate(data, n));
            }
        }
    }
    let tensors = inputs.iter().zip(sources).zip(data).map(|((input, (_, row_shape)), data)| {
        let mut shape = vec![rows];
        shape.extend(row_shape);
        let tensor = Tensor::new(shape, data).map_err(|e| PredictError::Failed { message: e.to_string() })?;
        Ok((input.name.clone(), tensor))
    });
    Ok((tensors.collect::<Result<_, PredictError>>()?, faults))
}

/// The columns that make a row of `input`, and the row's shape.
fn columns_of(
    input: &Input,
    inputs: usize,
    block: &RowBlock,
) -> Result<(Vec<usize>, Vec<usize>), PredictError> {
    let open = input.row.iter().filter(|d| **d == Dim::Any).count();
    let fixed: usize = input.row.iter().map(|d| if let Dim::Fixed(n) = d { *n } else { 1 }).product();
    let columns = match block.column(&input.name) {
        Some(column) => vec![column],
        None if inputs == 1 => (0..block.columns()).collect(),
        None => {
            let message =
                format!("column `{}` is missing; the model takes its inputs by these names", input.name);
            return Err(PredictError::BadRequest { message });
        }
    };
    let n = columns.len();
    let fits = if open == 0 { n == fixed } else { open == 1 && fixed > 0 && n.is_multiple_of(fixed) };
    if !fits {
        let width = if open == 0 { fixed.to_string() } else { "another number of".into() };
        let message =
            format!("input `{}` of the model takes {width} columns, the table has {n} for it", input.name);
        return Err(PredictError::BadRequest { message });
    }
    let shape = input.row.iter().map(|d| if let Dim::Fixed(k) = d { *k } else { n / fixed }).collect();
    Ok((columns, shape))
}

fn append_row(
    sources: &[(Vec<usize>, Vec<usize>)],
    missing: &[bool],
    block: &RowBlock,
    row: usize,
    data: &mut [Data],
) -> Result<(), String> {
    for (((columns, _), missing), data) in sources.iter().zip(missing).zip(data) {
        for &column in columns {
            let cell = block.cell(row, column);
            append_cell(cell, *missing, data)
                .map_err(|e| format!("column `{}`: {e}", block.names()[column]))?;
        }
    }
    Ok(())
}

fn append_cell(cell: &str, missing: bool, data: &mut Data) -> Result<(), String> {
    match data {
        Data::F32(all) if missing && cell.trim().is_empty() => all.push(f32::NAN),
        Data::F32(all) => all.push(float(parse_number(cell).map_err(|e| e.to_string())?)?),
        Data::I32(all) => all.push(integer(parse_number(cell).map_err(|e| e.to_string())?)?),
        Data::Text(all) => all.push(cell.to_owned()),
    }
    Ok(())
}

fn truncate(data: &mut Data, n: usize) {
    match data {
        Data::F32(v) => v.truncate(n),
        Data::I32(v) => v.truncate(n),
        Data::Text(v) => v.truncate(n),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn input(name: &str, data_type: DataType, shape: &[Dim]) -> Input {
        let spec = tensor::TensorSpec { name: name.into(), data_type, shape: shape.to_vec() };
        let signature = tensor::Signature { inputs: vec![spec], outputs: vec![] };
        crate::plan::Plan::new(&signature).inputs.remove(0)
    }

    fn value(json: &str) -> Value {
        serde_json::from_str(json).unwrap()
    }

    fn bound(inputs: &[Input], json: &[&str]) -> Result<Tensors, String> {
        let values: Vec<Value> = json.iter().map(|j| value(j)).collect();
        instances(inputs, &values).map_err(|e| e.to_string())
    }

    const ANY: Dim = Dim::Any;

    #[test]
    fn one_input_takes_lists_bare_values_and_objects() {
        let x = [input("x", DataType::F32, &[ANY, Dim::Fixed(2)])];
        let tensors = bound(&x, &["[1, 2.5]", r#"{"x": [3, 4]}"#]).unwrap();
        assert_eq!(tensors[0].1, Tensor::new(vec![2, 2], Data::F32(vec![1.0, 2.5, 3.0, 4.0])).unwrap());
        let nested = [input("x", DataType::I32, &[ANY, Dim::Fixed(2), ANY])];
        let tensors = bound(&nested, &["[[1, 2, 3], [4, 5, 6]]", "[[1, 2, 3], [true, 5, 6]]"]);
        // A list that holds a boolean is no list of numbers, and still integers.
        assert_eq!(tensors.unwrap()[0].1.shape(), [2, 2, 3]);
        for shape in [&[ANY, Dim::Fixed(1)][..], &[ANY]] {
            let text = [input("t", DataType::Text, shape)];
            let tensors = bound(&text, &[r#""hello""#]).unwrap();
            assert_eq!(tensors[0].1.data(), &Data::Text(vec!["hello".into()]));
            assert_eq!(tensors[0].1.shape().len(), shape.len());
        }
    }

    #[test]
    fn several_inputs_come_by_name() {
        let inputs = [
            input("age", DataType::F32, &[ANY, Dim::Fixed(1)]),
            input("city", DataType::Text, &[ANY, Dim::Fixed(1)]),
        ];
        let tensors = bound(&inputs, &[r#"{"city": "Liège", "age": 3}"#]).unwrap();
        assert_eq!(tensors[0].1.as_f32(), Some(&[3.0][..]));
        assert_eq!(tensors[1].1.data(), &Data::Text(vec!["Liège".into()]));
    }

    #[test]
    fn errors_name_the_instance_the_field_and_both_shapes() {
        let x = [input("x", DataType::F32, &[ANY, Dim::Fixed(3)])];
        let two = [input("a", DataType::I32, &[ANY]), input("b", DataType::Text, &[ANY])];
        let cases: [(&[Input], &[&str], &str); 14] = [
            (&x, &["[1,2,3]", "[1,2]"], "instance 1: `x`: expected float32[3], found a list of shape [2]"),
            (&x, &["5"], "instance 0: `x`: expected float32[3], found a number"),
            (&x, &[r#""abc""#], "`x`: expected float32[3], found a string"),
            (&x, &["null"], "found null"),
            (&x, &["[1, null, 3]"], "`x`: a value is missing"),
            (&x, &[r#"[1, "b", 3]"#], "`x`: expected float32, found a string"),
            (&x, &["[[1,2,3]]"], "found a list of shape [1, 3]"),
            (&x, &["[1, 2, 1e300]"], "is not a finite float32 number"),
            (&x, &[r#"{"y": 1}"#], "field `y` is not an input of the model; it takes `x` (float32[3])"),
            (&x, &["{}"], "field `x` is missing; expected float32[3]"),
            (
                &two,
                &["[1, 2]"],
                "expected an object with the fields `a` (an integer), `b` (a string), found a list",
            ),
            (&two, &[r#"{"a": 1.5, "b": ""}"#], "`a`: 1.5 is not an integer"),
            (&two, &[r#"{"a": 4e9, "b": ""}"#], "is not an integer between -2147483648 and 2147483647"),
            (&two, &[r#"{"a": 1, "b": 2}"#], "`b`: expected string, found a number"),
        ];
        for (inputs, json, expected) in cases {
            let error = bound(inputs, json).unwrap_err();
            assert!(error.contains(expected), "{json:?}: {error}");
        }
    }

    #[test]
    fn what_is_no_number_arrives_as_such() {
        let x = [input("x", DataType::F32, &[ANY, Dim::Fixed(2)])];
        for v in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let bound = instances(&x, &[Value::Numbers(vec![0.0, v])]).unwrap();
            assert_eq!(bound[0].1.as_f32().unwrap()[1].to_bits(), (v as f32).to_bits());
        }
        let whole = [input("x", DataType::I32, &[ANY])];
        assert!(instances(&whole, &[Value::Number(f64::NAN)]).is_err());
    }

    #[test]
    fn ragged_lists_are_refused() {
        let open = [input("x", DataType::F32, &[ANY, ANY, ANY])];
        for json in ["[[1,2],[3]]", "[[1],[2,3]]", "[[1,2],3]", "[[],[1]]", "[1,[2]]"] {
            assert!(bound(&open, &[json]).is_err(), "{json}");
        }
        assert!(bound(&open, &["[[1,2]]", "[[1,2,3]]"]).unwrap_err().starts_with("instance 1"));
    }

    #[test]
    fn tables_by_order_and_by_name() {
        let x = [input("x", DataType::F32, &[ANY, Dim::Fixed(2)])];
        let names = |n: &[&str]| n.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let rows = [vec!["1", " 2.5 "], vec!["x", "1"], vec!["3", ""], vec!["4", "nan"], vec!["5", "6"]];
        let block = RowBlock::new(names(&["a", "b"]), 10, &rows).unwrap();
        let (tensors, faults) = table(&x, &block).unwrap();
        assert_eq!(tensors[0].1, Tensor::new(vec![2, 2], Data::F32(vec![1.0, 2.5, 5.0, 6.0])).unwrap());
        assert_eq!(faults.iter().map(|f| f.row).collect::<Vec<_>>(), [11, 12, 13]);
        assert!(faults[0].reason.contains("column `a`"), "{}", faults[0].reason);

        let two = [input("b", DataType::Text, &[ANY]), input("a", DataType::I32, &[ANY, Dim::Fixed(1)])];
        let (tensors, faults) = table(&two, &block).unwrap();
        assert_eq!(
            tensors[0].1.data(),
            &Data::Text(
                ["2.5", "", "nan", "6"].map(|s| if s == "2.5" { " 2.5 " } else { s }.into()).to_vec()
            )
        );
        assert_eq!(tensors[1].1.shape(), [4, 1]);
        assert_eq!(faults.len(), 1);

        let wide = [input("x", DataType::F32, &[ANY, Dim::Fixed(3)])];
        let error = table(&wide, &block).unwrap_err().to_string();
        assert_eq!(error, "input `x` of the model takes 3 columns, the table has 2 for it");
        let missing = [two[0].clone(), input("c", DataType::F32, &[ANY])];
        assert!(table(&missing, &block).unwrap_err().to_string().contains("column `c` is missing"));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<f64>().prop_map(Value::Number),
            prop::collection::vec(-10i32..10, 1..4)
                .prop_map(|v| Value::Numbers(v.into_iter().map(f64::from).collect())),
            "[a-z]{0,3}".prop_map(Value::Text),
        ];
        leaf.prop_recursive(3, 16, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::List),
                prop::collection::vec(("[xy]", inner), 0..2).prop_map(Value::Record),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_is_sent_binds_whole_or_is_refused(
            values in prop::collection::vec(any_value(), 1..4),
            dims in prop::collection::vec(prop_oneof![Just(ANY), (0usize..3).prop_map(Dim::Fixed)], 0..4),
            data_type in prop_oneof![Just(DataType::F32), Just(DataType::I32), Just(DataType::Text)],
        ) {
            let inputs = [input("x", data_type, &dims)];
            if let Ok(tensors) = instances(&inputs, &values) {
                prop_assert_eq!(tensors[0].1.rows(), values.len());
                if let Some(v) = tensors[0].1.as_f32() {
                    prop_assert!(v.iter().all(|v| v.is_finite()));
                }
            }
        }
    }
}
