//! Qwen 2 and 2.5 (Qwen Team, 2024): Llama with biases on query, key and value, and pairs across halves.

use super::{Architecture, Keys, Pairs};
use crate::load::LoadError;

pub(super) fn read(keys: &Keys<'_>) -> Result<Architecture, LoadError> {
    Architecture::base(keys, Pairs::Halves)
}
