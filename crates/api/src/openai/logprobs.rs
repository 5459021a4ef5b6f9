//! Log-probabilities as chat completions and responses have them.

use llm::{RankedToken, TokenLogprob};
use serde_json::{Value, json};
use serving::Language;

/// In place of what JSON has no number for: a probability of zero.
const NEVER: f32 = -9999.0;

/// A token's text, and what it stands for.
pub(super) fn text(token: &RankedToken, language: &Language) -> String {
    // A control token has a name and stands for nothing.
    let bytes =
        if token.bytes.is_empty() { language.tokenizer().token_bytes(token.id) } else { &token.bytes };
    String::from_utf8_lossy(bytes).into_owned()
}

/// A log-probability that JSON can hold.
pub(super) fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { NEVER }
}

/// One place of an answer.
pub(super) fn entry(place: &TokenLogprob, language: &Language) -> Value {
    let ranked = |token: &RankedToken| {
        json!({
            "token": text(token, language),
            "logprob": finite(token.logprob),
            "bytes": token.bytes,
        })
    };
    let mut entry = ranked(&place.chosen);
    entry["top_logprobs"] = place.top.iter().map(ranked).collect();
    entry
}
