//! Bytes to validated, typed values: row files, training specifications, model manifests, model files.
//!
//! Nothing here allocates by a size that a file merely claims.

mod format;
pub mod manifest;
pub mod rows;
pub mod spec;
mod value;

pub use format::Format;
pub use value::Value;
