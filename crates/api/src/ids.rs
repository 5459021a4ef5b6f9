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

/// The number of a project, which Google's libraries want beside its name: always the same, and no other project's, as far
/// as chance goes.
pub(crate) fn project_number(project: &str) -> String {
    // FNV-1a: the same in every version of this program, which the standard library's hash is not.
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = project.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    // Thirteen digits, as long as they come there.
    format!("{}", 1_000_000_000_000 + hash % 9_000_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::project_number;

    #[test]
    fn a_projects_number_never_changes() {
        assert_eq!(project_number("default"), project_number("default"));
        assert_ne!(project_number("default"), project_number("defaulu"));
        assert_eq!(project_number("").len(), 13);
    }
}
