//! `POST /v1/chat/completions`

mod request;

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use self::request::Request;
use super::generation::{Generation, Said, find, prepared, project_of};
use super::sse::{Frames, Teller};
use super::tools::{Parser, Piece, Style, spelled};
use super::{error, ids, logprobs, sse};
use crate::Fault;
use crate::http::{App, Call, Response, json_reply};

pub(super) use request::include_usage;

/// Answers a chat.
pub(super) async fn answer(call: Call) -> Result<Response, Fault> {
    let project = project_of(&call)?;
    let Call { app, body, .. } = call;
    let bytes = body.read().await?;
    let chat = prepared(&app, move |app| Chat::start(app, &project, &bytes)).await?;
    if chat.streams { Ok(sse::reply(chat)) } else { chat.whole().await }
}

/// A chat completion on its way.
struct Chat {
    generation: Generation,
    id: String,
    created_s: u64,
    /// The model's name as asked for.
    model: String,
    answers: Vec<Answer>,
    streams: bool,
    /// Whether log-probabilities are wanted.
    ranked: bool,
    /// Whether a stream ends with what it cost.
    include_usage: bool,
    /// Whether an answer may have more than one call.
    parallel: bool,
    said: Vec<Said>,
}

/// One answer as it grows.
struct Answer {
    parser: Parser,
    /// Whether its role was told.
    begun: bool,
    calls: usize,
    /// Log-probabilities of tokens whose text is not told yet.
    ranks: Vec<Value>,
    /// Why it ended.
    reason: Option<&'static str>,
    /// All of it, when it is not streamed.
    content: String,
    made: Vec<Value>,
}

impl Chat {
    /// Reads a request and hands it to the model.
    fn start(app: &Arc<App>, project: &str, bytes: &[u8]) -> Result<Chat, Fault> {
        let request = Request::read(bytes)?;
        let route = find(app, project, &request.model)?;
        let language = Arc::clone(&route.language);
        let style = request.tools.style(&language)?;
        let (prompt, wanted) = request.wanted(app, &language, style)?;
        let generation = Generation::start(route, project, vec![prompt], &wanted, "messages")?;
        let names = request.tools.names();
        Ok(Chat {
            generation,
            id: ids::fresh("chatcmpl-"),
            created_s: ids::now_s(),
            model: request.model,
            answers: (0..request.n).map(|_| Answer::new(style, names.clone())).collect(),
            streams: request.stream,
            ranked: request.logprobs.is_some(),
            include_usage: request.include_usage,
            parallel: request.tools.parallel,
            said: Vec::new(),
        })
    }

    /// Takes what happens next. Gives, for each thing told, the answer and its pieces.
    async fn next(&mut self) -> Result<Option<Vec<(usize, Told)>>, Fault> {
        let mut said = std::mem::take(&mut self.said);
        let more = self.generation.next(&mut said).await?;
        let mut told = Vec::with_capacity(said.len());
        for said in said.drain(..) {
            let (place, pieces) = self.hear(said);
            told.push((place, pieces));
        }
        self.said = said;
        Ok((more || !told.is_empty()).then_some(told))
    }

    fn hear(&mut self, said: Said) -> (usize, Told) {
        let (place, mut pieces) = match &said {
            Said::Token { answer, .. } | Said::Ended { answer, .. } => (*answer, Vec::new()),
        };
        let Some(answer) = self.answers.get_mut(place) else { return (place, Told::default()) };
        let mut ended = None;
        match said {
            Said::Token { id, text, logprob, .. } => {
                let language = &self.generation.route.language;
                answer.ranks.extend(logprob.map(|place| logprobs::entry(&place, language)));
                answer.parser.push(&spelled(language, id, text), &mut pieces);
            }
            Said::Ended { text, reason, .. } => {
                answer.parser.push(&text, &mut pieces);
                answer.parser.finish(&mut pieces);
                ended = Some(reason);
            }
        }
        if !self.parallel {
            let alone = answer.keep_one_call(&mut pieces);
            if alone && self.answers.len() == 1 {
                self.generation.cancel();
            }
        }
        let answer = &mut self.answers[place];
        let first = answer.calls;
        answer.calls += pieces.iter().filter(|piece| matches!(piece, Piece::Call { .. })).count();
        // A call that was cut off is text, and ends as text does.
        let ended =
            ended.map(|reason| if answer.calls > 0 && reason == "stop" { "tool_calls" } else { reason });
        (place, Told { pieces, first_call: first, ended })
    }

