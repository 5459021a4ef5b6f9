//! [`Answer`]: what a model says, as this protocol tells it.

use std::sync::Arc;
use std::time::Instant;

use control::Timestamp;
use http::StatusCode;
use llm::Usage;
use serde_json::{Value, json};
use serving::{Keep, Language};

use super::{error, time};
use crate::http::{Response, json_reply};
use crate::language::{Answers, End, Generation, Piece, Said};
use crate::stream::{Frames, Framing, Teller};
use crate::{Fault, stream};

/// Which kind of request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A chat: what is said is a message.
    Chat,
    /// A text to complete: what is said is a response.
    Text,
}

/// Where the answer comes from.
pub(super) enum Source {
    /// A conversation.
    Chat(Box<Answers>),
    /// A text that is continued as it stands.
    Raw(Box<Generation>),
}

/// When what happened.
pub(super) struct Clock {
    /// The request was read.
    begun: Instant,
    /// The model was in memory.
    loaded: Instant,
    /// The first token came.
    first: Option<Instant>,
}

impl Clock {
    /// Begins; the model is still to be had.
    pub(super) fn start() -> Clock {
        let now = Instant::now();
        Clock { begun: now, loaded: now, first: None }
    }

    /// The model is in memory.
    pub(super) fn loaded(&mut self) {
        self.loaded = Instant::now();
    }
}

/// An answer on its way.
pub(super) struct Answer {
    pub(super) source: Source,
    pub(super) shape: Shape,
    /// The model's name as asked for.
    pub(super) model: String,
    pub(super) clock: Clock,
    pub(super) streams: bool,
    /// All of it, when it is not streamed.
    text: String,
    calls: Vec<Value>,
    ended: Option<End>,
}

impl Answer {
    /// What `source` says to a request for `model`.
    pub(super) fn new(source: Source, shape: Shape, model: String, clock: Clock, streams: bool) -> Answer {
        Answer { source, shape, model, clock, streams, text: String::new(), calls: Vec::new(), ended: None }
    }

    /// The reply: lines as the answer comes, or one object.
    pub(super) async fn reply(mut self) -> Result<Response, Fault> {
        if self.streams {
            return Ok(stream::reply(self, Framing::Lines));
        }
        while let Some(pieces) = self.next().await? {
            for piece in pieces {
                match piece {
                    Piece::Text(text) => self.text.push_str(&text),
                    Piece::Call { name, arguments } => self.calls.push(call(&name, &arguments)),
                }
            }
        }
        let (text, calls) = (std::mem::take(&mut self.text), std::mem::take(&mut self.calls));
        let last = self.last(&text, calls);
        json_reply(StatusCode::OK, &last)
    }

    /// Waits for what is said next; nothing once it has ended.
    async fn next(&mut self) -> Result<Option<Vec<Piece>>, Fault> {
        let mut pieces = Vec::new();
        let more = match &mut self.source {
            Source::Chat(answers) => match answers.next().await? {
                Some(told) => {
                    for (_, told) in told {
                        pieces.extend(told.pieces);
                        self.ended = told.ended.or(self.ended);
                    }
                    true
                }
                None => false,
            },
            Source::Raw(generation) => {
                let mut said = Vec::new();
                let more = generation.next(&mut said).await?;
                for said in said {
                    match said {
                        Said::Token { text, .. } => pieces.push(Piece::Text(text)),
                        Said::Ended { text, end, .. } => {
                            pieces.push(Piece::Text(text));
                            self.ended = Some(end);
                        }
                    }
                }
                more
            }
        };
        self.clock.first.get_or_insert_with(Instant::now);
        Ok(more.then_some(pieces))
    }

    fn usage(&self) -> &Usage {
        match &self.source {
            Source::Chat(answers) => &answers.generation.usage,
            Source::Raw(generation) => &generation.usage,
        }
    }

    /// What every object has.
    fn head(&self, text: &str, calls: Vec<Value>) -> Value {
        let mut head = said(self.shape, &self.model, text);
        if !calls.is_empty() {
            head["message"]["tool_calls"] = calls.into();
        }
        head["done"] = false.into();
        head
    }

    /// The last object, or the only one.
    fn last(&self, text: &str, calls: Vec<Value>) -> Value {
        let (clock, usage) = (&self.clock, self.usage());
        let first = clock.first.unwrap_or(clock.loaded);
        let mut last = self.head(text, calls);
        last["done"] = true.into();
        last["done_reason"] = match self.ended {
            Some(End::Length) => "length",
            Some(End::Stop | End::StopText(_) | End::Calls) | None => "stop",
        }
        .into();
        last["total_duration"] = nanoseconds(clock.begun, Instant::now());
        last["load_duration"] = nanoseconds(clock.begun, clock.loaded);
        last["prompt_eval_count"] = usage.prompt.into();
        last["prompt_eval_duration"] = nanoseconds(clock.loaded, first);
        last["eval_count"] = usage.completion.into();
        last["eval_duration"] = nanoseconds(first, Instant::now());
        last
    }
}

impl Teller for Answer {
    async fn tell(&mut self, frames: &mut Frames) -> Result<bool, Fault> {
        let Some(pieces) = self.next().await? else {
            frames.data(&self.last("", Vec::new()));
            return Ok(false);
        };
        for piece in pieces {
            match piece {
                Piece::Text(text) if text.is_empty() => {}
                Piece::Text(text) => frames.data(&self.head(&text, Vec::new())),
                Piece::Call { name, arguments } => frames.data(&self.head("", vec![call(&name, &arguments)])),
            }
        }
        Ok(true)
    }

    fn fail(&mut self, fault: &Fault, frames: &mut Frames) {
        frames.data(&error(fault));
    }
}

/// The reply to a request that says nothing: the model is loaded, or given up, and nothing else.
///
/// # Errors
/// If it cannot be loaded.
pub(super) fn only_kept(
    language: &Arc<Language>,
    keep: Keep,
    shape: Shape,
    model: &str,
) -> Result<Response, Fault> {
    let unload = keep == Keep::For(std::time::Duration::ZERO);
    if !unload {
        wake(language)?;
    }
    language.keep(keep);
    let mut reply = said(shape, model, "");
    reply["done"] = true.into();
    reply["done_reason"] = if unload { "unload" } else { "load" }.into();
    json_reply(StatusCode::OK, &reply)
}

/// Has the model in memory. Not for async threads.
///
/// # Errors
/// If it cannot be loaded.
pub(super) fn wake(language: &Arc<Language>) -> Result<(), Fault> {
    language.wake().map_err(|error| Fault::new(crate::Code::Unavailable, error.to_string()))
}

fn said(shape: Shape, model: &str, text: &str) -> Value {
    let mut said = json!({"model": model, "created_at": time(Timestamp::now())});
    match shape {
        Shape::Chat => said["message"] = json!({"role": "assistant", "content": text}),
        Shape::Text => said["response"] = text.into(),
    }
    said
}

/// A call of a tool. Arguments that are no object, which the model wrote, are told as they are.
fn call(name: &str, arguments: &str) -> Value {
    let arguments = serde_json::from_str(arguments).unwrap_or_else(|_| Value::from(arguments));
    json!({"function": {"name": name, "arguments": arguments}})
}

/// From the one to the other.
pub(super) fn nanoseconds(from: Instant, to: Instant) -> Value {
    u64::try_from(to.saturating_duration_since(from).as_nanos()).unwrap_or(u64::MAX).into()
}
