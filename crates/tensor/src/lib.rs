//! ONNX graphs, feature steps and pictures: named tensors in, named tensors out. Synchronous; owns no queue.

pub mod export;
pub mod features;
pub mod layers;
mod lookup;
mod ml;
mod onnx;
mod signature;
mod sizes;
mod tensor;
pub mod vision;

pub use lookup::Front;
pub use onnx::{Lane, LibraryError, LoadError, LoadLimits, OnnxModel, RunError, open_onnxruntime};
pub use signature::{Dim, Signature, TensorSpec};
pub use sizes::Sizes;
pub use tensor::{Data, DataType, NarrowError, ShapeError, Tensor, Tensors};
