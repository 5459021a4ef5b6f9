//! [`Asker`]: rows that are requests to a language model, answered by whoever knows their protocol.

use std::sync::Arc;
use std::time::Duration;

use formats::rows::{RowFault, write_json_line};
use tokio::time::timeout;

use super::encode::{Encoded, FaultLine};
use crate::answerer::{Answered, Answerer, Asked};
use crate::jobs::context::Context;
use crate::jobs::requests::answerer;
use crate::jobs::rows::{Line, Place};
use crate::{BatchJob, Error, InputFormat, InstanceFields, Parent, Result, RowFormat, Timestamp};

/// The longest that one row waits for its answer.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// How often a waiting row looks whether the job is still wanted.
const LOOK: Duration = Duration::from_millis(200);

/// Asks a language model where it is deployed.
pub(super) struct Asker {
    answerer: Arc<dyn Answerer>,
    asked: Asked,
}

impl Asker {
    /// If the job's model is a language model that is deployed.
    pub(super) fn find(context: &Context, job: &BatchJob) -> Result<Option<Asker>> {
        let project = Parent::split(&job.model)?.0.project;
        let all = context.control.router().languages(Some(&project));
        let alone = |endpoint: &str| all.iter().filter(|other| other.endpoint == endpoint).count() == 1;
        let mut served = all
            .iter()
            .filter(|it| it.deployed.model_name == job.model && it.deployed.version == job.version)
            .peekable();
        if served.peek().is_none() {
            return Ok(None);
        }
        let Some(it) = served.find(|it| alone(&it.endpoint)) else {
            return Err(Error::precondition(format!(
                "{}@{} shares its endpoint with others; deploy it to one of its own for a batch",
                job.model, job.version
            )));
        };
        if job.explain
            || (job.instances_format, job.predictions_format) != (InputFormat::Jsonl, RowFormat::Jsonl)
        {
            let message = "a language model's batch is JSONL, in and out, without explanations";
            return Err(Error::invalid(message));
        }
        if job.fields != InstanceFields::default() {
            return Err(Error::invalid(
                "a row of a language model's batch is a request, of which no field is chosen",
            ));
        }
        let expires = Timestamp::now().checked_add(PATIENCE).unwrap_or(Timestamp::MAX);
        let asked = Asked { project, endpoint: it.endpoint.clone(), expires };
        Ok(Some(Asker { answerer: answerer(context, &job.protocol)?, asked }))
    }

    /// Has one row answered.
    pub(super) fn ask(&self, context: &Context, uris: &[String], line: Line) -> Result<Encoded> {
        let uri = uris.get(line.input).map_or("", String::as_str);
        let mut encoded = Encoded {
            header: String::new(),
            rows: Vec::new(),
            faults: Vec::new(),
            successful: 0,
            failed: 0,
            reasons: Vec::new(),
            after: Place { input: line.input, position: line.after, names: None },
        };
        let reason = match line.text {
            Ok(text) => match self.answer(context, &text)? {
                Answered { line, error: None } => {
                    (encoded.rows, encoded.successful) = (line, 1);
                    return Ok(encoded);
                }
                Answered { line, error: Some(reason) } => {
                    encoded.faults = line;
                    reason
                }
            },
            Err(reason) => {
                let fault = RowFault { row: line.row, reason };
                let told = FaultLine { uri, row: fault.row, reason: &fault.reason };
                write_json_line(&mut encoded.faults, &told)
                    .map_err(|e| Error::internal("writing a failed row", e))?;
                fault.reason
            }
        };
        encoded.failed = 1;
        encoded.reasons = vec![format!("{uri} row {}: {reason}", line.row)];
        Ok(encoded)
    }

    fn answer(&self, context: &Context, line: &[u8]) -> Result<Answered> {
        let permits = Arc::clone(context.control.runner().requests());
        let answering = async {
            let _permit = permits.acquire_owned().await;
            self.answerer.answer(&self.asked, line).await
        };
        let mut answering = std::pin::pin!(answering);
        loop {
            let waited = context.runtime.block_on(async { timeout(LOOK, answering.as_mut()).await });
            match waited {
                Ok(Ok(answered)) => return Ok(answered),
                Ok(Err(_)) => return Err(context.leave("nothing is answered any more in this process")),
                Err(_) => context.check()?,
            }
        }
    }
}
