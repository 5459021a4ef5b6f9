//! Qwen 3 with experts (Qwen Team, 2025).

use super::{Architecture, Experts, Keys, Shares, qwen3};
use crate::load::LoadError;

pub(super) fn read(keys: &Keys<'_>) -> Result<Architecture, LoadError> {
    let experts = Experts {
        count: keys.count("expert_count", 1 << 12)?,
        used: keys.count("expert_used_count", 1 << 8)?,
        shares: Shares::OfAll,
    };
    Ok(Architecture { experts: Some(experts), ..qwen3::read(keys)? })
}
