//! Qwen 3 (Qwen Team, 2025): no biases; queries and keys are normed head by head.

use super::{Architecture, Keys, Pairs};
use crate::load::LoadError;

pub(super) fn read(keys: &Keys<'_>) -> Result<Architecture, LoadError> {
    Ok(Architecture { head_norms: true, ..Architecture::base(keys, Pairs::Halves)? })
}
