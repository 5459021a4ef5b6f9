//! [`admit`]: whether there is the memory for a network.

use std::path::Path;

use tensor::OnnxModel;

/// A network that this machine has not the memory for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("takes up to {needed} MiB once loaded, and {available} MiB are available")]
pub struct Shortage {
    /// MiB.
    pub needed: u64,
    /// MiB.
    pub available: u64,
}

/// Looks whether the network in the file `path` fits into `memory_max` bytes; 0 is what the machine has available.
pub(crate) fn admit(path: &Path, memory_max: u64) -> Result<(), Shortage> {
    let available = match memory_max {
        0 => llm::memory_available(),
        most => most,
    };
    let needed = OnnxModel::memory_needed(path).unwrap_or_default();
    match needed <= available {
        true => Ok(()),
        false => Err(Shortage { needed: needed >> 20, available: available >> 20 }),
    }
}
