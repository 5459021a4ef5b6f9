//! [`Cursor`]: reads little-endian values one after another and never beyond the end.

use super::error::Fault;

/// Where reading stands.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, at: 0 }
    }

    /// Bytes before this point.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Bytes after this point.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `count` bytes; `what` says what they are for.
    pub(super) fn take(&mut self, count: u64, what: impl Fn() -> String) -> Result<&'a [u8], Fault> {
        let left = self.left();
        let truncated = || Fault::Truncated { what: what(), needed: count, left: left as u64 };
        let count = usize::try_from(count).ok().filter(|&count| count <= left).ok_or_else(truncated)?;
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: impl Fn() -> String) -> Result<[u8; N], Fault> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64, what)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self, what: impl Fn() -> String) -> Result<u32, Fault> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: impl Fn() -> String) -> Result<u64, Fault> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A length and that many bytes.
    pub(super) fn string(&mut self, what: impl Fn() -> String) -> Result<&'a [u8], Fault> {
        let len = self.u64(&what)?;
        self.take(len, what)
    }

    /// A string that names something: UTF-8, not empty, at most `len_max` bytes.
    pub(super) fn name(&mut self, what: &'static str, len_max: u64) -> Result<&'a str, Fault> {
        let at = self.at as u64;
        let len = self.u64(|| what.to_owned())?;
        if len > len_max {
            return Err(Fault::Count { what: format!("bytes of {what}"), count: len, max: len_max });
        }
        let bytes = self.take(len, || what.to_owned())?;
        std::str::from_utf8(bytes).ok().filter(|name| !name.is_empty()).ok_or(Fault::Name { what, at })
    }

    /// A number of things that take at least `bytes_min` each, and are at most `max`.
    pub(super) fn check_count(
        &self,
        count: u64,
        bytes_min: u64,
        max: u64,
        what: impl Fn() -> String,
    ) -> Result<usize, Fault> {
        let max = max.min(self.left() as u64 / bytes_min);
        usize::try_from(count).ok().filter(|_| count <= max).ok_or_else(|| Fault::Count {
            what: what(),
            count,
            max,
        })
    }
}
