//! [`Limits`]: what one rendering may use.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use minijinja::Error;

use super::functions::Refusal;

/// Bytes of values that any rendering may make, all together.
const BYTES_BASE: usize = 32 << 20;
/// Bytes that each byte of the conversation adds.
const BYTES_PER_BYTE: usize = 16;
/// Templates take milliseconds. This is for those that make the machine compare long texts over and over.
const TIME_MAX: Duration = Duration::from_secs(5);

/// What is left of one rendering's means.
#[derive(Debug)]
pub(super) struct Limits {
    bytes: AtomicUsize,
    until: Instant,
}

impl Limits {
    /// For a conversation of so many bytes.
    pub(super) fn new(input_bytes: usize) -> Limits {
        let bytes = BYTES_BASE.saturating_add(input_bytes.saturating_mul(BYTES_PER_BYTE));
        Limits { bytes: AtomicUsize::new(bytes), until: Instant::now() + TIME_MAX }
    }

    /// Takes what a value of so many bytes needs.
    pub(super) fn spend(&self, bytes: usize) -> Result<(), Error> {
        if Instant::now() > self.until {
            return Err(Refusal::Limit("time").into());
        }
        let left = self.bytes.load(Ordering::Relaxed);
        let left = left.checked_sub(bytes).ok_or_else(|| Error::from(Refusal::Limit("memory")))?;
        self.bytes.store(left, Ordering::Relaxed);
        Ok(())
    }
}
