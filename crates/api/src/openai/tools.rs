//! Tools: how a model is told of them, how it calls them, and how its calls are found in what it writes.

mod parser;

use llm::Constraint;
use serde_json::{Value, json};
use serving::Language;

use super::fields::{Fields, invalid, unsupported};
use crate::Fault;

pub(super) use parser::{Parser, Piece};

/// Tools in a request at most.
const TOOLS_MAX: usize = 128;
/// Calls in one answer at most, where an answer must be calls.
const CALLS_MAX: usize = 8;

/// A function that the model may call.
#[derive(Debug, Clone)]
pub(super) struct Tool {
    /// Its name.
    pub(super) name: String,
    /// The schema of its arguments.
    parameters: Value,
    /// The tool as chat templates know it: `{"type": "function", "function": {…}}`.
    pub(super) described: Value,
    /// Whether calls must fit the schema.
    strict: bool,
}

/// Whether the model has to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// As it likes.
    Auto,
    /// It does not learn of the tools.
    None,
    /// It must.
    Required,
    /// It must call this one.
    Named(String),
}

/// How a family of models writes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `<tool_call>{"name": …, "arguments": …}</tool_call>`: Qwen, Hermes.
    Tagged,
    /// `{"name": …, "parameters": …}` and nothing else: Llama 3.
    Bare,
}

/// The tools of a request.
#[derive(Debug)]
pub(super) struct Tools {
    /// Those that may be called.
    pub(super) tools: Vec<Tool>,
    /// Whether they must be.
    pub(super) choice: Choice,
    /// Whether there may be more than one call.
    pub(super) parallel: bool,
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

impl Tools {
    /// Reads `tools`, `tool_choice` and `parallel_tool_calls`. In responses a function lies `flat` in its tool.
    pub(super) fn read(fields: &mut Fields, flat: bool) -> Result<Tools, Fault> {
        let items = fields.list("tools")?.unwrap_or_default();
        if items.len() > TOOLS_MAX {
            return Err(invalid(
                "tools",
                format!("has {} entries; at most {TOOLS_MAX} are allowed", items.len()),
            ));
        }
        let tool = |(i, item)| Tool::read(item, &format!("tools[{i}]"), flat);
        let tools = items.into_iter().enumerate().map(tool).collect::<Result<Vec<_>, _>>()?;
        let choice = Choice::read(fields, &tools, flat)?;
        let parallel = fields.flag("parallel_tool_calls")?.unwrap_or(true);
        Ok(Tools { tools, choice, parallel })
    }

    /// The tools that the template is told of.
    pub(super) fn described(&self) -> Vec<Value> {
        match self.choice {
            Choice::None => Vec::new(),
            _ => self.tools.iter().map(|tool| tool.described.clone()).collect(),
        }
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
        let strict = self.tools.iter().position(|tool| tool.strict).filter(|_| self.choice == Choice::Auto);
        match strict {
            Some(at) => Err(unsupported(
                format!("tools[{at}].function.strict"),
                "can be kept only where `tool_choice` is \"required\" or names a function",
            )),
            None => Ok(Some(style)),
        }
    }

    /// What an answer that must be calls has to look like.
    pub(super) fn constraint(&self, style: Style, language: &Language) -> Option<Constraint> {
        let callable: Vec<&Tool> = match &self.choice {
            Choice::Auto | Choice::None => return None,
            Choice::Required => self.tools.iter().collect(),
            Choice::Named(name) => self.tools.iter().filter(|tool| tool.name == *name).collect(),
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
                let many = self.parallel && self.choice == Choice::Required;
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

impl Tool {
    fn read(item: Value, path: &str, flat: bool) -> Result<Tool, Fault> {
        let mut outer = Fields::of(item, path)?;
        let kind = outer.needed_text("type")?;
        if kind != "function" {
            return Err(unsupported(
                format!("{path}.type"),
                "must be \"function\": other tools are not served",
            ));
        }
        let mut function = if flat {
            outer
        } else {
            let function = outer.object("function")?.ok_or_else(|| outer.missing("function"))?;
            outer.finish()?;
            function
        };
        let name = function.needed_text("name")?;
        let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(fine) {
            return Err(invalid(function.path("name"), "must be 1 to 64 letters, digits, `_`, `-` or `.`"));
        }
        let description = function.text("description")?;
        let path = function.path("parameters");
        let parameters =
            function.take("parameters").unwrap_or_else(|| json!({"type": "object", "properties": {}}));
        if !parameters.is_object() {
            return Err(invalid(path, "must be an object: a JSON schema"));
        }
        let strict = function.flag("strict")?.unwrap_or(false);
        function.finish()?;
        let mut described = json!({"type": "function", "function": {"name": name}});
        if let Some(description) = description {
            described["function"]["description"] = description.into();
        }
        described["function"]["parameters"] = parameters.clone();
        Ok(Tool { name, parameters, described, strict })
    }
}

impl Choice {
    fn read(fields: &mut Fields, tools: &[Tool], flat: bool) -> Result<Choice, Fault> {
        let path = fields.path("tool_choice");
        let known = "must be \"none\", \"auto\", \"required\" or name a function";
        let choice = match fields.take("tool_choice") {
            None => return Ok(Choice::Auto),
            Some(Value::String(word)) => match word.as_str() {
                "auto" => Choice::Auto,
                "none" => Choice::None,
                "required" => Choice::Required,
                _ => return Err(invalid(path, known)),
            },
            Some(value) => {
                let mut named = Fields::of(value, &path)?;
                if named.text("type")?.as_deref() != Some("function") {
                    return Err(invalid(path, known));
                }
                let name = if flat {
                    named.needed_text("name")?
                } else {
                    let mut function = named.object("function")?.ok_or_else(|| named.missing("function"))?;
                    let name = function.needed_text("name")?;
                    function.finish()?;
                    name
                };
                named.finish()?;
                Choice::Named(name)
            }
        };
        let there = match &choice {
            Choice::Named(name) => tools.iter().any(|tool| tool.name == *name),
            Choice::Required => !tools.is_empty(),
            Choice::Auto | Choice::None => true,
        };
        if there { Ok(choice) } else { Err(invalid(path, "asks for a function that is not among `tools`")) }
    }
}
