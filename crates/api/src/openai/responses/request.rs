//! [`Request`]: a response as it is asked for.

use llm::template::Message;
use serde_json::{Map, Value, json};

use super::super::{format, messages, sampling, tools};
use crate::Fault;
use crate::fields::{Fields, asked, invalid, unsupported};
use crate::http::Route;
use crate::language::{Conversation, Format, Names, call_of_text};

/// Items of input at most.
const ITEMS_MAX: usize = 10_000;
/// What `include` may name.
const LOGPROBS: &str = "message.output_text.logprobs";
/// What responses call the fields that faults are about.
pub(super) const NAMES: Names =
    Names { prompt: "input", max_tokens: "max_output_tokens", format: "text.format" };

/// `route`, known for the fields that a request has.
pub(in crate::openai) fn described(route: Route) -> Route {
    let examples = [
        json!({"model": "m", "input": "Hi"}),
        json!({"model": "m", "input": [{"role": "user", "content": "Hi"}], "text": {"format": {"type": "text"}}}),
    ];
    route.takes_body(asked(|bytes| Request::read(bytes).map(drop), &examples))
}

/// A response as it is asked for.
pub(super) struct Request {
    pub(super) model: String,
    pub(super) conversation: Conversation,
    pub(super) stream: bool,
    /// What the reply repeats of it.
    pub(super) echo: Value,
}

impl Request {
    /// Reads the body of a request.
    pub(super) fn read(bytes: &[u8]) -> Result<Request, Fault> {
        let mut fields = Fields::of_body(bytes)?;
        let mut echo = echo(&fields);
        let instructions = fields.text("instructions")?;
        let model = fields.needed_text("model")?;
        let conversation = Conversation {
            turns: turns(&mut fields, instructions)?,
            tools: tools::read(&mut fields, true)?,
            max_tokens: fields.count(NAMES.max_tokens, 1..=i64::from(u32::MAX))?,
            sampling: sampling::read(&mut fields)?,
            logprobs: logprobs(&mut fields)?,
            format: text_format(&mut fields)?,
            ..Conversation::default()
        };
        let stream = fields.flag("stream")?.unwrap_or(false);
        harmless(&mut fields)?;
        fields.finish()?;
        echo["parallel_tool_calls"] = conversation.tools.parallel.into();
        Ok(Request { model, conversation, stream, echo })
    }
}

/// What the reply repeats as it was sent.
fn echo(fields: &Fields) -> Value {
    let mut echo = Map::new();
    for (name, usual) in [
        ("model", Value::Null),
        ("instructions", Value::Null),
        ("max_output_tokens", Value::Null),
        ("metadata", json!({})),
        ("temperature", json!(1.0)),
        ("text", json!({"format": {"type": "text"}})),
        ("tool_choice", json!("auto")),
        ("tools", json!([])),
        ("top_logprobs", json!(0)),
        ("top_p", json!(1.0)),
        ("user", Value::Null),
    ] {
        echo.insert(name.to_owned(), fields.peek(name).cloned().unwrap_or(usual));
    }
    Value::Object(echo)
}

/// `input`: a text, or items.
fn turns(fields: &mut Fields, instructions: Option<String>) -> Result<Vec<Message>, Fault> {
    let message =
        |role: &str, content| Message { role: role.to_owned(), content: Some(content), ..Message::default() };
    let mut turns: Vec<Message> = instructions.map(|text| message("system", text)).into_iter().collect();
    match fields.take("input") {
        None => return Err(fields.missing("input")),
        Some(Value::String(text)) => turns.push(message("user", text)),
        Some(Value::Array(items)) => {
            if items.is_empty() || items.len() > ITEMS_MAX {
                return Err(invalid("input", format!("must have between 1 and {ITEMS_MAX} items")));
            }
            for (i, item) in items.into_iter().enumerate() {
                add_item(&mut turns, item, &format!("input[{i}]"))?;
            }
        }
        Some(_) => return Err(invalid("input", "must be a string or a list of items")),
    }
    Ok(turns)
}

