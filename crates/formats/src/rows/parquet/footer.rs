//! [`Footer`]: what stands at the end of a file, the columns and where their pages lie.

use super::schema::{Column, Logical, Meaning, columns};
use super::thrift::{Thrift, Wire};
use super::{Decoded, FOOTER_BYTES_MAX, Malformed, ParquetError, ParquetFailure, Source};

/// What a file begins and ends with, and what it ends with if its footer is encrypted.
const MAGIC: &[u8] = b"PAR1";
const MAGIC_ENCRYPTED: &[u8] = b"PARE";
/// The footer's length and the magic.
const TAIL_BYTES: u64 = 8;

/// The columns and the row groups of a file.
#[derive(Debug)]
pub(super) struct Footer {
    pub(super) columns: Vec<Column>,
    pub(super) groups: Vec<Group>,
}

/// Some consecutive rows.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) rows: u64,
    /// One for each column.
    pub(super) chunks: Vec<Chunk>,
}

/// The pages of one column of a group.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Chunk {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) codec: i64,
}

/// An element of the schema's tree, as it is written.
#[derive(Debug, Default)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) physical: Option<i64>,
    /// 0 required, 1 optional, 2 repeated.
    pub(super) repetition: i64,
    pub(super) children: u64,
    pub(super) logical: Logical,
}

impl Footer {
    /// Reads the footer of `source`.
    pub(super) fn read<S: Source>(
        source: &mut S,
        columns_max: usize,
    ) -> Result<Footer, ParquetFailure<S::Error>> {
        let size = source.size();
        if size < MAGIC.len() as u64 + TAIL_BYTES {
            return Err(ParquetError::NotParquet.into());
        }
        let tail = source.read(size - TAIL_BYTES..size).map_err(ParquetFailure::Source)?;
        let Some((length, magic)) = tail.split_first_chunk::<4>() else {
            return Err(ParquetError::NotParquet.into());
        };
        match magic {
            MAGIC => {}
            MAGIC_ENCRYPTED => return Err(ParquetError::Encrypted.into()),
            _ => return Err(ParquetError::NotParquet.into()),
        }
        let length = u64::from(u32::from_le_bytes(*length));
        let end = size - TAIL_BYTES;
        if length > end - MAGIC.len() as u64 {
            return Err(ParquetError::Footer("it is longer than the file").into());
        }
        if length > FOOTER_BYTES_MAX {
            return Err(ParquetError::Footer("it is longer than 64 MiB: write fewer row groups").into());
        }
        let bytes = source.read(end - length..end).map_err(ParquetFailure::Source)?;
        let (elements, groups) = file(&bytes).map_err(|Malformed(why)| ParquetError::Footer(why))?;
        let columns = columns(elements, columns_max)?;
        for group in &groups {
            if group.chunks.len() != columns.len() {
                return Err(ParquetError::Footer("a row group has other columns than the file").into());
            }
            if group.chunks.iter().any(|chunk| chunk.end > end) {
                return Err(ParquetError::Footer("a column lies beyond the end of the file").into());
            }
        }
        Ok(Footer { columns, groups })
    }
}

