//! Log-probabilities, as far as protocols agree on them.

use llm::RankedToken;
use serving::Language;

/// In place of what JSON has no number for: a probability of zero.
const NEVER: f32 = -9999.0;

/// A token's text, and what it stands for.
pub(crate) fn token_text(token: &RankedToken, language: &Language) -> String {
    // A control token has a name and stands for nothing.
    let bytes =
        if token.bytes.is_empty() { language.tokenizer().token_bytes(token.id) } else { &token.bytes };
    String::from_utf8_lossy(bytes).into_owned()
}

/// A log-probability that JSON can hold.
pub(crate) fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { NEVER }
}
