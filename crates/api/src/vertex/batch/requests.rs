//! [`Requests`]: the rows of a language model's batch, each answered as `generateContent` answers it.

use std::ops::ControlFlow;
use std::sync::Arc;

use control::{Answered, Answerer, Asked, BatchEnding, Closed, LineChecker, LineFault, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::Fault;
use crate::http::Within;

/// Who answers the rows of batches in Google's protocol, on its routes.
pub(crate) fn answerer(within: Within) -> Arc<dyn Answerer> {
    Arc::new(Requests(within))
}

struct Requests(Within);

/// A row as Google's batches have it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row<'a> {
    #[serde(borrow)]
    request: &'a RawValue,
}

/// A row of what comes of it. The status is empty where there is a response.
#[derive(Serialize)]
struct Outcome<'a> {
    status: String,
    processed_time: String,
    request: &'a RawValue,
    response: &'a RawValue,
}

#[async_trait::async_trait]
impl Answerer for Requests {
    fn checker(&self, _: &Asked) -> Box<dyn LineChecker> {
        Box::new(Unchecked)
    }

    async fn answer(&self, asked: &Asked, line: &[u8]) -> Result<Answered, Closed> {
        let row = match serde_json::from_slice::<Row<'_>>(line) {
            Ok(row) => row,
            Err(error) => {
                let message = format!("the row is not {{\"request\": {{…}}}} in JSON: {error}");
                return Ok(failed(line, &Fault::invalid(message)));
            }
        };
        let path = format!("/v1/{}:generateContent", asked.endpoint);
        Ok(match self.0.ask(&asked.project, &path, row.request, asked.expires).await? {
            Ok((_, response)) => {
                Answered { line: written(String::new(), row.request, &response), error: None }
            }
            Err(fault) => failed(row.request.get().as_bytes(), &fault),
        })
    }

    fn unanswered(&self, line: &[u8], _: BatchEnding) -> Vec<u8> {
        failed(line, &Fault::invalid("the batch ended before this request was answered")).line
    }
}

/// Rows are looked at one by one: a bad one is a failed row.
struct Unchecked;

impl LineChecker for Unchecked {
    fn line(&mut self, _: u64, _: Result<&[u8], &str>) -> ControlFlow<()> {
        ControlFlow::Break(())
    }

    fn end(self: Box<Self>) -> Result<String, Vec<LineFault>> {
        Ok(String::new())
    }
}

/// The row of a request that was not answered, as far as it can be read.
fn failed(request: &[u8], fault: &Fault) -> Answered {
    let nothing = || RawValue::from_string("{}".to_owned()).unwrap_or_default();
    let text = String::from_utf8_lossy(request).into_owned();
    let request = serde_json::from_str::<Box<RawValue>>(&text).unwrap_or_else(|_| nothing());
    let status = format!("{}: {}", fault.code.name(), fault.message);
    Answered { line: written(status, &request, &nothing()), error: Some(fault.message.clone()) }
}

/// One line with its end.
fn written(status: String, request: &RawValue, response: &RawValue) -> Vec<u8> {
    let outcome = Outcome { status, processed_time: Timestamp::now().to_string(), request, response };
    // Texts and JSON that was read before can be written.
    let mut line = serde_json::to_vec(&outcome).unwrap_or_default();
    line.push(b'\n');
    line
}
