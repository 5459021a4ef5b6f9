//! [`Value`]: what nodes pass on; wider than what models take and give.

use super::Fault;

/// Most elements that a node may make.
const ELEMENTS_MAX: usize = 1 << 28;

/// A dense row-major block of values: as many as the product of `shape`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Value {
    pub(super) shape: Vec<usize>,
    pub(super) array: Array,
}

/// The elements of a [`Value`].
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Array {
    F32(Vec<f32>),
    F64(Vec<f64>),
    /// Integers of every width.
    I64(Vec<i64>),
    Bool(Vec<bool>),
    Text(Vec<String>),
}

impl Value {
    /// # Errors
    /// If the shape does not hold the elements.
    pub(super) fn new(shape: Vec<usize>, array: Array) -> Result<Value, Fault> {
        match elements(&shape)? {
            n if n == array.len() => Ok(Value { shape, array }),
            _ => Err(Fault::new(format!("shape {shape:?} does not hold {} elements", array.len()))),
        }
    }

    /// Rows and the length of each: a list is one row.
    pub(super) fn table(&self) -> (usize, usize) {
        match self.shape.as_slice() {
            [] => (1, 1),
            [only] => (1, *only),
            [rows, rest @ ..] => (*rows, rest.iter().product()),
        }
    }

    /// The elements as float64.
    pub(super) fn floats(&self) -> Result<Vec<f64>, Fault> {
        Ok(match &self.array {
            Array::F32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Array::F64(v) => v.clone(),
            Array::I64(v) => v.iter().map(|&x| x as f64).collect(),
            Array::Bool(v) => v.iter().map(|&x| f64::from(u8::from(x))).collect(),
            Array::Text(_) => return Err(Fault::new("takes numbers, not strings")),
        })
    }

    /// The elements as int64.
    pub(super) fn ints(&self) -> Result<Vec<i64>, Fault> {
        Ok(match &self.array {
            Array::F32(v) => v.iter().map(|&x| x as i64).collect(),
            Array::F64(v) => v.iter().map(|&x| x as i64).collect(),
            Array::I64(v) => v.clone(),
            Array::Bool(v) => v.iter().map(|&x| i64::from(x)).collect(),
            Array::Text(_) => return Err(Fault::new("takes integers, not strings")),
        })
    }

    /// The elements, which must be strings.
    pub(super) fn texts(&self) -> Result<&[String], Fault> {
        match &self.array {
            Array::Text(v) => Ok(v),
            _ => Err(Fault::new("takes strings, not numbers")),
        }
    }
}

impl Array {
    pub(super) fn len(&self) -> usize {
        match self {
            Array::F32(v) => v.len(),
            Array::F64(v) => v.len(),
            Array::I64(v) => v.len(),
            Array::Bool(v) => v.len(),
            Array::Text(v) => v.len(),
        }
    }

    /// Float64 values as elements of the type that `self` has.
    pub(super) fn alike(&self, values: Vec<f64>) -> Array {
        match self {
            Array::F64(_) => Array::F64(values),
            Array::I64(_) => Array::I64(values.into_iter().map(|x| x as i64).collect()),
            _ => Array::narrow(values),
        }
    }

    /// Float64 values as float32.
    pub(super) fn narrow(values: Vec<f64>) -> Array {
        Array::F32(values.into_iter().map(|x| x as f32).collect())
    }

    /// The elements at `places`, each of which must be one.
    pub(super) fn pick(&self, places: &[usize]) -> Result<Array, Fault> {
        fn all<T: Clone>(from: &[T], places: &[usize]) -> Result<Vec<T>, Fault> {
            let missing = || Fault::new("an index is out of range");
            places.iter().map(|&place| from.get(place).cloned().ok_or_else(missing)).collect()
        }
        Ok(match self {
            Array::F32(v) => Array::F32(all(v, places)?),
            Array::F64(v) => Array::F64(all(v, places)?),
            Array::I64(v) => Array::I64(all(v, places)?),
            Array::Bool(v) => Array::Bool(all(v, places)?),
            Array::Text(v) => Array::Text(all(v, places)?),
        })
    }
}

/// How many elements a value of `shape` has.
///
/// # Errors
/// If there are more than a node may make.
pub(super) fn elements(shape: &[usize]) -> Result<usize, Fault> {
    // An empty one is measured by its other dimensions: products of some of them stay bounded too.
    let product = shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size.max(1)));
    match product.filter(|&n| n <= ELEMENTS_MAX) {
        Some(_) if shape.contains(&0) => Ok(0),
        Some(n) => Ok(n),
        None => Err(Fault::new(format!("a value of shape {shape:?} is beyond {ELEMENTS_MAX} elements"))),
    }
}

/// An axis of `rank` dimensions, counted from the end if it is negative.
pub(super) fn axis(axis: i64, rank: usize) -> Result<usize, Fault> {
    let from = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    match usize::try_from(from) {
        Ok(from) if from < rank => Ok(from),
        _ => Err(Fault::new(format!("axis {axis} is none of {rank}"))),
    }
}
