//! What is said: contents made of parts.

use llm::template::{Message, ToolCall};
use serde_json::Value;

use super::wire::{object, objects};
use crate::Fault;
use crate::fields::{Fields, invalid, unsupported};
use crate::language::call_of;

/// Contents in a request at most.
const CONTENTS_MAX: usize = 10_000;
/// Kinds of parts that these models do not take.
const UNREAD: [&str; 4] = ["inlineData", "fileData", "executableCode", "codeExecutionResult"];

/// Reads `systemInstruction` and `contents`.
pub(super) fn read(fields: &mut Fields) -> Result<Vec<Message>, Fault> {
    let mut turns = Vec::new();
    if let Some(mut system) = object(fields, "systemInstruction")? {
        system.labels(&["role"]);
        let mut text = String::new();
        for part in parts(&mut system)? {
            match part? {
                Part::Text(more) => text.push_str(&more),
                _ => return Err(invalid(system.path("parts"), "may have texts only")),
            }
        }
        system.finish()?;
        turns.push(said("system", text));
    }
    let contents = objects(fields, "contents")?;
    if contents.is_empty() || contents.len() > CONTENTS_MAX {
        return Err(invalid("contents", format!("must have between 1 and {CONTENTS_MAX} entries")));
    }
    for content in contents {
        add(&mut turns, content)?;
    }
    if turns.last().is_some_and(|last| last.role == "assistant") {
        let message = "ends with a model's turn; an answer cannot be begun for the model: end with a user's";
        return Err(unsupported("contents", message));
    }
    Ok(turns)
}

fn said(role: &str, text: String) -> Message {
    Message { role: role.to_owned(), content: Some(text), ..Message::default() }
}

fn add(turns: &mut Vec<Message>, mut content: Fields) -> Result<(), Fault> {
    let role = content.text("role")?.unwrap_or_default();
    let path = content.path("parts");
    match role.as_str() {
        "" | "user" | "function" | "tool" => {
            let mut text = None::<String>;
            for part in parts(&mut content)? {
                match part? {
                    Part::Text(more) => text.get_or_insert_default().push_str(&more),
                    Part::Result { id, result } => {
                        turns.extend(text.take().map(|text| said("user", text)));
                        turns.push(Message { tool_call_id: Some(id), ..said("tool", result) });
                    }
                    Part::Call(_) => return Err(invalid(path, "has a functionCall, which is a model's")),
                }
            }
            turns.extend(text.map(|text| said("user", text)));
        }
        "model" => {
            let mut turn = Message { role: "assistant".to_owned(), ..Message::default() };
            for part in parts(&mut content)? {
                match part? {
                    Part::Text(more) => turn.content.get_or_insert_default().push_str(&more),
                    Part::Call(call) => turn.tool_calls.push(call),
                    Part::Result { .. } => {
                        return Err(invalid(path, "has a functionResponse, which is a user's"));
                    }
                }
            }
            turns.push(turn);
        }
        _ => return Err(invalid(content.path("role"), "must be \"user\" or \"model\"")),
    }
    content.finish()
}

/// A part of a turn.
enum Part {
    Text(String),
    Call(ToolCall),
    Result { id: String, result: String },
}

fn parts(content: &mut Fields) -> Result<impl Iterator<Item = Result<Part, Fault>> + use<>, Fault> {
    let path = content.path("parts");
    let parts = objects(content, "parts")?;
    if parts.is_empty() {
        return Err(invalid(path, "must have at least one part"));
    }
    Ok(parts.into_iter().map(part))
}

fn part(mut fields: Fields) -> Result<Part, Fault> {
    if let Some(unread) = UNREAD.into_iter().find(|kind| fields.peek(kind).is_some()) {
        let message = "is a kind of content that these models do not take: they read text";
        return Err(unsupported(fields.path(unread), message));
    }
    fields.only("thought", |value| *value == Value::Bool(false), "is not served: leave such parts out")?;
    let part = if let Some(mut call) = object(&mut fields, "functionCall")? {
        let name = call.needed_text("name")?;
        let id = call.text("id")?.unwrap_or_else(|| name.clone());
        let path = call.path("args");
        let arguments = call.take("args").unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        if !arguments.is_object() {
            return Err(invalid(path, "must be an object"));
        }
        call.finish()?;
        Part::Call(call_of(id, name, &arguments))
    } else if let Some(mut result) = object(&mut fields, "functionResponse")? {
        let name = result.needed_text("name")?;
        let id = result.text("id")?.unwrap_or(name);
        let path = result.path("response");
        let response = result.take("response").ok_or_else(|| result.missing("response"))?;
        if !response.is_object() {
            return Err(invalid(path, "must be an object"));
        }
        result.finish()?;
        Part::Result { id, result: response.to_string() }
    } else {
        Part::Text(fields.needed_text("text")?)
    };
    fields.finish()?;
    Ok(part)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::super::wire::camel;
    use super::*;

    fn turns(body: Value) -> Result<Vec<(String, String, usize)>, Fault> {
        let mut fields = camel(Fields::of_body(body.to_string().as_bytes())?);
        let turns = read(&mut fields)?;
        fields.finish()?;
        let shown = |turn: Message| (turn.role, turn.content.unwrap_or_default(), turn.tool_calls.len());
        Ok(turns.into_iter().map(shown).collect())
    }

    fn turn(role: &str, text: &str, calls: usize) -> (String, String, usize) {
        (role.to_owned(), text.to_owned(), calls)
    }

    #[test]
    fn parts_become_turns_in_either_spelling() {
        let body = json!({
            "system_instruction": {"parts": [{"text": "s"}]},
            "contents": [
                {"parts": [{"text": "a"}, {"text": "b"}]},
                {"role": "model", "parts": [{"text": "c"}, {"function_call": {"name": "f", "args": {"x": 1}}}]},
                {"role": "user", "parts": [
                    {"functionResponse": {"name": "f", "response": {"z_z": 1, "a": 2}}},
                    {"text": "d"},
                ]},
            ],
        });
        let expected = [
            turn("system", "s", 0),
            turn("user", "ab", 0),
            turn("assistant", "c", 1),
            turn("tool", "{\"z_z\":1,\"a\":2}", 0),
            turn("user", "d", 0),
        ];
        assert_eq!(turns(body).unwrap(), expected);
    }

    #[test]
    fn what_has_no_place_is_named() {
        let of = |part: Value| json!({"contents": [{"role": "user", "parts": [part]}]});
        for (body, named) in [
            (of(json!({"inlineData": {}})), "contents[0].parts[0].inlineData"),
            (of(json!({"text": "x", "frobnicate": 1})), "contents[0].parts[0].frobnicate"),
            (of(json!({"functionCall": {"name": "f"}})), "contents[0].parts"),
            (json!({"contents": [{"role": "model", "parts": [{"text": "x"}]}]}), "contents"),
            (json!({}), "contents"),
        ] {
            assert_eq!(turns(body).unwrap_err().field.as_deref(), Some(named));
        }
    }
}
