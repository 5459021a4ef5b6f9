//! `POST /v1/chat/completions`

mod request;

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};
use serving::LanguageRoute;

use self::request::Request;
use super::{PROJECT_HEADER, error, logprobs};
use crate::http::{App, Call, Response, json_reply};
use crate::language::{
    Answers, End, Explaining, Generation, Passed, Piece, Told, find, prepared, project_of,
};
use crate::stream::{Frames, Framing, Teller};
use crate::tenant::Tenant;
use crate::{Fault, ids, stream};

pub(super) use request::{described, include_usage};

/// Answers a chat.
pub(super) async fn answer(call: Call) -> Result<Response, Fault> {
    let project = project_of(&call, Some(PROJECT_HEADER))?;
    let Call { app, body, .. } = call;
    let bytes = body.read().await?;
    let chat = prepared(&app, move |app| Chat::start(app, &project, &bytes)).await?;
    chat.reply().await
}

/// Answers a chat that came by another protocol's address.
pub(super) async fn answer_passed(passed: Passed) -> Result<Response, Fault> {
    let Passed { app, route, project, body, streams } = passed;
    let chat = prepared(&app, move |app| {
        let name = route.deployed.display_name.clone();
        Chat::begin(app, &project, Request::read(&body, Some((name, streams)))?, route)
    });
    chat.await?.reply().await
}

/// A chat completion on its way.
struct Chat {
    answers: Answers,
    id: String,
    created_s: u64,
    /// The model's name as asked for.
    model: String,
    /// What was told of each answer.
    choices: Vec<Choice>,
    streams: bool,
    /// Whether log-probabilities are wanted.
    ranked: bool,
    /// Whether a stream ends with what it cost.
    include_usage: bool,
    /// Where asked for, and not yet told.
    explaining: Option<Explaining>,
}

/// What was told of one answer.
#[derive(Default, Clone)]
struct Choice {
    /// Whether its role was told.
    begun: bool,
    /// Why it ended.
    reason: Option<&'static str>,
    /// All of it, where it is not streamed or is to be explained.
    content: String,
    calls: Vec<Value>,
    ranks: Vec<Value>,
}

impl Chat {
    /// Reads a request and hands it to the model.
    fn start(app: &Arc<App>, project: &Tenant, bytes: &[u8]) -> Result<Chat, Fault> {
        let request = Request::read(bytes, None)?;
        let route = find(app, project, &request.model)?;
        Chat::begin(app, project, request, route)
    }

    fn begin(app: &Arc<App>, project: &str, request: Request, route: LanguageRoute) -> Result<Chat, Fault> {
        let (n, ranked) = (request.conversation.n, request.conversation.logprobs.is_some());
        let said = &request.conversation.turns;
        let explaining = request.explain.map(|how| Explaining::new(app, project, said, how));
        Ok(Chat {
            answers: request.conversation.start(app, route, project, &request.names)?,
            id: ids::fresh("chatcmpl-"),
            created_s: ids::now_s(),
            model: request.model,
            choices: vec![Choice::default(); n],
            streams: request.stream,
            ranked,
            include_usage: request.include_usage,
            explaining,
        })
    }

    async fn reply(self) -> Result<Response, Fault> {
        if self.streams { Ok(stream::reply(self, Framing::Events)) } else { self.whole().await }
    }

    /// The reply, once every answer has ended.
    async fn whole(mut self) -> Result<Response, Fault> {
        while let Some(told) = self.answers.next().await? {
            for (place, told) in told {
                let ranks = self.ranks(&told);
                if let Some(choice) = self.choices.get_mut(place) {
                    choice.collect(told, ranks);
                }
            }
        }
        let explanation = self.explanation().await?;
        let ranked = self.ranked;
        let choice = |(index, choice): (usize, Choice)| {
            let mut message = json!({"role": "assistant", "content": choice.content, "refusal": null});
            if !choice.calls.is_empty() {
                if choice.content.is_empty() {
                    message["content"] = Value::Null;
                }
                message["tool_calls"] = choice.calls.into();
            }
            let logprobs =
                if ranked { json!({"content": choice.ranks, "refusal": null}) } else { Value::Null };
            json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": choice.reason})
        };
        let mut reply = self.head("chat.completion");
        let choices = std::mem::take(&mut self.choices);
        reply["choices"] = choices.into_iter().enumerate().map(choice).collect();
        reply["usage"] = usage(&self.answers.generation);
        if let Some(explanation) = explanation {
            reply["explanation"] = explanation;
        }
        json_reply(StatusCode::OK, &reply)
    }

