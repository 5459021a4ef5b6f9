//! What a caller may say about how tokens are chosen.

use super::candidates::Filter;

/// Biases a request may carry.
const BIASES_MAX: usize = 1024;

/// How the next token is chosen. The default draws from the model's own distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// Divides the logits. 0 takes the most probable token, always.
    pub temperature: f32,
    /// Keeps the most probable tokens until they have this share of the probability; 1 keeps all.
    pub top_p: f32,
    /// Keeps this many of the most probable tokens; 0 keeps all.
    pub top_k: u32,
    /// Keeps tokens at least this share as probable as the most probable one; 0 keeps all.
    pub min_p: f32,
    /// Keeps the tokens whose information is closest to the expected one, until they have this share of the
    /// probability (Meister et al., 2022, "Locally typical sampling"); 1 keeps all.
    pub typical_p: f32,
    /// Divides the logits of tokens that occurred in prompt or answer, where they are above zero, and multiplies
    /// them where they are below (Keskar et al., 2019, "CTRL"); 1 changes nothing.
    pub repetition_penalty: f32,
    /// Taken from the logit of each token that occurred in the answer.
    pub presence_penalty: f32,
    /// Taken from the logit of a token for each time that it occurred in the answer.
    pub frequency_penalty: f32,
    /// Added to the logits of these tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Two requests that are alike and have the same seed get the same answer. The engine picks one where there
    /// is none.
    pub seed: Option<u64>,
}

impl Default for SamplingParams {
    fn default() -> SamplingParams {
        SamplingParams {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: None,
        }
    }
}

/// A parameter outside of its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {message}")]
pub struct InvalidSampling {
    /// The parameter's name.
    pub field: &'static str,
    /// What it must be.
    pub message: String,
}

impl SamplingParams {
    /// The most probable token, always.
    #[must_use]
    pub fn greedy() -> SamplingParams {
        SamplingParams { temperature: 0.0, ..SamplingParams::default() }
    }

    /// Refuses what is not a number or out of range, and biases for tokens that a vocabulary of `vocab` lacks.
    pub fn check(&self, vocab: usize) -> Result<(), InvalidSampling> {
        within("temperature", self.temperature, 0.0, 100.0)?;
        within("top_p", self.top_p, 0.0, 1.0)?;
        within("min_p", self.min_p, 0.0, 1.0)?;
        within("typical_p", self.typical_p, 0.0, 1.0)?;
        within("repetition_penalty", self.repetition_penalty, 0.01, 100.0)?;
        within("presence_penalty", self.presence_penalty, -100.0, 100.0)?;
        within("frequency_penalty", self.frequency_penalty, -100.0, 100.0)?;
        if self.logit_bias.len() > BIASES_MAX {
            let message = format!("has {} entries; at most {BIASES_MAX} are allowed", self.logit_bias.len());
            return Err(InvalidSampling { field: "logit_bias", message });
        }
        for &(token, bias) in &self.logit_bias {
            if token as usize >= vocab {
                let message =
                    format!("names token {token}; the vocabulary ends at {}", vocab.saturating_sub(1));
                return Err(InvalidSampling { field: "logit_bias", message });
            }
            within("logit_bias", bias, -100.0, 100.0)?;
        }
        Ok(())
    }

    /// Whether logits are changed before the filters.
    pub(super) fn edits(&self) -> bool {
        self.repetition_penalty != 1.0
            || self.presence_penalty != 0.0
            || self.frequency_penalty != 0.0
            || !self.logit_bias.is_empty()
    }

    /// The filters that do something, in the order in which they apply.
    pub(super) fn filters(&self) -> Vec<Filter> {
        let mut filters = Vec::new();
        if self.top_k > 0 {
            filters.push(Filter::TopK(self.top_k as usize));
        }
        if self.typical_p < 1.0 {
            filters.push(Filter::Typical(self.typical_p));
        }
        if self.top_p < 1.0 {
            filters.push(Filter::TopP(self.top_p));
        }
        if self.min_p > 0.0 {
            filters.push(Filter::MinP(self.min_p));
        }
        filters
    }
}

fn within(field: &'static str, value: f32, least: f32, most: f32) -> Result<(), InvalidSampling> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(InvalidSampling { field, message: format!("is {value}; it must be between {least} and {most}") })
}