fn file(bytes: &[u8]) -> Decoded<(Vec<Element>, Vec<Group>)> {
    let (mut elements, mut groups) = (Vec::new(), Vec::new());
    Thrift::new(bytes).structure(|thrift, id, wire| {
        match (id, wire) {
            (2, Wire::List) => thrift.list(|thrift| {
                elements.push(element(thrift)?);
                Ok(())
            })?,
            (4, Wire::List) => thrift.list(|thrift| {
                groups.push(group(thrift)?);
                Ok(())
            })?,
            (8, _) => return Err(Malformed("it is encrypted")),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok((elements, groups))
}

fn element(thrift: &mut Thrift<'_>) -> Decoded<Element> {
    let mut element = Element::default();
    let (mut converted, mut scale) = (None, 0);
    thrift.structure(|thrift, id, wire| {
        match (id, wire) {
            (1, Wire::Integer) => element.physical = Some(thrift.integer()?),
            (3, Wire::Integer) => element.repetition = thrift.integer()?,
            (4, Wire::Binary) => {
                let name = std::str::from_utf8(thrift.binary()?);
                element.name = name.map_err(|_| Malformed("a column's name is not UTF-8"))?.to_owned();
            }
            (5, Wire::Integer) => element.children = unsigned(thrift.integer()?)?,
            (6, Wire::Integer) => converted = Some(thrift.integer()?),
            (7, Wire::Integer) => scale = thrift.integer()?,
            (10, Wire::Struct) => element.logical = logical(thrift)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if element.logical == Logical::None {
        element.logical = converted.map_or(Logical::None, |code| converted_type(code, scale));
    }
    Ok(element)
}

/// What files have said of a column before there were logical types.
fn converted_type(code: i64, scale: i64) -> Logical {
    let timestamp = |decimals| Logical::Known(Meaning::Timestamp { decimals, utc: true });
    match code {
        0 | 4 | 19 => Logical::Text,
        5 => Logical::Known(Meaning::Decimal(u32::try_from(scale).unwrap_or(u32::MAX))),
        6 => Logical::Known(Meaning::Date),
        7 => Logical::Known(Meaning::Time { decimals: 3 }),
        8 => Logical::Known(Meaning::Time { decimals: 6 }),
        9 => timestamp(3),
        10 => timestamp(6),
        11..=13 => Logical::Known(Meaning::Unsigned32),
        14 => Logical::Known(Meaning::Unsigned64),
        15..=18 => Logical::Known(Meaning::Plain),
        20 => Logical::Other("BSON"),
        21 => Logical::Other("an interval of time"),
        _ => Logical::Other("its type"),
    }
}

fn logical(thrift: &mut Thrift<'_>) -> Decoded<Logical> {
    let mut logical = Logical::None;
    thrift.structure(|thrift, id, wire| {
        if wire != Wire::Struct {
            return Ok(false);
        }
        logical = match id {
            1 | 4 | 12 => Logical::Text,
            5 => {
                let mut scale = 0;
                thrift.structure(|thrift, id, wire| {
                    let is_scale = (id, wire) == (1, Wire::Integer);
                    if is_scale {
                        scale = thrift.integer()?;
                    }
                    Ok(is_scale)
                })?;
                logical = Logical::Known(Meaning::Decimal(u32::try_from(scale).unwrap_or(u32::MAX)));
                return Ok(true);
            }
            6 => Logical::Known(Meaning::Date),
            7 | 8 => {
                let (utc, decimals) = time(thrift)?;
                let meaning = match id {
                    7 => Meaning::Time { decimals },
                    _ => Meaning::Timestamp { decimals, utc },
                };
                logical = Logical::Known(meaning);
                return Ok(true);
            }
            10 => {
                let (mut bits, mut signed) = (0, true);
                thrift.structure(|thrift, id, wire| {
                    match (id, wire) {
                        (1, Wire::Byte) => bits = thrift.byte()?,
                        (2, Wire::Bool(value)) => {
                            signed = value;
                            return Ok(false);
                        }
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
                logical = Logical::Known(match (signed, bits) {
                    (true, _) => Meaning::Plain,
                    (false, 64) => Meaning::Unsigned64,
                    (false, _) => Meaning::Unsigned32,
                });
                return Ok(true);
            }
            // Of nulls only.
            11 => Logical::Known(Meaning::Plain),
            13 => Logical::Other("BSON"),
            _ => Logical::Other("its type"),
        };
        Ok(false)
    })?;
    Ok(logical)
}

/// Whether a time is in UTC, and how many decimals of a second it has.
fn time(thrift: &mut Thrift<'_>) -> Decoded<(bool, u32)> {
    let (mut utc, mut decimals) = (true, 0);
    thrift.structure(|thrift, id, wire| {
        match (id, wire) {
            (1, Wire::Bool(value)) => utc = value,
            (2, Wire::Struct) => {
                thrift.structure(|_, id, _| {
                    decimals = match id {
                        1 => 3,
                        2 => 6,
                        3 => 9,
                        _ => return Err(Malformed("a time has no known unit")),
                    };
                    Ok(false)
                })?;
                return Ok(true);
            }
            _ => {}
        }
        Ok(false)
    })?;
    Ok((utc, decimals))
}

fn group(thrift: &mut Thrift<'_>) -> Decoded<Group> {
    let mut group = Group::default();
    thrift.structure(|thrift, id, wire| {
        match (id, wire) {
            (1, Wire::List) => thrift.list(|thrift| {
                group.chunks.push(chunk(thrift)?);
                Ok(())
            })?,
            (3, Wire::Integer) => group.rows = unsigned(thrift.integer()?)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(group)
}

fn chunk(thrift: &mut Thrift<'_>) -> Decoded<Chunk> {
    let mut chunk = None;
    thrift.structure(|thrift, id, wire| {
        match (id, wire) {
            (1, Wire::Binary) => return Err(Malformed("a column lies in another file")),
            (3, Wire::Struct) => chunk = Some(place(thrift)?),
            (8 | 9, _) => return Err(Malformed("a column is encrypted")),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    chunk.ok_or(Malformed("it does not say where a column lies"))
}

fn place(thrift: &mut Thrift<'_>) -> Decoded<Chunk> {
    let (mut codec, mut length, mut data, mut dictionary) = (0, 0, 0, None);
    thrift.structure(|thrift, id, wire| {
        if wire != Wire::Integer {
            return Ok(false);
        }
        match id {
            4 => codec = thrift.integer()?,
            7 => length = unsigned(thrift.integer()?)?,
            9 => data = unsigned(thrift.integer()?)?,
            11 => dictionary = Some(unsigned(thrift.integer()?)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    // Some writers say that a dictionary is at 0 where there is none.
    let start = dictionary.filter(|&start| start > 0 && start < data).unwrap_or(data);
    let end = start.checked_add(length).ok_or(Malformed("a column has no end"))?;
    Ok(Chunk { start, end, codec })
}

fn unsigned(number: i64) -> Decoded<u64> {
    u64::try_from(number).map_err(|_| Malformed("a count or a place in it is negative"))
}
