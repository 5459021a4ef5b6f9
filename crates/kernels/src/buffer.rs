//! Large arrays of plain numbers, zero at first, on large pages where the system has them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use memmap2::{MmapMut, MmapRaw};

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
/// What buffers are aligned to, in bytes: what memory is read in.
const ALIGNMENT: usize = 64;

/// Room for arrays that come and go together, such as a model's weights, side by side in one stretch of memory.
///
/// A small model's matrices are smaller than a large page each. On small ones, finding the pages took an eighth of the
/// time of a step with few vectors.
#[derive(Debug)]
pub struct Arena {
    memory: Arc<MmapRaw>,
    taken: AtomicUsize,
}

impl Arena {
    /// Room for `len` bytes, which cost nothing before they are written.
    ///
    /// # Errors
    /// When the system does not give as much.
    pub fn new(len: usize) -> Result<Arena, OutOfMemory> {
        let memory = MmapMut::map_anon(len.max(1)).map_err(|source| OutOfMemory { bytes: len, source })?;
        #[cfg(target_os = "linux")]
        if len >= LARGE {
            // Advice only: on a system without large pages the arrays are slower to walk, no more.
            let _ = memory.advise(memmap2::Advice::HugePage);
        }
        Ok(Arena { memory: Arc::new(memory.into()), taken: AtomicUsize::new(0) })
    }

    /// `len` zero bytes of it; bytes of their own where it has fewer left.
    pub(crate) fn take(&self, len: usize) -> Result<Buffer, OutOfMemory> {
        let room = len.next_multiple_of(ALIGNMENT);
        let end = |start: usize| start.checked_add(room).filter(|&end| end <= self.memory.len());
        match self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, end) {
            Ok(start) => Ok(Buffer { memory: Arc::clone(&self.memory), start, len }),
            Err(_) => Buffer::zeroed(len),
        }
    }
}

/// Zeroed bytes, aligned to a line of memory, that cost nothing before they are written.
#[derive(Debug)]
pub(crate) struct Buffer {
    /// Shared with other buffers, each of which has a stretch of its own.
    memory: Arc<MmapRaw>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// `len` zero bytes in memory of their own.
    pub(crate) fn zeroed(len: usize) -> Result<Buffer, OutOfMemory> {
        Ok(Buffer { memory: Arena::new(len)?.memory, start: 0, len })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `start + len` is within the memory, which this keeps; nobody else has these bytes.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(self.start), self.len) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `bytes`.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_mut_ptr().add(self.start), self.len) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn buffers_of_an_arena_lie_apart_and_outlive_it() {
        let arena = Arena::new(1000).unwrap();
        let mut buffers: Vec<Buffer> =
            [100, 1, 0, 300, 600, 400].iter().map(|&len| arena.take(len).unwrap()).collect();
        drop(arena);
        for (index, buffer) in buffers.iter_mut().enumerate() {
            assert!(buffer.bytes().iter().all(|&byte| byte == 0));
            assert_eq!(buffer.bytes().as_ptr().align_offset(ALIGNMENT), 0);
            buffer.bytes_mut().fill(index as u8 + 1);
        }
        for (index, buffer) in buffers.iter().enumerate() {
            assert!(buffer.bytes().iter().all(|&byte| byte == index as u8 + 1), "{index}");
        }
        let shared = |index: usize| Arc::ptr_eq(&buffers[0].memory, &buffers[index].memory);
        assert_eq!([1, 2, 3, 4, 5].map(shared), [true, true, true, false, true]);
    }
}
