//! Batch prediction: every row of some objects in, one prediction a row out.
//!
//! Blocks of rows are decoded, predicted and encoded by several threads and written in order to files in
//! the job's own directory. Every [`super::JobOptions::checkpoint_bytes`], and at least every
//! [`super::JobOptions::checkpoint_interval`], the files are synced and the place reached is noted in the
//! job; after a crash the files are cut back to that place and the work goes on from there. Only when all rows are done do the files become objects, under names that depend
//! on nothing but the job, so that doing it twice leaves what doing it once leaves; the manifest object
//! comes last.

mod encode;
mod explain;
mod language;
mod publish;
mod select;

use std::time::Instant;

use serde::{Deserialize, Serialize};

pub(super) use publish::withdraw;

use super::context::Context;
use super::output::{Output, OutputState};
use super::pipeline::ordered;
use super::rows::{Chunk, InputObject, Place, RowReader, resolve};
use super::runner::Done;
use crate::storage::ObjectUri;
use crate::{BatchJob, Error, JobKind, JobState, Result};
use encode::{Encoded, Encoder};
use language::Asker;

/// Reasons of failed rows that the job itself shows.
const REASONS_MAX: usize = 10;

/// How far a batch job is: what a crash leaves of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Progress {
    inputs: Vec<InputObject>,
    /// Where the rows go on.
    place: Place,
    /// What has been written of them.
    output: OutputState,
    successful: u64,
    failed: u64,
    reasons: Vec<String>,
    /// All rows are done; what is left is to publish.
    complete: bool,
}

/// Does the job, from its beginning or its last checkpoint.
pub(super) fn run(context: &Context, job: &BatchJob) -> Result<Done> {
    let mut job = job.clone();
    let version = context.version(&job.model, job.version)?;
    let mut progress = match Progress::of(&job)? {
        Some(progress) => progress,
        None => begin(context, &mut job)?,
    };
    if !progress.complete {
        match Asker::find(context, &job)? {
            Some(asker) => ask(context, &job, &asker, &mut progress)?,
            None => predict(context, &job, &Encoder::new(context, &version, &job)?, &mut progress)?,
        }
    }
    if progress.successful == 0 {
        return Err(nothing_predicted(&progress));
    }
    context.check()?;
    publish::publish(context, &job, &progress)?;
    progress.show(&mut job);
    job.checkpoint = None;
    Ok(Done::new(JobState::Succeeded, JobKind::Batch(job)))
}

/// Finds the inputs and decides where the output goes.
fn begin(context: &Context, job: &mut BatchJob) -> Result<Progress> {
    let inputs = context.runtime.block_on(resolve(&context.storage(), &job.input_uris))?;
    job.output_directory = Some(publish::directory(context, job)?);
    let progress = Progress {
        inputs,
        place: Place::default(),
        output: OutputState::default(),
        successful: 0,
        failed: 0,
        reasons: Vec::new(),
        complete: false,
    };
    progress.note(context, job)?;
    Ok(progress)
}

fn nothing_predicted(progress: &Progress) -> Error {
    match progress.reasons.first() {
        None => Error::invalid("the inputs hold no rows"),
        Some(reason) => Error::invalid(format!(
            "none of the {} rows could be predicted; the first: {reason}",
            progress.failed
        )),
    }
}

fn predict(context: &Context, job: &BatchJob, encoder: &Encoder, progress: &mut Progress) -> Result<()> {
    let mut reader = reader(context, job, progress).by(encoder.model.chunk_rows());
    let uris = progress.uris();
    let threads = context.control.options().jobs.threads;
    let source = || {
        let chunk = reader.next()?;
        chunk.iter().try_for_each(|chunk| context.meters.reserve_rows(chunk.rows.count()))?;
        Ok(chunk)
    };
    let encode = |chunk: Chunk| {
        let reserved = chunk.rows.count();
        Ok((encoder.encode(&uris, chunk)?, reserved))
    };
    through(context, job, progress, threads, source, encode)
}

/// Has a language model answer the rows, each a request.
fn ask(context: &Context, job: &BatchJob, asker: &Asker, progress: &mut Progress) -> Result<()> {
    let mut reader = reader(context, job, progress);
    let uris = progress.uris();
    let threads = context.control.options().jobs.requests;
    let answer = |line| Ok((asker.ask(context, &uris, line)?, 0));
    through(context, job, progress, threads, || reader.next_line(), answer)
}

fn reader(context: &Context, job: &BatchJob, progress: &Progress) -> RowReader {
    RowReader::new(
        context.storage(),
        context.runtime.clone(),
        progress.inputs.clone().into(),
        job.instances_format,
        progress.place.clone(),
    )
}

/// Has what `source` gives encoded by `work` on `threads` threads, and written in order. `work` says for how many rows
/// `source` has reserved a prediction: none of what a language model answers, which is counted request by request.
fn through<I: Send>(
    context: &Context,
    job: &BatchJob,
    progress: &mut Progress,
    threads: usize,
    source: impl FnMut() -> Result<Option<I>> + Send,
    work: impl Fn(I) -> Result<(Encoded, u64)> + Sync,
) -> Result<()> {
    let options = &context.control.options().jobs;
    let mut output = Output::open(context.staging(), &progress.output, options.part_bytes)?;
    let target = ObjectUri::parse_prefix(&job.output_uri_prefix)?;
    let mut room = context.storage().room_at(&target)?;
    let (mut unsaved, mut saved_at) = (0, Instant::now());
    ordered(threads, source, work, |(encoded, reserved): (Encoded, u64)| {
        context.check()?;
        unsaved += output.append(&encoded.header, &encoded.rows, &encoded.faults)?;
        context.meters.own.count_rows(reserved, encoded.successful.min(reserved));
        progress.add(encoded);
        if unsaved >= options.checkpoint_bytes || saved_at.elapsed() >= options.checkpoint_interval {
            (unsaved, saved_at) = (0, Instant::now());
            progress.output = output.sync()?;
            context.runtime.block_on(room.ensure(progress.output.bytes()))?;
            progress.note(context, job)?;
        }
        Ok(())
    })?;
    progress.output = output.sync()?;
    progress.complete = true;
    progress.note(context, job)
}

impl Progress {
    fn of(job: &BatchJob) -> Result<Option<Progress>> {
        let read = job.checkpoint.clone().map(serde_json::from_value).transpose();
        read.map_err(|e| Error::internal("reading the job's checkpoint", e))
    }

    fn uris(&self) -> Vec<String> {
        self.inputs.iter().map(|input| input.uri.clone()).collect()
    }

    fn add(&mut self, encoded: Encoded) {
        self.place = encoded.after;
        self.successful += encoded.successful;
        self.failed += encoded.failed;
        let room = REASONS_MAX.saturating_sub(self.reasons.len());
        self.reasons.extend(encoded.reasons.into_iter().take(room));
    }

    /// What clients see of it.
    fn show(&self, job: &mut BatchJob) {
        (job.successful, job.failed) = (self.successful, self.failed);
        job.partial_failures = self.reasons.clone();
    }

    /// Makes this the place from which a crash goes on.
    fn note(&self, context: &Context, job: &BatchJob) -> Result<()> {
        let checkpoint =
            serde_json::to_value(self).map_err(|e| Error::internal("writing the job's checkpoint", e))?;
        let begun = self.place != Place::default() || self.complete;
        context.update(begun, |kind| {
            if let JobKind::Batch(stored) = kind {
                stored.output_directory = job.output_directory.clone();
                stored.checkpoint = Some(checkpoint.clone());
                self.show(stored);
            }
        })
    }
}
