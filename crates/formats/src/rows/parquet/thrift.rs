//! [`Thrift`]: the compact protocol in which footers and page headers are written.

use super::{Decoded, Malformed};

/// How deep what is passed over may be nested.
const DEPTH_MAX: usize = 32;

/// Reads fields of structures one after the other.
#[derive(Debug)]
pub(super) struct Thrift<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A field's type on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    /// Whose value is in its type.
    Bool(bool),
    Byte,
    /// Of 16, 32 or 64 bits.
    Integer,
    Double,
    Binary,
    /// A list or a set.
    List,
    Map,
    Struct,
}

/// What stands where more bytes were expected.
pub(super) const ENDS: Malformed = Malformed("it ends too early");

impl<'a> Thrift<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Thrift { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Reads a structure: `field` gets each field's number and type, and says whether it has read it.
    pub(super) fn structure(
        &mut self,
        mut field: impl FnMut(&mut Self, i64, Wire) -> Decoded<bool>,
    ) -> Decoded<()> {
        let mut id = 0i64;
        while let Some((next, wire)) = self.field(id)? {
            id = next;
            if !field(self, id, wire)? {
                self.skip(wire, 0)?;
            }
        }
        Ok(())
    }

    /// Reads a list of structures, or of what else `element` reads.
    pub(super) fn list(&mut self, mut element: impl FnMut(&mut Self) -> Decoded<()>) -> Decoded<()> {
        let (count, _) = self.list_header()?;
        for _ in 0..count {
            element(self)?;
        }
        Ok(())
    }

    /// Reads an integer in zigzag form.
    pub(super) fn integer(&mut self) -> Decoded<i64> {
        let raw = self.varint()?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    pub(super) fn byte(&mut self) -> Decoded<u8> {
        let byte = *self.bytes.get(self.at).ok_or(ENDS)?;
        self.at += 1;
        Ok(byte)
    }

    pub(super) fn binary(&mut self) -> Decoded<&'a [u8]> {
        let length = usize::try_from(self.varint()?).map_err(|_| ENDS)?;
        self.take(length)
    }

    fn take(&mut self, length: usize) -> Decoded<&'a [u8]> {
        let end = self.at.checked_add(length).ok_or(ENDS)?;
        let taken = self.bytes.get(self.at..end).ok_or(ENDS)?;
        self.at = end;
        Ok(taken)
    }

    fn varint(&mut self) -> Decoded<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("a number in it is too long"))
    }

    /// The next field of a structure, whose last one was `id`.
    fn field(&mut self, id: i64) -> Decoded<Option<(i64, Wire)>> {
        let head = self.byte()?;
        if head == 0 {
            return Ok(None);
        }
        let wire = wire(head & 0x0F)?;
        let id = match head >> 4 {
            0 => self.integer()?,
            step => id.saturating_add(i64::from(step)),
        };
        Ok(Some((id, wire)))
    }

    /// How many elements follow, and of which type. Each has a byte at least, so that no count is believed that the rest
    /// cannot hold.
    fn list_header(&mut self) -> Decoded<(usize, Wire)> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.varint()?,
            count => u64::from(count),
        };
        let count = usize::try_from(count).map_err(|_| ENDS)?;
        if count > self.bytes.len() - self.at {
            return Err(ENDS);
        }
        // What an empty list is of, some writers do not say.
        let element = if count == 0 { Wire::Byte } else { wire(head & 0x0F)? };
        Ok((count, element))
    }

    fn skip(&mut self, wire: Wire, depth: usize) -> Decoded<()> {
        if depth > DEPTH_MAX {
            return Err(Malformed("it is nested too deeply"));
        }
        match wire {
            Wire::Bool(_) => {}
            Wire::Byte => drop(self.byte()?),
            Wire::Integer => drop(self.varint()?),
            Wire::Double => drop(self.take(8)?),
            Wire::Binary => drop(self.binary()?),
            Wire::List => {
                let (count, element) = self.list_header()?;
                for _ in 0..count {
                    self.skip_element(element, depth + 1)?;
                }
            }
            Wire::Map => {
                let count = usize::try_from(self.varint()?).map_err(|_| ENDS)?;
                if count > self.bytes.len() - self.at {
                    return Err(ENDS);
                }
                if count > 0 {
                    let types = self.byte()?;
                    for _ in 0..count {
                        self.skip_element(self::wire(types >> 4)?, depth + 1)?;
                        self.skip_element(self::wire(types & 0x0F)?, depth + 1)?;
                    }
                }
            }
            Wire::Struct => {
                let mut id = 0;
                while let Some((next, wire)) = self.field(id)? {
                    id = next;
                    self.skip(wire, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    /// Unlike a field, an element that is a truth value has a byte of its own.
    fn skip_element(&mut self, wire: Wire, depth: usize) -> Decoded<()> {
        match wire {
            Wire::Bool(_) => self.byte().map(drop),
            wire => self.skip(wire, depth),
        }
    }
}

fn wire(code: u8) -> Decoded<Wire> {
    Ok(match code {
        1 => Wire::Bool(true),
        2 => Wire::Bool(false),
        3 => Wire::Byte,
        4..=6 => Wire::Integer,
        7 => Wire::Double,
        8 => Wire::Binary,
        9 | 10 => Wire::List,
        11 => Wire::Map,
        12 => Wire::Struct,
        _ => return Err(Malformed("a field in it is of no known type")),
    })
}