fn add_item(turns: &mut Vec<Message>, item: Value, path: &str) -> Result<(), Fault> {
    let mut item = Fields::of(item, path)?;
    let kind = item.text("type")?.unwrap_or_else(|| "message".to_owned());
    item.labels(&["id", "status", "phase"]);
    match kind.as_str() {
        "message" => {
            let role = item.needed_text("role")?;
            let role = match role.as_str() {
                "developer" => "system".to_owned(),
                "system" | "user" | "assistant" => role,
                _ => return Err(invalid(item.path("role"), "must be system, developer, user or assistant")),
            };
            let content = item.take("content").ok_or_else(|| item.missing("content"))?;
            let content = Some(messages::text(content, &item.path("content"))?);
            turns.push(Message { role, content, ..Message::default() });
        }
        "function_call" => {
            let (id, name) = (item.needed_text("call_id")?, item.needed_text("name")?);
            let arguments = item.text("arguments")?.unwrap_or_default();
            let call = call_of_text(id, name, &arguments, &item.path("arguments"))?;
            // Calls belong to the message in which they were made.
            if turns.last().is_none_or(|last| last.role != "assistant") {
                turns.push(Message { role: "assistant".to_owned(), ..Message::default() });
            }
            if let Some(last) = turns.last_mut() {
                last.tool_calls.push(call);
            }
        }
        "function_call_output" => {
            let tool_call_id = Some(item.needed_text("call_id")?);
            let output = item.take("output").ok_or_else(|| item.missing("output"))?;
            let content = Some(messages::text(output, &item.path("output"))?);
            turns.push(Message { role: "tool".to_owned(), content, tool_call_id, ..Message::default() });
        }
        _ => return Err(unsupported(item.path("type"), "names a kind of item that is not served")),
    }
    item.finish()
}

/// `text.format`.
fn text_format(fields: &mut Fields) -> Result<Format, Fault> {
    let Some(mut text) = fields.object("text")? else { return Ok(Format::Text) };
    let format = format::read(&mut text, "format", true)?;
    text.finish()?;
    Ok(format)
}

/// `top_logprobs`, and `include` as far as it asks for log-probabilities.
fn logprobs(fields: &mut Fields) -> Result<Option<u8>, Fault> {
    let include = fields.list("include")?.unwrap_or_default();
    if include.iter().any(|wanted| wanted != LOGPROBS) {
        return Err(unsupported("include", format!("may name \"{LOGPROBS}\" only")));
    }
    let top = fields.whole("top_logprobs", 0..=i64::from(llm::TOP_LOGPROBS_MAX))?;
    match (include.is_empty(), top) {
        (true, Some(top)) if top > 0 => {
            Err(invalid("top_logprobs", format!("needs `include` to name \"{LOGPROBS}\"")))
        }
        (true, _) => Ok(None),
        (false, top) => Ok(Some(top.unwrap_or(0) as u8)),
    }
}

/// Fields that may say what holds anyway, or that are labels.
fn harmless(fields: &mut Fields) -> Result<(), Fault> {
    fields.labels(&["user", "safety_identifier", "prompt_cache_key", "metadata"]);
    let no = |value: &Value| *value == Value::Bool(false);
    fields.only("store", no, "is not served: nothing is stored; give the whole conversation as `input`")?;
    fields.only("background", no, "is not served: nothing is stored")?;
    fields.only("truncation", |value| value == "disabled", "is not served: nothing is ever cut")?;
    let tiers = |value: &Value| value.as_str().is_some_and(|tier| matches!(tier, "auto" | "default"));
    fields.only("service_tier", tiers, "has no effect on this server: leave it out")?;
    if let Some(mut options) = fields.object("stream_options")? {
        options.only("include_obfuscation", no, "is not served: leave it out")?;
        options.finish()?;
    }
    Ok(())
}
