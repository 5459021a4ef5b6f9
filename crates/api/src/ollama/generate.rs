//! `POST /api/generate`

use std::sync::Arc;

use llm::GenerateRequest;
use llm::template::Message;
use serde_json::Value;

use super::answer::{Answer, Clock, Shape, Source, only_kept, wake};
use super::chat::Started;
use super::request::{Common, names, no_images};
use crate::Fault;
use crate::fields::{Fields, unsupported};
use crate::http::{App, Call, Response};
use crate::language::{
    Choice, Conversation, Format, Generation, Tools, deadline, prepared, project_of, refused_text, room,
};
use crate::metering::Charge;
use crate::tenant::Tenant;

/// Completes a text.
pub(super) async fn answer(call: Call) -> Result<Response, Fault> {
    let project = project_of(&call, None)?;
    let Call { app, body, .. } = call;
    let bytes = body.read().await?;
    match prepared(&app, move |app| start(app, &project, &bytes)).await? {
        Started::Answer(answer) => answer.reply().await,
        Started::Done(reply) => Ok(reply),
    }
}

fn start(app: &Arc<App>, project: &Tenant, bytes: &[u8]) -> Result<Started, Fault> {
    let mut clock = Clock::start();
    let mut fields = Fields::of_body(bytes)?;
    let common = Common::read(&mut fields)?;
    let prompt = fields.text("prompt")?.unwrap_or_default();
    let system = fields.text("system")?.filter(|system| !system.is_empty());
    let raw = fields.flag("raw")?.unwrap_or(false);
    unserved(&mut fields)?;
    fields.finish()?;
    if raw && system.is_some() {
        return Err(unsupported("system", "cannot be given with `raw`: such a prompt is taken as it stands"));
    }
    if raw && common.format != Format::Text {
        return Err(unsupported("format", "cannot be given with `raw`"));
    }
    let route = super::model(app, project, &common.model)?;
    let language = Arc::clone(&route.language);
    if prompt.is_empty() {
        return only_kept(&language, common.keep, Shape::Text, &common.model).map(Started::Done);
    }
    common.check_context(language.context())?;
    wake(&language)?;
    clock.loaded();
    let names = names("prompt");
    let source = if raw {
        let tokens = language.text_prompt(&prompt).map_err(|error| refused_text(&error, names.prompt))?;
        let fields = (names.prompt, names.max_tokens);
        let max_tokens = room(language.context(), tokens.len(), common.max_tokens, fields)?;
        let charge = Charge::of(app, common.max_tokens.is_some());
        let wanted = GenerateRequest {
            sampling: common.sampling,
            stop: common.stop,
            deadline: deadline(app),
            ..GenerateRequest::new(Vec::new(), max_tokens)
        };
        let generation = Generation::start(route, project, vec![tokens], &wanted, &names, charge)?;
        Source::Raw(Box::new(generation))
    } else {
        let turn =
            |role: &str, text| Message { role: role.to_owned(), content: Some(text), ..Message::default() };
        let turns = system.map(|text| turn("system", text)).into_iter().chain([turn("user", prompt)]);
        let conversation = Conversation {
            turns: turns.collect(),
            tools: Tools::new(Vec::new(), Choice::None, false, "tools")?,
            n: 1,
            max_tokens: common.max_tokens,
            sampling: common.sampling,
            stop: common.stop,
            logprobs: None,
            format: common.format,
        };
        Source::Chat(Box::new(conversation.start(app, route, project, &names)?))
    };
    language.keep(common.keep);
    let answer = Answer::new(source, Shape::Text, common.model, clock, common.stream);
    Ok(Started::Answer(Box::new(answer)))
}

/// Fields that are known to the protocol and not served, as long as they ask for something.
fn unserved(fields: &mut Fields) -> Result<(), Fault> {
    let empty = |value: &Value| {
        value.as_str().is_some_and(str::is_empty) || value.as_array().is_some_and(Vec::is_empty)
    };
    fields.only("suffix", empty, "is not served: leave it out")?;
    fields.only("template", empty, "is not served: the model's own template is used")?;
    fields.only("context", empty, "is not served: send the conversation to /api/chat")?;
    no_images(fields)
}
