//! [`Tensor`]: a typed, shaped block of values; [`Tensors`]: several, by name.

use std::fmt;

/// A dense row-major tensor. `data.len()` equals the product of `shape`, always.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Data,
}

/// The elements of a [`Tensor`], row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// 32-bit floats; f16 and f64 inputs are carried so.
    F32(Vec<f32>),
    /// 32-bit integers; int64 and narrower ones are carried so where they fit.
    I32(Vec<i32>),
    /// Texts.
    Text(Vec<String>),
}

/// The element type of a [`Tensor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    /// See [`Data::F32`].
    F32,
    /// See [`Data::I32`].
    I32,
    /// See [`Data::Text`].
    Text,
}

/// A shape that does not hold the number of elements given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("shape {shape:?} does not hold {elements} elements")]
pub struct ShapeError {
    shape: Vec<usize>,
    elements: usize,
}

impl Tensor {
    /// A tensor of `shape` over `data`.
    ///
    /// # Errors
    /// If the product of `shape` overflows or differs from the number of elements.
    pub fn new(shape: Vec<usize>, data: Data) -> Result<Self, ShapeError> {
        let elements = data.len();
        match shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) {
            Some(n) if n == elements => Ok(Tensor { shape, data }),
            _ => Err(ShapeError { shape, elements }),
        }
    }

    /// Dimensions, outermost first; `shape()[0]` is the row count of a batch.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The first dimension; 1 for a scalar.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Elements of one row: the product of all dimensions but the first.
    pub fn row_len(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// The elements.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The elements, if they are f32.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            Data::F32(v) => Some(v),
            _ => None,
        }
    }

    /// Gives shape and elements back.
    pub fn into_parts(self) -> (Vec<usize>, Data) {
        (self.shape, self.data)
    }
}

impl Data {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Data::F32(v) => v.len(),
            Data::I32(v) => v.len(),
            Data::Text(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element type.
    pub fn data_type(&self) -> DataType {
        match self {
            Data::F32(_) => DataType::F32,
            Data::I32(_) => DataType::I32,
            Data::Text(_) => DataType::Text,
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DataType::F32 => "float32",
            DataType::I32 => "int32",
            DataType::Text => "string",
        })
    }
}

/// Named tensors, in the order of a signature.
pub type Tensors = Vec<(String, Tensor)>;
