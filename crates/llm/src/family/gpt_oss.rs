//! gpt-oss (OpenAI, 2025): experts in 4-bit floats, every other layer local, heads that may attend to nothing.

use super::{Architecture, Experts, Gate, Keys, Local, Pairs, Rope, RopeScaling, Shares};
use crate::load::LoadError;

/// The original code does not round the pairs between which YaRN goes over.
pub(super) fn read(keys: &Keys<'_>) -> Result<Architecture, LoadError> {
    let base = Architecture::base(keys, Pairs::Halves)?;
    let scaling = match base.rope.scaling.clone() {
        RopeScaling::Yarn { factor, original, fast, slow, .. } => {
            RopeScaling::Yarn { factor, original, fast, slow, rounded: false }
        }
        other => other,
    };
    let experts = Experts {
        count: keys.count("expert_count", 1 << 12)?,
        used: keys.count("expert_used_count", 1 << 8)?,
        shares: Shares::OfTaken,
    };
    Ok(Architecture {
        rope: Rope { scaling, ..base.rope.clone() },
        local: Some(Local {
            window: keys.count("attention.sliding_window", 1 << 24)?,
            period: 2,
            rope: None,
        }),
        sinks: true,
        feed_forward_norm: "post_attention_norm",
        gate: Gate::Clamped,
        experts: Some(experts),
        ..base
    })
}
