//! Training: a specification and rows in, a registered version out.
//!
//! A training that a crash interrupts begins again: the same rows and the same seed give the same bits, so
//! the artifact, which is named by its content, is the same. The version is found by the job that made
//! it before one is registered, so that there is one whatever the crash left.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use formats::Value;
use formats::rows::RowBlock;
use formats::spec::TrainSpec;
use train::{Epoch, Flow, RowSource, RowSourceError, TrainError, Trained};

use super::context::Context;
use super::folder::Folder;
use super::images::{self, Images};
use super::job_id;
use super::rows::{Place, RowReader, Rows, resolve};
use super::runner::Done;
use crate::artifact::Digest;
use crate::models::{ArtifactSource, UploadModel};
use crate::quota::TrainingLease;
use crate::{
    EpochProgress, Error, ErrorCode, InputFormat, JobKind, JobState, Parent, Result, ServingStatus,
    TrainingJob, fault,
};

/// How often it is written down how long a training has taken: a crash loses so much of it.
const WRITTEN_EVERY: Duration = Duration::from_secs(2);

/// Reasons of rows left out that the job shows.
const REASONS_MAX: usize = 10;

/// Does the job, from its beginning.
pub(super) fn run(context: &Context, job: &TrainingJob) -> Result<Done> {
    let spec: TrainSpec = serde_json::from_value(job.spec.clone())
        .map_err(|e| Error::internal("reading the training specification", e))?;
    context.update(false, |kind| {
        if let JobKind::Training(stored) = kind {
            stored.progress.clear();
        }
    })?;
    let mut lease = TrainingLease::take(Arc::clone(&context.meters.own))?;
    let fitted = TrainingRows::open(context, &spec, &job.uris)
        .and_then(|mut rows| fit(context, &spec, &mut rows, &mut lease).map(|trained| (rows, trained)));
    drop(lease);
    let (mut rows, trained) = fitted?;
    context.check()?;
    let mut job = job.clone();
    rows.show(&mut job, &trained);
    let artifact = context.runtime.block_on(context.control.artifacts().put(trained.files))?;
    fault::step().map_err(|e| crate::storage::failed("registering the trained version", e))?;
    job.result = Some(register(context, &job, artifact)?);
    Ok(Done::new(JobState::Succeeded, JobKind::Training(job)))
}

fn fit(
    context: &Context,
    spec: &TrainSpec,
    rows: &mut TrainingRows,
    lease: &mut TrainingLease,
) -> Result<Trained> {
    let (failure, clock) = (RefCell::new(None), RefCell::new((lease, Instant::now())));
    let check = || {
        context.check()?;
        let (lease, written_at) = &mut *clock.borrow_mut();
        lease.go_on()?;
        if written_at.elapsed() >= WRITTEN_EVERY {
            lease.count();
            context.write_down()?;
            *written_at = Instant::now();
        }
        Ok(())
    };
    let go_on = |outcome: Result<()>| match outcome {
        Ok(()) => Flow::Continue,
        Err(error) => {
            failure.replace(Some(error));
            Flow::Stop
        }
    };
    let mut progress = Vec::new();
    let mut on_epoch = |epoch: &Epoch| {
        progress.push(epoch_progress(epoch));
        go_on(check().and_then(|()| note(context, &progress)))
    };
    let trained = train::fit_until(spec, rows, &mut on_epoch, &mut || go_on(check()));
    match failure.take() {
        Some(failure) => Err(failure),
        None => trained.map_err(refused),
    }
}

/// What is wrong with the rows or the specification, in the words of whoever found it.
fn refused(error: TrainError) -> Error {
    match error {
        TrainError::Source(source) => match source.downcast::<Error>() {
            Ok(error) => *error,
            Err(source) => Error::internal("reading the rows", source),
        },
        TrainError::Unwritable(_) => Error::internal("writing the trained model", error),
        TrainError::Pass(_) => Error::internal("training the model", error),
        other => Error::invalid(other.to_string()),
    }
}

