//! What can go wrong with a model file, and with a run.

use std::path::PathBuf;

use crate::DataType;

/// Why a model file cannot be served. Each text says what to do about it where something can be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file, or one that it refers to, cannot be read.
    #[error("`{path}` cannot be read: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file and the data that it refers to are larger than allowed.
    #[error("the model takes {bytes} bytes, more than the {max} allowed")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// A format that is not served, recognised by its content.
    #[error("the file is {found}, not ONNX: {advice}")]
    WrongFormat {
        /// What it is.
        found: &'static str,
        /// What to do instead.
        advice: &'static str,
    },
    /// Nothing recognised, or a damaged file.
    #[error("the file is not a readable ONNX model: {reason}")]
    NotOnnx {
        /// What is wrong with it.
        reason: String,
    },
    /// Operators that this runtime does not have.
    #[error("the model uses operators that are not supported: {}", .operators.join(", "))]
    UnsupportedOperators {
        /// Their names, with the domain where it is not ONNX's own.
        operators: Vec<String>,
    },
    /// An input, output or weight of a kind that this runtime does not have.
    #[error("{what} is {kind}, which is not supported{advice}")]
    UnsupportedType {
        /// Which one.
        what: String,
        /// Its type.
        kind: String,
        /// What to do, after a colon, or nothing.
        advice: &'static str,
    },
    /// Weights kept beside the model file that are not there or may not be read.
    #[error("the model keeps weights in `{location}`: {reason}")]
    ExternalData {
        /// The file name, as the model has it.
        location: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The graph contradicts itself.
    #[error("the model cannot be loaded: {reason}")]
    Invalid {
        /// What the runtime says.
        reason: String,
    },
}

/// Why a model gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// An input that the model has not.
    #[error("the model has no input `{name}`; it takes {takes}")]
    UnknownInput {
        /// The name given.
        name: String,
        /// The model's inputs.
        takes: String,
    },
    /// An input given twice.
    #[error("input `{name}` is given twice")]
    RepeatedInput {
        /// The name given.
        name: String,
    },
    /// An input that is not given.
    #[error("input `{name}` is missing; the model takes {takes}")]
    MissingInput {
        /// The name not given.
        name: String,
        /// The model's inputs.
        takes: String,
    },
    /// Elements of another type.
    #[error("input `{name}` takes {expected} values, not {found}")]
    WrongType {
        /// The input.
        name: String,
        /// What it takes.
        expected: DataType,
        /// What was given.
        found: DataType,
    },
    /// Another number of dimensions, or another size of a fixed one.
    #[error("input `{expected}` does not take shape {found:?}")]
    WrongShape {
        /// The input's name, type and shape.
        expected: String,
        /// The shape given.
        found: Vec<usize>,
    },
    /// Inputs of one batch with different numbers of rows.
    #[error("inputs `{first}` and `{second}` have {first_rows} and {second_rows} rows")]
    RowsDiffer {
        /// One input.
        first: String,
        /// Its rows.
        first_rows: usize,
        /// Another.
        second: String,
        /// Its rows.
        second_rows: usize,
    },
    /// A value that the model's narrower integer type cannot hold.
    #[error("input `{name}` takes {min} to {max}, not {found}")]
    OutOfRange {
        /// The input.
        name: String,
        /// The least value it takes.
        min: i32,
        /// The greatest value it takes.
        max: i32,
        /// The value given.
        found: i32,
    },
    /// The inputs would make the model hold more than a run may.
    #[error(
        "these inputs would make the model hold more than {most} numbers at a time: send shorter ones, or fewer"
    )]
    TooLarge {
        /// The limit.
        most: usize,
    },
    /// The model failed on these inputs.
    #[error("the model cannot run on these inputs: {reason}")]
    Failed {
        /// What the runtime says.
        reason: String,
    },
}
