//! Gemma 3 (Gemma Team, 2025): five local layers to a global one, which turns more slowly; normed queries and keys.

use super::{Architecture, Gate, Keys, Local, Pairs, Rope, RopeScaling};
use crate::load::LoadError;

/// Of the 27B model, whose attention is scaled by its width.
const LAYERS_27B: usize = 62;

/// The base of local layers.
const LOCAL_BASE: f32 = 10_000.0;

pub(super) fn read(keys: &Keys<'_>) -> Result<Architecture, LoadError> {
    let base = Architecture::base(keys, Pairs::Halves)?;
    let query = if base.layers == LAYERS_27B { base.width / base.heads } else { base.head_dim };
    let local_base = keys.number("rope.freq_base_swa")?.unwrap_or(LOCAL_BASE);
    let local_rope = Rope { base: local_base, scaling: RopeScaling::None, ..base.rope.clone() };
    Ok(Architecture {
        embedding_scale: (base.width as f32).sqrt(),
        attention_scale: 1.0 / (query as f32).sqrt(),
        logit_softcap: keys.number("final_logit_softcapping")?,
        local: Some(Local {
            window: keys.count_or("attention.sliding_window", 1 << 24, 1024)?,
            period: keys.count_or("attention.sliding_window_pattern", 1 << 8, 6)?,
            rope: Some(local_rope),
        }),
        head_norms: true,
        post_norms: true,
        gate: Gate::Gelu,
        ..base
    })
}
