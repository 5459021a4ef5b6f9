//! [`Config`]: what `config.json` says of a model.

use serde::Deserialize;

/// A model's dimensions and settings, under the names that `transformers` gives them. What a file leaves out is none:
/// what it then means depends on the model's type.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The family, such as `bert`.
    pub model_type: String,
    /// Names of the classes that run it.
    pub architectures: Vec<String>,
    /// Tokens of the vocabulary.
    pub vocab_size: Option<u32>,
    /// Numbers that stand for a token between layers.
    pub hidden_size: Option<u32>,
    /// Numbers inside a feed-forward layer.
    pub intermediate_size: Option<u32>,
    /// Layers.
    pub num_hidden_layers: Option<u32>,
    /// Heads of attention.
    pub num_attention_heads: Option<u32>,
    /// Heads of keys and values.
    pub num_key_value_heads: Option<u32>,
    /// Numbers a head.
    pub head_dim: Option<u32>,
    /// Positions that were trained.
    pub max_position_embeddings: Option<u32>,
    /// Kinds of segment.
    pub type_vocab_size: Option<u32>,
    /// What is added under the root of a root mean square.
    pub rms_norm_eps: Option<f64>,
    /// What is added under the root of a variance.
    pub layer_norm_eps: Option<f64>,
    /// The base of rotary positions.
    pub rope_theta: Option<f64>,
    /// The activation of feed-forward layers, such as `gelu`.
    pub hidden_act: Option<String>,
    /// How positions are told, such as `absolute`.
    pub position_embedding_type: Option<String>,
    /// Whether the output layer is the embedding.
    pub tie_word_embeddings: Option<bool>,
    /// How far attention reaches back.
    pub sliding_window: Option<u32>,
}

impl Config {
    /// Reads `config.json`.
    pub(super) fn parse(json: &[u8]) -> Result<Config, String> {
        let config: Config = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let finite = [config.rms_norm_eps, config.layer_norm_eps, config.rope_theta];
        if config.model_type.is_empty() {
            return Err("`model_type` is missing".to_owned());
        }
        match finite.into_iter().flatten().find(|number| !number.is_finite() || *number < 0.0) {
            Some(number) => Err(format!("{number} is not possible for an epsilon or a base")),
            None => Ok(config),
        }
    }
}
