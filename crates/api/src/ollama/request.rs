//! What chats and texts to complete have in common: `options`, `format`, `keep_alive`.

use std::time::Duration;

use llm::SamplingParams;
use serde_json::Value;
use serving::Keep;

use crate::Fault;
use crate::fields::{Fields, invalid};
use crate::language::{Format, Names, stops};

/// How tokens are chosen where the request does not say: the protocol's own numbers.
const TEMPERATURE: f32 = 0.8;
const TOP_K: u32 = 40;
const TOP_P: f32 = 0.9;
/// Tokens of an answer that mean as many as fit.
const UNBOUNDED: i64 = -2;

/// What this protocol calls the fields that faults are about, when `prompt` is what is said.
pub(super) fn names(prompt: &'static str) -> Names {
    Names { prompt, max_tokens: "options.num_predict", format: "format" }
}

/// What is asked for beside what is said.
pub(super) struct Common {
    /// The model's name, as it was written.
    pub(super) model: String,
    /// How tokens are chosen.
    pub(super) sampling: SamplingParams,
    /// Tokens of the answer at most; where nothing is said, as many as fit.
    pub(super) max_tokens: Option<usize>,
    /// Texts before which it ends.
    pub(super) stop: Vec<String>,
    /// Tokens, prompt and answer, that there must be room for.
    pub(super) context: Option<usize>,
    /// Its form.
    pub(super) format: Format,
    /// How long the model stays in memory afterwards.
    pub(super) keep: Keep,
    /// Whether it is told as it comes.
    pub(super) stream: bool,
}

impl Common {
    /// Reads the fields that both kinds of request have.
    pub(super) fn read(fields: &mut Fields) -> Result<Common, Fault> {
        let model = super::named(fields)?;
        let mut options = match fields.object("options")? {
            Some(options) => options,
            None => Fields::of(Value::Object(serde_json::Map::new()), "options")?,
        };
        let common = Common {
            model,
            sampling: sampling(&mut options)?,
            max_tokens: max_tokens(&mut options)?,
            stop: stops(&mut options, "stop")?,
            context: options.count("num_ctx", 1..=i64::from(u32::MAX))?,
            format: format(fields)?,
            keep: keep(fields)?,
            stream: fields.flag("stream")?.unwrap_or(true),
        };
        options.finish()?;
        let none = |value: &Value| matches!(value, Value::Bool(false));
        fields.only(
            "think",
            none,
            "is not served: thoughts are part of the answer as the model writes them",
        )?;
        fields.only("logprobs", none, "is not served here: ask through /v1/chat/completions")?;
        Ok(common)
    }

    /// Refuses a model whose conversations are shorter than asked for.
    pub(super) fn check_context(&self, has: usize) -> Result<(), Fault> {
        match self.context {
            Some(asked) if asked > has => {
                Err(invalid("options.num_ctx", format!("is {asked}; this model's context has {has} tokens")))
            }
            _ => Ok(()),
        }
    }
}

fn sampling(options: &mut Fields) -> Result<SamplingParams, Fault> {
    let usual = SamplingParams::default();
    let off = |value: &Value| value.as_f64() == Some(0.0);
    options.only("mirostat", off, "is not served: leave it out")?;
    let whole = |value: &Value| value.as_i64() == Some(-1);
    options.only(
        "repeat_last_n",
        whole,
        "can be -1 only: `repeat_penalty` counts prompt and answer whole",
    )?;
    let seed = options.whole("seed", i64::MIN..=i64::MAX)?;
    Ok(SamplingParams {
        temperature: options.number("temperature", 0.0..=2.0)?.unwrap_or(TEMPERATURE),
        top_k: options.whole("top_k", 0..=i64::from(u32::MAX))?.map_or(TOP_K, |k| k as u32),
        top_p: options.number("top_p", 0.0..=1.0)?.unwrap_or(TOP_P),
        min_p: options.number("min_p", 0.0..=1.0)?.unwrap_or(usual.min_p),
        typical_p: options.number("typical_p", 0.0..=1.0)?.unwrap_or(usual.typical_p),
        repetition_penalty: options
            .number("repeat_penalty", 0.01..=100.0)?
            .unwrap_or(usual.repetition_penalty),
        presence_penalty: options.number("presence_penalty", -2.0..=2.0)?.unwrap_or(usual.presence_penalty),
        frequency_penalty: options
            .number("frequency_penalty", -2.0..=2.0)?
            .unwrap_or(usual.frequency_penalty),
        // -1 is how this protocol says that there is none.
        seed: seed.filter(|seed| *seed != -1).map(i64::cast_unsigned),
        ..usual
    })
}

