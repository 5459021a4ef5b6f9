//! [`Header`]: what the header of a group or an array says.

use super::bytes::{Bytes, after};
use super::{DIMENSIONS_MAX, Hdf5Error, MEMBERS_MAX, NAME_BYTES_MAX};

/// The messages of an object's header that matter here.
#[derive(Debug, Default)]
pub(super) struct Header<'a> {
    /// Members of a group that stand in its header.
    pub(super) links: Vec<(String, u64)>,
    /// The symbol table of a group of the first generation.
    pub(super) symbols: Option<SymbolTable>,
    /// Where a group of the second generation with many members keeps them.
    pub(super) dense: Option<DenseLinks>,
    pub(super) space: Option<Space>,
    pub(super) element: Option<Element>,
    pub(super) layout: Option<Layout<'a>>,
}

/// Addresses of a group's tree and of the heap of its names.
#[derive(Debug, Clone, Copy)]
pub(super) struct SymbolTable {
    pub(super) tree: u64,
    pub(super) heap: u64,
}

/// Addresses of the heap of a group's links and of the tree of their names.
#[derive(Debug, Clone, Copy)]
pub(super) struct DenseLinks {
    pub(super) heap: u64,
    pub(super) tree: u64,
}

/// The dimensions of an array.
#[derive(Debug)]
pub(super) struct Space(pub(super) Vec<usize>);

/// What an array holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// IEEE half precision.
    F16,
    /// The upper half of a float32.
    BF16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
    /// Integers of so many bytes.
    Integer(usize),
}

/// Where the elements of an array lie.
#[derive(Debug, Clone, Copy)]
pub(super) enum Layout<'a> {
    Inside(&'a [u8]),
    At { address: u64, bytes: u64 },
}

/// The most messages of one header, and the most blocks that they lie in.
const MESSAGES_MAX: usize = 8192;
const BLOCKS_MAX: usize = 1024;
/// Stands where there is no address.
const NOWHERE: u64 = u64::MAX;

/// Messages that lie together.
struct Block {
    start: u64,
    end: u64,
}

