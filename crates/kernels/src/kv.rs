//! Keys and values of one layer, in pages of 16-bit floats.

use crate::activations::Shared;
use crate::buffer::{Buffer, OutOfMemory};
use crate::isa::Isa;
use crate::lanes::{LANES, lanes_fn};
use crate::pool::Pool;

/// Tokens that a page holds.
pub const PAGE_TOKENS: usize = 16;

/// A token's place: its page, and which of the page's [`PAGE_TOKENS`] it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The page.
    pub page: u32,
    /// The token within the page.
    pub slot: u32,
}

/// Keys and values of one layer, as f16, in pages of [`PAGE_TOKENS`] tokens.
///
/// A page holds for each key-value head the keys `[head_dim, PAGE_TOKENS]`, so that a query meets eight keys at once,
/// then the values `[PAGE_TOKENS, head_dim]`. Pages take no memory before they are written.
#[derive(Debug)]
pub struct KvPages {
    pages: usize,
    kv_heads: usize,
    head_dim: usize,
    data: Buffer,
}

impl KvPages {
    /// Room for `pages` pages of `kv_heads` heads of `head_dim` numbers.
    ///
    /// # Errors
    /// When there is no memory.
    ///
    /// # Panics
    /// When `head_dim` is not a multiple of 8.
    pub fn new(pages: usize, kv_heads: usize, head_dim: usize) -> Result<KvPages, OutOfMemory> {
        assert!(head_dim.is_multiple_of(LANES), "heads of {head_dim} numbers, not a multiple of {LANES}");
        let data = Buffer::zeroed(pages.saturating_mul(KvPages::page_bytes(kv_heads, head_dim)))?;
        Ok(KvPages { pages, kv_heads, head_dim, data })
    }

    /// Bytes of a page.
    #[must_use]
    pub const fn page_bytes(kv_heads: usize, head_dim: usize) -> usize {
        2 * 2 * PAGE_TOKENS * kv_heads * head_dim
    }

    /// How many pages there are.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Key-value heads.
    #[must_use]
    pub fn kv_heads(&self) -> usize {
        self.kv_heads
    }

    /// Numbers of a head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Writes the keys and values of as many tokens as there are places, `[places, kv_heads, head_dim]` each, rounded to
    /// f16. Of two tokens with one place the last stays.
    ///
    /// # Panics
    /// When there are not as many numbers, or a place is not one of these pages'.
    pub fn write(&mut self, pool: &Pool, isa: Isa, places: &[Place], keys: &[f32], values: &[f32]) {
        let (kv_heads, dim) = (self.kv_heads, self.head_dim);
        let len = places.len() * kv_heads * dim;
        assert!(keys.len() == len && values.len() == len, "keys and values of {} tokens", places.len());
        for place in places {
            let inside = (place.page as usize) < self.pages && (place.slot as usize) < PAGE_TOKENS;
            assert!(inside, "{place:?} of {} pages", self.pages);
        }
        let data = Shared(self.data.bytes_mut().as_mut_ptr().cast::<u16>());
        let write = |head: usize| {
            for (token, place) in places.iter().enumerate() {
                let at = (token * kv_heads + head) * dim;
                let slot = place.slot as usize;
                let start = (place.page as usize * kv_heads + head) * 2 * PAGE_TOKENS * dim;
                // SAFETY: the page and the head are within the buffer (asserted), the buffer is aligned to a page of memory,
                // and this head's part of every page is this task's.
                let page =
                    unsafe { std::slice::from_raw_parts_mut(data.get().add(start), 2 * PAGE_TOKENS * dim) };
                let (page_keys, page_values) = page.split_at_mut(PAGE_TOKENS * dim);
                scatter(isa, &keys[at..at + dim], &mut page_keys[slot..]);
                narrow(isa, &values[at..at + dim], &mut page_values[slot * dim..][..dim]);
            }
        };
        // One token is written sooner than a worker wakes.
        if places.len() < 4 { (0..kv_heads).for_each(write) } else { pool.run(kv_heads, write) }
    }

    /// Copies a page onto another.
    ///
    /// # Panics
    /// When there is no such page.
    pub fn copy_page(&mut self, from: u32, to: u32) {
        let bytes = KvPages::page_bytes(self.kv_heads, self.head_dim);
        let from = from as usize * bytes;
        self.data.bytes_mut().copy_within(from..from + bytes, to as usize * bytes);
    }

    /// The keys `[head_dim, PAGE_TOKENS]` and the values `[PAGE_TOKENS, head_dim]` of one head of a page.
    pub(crate) fn head(&self, page: u32, head: usize) -> (&[u16], &[u16]) {
        let half = PAGE_TOKENS * self.head_dim;
        let start = 2 * (page as usize * self.kv_heads + head) * 2 * half;
        let bytes = &self.data.bytes()[start..start + 4 * half];
        // SAFETY: any bytes are u16s; the buffer is aligned to a page of memory and the offset is even.
        let numbers = unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast::<u16>(), 2 * half) };
        numbers.split_at(half)
    }
}

lanes_fn! {
    /// Writes `x` as f16; a multiple of eight numbers.
    fn narrow<L>(x: &[f32], out: &mut [u16]) {
        for (x, out) in x.as_chunks::<LANES>().0.iter().zip(out.as_chunks_mut::<LANES>().0) {
            L::load(x.as_ptr()).store_f16(out.as_mut_ptr());
        }
    }
}

lanes_fn! {
    /// Writes `x` as f16, each number a page's tokens further than the last; a multiple of eight numbers.
    fn scatter<L>(x: &[f32], out: &mut [u16]) {
        let mut narrow = [0; LANES];
        for (x, out) in x.as_chunks::<LANES>().0.iter().zip(out.chunks_mut(LANES * PAGE_TOKENS)) {
            L::load(x.as_ptr()).store_f16(narrow.as_mut_ptr());
            for (number, out) in narrow.iter().zip(out.iter_mut().step_by(PAGE_TOKENS)) {
                *out = *number;
            }
        }
    }
}
