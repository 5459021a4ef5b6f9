//! Messages as they are sent.

use llm::template::{Message, ToolCall};
use serde_json::Value;

use crate::Fault;
use crate::fields::{Fields, invalid, unsupported};
use crate::language::call_of_text;

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
        let made = call_of_text(id, name, &arguments, &function.path("arguments"))?;
        function.finish()?;
        call.finish()?;
        Ok(made)
    };
    items.into_iter().enumerate().map(call).collect()
}
