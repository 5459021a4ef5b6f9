//! [`Lines`]: the lines of batches, each answered by the function that answers the same request online.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use control::{Answered, Answerer, Asked, BatchEnding, Closed, LineChecker, Principal, Role, Timestamp};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::check::Check;
use crate::http::{App, Call, ReplyBody, Response};
use crate::openai::{chat, completions, error, responses};
use crate::{Code, Fault, ids};

/// What lines can ask.
pub(super) const ENDPOINTS: [&str; 3] = ["/v1/chat/completions", "/v1/completions", "/v1/responses"];

/// How long a line waits before it asks again a model that had no room, where that does not say.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a line asks a model that cannot be asked at all: one that gave its memory back is being loaded.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much longer than its batch an answer may take: what is not answered by then, the batch says.
const GRACE: Duration = Duration::from_secs(60);

/// Who answers the lines of batches in OpenAI's protocol, as long as `app` is there.
pub(crate) fn answerer(app: &Arc<App>) -> Arc<dyn Answerer> {
    Arc::new(Lines { app: Arc::downgrade(app), preparing: Arc::new(Semaphore::new(1)) })
}

struct Lines {
    app: Weak<App>,
    /// How many prompts are made of lines at once: those of requests come first.
    preparing: Arc<Semaphore>,
}

/// A line, as far as it is read here.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    body: &'a RawValue,
}

/// What tells a line from others.
#[derive(Deserialize)]
struct Named {
    custom_id: String,
}

/// One line of a file that a batch leaves.
#[derive(Serialize)]
struct Outcome<'a> {
    id: String,
    custom_id: &'a str,
    response: Option<Reply<'a>>,
    error: Option<Value>,
}

/// What would have been the reply.
#[derive(Serialize)]
struct Reply<'a> {
    status_code: u16,
    request_id: String,
    body: &'a RawValue,
}

#[async_trait::async_trait]
impl Answerer for Lines {
    fn checker(&self, asked: &Asked) -> Box<dyn LineChecker> {
        Box::new(Check::new(self.app.clone(), asked))
    }

    async fn answer(&self, asked: &Asked, line: &[u8]) -> Result<Answered, Closed> {
        let (status, body) = match serde_json::from_slice::<Line<'_>>(line) {
            Ok(line) => reply(self.ask(asked, line.body).await?),
            // Such a line was found when the batch was checked.
            Err(error) => reply(Err(Fault::invalid(format!("the line cannot be read: {error}")))),
        };
        let named = custom_id(line);
        let reply = Reply { status_code: status.as_u16(), request_id: ids::fresh("req_"), body: &body };
        let response = Some(reply);
        let line =
            written(&Outcome { id: ids::fresh("batch_req_"), custom_id: &named, response, error: None });
        Ok(Answered { line, is_answer: status.is_success() })
    }

    fn unanswered(&self, line: &[u8], why: BatchEnding) -> Vec<u8> {
        let (code, message) = match why {
            BatchEnding::Cancelled => {
                ("batch_cancelled", "The batch was cancelled before this request was answered.")
            }
            BatchEnding::Expired => {
                ("batch_expired", "This request could not be executed before the completion window expired.")
            }
        };
        let error = Some(json!({"code": code, "message": message}));
        let named = custom_id(line);
        written(&Outcome { id: ids::fresh("batch_req_"), custom_id: &named, response: None, error })
    }
}

impl Lines {
    /// The reply to one line's body; asks again where the model has no room now.
    async fn ask(&self, asked: &Asked, body: &RawValue) -> Result<Result<Response, Fault>, Closed> {
        let begun = Instant::now();
        let body = Bytes::copy_from_slice(body.get().as_bytes());
        loop {
            let left = Duration::try_from(Timestamp::now().until(asked.expires).unwrap_or_default())
                .unwrap_or_default();
            let app = self.app.upgrade().ok_or(Closed)?;
            let behind = Arc::new(app.in_background(&self.preparing, left + GRACE));
            drop(app);
            let outcome = AssertUnwindSafe(answer(behind, asked, body.clone())).catch_unwind().await;
            let fault = match outcome {
                Ok(Ok(response)) => return Ok(Ok(response)),
                Ok(Err(fault)) => fault,
                Err(_) => {
                    let message = "a defect was hit while answering; the server's log has it";
                    return Ok(Err(Fault::new(Code::Internal, message)));
                }
            };
            let passes = match fault.code {
                Code::ResourceExhausted => true,
                Code::Unavailable => begun.elapsed() < PATIENCE,
                _ => false,
            };
            let pause = fault.retry_after.unwrap_or(PAUSE);
            if !passes || pause >= left {
                return Ok(Err(fault));
            }
            sleep(pause).await;
        }
    }
}

/// Has one request answered by the function that answers it online.
fn answer(app: Arc<App>, asked: &Asked, body: Bytes) -> BoxFuture<'static, Result<Response, Fault>> {
    let principal = Principal { key_id: String::new(), project: asked.project.clone(), role: Role::Invoker };
    let Some(path) = ENDPOINTS.into_iter().find(|path| *path == asked.endpoint) else {
        return refused(Fault::invalid("the batch's endpoint is not served by this server any more"));
    };
    match (path, Call::within(app, principal, path, body)) {
        (_, Err(fault)) => refused(fault),
        ("/v1/chat/completions", Ok(call)) => chat::answer(call).boxed(),
        ("/v1/completions", Ok(call)) => completions::answer(call).boxed(),
        (_, Ok(call)) => responses::answer(call).boxed(),
    }
}

fn refused(fault: Fault) -> BoxFuture<'static, Result<Response, Fault>> {
    async { Err(fault) }.boxed()
}

/// Status and body of a reply.
fn reply(outcome: Result<Response, Fault>) -> (StatusCode, Box<RawValue>) {
    let whole = outcome.and_then(|response| {
        let (head, body) = response.into_parts();
        let ReplyBody::Full(bytes) = body else {
            return Err(
                Fault::invalid("answers in a batch are not streamed: leave `stream` out").about("stream")
            );
        };
        let text = String::from_utf8(bytes.into()).map_err(|e| Fault::internal("reading a reply", e))?;
        let body = RawValue::from_string(text).map_err(|e| Fault::internal("reading a reply", e))?;
        Ok((head.status, body))
    });
    whole.unwrap_or_else(|fault| {
        if let Some(cause) = &fault.cause {
            tracing::warn!(
                code = fault.code.name(),
                message = fault.message,
                cause,
                "a line of a batch failed"
            );
        }
        let body = serde_json::value::to_raw_value(&json!({"error": error(&fault)}));
        (fault.status(), body.unwrap_or_default())
    })
}

fn custom_id(line: &[u8]) -> String {
    serde_json::from_slice::<Named>(line).map(|named| named.custom_id).unwrap_or_default()
}

/// One line with its end.
fn written(outcome: &Outcome<'_>) -> Vec<u8> {
    // Texts and JSON that was read before can be written.
    let mut line = serde_json::to_vec(outcome).unwrap_or_default();
    line.push(b'\n');
    line
}
