//! A batch of requests: every line of a file answered once, in the order of the lines.
//!
//! First all lines are looked at: a batch with a faulty one answers none. Then a bounded number of lines is with the
//! models at once. Answers and errors are appended, in order, to two files in the job's own directory; at least every
//! [`super::JobOptions::checkpoint_interval`] the files are synced and the place reached is noted in the job. After a
//! crash the files are cut back to that place and the work goes on from there, so that each line stands in exactly one
//! of them once. When all lines are done, or given up, the files become [`StoredFile`]s in the commit that ends the job.

mod lines;
mod window;

use std::sync::Arc;
use std::time::{Duration, Instant};

use formats::rows::Position;
use serde::{Deserialize, Serialize};

use super::context::Context;
use super::output::{FAULTS_FILE, Output, OutputState, part_file};
use super::runner::Done;
use super::{files_of, job_id};
use crate::answerer::{Answered, Answerer, Asked};
use crate::room::Room;
use crate::store::Write;
use crate::{
    BatchEnding, BatchPhase, Error, JobKind, JobState, Parent, RequestBatch, Result, StoredFile, Timestamp,
};
use lines::Lines;
use window::Window;

/// How often a waiting worker looks whether the job is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// How long a job waits for someone who answers its lines: the server is being started, mostly.
const ANSWERER_PATIENCE: Duration = Duration::from_secs(60);

/// What the files that a batch leaves are for.
const PURPOSE: &str = "batch_output";

/// How far a batch is, once its lines have been looked at: what a crash leaves of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Progress {
    /// Where the lines go on.
    place: Position,
    /// What has been written of them.
    output: OutputState,
    answered: u64,
    failed: u64,
    /// Why no more lines are answered.
    ending: Option<BatchEnding>,
    /// All lines are done; what is left is to publish.
    complete: bool,
}

/// Does the job, from its beginning or its last checkpoint.
pub(super) fn run(context: &Context, batch: &RequestBatch) -> Result<Done> {
    let mut batch = batch.clone();
    let answerer = answerer(context, &batch.protocol)?;
    let project = Parent::split(&context.job.name)?.0.project;
    let mut room = context.storage().room(&project);
    let asked = Asked { project, endpoint: batch.endpoint.clone(), expires: batch.expires };
    let mut progress = match Progress::of(&batch)? {
        Some(progress) => progress,
        None if validate(context, &mut batch, &*answerer, &asked)? => {
            let progress = Progress::default();
            progress.note(context, &batch)?;
            progress
        }
        None => return Ok(Done::new(JobState::Failed, JobKind::Requests(batch))),
    };
    if !progress.complete {
        let lines = Lines::open(context, &batch.input, progress.place)?;
        let window = Window::new(context, answerer, asked, lines, progress.ending);
        answer(context, &mut batch, window, &mut progress, &mut room)?;
    }
    context.runtime.block_on(room.ensure(progress.output.bytes()))?;
    Ok(Done { _room: Some(room), ..publish(context, batch, &progress)? })
}

/// Who answers in `protocol`. A server that is being started says so a little after it takes up its jobs.
pub(super) fn answerer(context: &Context, protocol: &str) -> Result<Arc<dyn Answerer>> {
    let until = Instant::now() + ANSWERER_PATIENCE;
    loop {
        if let Some(found) = context.control.answerers().find(protocol) {
            return Ok(found);
        }
        context.check()?;
        if Instant::now() >= until {
            return Err(context.leave(format!("nothing in this process answers requests in {protocol}")));
        }
        std::thread::sleep(LOOK);
    }
}

/// Looks at all lines. `false` if they are not to be answered: the batch says why.
fn validate(
    context: &Context,
    batch: &mut RequestBatch,
    answerer: &dyn Answerer,
    asked: &Asked,
) -> Result<bool> {
    let mut lines = Lines::open(context, &batch.input, Position::default())?;
    let mut checker = answerer.checker(asked);
    while let Some((row, line)) = lines.next()? {
        context.check()?;
        batch.total = row + 1;
        let line = line.as_ref().map(|line| &line[..]).map_err(String::as_str);
        if checker.line(row + 1, line).is_break() {
            break;
        }
    }
    match checker.end() {
        Ok(model) => {
            batch.model = Some(model);
            (batch.phase, batch.answering_since) = (BatchPhase::Answering, Some(Timestamp::now()));
            Ok(true)
        }
        Err(faults) => {
            (batch.total, batch.faults) = (0, faults);
            Ok(false)
        }
    }
}

