//! The head of a safetensors file: JSON that says where each tensor lies.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use crate::Format;

/// As the reference has it.
const HEADER_BYTES_MAX: u64 = 100_000_000;
const TENSORS_MAX: usize = 1 << 18;
const DIMENSIONS_MAX: usize = 8;

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is shorter than its own head.
    #[error("it has {file} bytes, and claims a head of {header}")]
    Truncated {
        /// Bytes of the file.
        file: u64,
        /// Bytes claimed.
        header: u64,
    },
    /// Its head is not the JSON that it should be.
    #[error("its head cannot be read: {0}")]
    Header(String),
    /// A name occurs twice.
    #[error("tensor {0:?} occurs twice")]
    Duplicate(String),
    /// A tensor is of a type that does not exist.
    #[error("tensor {tensor:?} is of the unknown type {kind:?}")]
    Type {
        /// The tensor.
        tensor: String,
        /// As written.
        kind: String,
    },
    /// A tensor's shape is not that of its bytes.
    #[error("tensor {tensor:?} of the shape {shape:?} lies in bytes {start} to {end}, which is not its size")]
    Size {
        /// The tensor.
        tensor: String,
        /// As written.
        shape: Vec<u64>,
        /// Its first byte.
        start: u64,
        /// The byte after its last.
        end: u64,
    },
    /// Tensors overlap, or leave bytes unused, or reach beyond the end.
    #[error("its tensors do not fill its {available} bytes of data exactly: see byte {at}")]
    Layout {
        /// Bytes of data.
        available: u64,
        /// Where that shows.
        at: u64,
    },
}

/// A tensor that lies wholly inside its file and shares no byte with another.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Box<str>,
    pub(super) shape: Box<[usize]>,
    /// None for types that are not floats.
    pub(super) format: Option<Format>,
    /// Where in the file.
    pub(super) start: usize,
    pub(super) len: usize,
}

#[derive(Deserialize)]
struct Described {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// Reads and validates a whole file; the entries are in the order of their bytes.
pub(super) fn parse(file: &[u8]) -> Result<Vec<Entry>, Fault> {
    let truncated = |header| Fault::Truncated { file: file.len() as u64, header };
    let (len, rest) = file.split_first_chunk::<8>().ok_or(truncated(8))?;
    let len = u64::from_le_bytes(*len);
    if len > HEADER_BYTES_MAX || len > rest.len() as u64 {
        return Err(truncated(len));
    }
    let (json, data) = rest.split_at(usize::try_from(len).map_err(|_| truncated(len))?);
    let Header(described) = serde_json::from_slice(json).map_err(|error| Fault::Header(error.to_string()))?;
    let data_start = file.len() - data.len();
    let mut entries = Vec::with_capacity(described.len());
    for (name, described) in described {
        entries.push(entry(name, &described, data_start)?);
    }
    check_layout(&mut entries, data_start, data.len())?;
    Ok(entries)
}

fn entry(name: String, described: &Described, data_start: usize) -> Result<Entry, Fault> {
    let (start, end) = described.data_offsets;
    let wrong = || Fault::Size { tensor: name.clone(), shape: described.shape.clone(), start, end };
    let unknown = || Fault::Type { tensor: name.clone(), kind: described.dtype.clone() };
    let (format, bytes) = element(&described.dtype).ok_or_else(unknown)?;
    if described.shape.len() > DIMENSIONS_MAX {
        return Err(wrong());
    }
    let shape: Option<Box<[usize]>> =
        described.shape.iter().map(|&side| usize::try_from(side).ok()).collect();
    let shape = shape.ok_or_else(wrong)?;
    let len = shape.iter().try_fold(bytes, |product, &side| product.checked_mul(side)).ok_or_else(wrong)?;
    if len == 0 || start.checked_add(len as u64) != Some(end) {
        return Err(wrong());
    }
    let start =
        usize::try_from(start).ok().and_then(|start| start.checked_add(data_start)).ok_or_else(wrong)?;
    Ok(Entry { name: name.into(), shape, format, start, len })
}

/// Puts entries in the order of their bytes, and checks that they follow one another to the end.
fn check_layout(entries: &mut [Entry], data_start: usize, data_len: usize) -> Result<(), Fault> {
    entries.sort_unstable_by_key(|entry| entry.start);
    let mut at = data_start;
    for entry in &*entries {
        if entry.start != at {
            break;
        }
        at = at.saturating_add(entry.len);
    }
    let filled = entries.iter().all(|entry| entry.start < at) && at == data_start + data_len;
    let fault = Fault::Layout { available: data_len as u64, at: (at - data_start) as u64 };
    if filled { Ok(()) } else { Err(fault) }
}

/// The format of a type, if it is one of ours, and the bytes of an element.
fn element(dtype: &str) -> Option<(Option<Format>, usize)> {
    Some(match dtype {
        "F32" => (Some(Format::F32), 4),
        "F16" => (Some(Format::F16), 2),
        "BF16" => (Some(Format::Bf16), 2),
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" => (None, 1),
        "U16" | "I16" => (None, 2),
        "U32" | "I32" => (None, 4),
        "U64" | "I64" | "F64" => (None, 8),
        _ => return None,
    })
}

/// Names with their descriptions, none twice.
struct Header(Vec<(String, Described)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a description for each tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        use serde::de::Error;
        let mut seen = HashSet::new();
        let mut entries = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("{name:?} occurs twice")));
            }
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
            } else if entries.len() == TENSORS_MAX {
                return Err(A::Error::custom(format_args!("more than {TENSORS_MAX} tensors")));
            } else {
                entries.push((name, map.next_value()?));
            }
        }
        Ok(Header(entries))
    }
}
