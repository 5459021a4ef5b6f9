//! [`Lines`]: the lines of batches, each answered on the route on which the same is answered online.

use std::sync::Arc;

use control::{Answered, Answerer, Asked, BatchEnding, Closed, LineChecker};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::check::Check;
use crate::http::Within;
use crate::openai::error;
use crate::{Fault, ids};

/// What lines can ask.
pub(super) const ENDPOINTS: [&str; 4] =
    ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"];

/// Who answers the lines of batches in OpenAI's protocol, on its routes.
pub(crate) fn answerer(within: Within) -> Arc<dyn Answerer> {
    Arc::new(Lines(within))
}

struct Lines(Within);

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
        Box::new(Check::new(self.0.clone(), asked))
    }

    async fn answer(&self, asked: &Asked, line: &[u8]) -> Result<Answered, Closed> {
        let outcome = match serde_json::from_slice::<Line<'_>>(line) {
            Ok(line) => self.0.ask(&asked.project, &asked.endpoint, line.body, asked.expires).await?,
            // Such a line was found when the batch was checked.
            Err(error) => Err(Fault::invalid(format!("the line cannot be read: {error}"))),
        };
        let failed = outcome.as_ref().err().map(|fault| fault.message.clone());
        let (status, body) = outcome.unwrap_or_else(|fault| refused(&fault));
        let reply = Reply { status_code: status.as_u16(), request_id: ids::fresh("req_"), body: &body };
        let (named, response) = (custom_id(line), Some(reply));
        let line =
            written(&Outcome { id: ids::fresh("batch_req_"), custom_id: &named, response, error: None });
        Ok(Answered { line, error: failed })
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

/// The reply that `fault` would have been.
fn refused(fault: &Fault) -> (StatusCode, Box<RawValue>) {
    if let Some(cause) = &fault.cause {
        tracing::warn!(code = fault.code.name(), message = fault.message, cause, "a line of a batch failed");
    }
    let body = serde_json::value::to_raw_value(&json!({"error": error(fault)}));
    (fault.status(), body.unwrap_or_default())
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
