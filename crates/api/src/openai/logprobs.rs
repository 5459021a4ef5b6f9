//! Log-probabilities as chat completions and responses have them.

use llm::{RankedToken, TokenLogprob};
use serde_json::{Value, json};
use serving::Language;

use crate::language::{finite, token_text};

/// One place of an answer.
pub(super) fn entry(place: &TokenLogprob, language: &Language) -> Value {
    let ranked = |token: &RankedToken| {
        json!({
            "token": token_text(token, language),
            "logprob": finite(token.logprob),
            "bytes": token.bytes,
        })
    };
    let mut entry = ranked(&place.chosen);
    entry["top_logprobs"] = place.top.iter().map(ranked).collect();
    entry
}
