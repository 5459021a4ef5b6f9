//! `POST /v1/responses`

mod items;
mod request;

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use self::items::Items;
use self::request::{NAMES, Request};
use super::{PROJECT_HEADER, error, logprobs};
use crate::http::{App, Call, Response, json_reply};
use crate::language::{Answers, End, Told, find, prepared, project_of};
use crate::stream::{Frames, Framing, Teller};
use crate::tenant::Tenant;
use crate::{Fault, ids, stream};

pub(super) use request::described;

/// Answers with a response. Nothing of it is stored, whatever the protocol's own default is; the reply says so.
pub(super) async fn answer(call: Call) -> Result<Response, Fault> {
    let project = project_of(&call, Some(PROJECT_HEADER))?;
    let Call { app, body, .. } = call;
    let bytes = body.read().await?;
    let making = prepared(&app, move |app| Making::start(app, &project, &bytes)).await?;
    if making.streams { Ok(stream::reply(making, Framing::Events)) } else { making.whole().await }
}

/// A response on its way.
struct Making {
    answers: Answers,
    /// The reply as it is so far, but for its output.
    reply: Value,
    items: Items,
    streams: bool,
    begun: bool,
    /// Why the answer ended.
    ended: Option<End>,
}

impl Making {
    fn start(app: &Arc<App>, project: &Tenant, bytes: &[u8]) -> Result<Making, Fault> {
        let request = Request::read(bytes)?;
        let route = find(app, project, &request.model)?;
        Ok(Making {
            items: Items::new(request.conversation.logprobs.is_some()),
            answers: request.conversation.start(app, route, project, &NAMES)?,
            streams: request.stream,
            reply: reply(&request.echo),
            begun: false,
            ended: None,
        })
    }

    /// Takes what happens next and writes what it means; `false` once the answer has ended.
    async fn next(&mut self, frames: &mut Frames) -> Result<bool, Fault> {
        if !std::mem::replace(&mut self.begun, true) {
            for name in ["response.created", "response.in_progress"] {
                self.items.tell(frames, name, json!({"response": self.reply}));
            }
            return Ok(true);
        }
        let Some(told) = self.answers.next().await? else { return Ok(false) };
        for (_, told) in told {
            self.hear(told, frames);
        }
        Ok(true)
    }

    fn hear(&mut self, told: Told, frames: &mut Frames) {
        let language = &self.answers.generation.route.language;
        self.items.rank(told.ranks.iter().map(|place| logprobs::entry(place, language)));
        for piece in told.pieces {
            self.items.add(piece, frames);
        }
        self.ended = told.ended.or(self.ended);
    }

    /// Completes the reply.
    fn end(&mut self, frames: &mut Frames) -> &'static str {
        let whole = self.ended != Some(End::Length);
        let status = if whole { "completed" } else { "incomplete" };
        self.items.close(status, frames);
        self.reply["status"] = status.into();
        if whole {
            self.reply["completed_at"] = ids::now_s().into();
        } else {
            self.reply["incomplete_details"] = json!({"reason": "max_output_tokens"});
        }
        self.reply["output"] = self.items.output().into();
        let usage = &self.answers.generation.usage;
        self.reply["usage"] = json!({
            "input_tokens": usage.prompt,
            "input_tokens_details": {"cached_tokens": usage.cached},
            "output_tokens": usage.completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.prompt + usage.completion,
        });
        status
    }

    async fn whole(mut self) -> Result<Response, Fault> {
        let mut unheard = Frames::new(Framing::Events);
        while self.next(&mut unheard).await? {
            unheard.clear();
        }
        self.end(&mut unheard);
        json_reply(StatusCode::OK, &self.reply)
    }
}

impl Teller for Making {
    async fn tell(&mut self, frames: &mut Frames) -> Result<bool, Fault> {
        if self.next(frames).await? {
            return Ok(true);
        }
        let name = format!("response.{}", self.end(frames));
        self.items.tell(frames, &name, json!({"response": self.reply}));
        Ok(false)
    }

    fn fail(&mut self, fault: &Fault, frames: &mut Frames) {
        let error = error(fault);
        let code = error["code"].as_str().unwrap_or("server_error");
        self.reply["status"] = "failed".into();
        self.reply["error"] = json!({"code": code, "message": error["message"]});
        self.reply["output"] = self.items.output().into();
        self.items.tell(frames, "response.failed", json!({"response": self.reply}));
    }
}

/// A reply that says how it was asked for, and nothing else yet.
fn reply(echo: &Value) -> Value {
    let mut reply = json!({
        "id": ids::fresh("resp_"),
        "object": "response",
        "created_at": ids::now_s(),
        "status": "in_progress",
        "background": false,
        "error": null,
        "incomplete_details": null,
        "output": [],
        "previous_response_id": null,
        "reasoning": {"effort": null, "summary": null},
        "service_tier": "default",
        "store": false,
        "truncation": "disabled",
        "usage": null,
    });
    if let (Some(reply), Some(echo)) = (reply.as_object_mut(), echo.as_object()) {
        reply.extend(echo.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    reply
}