    /// The reply, once every answer has ended.
    async fn whole(mut self) -> Result<Response, Fault> {
        while let Some(told) = self.next().await? {
            for (place, told) in told {
                if let Some(answer) = self.answers.get_mut(place) {
                    answer.collect(told);
                }
            }
        }
        let ranked = self.ranked;
        let choice = |(index, answer): (usize, Answer)| {
            let mut message = json!({"role": "assistant", "content": answer.content, "refusal": null});
            if !answer.made.is_empty() {
                if answer.content.is_empty() {
                    message["content"] = Value::Null;
                }
                message["tool_calls"] = answer.made.into();
            }
            let logprobs =
                if ranked { json!({"content": answer.ranks, "refusal": null}) } else { Value::Null };
            json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": answer.reason})
        };
        let mut reply = self.head("chat.completion");
        let answers = std::mem::take(&mut self.answers);
        reply["choices"] = answers.into_iter().enumerate().map(choice).collect();
        reply["usage"] = usage(&self.generation);
        json_reply(StatusCode::OK, &reply)
    }

    /// What every reply and every chunk has.
    fn head(&self, object: &str) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created_s,
            "model": self.model,
            "service_tier": "default",
            "system_fingerprint": self.generation.route.language.fingerprint(),
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
        let Some(answer) = self.answers.get_mut(place) else { return };
        let begins = !std::mem::replace(&mut answer.begun, true);
        let mut ranks = match (told.pieces.is_empty(), told.ended) {
            (true, None) => Vec::new(),
            _ => std::mem::take(&mut answer.ranks),
        };
        if begins {
            let delta = json!({"role": "assistant", "content": "", "refusal": null});
            frames.data(&self.chunk(place, delta, Vec::new(), None));
        }
        let mut index = told.first_call;
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
        if let Some(reason) = told.ended {
            frames.data(&self.chunk(place, json!({}), ranks, Some(reason)));
        }
    }
}

/// What is told of an answer at once.
#[derive(Default)]
struct Told {
    pieces: Vec<Piece>,
    /// The number of the first call among them.
    first_call: usize,
    /// Why it ended, if it did.
    ended: Option<&'static str>,
}

impl Answer {
    fn new(style: Option<Style>, names: Vec<String>) -> Answer {
        Answer {
            parser: Parser::new(style, names),
            begun: false,
            calls: 0,
            ranks: Vec::new(),
            reason: None,
            content: String::new(),
            made: Vec::new(),
        }
    }

    /// Lets nothing pass after the first call. Says whether there is one.
    fn keep_one_call(&self, pieces: &mut Vec<Piece>) -> bool {
        if self.calls > 0 {
            pieces.clear();
            return true;
        }
        let first = pieces.iter().position(|piece| matches!(piece, Piece::Call { .. }));
        if let Some(first) = first {
            pieces.truncate(first + 1);
        }
        first.is_some()
    }

    fn collect(&mut self, told: Told) {
        for piece in told.pieces {
            match piece {
                Piece::Text(text) => self.content.push_str(&text),
                Piece::Call { name, arguments } => self.made.push(tool_call(&name, &arguments)),
            }
        }
        self.reason = told.ended.or(self.reason);
    }
}

impl Teller for Chat {
    async fn tell(&mut self, frames: &mut Frames) -> Result<bool, Fault> {
        if let Some(told) = self.next().await? {
            for (place, told) in told {
                self.write(place, told, frames);
            }
            return Ok(true);
        }
        if self.include_usage {
            let mut last = self.head("chat.completion.chunk");
            last["usage"] = usage(&self.generation);
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
