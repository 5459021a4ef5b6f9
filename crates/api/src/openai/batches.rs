//! `/v1/batches`: a file of requests, each answered once.

mod check;
mod lines;

use std::collections::BTreeMap;
use std::time::Duration;

use control::{
    BatchEnding, BatchPhase, Job, JobKind, JobState, LineFault, NewRequestBatch, RequestBatch, Timestamp,
};
use http::StatusCode;
use serde_json::{Value, json};

pub(crate) use self::lines::answerer;
use super::files;
use super::listing::Page;
use super::{PROTOCOL, absent, id_of, named, parent_of, resource};
use crate::fields::{Fields, invalid};
use crate::http::{Call, Response, json_reply};
use crate::{Code, Fault};

/// What the ids of batches begin with.
const PREFIX: &str = "batch_";

/// The collection in a batch's resource name, and what clients call it.
const COLLECTION: &str = "requestBatches";

/// Batches in one page of a list where the request does not say, and at most.
const PAGE: (usize, usize) = (20, 100);

/// Labels of one batch at most, and bytes of a label and of its value.
const LABELS_MAX: (usize, usize, usize) = (16, 64, 512);

/// The longest that a batch may take: the protocol's own number.
const WINDOW_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Begins a batch.
pub(super) async fn create(call: Call) -> Result<Response, Fault> {
    let parent = parent_of(&call)?;
    let Call { app, body, .. } = call;
    let mut fields = Fields::of_body(&body.read().await?)?;
    let file = fields.needed_text("input_file_id")?;
    let endpoint = fields.needed_text("endpoint")?;
    if !lines::ENDPOINTS.contains(&endpoint.as_str()) {
        let served = lines::ENDPOINTS.join("`, `");
        return Err(invalid("endpoint", format!("must be one of `{served}`")));
    }
    let window = fields.needed_text("completion_window")?;
    let new = NewRequestBatch {
        labels: labels(&mut fields)?,
        protocol: PROTOCOL.name.to_owned(),
        endpoint,
        input: resource(&parent, files::COLLECTION, files::PREFIX, &file).map_err(of_input)?,
        lasts: lasts(&window)?,
        window,
    };
    fields.finish()?;
    let known =
        app.control.files().get(&new.input).await.map_err(|_| of_input(absent(files::COLLECTION, &file)))?;
    if known.purpose != files::BATCH {
        let message = format!("names a file for `{}`; upload one for `batch`", known.purpose);
        return Err(invalid("input_file_id", message));
    }
    let job = app.control.jobs().create_requests(&parent, new).await?;
    json_reply(StatusCode::OK, &described(&job)?)
}

fn of_input(fault: Fault) -> Fault {
    fault.about("input_file_id")
}

/// `metadata`: the owner's labels.
fn labels(fields: &mut Fields) -> Result<BTreeMap<String, String>, Fault> {
    let (count, name_bytes, value_bytes) = LABELS_MAX;
    let wrong = || {
        let message = format!(
            "must be an object of at most {count} texts, each of at most {value_bytes} bytes under a name of at most {name_bytes}"
        );
        invalid("metadata", message)
    };
    let map = match fields.take("metadata") {
        None => return Ok(BTreeMap::new()),
        Some(Value::Object(map)) if map.len() <= count => map,
        Some(_) => return Err(wrong()),
    };
    let label = |(name, value): (String, Value)| match value {
        Value::String(value) if name.len() <= name_bytes && value.len() <= value_bytes => Ok((name, value)),
        _ => Err(wrong()),
    };
    map.into_iter().map(label).collect()
}

/// `24h`, the only one that the protocol has, or less: `90m`, `30s`.
fn lasts(window: &str) -> Result<Duration, Fault> {
    let unit = |unit, seconds| Some((window.strip_suffix(unit)?, seconds));
    let read = unit('h', 3600).or_else(|| unit('m', 60)).or_else(|| unit('s', 1));
    let lasts = read.and_then(|(number, seconds)| number.parse::<u32>().ok().map(|n| (n, seconds)));
    lasts
        .map(|(number, seconds)| Duration::from_secs(u64::from(number) * seconds))
        .filter(|lasts| !lasts.is_zero() && *lasts <= WINDOW_MAX)
        .ok_or_else(|| invalid("completion_window", "must be `24h`, or less, such as `90m` or `30s`"))
}

