//! What is said: messages made of blocks.

use llm::template::{Message, ToolCall};
use serde_json::Value;

use crate::Fault;
use crate::fields::{Fields, invalid, unsupported};
use crate::language::call_of;

/// Messages in a conversation at most.
const MESSAGES_MAX: usize = 10_000;
/// What a result that is an error begins with: templates have no other word for it.
const ERROR: &str = "Error: ";

/// Reads `system` and `messages`.
pub(super) fn read(fields: &mut Fields) -> Result<Vec<Message>, Fault> {
    let mut turns = Vec::new();
    if let Some(system) = fields.take("system") {
        add(&mut turns, "system", text(system, "system")?);
    }
    let items = fields.list("messages")?.ok_or_else(|| fields.missing("messages"))?;
    if items.is_empty() || items.len() > MESSAGES_MAX {
        return Err(invalid("messages", format!("must have between 1 and {MESSAGES_MAX} entries")));
    }
    for (i, item) in items.into_iter().enumerate() {
        message(&mut turns, item, &format!("messages[{i}]"))?;
    }
    if turns.last().is_some_and(|last| last.role == "assistant") {
        let message =
            "ends with an assistant's turn; an answer cannot be begun for the model: end with a user's";
        return Err(unsupported("messages", message));
    }
    Ok(turns)
}

fn message(turns: &mut Vec<Message>, item: Value, path: &str) -> Result<(), Fault> {
    let mut fields = Fields::of(item, path)?;
    let role = fields.needed_text("role")?;
    let content = fields.take("content").ok_or_else(|| fields.missing("content"))?;
    let at = fields.path("content");
    match role.as_str() {
        "system" => add(turns, "system", text(content, &at)?),
        "user" => user(turns, content, &at)?,
        "assistant" => assistant(turns, content, &at)?,
        _ => return Err(invalid(fields.path("role"), "must be user, assistant or system")),
    }
    fields.finish()
}

/// Adds what someone says. Turns of one speaker that follow each other are one.
fn add(turns: &mut Vec<Message>, role: &str, text: String) {
    match turns.last_mut() {
        Some(Message { role: last, content: Some(before), tool_calls, .. })
            if last == role && tool_calls.is_empty() =>
        {
            before.push('\n');
            before.push_str(&text);
        }
        _ => turns.push(Message { role: role.to_owned(), content: Some(text), ..Message::default() }),
    }
}

/// A user's turn: text, and what tools gave.
fn user(turns: &mut Vec<Message>, content: Value, path: &str) -> Result<(), Fault> {
    let mut said = None::<String>;
    for block in blocks(content, path)? {
        match block? {
            Block::Text(text) => said.get_or_insert_default().push_str(&text),
            Block::Result { id, content } => {
                if let Some(before) = said.take() {
                    add(turns, "user", before);
                }
                turns.push(Message {
                    role: "tool".to_owned(),
                    content: Some(content),
                    tool_call_id: Some(id),
                    ..Message::default()
                });
            }
            Block::Call(_) => return Err(misplaced(path, "tool_use", "an assistant's")),
        }
    }
    if let Some(text) = said {
        add(turns, "user", text);
    }
    Ok(())
}

/// The assistant's turn: text, and its calls.
fn assistant(turns: &mut Vec<Message>, content: Value, path: &str) -> Result<(), Fault> {
    let mut turn = Message { role: "assistant".to_owned(), ..Message::default() };
    for block in blocks(content, path)? {
        match block? {
            Block::Text(text) => turn.content.get_or_insert_default().push_str(&text),
            Block::Call(call) => turn.tool_calls.push(call),
            Block::Result { .. } => return Err(misplaced(path, "tool_result", "a user's")),
        }
    }
    match turn.content {
        Some(text) if turn.tool_calls.is_empty() => add(turns, "assistant", text),
        None if turn.tool_calls.is_empty() => return Err(invalid(path, "must not be empty")),
        _ => turns.push(turn),
    }
    Ok(())
}

fn misplaced(path: &str, block: &str, whose: &str) -> Fault {
    invalid(path, format!("has a {block} block, which belongs into {whose} turn"))
}

/// A part of a turn.
enum Block {
    Text(String),
    Call(ToolCall),
    Result { id: String, content: String },
}

/// The blocks of a turn; a text stands for one of its kind.
fn blocks(content: Value, path: &str) -> Result<impl Iterator<Item = Result<Block, Fault>>, Fault> {
    let items = match content {
        Value::String(text) => vec![serde_json::json!({"type": "text", "text": text})],
        Value::Array(items) => items,
        _ => return Err(invalid(path, "must be a string or a list of blocks")),
    };
    let path = path.to_owned();
    Ok(items.into_iter().enumerate().map(move |(i, item)| block(item, &format!("{path}[{i}]"))))
}