fn answer(
    context: &Context,
    batch: &mut RequestBatch,
    mut window: Window<'_>,
    progress: &mut Progress,
    room: &mut Room,
) -> Result<()> {
    let interval = context.control.options().jobs.checkpoint_interval;
    let mut output = Output::open(context.staging(), &progress.output, u64::MAX)?;
    let mut saved_at = Instant::now();
    while let Some((answered, after)) = window.next()? {
        let Answered { line, error } = answered;
        if error.is_none() {
            output.append("", &line, &[])?;
            progress.answered += 1;
        } else {
            output.append("", &[], &line)?;
            progress.failed += 1;
        }
        (progress.place, progress.ending) = (after, window.ending());
        if saved_at.elapsed() >= interval {
            progress.output = output.sync()?;
            context.runtime.block_on(room.ensure(progress.output.bytes()))?;
            progress.note(context, batch)?;
            saved_at = Instant::now();
        }
    }
    progress.output = output.sync()?;
    (progress.complete, progress.ending) = (true, window.ending());
    (batch.phase, batch.finalizing_since) = (BatchPhase::Finalizing, Some(Timestamp::now()));
    progress.note(context, batch)
}

/// Makes the two files what the client sees, in the commit that ends the job.
fn publish(context: &Context, mut batch: RequestBatch, progress: &Progress) -> Result<Done> {
    let [output, errors] = files_of(&context.job.name)?;
    let mut writes = Vec::new();
    if progress.answered > 0 {
        writes.push(keep(context, &output, "output", &part_file(0))?);
        batch.output = Some(output);
    }
    if progress.failed > 0 {
        writes.push(keep(context, &errors, "errors", FAULTS_FILE)?);
        batch.errors = Some(errors);
    }
    progress.show(&mut batch);
    (batch.checkpoint, batch.ending) = (None, progress.ending);
    let state = match progress.ending {
        Some(BatchEnding::Cancelled) => JobState::Cancelled,
        Some(BatchEnding::Expired) | None => JobState::Succeeded,
    };
    Ok(Done { writes, ..Done::new(state, JobKind::Requests(batch)) })
}

/// Makes the job's file `source` the content of the file `name` to be.
fn keep(context: &Context, name: &str, what: &str, source: &str) -> Result<Write> {
    let now = Timestamp::now();
    let file = StoredFile {
        name: name.to_owned(),
        file_name: format!("batch_{}_{what}.jsonl", job_id(&context.job.name)),
        purpose: PURPOSE.to_owned(),
        bytes: 0,
        create_time: now,
        update_time: now,
        etag: String::new(),
    };
    context.control.files().adopt(&context.staging().join(source), file)
}

impl Progress {
    fn of(batch: &RequestBatch) -> Result<Option<Progress>> {
        let read = batch.checkpoint.clone().map(serde_json::from_value).transpose();
        read.map_err(|e| Error::internal("reading the job's checkpoint", e))
    }

    /// What clients see of it.
    fn show(&self, batch: &mut RequestBatch) {
        (batch.answered, batch.failed) = (self.answered, self.failed);
    }

    /// Makes this the place from which a crash goes on.
    fn note(&self, context: &Context, batch: &RequestBatch) -> Result<()> {
        let checkpoint =
            serde_json::to_value(self).map_err(|e| Error::internal("writing the job's checkpoint", e))?;
        let begun = self.place != Position::default() || self.complete;
        context.update(begun, |kind| {
            if let JobKind::Requests(stored) = kind {
                let cancelling_since = stored.cancelling_since;
                *stored =
                    RequestBatch { cancelling_since, checkpoint: Some(checkpoint.clone()), ..batch.clone() };
                self.show(stored);
            }
        })
    }
}