/// The project's batches.
pub(super) async fn list(call: Call) -> Result<Response, Fault> {
    let page = Page::read(&call, PAGE.0, PAGE.1)?;
    let jobs = call.app.control.jobs().request_batches(&parent_of(&call)?).await?;
    page.of(jobs.iter().map(described).collect::<Result<_, _>>()?)
}

/// How a batch stands.
pub(super) async fn get(call: Call) -> Result<Response, Fault> {
    let name = named(&call, COLLECTION, PREFIX)?;
    reply(&call, &name).await
}

/// Asks a batch to stop. What it has answered stays.
pub(super) async fn cancel(call: Call) -> Result<Response, Fault> {
    let name = named(&call, COLLECTION, PREFIX)?;
    call.app.control.jobs().cancel(&name).await.map_err(|e| unknown(&name, e))?;
    reply(&call, &name).await
}

async fn reply(call: &Call, name: &str) -> Result<Response, Fault> {
    let job = call.app.control.jobs().get(name).await.map_err(|e| unknown(name, e))?;
    json_reply(StatusCode::OK, &described(&job)?)
}

fn unknown(name: &str, error: control::Error) -> Fault {
    let fault = Fault::from(error);
    if fault.code == Code::NotFound { absent("batches", &id_of(PREFIX, name)) } else { fault }
}

/// OpenAI's batch.
fn described(job: &Job) -> Result<Value, Fault> {
    let JobKind::Requests(batch) = &job.kind else {
        return Err(Fault::not_found(format!("{} is no batch", job.name)));
    };
    let status = status(job, batch);
    let ended =
        |as_what: &str| (status == as_what).then_some(job.end_time).flatten().map(Timestamp::as_second);
    let at = |time: Option<Timestamp>| time.map(Timestamp::as_second);
    let file = |name: &Option<String>| name.as_ref().map(|name| id_of(files::PREFIX, name));
    Ok(json!({
        "id": id_of(PREFIX, &job.name),
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model,
        "errors": errors(job, batch),
        "input_file_id": id_of(files::PREFIX, &batch.input),
        "completion_window": batch.window,
        "status": status,
        "output_file_id": file(&batch.output),
        "error_file_id": file(&batch.errors),
        "created_at": job.create_time.as_second(),
        "in_progress_at": at(batch.answering_since),
        "expires_at": batch.expires.as_second(),
        "finalizing_at": at(batch.finalizing_since),
        "completed_at": ended("completed"),
        "failed_at": ended("failed"),
        "expired_at": ended("expired"),
        "cancelling_at": at(batch.cancelling_since),
        "cancelled_at": ended("cancelled"),
        "request_counts": {"total": batch.total, "completed": batch.answered, "failed": batch.failed},
        "metadata": if job.labels.is_empty() { Value::Null } else { json!(job.labels) },
    }))
}

fn status(job: &Job, batch: &RequestBatch) -> &'static str {
    match job.state {
        JobState::Pending | JobState::Running if job.cancel_requested => "cancelling",
        JobState::Pending | JobState::Running => match batch.phase {
            BatchPhase::Validating => "validating",
            BatchPhase::Answering => "in_progress",
            BatchPhase::Finalizing => "finalizing",
        },
        JobState::Succeeded if batch.ending == Some(BatchEnding::Expired) => "expired",
        JobState::Succeeded => "completed",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
    }
}

/// Why a batch has failed, as a list.
fn errors(job: &Job, batch: &RequestBatch) -> Value {
    let fault = |fault: &LineFault| json!({"code": fault.code, "message": fault.message, "param": fault.field, "line": fault.line});
    let mut data: Vec<Value> = batch.faults.iter().map(fault).collect();
    if let (JobState::Failed, Some(error)) = (job.state, &job.error) {
        data.push(json!({"code": "server_error", "message": error.message, "param": null, "line": null}));
    }
    if data.is_empty() { Value::Null } else { json!({"object": "list", "data": data}) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_window_is_a_day_or_less() {
        for (window, seconds) in [("24h", 86_400), ("90m", 5_400), ("1s", 1)] {
            assert_eq!(lasts(window).unwrap(), Duration::from_secs(seconds), "{window}");
        }
        for window in ["", "h", "0s", "25h", "1441m", "24", "-1h", "1d", "99999999999h"] {
            assert!(lasts(window).is_err(), "{window}");
        }
    }
}
