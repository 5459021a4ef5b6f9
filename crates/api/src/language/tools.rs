//! Tools: how a model is told of them, how it calls them, and how its calls are found in what it writes.

mod parser;

use llm::Constraint;
use serde_json::{Map, Value, json};
use serving::Language;

use crate::Fault;
use crate::fields::{Fields, invalid, unsupported};

pub(super) use parser::Parser;
pub(crate) use parser::Piece;

/// Tools in a request at most.
const TOOLS_MAX: usize = 128;
/// Calls in one answer at most, where an answer must be calls.
const CALLS_MAX: usize = 8;

/// A function that the model may call.
#[derive(Debug, Clone)]
pub(crate) struct Tool {
    /// Its name.
    name: String,
    /// The schema of its arguments.
    parameters: Value,
    /// The tool as chat templates know it: `{"type": "function", "function": {…}}`.
    described: Value,
    /// The field that says, if one does, that calls must fit the schema.
    strict: Option<String>,
}

/// Whether the model has to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    /// As it likes.
    Auto,
    /// It does not learn of the tools.
    None,
    /// It must.
    Required,
    /// It must call one of these.
    OneOf(Vec<String>),
}

/// How a family of models writes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `<tool_call>{"name": …, "arguments": …}</tool_call>`: Qwen, Hermes.
    Tagged,
    /// `{"name": …, "parameters": …}` and nothing else: Llama 3.
    Bare,
}

impl Default for Tools {
    fn default() -> Tools {
        Tools { tools: Vec::new(), choice: Choice::Auto, parallel: true }
    }
}

/// The tools of a request.
#[derive(Debug)]
pub(crate) struct Tools {
    tools: Vec<Tool>,
    choice: Choice,
    /// Whether there may be more than one call.
    pub(crate) parallel: bool,
}

impl Style {
    /// How the model behind `language` writes calls, by what its template says of them.
    fn of(language: &Language) -> Option<Style> {
        if language.template_mentions("<tool_call>") {
            return Some(Style::Tagged);
        }
        let llama =
            language.template_mentions("\"parameters\"") || language.template_mentions("<|python_tag|>");
        (llama && language.template_mentions("tools")).then_some(Style::Bare)
    }
}

/// Whether the model behind `language` can be told of tools.
pub(crate) fn takes_tools(language: &Language) -> bool {
    Style::of(language).is_some()
}

impl Tool {
    /// Reads a function: `name`, `description`, `strict`, and the schema of its arguments, which the protocol calls
    /// `schema`. What else there is stays in `fields`.
    ///
    /// # Errors
    /// If one of them is not what it should be.
    pub(crate) fn read(fields: &mut Fields, schema: &str) -> Result<Tool, Fault> {
        let path = fields.path(schema);
        match fields.take(schema) {
            Some(parameters) if !parameters.is_object() => {
                Err(invalid(path, "must be an object: a JSON schema"))
            }
            parameters => Tool::taking(parameters, fields),
        }
    }

    /// Reads a function whose arguments' schema was read already.
    ///
    /// # Errors
    /// As [`Tool::read`].
    pub(crate) fn taking(parameters: Option<Value>, fields: &mut Fields) -> Result<Tool, Fault> {
        let name = fields.needed_text("name")?;
        let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(fine) {
            return Err(invalid(fields.path("name"), "must be 1 to 64 letters, digits, `_`, `-` or `.`"));
        }
        let description = fields.text("description")?;
        let parameters = parameters.unwrap_or_else(|| json!({"type": "object", "properties": {}}));
        let strict = fields.flag("strict")?.unwrap_or(false).then(|| fields.path("strict"));
        let mut described = json!({"type": "function", "function": {"name": name}});
        if let Some(description) = description {
            described["function"]["description"] = description.into();
        }
        described["function"]["parameters"] = parameters.clone();
        Ok(Tool { name, parameters, described, strict })
    }

    /// The same with a schema of what it gives, which templates call `return`.
    pub(crate) fn returning(mut self, schema: Value) -> Tool {
        self.described["function"]["return"] = schema;
        self
    }
}

