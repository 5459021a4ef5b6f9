//! Groups of the first generation: a tree whose leaves hold members, names in a heap.

use super::bytes::{Bytes, after};
use super::header::{SymbolTable, name};
use super::{Hdf5Error, MEMBERS_MAX, NAME_BYTES_MAX};

/// The deepest tree.
const LEVELS_MAX: u8 = 8;
/// The most nodes and leaves of a tree.
const NODES_MAX: usize = 8192;

/// Adds the members of the group with this table to `members`.
pub(super) fn read(
    bytes: Bytes<'_>,
    table: SymbolTable,
    members: &mut Vec<(String, u64)>,
) -> Result<(), Hdf5Error> {
    let heap = bytes.marked(table.heap, b"HEAP")?;
    let (size, names) = (bytes.u64(heap + 4)?, bytes.u64(heap + 20)?);
    let mut open = vec![(table.tree, LEVELS_MAX)];
    let mut nodes = 1;
    while let Some((address, above)) = open.pop() {
        let node = bytes.marked(address, b"TREE")?;
        let (kind, level, count) = (bytes.u8(node)?, bytes.u8(node + 1)?, bytes.u16(node + 2)?);
        nodes += usize::from(count);
        if kind != 0 || level >= above || nodes > NODES_MAX {
            return Err(Hdf5Error::Damaged("the tree of a group is none"));
        }
        for i in 0..u64::from(count) {
            let child = bytes.u64(after(node, 28 + 16 * i)?)?;
            match level {
                0 => leaf(bytes, child, (names, size), members)?,
                _ => open.push((child, level)),
            }
        }
    }
    Ok(())
}

/// Adds the members in the leaf at `address`, their names in the heap `names`, to `members`.
fn leaf(
    bytes: Bytes<'_>,
    address: u64,
    (names, size): (u64, u64),
    members: &mut Vec<(String, u64)>,
) -> Result<(), Hdf5Error> {
    let node = bytes.marked(address, b"SNOD")?;
    for i in 0..u64::from(bytes.u16(node + 2)?) {
        if members.len() >= MEMBERS_MAX {
            return Err(Hdf5Error::Unsupported("a group of more than 16384 members"));
        }
        let entry = after(node, 4 + 40 * i)?;
        let (offset, object) = (bytes.u64(entry)?, bytes.u64(entry + 8)?);
        let left = size.checked_sub(offset).ok_or(Hdf5Error::Damaged("a name lies outside of its heap"))?;
        let start = after(names, offset)?;
        let left = usize::try_from(left).unwrap_or(usize::MAX).min(NAME_BYTES_MAX);
        let length = bytes.part(start, left)?.iter().position(|b| *b == 0);
        let length = length.ok_or(Hdf5Error::Damaged("a name does not end"))?;
        members.push((name(bytes, start, length)?, object));
    }
    Ok(())
}
