//! Prompts: what the model's template makes of a conversation.

use llm::template::{self, Message, ToolCall};
use serde_json::{Map, Value};
use serving::{Language, PromptError};

use super::prepare::too_long;
use crate::Fault;
use crate::fields::invalid;

/// A call as templates know it, of arguments that are JSON in a text.
pub(crate) fn call_of_text(id: String, name: String, arguments: &str, path: &str) -> Result<ToolCall, Fault> {
    let arguments: Value = match arguments.trim() {
        "" => Value::Object(Map::new()),
        text => serde_json::from_str(text).map_err(|_| invalid(path, "must be JSON in a string"))?,
    };
    Ok(call_of(id, name, &arguments))
}

/// A call as templates know it.
pub(crate) fn call_of(id: String, name: String, arguments: &Value) -> ToolCall {
    ToolCall { id, name, arguments: template::Value::from_serialize(arguments) }
}

/// The prompt that the model's template makes of a conversation; `of` names the field it came in.
pub(super) fn prompt(
    language: &Language,
    turns: &[Message],
    tools: &[Value],
    of: &str,
) -> Result<Vec<u32>, Fault> {
    let tools = tools.iter().map(template::Value::from_serialize).collect();
    language.chat_prompt(turns, tools).map_err(|error| refused_text(&error, of))
}

/// What to tell a client of whose text no prompt was made.
pub(crate) fn refused_text(error: &PromptError, of: &str) -> Fault {
    match error {
        PromptError::TooLong { .. } => too_long(of, error.to_string()),
        PromptError::NoTemplate { .. } | PromptError::Template(_) => {
            Fault::invalid(error.to_string()).about(of)
        }
    }
}