fn block(item: Value, path: &str) -> Result<Block, Fault> {
    let mut fields = Fields::of(item, path)?;
    let kind = fields.needed_text("type")?;
    let block = match kind.as_str() {
        "text" => {
            let none = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
            fields.only("citations", none, "has no effect on this server: leave it out")?;
            Block::Text(fields.needed_text("text")?)
        }
        "tool_use" => {
            let (id, name) = (fields.needed_text("id")?, fields.needed_text("name")?);
            let at = fields.path("input");
            let input = fields.take("input").ok_or_else(|| fields.missing("input"))?;
            if !input.is_object() {
                return Err(invalid(at, "must be an object"));
            }
            let direct = |value: &Value| value["type"] == "direct";
            fields.only("caller", direct, "may be of type \"direct\" only")?;
            Block::Call(call_of(id, name, &input))
        }
        "tool_result" => {
            let id = fields.needed_text("tool_use_id")?;
            let at = fields.path("content");
            let content = fields.take("content").map(|value| text(value, &at)).transpose()?;
            let failed = fields.flag("is_error")?.unwrap_or(false);
            let content = content.unwrap_or_default();
            Block::Result { id, content: if failed { format!("{ERROR}{content}") } else { content } }
        }
        _ => {
            let message = format!("is {kind:?}, which these models do not take: they read text");
            return Err(unsupported(fields.path("type"), message));
        }
    };
    cache_control(&mut fields)?;
    fields.finish()?;
    Ok(block)
}

/// A text, or blocks that are texts.
fn text(content: Value, path: &str) -> Result<String, Fault> {
    let mut whole = String::new();
    for block in blocks(content, path)? {
        match block? {
            Block::Text(text) => whole.push_str(&text),
            Block::Call(_) | Block::Result { .. } => return Err(invalid(path, "may have text blocks only")),
        }
    }
    Ok(whole)
}

/// Takes `cache_control`, which cannot change an answer: prefixes are kept whether it asks so or not.
pub(super) fn cache_control(fields: &mut Fields) -> Result<(), Fault> {
    let Some(mut control) = fields.object("cache_control")? else { return Ok(()) };
    if control.needed_text("type")? != "ephemeral" {
        return Err(invalid(control.path("type"), "must be \"ephemeral\""));
    }
    control.labels(&["ttl"]);
    control.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn turns(body: Value) -> Result<Vec<(String, String, usize)>, Fault> {
        let mut fields = Fields::of_body(body.to_string().as_bytes())?;
        let turns = read(&mut fields)?;
        fields.finish()?;
        let shown = |turn: Message| (turn.role, turn.content.unwrap_or_default(), turn.tool_calls.len());
        Ok(turns.into_iter().map(shown).collect())
    }

    fn turn(role: &str, text: &str, calls: usize) -> (String, String, usize) {
        (role.to_owned(), text.to_owned(), calls)
    }

    #[test]
    fn blocks_become_turns() {
        let call =
            json!({"type": "tool_use", "id": "c", "name": "f", "input": {}, "caller": {"type": "direct"}});
        let result = |more: Value| {
            let mut block = json!({"type": "tool_result", "tool_use_id": "c"});
            block.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            block
        };
        let body = json!({"system": [{"type": "text", "text": "s"}], "messages": [
            {"role": "user", "content": "a"},
            {"role": "user", "content": [{"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}}]},
            {"role": "assistant", "content": [{"type": "text", "text": "c", "citations": null}, call]},
            {"role": "user", "content": [
                result(json!({"content": "1"})),
                result(json!({"content": [{"type": "text", "text": "2"}], "is_error": true})),
                {"type": "text", "text": "d"},
            ]},
        ]});
        let expected = [
            turn("system", "s", 0),
            turn("user", "a\nb", 0),
            turn("assistant", "c", 1),
            turn("tool", "1", 0),
            turn("tool", "Error: 2", 0),
            turn("user", "d", 0),
        ];
        assert_eq!(turns(body).unwrap(), expected);
    }

    #[test]
    fn what_has_no_place_is_named() {
        let of_user = |block: Value| json!({"messages": [{"role": "user", "content": [block]}]});
        for (body, named) in [
            (of_user(json!({"type": "image", "source": {}})), "messages[0].content[0].type"),
            (
                of_user(json!({"type": "text", "text": "x", "frobnicate": 1})),
                "messages[0].content[0].frobnicate",
            ),
            (
                of_user(json!({"type": "tool_use", "id": "c", "name": "f", "input": {}})),
                "messages[0].content",
            ),
            (
                of_user(json!({"type": "text", "text": "x", "cache_control": {"type": "eternal"}})),
                "messages[0].content[0].cache_control.type",
            ),
            (json!({"messages": [{"role": "assistant", "content": "x"}]}), "messages"),
            (json!({"messages": []}), "messages"),
        ] {
            assert_eq!(turns(body).unwrap_err().field.as_deref(), Some(named));
        }
    }
}
