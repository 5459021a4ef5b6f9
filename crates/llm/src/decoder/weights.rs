//! A decoder's weights, read from a file by name and packed.

use crate::family::Architecture;
use crate::load::LoadError;
use crate::weights::{Linear, Source};

/// One layer.
#[derive(Debug)]
pub(super) struct Layer {
    /// `[width]`.
    pub(super) attention_norm: Vec<f32>,
    pub(super) query: Linear,
    pub(super) key: Linear,
    pub(super) value: Linear,
    /// `[head_dim]` each.
    pub(super) head_norms: Option<(Vec<f32>, Vec<f32>)>,
    /// `[heads]`.
    pub(super) sinks: Option<Vec<f32>>,
    pub(super) output: Linear,
    /// `[width]` each: after attention, after feed-forward.
    pub(super) post_norms: Option<(Vec<f32>, Vec<f32>)>,
    /// `[width]`.
    pub(super) feed_forward_norm: Vec<f32>,
    pub(super) feed_forward: FeedForward,
}

/// The second block of a layer.
#[derive(Debug)]
pub(super) enum FeedForward {
    /// One.
    Dense(Expert),
    /// Several, of which the router chooses.
    Experts { router: Linear, experts: Vec<Expert> },
}

/// A gated feed-forward block.
#[derive(Debug)]
pub(super) struct Expert {
    pub(super) gate: Linear,
    pub(super) up: Linear,
    pub(super) down: Linear,
}

/// What a layer's tensor is called.
fn name(layer: usize, part: &str) -> String {
    format!("blk.{layer}.{part}.weight")
}

impl Layer {
    pub(super) fn read(source: &Source<'_>, shape: &Architecture, index: usize) -> Result<Layer, LoadError> {
        let (width, query_width, kv_width) = (shape.width, shape.query_width(), shape.kv_width());
        let part = |part: &str| name(index, part);
        let [query, key, value] = if shape.fused {
            source.stacked(&part("attn_qkv"), [query_width, kv_width, kv_width], width)?
        } else {
            [
                source.linear(&part("attn_q"), query_width, width)?,
                source.linear(&part("attn_k"), kv_width, width)?,
                source.linear(&part("attn_v"), kv_width, width)?,
            ]
        };
        let vector = |name: &str, len: usize| source.vector(&part(name), len);
        Ok(Layer {
            attention_norm: vector("attn_norm", width)?,
            query,
            key,
            value,
            head_norms: match shape.head_norms {
                true => {
                    Some((vector("attn_q_norm", shape.head_dim)?, vector("attn_k_norm", shape.head_dim)?))
                }
                false => None,
            },
            sinks: shape.sinks.then(|| vector("attn_sinks", shape.heads)).transpose()?,
            output: source.linear(&part("attn_output"), width, query_width)?,
            post_norms: match shape.post_norms {
                true => Some((vector("post_attention_norm", width)?, vector("post_ffw_norm", width)?)),
                false => None,
            },
            feed_forward_norm: vector(shape.feed_forward_norm, width)?,
            feed_forward: FeedForward::read(source, shape, index)?,
        })
    }
}

impl FeedForward {
    fn read(source: &Source<'_>, shape: &Architecture, index: usize) -> Result<FeedForward, LoadError> {
        let part = |part: &str| name(index, part);
        let width = shape.width;
        let Some(experts) = shape.experts else {
            return Ok(FeedForward::Dense(Expert::read(source, shape, index)?));
        };
        let hidden = source.hidden(&part("ffn_up_exps"), 1)?;
        let count = experts.count;
        let gates = source.each(&part("ffn_gate_exps"), count, hidden, width)?;
        let ups = source.each(&part("ffn_up_exps"), count, hidden, width)?;
        let downs = source.each(&part("ffn_down_exps"), count, width, hidden)?;
        let parts = gates.into_iter().zip(ups).zip(downs);
        Ok(FeedForward::Experts {
            router: source.linear(&part("ffn_gate_inp"), count, width)?,
            experts: parts.map(|((gate, up), down)| Expert { gate, up, down }).collect(),
        })
    }
}

impl Expert {
    fn read(source: &Source<'_>, shape: &Architecture, index: usize) -> Result<Expert, LoadError> {
        let part = |part: &str| name(index, part);
        let width = shape.width;
        let up = part("ffn_up");
        let (gate, up) = if shape.fused {
            let half = source.hidden(&up, 0)? / 2;
            let [gate, up] = source.stacked(&up, [half, half], width)?;
            (gate, up)
        } else {
            let hidden = source.hidden(&up, 0)?;
            (source.linear(&part("ffn_gate"), hidden, width)?, source.linear(&up, hidden, width)?)
        };
        let hidden = up.matrix.rows();
        Ok(Expert { gate, up, down: source.linear(&part("ffn_down"), width, hidden)? })
    }
}
