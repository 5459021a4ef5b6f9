//! `POST /v1/responses`

mod items;
mod request;

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use self::items::Items;
use self::request::Request;
use super::generation::{Generation, Said, find, prepared, project_of};
use super::sse::{Frames, Teller};
use super::tools::{Parser, spelled};
use super::{error, ids, logprobs, sse};
use crate::Fault;
use crate::http::{App, Call, Response, json_reply};

/// Answers with a response. Nothing of it is stored, whatever the protocol's own default is; the reply says so.
pub(super) async fn answer(call: Call) -> Result<Response, Fault> {
    let project = project_of(&call)?;
    let Call { app, body, .. } = call;
    let bytes = body.read().await?;
    let making = prepared(&app, move |app| Making::start(app, &project, &bytes)).await?;
    if making.streams { Ok(sse::reply(making)) } else { making.whole().await }
}

/// A response on its way.
struct Making {
    generation: Generation,
    /// The reply as it is so far, but for its output.
    reply: Value,
    parser: Parser,
    items: Items,
    parallel: bool,
    streams: bool,
    begun: bool,
    /// Why the answer ended.
    reason: Option<&'static str>,
    said: Vec<Said>,
}

impl Making {
    fn start(app: &Arc<App>, project: &str, bytes: &[u8]) -> Result<Making, Fault> {
        let request = Request::read(bytes)?;
        let route = find(app, project, &request.model)?;
        let language = Arc::clone(&route.language);
        let style = request.tools.style(&language)?;
        let (prompt, wanted) = request.wanted(app, &language, style)?;
        let generation = Generation::start(route, project, vec![prompt], &wanted, "input")?;
        Ok(Making {
            generation,
            parser: Parser::new(style, request.tools.names()),
            items: Items::new(request.logprobs.is_some()),
            parallel: request.tools.parallel,
            streams: request.stream,
            reply: reply(&request.echo),
            begun: false,
            reason: None,
            said: Vec::new(),
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
        let mut said = std::mem::take(&mut self.said);
        let more = self.generation.next(&mut said).await?;
        for said in said.drain(..) {
            self.hear(said, frames);
        }
        self.said = said;
        Ok(more)
    }

    fn hear(&mut self, said: Said, frames: &mut Frames) {
        let mut pieces = Vec::new();
        match said {
            Said::Token { id, text, logprob, .. } => {
                let language = &self.generation.route.language;
                self.items.rank(logprob.map(|place| logprobs::entry(&place, language)));
                self.parser.push(&spelled(language, id, text), &mut pieces);
            }
            Said::Ended { text, reason, .. } => {
                self.parser.push(&text, &mut pieces);
                self.parser.finish(&mut pieces);
                self.reason = Some(reason);
            }
        }
        for piece in pieces {
            if !self.parallel && self.items.has_call() {
                self.generation.cancel();
                break;
            }
            self.items.add(piece, frames);
        }
    }

    /// Completes the reply.
    fn end(&mut self, frames: &mut Frames) -> &'static str {
        let whole = self.reason != Some("length");
        let status = if whole { "completed" } else { "incomplete" };
        self.items.close(status, frames);
        self.reply["status"] = status.into();
        if whole {
            self.reply["completed_at"] = ids::now_s().into();
        } else {
            self.reply["incomplete_details"] = json!({"reason": "max_output_tokens"});
        }
        self.reply["output"] = self.items.output().into();
        let usage = &self.generation.usage;
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
        let mut unheard = Frames::default();
        while self.next(&mut unheard).await? {
            unheard = Frames::default();
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