impl<'a> Header<'a> {
    /// The header at `address`.
    pub(super) fn at(bytes: Bytes<'a>, address: u64) -> Result<Header<'a>, Hdf5Error> {
        let second = bytes.part(address, 4)? == b"OHDR";
        let (first, ordered) =
            if second { second_start(bytes, address)? } else { first_start(bytes, address)? };
        let lead = match (second, ordered) {
            (false, _) => 8,
            (true, false) => 4,
            (true, true) => 6,
        };
        let mut header = Header::default();
        let mut blocks = vec![first];
        let (mut opened, mut count) = (1, 0);
        while let Some(block) = blocks.pop() {
            let mut at = block.start;
            while after(at, lead)? <= block.end {
                let (kind, size) = match second {
                    true => (u16::from(bytes.u8(at)?), bytes.u16(at + 1)?),
                    false => (bytes.u16(at)?, bytes.u16(at + 2)?),
                };
                let shared = bytes.u8(at + if second { 3 } else { 4 })? & 2 != 0;
                if shared && matches!(kind, 0x01 | 0x03) {
                    return Err(Hdf5Error::Unsupported("a type that several arrays share"));
                }
                let content = after(at, lead)?;
                at = after(content, size.into())?;
                count += 1;
                if at > block.end || count > MESSAGES_MAX {
                    return Err(Hdf5Error::Damaged("the header of an object runs over"));
                }
                if kind == 0x10 {
                    opened += 1;
                    if opened > BLOCKS_MAX {
                        return Err(Hdf5Error::Damaged("the header of an object never ends"));
                    }
                    blocks.push(continued(bytes, content, second)?);
                } else {
                    header.take(bytes, kind, content, size.into())?;
                }
            }
        }
        Ok(header)
    }

    fn take(&mut self, bytes: Bytes<'a>, kind: u16, at: u64, size: usize) -> Result<(), Hdf5Error> {
        match kind {
            0x01 => self.space = Some(space(bytes, at)?),
            0x02 => {
                let flags = bytes.u8(at + 1)?;
                let at = at + 2 + if flags & 1 != 0 { 8 } else { 0 };
                let links = DenseLinks { heap: bytes.u64(at)?, tree: bytes.u64(at + 8)? };
                self.dense = (links.heap != NOWHERE).then_some(links);
            }
            0x03 => self.element = Some(element(bytes, at)?),
            0x06 => {
                if self.links.len() >= MEMBERS_MAX {
                    return Err(Hdf5Error::Unsupported("a group of more than 16384 members"));
                }
                self.links.extend(link(bytes, at)?);
            }
            0x08 => self.layout = Some(layout(bytes, at, size)?),
            0x0b => return Err(Hdf5Error::Unsupported("a packed array")),
            0x11 => self.symbols = Some(SymbolTable { tree: bytes.u64(at)?, heap: bytes.u64(at + 8)? }),
            _ => {}
        }
        Ok(())
    }
}

fn first_start(bytes: Bytes<'_>, address: u64) -> Result<(Block, bool), Hdf5Error> {
    if bytes.u8(address)? != 1 {
        return Err(Hdf5Error::Damaged("something is no object where one should be"));
    }
    let start = after(address, 16)?;
    Ok((Block { start, end: after(start, bytes.u32(address + 8)?.into())? }, false))
}

/// The first block, and whether messages carry the order of their creation.
fn second_start(bytes: Bytes<'_>, address: u64) -> Result<(Block, bool), Hdf5Error> {
    let flags = bytes.u8(address + 5)?;
    let times = if flags & 0x20 != 0 { 16 } else { 0 };
    let bounds = if flags & 0x10 != 0 { 4 } else { 0 };
    let sized = address + 6 + times + bounds;
    let width = 1usize << (flags & 3);
    let start = sized + width as u64;
    let end = after(start, bytes.number(sized, width)?)?;
    Ok((Block { start, end }, flags & 4 != 0))
}

/// The block that a message of a continuation speaks of.
fn continued(bytes: Bytes<'_>, at: u64, second: bool) -> Result<Block, Hdf5Error> {
    let (start, length) = (bytes.u64(at)?, bytes.u64(at + 8)?);
    let end = after(start, length)?;
    match second {
        false => Ok(Block { start, end }),
        // Between a mark and a checksum.
        true => Ok(Block { start: bytes.marked(start, b"OCHK")?, end: end.saturating_sub(4) }),
    }
}

fn space(bytes: Bytes<'_>, at: u64) -> Result<Space, Hdf5Error> {
    let dims = match bytes.u8(at)? {
        1 => at + 8,
        2 if bytes.u8(at + 3)? == 2 => return Err(Hdf5Error::Unsupported("an array without a shape")),
        2 => at + 4,
        _ => return Err(Hdf5Error::Unsupported("this form of an array's shape")),
    };
    let rank = u64::from(bytes.u8(at + 1)?);
    if rank > DIMENSIONS_MAX as u64 {
        return Err(Hdf5Error::Damaged("an array has too many dimensions"));
    }
    let dim =
        |i| usize::try_from(bytes.u64(dims + 8 * i)?).map_err(|_| Hdf5Error::Damaged("an array is too long"));
    (0..rank).map(dim).collect::<Result<_, _>>().map(Space)
}

fn element(bytes: Bytes<'_>, at: u64) -> Result<Element, Hdf5Error> {
    let (class, order) = (bytes.u8(at)? & 0x0f, bytes.u8(at + 1)?);
    let size = bytes.u32(at + 4)?;
    if order & 1 != 0 {
        return Err(Hdf5Error::Unsupported("an array of big-endian numbers"));
    }
    match (class, size) {
        (0, 1 | 2 | 4 | 8) => Ok(Element::Integer(size as usize)),
        // Widths of exponent and mantissa.
        (1, _) => match (size, bytes.u8(at + 13)?, bytes.u8(at + 15)?) {
            (2, 5, 10) => Ok(Element::F16),
            (2, 8, 7) => Ok(Element::BF16),
            (4, 8, 23) => Ok(Element::F32),
            (8, 11, 52) => Ok(Element::F64),
            _ => Err(Hdf5Error::Unsupported("an array of unusual floats")),
        },
        _ => Err(Hdf5Error::Unsupported("an array of anything but numbers")),
    }
}

/// A member of a group; none where it is no hard link.
pub(super) fn link(bytes: Bytes<'_>, at: u64) -> Result<Option<(String, u64)>, Hdf5Error> {
    let flags = bytes.part(at, 2)?[1];
    let mut at = at + 2;
    let mut hard = true;
    if flags & 8 != 0 {
        hard = bytes.u8(at)? == 0;
        at += 1;
    }
    at += if flags & 4 != 0 { 8 } else { 0 };
    at += u64::from(flags & 0x10 != 0);
    let width = 1usize << (flags & 3);
    let length = bytes.number(at, width)?;
    at += width as u64;
    let name = name(bytes, at, usize::try_from(length).unwrap_or(usize::MAX))?;
    Ok(if hard { Some((name, bytes.u64(after(at, length)?)?)) } else { None })
}

/// The name of `length` bytes at `at`.
pub(super) fn name(bytes: Bytes<'_>, at: u64, length: usize) -> Result<String, Hdf5Error> {
    if length > NAME_BYTES_MAX {
        return Err(Hdf5Error::Unsupported("a name of more than 1024 bytes"));
    }
    let text = std::str::from_utf8(bytes.part(at, length)?);
    text.map(str::to_owned).map_err(|_| Hdf5Error::Damaged("a name is not UTF-8"))
}

fn layout(bytes: Bytes<'_>, at: u64, size: usize) -> Result<Layout<'_>, Hdf5Error> {
    match (bytes.u8(at)?, bytes.u8(at + 1)?) {
        (3 | 4, 0) => {
            let length = usize::from(bytes.u16(at + 2)?);
            let inside = length.checked_add(4).is_some_and(|end| end <= size);
            let data = inside.then(|| bytes.part(at + 4, length));
            data.unwrap_or(Err(Hdf5Error::Damaged("an array in a header runs over"))).map(Layout::Inside)
        }
        (3 | 4, 1) => Ok(Layout::At { address: bytes.u64(at + 2)?, bytes: bytes.u64(at + 10)? }),
        (3 | 4, 2) => Err(Hdf5Error::Unsupported("an array in chunks")),
        _ => Err(Hdf5Error::Unsupported("this way to lay out an array")),
    }
}

impl Element {
    /// Bytes of one.
    pub(super) fn bytes(self) -> usize {
        match self {
            Element::F16 | Element::BF16 => 2,
            Element::F32 => 4,
            Element::F64 => 8,
            Element::Integer(bytes) => bytes,
        }
    }

    /// `data` as float32.
    pub(super) fn floats(self, data: &[u8]) -> Option<Vec<f32>> {
        Some(match self {
            Element::F32 => data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Element::F64 => data.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
            Element::F16 => data.as_chunks::<2>().0.iter().map(|b| half(u16::from_le_bytes(*b))).collect(),
            Element::BF16 => {
                let single = |b: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
                data.as_chunks::<2>().0.iter().map(single).collect()
            }
            Element::Integer(_) => return None,
        })
    }
}

/// The float32 of a half.
fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 != 0 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        0x1f if fraction == 0.0 => f32::INFINITY,
        0x1f => f32::NAN,
        e => (1.0 + fraction / 1024.0) * 2f32.powi(e - 15),
    }
}
