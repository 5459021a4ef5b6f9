//! Conversations: from messages as they are sent to the prompt that the model's template makes of them.

use llm::template::{self, Message, ToolCall};
use serde_json::{Map, Value};
use serving::{Language, PromptError};

use super::fields::{Fields, invalid, unsupported};
use super::generation::too_long;
use crate::Fault;

/// Messages in a conversation at most.
const MESSAGES_MAX: usize = 10_000;

/// Reads the messages of a chat completion.
pub(super) fn read(fields: &mut Fields) -> Result<Vec<Message>, Fault> {
    let items = fields.list("messages")?.ok_or_else(|| fields.missing("messages"))?;
    if items.is_empty() || items.len() > MESSAGES_MAX {
        return Err(invalid("messages", format!("must have between 1 and {MESSAGES_MAX} entries")));
    }
    items.into_iter().enumerate().map(|(i, item)| message(item, &format!("messages[{i}]"))).collect()
}

fn message(item: Value, path: &str) -> Result<Message, Fault> {
    let mut fields = Fields::of(item, path)?;
    let role = fields.needed_text("role")?;
    let mut turn = Message::default();
    match role.as_str() {
        "system" | "developer" => turn.role = "system".to_owned(),
        "user" | "assistant" | "tool" => turn.role.clone_from(&role),
        _ => {
            let known = "must be system, developer, user, assistant or tool";
            return Err(invalid(fields.path("role"), known));
        }
    }
    let content = fields.path("content");
    turn.content = fields.take("content").map(|value| text(value, &content)).transpose()?;
    if role == "assistant" {
        turn.tool_calls = calls(&mut fields)?;
        // What the assistant refused with is what it said.
        let refusal = fields.text("refusal")?;
        turn.content = turn.content.or(refusal);
        fields.labels(&["audio", "annotations", "function_call"]);
    }
    if role == "tool" {
        turn.tool_call_id = Some(fields.needed_text("tool_call_id")?);
        turn.name = fields.text("name")?;
    }
    if turn.content.is_none() && turn.tool_calls.is_empty() {
        return Err(fields.missing("content"));
    }
    fields.finish()?;
    Ok(turn)
}

/// Content: a text, or parts that are texts.
pub(super) fn text(content: Value, path: &str) -> Result<String, Fault> {
    let items = match content {
        Value::String(text) => return Ok(text),
        Value::Array(items) => items,
        _ => return Err(invalid(path, "must be a string or a list of parts")),
    };
    let mut whole = String::new();
    for (i, item) in items.into_iter().enumerate() {
        let mut part = Fields::of(item, &format!("{path}[{i}]"))?;
        let kind = part.needed_text("type")?;
        let field = match kind.as_str() {
            "text" | "input_text" | "output_text" => "text",
            "refusal" => "refusal",
            _ => {
                let message = "names a kind of content that these models do not take: they read text";
                return Err(unsupported(part.path("type"), message));
            }
        };
        whole.push_str(&part.needed_text(field)?);
        part.labels(&["annotations", "logprobs"]);
        part.finish()?;
    }
    Ok(whole)
}

/// The calls that the assistant made earlier.
fn calls(fields: &mut Fields) -> Result<Vec<ToolCall>, Fault> {
    let path = fields.path("tool_calls");
    let items = fields.list("tool_calls")?.unwrap_or_default();
    let call = |(i, item)| {
        let mut call = Fields::of(item, &format!("{path}[{i}]"))?;
        let id = call.text("id")?.unwrap_or_default();
        call.labels(&["type"]);
        let mut function = call.object("function")?.ok_or_else(|| call.missing("function"))?;
        let name = function.needed_text("name")?;
        let arguments = function.text("arguments")?.unwrap_or_default();
        let made = made_call(id, name, &arguments, &function.path("arguments"))?;
        function.finish()?;
        call.finish()?;
        Ok(made)
    };
    items.into_iter().enumerate().map(call).collect()
}

/// A call as templates know it: its arguments are an object.
pub(super) fn made_call(id: String, name: String, arguments: &str, path: &str) -> Result<ToolCall, Fault> {
    let arguments: Value = match arguments.trim() {
        "" => Value::Object(Map::new()),
        text => serde_json::from_str(text).map_err(|_| invalid(path, "must be JSON in a string"))?,
    };
    Ok(ToolCall { id, name, arguments: template::Value::from_serialize(&arguments) })
}

/// The prompt that the model's template makes of a conversation; `of` names the field it came in.
pub(super) fn prompt(
    language: &Language,
    turns: &[Message],
    tools: &[Value],
    of: &str,
) -> Result<Vec<u32>, Fault> {
    let tools = tools.iter().map(template::Value::from_serialize).collect();
    language.chat_prompt(turns, tools).map_err(|error| refused(&error, of))
}

/// What to tell a client of whose text no prompt was made.
pub(super) fn refused(error: &PromptError, of: &str) -> Fault {
    match error {
        PromptError::TooLong { .. } => too_long(of, error.to_string()),
        PromptError::NoTemplate { .. } | PromptError::Template(_) => {
            Fault::invalid(error.to_string()).about(of)
        }
    }
}
