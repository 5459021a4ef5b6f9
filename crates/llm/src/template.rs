//! [`ChatTemplate`]: makes a conversation the text that a model was trained on.
//!
//! The template is a Jinja program that comes with the model, so it is data from elsewhere: it runs within limits of
//! steps, memory, depth and time, reads no files and calls nothing but what is here. It renders as the reference (Jinja2
//! as `transformers` sets it up) does.
//!
//! What people wrote cannot become a control token. While the template runs, characters with which a control token's
//! name begins stand in disguise in every string that comes from a request; the finished text is cut at the control
//! tokens that only the template can have written, and then the disguise is taken off. See [`Rendered`].

mod clock;
mod disguise;
mod functions;
mod instructions;
mod limits;
mod python;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::error::Error as _;
use std::sync::Arc;
use std::time::SystemTime;

use minijinja::machinery::{CompiledTemplate, TemplateConfig, Vm, WhitespaceConfig, make_string_output};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind};

pub use minijinja::Value;

use crate::tokenizer::{Special, Tokenizer};
use disguise::Disguise;
use functions::Refusal;
use limits::Limits;

/// The largest template read, in bytes; the largest in use have a tenth of that.
const SOURCE_BYTES_MAX: usize = 256 << 10;
/// How deep macros may call each other.
const RECURSION_MAX: usize = 64;
/// Steps that any conversation may take.
const STEPS_BASE: u64 = 1_000_000;
/// Steps that each message and tool adds.
const STEPS_PER_ITEM: u64 = 2_000;
/// The longest name of a role.
const ROLE_BYTES_MAX: usize = 64;

/// One message of a conversation.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, `tool` or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: Option<String>,
    /// What the model thought before it said so.
    pub reasoning: Option<String>,
    /// The speaker's name, or that of the tool that answers.
    pub name: Option<String>,
    /// Which call a tool answers.
    pub tool_call_id: Option<String>,
    /// Tools that the model called.
    pub tool_calls: Vec<ToolCall>,
}

/// A tool that the model called.
#[derive(Debug, Clone)]
pub struct ToolCall {
    /// What the answer refers to.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// What it was called with, as an object.
    pub arguments: Value,
}

/// What a template is given beside the messages.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Descriptions of tools, as the protocol has them.
    pub tools: Vec<Value>,
    /// Whether the text ends where the model's answer begins.
    pub add_generation_prompt: bool,
    /// Further variables by name, such as `enable_thinking`.
    pub extra: Vec<(String, Value)>,
    /// What the template takes for the present time, if it asks. Unset, it is told that there is no clock.
    pub now: Option<SystemTime>,
}

/// A template that cannot be used, or a conversation that it does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The template is too large.
    #[error("the chat template has {0} bytes; at most {SOURCE_BYTES_MAX} are read")]
    Size(usize),
    /// The template is not Jinja, or uses what is not supported.
    #[error("the chat template cannot be read: {0}")]
    Syntax(String),
    /// A role has a name that no template knows.
    #[error("messages[{0}].role must be a name of letters, digits, - and _")]
    Role(usize),
    /// The template itself refuses the conversation.
    #[error("the model's chat template refuses the conversation: {0}")]
    Refused(String),
    /// The template takes too long, or too much memory.
    #[error("the chat template goes beyond its limit of {0}")]
    Limit(&'static str),
    /// The template fails.
    #[error("the chat template fails: {0}")]
    Failed(String),
}

/// A model's chat template. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    source: Arc<str>,
    bos: Arc<str>,
    eos: Arc<str>,
    disguise: Arc<Disguise>,
}

/// A conversation as text in which what people wrote is still told apart from what the template wrote.
#[derive(Debug, Clone)]
pub struct Rendered {
    text: String,
    mask: disguise::Mask,
}

impl Rendered {
    /// The whole text, as the reference would render it.
    #[must_use]
    pub fn text(&self) -> String {
        self.mask.take_off(&self.text).into_owned()
    }

    /// The prompt's tokens: control tokens only where the template wrote them, and what the model expects at the
    /// beginning.
    #[must_use]
    pub fn encode(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        let ids = tokenizer.encode_restoring(&self.text, Special::Parse, |part| self.mask.take_off(part));
        tokenizer.complete(ids)
    }
}

impl ChatTemplate {
    /// Reads a template for the model whose tokens these are.
    ///
    /// # Errors
    /// [`TemplateError::Size`], [`TemplateError::Syntax`].
    pub fn new(source: &str, tokenizer: &Tokenizer) -> Result<ChatTemplate, TemplateError> {
        if source.len() > SOURCE_BYTES_MAX {
            return Err(TemplateError::Size(source.len()));
        }
        let source = without_training_marks(source);
        compile(&source)?;
        let name = |id: Option<u32>| id.map(|id| String::from_utf8_lossy(tokenizer.token_bytes(id)));
        Ok(ChatTemplate {
            bos: name(tokenizer.bos()).unwrap_or_default().into(),
            eos: name(tokenizer.eos()).unwrap_or_default().into(),
            disguise: Arc::new(Disguise::new(&source, tokenizer.controls())),
            source: source.into(),
        })
    }

