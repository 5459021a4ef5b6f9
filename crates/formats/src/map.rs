//! A file's bytes, mapped into memory. The one place of this crate with unsafe code.
#![allow(unsafe_code, reason = "a memory map is only as constant as the file beneath it")]

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;

/// Bytes to read from: a mapped file, or a vector.
#[derive(Debug)]
pub(crate) enum Map {
    /// A file; its pages are read when they are looked at.
    File(memmap2::Mmap),
    /// In memory already.
    Memory(Vec<u8>),
}

impl Map {
    /// Maps the whole of a file.
    ///
    /// Artifacts are immutable: they are written aside, moved in whole and never changed. A file that is shortened
    /// while it is mapped ends the process when the missing part is read.
    pub(crate) fn open(path: &Path) -> io::Result<Map> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        // SAFETY: the map is read-only and private to this value. Nobody changes the file: model files are immutable
        // artifacts, as said above; nothing is assumed of the content, every byte of which is validated.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Map::File(map))
    }

    /// Lets the system have back the memory behind these bytes. They are read from the file again when looked at.
    pub(crate) fn release(&self, range: Range<usize>) {
        let Map::File(map) = self else { return };
        // Only pages that lie wholly inside: neighbours may be in use.
        let start = range.start.next_multiple_of(PAGE_BYTES);
        let end = range.end / PAGE_BYTES * PAGE_BYTES;
        if start < end && end <= map.len() {
            // SAFETY: the map is of a file and never written to, so pages that are dropped come back as they were. The
            // result is of no interest: this is advice.
            let _ =
                unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start) };
        }
    }
}

/// No page of the systems we run on is larger.
const PAGE_BYTES: usize = 64 << 10;

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Map::File(map) => map,
            Map::Memory(bytes) => bytes,
        }
    }
}
