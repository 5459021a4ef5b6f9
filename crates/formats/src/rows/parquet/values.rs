//! [`Values`]: the values of a page, one after the other, however they are written.

use super::delta::Delta;
use super::hybrid::{Hybrid, bits};
use super::schema::Physical;
use super::thrift::ENDS;
use super::{Decoded, Malformed};

/// One value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scalar<'a> {
    Bool(bool),
    /// An integer; one of 32 bits with its sign.
    Integer(i64),
    Float(f32),
    Double(f64),
    Bytes(&'a [u8]),
}

/// Values that are referred to by number.
#[derive(Debug)]
pub(super) struct Dictionary {
    bytes: Vec<u8>,
    physical: Physical,
    /// Where each value lies.
    places: Vec<u32>,
}

/// Values of a page. Holds places in bytes that are handed over at each call.
#[derive(Debug)]
pub(super) enum Values {
    /// One after the other.
    Plain { at: usize, physical: Physical },
    /// Truth values, one a bit.
    Bits { bit: usize },
    /// Truth values in runs.
    Runs(Hybrid),
    /// Numbers of values of the dictionary.
    References(Hybrid),
    /// Integers as differences.
    Differences { numbers: Delta, physical: Physical },
    /// All lengths, then all texts.
    Lengths { lengths: Delta, at: usize },
    /// How much of its beginning each text has of the one before, and the rest.
    Prefixes { prefixes: Delta, suffixes: Delta, at: usize, last: Vec<u8> },
    /// The first bytes of all, then the second ones, and so on.
    Split { start: usize, count: usize, next: usize, physical: Physical },
}

/// Bytes of a text at most that is put together from others.
const TEXT_BYTES_MAX: usize = super::PAGE_BYTES_MAX;

impl Dictionary {
    /// The dictionary of `values` values in `bytes`.
    pub(super) fn new(bytes: Vec<u8>, values: u32, physical: Physical) -> Decoded<Dictionary> {
        let (mut at, mut places) = (0, Vec::new());
        if physical == Physical::Boolean {
            return Err(Malformed("a dictionary of truth values"));
        }
        for _ in 0..values {
            places.push(u32::try_from(at).map_err(|_| ENDS)?);
            plain(&bytes, &mut at, physical)?;
        }
        Ok(Dictionary { bytes, physical, places })
    }

    /// Bytes of memory that it takes.
    pub(super) fn held(&self) -> usize {
        self.bytes.len() + self.places.len() * size_of::<u32>()
    }

    fn get(&self, number: u32) -> Decoded<Scalar<'_>> {
        let place = self.places.get(number as usize);
        let mut at = *place.ok_or(Malformed("a value refers beyond the end of the dictionary"))? as usize;
        plain(&self.bytes, &mut at, self.physical)
    }
}

impl Values {
    /// The values that stand in `bytes` from `start` on, `count` at most; `None` if such values are never written so.
    pub(super) fn new(
        bytes: &[u8],
        start: usize,
        count: u32,
        encoding: i64,
        physical: Physical,
    ) -> Decoded<Option<Values>> {
        let rest = bytes.get(start..).ok_or(ENDS)?;
        let delta = |at: usize| match Delta::new(bytes, at)? {
            numbers if numbers.left() <= u64::from(count) => Ok(numbers),
            _ => Err(Malformed("a page holds more values than it states")),
        };
        let integer = matches!(physical, Physical::Int32 | Physical::Int64);
        Ok(Some(match (encoding, physical) {
            // All of them are null, and nothing is written.
            _ if rest.is_empty() => Values::Plain { at: start, physical },
            (0, Physical::Boolean) => Values::Bits { bit: start * 8 },
            (0, physical) => Values::Plain { at: start, physical },
            (2 | 8, _) => {
                let width = u32::from(*rest.first().ok_or(ENDS)?);
                Values::References(Hybrid::new(start + 1, bytes.len(), width)?)
            }
            (3, Physical::Boolean) => {
                let (from, end) = prefixed(bytes, start)?;
                Values::Runs(Hybrid::new(from, end, 1)?)
            }
            (5, physical) if integer => Values::Differences { numbers: delta(start)?, physical },
            (6, Physical::Bytes) => {
                let lengths = delta(start)?;
                Values::Lengths { at: end(&lengths, bytes)?, lengths }
            }
            (7, Physical::Bytes) => {
                let prefixes = delta(start)?;
                let suffixes = delta(end(&prefixes, bytes)?)?;
                Values::Prefixes { at: end(&suffixes, bytes)?, prefixes, suffixes, last: Vec::new() }
            }
            (9, physical) => match width(physical) {
                Some(width) => Values::Split { start, count: rest.len() / width, next: 0, physical },
                None => return Ok(None),
            },
            _ => return Ok(None),
        }))
    }

