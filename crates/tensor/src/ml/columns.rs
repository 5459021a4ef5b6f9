//! Nodes that prepare columns: scaling, imputing, encoding, choosing.

use std::collections::HashMap;

use super::attributes::Attributes;
use super::value::{Array, Value, elements};
use super::{Fault, Inputs, Labels, Run};

pub(super) fn scaler(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let offset = attributes.floats("offset").to_vec();
    let scale = attributes.floats("scale").to_vec();
    if offset.len() != scale.len() || scale.is_empty() {
        let (offsets, scales) = (offset.len(), scale.len());
        return Err(Fault::new(format!("attribute `offset` has {offsets} entries for {scales} of `scale`")));
    }
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let value = inputs.get(0)?;
        let (_, width) = value.table();
        if scale.len() != 1 && scale.len() != width {
            return Err(Fault::new(format!("it takes rows of {}, not {width}", scale.len())));
        }
        let by = offset.iter().zip(&scale).cycle();
        let scaled = value.floats()?.into_iter().zip(by);
        let scaled = scaled.map(|(x, (offset, scale))| (x as f32 - offset) * scale).collect();
        Ok(vec![Value::new(value.shape.clone(), Array::F32(scaled))?])
    }))
}

pub(super) fn normalizer(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let size: fn(&[f64]) -> f64 = match attributes.text("norm")?.unwrap_or("MAX") {
        "MAX" => |row| row.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        "L1" => |row| row.iter().map(|x| x.abs()).sum(),
        "L2" => |row| row.iter().map(|x| x * x).sum::<f64>().sqrt(),
        other => return Err(Fault::new(format!("attribute `norm` has no `{other}`"))),
    };
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let value = inputs.get(0)?;
        let mut x = value.floats()?;
        for row in x.chunks_exact_mut(value.table().1.max(1)) {
            let size = size(row);
            if size != 0.0 {
                row.iter_mut().for_each(|x| *x /= size);
            }
        }
        Ok(vec![Value::new(value.shape.clone(), Array::narrow(x))?])
    }))
}

pub(super) fn binarizer(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let threshold = f64::from(attributes.float("threshold")?.unwrap_or(0.0));
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let value = inputs.get(0)?;
        let x = value.floats()?.into_iter().map(|x| f64::from(u8::from(x > threshold))).collect();
        Ok(vec![Value::new(value.shape.clone(), value.array.alike(x))?])
    }))
}

pub(super) fn imputer(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let floats = attributes.floats("imputed_value_floats");
    let ints = attributes.ints("imputed_value_int64s");
    let float_hole = f64::from(attributes.float("replaced_value_float")?.unwrap_or(0.0));
    let int_hole = attributes.int("replaced_value_int64")?.unwrap_or(0) as f64;
    let (filling, hole): (Vec<f64>, f64) = match (floats, ints) {
        ([], []) => return Err(Fault::new("attributes `imputed_value_*` are empty")),
        (floats, []) => (floats.iter().map(|&x| f64::from(x)).collect(), float_hole),
        ([], ints) => (ints.iter().map(|&x| x as f64).collect(), int_hole),
        _ => return Err(Fault::new("attributes `imputed_value_*` are both given")),
    };
    let is_hole = move |x: f64| if hole.is_nan() { x.is_nan() } else { x == hole };
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let value = inputs.get(0)?;
        let (_, width) = value.table();
        if filling.len() != 1 && filling.len() != width {
            return Err(Fault::new(format!("it takes rows of {}, not {width}", filling.len())));
        }
        let filled = value.floats()?.into_iter().zip(filling.iter().cycle());
        let filled = filled.map(|(x, &filling)| if is_hole(x) { filling } else { x }).collect();
        Ok(vec![Value::new(value.shape.clone(), value.array.alike(filled))?])
    }))
}

/// Chooses columns by their places.
pub(super) fn feature_extractor(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(Box::new(|inputs: &Inputs<'_>| {
        let (value, places) = (inputs.get(0)?, inputs.get(1)?.ints()?);
        let width = value.shape.last().copied().unwrap_or(1);
        let rows = elements(&value.shape)?.checked_div(width).unwrap_or(0);
        let mut shape = match value.shape.as_slice() {
            [] | [_] => vec![1],
            [rows @ .., _] => rows.to_vec(),
        };
        shape.push(places.len());
        let mut chosen = Vec::with_capacity(elements(&shape)?);
        for row in 0..rows {
            for &place in &places {
                let found = usize::try_from(place).ok().filter(|&place| place < width);
                let place =
                    found.ok_or_else(|| Fault::new(format!("there is no column {place} of {width}")))?;
                chosen.push(row * width + place);
            }
        }
        Ok(vec![Value::new(shape, value.array.pick(&chosen)?)?])
    }))
}

