//! [`Signature`]: the names, types and shapes that a model takes and gives.

use std::fmt;

use crate::DataType;

/// What a model takes and gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Signature {
    /// Inputs, in the model's order.
    pub inputs: Vec<TensorSpec>,
    /// Outputs, in the model's order.
    pub outputs: Vec<TensorSpec>,
}

/// One input or output.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorSpec {
    /// The model's own name for it.
    pub name: String,
    /// Element type.
    pub data_type: DataType,
    /// Dimensions, outermost first; the first is the batch where it is [`Dim::Any`].
    pub shape: Vec<Dim>,
}

/// One dimension of a [`TensorSpec`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dim {
    /// Any size, chosen by the request.
    Any,
    /// This size only.
    Fixed(usize),
}

impl fmt::Display for TensorSpec {
    /// `name: float32[?, 100]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}[", self.name, self.data_type)?;
        for (i, dim) in self.shape.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            match dim {
                Dim::Any => f.write_str("?")?,
                Dim::Fixed(n) => write!(f, "{n}")?,
            }
        }
        f.write_str("]")
    }
}
