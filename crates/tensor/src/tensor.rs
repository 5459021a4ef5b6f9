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

/// int64 values that cannot be carried as int32.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NarrowError {
    /// A value beyond the range of int32.
    #[error("{value}, at place {index}, is beyond the int32 range that integers are carried in")]
    TooLarge {
        /// Which value, from 0.
        index: usize,
        /// The value.
        value: i64,
    },
    /// See [`ShapeError`].
    #[error(transparent)]
    Shape(#[from] ShapeError),
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

    /// A tensor of int64 values, which are carried as int32.
    ///
    /// # Errors
    /// If a value does not fit into an int32, or the shape does not hold the values.
    pub fn from_i64(shape: Vec<usize>, values: &[i64]) -> Result<Self, NarrowError> {
        let narrow =
            |(index, &value)| i32::try_from(value).map_err(|_| NarrowError::TooLarge { index, value });
        let data = values.iter().enumerate().map(narrow).collect::<Result<Vec<i32>, _>>()?;
        Ok(Tensor::new(shape, Data::I32(data))?)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_shape_holds_exactly_its_elements() {
        assert!(Tensor::new(vec![2, 3], Data::F32(vec![0.0; 6])).is_ok());
        let error = Tensor::new(vec![2, 3], Data::F32(vec![0.0; 5])).unwrap_err();
        assert_eq!(error.to_string(), "shape [2, 3] does not hold 5 elements");
        assert!(Tensor::new(vec![usize::MAX, 2, 0], Data::I32(vec![])).is_err());
        let scalar = Tensor::new(vec![], Data::I32(vec![7])).unwrap();
        assert_eq!((scalar.rows(), scalar.row_len()), (1, 1));
    }

    #[test]
    fn integers_are_narrowed_only_where_they_fit() {
        let edges = [i64::from(i32::MIN), i64::from(i32::MAX)];
        assert_eq!(Tensor::from_i64(vec![2], &edges).unwrap().data(), &Data::I32(vec![i32::MIN, i32::MAX]));
        let error = Tensor::from_i64(vec![2], &[0, 1 << 31]).unwrap_err();
        assert_eq!(error, NarrowError::TooLarge { index: 1, value: 1 << 31 });
        assert!(matches!(Tensor::from_i64(vec![3], &[0]), Err(NarrowError::Shape(_))));
    }
}
