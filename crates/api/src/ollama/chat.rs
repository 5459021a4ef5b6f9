//! `POST /api/chat`

use std::sync::Arc;

use llm::template::{self, Message, ToolCall};
use serde_json::Value;

use super::answer::{Answer, Clock, Shape, Source, only_kept, wake};
use super::request::{Common, names, no_images};
use crate::Fault;
use crate::fields::{Fields, invalid, unsupported};
use crate::http::{App, Call, Response};
use crate::language::{Choice, Conversation, Tool, Tools, prepared, project_of};
use crate::tenant::Tenant;

/// Messages in a conversation at most.
const MESSAGES_MAX: usize = 10_000;

/// Answers a chat.
pub(super) async fn answer(call: Call) -> Result<Response, Fault> {
    let project = project_of(&call, None)?;
    let Call { app, body, .. } = call;
    let bytes = body.read().await?;
    match prepared(&app, move |app| start(app, &project, &bytes)).await? {
        Started::Answer(answer) => answer.reply().await,
        Started::Done(reply) => Ok(reply),
    }
}

/// What has become of a request once it was prepared.
pub(super) enum Started {
    /// The model answers.
    Answer(Box<Answer>),
    /// There is nothing to answer.
    Done(Response),
}

fn start(app: &Arc<App>, project: &Tenant, bytes: &[u8]) -> Result<Started, Fault> {
    let mut clock = Clock::start();
    let mut fields = Fields::of_body(bytes)?;
    let common = Common::read(&mut fields)?;
    let turns = messages(&mut fields)?;
    let tools = tools(&mut fields)?;
    fields.finish()?;
    let route = super::model(app, project, &common.model)?;
    let language = Arc::clone(&route.language);
    if turns.is_empty() {
        return only_kept(&language, common.keep, Shape::Chat, &common.model).map(Started::Done);
    }
    common.check_context(language.context())?;
    wake(&language)?;
    clock.loaded();
    let conversation = Conversation {
        turns,
        tools,
        n: 1,
        max_tokens: common.max_tokens,
        sampling: common.sampling,
        stop: common.stop,
        logprobs: None,
        format: common.format,
    };
    let answers = conversation.start(app, route, project, &names("messages"))?;
    language.keep(common.keep);
    let source = Source::Chat(Box::new(answers));
    let answer = Answer::new(source, Shape::Chat, common.model, clock, common.stream);
    Ok(Started::Answer(Box::new(answer)))
}

fn messages(fields: &mut Fields) -> Result<Vec<Message>, Fault> {
    let items = fields.list("messages")?.unwrap_or_default();
    if items.len() > MESSAGES_MAX {
        return Err(invalid("messages", format!("must have at most {MESSAGES_MAX} entries")));
    }
    items.into_iter().enumerate().map(|(i, item)| message(item, &format!("messages[{i}]"))).collect()
}

fn message(item: Value, path: &str) -> Result<Message, Fault> {
    let mut fields = Fields::of(item, path)?;
    let role = fields.needed_text("role")?;
    if !matches!(role.as_str(), "system" | "user" | "assistant" | "tool") {
        return Err(invalid(fields.path("role"), "must be system, user, assistant or tool"));
    }
    no_images(&mut fields)?;
    let name = fields.text("tool_name")?;
    let turn = Message {
        content: fields.text("content")?,
        reasoning: fields.text("thinking")?,
        tool_calls: calls(&mut fields)?,
        tool_call_id: fields.text("tool_call_id")?,
        name: name.or(fields.text("name")?),
        role,
    };
    if turn.content.is_none() && turn.tool_calls.is_empty() {
        return Err(fields.missing("content"));
    }
    fields.finish()?;
    Ok(turn)
}

/// The calls that the assistant made earlier: their arguments are objects.
fn calls(fields: &mut Fields) -> Result<Vec<ToolCall>, Fault> {
    let path = fields.path("tool_calls");
    let call = |(i, item)| {
        let mut call = Fields::of(item, &format!("{path}[{i}]"))?;
        let id = call.text("id")?.unwrap_or_default();
        call.labels(&["type"]);
        let mut function = call.object("function")?.ok_or_else(|| call.missing("function"))?;
        let name = function.needed_text("name")?;
        function.labels(&["index", "description"]);
        let arguments = function.take("arguments").unwrap_or_else(|| serde_json::json!({}));
        if !arguments.is_object() {
            return Err(invalid(function.path("arguments"), "must be an object"));
        }
        function.finish()?;
        call.finish()?;
        Ok(ToolCall { id, name, arguments: template::Value::from_serialize(&arguments) })
    };
    fields.list("tool_calls")?.unwrap_or_default().into_iter().enumerate().map(call).collect()
}

fn tools(fields: &mut Fields) -> Result<Tools, Fault> {
    let tool = |(i, item)| {
        let path = format!("tools[{i}]");
        let mut outer = Fields::of(item, &path)?;
        if outer.text("type")?.is_some_and(|kind| kind != "function") {
            return Err(unsupported(
                format!("{path}.type"),
                "must be \"function\": other tools are not served",
            ));
        }
        let mut function = outer.object("function")?.ok_or_else(|| outer.missing("function"))?;
        outer.finish()?;
        let tool = Tool::read(&mut function, "parameters")?;
        function.finish()?;
        Ok(tool)
    };
    let items = fields.list("tools")?.unwrap_or_default();
    let tools = items.into_iter().enumerate().map(tool).collect::<Result<Vec<_>, Fault>>()?;
    Tools::new(tools, Choice::Auto, true, "tools")
}