    /// The next value.
    pub(super) fn next<'a>(
        &'a mut self,
        bytes: &'a [u8],
        dictionary: Option<&'a Dictionary>,
    ) -> Decoded<Scalar<'a>> {
        match self {
            Values::Plain { at, physical } => plain(bytes, at, *physical),
            Values::Bits { bit } => {
                let value = bits(bytes, *bit, 1)?;
                *bit += 1;
                Ok(Scalar::Bool(value == 1))
            }
            Values::Runs(runs) => Ok(Scalar::Bool(runs.next(bytes)? == 1)),
            Values::References(references) => {
                let number = references.next(bytes)?;
                dictionary.ok_or(Malformed("its dictionary is missing"))?.get(number)
            }
            Values::Differences { numbers, physical } => Ok(Scalar::Integer(match physical {
                Physical::Int32 => i64::from(numbers.next(bytes)? as i32),
                _ => numbers.next(bytes)?,
            })),
            Values::Lengths { lengths, at } => {
                let length = usize::try_from(lengths.next(bytes)?).map_err(|_| LENGTH)?;
                Ok(Scalar::Bytes(take(bytes, at, length)?))
            }
            Values::Prefixes { prefixes, suffixes, at, last } => {
                let prefix = usize::try_from(prefixes.next(bytes)?).map_err(|_| LENGTH)?;
                let suffix = usize::try_from(suffixes.next(bytes)?).map_err(|_| LENGTH)?;
                let suffix = take(bytes, at, suffix)?;
                if prefix > last.len() || prefix + suffix.len() > TEXT_BYTES_MAX {
                    return Err(LENGTH);
                }
                last.truncate(prefix);
                last.extend_from_slice(suffix);
                Ok(Scalar::Bytes(last))
            }
            Values::Split { start, count, next, physical } => {
                let mut raw = [0; 8];
                let width = width(*physical).ok_or(LENGTH)?;
                if *next >= *count {
                    return Err(ENDS);
                }
                for (part, byte) in raw.iter_mut().take(width).enumerate() {
                    *byte = *bytes.get(*start + part * *count + *next).ok_or(ENDS)?;
                }
                *next += 1;
                scalar(raw, *physical)
            }
        }
    }
}

const LENGTH: Malformed = Malformed("a text has no possible length");

/// Where `numbers` end.
fn end(numbers: &Delta, bytes: &[u8]) -> Decoded<usize> {
    let mut numbers = numbers.clone();
    while numbers.left() > 0 {
        numbers.next(bytes)?;
    }
    Ok(numbers.end())
}

/// Where what has its length before it begins and ends.
pub(super) fn prefixed(bytes: &[u8], start: usize) -> Decoded<(usize, usize)> {
    let mut at = start;
    let length = four(bytes, &mut at)? as usize;
    take(bytes, &mut at.clone(), length)?;
    Ok((at, at + length))
}

fn plain<'a>(bytes: &'a [u8], at: &mut usize, physical: Physical) -> Decoded<Scalar<'a>> {
    match width(physical) {
        Some(width) => {
            let mut raw = [0; 8];
            raw.get_mut(..width).ok_or(ENDS)?.copy_from_slice(take(bytes, at, width)?);
            scalar(raw, physical)
        }
        None if physical == Physical::Bytes => {
            let length = four(bytes, at)? as usize;
            Ok(Scalar::Bytes(take(bytes, at, length)?))
        }
        None => Err(ENDS),
    }
}

/// Bytes of a value, where all have as many.
fn width(physical: Physical) -> Option<usize> {
    match physical {
        Physical::Int32 | Physical::Float => Some(4),
        Physical::Int64 | Physical::Double => Some(8),
        Physical::Boolean | Physical::Bytes => None,
    }
}

/// The value whose bytes, little-endian, are the first of `raw`.
fn scalar(raw: [u8; 8], physical: Physical) -> Decoded<Scalar<'static>> {
    let low = [raw[0], raw[1], raw[2], raw[3]];
    Ok(match physical {
        Physical::Int32 => Scalar::Integer(i64::from(i32::from_le_bytes(low))),
        Physical::Int64 => Scalar::Integer(i64::from_le_bytes(raw)),
        Physical::Float => Scalar::Float(f32::from_le_bytes(low)),
        Physical::Double => Scalar::Double(f64::from_le_bytes(raw)),
        Physical::Boolean | Physical::Bytes => return Err(ENDS),
    })
}

fn four(bytes: &[u8], at: &mut usize) -> Decoded<u32> {
    let raw = take(bytes, at, 4)?;
    Ok(raw.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)))
}

fn take<'a>(bytes: &'a [u8], at: &mut usize, length: usize) -> Decoded<&'a [u8]> {
    let end = at.checked_add(length).ok_or(ENDS)?;
    let taken = bytes.get(*at..end).ok_or(ENDS)?;
    *at = end;
    Ok(taken)
}
