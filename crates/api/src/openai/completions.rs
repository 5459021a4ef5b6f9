//! `POST /v1/completions`: texts that are continued as they stand.

use std::sync::Arc;

use http::StatusCode;
use llm::{GenerateRequest, SamplingParams, TokenLogprob};
use serde_json::{Map, Value, json};
use serving::Language;

use super::chat::{include_usage, reason, usage};
use super::{PROJECT_HEADER, error, sampling};
use crate::fields::{Fields, asked, invalid, unsupported};
use crate::http::{App, Call, Response, Route, json_reply};
use crate::language::{
    Generation, Names, Said, deadline, find, finite, prepared, project_of, refused_text, room, stops,
    token_text,
};
use crate::metering::Charge;
use crate::stream::{Frames, Framing, Teller};
use crate::tenant::Tenant;
use crate::{Fault, ids, stream};

/// Prompts in one request at most.
const PROMPTS_MAX: usize = 64;
/// Answers to one prompt at most.
const N_MAX: i64 = 64;
/// Tokens in an answer where the request does not say: the protocol's own number.
const MAX_TOKENS: usize = 16;
/// What this protocol calls the fields that faults are about.
const NAMES: Names = Names { prompt: "prompt", max_tokens: "max_tokens", format: "response_format" };

/// Continues texts.
pub(super) async fn answer(call: Call) -> Result<Response, Fault> {
    let project = project_of(&call, Some(PROJECT_HEADER))?;
    let Call { app, body, .. } = call;
    let bytes = body.read().await?;
    let completion = prepared(&app, move |app| Completion::start(app, &project, &bytes)).await?;
    if completion.streams { Ok(stream::reply(completion, Framing::Events)) } else { completion.whole().await }
}

/// `route`, known for the fields that a request has.
pub(super) fn described(route: Route) -> Route {
    let examples = [
        json!({"model": "m", "prompt": "Once"}),
        json!({"model": "m", "prompt": "Once", "stream": true, "stream_options": {}}),
    ];
    route.takes_body(asked(|bytes| Request::read(bytes).map(drop), &examples))
}

/// What is to be continued.
enum Prompt {
    /// A text; what looks like a control token in it is text.
    Text(String),
    /// Tokens, control tokens among them where the client wants them.
    Tokens(Vec<u32>),
}

/// A completion as it is asked for.
struct Request {
    model: String,
    prompts: Vec<Prompt>,
    max_tokens: Option<usize>,
    n: usize,
    echo: bool,
    sampling: SamplingParams,
    stop: Vec<String>,
    logprobs: Option<u8>,
    stream: bool,
    include_usage: bool,
}

/// A completion on its way.
struct Completion {
    generation: Generation,
    id: String,
    created_s: u64,
    model: String,
    /// The texts as far as they are not told yet.
    answers: Vec<Answer>,
    streams: bool,
    ranked: bool,
    include_usage: bool,
    said: Vec<Said>,
}

#[derive(Default, Clone)]
struct Answer {
    text: String,
    ranks: Vec<TokenLogprob>,
    /// Characters before `ranks`, the prompt's among them when it is echoed.
    offset: usize,
    reason: Option<&'static str>,
}

impl Request {
    fn read(bytes: &[u8]) -> Result<Request, Fault> {
        let mut fields = Fields::of_body(bytes)?;
        let stream = fields.flag("stream")?.unwrap_or(false);
        let request = Request {
            model: fields.needed_text("model")?,
            prompts: prompts(&mut fields)?,
            max_tokens: fields.count("max_tokens", 1..=i64::from(u32::MAX))?,
            n: fields.count("n", 1..=N_MAX)?.unwrap_or(1),
            echo: fields.flag("echo")?.unwrap_or(false),
            sampling: sampling::read(&mut fields)?,
            stop: stops(&mut fields, "stop")?,
            logprobs: fields.whole("logprobs", 0..=i64::from(llm::TOP_LOGPROBS_MAX))?.map(|top| top as u8),
            include_usage: include_usage(&mut fields, stream)?,
            stream,
        };
        if request.echo && request.logprobs.is_some() {
            return Err(unsupported(
                "echo",
                "cannot be given with `logprobs`: a prompt's own are not computed",
            ));
        }
        let n = request.n;
        let as_n = move |value: &Value| value.as_u64() == Some(n as u64);
        fields.only("best_of", as_n, "must be `n`: answers are not drawn to be thrown away")?;
        fields.only(
            "suffix",
            |value| *value == Value::String(String::new()),
            "is not served: leave it out",
        )?;
        fields.labels(&["user"]);
        fields.finish()?;
        Ok(request)
    }

