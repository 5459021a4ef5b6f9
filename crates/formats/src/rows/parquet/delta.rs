//! [`Delta`]: integers as the differences between them, packed in blocks.

use super::hybrid::{bits, varint};
use super::thrift::ENDS;
use super::{Decoded, Malformed};

/// Numbers of one block at most. Writers take 128 or 256.
const BLOCK_MAX: u64 = 65_536;
/// Parts of one block at most.
const PARTS_MAX: u64 = 512;

/// Integers. Holds a place in bytes that are handed over at each call.
#[derive(Debug, Clone)]
pub(super) struct Delta {
    at: usize,
    /// Numbers of a part of a block, and parts of a block.
    part_len: u64,
    parts: usize,
    /// Numbers still to come.
    left: u64,
    value: i64,
    /// The first number stands by itself.
    first: bool,
    /// What is added to each difference of the block.
    minimum: i64,
    /// Where the widths of the block's parts stand, and which part is next.
    widths: usize,
    part: usize,
    /// Differences left in the part, their width, and where the next is.
    in_part: u64,
    width: u32,
    bit: usize,
}

impl Delta {
    /// The numbers that stand at `start`.
    pub(super) fn new(bytes: &[u8], start: usize) -> Decoded<Delta> {
        let mut at = start;
        let block_len = varint(bytes, &mut at)?;
        let parts = varint(bytes, &mut at)?;
        let left = varint(bytes, &mut at)?;
        let value = zigzag(varint(bytes, &mut at)?);
        let sound = (1..=BLOCK_MAX).contains(&block_len) && (1..=PARTS_MAX).contains(&parts);
        if !sound || block_len % (parts * 32) != 0 {
            return Err(Malformed("a page has blocks of differences that cannot be"));
        }
        let parts_len = parts as usize;
        Ok(Delta {
            at,
            part_len: block_len / parts,
            parts: parts_len,
            left,
            value,
            first: true,
            minimum: 0,
            widths: 0,
            part: parts_len,
            in_part: 0,
            width: 0,
            bit: 0,
        })
    }

    /// How many numbers are still to come, as the page says.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// The next number.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Decoded<i64> {
        self.left = self.left.checked_sub(1).ok_or(ENDS)?;
        if std::mem::take(&mut self.first) {
            return Ok(self.value);
        }
        if self.in_part == 0 {
            self.begin_part(bytes)?;
        }
        let difference = bits(bytes, self.bit, self.width)? as i64;
        self.bit += self.width as usize;
        self.in_part -= 1;
        self.value = self.value.wrapping_add(self.minimum).wrapping_add(difference);
        Ok(self.value)
    }

    /// Where the numbers end, once the last has been taken. The last part is as long as any other.
    pub(super) fn end(&self) -> usize {
        self.at
    }

    fn begin_part(&mut self, bytes: &[u8]) -> Decoded<()> {
        if self.part == self.parts {
            self.minimum = zigzag(varint(bytes, &mut self.at)?);
            self.widths = self.at;
            self.at = self.at.checked_add(self.parts).ok_or(ENDS)?;
            self.part = 0;
        }
        let width = *bytes.get(self.widths + self.part).ok_or(ENDS)?;
        if width > 64 {
            return Err(Malformed("a page has differences of more than 64 bits"));
        }
        self.part += 1;
        self.width = u32::from(width);
        self.in_part = self.part_len;
        self.bit = self.at.checked_mul(8).ok_or(ENDS)?;
        self.at = self.at.saturating_add((self.part_len as usize * usize::from(width)).div_ceil(8));
        Ok(())
    }
}

fn zigzag(raw: u64) -> i64 {
    (raw >> 1) as i64 ^ -((raw & 1) as i64)
}