impl Tools {
    /// These, of which the model calls as `choice` says, more than one in an answer if `parallel`. `of` names the
    /// field of the choice.
    ///
    /// # Errors
    /// If there are too many, or the choice is none of them.
    pub(crate) fn new(tools: Vec<Tool>, choice: Choice, parallel: bool, of: &str) -> Result<Tools, Fault> {
        if tools.len() > TOOLS_MAX {
            let message = format!("has {} entries; at most {TOOLS_MAX} are allowed", tools.len());
            return Err(invalid("tools", message));
        }
        let there = match &choice {
            Choice::OneOf(names) => {
                let there = |name: &String| tools.iter().any(|tool| tool.name == *name);
                names.len() <= tools.len() && names.iter().all(there)
            }
            Choice::Required => !tools.is_empty(),
            Choice::Auto | Choice::None => true,
        };
        if !there {
            return Err(invalid(of, "asks for a function that is not among `tools`"));
        }
        Ok(Tools { tools, choice, parallel })
    }

    /// The tools that the template is told of.
    pub(super) fn described(&self) -> Vec<Value> {
        match self.choice {
            Choice::None => Vec::new(),
            _ => self.tools.iter().map(|tool| tool.described.clone()).collect(),
        }
    }

    /// Whether the model is told of none.
    pub(crate) fn are_none(&self) -> bool {
        self.choice == Choice::None || self.tools.is_empty()
    }

    /// The names of the functions.
    pub(super) fn names(&self) -> Vec<String> {
        self.tools.iter().map(|tool| tool.name.clone()).collect()
    }

    /// How the model writes calls; nothing when it is told of no tools.
    ///
    /// # Errors
    /// If its template has no place for tools.
    pub(super) fn style(&self, language: &Language) -> Result<Option<Style>, Fault> {
        if self.tools.is_empty() || self.choice == Choice::None {
            return Ok(None);
        }
        let missing = || {
            let message = "cannot be used with this model: its chat template has no place for tools in a form that \
                           this server knows";
            unsupported("tools", message)
        };
        let style = Style::of(language).ok_or_else(missing)?;
        let mut strict = self.tools.iter().filter_map(|tool| tool.strict.clone());
        match strict.next().filter(|_| self.choice == Choice::Auto) {
            Some(field) => Err(unsupported(
                field,
                "can be kept only where the choice of tools leaves none but to call: \"required\", or a function's name",
            )),
            None => Ok(Some(style)),
        }
    }

    /// What an answer that must be calls has to look like.
    pub(super) fn constraint(&self, style: Style, language: &Language) -> Option<Constraint> {
        let callable: Vec<&Tool> = match &self.choice {
            Choice::Auto | Choice::None => return None,
            Choice::Required => self.tools.iter().collect(),
            Choice::OneOf(names) => self.tools.iter().filter(|tool| names.contains(&tool.name)).collect(),
        };
        let arguments = match style {
            Style::Tagged => "arguments",
            Style::Bare => "parameters",
        };
        let call = |tool: &&Tool| {
            json!({
                "type": "object",
                "properties": {"name": {"const": tool.name}, arguments: tool.parameters},
                "required": ["name", arguments],
                "additionalProperties": false,
            })
        };
        let schema = match callable.as_slice() {
            [only] => call(only),
            several => json!({"anyOf": several.iter().map(call).collect::<Vec<_>>()}),
        };
        Some(match style {
            Style::Bare => Constraint::JsonSchema(schema.to_string()),
            Style::Tagged => {
                let many = self.parallel && (self.choice == Choice::Required || callable.len() > 1);
                let more =
                    if many { format!(" (\"\\n\" call){{0,{}}}", CALLS_MAX - 1) } else { String::new() };
                let (open, close) = (marker(language, parser::OPEN), marker(language, parser::CLOSE));
                Constraint::Lark(format!(
                    "start: call{more}\ncall: {open} \"\\n\" body \"\\n\" {close}\nbody: %json {schema}\n"
                ))
            }
        })
    }
}

/// A call's arguments as an object. What a model wrote that is none stands in one under the name `arguments`: some
/// protocols have no place for anything else.
pub(crate) fn arguments(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_else(|_| Map::from_iter([("arguments".to_owned(), text.into())]))
}

/// The text of a token, where it marks a call and is a control token, which has no text of its own; else `text`.
pub(super) fn spelled(language: &Language, id: u32, text: String) -> String {
    let tokenizer = language.tokenizer();
    let marks = |mark: &&str| tokenizer.token(mark) == Some(id);
    match [parser::OPEN, parser::CLOSE].into_iter().find(marks) {
        Some(mark) if tokenizer.is_control(id) => text + mark,
        _ => text,
    }
}

/// A marker in a grammar: by its number where it is a control token, else as text.
fn marker(language: &Language, text: &str) -> String {
    let token = language.tokenizer().token(text).filter(|&token| language.tokenizer().is_control(token));
    token.map_or_else(|| format!("\"{text}\""), |token| format!("<[{token}]>"))
}