    /// Why the answer was given, where that is asked for and was not told.
    async fn explanation(&mut self) -> Result<Option<Value>, Fault> {
        let Some(explaining) = self.explaining.take() else { return Ok(None) };
        let answer = self.choices.first().map_or("", |choice| choice.content.as_str());
        explaining.of(&self.answers.generation.route, answer).await.map(Some)
    }

    fn ranks(&self, told: &Told) -> Vec<Value> {
        let language = &self.answers.generation.route.language;
        told.ranks.iter().map(|place| logprobs::entry(place, language)).collect()
    }

    /// What every reply and every chunk has.
    fn head(&self, object: &str) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created_s,
            "model": self.model,
            "service_tier": "default",
            "system_fingerprint": self.answers.generation.route.language.fingerprint(),
            "choices": [],
        })
    }

    /// A chunk that adds `delta` to an answer.
    fn chunk(&self, place: usize, delta: Value, ranks: Vec<Value>, ended: Option<&str>) -> Value {
        let logprobs =
            if ranks.is_empty() { Value::Null } else { json!({"content": ranks, "refusal": null}) };
        let mut chunk = self.head("chat.completion.chunk");
        chunk["choices"] =
            json!([{"index": place, "delta": delta, "logprobs": logprobs, "finish_reason": ended}]);
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    /// Writes what is told of an answer.
    fn write(&mut self, place: usize, told: Told, frames: &mut Frames) {
        let mut ranks = self.ranks(&told);
        let explained = self.explaining.is_some();
        let Some(choice) = self.choices.get_mut(place) else { return };
        for piece in &told.pieces {
            if let (true, Piece::Text(text)) = (explained, piece) {
                choice.content.push_str(text);
            }
        }
        if !std::mem::replace(&mut choice.begun, true) {
            let delta = json!({"role": "assistant", "content": "", "refusal": null});
            frames.data(&self.chunk(place, delta, Vec::new(), None));
        }
        let mut index = told.calls_before;
        for piece in told.pieces {
            let delta = match piece {
                Piece::Text(text) => json!({"content": text}),
                Piece::Call { name, arguments } => {
                    let mut call = tool_call(&name, &arguments);
                    call["index"] = index.into();
                    index += 1;
                    json!({"tool_calls": [call]})
                }
            };
            frames.data(&self.chunk(place, delta, std::mem::take(&mut ranks), None));
        }
        if let Some(end) = told.ended {
            frames.data(&self.chunk(place, json!({}), ranks, Some(reason(end))));
        }
    }
}

impl Choice {
    fn collect(&mut self, told: Told, ranks: Vec<Value>) {
        for piece in told.pieces {
            match piece {
                Piece::Text(text) => self.content.push_str(&text),
                Piece::Call { name, arguments } => self.calls.push(tool_call(&name, &arguments)),
            }
        }
        self.ranks.extend(ranks);
        self.reason = told.ended.map(reason).or(self.reason);
    }
}

impl Teller for Chat {
    async fn tell(&mut self, frames: &mut Frames) -> Result<bool, Fault> {
        if let Some(told) = self.answers.next().await? {
            for (place, told) in told {
                self.write(place, told, frames);
            }
            return Ok(true);
        }
        if let Some(explanation) = self.explanation().await? {
            let mut chunk = self.head("chat.completion.chunk");
            chunk["explanation"] = explanation;
            frames.data(&chunk);
        }
        if self.include_usage {
            let mut last = self.head("chat.completion.chunk");
            last["usage"] = usage(&self.answers.generation);
            frames.data(&last);
        }
        frames.done();
        Ok(false)
    }

    fn fail(&mut self, fault: &Fault, frames: &mut Frames) {
        frames.data(&json!({"error": error(fault)}));
    }
}

fn tool_call(name: &str, arguments: &str) -> Value {
    json!({"id": ids::fresh("call_"), "type": "function", "function": {"name": name, "arguments": arguments}})
}

/// The protocol's word for why an answer ended.
pub(super) fn reason(end: End) -> &'static str {
    match end {
        End::Stop | End::StopText(_) => "stop",
        End::Length => "length",
        End::Calls => "tool_calls",
    }
}

/// What it cost.
pub(super) fn usage(generation: &Generation) -> Value {
    let usage = &generation.usage;
    json!({
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    })
}