    /// The prompts' tokens and, where they are echoed, their texts.
    fn tokens(&self, language: &Language) -> Result<(Vec<Vec<u32>>, Vec<String>), Fault> {
        let (mut prompts, mut texts) = (Vec::new(), Vec::new());
        for prompt in &self.prompts {
            let tokens = match prompt {
                Prompt::Text(text) => {
                    language.text_prompt(text).map_err(|error| refused_text(&error, NAMES.prompt))?
                }
                Prompt::Tokens(tokens) => tokens.clone(),
            };
            if self.echo {
                texts.push(match prompt {
                    Prompt::Text(text) => text.clone(),
                    Prompt::Tokens(tokens) => language.tokenizer().decode(tokens),
                });
            }
            prompts.push(tokens);
        }
        Ok((prompts, texts))
    }
}

/// A text, several, the tokens of one, or the tokens of several.
fn prompts(fields: &mut Fields) -> Result<Vec<Prompt>, Fault> {
    let wrong = || {
        invalid("prompt", "must be a string, a list of strings, a list of tokens, or a list of such lists")
    };
    let items = match fields.take("prompt") {
        None => return Err(fields.missing("prompt")),
        Some(Value::String(text)) => return Ok(vec![Prompt::Text(text)]),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(wrong()),
    };
    if items.first().is_some_and(Value::is_number) {
        return Ok(vec![Prompt::Tokens(tokens(&items).ok_or_else(wrong)?)]);
    }
    if items.is_empty() || items.len() > PROMPTS_MAX {
        return Err(invalid("prompt", format!("must have between 1 and {PROMPTS_MAX} prompts")));
    }
    let prompt = |item| match item {
        Value::String(text) => Some(Prompt::Text(text)),
        Value::Array(items) => tokens(&items).map(Prompt::Tokens),
        _ => None,
    };
    items.into_iter().map(prompt).collect::<Option<Vec<_>>>().ok_or_else(wrong)
}

fn tokens(items: &[Value]) -> Option<Vec<u32>> {
    items.iter().map(|item| item.as_u64().and_then(|token| u32::try_from(token).ok())).collect()
}

impl Completion {
    fn start(app: &Arc<App>, project: &Tenant, bytes: &[u8]) -> Result<Completion, Fault> {
        let request = Request::read(bytes)?;
        let route = find(app, project, &request.model)?;
        let language = Arc::clone(&route.language);
        let (prompts, texts) = request.tokens(&language)?;
        let longest = prompts.iter().map(Vec::len).max().unwrap_or_default();
        let names = (NAMES.prompt, NAMES.max_tokens);
        let max_tokens = match request.max_tokens {
            None => room(language.context(), longest, None, names)?.min(MAX_TOKENS),
            asked => room(language.context(), longest, asked, names)?,
        };
        let charge = Charge::of(app, request.max_tokens.is_some());
        let wanted = GenerateRequest {
            n: request.n,
            sampling: request.sampling,
            stop: request.stop,
            logprobs: request.logprobs,
            deadline: deadline(app),
            priority: app.priority,
            ..GenerateRequest::new(Vec::new(), max_tokens)
        };
        let mut answers = vec![Answer::default(); prompts.len() * request.n];
        for (place, answer) in answers.iter_mut().enumerate() {
            answer.text = texts.get(place / request.n).cloned().unwrap_or_default();
        }
        Ok(Completion {
            generation: Generation::start(route, project, prompts, &wanted, &NAMES, charge)?,
            id: ids::fresh("cmpl-"),
            created_s: ids::now_s(),
            model: request.model,
            answers,
            streams: request.stream,
            ranked: request.logprobs.is_some(),
            include_usage: request.include_usage,
            said: Vec::new(),
        })
    }