/// `num_predict`: -1 and -2 mean as many as fit.
fn max_tokens(options: &mut Fields) -> Result<Option<usize>, Fault> {
    let asked = options.whole("num_predict", UNBOUNDED..=i64::from(u32::MAX))?;
    match asked {
        Some(0) => {
            Err(invalid(options.path("num_predict"), "is 0; it must be at least 1, or -1 for as many as fit"))
        }
        asked => Ok(asked.and_then(|asked| usize::try_from(asked).ok())),
    }
}

/// `"json"`, or a schema.
fn format(fields: &mut Fields) -> Result<Format, Fault> {
    match fields.take("format") {
        None => Ok(Format::Text),
        Some(Value::String(word)) if word.is_empty() => Ok(Format::Text),
        Some(Value::String(word)) if word == "json" => Ok(Format::Object),
        Some(schema @ Value::Object(_)) => Ok(Format::Schema(schema)),
        Some(_) => Err(invalid("format", "must be \"json\" or an object: a JSON schema")),
    }
}

/// `keep_alive`: seconds, or a text such as `5m`; below zero for ever.
fn keep(fields: &mut Fields) -> Result<Keep, Fault> {
    let wrong =
        || invalid("keep_alive", "must be a number of seconds, or a text such as \"5m\" or \"1h30m\"");
    match fields.take("keep_alive") {
        None => Ok(Keep::Usual),
        Some(Value::Number(seconds)) => seconds.as_f64().and_then(seconds_kept).ok_or_else(wrong),
        Some(Value::String(text)) => duration(&text).and_then(seconds_kept).ok_or_else(wrong),
        Some(_) => Err(wrong()),
    }
}

fn seconds_kept(seconds: f64) -> Option<Keep> {
    if seconds < 0.0 {
        return Some(Keep::Always);
    }
    Duration::try_from_secs_f64(seconds).ok().map(Keep::For)
}

/// Seconds of a text as Go writes durations: `1h30m`, `300ms`, `-1s`; a bare number is one of seconds.
fn duration(text: &str) -> Option<f64> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return seconds.is_finite().then_some(seconds);
    }
    let (sign, mut rest) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    let mut sum = 0.0;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let length = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        sum += number
            * match &rest[..length] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[length..];
        if rest.is_empty() {
            return Some(sign * sum);
        }
    }
}

/// Refuses pictures.
pub(super) fn no_images(fields: &mut Fields) -> Result<(), Fault> {
    let none = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    fields.only("images", none, "cannot be taken: these models read text")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, seconds) in [
            ("5m", 300.0),
            ("1h30m", 5400.0),
            ("300ms", 0.3),
            ("-1", -1.0),
            ("-1s", -1.0),
            ("0", 0.0),
            ("1.5h", 5400.0),
        ] {
            assert_eq!(duration(text), Some(seconds), "{text}");
        }
        for wrong in ["", "m", "5x", "5 m", "h5", "nan", "1h-5m", "-"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn keeping_is_told_apart() {
        let read = |value: Value| keep(&mut Fields::of(json!({ "keep_alive": value }), "").unwrap());
        assert_eq!(read(json!(-1)).unwrap(), Keep::Always);
        assert_eq!(read(json!("-1m")).unwrap(), Keep::Always);
        assert_eq!(read(json!(0)).unwrap(), Keep::For(Duration::ZERO));
        assert_eq!(read(json!("10m")).unwrap(), Keep::For(Duration::from_secs(600)));
        assert_eq!(read(Value::Null).unwrap(), Keep::Usual);
        for wrong in [json!(true), json!("soon"), json!(1e300)] {
            assert!(read(wrong).is_err());
        }
    }
}
