//! Bytes to validated, typed values: row files, training specifications, model manifests, model files.
//!
//! Nothing here allocates by a size that a file merely claims.

mod format;
pub mod gguf;
pub mod hdf5;
pub mod keras;
pub mod manifest;
mod map;
pub mod processing;
pub mod rows;
pub mod safetensors;
pub mod spec;
mod tensor_view;
pub mod tokenizer;
mod value;
pub mod zip;

pub use format::Format;
pub use tensor_view::TensorView;
pub use value::Value;
