//! Groups of the second generation with many members: links in a heap, found through a tree of their names' hashes.

use super::bytes::{Bytes, after};
use super::header::{DenseLinks, link};
use super::{Hdf5Error, MEMBERS_MAX};

/// The heap that links lie in: blocks whose sizes double from row to row.
struct Heap<'a> {
    bytes: Bytes<'a>,
    /// Bytes of an offset into the heap.
    offset_width: usize,
    /// Bytes of the identity of an object in it.
    id_width: usize,
    /// Where its blocks begin: offset in the heap, address in the file, bytes.
    blocks: Vec<(u64, u64, u64)>,
}

/// Kind of a tree that is ordered by names.
const BY_NAME: u8 = 5;
/// Bytes of a hash, which stands before an object's identity.
const HASH_BYTES: u64 = 4;
/// The most blocks of a heap in one row.
const WIDTH_MAX: u64 = 1024;
/// Stands where there is no block.
const NOWHERE: u64 = u64::MAX;

/// Adds the members of the group with these links to `members`.
pub(super) fn read(
    bytes: Bytes<'_>,
    links: DenseLinks,
    members: &mut Vec<(String, u64)>,
) -> Result<(), Hdf5Error> {
    let heap = Heap::at(bytes, links.heap)?;
    let tree = bytes.marked(links.tree, b"BTHD")?;
    let (kind, node_bytes) = (bytes.u8(tree + 1)?, bytes.u32(tree + 2)?);
    let (record, depth) = (u64::from(bytes.u16(tree + 6)?), bytes.u16(tree + 8)?);
    let (root, count) = (bytes.u64(tree + 12)?, bytes.u16(tree + 20)?);
    if kind != BY_NAME || record != HASH_BYTES + heap.id_width as u64 {
        return Err(Hdf5Error::Damaged("the tree of a group is none"));
    }
    match depth {
        0 => heap.leaf(root, count, record, members),
        1 => {
            // Of the number of records in a leaf: as wide as the most that fit need it.
            let most = u64::from(node_bytes).saturating_sub(10) / record;
            let width = if most < 256 { 1 } else { 2 };
            let node = bytes.marked(root, b"BTIN")?;
            let records = after(node, 2)?;
            heap.records(records, count, record, members)?;
            let children = after(records, record * u64::from(count))?;
            for i in 0..=u64::from(count) {
                let child = after(children, i * (8 + width as u64))?;
                let own = bytes.number(child + 8, width)? as u16;
                heap.leaf(bytes.u64(child)?, own, record, members)?;
            }
            Ok(())
        }
        _ => Err(Hdf5Error::Unsupported("a group of so many members")),
    }
}

impl<'a> Heap<'a> {
    fn at(bytes: Bytes<'a>, address: u64) -> Result<Heap<'a>, Hdf5Error> {
        let at = bytes.marked(address, b"FRHP")?;
        let id_width = usize::from(bytes.u16(at + 1)?);
        if bytes.u16(at + 3)? != 0 {
            return Err(Hdf5Error::Unsupported("a packed group"));
        }
        let width = u64::from(bytes.u16(at + 106)?);
        let (start, largest) = (bytes.u64(at + 108)?, bytes.u64(at + 116)?);
        let offset_width = usize::from(bytes.u16(at + 124)?).div_ceil(8);
        let (root, rows) = (bytes.u64(at + 128)?, u64::from(bytes.u16(at + 136)?));
        if start == 0
            || width > WIDTH_MAX
            || !(1..=8).contains(&offset_width)
            || id_width < offset_width + 2
            || id_width > offset_width + 9
        {
            return Err(Hdf5Error::Damaged("the heap of a group is none"));
        }
        let mut heap = Heap { bytes, offset_width, id_width, blocks: Vec::new() };
        if root == NOWHERE {
            return Ok(heap);
        }
        if rows == 0 {
            heap.blocks.push((0, root, start));
            return Ok(heap);
        }
        let at = after(bytes.marked(root, b"FHIB")?, 9 + offset_width as u64)?;
        let (mut offset, mut size) = (0u64, start);
        for row in 0..rows {
            size = if row > 1 { size.saturating_mul(2) } else { size };
            if size > largest {
                return Err(Hdf5Error::Unsupported("a group of so many members"));
            }
            for column in 0..width {
                let block = bytes.u64(after(at, 8 * (row * width + column))?)?;
                if block != NOWHERE {
                    heap.blocks.push((offset, block, size));
                }
                offset = after(offset, size)?;
            }
        }
        Ok(heap)
    }

    fn leaf(
        &self,
        address: u64,
        count: u16,
        record: u64,
        members: &mut Vec<(String, u64)>,
    ) -> Result<(), Hdf5Error> {
        let node = self.bytes.marked(address, b"BTLF")?;
        self.records(after(node, 2)?, count, record, members)
    }

    /// Adds what `count` records from `at` on stand for to `members`.
    fn records(
        &self,
        at: u64,
        count: u16,
        record: u64,
        members: &mut Vec<(String, u64)>,
    ) -> Result<(), Hdf5Error> {
        for i in 0..u64::from(count) {
            if members.len() >= MEMBERS_MAX {
                return Err(Hdf5Error::Unsupported("a group of more than 16384 members"));
            }
            let id = after(at, record * i + HASH_BYTES)?;
            // The upper bits: its version and that it lies in a block.
            if self.bytes.u8(id)? >> 4 != 0 {
                return Err(Hdf5Error::Unsupported("a very long name"));
            }
            let offset = self.bytes.number(id + 1, self.offset_width)?;
            members.extend(link(self.bytes, self.address(offset)?)?);
        }
        Ok(())
    }

    /// Where in the file the heap's `offset` is.
    fn address(&self, offset: u64) -> Result<u64, Hdf5Error> {
        let outside = Hdf5Error::Damaged("a name lies outside of its heap");
        let last = self.blocks.iter().rev().find(|(start, ..)| *start <= offset).ok_or(outside.clone())?;
        let (start, address, size) = *last;
        if offset - start >= size {
            return Err(outside);
        }
        after(address, offset - start)
    }
}
