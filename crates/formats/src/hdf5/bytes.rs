//! [`Bytes`]: little-endian numbers at addresses of a file, none of which is believed.

use super::Hdf5Error;

/// The bytes of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

const BEYOND: Hdf5Error = Hdf5Error::Damaged("something lies beyond its end");

impl<'a> Bytes<'a> {
    /// `length` bytes from `address` on.
    pub(super) fn part(self, address: u64, length: usize) -> Result<&'a [u8], Hdf5Error> {
        let start = usize::try_from(address).map_err(|_| BEYOND)?;
        let end = start.checked_add(length).ok_or(BEYOND)?;
        self.0.get(start..end).ok_or(BEYOND)
    }

    /// What begins at `address` with `mark`: the address behind the mark.
    pub(super) fn marked(self, address: u64, mark: &[u8; 4]) -> Result<u64, Hdf5Error> {
        match self.part(address, 4)? == mark {
            true => Ok(address + 4),
            false => Err(Hdf5Error::Damaged("a part of it is not where it should be")),
        }
    }

    pub(super) fn u8(self, address: u64) -> Result<u8, Hdf5Error> {
        Ok(self.part(address, 1)?[0])
    }

    pub(super) fn u16(self, address: u64) -> Result<u16, Hdf5Error> {
        Ok(self.number(address, 2)? as u16)
    }

    pub(super) fn u32(self, address: u64) -> Result<u32, Hdf5Error> {
        Ok(self.number(address, 4)? as u32)
    }

    pub(super) fn u64(self, address: u64) -> Result<u64, Hdf5Error> {
        self.number(address, 8)
    }

    /// A number of up to 8 bytes.
    pub(super) fn number(self, address: u64, length: usize) -> Result<u64, Hdf5Error> {
        let part = self.part(address, length)?;
        Ok(part.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }
}

/// Adds to an address.
pub(super) fn after(address: u64, length: u64) -> Result<u64, Hdf5Error> {
    address.checked_add(length).ok_or(BEYOND)
}
