//! [`ParquetReader`]: the rows of a Parquet file as the cells that a CSV file would hold.
//!
//! Flat columns of truth values, numbers, texts, dates and times are read, in every encoding that is in use, plain or
//! packed with Snappy, gzip or Zstandard. A null is an empty cell, and so is a NaN: both are missing values. Columns
//! that are lists, maps or records are refused by name.
//!
//! The file's owner gives ranges of it on demand ([`Source`]). Of each column one page is in memory at a time,
//! whatever the size of a row group, and nothing is allocated because a file claims it: counts are only ever counted
//! down, pages have a size at most, and so has what a file may unpack to.

mod cell;
mod column;
mod delta;
mod footer;
mod hybrid;
mod page;
mod reader;
mod schema;
#[cfg(test)]
mod tests;
mod thrift;
mod values;

use std::ops::Range;

pub use reader::ParquetReader;

/// A file that can be read in any place.
pub trait Source {
    /// Why it could not be.
    type Error;

    /// Bytes of the file.
    fn size(&self) -> u64;

    /// The bytes of `range`, which lies within the file.
    ///
    /// # Errors
    /// If they cannot be had, all of them.
    fn read(&mut self, range: Range<u64>) -> Result<Vec<u8>, Self::Error>;
}

/// Why rows could not be read.
#[derive(Debug)]
pub enum ParquetFailure<E> {
    /// What the source said.
    Source(E),
    /// What is wrong with the file.
    File(ParquetError),
}

impl<E> From<ParquetError> for ParquetFailure<E> {
    fn from(error: ParquetError) -> Self {
        ParquetFailure::File(error)
    }
}

/// A file that is no Parquet file, a damaged one, or one that is not read here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParquetError {
    /// It does not end as a Parquet file does.
    #[error("it is not a whole Parquet file: it does not end as one")]
    NotParquet,
    /// Its footer is encrypted.
    #[error("it is encrypted: write it without encryption")]
    Encrypted,
    /// The footer, where the columns and their places are, cannot be right.
    #[error("its footer is damaged: {0}")]
    Footer(&'static str),
    /// No columns.
    #[error("it has no columns")]
    NoColumns,
    /// More columns than [`super::Limits::columns_max`].
    #[error("it has more than {max} columns")]
    TooManyColumns {
        /// The limit.
        max: usize,
    },
    /// Two columns of one name.
    #[error("two columns are named `{name}`: give each its own name")]
    DuplicateColumn {
        /// The name.
        name: String,
    },
    /// A column that is more than one value a row.
    #[error("column `{column}` is nested (a list, a map or a record): flatten it or leave it out")]
    Nested {
        /// The column.
        column: String,
    },
    /// A column of a kind, or written in a way, that is not read here.
    #[error("column `{column}`: {what} is not supported")]
    Unsupported {
        /// The column.
        column: String,
        /// What it uses.
        what: String,
    },
    /// A page that does not say what the footer or its own header promise.
    #[error("column `{column}` is damaged: {reason}")]
    Damaged {
        /// The column.
        column: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// What would be in memory at once.
    #[error(
        "its pages take more than {} MiB at once: write smaller pages, or fewer columns",
        HELD_BYTES_MAX >> 20
    )]
    TooWide,
    /// What it unpacks to.
    #[error("it unpacks to more than {UNPACKED_FACTOR} times its size: give the rows as CSV or JSONL")]
    Bomb,
}

/// Bytes of a footer at most.
const FOOTER_BYTES_MAX: u64 = 64 << 20;
/// Bytes of one page at most, packed or not.
const PAGE_BYTES_MAX: usize = 64 << 20;
/// Bytes of all pages and dictionaries in memory at most.
const HELD_BYTES_MAX: usize = 512 << 20;
/// How many times its size a file may hold in cells, beyond [`UNPACKED_BYTES_FREE`].
const UNPACKED_FACTOR: u64 = 1000;
const UNPACKED_BYTES_FREE: u64 = 256 << 20;

/// What is wrong with some bytes, before it is known which column they are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Malformed(&'static str);

/// What a decoder found.
type Decoded<T> = Result<T, Malformed>;
