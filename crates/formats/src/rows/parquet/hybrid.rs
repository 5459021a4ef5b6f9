//! [`Hybrid`]: small numbers as runs of one value and groups of packed ones, mixed.

use super::thrift::ENDS;
use super::{Decoded, Malformed};

/// Numbers of `width` bits each. Holds a place in bytes that are handed over at each call.
#[derive(Debug, Clone)]
pub(super) struct Hybrid {
    at: usize,
    end: usize,
    width: u32,
    run: Run,
}

/// What the next numbers are.
#[derive(Debug, Clone)]
enum Run {
    /// `left` times `value`.
    Same { value: u32, left: u64 },
    /// `left` numbers packed from bit `bit` on.
    Packed { bit: usize, left: u64 },
}

impl Hybrid {
    /// Numbers of `width` bits in the bytes from `start` to `end`.
    pub(super) fn new(start: usize, end: usize, width: u32) -> Decoded<Hybrid> {
        if width > 32 {
            return Err(Malformed("a page has numbers of more than 32 bits where none can be"));
        }
        Ok(Hybrid { at: start, end, width, run: Run::Same { value: 0, left: 0 } })
    }

    /// The next number.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Decoded<u32> {
        loop {
            match &mut self.run {
                Run::Same { value, left } if *left > 0 => {
                    *left -= 1;
                    return Ok(*value);
                }
                Run::Packed { bit, left } if *left > 0 => {
                    *left -= 1;
                    let number = bits(bytes.get(..self.end).ok_or(ENDS)?, *bit, self.width)?;
                    *bit += self.width as usize;
                    return Ok(number as u32);
                }
                _ => self.begin(bytes.get(..self.end).ok_or(ENDS)?)?,
            }
        }
    }

    fn begin(&mut self, bytes: &[u8]) -> Decoded<()> {
        let head = varint(bytes, &mut self.at)?;
        self.run = match head & 1 {
            0 => {
                let length = self.width.div_ceil(8) as usize;
                let raw = bytes.get(self.at..self.at + length).ok_or(ENDS)?;
                self.at += length;
                let value = raw.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
                Run::Same { value, left: head >> 1 }
            }
            _ => {
                // The last group may be cut off after the numbers that there are.
                let groups = head >> 1;
                let length =
                    usize::try_from(groups.saturating_mul(u64::from(self.width))).map_err(|_| ENDS)?;
                let bit = self.at.checked_mul(8).ok_or(ENDS)?;
                self.at = self.at.saturating_add(length).min(self.end);
                Run::Packed { bit, left: groups.saturating_mul(8) }
            }
        };
        Ok(())
    }
}

/// The number of `width` bits, 64 at most, that begins at bit `bit`.
pub(super) fn bits(bytes: &[u8], bit: usize, width: u32) -> Decoded<u64> {
    if width == 0 {
        return Ok(0);
    }
    let (first, shift) = (bit / 8, (bit % 8) as u32);
    let end = (bit + width as usize).div_ceil(8);
    let raw = bytes.get(first..end).ok_or(ENDS)?;
    let mut word = [0; 16];
    word.get_mut(..raw.len()).ok_or(ENDS)?.copy_from_slice(raw);
    let mask = u64::MAX >> (64 - width);
    Ok((u128::from_le_bytes(word) >> shift) as u64 & mask)
}

/// The number at `at`, in groups of seven bits.
pub(super) fn varint(bytes: &[u8], at: &mut usize) -> Decoded<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).ok_or(ENDS)?;
        *at += 1;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed("a number in a page is too long"))
}
