//! What stands before the tensors' data in one file: metadata, and where each tensor lies.

use std::collections::HashSet;

use super::cursor::Cursor;
use super::error::Fault;
use super::metadata::Index;
use crate::Format;

const MAGIC: &[u8; 4] = b"GGUF";
const ALIGNMENT_KEY: &str = "general.alignment";
const ALIGNMENT_DEFAULT: u64 = 32;
const ALIGNMENT_MAX: u64 = 1 << 20;
/// Far more than any model has: mixtures of experts have tens of thousands where each expert is a tensor.
const TENSORS_MAX: u64 = 1 << 18;
const TENSOR_NAME_BYTES_MAX: u64 = 256;
const DIMENSIONS_MAX: u64 = 4;
/// A name of one byte, the number of dimensions, none of them, format and offset.
const TENSOR_INFO_BYTES_MIN: u64 = 8 + 1 + 4 + 4 + 8;

/// The head of one file, validated against the file's length.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) metadata: Index,
    pub(super) tensors: Vec<TensorInfo>,
}

/// A tensor that lies wholly inside its file and shares no byte with another.
#[derive(Debug)]
pub(super) struct TensorInfo {
    pub(super) name: Box<str>,
    /// Slowest first.
    pub(super) shape: Box<[usize]>,
    pub(super) format: Format,
    /// Where in the file; until [`place`] has seen it, where in the data section.
    pub(super) start: usize,
    pub(super) len: usize,
}

impl Header {
    /// Reads and validates a whole file.
    pub(super) fn parse(bytes: &[u8]) -> Result<Header, Fault> {
        let mut cursor = Cursor::new(bytes);
        read_version(&mut cursor)?;
        let tensor_count = cursor.u64(|| "the number of tensors".to_owned())?;
        let metadata_count = cursor.u64(|| "the number of metadata values".to_owned())?;
        let metadata = Index::read(&mut cursor, metadata_count)?;
        let alignment = alignment(&metadata, bytes)?;
        let count =
            cursor.check_count(tensor_count, TENSOR_INFO_BYTES_MIN, TENSORS_MAX, || "tensors".to_owned())?;
        let mut tensors = (0..count).map(|_| read_tensor(&mut cursor)).collect::<Result<Vec<_>, _>>()?;
        check_names(&tensors)?;
        place(&mut tensors, &cursor, alignment)?;
        Ok(Header { metadata, tensors })
    }
}

fn read_version(cursor: &mut Cursor<'_>) -> Result<(), Fault> {
    let magic = cursor.take(4, || "its first four letters".to_owned()).map_err(|_| Fault::Magic)?;
    if magic != MAGIC {
        return Err(Fault::Magic);
    }
    match cursor.u32(|| "its version".to_owned())? {
        2 | 3 => Ok(()),
        version if matches!(version.swap_bytes(), 1..=3) => Err(Fault::BigEndian),
        version => Err(Fault::Version(version)),
    }
}

fn alignment(metadata: &Index, bytes: &[u8]) -> Result<u64, Fault> {
    let alignment = metadata.view(bytes).u64(ALIGNMENT_KEY).map_err(|_| Fault::Alignment(0))?;
    let alignment = alignment.unwrap_or(ALIGNMENT_DEFAULT);
    if alignment.is_power_of_two() && alignment <= ALIGNMENT_MAX {
        Ok(alignment)
    } else {
        Err(Fault::Alignment(alignment))
    }
}

