//! A fast hash for lookups in a fixed vocabulary, and the map over it.
//!
//! The keys are fixed when a model is loaded, so that nobody can make lookups slow by the texts sent.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map with [`FastHasher`].
pub(crate) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<FastHasher>>;

/// Multiply and rotate, eight bytes at a time.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct FastHasher(u64);

/// An odd number with well spread bits (the golden ratio).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl FastHasher {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(SPREAD);
    }
}

impl Hasher for FastHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        self.mix(u64::from_le_bytes(last) ^ ((bytes.len() as u64) << 56));
    }

    fn write_u8(&mut self, byte: u8) {
        // Only the end mark of a `str`, which the length above already stands for.
        self.0 ^= u64::from(byte);
    }

    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }

    fn finish(&self) -> u64 {
        // The table uses the lowest and highest bits: fold the well mixed upper half down.
        self.0 ^ (self.0 >> 32)
    }
}

/// `items` by place.
pub(crate) fn index(items: &[String]) -> FastMap<Box<str>, u32> {
    (0u32..).zip(items).map(|(i, item)| (item.as_str().into(), i)).collect()
}
