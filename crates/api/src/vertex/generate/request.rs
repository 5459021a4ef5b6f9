//! What is asked: the request and its `generationConfig`.

use serde_json::{Value, json};

use super::wire::{camel, object, objects, word};
use super::{contents, form, tools};
use crate::Fault;
use crate::fields::{Fields, invalid, unsupported};
use crate::language::{Conversation, Format, Names, stops};

/// What this protocol calls the fields that faults are about.
pub(super) const NAMES: Names = Names {
    prompt: "contents",
    max_tokens: "generationConfig.maxOutputTokens",
    format: "generationConfig.responseMimeType",
};

/// Answers to one request at most.
const CANDIDATES_MAX: i64 = 64;
/// Thresholds of `safetySettings`, by their numbers.
const THRESHOLDS: [&str; 6] = [
    "HARM_BLOCK_THRESHOLD_UNSPECIFIED",
    "BLOCK_LOW_AND_ABOVE",
    "BLOCK_MEDIUM_AND_ABOVE",
    "BLOCK_ONLY_HIGH",
    "BLOCK_NONE",
    "OFF",
];

/// Reads the body of a request for an answer.
pub(super) fn read(bytes: &[u8]) -> Result<Conversation, Fault> {
    let mut fields = camel(Fields::of_body(bytes)?);
    let mut conversation = asked(&mut fields)?;
    conversation.tools = tools::read(&mut fields)?;
    if let Some(config) = object(&mut fields, "generationConfig")? {
        configure(config, &mut conversation)?;
    }
    unfiltered(&mut fields)?;
    // Labels are for Google's bill.
    fields.labels(&["labels"]);
    fields.finish()?;
    Ok(conversation)
}

/// Reads the body of a request for a count.
pub(super) fn read_to_count(bytes: &[u8]) -> Result<Conversation, Fault> {
    let mut fields = camel(Fields::of_body(bytes)?);
    let mut conversation = asked(&mut fields)?;
    conversation.tools = tools::read(&mut fields)?;
    fields.finish()?;
    Ok(conversation)
}

/// What answers and counts have in common.
fn asked(fields: &mut Fields) -> Result<Conversation, Fault> {
    // The path says which; clients that send the whole message repeat it.
    fields.labels(&["model", "endpoint"]);
    Ok(Conversation { turns: contents::read(fields)?, ..Conversation::default() })
}

fn configure(mut config: Fields, to: &mut Conversation) -> Result<(), Fault> {
    to.n = config.count("candidateCount", 1..=CANDIDATES_MAX)?.unwrap_or(1);
    to.max_tokens = config.count("maxOutputTokens", 1..=i64::from(u32::MAX))?;
    to.stop = stops(&mut config, "stopSequences")?;
    to.logprobs = logprobs(&mut config)?;
    to.format = format(&mut config)?;
    let sampling = &mut to.sampling;
    let usual = sampling.clone();
    sampling.temperature = config.number("temperature", 0.0..=2.0)?.unwrap_or(usual.temperature);
    sampling.top_p = config.number("topP", 0.0..=1.0)?.unwrap_or(usual.top_p);
    sampling.top_k = top_k(&mut config)?.unwrap_or(usual.top_k);
    sampling.presence_penalty =
        config.number("presencePenalty", -2.0..=2.0)?.unwrap_or(usual.presence_penalty);
    sampling.frequency_penalty =
        config.number("frequencyPenalty", -2.0..=2.0)?.unwrap_or(usual.frequency_penalty);
    sampling.seed = config.whole("seed", i64::MIN..=i64::MAX)?.map(i64::cast_unsigned);
    let text = |value: &Value| {
        let words = value.as_array();
        words.is_some_and(|words| words.iter().all(|word| word == "TEXT" || *word == 1))
    };
    config.only("responseModalities", text, "may name \"TEXT\" only")?;
    let off = |value: &Value| value["thinkingBudget"] == 0 || value["thinking_budget"] == 0;
    config.only("thinkingConfig", off, "is not served: these models do not think apart; leave it out")?;
    config.finish()
}

/// `topK`, a whole number that the API's description has as a fraction.
fn top_k(config: &mut Fields) -> Result<Option<u32>, Fault> {
    let path = config.path("topK");
    match config.number("topK", 0.0..=1e6)? {
        Some(k) if k.fract() != 0.0 => Err(invalid(path, "must be a whole number")),
        k => Ok(k.map(|k| k as u32)),
    }
}

/// `responseLogprobs` and `logprobs`.
fn logprobs(config: &mut Fields) -> Result<Option<u8>, Fault> {
    let wanted = config.flag("responseLogprobs")?.unwrap_or(false);
    let top = config.whole("logprobs", 0..=i64::from(llm::TOP_LOGPROBS_MAX))?;
    match (wanted, top) {
        (false, Some(top)) if top > 0 => {
            Err(invalid(config.path("logprobs"), "needs `responseLogprobs` to be true"))
        }
        (false, _) => Ok(None),
        (true, top) => Ok(Some(top.unwrap_or(0) as u8)),
    }
}

/// `responseMimeType` with `responseSchema` or `responseJsonSchema`.
fn format(config: &mut Fields) -> Result<Format, Fault> {
    let mime = config.text("responseMimeType")?.unwrap_or_default();
    let (of_schema, of_json) = (config.path("responseSchema"), config.path("responseJsonSchema"));
    let own =
        config.take("responseSchema").map(|schema| form::json_schema(schema, &of_schema)).transpose()?;
    let json = config.take("responseJsonSchema");
    let schema = match (own, json) {
        (Some(_), Some(_)) => {
            return Err(invalid(of_json, "and `responseSchema` are the same: give one of them"));
        }
        (_, Some(schema)) if !schema.is_object() => {
            return Err(invalid(of_json, "must be an object: a JSON schema"));
        }
        (own, json) => own.or(json),
    };
    match (mime.as_str(), schema) {
        ("" | "text/plain", None) => Ok(Format::Text),
        ("application/json", None) => Ok(Format::Schema(json!({"type": ["object", "array"]}))),
        ("application/json", Some(schema)) => Ok(Format::Schema(schema)),
        ("" | "text/plain", Some(_)) => Err(invalid(
            config.path("responseMimeType"),
            "must be \"application/json\" where there is a schema",
        )),
        _ => Err(unsupported(
            config.path("responseMimeType"),
            "must be \"text/plain\" or \"application/json\"",
        )),
    }
}

/// `safetySettings`: nothing is filtered here, so none but those that ask for no filter can be honoured.
fn unfiltered(fields: &mut Fields) -> Result<(), Fault> {
    for mut setting in objects(fields, "safetySettings")? {
        let threshold = word(&mut setting, "threshold", &THRESHOLDS)?;
        if !threshold.is_some_and(|threshold| threshold == "BLOCK_NONE" || threshold == "OFF") {
            let message = "must be \"BLOCK_NONE\" or \"OFF\": this server filters nothing";
            return Err(unsupported(setting.path("threshold"), message));
        }
        setting.labels(&["category", "method"]);
        setting.finish()?;
    }
    Ok(())
}
