//! [`Request`]: a chat completion as it is asked for.

use serde_json::{Value, json};

use super::super::{format, messages, sampling, tools};
use crate::Fault;
use crate::fields::{Fields, asked, invalid, unsupported};
use crate::http::Route;
use crate::language::{Conversation, How, Names, stops};

/// Answers to one prompt at most.
const N_MAX: i64 = 64;

/// `route`, known for the fields that [`Request::read`] takes.
pub(in crate::openai) fn described(route: Route) -> Route {
    let examples = [
        json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}),
        json!({
            "model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": true, "stream_options": {},
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        }),
        json!({
            "model": "m", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
            "response_format": {
                "type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}},
            },
        }),
    ];
    route.takes_body(asked(|bytes| Request::read(bytes, None).map(drop), &examples))
}

/// A chat completion as it is asked for.
pub(super) struct Request {
    pub(super) model: String,
    pub(super) conversation: Conversation,
    pub(super) names: Names,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) explain: Option<How>,
}

impl Request {
    /// Reads the body of a request. It need not say who is asked and whether to stream, where `known`.
    pub(super) fn read(bytes: &[u8], known: Option<(String, bool)>) -> Result<Request, Fault> {
        let mut fields = Fields::of_body(bytes)?;
        let (name, streams) = known.unzip();
        let stream = fields.flag("stream")?.or(streams).unwrap_or(false);
        let model = fields.text("model")?.or(name).ok_or_else(|| fields.missing("model"))?;
        let turns = messages::read(&mut fields)?;
        let tools = tools::read(&mut fields, false)?;
        let n = fields.count("n", 1..=N_MAX)?.unwrap_or(1);
        let (name, max_tokens) = max_tokens(&mut fields)?.unzip();
        let conversation = Conversation {
            turns,
            tools,
            n,
            max_tokens,
            sampling: sampling::read(&mut fields)?,
            stop: stops(&mut fields, "stop")?,
            logprobs: logprobs(&mut fields)?,
            format: format::read(&mut fields, "response_format", false)?,
        };
        let include_usage = include_usage(&mut fields, stream)?;
        let explain = explain(&mut fields, &conversation)?;
        harmless(&mut fields)?;
        fields.finish()?;
        let max_tokens = name.unwrap_or("max_tokens");
        let names = Names { prompt: "messages", max_tokens, format: "response_format" };
        Ok(Request { model, conversation, names, stream, include_usage, explain })
    }
}

/// `max_completion_tokens`, or `max_tokens` as it was called before.
fn max_tokens(fields: &mut Fields) -> Result<Option<(&'static str, usize)>, Fault> {
    let (new, old) = ("max_completion_tokens", "max_tokens");
    let range = 1..=i64::from(u32::MAX);
    let of_new = fields.count(new, range.clone())?.map(|count| (new, count));
    let of_old = fields.count(old, range)?.map(|count| (old, count));
    match (of_new, of_old) {
        (Some(_), Some(_)) => Err(invalid(old, "and `max_completion_tokens` are the same: give one of them")),
        (new, old) => Ok(new.or(old)),
    }
}

/// `logprobs` and `top_logprobs`.
fn logprobs(fields: &mut Fields) -> Result<Option<u8>, Fault> {
    let wanted = fields.flag("logprobs")?.unwrap_or(false);
    let top = fields.whole("top_logprobs", 0..=i64::from(llm::TOP_LOGPROBS_MAX))?;
    match (wanted, top) {
        (false, Some(top)) if top > 0 => Err(invalid("top_logprobs", "needs `logprobs` to be true")),
        (false, _) => Ok(None),
        (true, top) => Ok(Some(top.unwrap_or(0) as u8)),
    }
}

/// `explain`, an extension of the protocol: `true`, or an object that says how.
fn explain(fields: &mut Fields, conversation: &Conversation) -> Result<Option<How>, Fault> {
    let how = match fields.take("explain") {
        None | Some(Value::Bool(false)) => return Ok(None),
        Some(Value::Bool(true)) => How::default(),
        Some(how) => How::read(how, "explain")?,
    };
    if conversation.n > 1 {
        return Err(invalid("explain", "is about one answer: leave out `n`"));
    }
    if !conversation.tools.are_none() {
        return Err(unsupported("explain", "cannot be given together with tools: leave one of them out"));
    }
    Ok(Some(how))
}

/// `stream_options.include_usage`.
pub(in crate::openai) fn include_usage(fields: &mut Fields, stream: bool) -> Result<bool, Fault> {
    let Some(mut options) = fields.object("stream_options")? else { return Ok(false) };
    if !stream {
        return Err(invalid("stream_options", "needs `stream` to be true"));
    }
    let include = options.flag("include_usage")?.unwrap_or(false);
    options.only(
        "include_obfuscation",
        |value| *value == Value::Bool(false),
        "is not served: leave it out",
    )?;
    options.finish()?;
    Ok(include)
}

/// Fields that may say what holds anyway, or that are labels for whoever counts.
fn harmless(fields: &mut Fields) -> Result<(), Fault> {
    fields.labels(&["user", "safety_identifier", "prompt_cache_key"]);
    fields.only("store", |value| *value == Value::Bool(false), "is not served: nothing is stored")?;
    let tiers = |value: &Value| value.as_str().is_some_and(|tier| matches!(tier, "auto" | "default"));
    fields.only("service_tier", tiers, "has no effect on this server: leave it out")?;
    let text = |value: &Value| value.as_array().is_some_and(|kinds| kinds.iter().all(|kind| kind == "text"));
    fields.only("modalities", text, "may name \"text\" only")
}
