//! `POST /v1/messages` and `POST /v1/messages/count_tokens`

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use serving::LanguageRoute;
use tokio::time::timeout;

use super::blocks::Blocks;
use super::error;
use super::request::{NAMES, Request};
use crate::http::{App, Call, Response, json_reply};
use crate::language::{Answers, End, Passed, Told, find, prepared, project_of};
use crate::stream::{Frames, Framing, Teller};
use crate::tenant::Tenant;
use crate::{Fault, ids, stream};

/// How long a stream is silent before it says that it is alive.
const PING_AFTER: Duration = Duration::from_secs(10);

/// Answers with a message.
pub(super) async fn answer(call: Call) -> Result<Response, Fault> {
    let project = project_of(&call, None)?;
    let Call { app, body, .. } = call;
    let bytes = body.read().await?;
    let making = prepared(&app, move |app| Making::start(app, &project, &bytes)).await?;
    making.reply().await
}

/// Answers with a message to what came by another protocol's address.
pub(super) async fn answer_passed(passed: Passed) -> Result<Response, Fault> {
    let Passed { app, route, project, body, streams } = passed;
    let making = prepared(&app, move |app| {
        let name = route.deployed.display_name.clone();
        Making::begin(app, &project, Request::read_passed(&body, name, streams)?, route)
    });
    making.await?.reply().await
}

/// Counts the tokens of what would be read.
pub(super) async fn count(call: Call) -> Result<Response, Fault> {
    let project = project_of(&call, None)?;
    let Call { app, body, .. } = call;
    let bytes = body.read().await?;
    let tokens = prepared(&app, move |app| {
        let request = Request::read_to_count(&bytes)?;
        let route = find(app, &project, &request.model)?;
        Ok(request.conversation.prompt(&route.language, &NAMES)?.len())
    });
    json_reply(StatusCode::OK, &json!({"input_tokens": tokens.await?}))
}

/// A message on its way.
struct Making {
    answers: Answers,
    id: String,
    /// The model's name as asked for.
    model: String,
    /// Texts before which the answer ends.
    stops: Vec<String>,
    blocks: Blocks,
    streams: bool,
    begun: bool,
    ended: Option<End>,
}

impl Making {
    fn start(app: &Arc<App>, project: &Tenant, bytes: &[u8]) -> Result<Making, Fault> {
        let request = Request::read(bytes)?;
        let route = find(app, project, &request.model)?;
        Making::begin(app, project, request, route)
    }

    fn begin(app: &App, project: &str, request: Request, route: LanguageRoute) -> Result<Making, Fault> {
        let stops = request.conversation.stop.clone();
        Ok(Making {
            answers: request.conversation.start(app, route, project, &NAMES)?,
            id: ids::fresh("msg_"),
            model: request.model,
            stops,
            blocks: Blocks::default(),
            streams: request.stream,
            begun: false,
            ended: None,
        })
    }

    /// Takes what happens next and writes what it means; `false` once the answer has ended.
    async fn next(&mut self, frames: &mut Frames) -> Result<bool, Fault> {
        let Some(told) = self.answers.next().await? else { return Ok(false) };
        for (_, Told { pieces, ended, .. }) in told {
            for piece in pieces {
                self.blocks.add(piece, frames);
            }
            self.ended = ended.or(self.ended);
        }
        Ok(true)
    }

    /// The message without its content.
    fn message(&self) -> Value {
        let (reason, stop) = self.ended.map(|end| self.reason(end)).unzip();
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": reason,
            "stop_sequence": stop.flatten(),
            "usage": self.usage(),
        })
    }

    fn reason(&self, end: End) -> (&'static str, Option<&str>) {
        match end {
            End::Stop => ("end_turn", None),
            End::StopText(index) => ("stop_sequence", self.stops.get(index).map(String::as_str)),
            End::Length => ("max_tokens", None),
            End::Calls => ("tool_use", None),
        }
    }

    /// What it cost so far. What was found computed does not count as input: that is the protocol's way.
    fn usage(&self) -> Value {
        let generation = &self.answers.generation;
        let usage = &generation.usage;
        json!({
            "input_tokens": generation.prompt_tokens - usage.cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": usage.cached,
            "output_tokens": usage.completion,
            "service_tier": "standard",
        })
    }

    async fn reply(self) -> Result<Response, Fault> {
        if self.streams { Ok(stream::reply(self, Framing::Events)) } else { self.whole().await }
    }

    async fn whole(mut self) -> Result<Response, Fault> {
        let mut unheard = Frames::new(Framing::Events);
        while self.next(&mut unheard).await? {
            unheard.clear();
        }
        self.blocks.close(&mut unheard);
        let mut message = self.message();
        message["content"] = self.blocks.into_content();
        json_reply(StatusCode::OK, &message)
    }
}

impl Teller for Making {
    async fn tell(&mut self, frames: &mut Frames) -> Result<bool, Fault> {
        if !std::mem::replace(&mut self.begun, true) {
            let start = json!({"type": "message_start", "message": self.message()});
            frames.event("message_start", &start);
            ping(frames);
            return Ok(true);
        }
        let Ok(more) = timeout(PING_AFTER, self.next(frames)).await else {
            ping(frames);
            return Ok(true);
        };
        if more? {
            return Ok(true);
        }
        self.blocks.close(frames);
        let (reason, stop) = self.ended.map(|end| self.reason(end)).unzip();
        let delta = json!({"stop_reason": reason, "stop_sequence": stop.flatten()});
        frames
            .event("message_delta", &json!({"type": "message_delta", "delta": delta, "usage": self.usage()}));
        frames.event("message_stop", &json!({"type": "message_stop"}));
        Ok(false)
    }

    fn fail(&mut self, fault: &Fault, frames: &mut Frames) {
        frames.event("error", &error(fault));
    }
}

fn ping(frames: &mut Frames) {
    frames.event("ping", &json!({"type": "ping"}));
}
