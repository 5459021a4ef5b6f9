//! Row files, CSV, JSON Lines and Parquet: decoders with no I/O of their own, and encoders.
//!
//! A decoder, save that of [`parquet`], is fed bytes as they come and gives rows as they are complete. It
//! keeps one row at most beyond what it was fed, so a file of any size streams in bounded memory. What is
//! wrong with one row is a [`RowFault`] for this row, and the file goes on; what is wrong with the header ends the file with a
//! [`RowsError`]. The same bytes give the same rows and faults however they are cut into pushes, and a
//! decoder that starts at another's [`Position`] gives exactly what the other had still to give.

mod block;
mod csv;
mod encode;
mod feed;
mod jsonl;
mod lines;
mod number;
pub mod parquet;
mod scan;

use std::sync::Arc;

pub use block::{Numbers, RowBlock};
pub use csv::CsvDecoder;
pub use encode::{CsvEncoder, write_json_line};
pub use jsonl::JsonlDecoder;
pub use lines::LineDecoder;
pub use number::{NumberError, parse_number};

use serde::{Deserialize, Serialize};

/// What a decoder accepts before it calls a row faulty or a file broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest row, in bytes as written, without its line end. A longer one is skipped and is a fault.
    pub row_bytes_max: usize,
    /// Most columns that a header may name.
    pub columns_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { row_bytes_max: 16 << 20, columns_max: 16_384 }
    }
}

/// One row that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowFault {
    /// Number of the row in the file, from 0; the header and blank lines are not counted.
    pub row: u64,
    /// What is wrong with it, for the owner of the file.
    pub reason: String,
}

/// Where in a file a decoder stands: just after a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Bytes of the file before this place.
    pub offset: u64,
    /// Number of the next row, from 0.
    pub row: u64,
}

/// A file that cannot be read as rows at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowsError {
    /// Nothing but blank lines.
    #[error("the file is empty: its first line must name the columns")]
    NoHeader,
    /// Two columns of one name.
    #[error("columns {first} and {second} of the header are both named `{name}`: give each its own name")]
    DuplicateColumn {
        /// The name.
        name: String,
        /// Its first column, counted from 1.
        first: usize,
        /// Its second column, counted from 1.
        second: usize,
    },
    /// A column with an empty name.
    #[error("column {number} of the header has no name: name it or remove the column")]
    UnnamedColumn {
        /// The column, counted from 1.
        number: usize,
    },
    /// More columns than [`Limits::columns_max`].
    #[error("the header names more than {max} columns")]
    TooManyColumns {
        /// The limit.
        max: usize,
    },
    /// The first line is not a header.
    #[error("the header cannot be read: {reason}")]
    BadHeader {
        /// What is wrong with it.
        reason: String,
    },
    /// The file begins with the mark of UTF-16.
    #[error("the file is UTF-16: save it as UTF-8")]
    Utf16,
}

/// Column names, shared by all blocks of a file.
type Names = Arc<[String]>;

/// The mark that some programs put at the start of a UTF-8 file.
const BOM: &[u8] = b"\xEF\xBB\xBF";

fn too_long(limits: &Limits) -> String {
    format!("the row is longer than {} bytes", limits.row_bytes_max)
}
