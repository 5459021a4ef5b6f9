//! [`sequential`] and [`keras()`]: layers with their weights, written as an ONNX model.
//!
//! Layers mean what Keras means by them: images are `[height, width, channels]`, `Dense` acts on the
//! last axis, `Flatten` runs over height, width, channels in this order, padding `same` puts the odd
//! cell after the image. Weights lie as the ONNX operator wants them, which each field's comment says.

mod activation;
mod graph;
mod keras;
mod layer;
mod window;
mod writer;

pub use activation::Activation;
pub use formats::spec::Padding;
pub use graph::{ExportError, sequential};
pub use keras::{KerasExportError, KerasGraph, keras};
pub use layer::Layer;