/// One tensor's name, dimensions, format and offset, the offset not yet checked.
fn read_tensor(cursor: &mut Cursor<'_>) -> Result<TensorInfo, Fault> {
    let name = cursor.name("a tensor's name", TENSOR_NAME_BYTES_MAX)?;
    let what = || format!("the description of tensor {name:?}");
    let count = u64::from(cursor.u32(what)?);
    let count = cursor.check_count(count, 8, DIMENSIONS_MAX, || format!("dimensions of tensor {name:?}"))?;
    let dimensions = (0..count).map(|_| cursor.u64(what)).collect::<Result<Vec<_>, _>>()?;
    let number = cursor.u32(what)?;
    let offset = cursor.u64(what)?;
    let format = Format::from_gguf(number).ok_or_else(|| Fault::Format {
        tensor: name.to_owned(),
        number,
        name: foreign_format(number),
    })?;
    let impossible = || Fault::Shape { tensor: name.to_owned(), dimensions: dimensions.clone() };
    let shape = shape(&dimensions).ok_or_else(impossible)?;
    let columns = shape.last().copied().unwrap_or(1);
    let row_bytes = match format.row_bytes(columns) {
        Some(bytes) => bytes,
        None if columns.is_multiple_of(format.block_len()) => return Err(impossible()),
        None => return Err(Fault::Blocks { tensor: name.to_owned(), columns, format }),
    };
    let rows: usize = shape.iter().rev().skip(1).product();
    let len = rows.checked_mul(row_bytes).ok_or_else(impossible)?;
    let start = usize::try_from(offset).map_err(|_| out_of_file(name, offset, len, cursor.left()))?;
    Ok(TensorInfo { name: name.into(), shape, format, start, len })
}

/// Slowest dimension first, when none is zero and all elements can be counted.
fn shape(dimensions: &[u64]) -> Option<Box<[usize]>> {
    let shape: Box<[usize]> =
        dimensions.iter().rev().map(|&dimension| usize::try_from(dimension).ok()).collect::<Option<_>>()?;
    let elements = shape.iter().try_fold(1_usize, |product, &dimension| product.checked_mul(dimension))?;
    (elements > 0).then_some(shape)
}

fn check_names(tensors: &[TensorInfo]) -> Result<(), Fault> {
    let mut names = HashSet::with_capacity(tensors.len());
    match tensors.iter().find(|tensor| !names.insert(&tensor.name)) {
        Some(tensor) => Err(Fault::Duplicate { what: "tensor", name: tensor.name.to_string() }),
        None => Ok(()),
    }
}

/// Turns offsets in the data section, which begins at the next aligned byte after the header, into places in the file.
fn place(tensors: &mut [TensorInfo], header: &Cursor<'_>, alignment: u64) -> Result<(), Fault> {
    let begin = (header.position() as u64).next_multiple_of(alignment);
    let end = (header.position() + header.left()) as u64;
    let available = end.saturating_sub(begin);
    for tensor in &mut *tensors {
        let offset = tensor.start as u64;
        if !offset.is_multiple_of(alignment) {
            return Err(Fault::Misaligned { tensor: tensor.name.to_string(), offset, alignment });
        }
        let fits = offset.checked_add(tensor.len as u64).is_some_and(|end| end <= available);
        if !fits {
            return Err(out_of_file(
                &tensor.name,
                offset,
                tensor.len,
                usize::try_from(available).unwrap_or(0),
            ));
        }
        // Inside the file, whose length is a usize.
        tensor.start += usize::try_from(begin).unwrap_or(usize::MAX);
    }
    let mut order: Vec<&TensorInfo> = tensors.iter().collect();
    order.sort_unstable_by_key(|tensor| tensor.start);
    match order.windows(2).find(|pair| pair[0].start + pair[0].len > pair[1].start) {
        Some(pair) => {
            Err(Fault::Overlap { first: pair[0].name.to_string(), second: pair[1].name.to_string() })
        }
        None => Ok(()),
    }
}

fn out_of_file(tensor: &str, offset: u64, len: usize, available: usize) -> Fault {
    Fault::OutOfFile { tensor: tensor.to_owned(), offset, len: len as u64, available: available as u64 }
}

/// What others call the formats that we do not read.
fn foreign_format(number: u32) -> &'static str {
    match number {
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        21 => "IQ3_S",
        22 => "IQ2_S",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        40 => "NVFP4",
        _ => "something unknown",
    }
}
