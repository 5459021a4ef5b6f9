//! Names and times that replies carry.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

/// A name that no other reply has: `prefix` and 24 hexadecimal digits.
pub(crate) fn fresh(prefix: &str) -> String {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}{:016x}{:08x}", KEY.hash_one(count), count & 0xffff_ffff)
}

/// Seconds since 1970.
pub(crate) fn now_s() -> u64 {
    UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs())
}
