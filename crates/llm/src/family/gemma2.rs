//! Gemma 2 (Gemma Team, 2024): norms after each block too, capped logits, every other layer local.

use super::{Architecture, Gate, Keys, Local, Pairs};
use crate::load::LoadError;

/// Of the 27B model, whose attention is scaled by its width.
const LAYERS_27B: usize = 46;

/// The file's norms are stored with the one that the paper adds to them.
pub(super) fn read(keys: &Keys<'_>) -> Result<Architecture, LoadError> {
    let base = Architecture::base(keys, Pairs::Halves)?;
    let query = if base.layers == LAYERS_27B { base.width / base.heads } else { base.head_dim };
    Ok(Architecture {
        embedding_scale: (base.width as f32).sqrt(),
        attention_scale: 1.0 / (query as f32).sqrt(),
        attention_softcap: Some(keys.number("attn_logit_softcapping")?.unwrap_or(50.0)),
        logit_softcap: Some(keys.number("final_logit_softcapping")?.unwrap_or(30.0)),
        local: Some(Local {
            window: keys.count_or("attention.sliding_window", 1 << 24, 4096)?,
            period: 2,
            rope: None,
        }),
        post_norms: true,
        gate: Gate::Gelu,
        ..base
    })
}
