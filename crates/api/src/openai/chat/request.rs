//! [`Request`]: a chat completion as it is asked for.

use llm::template::Message;
use llm::{GenerateRequest, SamplingParams};
use serde_json::Value;
use serving::Language;

use super::super::fields::{Fields, invalid, unsupported};
use super::super::format::Format;
use super::super::generation::{deadline, room};
use super::super::tools::{Style, Tools};
use super::super::{messages, sampling};
use crate::Fault;
use crate::http::App;

/// Answers to one prompt at most.
const N_MAX: i64 = 64;

/// A chat completion as it is asked for.
pub(super) struct Request {
    pub(super) model: String,
    pub(super) turns: Vec<Message>,
    pub(super) tools: Tools,
    pub(super) n: usize,
    /// Under the name in which it was given.
    max_tokens: Option<(&'static str, usize)>,
    sampling: SamplingParams,
    stop: Vec<String>,
    /// With how many alternatives.
    pub(super) logprobs: Option<u8>,
    format: Format,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
}

impl Request {
    /// Reads the body of a request.
    pub(super) fn read(bytes: &[u8]) -> Result<Request, Fault> {
        let mut fields = Fields::of_body(bytes)?;
        let stream = fields.flag("stream")?.unwrap_or(false);
        let request = Request {
            model: fields.needed_text("model")?,
            turns: messages::read(&mut fields)?,
            tools: Tools::read(&mut fields, false)?,
            n: fields.count("n", 1..=N_MAX)?.unwrap_or(1),
            max_tokens: max_tokens(&mut fields)?,
            sampling: sampling::read(&mut fields)?,
            stop: sampling::stops(&mut fields)?,
            logprobs: logprobs(&mut fields)?,
            format: Format::read(&mut fields, "response_format", false)?,
            include_usage: include_usage(&mut fields, stream)?,
            stream,
        };
        harmless(&mut fields)?;
        fields.finish()?;
        Ok(request)
    }

    /// The prompt, and what is wanted of the model, which writes calls in `style`.
    pub(super) fn wanted(
        &self,
        app: &App,
        language: &Language,
        style: Option<Style>,
    ) -> Result<(Vec<u32>, GenerateRequest), Fault> {
        let prompt = messages::prompt(language, &self.turns, &self.tools.described(), "messages")?;
        let (name, asked) = self.max_tokens.unzip();
        let max_tokens =
            room(language.context(), prompt.len(), asked, ("messages", name.unwrap_or_default()))?;
        let calls = style.and_then(|style| self.tools.constraint(style, language));
        let form = self.format.constraint();
        if style.is_some() && form.is_some() {
            let message = "cannot be given together with tools: leave one of them out";
            return Err(unsupported("response_format", message));
        }
        let wanted = GenerateRequest {
            n: self.n,
            sampling: self.sampling.clone(),
            stop: self.stop.clone(),
            logprobs: self.logprobs,
            constraint: calls.or(form),
            deadline: deadline(app),
            ..GenerateRequest::new(Vec::new(), max_tokens)
        };
        Ok((prompt, wanted))
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
