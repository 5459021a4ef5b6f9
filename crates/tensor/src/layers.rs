//! Networks made elsewhere as the plain layers of [`crate::export`], where that is what they are: one input, one
//! output, one layer after the other.

mod keras;
mod onnx;

pub use keras::of_keras;
pub use onnx::of_onnx;

use crate::export::Layer;

/// A chain of layers.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// One row of input: numbers, or ids before an embedding.
    pub input_shape: Vec<usize>,
    /// The layers in their order.
    pub layers: Vec<Layer>,
}
