//! Large arrays of plain numbers, zero at first, on large pages where the system has them.

use memmap2::MmapMut;

/// Memory could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot reserve {bytes} bytes of memory; free some, or load a smaller model or context")]
pub struct OutOfMemory {
    /// What was asked for.
    pub bytes: usize,
    /// What the system said.
    #[source]
    pub source: std::io::Error,
}

/// From this size on, large pages are asked for, in bytes: that of a large page.
const LARGE: usize = 2 << 20;

/// Zeroed bytes, aligned to a page, that cost nothing before they are written.
#[derive(Debug)]
pub(crate) struct Buffer {
    map: MmapMut,
    len: usize,
}

impl Buffer {
    /// `len` zero bytes.
    pub(crate) fn zeroed(len: usize) -> Result<Buffer, OutOfMemory> {
        let map = MmapMut::map_anon(len.max(1)).map_err(|source| OutOfMemory { bytes: len, source })?;
        #[cfg(target_os = "linux")]
        if len >= LARGE {
            // Advice only: on a system without large pages the array is slower to walk, no more.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        Ok(Buffer { map, len })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map[..self.len]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map[..self.len]
    }
}