/// Puts the columns of its inputs beside one another.
pub(super) fn feature_vectorizer(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let widths = attributes.ints("inputdimensions").to_vec();
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let mut parts = Vec::new();
        for (i, value) in inputs.given().enumerate() {
            let (rows, width) = match value.shape.as_slice() {
                [rows] => (*rows, 1),
                _ => value.table(),
            };
            if widths.get(i).is_some_and(|&wanted| usize::try_from(wanted) != Ok(width)) {
                return Err(Fault::new(format!("input {i} has {width} columns, not as declared")));
            }
            parts.push((rows, width, value.floats()?));
        }
        let rows = parts.first().map_or(0, |(rows, ..)| *rows);
        if parts.iter().any(|(other, ..)| *other != rows) {
            return Err(Fault::new("its inputs have different numbers of rows"));
        }
        let width: usize = parts.iter().map(|(_, width, _)| width).sum();
        let mut all = Vec::with_capacity(elements(&[rows, width])?);
        for row in 0..rows {
            for (_, width, x) in &parts {
                all.extend_from_slice(x.get(row * width..(row + 1) * width).unwrap_or_default());
            }
        }
        Ok(vec![Value::new(vec![rows, width], Array::narrow(all))?])
    }))
}

pub(super) fn one_hot(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let categories = attributes
        .labels("cats_strings", "cats_int64s")?
        .ok_or_else(|| Fault::new("attributes `cats_*` are empty"))?;
    let zeros = attributes.flag("zeros", true)?;
    let count = categories.len();
    let places = categories.places();
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let value = inputs.get(0)?;
        let mut shape = value.shape.clone();
        shape.push(count);
        let mut hot = vec![0f32; elements(&shape)?];
        for (key, row) in keys_like(&places, value)?.zip(hot.chunks_exact_mut(count)) {
            match places.get(&key).and_then(|&place| row.get_mut(place)) {
                Some(cell) => *cell = 1.0,
                None if zeros => {}
                None => return Err(Fault::new("a value is none of its categories")),
            }
        }
        Ok(vec![Value::new(shape, Array::F32(hot))?])
    }))
}

/// What can be looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Int(i64),
    Text(String),
    /// The bits; all that are not a number are one.
    Float(u64),
}

impl Key {
    pub(super) fn float(x: f64) -> Key {
        Key::Float(if x.is_nan() {
            f64::NAN.to_bits()
        } else if x == 0.0 {
            0
        } else {
            x.to_bits()
        })
    }
}

/// The elements as keys of their own kind.
fn keys(array: &Array) -> Vec<Key> {
    match array {
        Array::Text(v) => v.iter().cloned().map(Key::Text).collect(),
        Array::I64(v) => v.iter().copied().map(Key::Int).collect(),
        Array::Bool(v) => v.iter().map(|&b| Key::Int(i64::from(b))).collect(),
        Array::F32(v) => v.iter().map(|&x| Key::float(f64::from(x))).collect(),
        Array::F64(v) => v.iter().map(|&x| Key::float(x)).collect(),
    }
}

/// The elements as keys of the kind that is looked up: floats are cut to integers where integers are.
fn keys_like<V>(known: &HashMap<Key, V>, value: &Value) -> Result<impl Iterator<Item = Key>, Fault> {
    let found = match (known.keys().next(), &value.array) {
        (Some(Key::Int(_)), Array::F32(_) | Array::F64(_)) => {
            value.ints()?.into_iter().map(Key::Int).collect()
        }
        (Some(Key::Float(_)), Array::I64(_)) => value.floats()?.into_iter().map(Key::float).collect(),
        (Some(Key::Text(_)), Array::Text(_)) | (Some(Key::Int(_)), Array::I64(_) | Array::Bool(_)) => {
            keys(&value.array)
        }
        (Some(Key::Float(_)), Array::F32(_) | Array::F64(_)) => keys(&value.array),
        (None, _) => keys(&value.array),
        _ => return Err(Fault::new("its categories are of another type than its input")),
    };
    Ok(found.into_iter())
}

impl Labels {
    /// The place of each label; of several equal ones the first.
    fn places(&self) -> HashMap<Key, usize> {
        let mut places = HashMap::new();
        for (place, key) in keys(&self.array()).into_iter().enumerate() {
            places.entry(key).or_insert(place);
        }
        places
    }
}

