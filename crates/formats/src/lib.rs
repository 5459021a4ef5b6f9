//! Bytes to validated, typed values: row files, training specifications, model manifests.
//!
//! Nothing here allocates by a size that a file merely claims.

pub mod manifest;
pub mod rows;
pub mod spec;
mod value;

pub use value::Value;
