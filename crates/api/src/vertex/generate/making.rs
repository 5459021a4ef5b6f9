//! [`Making`]: an answer on its way, whole or streamed, as `GenerateContentResponse`.

use control::Timestamp;
use http::StatusCode;
use llm::{RankedToken, TokenLogprob};
use serde_json::{Map, Value, json};
use serving::{Language, LanguageRoute};

use super::super::error;
use super::request::NAMES;
use crate::Fault;
use crate::http::{App, Response, json_reply};
use crate::ids;
use crate::language::{Answers, Conversation, End, Piece, Told, arguments, finite, token_text};
use crate::stream::{Frames, Teller};

/// An answer on its way.
pub(super) struct Making {
    answers: Answers,
    /// What every reply and every piece has.
    head: Map<String, Value>,
    candidates: Vec<Candidate>,
}

/// One of the answers.
#[derive(Default, Clone)]
struct Candidate {
    /// What of it is not written yet.
    parts: Vec<Value>,
    ranks: Vec<TokenLogprob>,
    /// How many tokens have a log-probability, and their sum.
    ranked: (u32, f64),
    ended: Option<End>,
}

impl Making {
    /// Hands `conversation` to the model. Not for async threads.
    pub(super) fn start(
        app: &App,
        route: LanguageRoute,
        project: &str,
        conversation: Conversation,
    ) -> Result<Making, Fault> {
        let deployed = &route.deployed;
        let head = Map::from_iter([
            ("modelVersion".to_owned(), format!("{}@{}", deployed.display_name, deployed.version).into()),
            ("createTime".to_owned(), Timestamp::now().to_string().into()),
            ("responseId".to_owned(), ids::fresh("").into()),
        ]);
        let candidates = vec![Candidate::default(); conversation.n];
        Ok(Making { answers: conversation.start(app, route, project, &NAMES)?, head, candidates })
    }

    /// Takes what is told of an answer.
    fn hear(&mut self, place: usize, told: Told) {
        let Some(candidate) = self.candidates.get_mut(place) else { return };
        for piece in told.pieces {
            candidate.add(piece);
        }
        for rank in &told.ranks {
            candidate.ranked.0 += 1;
            candidate.ranked.1 += f64::from(finite(rank.chosen.logprob));
        }
        candidate.ranks.extend(told.ranks);
        candidate.ended = told.ended.or(candidate.ended);
    }

    /// What is not written yet of the answer at `place`; `last` with how it ended.
    fn written(&mut self, place: usize, last: bool) -> Value {
        let language = &self.answers.generation.route.language;
        self.candidates
            .get_mut(place)
            .map_or(Value::Null, |candidate| candidate.written(place, last, language))
    }

    fn reply(&self, candidates: Vec<Value>) -> Value {
        let mut reply = self.head.clone();
        reply.insert("candidates".to_owned(), candidates.into());
        Value::Object(reply)
    }

    /// All that is left, and what it cost.
    fn end(&mut self) -> Value {
        let candidates = (0..self.candidates.len()).map(|place| self.written(place, true)).collect();
        let mut reply = self.reply(candidates);
        let usage = &self.answers.generation.usage;
        reply["usageMetadata"] = json!({
            "promptTokenCount": usage.prompt,
            "candidatesTokenCount": usage.completion,
            "totalTokenCount": usage.prompt + usage.completion,
            "cachedContentTokenCount": usage.cached,
        });
        reply
    }

    /// The reply, once every answer has ended.
    pub(super) async fn whole(mut self) -> Result<Response, Fault> {
        while let Some(told) = self.answers.next().await? {
            for (place, told) in told {
                self.hear(place, told);
            }
        }
        json_reply(StatusCode::OK, &self.end())
    }
}

impl Teller for Making {
    async fn tell(&mut self, frames: &mut Frames) -> Result<bool, Fault> {
        let Some(told) = self.answers.next().await? else {
            // How answers ended and what they cost come together: clients look for both in the last piece.
            frames.data(&self.end());
            return Ok(false);
        };
        for (place, told) in told {
            let says = !told.pieces.is_empty();
            self.hear(place, told);
            if says {
                let candidate = self.written(place, false);
                frames.data(&self.reply(vec![candidate]));
            }
        }
        Ok(true)
    }

    fn fail(&mut self, fault: &Fault, frames: &mut Frames) {
        frames.data(&error(fault));
    }
}

impl Candidate {
    fn add(&mut self, piece: Piece) {
        match piece {
            Piece::Text(more) => match self.parts.last_mut().and_then(|part| part.get_mut("text")) {
                Some(Value::String(text)) => text.push_str(&more),
                _ => self.parts.push(json!({"text": more})),
            },
            Piece::Call { name, arguments: text } => {
                self.parts.push(json!({"functionCall": {"name": name, "args": arguments(&text)}}));
            }
        }
    }

    fn written(&mut self, index: usize, last: bool, language: &Language) -> Value {
        let mut parts = std::mem::take(&mut self.parts);
        if parts.is_empty() {
            parts.push(json!({"text": ""}));
        }
        let mut candidate = json!({"index": index, "content": {"role": "model", "parts": parts}});
        if !self.ranks.is_empty() {
            candidate["logprobsResult"] = ranked(&std::mem::take(&mut self.ranks), language);
        }
        if last {
            candidate["finishReason"] = match self.ended {
                Some(End::Length) => "MAX_TOKENS".into(),
                _ => "STOP".into(),
            };
            let (tokens, sum) = self.ranked;
            if tokens > 0 {
                candidate["avgLogprobs"] = (sum / f64::from(tokens)).into();
            }
        }
        candidate
    }
}

/// `LogprobsResult`.
fn ranked(ranks: &[TokenLogprob], language: &Language) -> Value {
    let ranked = |token: &RankedToken| {
        json!({
            "token": token_text(token, language),
            "tokenId": token.id,
            "logProbability": finite(token.logprob),
        })
    };
    let top = |place: &TokenLogprob| json!({"candidates": place.top.iter().map(ranked).collect::<Vec<_>>()});
    json!({
        "chosenCandidates": ranks.iter().map(|place| ranked(&place.chosen)).collect::<Vec<_>>(),
        "topCandidates": ranks.iter().map(top).collect::<Vec<_>>(),
    })
}