    /// Takes what happens next. Gives the answers that it happened to; nothing once all have ended.
    async fn next(&mut self) -> Result<Option<Vec<usize>>, Fault> {
        let mut said = std::mem::take(&mut self.said);
        let more = self.generation.next(&mut said).await?;
        let mut touched = Vec::new();
        for said in said.drain(..) {
            let (place, more, ended) = match said {
                Said::Token { answer, text, logprob, .. } => {
                    let Some(state) = self.answers.get_mut(answer) else { continue };
                    state.ranks.extend(logprob);
                    (answer, text, None)
                }
                Said::Ended { answer, text, end } => (answer, text, Some(reason(end))),
            };
            let Some(answer) = self.answers.get_mut(place) else { continue };
            answer.text.push_str(&more);
            answer.reason = ended;
            if touched.last() != Some(&place) {
                touched.push(place);
            }
        }
        self.said = said;
        Ok((more || !touched.is_empty()).then_some(touched))
    }

    /// What was not told yet of an answer.
    fn choice(&mut self, place: usize) -> Value {
        let answer = &mut self.answers[place];
        let text = std::mem::take(&mut answer.text);
        let ranks = std::mem::take(&mut answer.ranks);
        let logprobs = if self.ranked {
            ranked(&ranks, &mut answer.offset, &self.generation.route.language)
        } else {
            Value::Null
        };
        json!({"index": place, "text": text, "logprobs": logprobs, "finish_reason": answer.reason})
    }

    fn head(&self, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created_s,
            "model": self.model,
            "system_fingerprint": self.generation.route.language.fingerprint(),
            "choices": choices,
        })
    }

    async fn whole(mut self) -> Result<Response, Fault> {
        let mut reasons = vec![None; self.answers.len()];
        while let Some(touched) = self.next().await? {
            for place in touched {
                reasons[place] = self.answers[place].reason.or(reasons[place]);
            }
        }
        for (answer, reason) in self.answers.iter_mut().zip(reasons) {
            answer.reason = reason;
        }
        let choices = (0..self.answers.len()).map(|place| self.choice(place)).collect();
        let mut reply = self.head(choices);
        reply["usage"] = usage(&self.generation);
        json_reply(StatusCode::OK, &reply)
    }
}

/// Log-probabilities as completions have them: a list for each thing, and alternatives by their text.
fn ranked(ranks: &[TokenLogprob], offset: &mut usize, language: &Language) -> Value {
    let (mut tokens, mut own, mut top, mut offsets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for place in ranks {
        let text = token_text(&place.chosen, language);
        offsets.push(*offset);
        *offset += text.chars().count();
        tokens.push(text);
        own.push(finite(place.chosen.logprob));
        let alternative = |token| (token_text(token, language), json!(finite(token.logprob)));
        top.push(place.top.iter().map(alternative).collect::<Map<String, Value>>());
    }
    json!({"tokens": tokens, "token_logprobs": own, "top_logprobs": top, "text_offset": offsets})
}

impl Teller for Completion {
    async fn tell(&mut self, frames: &mut Frames) -> Result<bool, Fault> {
        if let Some(touched) = self.next().await? {
            for place in touched {
                let answer = &self.answers[place];
                if answer.text.is_empty() && answer.ranks.is_empty() && answer.reason.is_none() {
                    continue;
                }
                let choice = self.choice(place);
                let mut chunk = self.head(vec![choice]);
                if self.include_usage {
                    chunk["usage"] = Value::Null;
                }
                frames.data(&chunk);
            }
            return Ok(true);
        }
        if self.include_usage {
            let mut last = self.head(Vec::new());
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
