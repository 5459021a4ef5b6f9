//! Protocol Buffers fields over bytes in memory: nothing is copied, no length is believed.

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Held<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// 4 or 8 bytes, of no interest here.
    Fixed,
}

/// The fields of one message; ends with an error where the bytes are not a message.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

/// Bytes that are not a Protocol Buffers message.
#[derive(Debug)]
pub(super) struct Malformed;

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Held<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or(Malformed))
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Held<'a>)> {
        let tag = self.varint()?;
        let held = match tag & 7 {
            0 => Held::Varint(self.varint()?),
            1 => self.fixed(8)?,
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(len)?;
                self.0 = rest;
                Held::Bytes(bytes)
            }
            5 => self.fixed(4)?,
            _ => return None,
        };
        Some((tag >> 3, held))
    }

    fn fixed(&mut self, len: usize) -> Option<Held<'a>> {
        self.0 = self.0.get(len..)?;
        Some(Held::Fixed)
    }

    fn varint(&mut self) -> Option<u64> {
        varint(&mut self.0)
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

impl<'a> Held<'a> {
    /// The bytes of a text, a list or a message.
    pub(super) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Held::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed),
        }
    }

    /// The field as a text.
    pub(super) fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    /// The field as an integer.
    pub(super) fn int(self) -> Result<i64, Malformed> {
        match self {
            Held::Varint(value) => Ok(value as i64),
            _ => Err(Malformed),
        }
    }

    /// Calls `each` for the integer, or the packed integers, of the field.
    pub(super) fn ints(self, mut each: impl FnMut(i64)) -> Result<(), Malformed> {
        match self {
            Held::Varint(value) => each(value as i64),
            Held::Bytes(mut packed) => {
                while !packed.is_empty() {
                    each(varint(&mut packed).ok_or(Malformed)? as i64);
                }
            }
            Held::Fixed => return Err(Malformed),
        }
        Ok(())
    }
}
