//! [`Page`]: some values of a column, unpacked.

use std::io::Read;

use flate2::read::MultiGzDecoder;

use super::thrift::{Thrift, Wire};
use super::{Decoded, Malformed, PAGE_BYTES_MAX};

/// What stands before a page.
#[derive(Debug, Default)]
pub(super) struct PageHeader {
    kind: i64,
    unpacked: usize,
    /// Bytes of the page as it lies in the file.
    pub(super) packed: usize,
    crc: Option<u32>,
    values: u32,
    encoding: i64,
    /// Of the second kind of data pages: how long the levels are, which are not packed, and whether the rest is.
    repetition_bytes: usize,
    definition_bytes: usize,
    is_packed: bool,
}

/// A page.
#[derive(Debug)]
pub(super) enum Page {
    /// The values to which others refer.
    Dictionary { bytes: Vec<u8>, values: u32 },
    /// Values, nulls included.
    Data { bytes: Vec<u8>, values: u32, encoding: i64, levels: Levels },
    /// None of the column's values.
    Other,
}

/// Where it stands which values of a page are null, if any may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Levels {
    /// At its start, after their length.
    Prefixed,
    /// In these bytes, before the values.
    Bytes(usize),
}

impl PageHeader {
    /// Reads the header that stands at the start of `bytes`, and says how long it is.
    pub(super) fn read(bytes: &[u8]) -> Decoded<(PageHeader, usize)> {
        let mut header = PageHeader { is_packed: true, ..PageHeader::default() };
        let mut thrift = Thrift::new(bytes);
        thrift.structure(|thrift, id, wire| {
            match (id, wire) {
                (1, Wire::Integer) => header.kind = thrift.integer()?,
                (2, Wire::Integer) => header.unpacked = size(thrift.integer()?)?,
                (3, Wire::Integer) => header.packed = size(thrift.integer()?)?,
                (4, Wire::Integer) => header.crc = Some(thrift.integer()? as u32),
                (5 | 7 | 8, Wire::Struct) => header.particulars(thrift, id)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok((header, thrift.position()))
    }

    fn particulars(&mut self, thrift: &mut Thrift<'_>, kind: i64) -> Decoded<()> {
        thrift.structure(|thrift, id, wire| {
            match (kind, id, wire) {
                (_, 1, Wire::Integer) => {
                    let values = u32::try_from(thrift.integer()?);
                    self.values = values.map_err(|_| Malformed("a page has no possible number of values"))?;
                }
                (5 | 7, 2, Wire::Integer) | (8, 4, Wire::Integer) => self.encoding = thrift.integer()?,
                (8, 5, Wire::Integer) => self.definition_bytes = size(thrift.integer()?)?,
                (8, 6, Wire::Integer) => self.repetition_bytes = size(thrift.integer()?)?,
                (8, 7, Wire::Bool(packed)) => self.is_packed = packed,
                _ => return Ok(false),
            }
            Ok(true)
        })
    }

    /// How many values follow that are rows of the column, if the page holds such.
    pub(super) fn rows(&self) -> Option<u32> {
        matches!(self.kind, 0 | 3).then_some(self.values)
    }

    /// The page whose bytes in the file are `packed`.
    pub(super) fn page(self, packed: &[u8], codec: i64) -> Decoded<Page> {
        if let Some(expected) = self.crc {
            let mut crc = flate2::Crc::new();
            crc.update(packed);
            if crc.sum() != expected {
                return Err(Malformed("a page has not the checksum that it had when it was written"));
            }
        }
        Ok(match self.kind {
            0 => Page::Data {
                bytes: unpack(packed, self.unpacked, codec)?,
                values: self.values,
                encoding: self.encoding,
                levels: Levels::Prefixed,
            },
            2 => Page::Dictionary { bytes: unpack(packed, self.unpacked, codec)?, values: self.values },
            3 => {
                let levels = self.repetition_bytes.saturating_add(self.definition_bytes);
                let (levels, rest) = packed.split_at_checked(levels).ok_or(LEVELS)?;
                let room = self.unpacked.checked_sub(levels.len()).ok_or(LEVELS)?;
                let codec = if self.is_packed { codec } else { PLAIN };
                let mut bytes = levels.get(self.repetition_bytes..).unwrap_or_default().to_vec();
                bytes.extend(unpack(rest, room, codec)?);
                Page::Data {
                    bytes,
                    values: self.values,
                    encoding: self.encoding,
                    levels: Levels::Bytes(self.definition_bytes),
                }
            }
            _ => Page::Other,
        })
    }
}

const LEVELS: Malformed = Malformed("a page's levels are longer than the page");
const SIZE: Malformed = Malformed("a page does not unpack to the size that it states");

/// A size that a page states.
fn size(stated: i64) -> Decoded<usize> {
    let size = usize::try_from(stated).map_err(|_| Malformed("a page states a negative size"))?;
    match size <= PAGE_BYTES_MAX {
        true => Ok(size),
        false => Err(Malformed("a page is larger than 64 MiB: write smaller pages")),
    }
}

/// The codec of what is not packed.
const PLAIN: i64 = 0;

/// What a codec is called, if it is not one of those that are read here.
pub(super) fn unknown_codec(codec: i64) -> Option<&'static str> {
    match codec {
        PLAIN | 1 | 2 | 6 => None,
        3 => Some("the compression LZO"),
        4 => Some("the compression Brotli"),
        5 | 7 => Some("the compression LZ4"),
        _ => Some("its compression"),
    }
}

/// `packed` unpacked, which must become `size` bytes.
fn unpack(packed: &[u8], size: usize, codec: i64) -> Decoded<Vec<u8>> {
    // An empty page of some writers is not even a packed nothing.
    if size == 0 {
        return Ok(Vec::new());
    }
    match codec {
        PLAIN => match packed.len() == size {
            true => Ok(packed.to_vec()),
            false => Err(SIZE),
        },
        1 => {
            if snap::raw::decompress_len(packed) != Ok(size) {
                return Err(SIZE);
            }
            let mut unpacked = vec![0; size];
            match snap::raw::Decoder::new().decompress(packed, &mut unpacked) {
                Ok(length) if length == size => Ok(unpacked),
                _ => Err(Malformed("a page cannot be unpacked with Snappy")),
            }
        }
        2 => bounded(MultiGzDecoder::new(packed), size),
        6 => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(packed);
            bounded(decoder.map_err(|_| SIZE)?, size)
        }
        _ => Err(Malformed("a page is packed in an unknown way")),
    }
}

/// All that `reader` gives, which must be `size` bytes.
fn bounded(reader: impl Read, size: usize) -> Decoded<Vec<u8>> {
    let mut unpacked = Vec::new();
    let read = reader.take(size as u64 + 1).read_to_end(&mut unpacked);
    match read {
        Ok(length) if length == size => Ok(unpacked),
        _ => Err(SIZE),
    }
}