    /// Renders a conversation.
    ///
    /// # Errors
    /// [`TemplateError`] when the template refuses the conversation, fails, or goes beyond its limits.
    pub fn render(&self, messages: &[Message], context: &Context) -> Result<Rendered, TemplateError> {
        for (at, message) in messages.iter().enumerate() {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            if message.role.is_empty()
                || message.role.len() > ROLE_BYTES_MAX
                || !message.role.bytes().all(known)
            {
                return Err(TemplateError::Role(at));
            }
        }
        let mut mask = self.disguise.mask(messages, context)?;
        let variables = self.variables(messages, context, &mut mask)?;
        let limits = Arc::new(Limits::new(mask.bytes()));
        let compiled = compile(&self.source)?;
        let mut environment = Environment::new();
        functions::install(&mut environment, &limits, context.now);
        environment.set_recursion_limit(RECURSION_MAX);
        let items = messages.len() as u64 + context.tools.len() as u64;
        environment.set_fuel(Some(STEPS_BASE.saturating_add(STEPS_PER_ITEM.saturating_mul(items))));
        let instructions = instructions::watched(&compiled.instructions);
        let blocks =
            compiled.blocks.iter().map(|(name, block)| (*name, instructions::watched(block))).collect();
        let mut text = String::new();
        let done = Vm::new(&environment)
            .eval(&instructions, variables, &blocks, &mut make_string_output(&mut text), AutoEscape::None)
            .map(|_| ());
        done.map_err(|error| failure(&error, &mask))?;
        Ok(Rendered { text, mask })
    }

    /// What the template sees, every string from outside in disguise.
    fn variables(
        &self,
        messages: &[Message],
        context: &Context,
        mask: &mut disguise::Mask,
    ) -> Result<Value, TemplateError> {
        let messages: Vec<Value> =
            messages.iter().map(|message| message_value(message, mask)).collect::<Result<_, _>>()?;
        let tools: Vec<Value> =
            context.tools.iter().map(|tool| mask.put_on(tool)).collect::<Result<_, _>>()?;
        let mut variables = vec![
            ("messages".to_owned(), Value::from(messages)),
            ("tools".to_owned(), if tools.is_empty() { Value::from(()) } else { Value::from(tools) }),
            ("documents".to_owned(), Value::from(())),
            ("add_generation_prompt".to_owned(), Value::from(context.add_generation_prompt)),
            ("bos_token".to_owned(), Value::from(&*self.bos)),
            ("eos_token".to_owned(), Value::from(&*self.eos)),
        ];
        for (name, value) in &context.extra {
            variables.push((name.clone(), mask.put_on(value)?));
        }
        Ok(variables.into_iter().collect())
    }
}

/// A message as templates know it.
fn message_value(message: &Message, mask: &mut disguise::Mask) -> Result<Value, TemplateError> {
    let text = |text: &String| Value::from(mask.put_on_text(text));
    let content = message.content.as_ref().map_or_else(|| Value::from(()), text);
    let mut fields = vec![("role", Value::from(message.role.as_str())), ("content", content)];
    let optional = [
        // One thing with two names among the families.
        ("reasoning_content", &message.reasoning),
        ("thinking", &message.reasoning),
        ("name", &message.name),
        ("tool_call_id", &message.tool_call_id),
    ];
    fields.extend(optional.iter().filter_map(|(name, field)| Some((*name, text(field.as_ref()?)))));
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| {
            let function = [
                ("name", Value::from(mask.put_on_text(&call.name))),
                ("arguments", mask.put_on(&call.arguments)?),
            ];
            let call = [
                ("type", Value::from("function")),
                ("id", Value::from(mask.put_on_text(&call.id))),
                ("function", function.into_iter().collect()),
            ];
            Ok(call.into_iter().collect::<Value>())
        });
        let calls = calls.collect::<Result<Vec<Value>, TemplateError>>()?;
        fields.push(("tool_calls", Value::from(calls)));
    }
    Ok(fields.into_iter().collect())
}

fn compile(source: &str) -> Result<CompiledTemplate<'_>, TemplateError> {
    let config = TemplateConfig {
        syntax_config: SyntaxConfig,
        ws_config: WhitespaceConfig { keep_trailing_newline: false, lstrip_blocks: true, trim_blocks: true },
        default_auto_escape: Arc::new(|_| AutoEscape::None),
    };
    CompiledTemplate::new("chat template", source, &config)
        .map_err(|error| TemplateError::Syntax(error.to_string()))
}

/// Some templates mark what is learnt from with `{% generation %}`, which means nothing when a prompt is made.
fn without_training_marks(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        result.push_str(before);
        let inner = tag.trim_start_matches(['-', '+']).trim_start();
        let lead = tag.len() - inner.len();
        let replaced = [("endgeneration", "endif"), ("generation", "if true")].into_iter().find_map(
            |(mark, instead)| {
                let after = inner.strip_prefix(mark)?;
                after
                    .trim_start()
                    .trim_start_matches(['-', '+'])
                    .starts_with("%}")
                    .then_some((instead, after))
            },
        );
        match replaced {
            Some((instead, after)) => {
                result.push_str(&tag[..lead]);
                result.push_str(instead);
                rest = after;
            }
            None => rest = tag,
        }
    }
    result.push_str(rest);
    result
}

/// What went wrong, without the conversation's own words.
fn failure(error: &minijinja::Error, mask: &disguise::Mask) -> TemplateError {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(refusal) = cause.downcast_ref::<Refusal>() {
            return match refusal {
                Refusal::Template(message) => TemplateError::Refused(mask.take_off(message).into_owned()),
                Refusal::Limit(what) => TemplateError::Limit(what),
            };
        }
        source = cause.source();
    }
    if error.kind() == ErrorKind::OutOfFuel {
        return TemplateError::Limit("steps");
    }
    let line = error.line().map_or_else(String::new, |line| format!(" in line {line}"));
    let detail: Cow<'_, str> = mask.take_off(error.detail().unwrap_or_default());
    TemplateError::Failed(format!("{}{line}: {detail}", error.kind()))
}
