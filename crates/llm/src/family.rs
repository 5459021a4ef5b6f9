//! The families of models: what each says of its own shape. One file a family; what they share is the decoder.
//!
//! A family reads its hyper-parameters from the file's metadata and says by them which of the decoder's parts it has.
//! The names of keys and tensors are those of the GGUF convention
//! (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>).

mod gemma2;
mod gemma3;
mod gpt_oss;
mod keys;
mod llama;
mod phi3;
mod qwen2;
mod qwen3;
mod qwen3moe;
mod rope;

use formats::gguf::Gguf;

pub(crate) use keys::Keys;
pub(crate) use rope::{Pairs, Rope, RopeScaling};

use crate::load::LoadError;

/// The architectures that can be run, as `general.architecture` names them.
pub const ARCHITECTURES: [&str; 8] =
    ["llama", "qwen2", "qwen3", "qwen3moe", "gemma2", "gemma3", "phi3", "gpt-oss"];

/// The shape of a decoder: everything but its weights.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Architecture {
    /// Layers.
    pub(crate) layers: usize,
    /// Numbers a token has between layers.
    pub(crate) width: usize,
    /// Query heads.
    pub(crate) heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub(crate) kv_heads: usize,
    /// Numbers in a head.
    pub(crate) head_dim: usize,
    /// Tokens it was trained to attend over.
    pub(crate) context: usize,
    /// Added to the mean square in norms.
    pub(crate) norm_epsilon: f32,
    /// What embeddings are multiplied with.
    pub(crate) embedding_scale: f32,
    /// What products of queries and keys are multiplied with.
    pub(crate) attention_scale: f32,
    /// Bounds these products: `cap * tanh(product / cap)`.
    pub(crate) attention_softcap: Option<f32>,
    /// Bounds logits likewise.
    pub(crate) logit_softcap: Option<f32>,
    /// How positions turn queries and keys.
    pub(crate) rope: Rope,
    /// Layers that see only the tokens just before, if some do.
    pub(crate) local: Option<Local>,
    /// Whether queries and keys are normed, head by head.
    pub(crate) head_norms: bool,
    /// Whether what a block adds is normed first.
    pub(crate) post_norms: bool,
    /// Whether each head has a logit of its own for attending to nothing.
    pub(crate) sinks: bool,
    /// The name of the norm before the feed-forward block.
    pub(crate) feed_forward_norm: &'static str,
    /// Whether query, key and value are one tensor, and gate and up another.
    pub(crate) fused: bool,
    /// What gates the feed-forward block.
    pub(crate) gate: Gate,
    /// Present where the feed-forward block is several, of which a token takes some.
    pub(crate) experts: Option<Experts>,
}

/// Layers that see only a window of tokens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Local {
    /// Tokens that are seen, the current one included.
    pub(crate) window: usize,
    /// How many layers make a period; the last of each is global. 0: all are local.
    pub(crate) period: usize,
    /// How positions turn queries and keys there, where it differs.
    pub(crate) rope: Option<Rope>,
}

impl Local {
    /// Whether layer `index` is local.
    pub(crate) fn has(&self, index: usize) -> bool {
        self.period == 0 || !(index + 1).is_multiple_of(self.period)
    }
}

/// How the gate's and the up-projection's numbers become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// `silu(gate) * up`.
    Silu,
    /// `gelu(gate) * up`, GELU by its approximation with tanh.
    Gelu,
    /// Of gpt-oss: `gate * sigmoid(1.702 * gate) * (up + 1)`, gate at most 7, up within 7 of zero.
    Clamped,
}

/// Several feed-forward blocks, chosen for each token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Experts {
    /// How many there are.
    pub(crate) count: usize,
    /// How many a token takes.
    pub(crate) used: usize,
    /// How their shares are made of the router's logits. Shares of those taken sum to one in both.
    pub(crate) shares: Shares,
}

/// How experts' shares are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shares {
    /// Softmax over all; those of the ones taken are divided by their sum.
    OfAll,
    /// Softmax over the ones taken.
    OfTaken,
}

impl Architecture {
    /// Reads the shape from a file, to be used for sequences of at most `context_max` tokens. Fails for a family that
    /// is not known, and for shapes that cannot be.
    pub(crate) fn read(gguf: &Gguf, context_max: usize) -> Result<Architecture, LoadError> {
        let keys = Keys::new(gguf, context_max);
        let architecture = match gguf.architecture() {
            "llama" => llama::read(&keys),
            "qwen2" => qwen2::read(&keys),
            "qwen3" => qwen3::read(&keys),
            "qwen3moe" => qwen3moe::read(&keys),
            "gemma2" => gemma2::read(&keys),
            "gemma3" => gemma3::read(&keys),
            "phi3" => phi3::read(&keys),
            "gpt-oss" => gpt_oss::read(&keys),
            other => Err(LoadError::Architecture { name: other.chars().take(64).collect() }),
        }?;
        if keys.flag("attention.causal")? == Some(false) {
            return Err(
                keys.refuse("attention.causal", "true: tokens that see those after them are not computed")
            );
        }
        architecture.check()?;
        Ok(architecture)
    }

    /// What most families have in common: a decoder with normed input to both blocks, rotary positions over whole
    /// heads, and a SiLU gate.
    pub(crate) fn base(keys: &Keys<'_>, pairs: Pairs) -> Result<Architecture, LoadError> {
        let width = keys.count("embedding_length", 1 << 16)?;
        let heads = keys.count("attention.head_count", 1 << 10)?;
        let head_dim = keys.count_or("attention.key_length", 1 << 12, width / heads)?;
        if keys.count_or("attention.value_length", 1 << 12, head_dim)? != head_dim {
            return Err(keys.refuse("attention.value_length", "the same as attention.key_length"));
        }
        Ok(Architecture {
            layers: keys.count("block_count", 1 << 10)?,
            width,
            heads,
            kv_heads: keys.count_or("attention.head_count_kv", 1 << 10, heads)?,
            head_dim,
            context: keys.count("context_length", 1 << 24)?,
            norm_epsilon: keys.positive("attention.layer_norm_rms_epsilon")?,
            embedding_scale: 1.0,
            attention_scale: 1.0 / (head_dim as f32).sqrt(),
            attention_softcap: None,
            logit_softcap: None,
            rope: Rope::read(keys, pairs, head_dim)?,
            local: None,
            head_norms: false,
            post_norms: false,
            sinks: false,
            feed_forward_norm: "ffn_norm",
            fused: false,
            gate: Gate::Silu,
            experts: None,
        })
    }

    /// What the decoder takes for granted.
    fn check(&self) -> Result<(), LoadError> {
        let refuse = |message: String| Err(LoadError::Shape(message));
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(2) {
            return refuse(format!(
                "heads of {} numbers cannot be turned; their size must be even",
                self.head_dim
            ));
        }
        if self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            return refuse(format!(
                "{} query heads cannot share {} key heads evenly",
                self.heads, self.kv_heads
            ));
        }
        if self.rope.dims > self.head_dim || !self.rope.dims.is_multiple_of(2) {
            return refuse(format!(
                "{} of a head's {} numbers cannot be turned",
                self.rope.dims, self.head_dim
            ));
        }
        if let Some(Experts { count, used, .. }) = self.experts
            && (used == 0 || used > count)
        {
            return refuse(format!("a token cannot take {used} of {count} experts"));
        }
        Ok(())
    }

    /// Numbers of all query heads.
    pub(crate) fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Numbers of all key heads, and of all value heads.
    pub(crate) fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}
