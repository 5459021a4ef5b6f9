//! What can be wrong with a GGUF file.

use std::io;
use std::path::Path;

use crate::Format;

/// A GGUF file that cannot be used. Files are called by their names; their directories are not told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system does not give the file.
    #[error("`{file}` cannot be read")]
    Read {
        /// The file's name.
        file: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The file does not hold what it must, or claims what it does not hold.
    #[error("`{file}` is not a usable GGUF file: {fault}")]
    Invalid {
        /// The file's name.
        file: String,
        /// What is wrong.
        fault: Fault,
    },
    /// A metadata value is there, but not of the kind that is needed.
    #[error("metadata {key:?} is {found}, where {wanted} is needed")]
    Metadata {
        /// The key.
        key: String,
        /// What the file has.
        found: String,
        /// What would be understood.
        wanted: &'static str,
    },
}

impl Error {
    pub(super) fn invalid(file: &str, fault: Fault) -> Error {
        Error::Invalid { file: file.to_owned(), fault }
    }

    /// What to call a file in an error.
    pub(super) fn file_name(path: &Path) -> String {
        path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
    }
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It does not begin with `GGUF`.
    #[error("it does not begin with the letters GGUF")]
    Magic,
    /// It is of a version that is not read.
    #[error("it is of version {0}; versions 2 and 3 are read")]
    Version(u32),
    /// Its numbers have the most significant byte first.
    #[error("it is written for big-endian machines; convert it to little-endian")]
    BigEndian,
    /// It ends inside something.
    #[error("it ends inside {what}: {needed} bytes are claimed, {left} are left")]
    Truncated {
        /// What was being read.
        what: String,
        /// Bytes claimed.
        needed: u64,
        /// Bytes that remain.
        left: u64,
    },
    /// It claims more of something than it can hold or than is reasonable.
    #[error("it claims {count} {what}; at most {max} are possible here")]
    Count {
        /// Of what.
        what: String,
        /// How many are claimed.
        count: u64,
        /// How many are possible.
        max: u64,
    },
    /// A name is empty, or not UTF-8.
    #[error("{what} at byte {at} is empty or not valid UTF-8")]
    Name {
        /// Of what.
        what: &'static str,
        /// Where in the file.
        at: u64,
    },
    /// A name occurs twice.
    #[error("{what} {name:?} occurs twice")]
    Duplicate {
        /// Metadata or tensor.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A metadata value is of a type that does not exist.
    #[error("metadata {key:?} is of the unknown type {number}")]
    ValueType {
        /// The key.
        key: String,
        /// The type as written.
        number: u32,
    },
    /// A metadata value is an array of arrays.
    #[error("metadata {key:?} is an array of arrays, which is not read")]
    Nested {
        /// The key.
        key: String,
    },
    /// A metadata value is a truth value other than 0 and 1.
    #[error("metadata {key:?} should be true or false, and is {found}")]
    Bool {
        /// The key.
        key: String,
        /// The byte found.
        found: u8,
    },
    /// The alignment is not a power of two up to 1 MiB.
    #[error("`general.alignment` is {0}; a power of two up to 1048576 is needed")]
    Alignment(u64),
    /// A tensor has a dimension of zero, or more elements than can be counted.
    #[error("tensor {tensor:?} has the dimensions {dimensions:?}, which cannot be")]
    Shape {
        /// The tensor.
        tensor: String,
        /// As written, fastest first.
        dimensions: Vec<u64>,
    },
    /// A tensor's format is not supported.
    #[error("tensor {tensor:?} is stored as {name} (type {number}), which is not supported")]
    Format {
        /// The tensor.
        tensor: String,
        /// The type as written.
        number: u32,
        /// What it is called.
        name: &'static str,
    },
    /// A tensor's rows are not whole blocks of its format.
    #[error("tensor {tensor:?} has rows of {columns} elements, which are not whole blocks of {format}")]
    Blocks {
        /// The tensor.
        tensor: String,
        /// Elements a row.
        columns: usize,
        /// The format.
        format: Format,
    },
    /// A tensor does not begin where tensors may.
    #[error("tensor {tensor:?} begins at {offset}, which is not a multiple of the alignment {alignment}")]
    Misaligned {
        /// The tensor.
        tensor: String,
        /// Relative to the data section.
        offset: u64,
        /// Bytes.
        alignment: u64,
    },
    /// A tensor reaches beyond the end of the file.
    #[error("tensor {tensor:?} claims {len} bytes at {offset}, but there are {available} bytes of data")]
    OutOfFile {
        /// The tensor.
        tensor: String,
        /// Relative to the data section.
        offset: u64,
        /// Bytes needed.
        len: u64,
        /// Bytes of the data section.
        available: u64,
    },
    /// Two tensors share bytes.
    #[error("tensors {first:?} and {second:?} overlap")]
    Overlap {
        /// That which begins first.
        first: String,
        /// The other.
        second: String,
    },
    /// It does not say what family of models it is.
    #[error("`general.architecture` is missing, so nothing is known of the model")]
    NoArchitecture,
    /// A metadata value of the sharding is not a number that can be.
    #[error("`{0}` is not a number that is possible here")]
    Split(&'static str),
    /// It is one of several files, but not the first.
    #[error(
        "it is part {part} of {count}; open the first part, whose name ends in -00001-of-{count:05}.gguf"
    )]
    NotFirst {
        /// From 1.
        part: u64,
        /// Of how many.
        count: u64,
    },
    /// It is the first of several files, but its name does not tell the others'.
    #[error(
        "it is the first of several files; its name must end in -00001-of-{count:05}.gguf to find the others"
    )]
    ShardName {
        /// Of how many.
        count: u64,
    },
    /// It is one of several, and the others cannot be had.
    #[error("it is one of several files, and the others are not here")]
    ShardsMissing,
    /// A file beside the first is not the part that it should be.
    #[error("it should be part {part} of {count}, and says otherwise")]
    WrongShard {
        /// From 1.
        part: u64,
        /// Of how many.
        count: u64,
    },
    /// All files together hold another number of tensors than the first says.
    #[error("all parts together hold {found} tensors, where {claimed} are claimed")]
    ShardTensors {
        /// Found.
        found: u64,
        /// Claimed.
        claimed: u64,
    },
}