pub(super) fn label_encoder(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let default_text = attributes.text("default_string")?.unwrap_or("_Unused").to_owned();
    let default_int = attributes.int("default_int64")?.unwrap_or(-1);
    let default_float = attributes.float("default_float")?.unwrap_or(-0.0);
    // The first version numbered strings, and named numbers.
    let classes = attributes.texts("classes_strings");
    if !classes.is_empty() {
        let texts = Array::Text(classes.to_vec());
        let numbers = Array::I64((0..classes.len() as i64).collect());
        return category_map(texts, numbers, default_text, default_int);
    }
    let side = |texts, ints, floats, tensor| -> Result<Array, Fault> {
        let lists = [
            (!attributes.texts(texts).is_empty()).then(|| Array::Text(attributes.texts(texts).to_vec())),
            (!attributes.ints(ints).is_empty()).then(|| Array::I64(attributes.ints(ints).to_vec())),
            (!attributes.floats(floats).is_empty()).then(|| Array::F32(attributes.floats(floats).to_vec())),
            attributes.tensor(tensor)?.map(|value| value.array),
        ];
        let mut lists = lists.into_iter().flatten();
        match (lists.next(), lists.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(Fault::new(format!("none of the attributes like `{texts}` is given"))),
            _ => Err(Fault::new(format!("several of the attributes like `{texts}` are given"))),
        }
    };
    let from = side("keys_strings", "keys_int64s", "keys_floats", "keys_tensor")?;
    let to = side("values_strings", "values_int64s", "values_floats", "values_tensor")?;
    if from.len() != to.len() {
        let (keys, values) = (from.len(), to.len());
        return Err(Fault::new(format!("attributes `keys_*` have {keys} entries, `values_*` {values}")));
    }
    let fallback = match (attributes.tensor("default_tensor")?, &to) {
        (Some(value), _) if value.array.len() == 1 => value.array,
        (Some(_), _) => return Err(Fault::new("attribute `default_tensor` is not one value")),
        (None, Array::Text(_)) => Array::Text(vec![default_text]),
        (None, Array::I64(_)) => Array::I64(vec![default_int]),
        (None, Array::F64(_)) => Array::F64(vec![f64::from(default_float)]),
        (None, _) => Array::F32(vec![default_float]),
    };
    let map = Mapping::new(&from, to, &fallback)?;
    Ok(Box::new(move |inputs: &Inputs<'_>| Ok(vec![map.apply(inputs.get(0)?)?])))
}

pub(super) fn category_mapper(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let (texts, ints) = (attributes.texts("cats_strings"), attributes.ints("cats_int64s"));
    if texts.len() != ints.len() {
        let (texts, ints) = (texts.len(), ints.len());
        return Err(Fault::new(format!(
            "attribute `cats_strings` has {texts} entries, `cats_int64s` {ints}"
        )));
    }
    let default_text = attributes.text("default_string")?.unwrap_or("_Unused").to_owned();
    let default_int = attributes.int("default_int64")?.unwrap_or(-1);
    category_map(Array::Text(texts.to_vec()), Array::I64(ints.to_vec()), default_text, default_int)
}

/// Strings to integers, and integers to strings.
fn category_map(texts: Array, ints: Array, default_text: String, default_int: i64) -> Result<Run, Fault> {
    let to_int = Mapping::new(&texts, ints.clone(), &Array::I64(vec![default_int]))?;
    let to_text = Mapping::new(&ints, texts, &Array::Text(vec![default_text]))?;
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let value = inputs.get(0)?;
        let map = if matches!(value.array, Array::Text(_)) { &to_int } else { &to_text };
        Ok(vec![map.apply(value)?])
    }))
}

/// Values by key, and one for keys that are not known, which stands last.
struct Mapping {
    places: HashMap<Key, usize>,
    values: Array,
}

impl Mapping {
    fn new(from: &Array, mut values: Array, fallback: &Array) -> Result<Mapping, Fault> {
        let mut places = HashMap::with_capacity(from.len());
        for (place, key) in keys(from).into_iter().enumerate() {
            places.entry(key).or_insert(place);
        }
        match (&mut values, fallback) {
            (Array::Text(v), Array::Text(fallback)) => v.extend_from_slice(fallback),
            (Array::I64(v), Array::I64(fallback)) => v.extend_from_slice(fallback),
            (Array::F32(v), Array::F32(fallback)) => v.extend_from_slice(fallback),
            (Array::F64(v), Array::F64(fallback)) => v.extend_from_slice(fallback),
            _ => return Err(Fault::new("its default is of another type than its values")),
        }
        Ok(Mapping { places, values })
    }

    fn apply(&self, value: &Value) -> Result<Value, Fault> {
        let last = self.values.len().saturating_sub(1);
        let found: Vec<usize> = keys_like(&self.places, value)?
            .map(|key| self.places.get(&key).copied().unwrap_or(last))
            .collect();
        Value::new(value.shape.clone(), self.values.pick(&found)?)
    }
}
