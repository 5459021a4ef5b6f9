//! Phi 3 and 3.5 (Abdin et al., 2024): fused projections; long contexts by a factor for each pair.

use super::{Architecture, Keys, Local, Pairs, Rope, RopeScaling};
use crate::load::LoadError;

/// Factors come in two sets, for contexts up to the original length and beyond. Which one holds is decided once, by
/// the context the model is loaded for: an answer does not change its angles half-way.
pub(super) fn read(keys: &Keys<'_>) -> Result<Architecture, LoadError> {
    let base = Architecture::base(keys, Pairs::Halves)?;
    let original = keys.count_or("rope.scaling.original_context_length", 1 << 24, base.context)?;
    let context = base.context.min(keys.context_max);
    let tensor = if context > original { "rope_factors_long.weight" } else { "rope_factors_short.weight" };
    let rope = match base.rope.factors(keys, tensor)? {
        Some(factors) => {
            let magnitude = match keys.number("rope.scaling.attn_factor")? {
                Some(magnitude) => magnitude,
                None => magnitude(base.context, original),
            };
            Rope { scaling: RopeScaling::Factors { factors, magnitude }, ..base.rope.clone() }
        }
        None => base.rope.clone(),
    };
    let window = keys.count_or("attention.sliding_window", 1 << 24, base.context)?;
    let local = (window < base.context).then_some(Local { window, period: 0, rope: None });
    Ok(Architecture { rope, local, fused: true, ..base })
}

/// What longer contexts multiply turned numbers with.
fn magnitude(context: usize, original: usize) -> f32 {
    if context <= original {
        return 1.0;
    }
    let (context, original) = (context as f64, original as f64);
    (1.0 + (context / original).ln() / original.ln()).sqrt() as f32
}
