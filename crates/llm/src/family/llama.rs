//! Llama 1 to 3 (Touvron et al., 2023), and what is shaped like it: Mistral, SmolLM, Mixtral.

use super::{Architecture, Experts, Keys, Pairs, Rope, RopeScaling, Shares};
use crate::load::LoadError;

/// Rows of query and key are stored so that pairs are neighbours. Llama 3.1 slows the turns by factors in a tensor.
pub(super) fn read(keys: &Keys<'_>) -> Result<Architecture, LoadError> {
    let base = Architecture::base(keys, Pairs::Neighbours)?;
    let factors = base.rope.factors(keys, "rope_freqs.weight")?;
    let rope = match factors {
        Some(factors) => {
            Rope { scaling: RopeScaling::Factors { factors, magnitude: 1.0 }, ..base.rope.clone() }
        }
        None => base.rope.clone(),
    };
    let count = keys.count_or("expert_count", 1 << 12, 0)?;
    let experts = match count {
        0 => None,
        _ => Some(Experts { count, used: keys.count("expert_used_count", 1 << 8)?, shares: Shares::OfAll }),
    };
    Ok(Architecture { rope, experts, ..base })
}