fn epoch_progress(epoch: &Epoch) -> EpochProgress {
    EpochProgress {
        epoch: u32::try_from(epoch.epoch).unwrap_or(u32::MAX),
        loss: epoch.loss,
        accuracy: epoch.accuracy,
        validation_loss: epoch.validation_loss,
        validation_accuracy: epoch.validation_accuracy,
        seconds: epoch.seconds,
    }
}

fn note(context: &Context, progress: &[EpochProgress]) -> Result<()> {
    context.update(true, |kind| {
        if let JobKind::Training(job) = kind {
            job.progress = progress.to_vec();
        }
    })
}

/// Registers the version, or finds the one that was registered before a crash. Gives the model's resource
/// name and the version's number.
fn register(context: &Context, job: &TrainingJob, artifact: Digest) -> Result<(String, u32)> {
    let (parent, _) = Parent::split(&context.job.name)?;
    let id = job.target.model_id.clone().unwrap_or_else(|| job_id(&context.job.name).to_owned());
    let model = job.target.parent_model.clone().unwrap_or_else(|| parent.child("models", &id));
    let models = context.control.models();
    if let Some(found) = context.runtime.block_on(find(context, &model))? {
        return Ok(found);
    }
    let upload = UploadModel {
        parent_model: job.target.parent_model.clone(),
        model_id: job.target.parent_model.is_none().then_some(id),
        labels: job.target.labels.clone(),
        version_aliases: job.target.aliases.clone(),
        version_description: job.target.description.clone(),
        serving: ServingStatus::Enabled,
        training_job: Some(context.job.name.clone()),
        dataset_digest: job.dataset_digest,
        ..UploadModel::new(job.target.display_name.clone(), ArtifactSource::Stored(artifact))
    };
    context.runtime.block_on(async {
        let operation = models.upload(&parent, upload).await?;
        context.control.operations().wait(&operation.name, REGISTERING_MAX).await?;
        find(context, &model).await?.ok_or_else(|| {
            Error::new(
                ErrorCode::Internal,
                format!("the trained version was not registered as a version of {model}"),
            )
        })
    })
}

/// How long registering a stored artifact may take.
const REGISTERING_MAX: std::time::Duration = std::time::Duration::from_secs(600);

