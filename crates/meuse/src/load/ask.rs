//! [`ask`]: one request, and when what of its answer came.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::Trouble;
use crate::client::{Client, ClientError, Spoken};
use crate::failure::Failure;

/// What every request has in common.
#[derive(Debug, Clone)]
pub struct Asking {
    /// The server.
    pub client: Client,
    /// The model.
    pub model: String,
    /// Fields that every request has besides.
    pub extra: Map<String, Value>,
    /// What an answer may take.
    pub patience: Duration,
}

/// An answer that came whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answered {
    /// From sending to its first text.
    pub first_token: Duration,
    /// From its first text to its last.
    pub between: Duration,
    /// The longest time between two of its texts.
    pub pause: Duration,
    /// From sending to its end.
    pub whole: Duration,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Of those, found computed.
    pub cached_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
}

impl Answered {
    /// The mean time between two tokens; `None` where there is one alone.
    pub fn between_tokens(&self) -> Option<Duration> {
        let gaps = u32::try_from(self.output_tokens).ok()?.checked_sub(1).filter(|gaps| *gaps > 0)?;
        Some(self.between / gaps)
    }
}

/// Why a request was not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered {
    /// Of which kind.
    pub trouble: Trouble,
    /// What the server said, where it did.
    pub error: Option<ClientError>,
}

impl Unanswered {
    /// In words.
    pub fn message(&self) -> String {
        self.error.clone().map_or_else(|| self.trouble.to_string(), |e| Failure::from(e).what().to_owned())
    }
}

impl From<ClientError> for Unanswered {
    fn from(error: ClientError) -> Unanswered {
        Unanswered { trouble: Trouble::from(&error), error: Some(error) }
    }
}

impl From<Trouble> for Unanswered {
    fn from(trouble: Trouble) -> Unanswered {
        Unanswered { trouble, error: None }
    }
}

/// Sends `prompt`, asks for `tokens` at most and waits for the answer's end.
///
/// # Errors
/// If it does not come, or not within the time that it may take.
pub async fn ask(asking: &Asking, prompt: &str, tokens: u32) -> Result<Answered, Unanswered> {
    let whole = timeout(asking.patience, watch(asking, prompt, tokens)).await;
    whole.unwrap_or_else(|_| Err(Trouble::TimedOut.into()))
}

async fn watch(asking: &Asking, prompt: &str, tokens: u32) -> Result<Answered, Unanswered> {
    let body = body(asking, prompt, tokens);
    let sent = Instant::now();
    let mut answer = asking.client.speak(&body).await?;
    let (mut first, mut last, mut pause) = (None, sent, Duration::ZERO);
    while answer.next().await? != Spoken::End {
        let now = Instant::now();
        match first {
            None => first = Some(now),
            Some(_) => pause = pause.max(now - last),
        }
        last = now;
    }
    let whole = sent.elapsed();
    let first = first.ok_or(Trouble::NoText)?;
    let count = |name: &str| answer.usage().pointer(name).and_then(Value::as_u64);
    let (prompt, output) = (count("/prompt_tokens"), count("/completion_tokens"));
    Ok(Answered {
        first_token: first - sent,
        between: last - first,
        pause,
        whole,
        prompt_tokens: prompt.ok_or(Trouble::NoUsage)?,
        cached_tokens: count("/prompt_tokens_details/cached_tokens").unwrap_or(0),
        output_tokens: output.ok_or(Trouble::NoUsage)?,
    })
}

fn body(asking: &Asking, prompt: &str, tokens: u32) -> Value {
    let mut body = Map::new();
    body.insert("model".to_owned(), asking.model.as_str().into());
    body.insert("messages".to_owned(), json!([{"role": "user", "content": prompt}]));
    // The newer name is unknown to most of those who speak this protocol.
    body.insert("max_tokens".to_owned(), tokens.into());
    body.insert("stream".to_owned(), true.into());
    body.insert("stream_options".to_owned(), json!({"include_usage": true}));
    body.extend(asking.extra.clone());
    Value::Object(body)
}
