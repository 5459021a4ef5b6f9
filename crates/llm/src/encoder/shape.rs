//! [`Shape`]: everything of an encoder but its weights, and what its file calls these.

use formats::gguf::Gguf;
use formats::safetensors::{ModelDirectory, Pooling};

use crate::family::Keys;
use crate::load::LoadError;

/// Dimensions and what follows the layers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) layers: usize,
    /// Numbers a token has between layers.
    pub(super) width: usize,
    pub(super) heads: usize,
    /// Numbers inside a feed-forward block.
    pub(super) hidden: usize,
    /// Places in a text that were trained.
    pub(super) positions: usize,
    /// Added to the variance in norms.
    pub(super) epsilon: f32,
    /// Tokens that a text may have.
    pub(super) tokens_max: usize,
    pub(super) pooling: Pooling,
    pub(super) normalize: bool,
}

/// What a file calls the tensors.
#[derive(Debug)]
pub(super) struct Names {
    /// Before all of these but [`Names::score`].
    pub(super) prefix: &'static str,
    pub(super) words: &'static str,
    pub(super) positions: &'static str,
    pub(super) segments: &'static str,
    pub(super) norm: &'static str,
    /// Before a layer's number.
    pub(super) layer: &'static str,
    /// After it: query, key, value, output, norm; up, down, norm.
    pub(super) parts: [&'static str; 8],
    pub(super) pooler: &'static str,
    pub(super) score: &'static str,
}

impl Names {
    pub(super) const SAFETENSORS: Names = Names {
        prefix: "",
        words: "embeddings.word_embeddings.weight",
        positions: "embeddings.position_embeddings.weight",
        segments: "embeddings.token_type_embeddings.weight",
        norm: "embeddings.LayerNorm",
        layer: "encoder.layer.",
        parts: [
            "attention.self.query.weight",
            "attention.self.key.weight",
            "attention.self.value.weight",
            "attention.output.dense.weight",
            "attention.output.LayerNorm",
            "intermediate.dense.weight",
            "output.dense.weight",
            "output.LayerNorm",
        ],
        pooler: "pooler.dense.weight",
        score: "classifier.weight",
    };

    pub(super) const GGUF: Names = Names {
        prefix: "",
        words: "token_embd.weight",
        positions: "position_embd.weight",
        segments: "token_types.weight",
        norm: "token_embd_norm",
        layer: "blk.",
        parts: [
            "attn_q.weight",
            "attn_k.weight",
            "attn_v.weight",
            "attn_output.weight",
            "attn_output_norm",
            "ffn_up.weight",
            "ffn_down.weight",
            "layer_output_norm",
        ],
        pooler: "cls.weight",
        score: "cls.output.weight",
    };
}

impl Shape {
    /// What the files of a directory say.
    pub(super) fn of_directory(directory: &ModelDirectory) -> Result<Shape, LoadError> {
        let ModelDirectory { config, sentence, .. } = directory;
        if config.model_type != "bert" {
            let name = config.model_type.chars().take(64).collect();
            return Err(LoadError::ModelType { name });
        }
        only("hidden_act", config.hidden_act.as_deref(), "gelu")?;
        only("position_embedding_type", config.position_embedding_type.as_deref(), "absolute")?;
        let positions = count("max_position_embeddings", config.max_position_embeddings, 1 << 20)?;
        let asked = sentence.tokens_max.map_or(positions, |max| max as usize);
        let shape = Shape {
            layers: count("num_hidden_layers", config.num_hidden_layers, 1 << 10)?,
            width: count("hidden_size", config.hidden_size, 1 << 16)?,
            heads: count("num_attention_heads", config.num_attention_heads, 1 << 10)?,
            hidden: count("intermediate_size", config.intermediate_size, 1 << 20)?,
            positions,
            epsilon: config.layer_norm_eps.unwrap_or(1e-12) as f32,
            tokens_max: asked.min(positions),
            pooling: sentence.pooling,
            normalize: sentence.normalize,
        };
        shape.checked()
    }

    /// What a GGUF file says. Its vectors are divided by their lengths, as everyone who reads such files does.
    pub(super) fn of_gguf(gguf: &Gguf) -> Result<Shape, LoadError> {
        let keys = Keys::new(gguf, usize::MAX);
        let positions = keys.count("context_length", 1 << 20)?;
        let pooling = match keys.whole("pooling_type")? {
            // That of scores is not by pooling.
            None | Some(1 | 4) => Pooling::Mean,
            Some(2) => Pooling::First,
            Some(3) => Pooling::Last,
            Some(_) => return Err(keys.refuse("pooling_type", "1, 2, 3 or 4: mean, first, last or rank")),
        };
        let shape = Shape {
            layers: keys.count("block_count", 1 << 10)?,
            width: keys.count("embedding_length", 1 << 16)?,
            heads: keys.count("attention.head_count", 1 << 10)?,
            hidden: keys.count("feed_forward_length", 1 << 20)?,
            positions,
            epsilon: keys.positive("attention.layer_norm_epsilon")?,
            tokens_max: positions,
            pooling,
            normalize: true,
        };
        shape.checked()
    }

    /// Numbers in a head.
    pub(super) fn head_dim(&self) -> usize {
        self.width / self.heads
    }

    /// Fails for what cannot be computed.
    fn checked(self) -> Result<Shape, LoadError> {
        let (width, heads) = (self.width, self.heads);
        if !width.is_multiple_of(heads) || !self.head_dim().is_multiple_of(8) {
            let message = format!("{width} numbers in {heads} heads; each must have a multiple of 8");
            return Err(LoadError::Shape(message));
        }
        if self.tokens_max < 2 {
            return Err(LoadError::Shape(format!("texts of {} tokens; 2 are their ends", self.tokens_max)));
        }
        Ok(self)
    }
}

/// A count of `config.json`, from 1 to `most`.
fn count(key: &str, found: Option<u32>, most: u32) -> Result<usize, LoadError> {
    match found {
        Some(found) if (1..=most).contains(&found) => Ok(found as usize),
        _ => Err(LoadError::Metadata { key: key.to_owned(), wanted: format!("between 1 and {most}") }),
    }
}

/// Refuses a setting of `config.json` that is not the one that is computed.
fn only(key: &str, found: Option<&str>, wanted: &str) -> Result<(), LoadError> {
    match found {
        Some(found) if found != wanted => {
            Err(LoadError::Metadata { key: key.to_owned(), wanted: format!("{wanted:?}") })
        }
        _ => Ok(()),
    }
}