/// The version of `model` that this job made, if there is one.
async fn find(context: &Context, model: &str) -> Result<Option<(String, u32)>> {
    let model = match context.control.models().get(model).await {
        Ok((model, _)) => model,
        Err(error) if error.code == ErrorCode::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let made =
        model.versions.iter().find(|version| version.training_job.as_deref() == Some(&context.job.name));
    Ok(made.map(|version| (model.name.clone(), version.number)))
}

/// The rows of a training job, as the trainer takes them: one pass, in order.
struct TrainingRows {
    reader: RowReader,
    images: Option<Images>,
    uris: Vec<String>,
    /// Columns of the first rows, which all have; of JSONL, the fields of the first one.
    names: Vec<String>,
    /// Rows left out before the trainer saw them.
    skipped: u64,
    reasons: Vec<String>,
}

impl RowSource for TrainingRows {
    fn next(&mut self) -> std::result::Result<Option<RowBlock>, RowSourceError> {
        Ok(self.next_block()?)
    }
}

impl TrainingRows {
    fn open(context: &Context, spec: &TrainSpec, uris: &[String]) -> Result<Self> {
        let inputs = context.runtime.block_on(resolve(&context.storage(), uris))?;
        let uris: Vec<String> = inputs.iter().map(|input| input.uri.clone()).collect();
        if let Some(folder) = uris.iter().find(|uri| Folder::is(uri)) {
            let message =
                format!("{folder} is a folder: give a table that names its images and what they show");
            return Err(Error::invalid(message));
        }
        let format = uris.first().map_or(InputFormat::default(), |uri| InputFormat::of(uri));
        if uris.iter().any(|uri| InputFormat::of(uri) != format) {
            let message =
                "the rows lie partly in .jsonl or .parquet objects and partly in others; give one kind";
            return Err(Error::invalid(message));
        }
        let (storage, runtime) = (context.storage(), context.runtime.clone());
        let images = Images::of_training(context, spec);
        let mut reader = RowReader::new(storage, runtime, inputs.into(), format, Place::default()).hashing();
        if images.is_some() {
            reader = reader.by(images::CHUNK_ROWS);
        }
        Ok(TrainingRows { reader, images, uris, names: Vec::new(), skipped: 0, reasons: Vec::new() })
    }

    fn next_block(&mut self) -> Result<Option<RowBlock>> {
        let Some(chunk) = self.reader.next()? else { return Ok(None) };
        let uri = self.uris.get(chunk.input).cloned().unwrap_or_default();
        for fault in &chunk.faults {
            self.skip(&uri, fault.row, &fault.reason);
        }
        match chunk.rows {
            Rows::Table(block) if self.names.is_empty() || self.names == block.names() => {
                self.names = block.names().to_vec();
                Ok(Some(self.with_images(&uri, block)))
            }
            Rows::Table(_) => Err(Error::invalid(format!(
                "{uri} has other columns than {}; all inputs of a training have the same, in the same order",
                self.uris.first().map_or("", String::as_str)
            ))),
            Rows::Values(values) => {
                let block = self.table(&uri, &values)?;
                Ok(Some(self.with_images(&uri, block)))
            }
        }
    }

    fn with_images(&mut self, uri: &str, block: RowBlock) -> RowBlock {
        let Some(images) = &self.images else { return block };
        let (block, faults) = images.table(uri, &block);
        for fault in faults {
            self.skip(uri, fault.row, &fault.reason);
        }
        block
    }

    /// Records as rows of a table with the columns of the first record.
    fn table(&mut self, uri: &str, values: &[(u64, Value)]) -> Result<RowBlock> {
        let mut rows = Vec::with_capacity(values.len());
        for (number, value) in values {
            match value {
                Value::Record(fields) if self.names.is_empty() => {
                    self.names = fields.iter().map(|(name, _)| name.clone()).collect();
                }
                Value::Record(_) => {}
                other => {
                    self.skip(
                        uri,
                        *number,
                        &format!("expected an object with a field for each column, found {}", other.kind()),
                    );
                    continue;
                }
            }
            match self.names.iter().map(|name| cell(value.get(name))).collect::<Option<Vec<String>>>() {
                Some(cells) => rows.push(cells),
                None => self.skip(uri, *number, "a field is a list or an object"),
            }
        }
        let first = values.first().map_or(0, |(number, _)| *number);
        RowBlock::new(self.names.clone(), first, &rows)
            .map_err(|e| Error::invalid(format!("{uri}: {}", e.reason)))
    }

    fn skip(&mut self, uri: &str, row: u64, reason: &str) {
        self.skipped += 1;
        if self.reasons.len() < REASONS_MAX {
            self.reasons.push(format!("{uri} row {row}: {reason}"));
        }
    }

    /// What clients see of the rows.
    fn show(&mut self, job: &mut TrainingJob, trained: &Trained) {
        self.skipped += trained.faults.len() as u64;
        let room = REASONS_MAX.saturating_sub(self.reasons.len());
        self.reasons.extend(trained.faults.iter().take(room).map(|f| format!("row {}: {}", f.row, f.reason)));
        job.rows = trained.rows;
        job.skipped = self.skipped;
        job.partial_failures = std::mem::take(&mut self.reasons);
        job.dataset_digest = self.reader.digest();
        job.progress = trained.epochs.iter().map(epoch_progress).collect();
    }
}

/// A field as the text that a CSV would hold; `None` for what does not fit a cell.
fn cell(value: Option<&Value>) -> Option<String> {
    match value {
        None | Some(Value::Null) => Some(String::new()),
        Some(Value::Text(text)) => Some(text.clone()),
        Some(number @ (Value::Number(_) | Value::Bool(_))) => serde_json::to_string(number).ok(),
        Some(_) => None,
    }
}
