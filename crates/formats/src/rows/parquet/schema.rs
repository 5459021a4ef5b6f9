//! [`Column`]: what a column is called, how its values lie in the file, and what they stand for.

use std::collections::HashSet;

use super::footer::Element;
use super::{ParquetError, ParquetFailure};

/// A column of a flat file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) physical: Physical,
    pub(super) meaning: Meaning,
    /// Whether it may hold nulls.
    pub(super) optional: bool,
}

/// How values lie in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Physical {
    Boolean,
    Int32,
    Int64,
    Float,
    Double,
    Bytes,
}

/// What values stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// What they are.
    Plain,
    /// An integer without a sign, of 32 bits or less, or of 64.
    Unsigned32,
    Unsigned64,
    /// An integer with so many decimals.
    Decimal(u32),
    /// Days since 1970.
    Date,
    /// So many parts of a second since 1970, or since midnight, with so many decimals, and whether they are in UTC.
    Timestamp {
        decimals: u32,
        utc: bool,
    },
    /// The same, since midnight.
    Time {
        decimals: u32,
    },
}

/// What a file says that a column is: its logical type, or what older files have in place of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Logical {
    #[default]
    None,
    Text,
    Known(Meaning),
    /// One of those that are not read.
    Other(&'static str),
}

/// Decimals that a number of 64 bits has at most.
const DECIMALS_MAX: u32 = 18;

/// The columns of a schema, which is a tree written depth first.
pub(super) fn columns<E>(elements: Vec<Element>, max: usize) -> Result<Vec<Column>, ParquetFailure<E>> {
    let mut elements = elements.into_iter();
    let Some(root) = elements.next() else { return Err(ParquetError::NoColumns.into()) };
    let mut names = HashSet::new();
    let mut columns = Vec::new();
    for element in elements {
        if columns.len() == max {
            return Err(ParquetError::TooManyColumns { max }.into());
        }
        let column = column(element)?;
        if !names.insert(column.name.clone()) {
            return Err(ParquetError::DuplicateColumn { name: column.name }.into());
        }
        columns.push(column);
    }
    match columns.len() {
        0 => Err(ParquetError::NoColumns.into()),
        n if n as u64 == root.children => Ok(columns),
        _ => Err(ParquetError::Footer("it does not say how many columns there are").into()),
    }
}

fn column(element: Element) -> Result<Column, ParquetError> {
    let Element { name: column, physical, repetition, children, logical } = element;
    if children > 0 || repetition == 2 {
        return Err(ParquetError::Nested { column });
    }
    let unsupported =
        |what: &str| ParquetError::Unsupported { column: column.clone(), what: what.to_owned() };
    let physical = match physical {
        Some(0) => Physical::Boolean,
        Some(1) => Physical::Int32,
        Some(2) => Physical::Int64,
        Some(3) => return Err(unsupported("a time of 96 bits (INT96)")),
        Some(4) => Physical::Float,
        Some(5) => Physical::Double,
        Some(6) => Physical::Bytes,
        Some(7) => return Err(unsupported("bytes of fixed length (FIXED_LEN_BYTE_ARRAY)")),
        _ => return Err(unsupported("its type")),
    };
    let integer = matches!(physical, Physical::Int32 | Physical::Int64);
    let meaning = match logical {
        Logical::None => Meaning::Plain,
        Logical::Text if physical == Physical::Bytes => Meaning::Plain,
        Logical::Known(Meaning::Decimal(decimals)) if decimals > DECIMALS_MAX => {
            return Err(unsupported("a decimal of so many decimals"));
        }
        Logical::Known(Meaning::Plain) => Meaning::Plain,
        Logical::Known(meaning) if integer => meaning,
        Logical::Known(Meaning::Decimal(_)) => return Err(unsupported("a decimal that is not an integer")),
        Logical::Text | Logical::Known(_) => return Err(unsupported("its type")),
        Logical::Other(what) => return Err(unsupported(what)),
    };
    Ok(Column { name: column, physical, meaning, optional: repetition == 1 })
}
