//! [`Jobs`]: training, batch prediction, evaluation and pulls as durable jobs.
//!
//! A job is written down before it is begun. Workers take jobs up in the order of their creation, note
//! checkpoints as they go, and finish a job in one commit with whatever it publishes in the metadata.
//! After a crash the jobs that were running are taken up again: a batch from its last checkpoint, a pull
//! from its last byte, a training and an evaluation from their beginning, with the same outcome, since both
//! are deterministic.
//! A job that takes the process down [`CRASHES_MAX`] times in a row is given up.

mod batch;
mod comparison;
mod context;
mod evaluation;
mod figures;
mod folder;
mod images;
mod meters;
mod model;
mod output;
mod parquet;
mod pipeline;
mod pull;
mod requests;
pub(crate) mod rows;
mod runner;
mod training;

use std::collections::BTreeMap;
use std::time::Duration;

use formats::spec::TrainSpec;

pub(crate) use runner::Runner;

use crate::check;
use crate::name::fresh_id;
use crate::operation::OperationKind;
use crate::storage::ObjectUri;
use crate::store::{self, Record, Write};
use crate::{
    Against, BatchJob, BatchPhase, Control, Error, EvaluationJob, InputFormat, InstanceFields, Job, JobKind,
    JobState, LabelSets, ListQuery, Model, Operation, Page, Parent, RequestBatch, Result, RowFormat,
    ServingStatus, Timestamp, TrainingJob, TrainingTarget,
};

/// Crashes in a row, without a checkpoint in between, after which a job is given up.
pub const CRASHES_MAX: u32 = 10;

/// Jobs that may be waiting or running at once.
const UNFINISHED_MAX: usize = 10_000;

/// Addresses that one job names at most.
const URIS_MAX: usize = 1_000;

/// Durable jobs. Get one from [`Control::jobs`].
#[derive(Clone)]
pub struct Jobs {
    control: Control,
}

/// The kinds of jobs, as collections of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobCollection {
    /// `trainingPipelines`.
    Training,
    /// `batchPredictionJobs`.
    Batch,
    /// `evaluationJobs`.
    Evaluation,
    /// `pipelineJobs`: evaluations that clients ask for as pipelines.
    Pipeline,
    /// `modelPulls`.
    Pull,
    /// `requestBatches`.
    Requests,
}

impl JobCollection {
    /// The segment in a job's resource name.
    pub fn as_str(self) -> &'static str {
        match self {
            JobCollection::Training => "trainingPipelines",
            JobCollection::Batch => "batchPredictionJobs",
            JobCollection::Evaluation => "evaluationJobs",
            JobCollection::Pipeline => "pipelineJobs",
            JobCollection::Pull => "modelPulls",
            JobCollection::Requests => "requestBatches",
        }
    }
}

/// How jobs use the machine.
#[derive(Debug, Clone)]
pub struct JobOptions {
    /// Jobs that run at once, pulls apart; with 0 jobs are kept for another start.
    pub slots: usize,
    /// Pulls that go on at once beside them: they wait for the network, not for processors.
    pub pulls: usize,
    /// Threads that predict for one job. One core is left to online predictions.
    pub threads: usize,
    /// Bytes of output after which a batch job is sure not to lose them to a crash.
    pub checkpoint_bytes: u64,
    /// Time after which it is sure of them, however few they are.
    pub checkpoint_interval: Duration,
    /// Bytes after which a batch job begins another output object.
    pub part_bytes: u64,
    /// Batches of requests that run at once.
    pub request_batches: usize,
    /// Requests of batches that are with the models at once.
    pub requests: usize,
}

impl Default for JobOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        JobOptions {
            slots: 2,
            pulls: 4,
            threads: cores.saturating_sub(1).max(1),
            checkpoint_bytes: 64 << 20,
            checkpoint_interval: Duration::from_millis(500),
            part_bytes: 1 << 30,
            request_batches: 4,
            requests: 32,
        }
    }
}

/// A training job to create.
#[derive(Debug, Clone)]
pub struct NewTraining {
    /// What people call it.
    pub display_name: String,
    /// The owner's labels.
    pub labels: BTreeMap<String, String>,
    /// The dataset's resource name, when it is given as one; its addresses are used if `uris` is empty.
    pub dataset: Option<String>,
    /// Where the rows lie: CSV, or JSON Lines if the name ends in `.jsonl`.
    pub uris: Vec<String>,
    /// What to train.
    pub spec: TrainSpec,
    /// The task definition and inputs as the client wrote them, to be read back.
    pub as_written: serde_json::Value,
    /// What to register the result as.
    pub target: TrainingTarget,
}

/// A batch prediction job to create.
#[derive(Debug, Clone)]
pub struct NewBatch {
    /// What people call it.
    pub display_name: String,
    /// The owner's labels.
    pub labels: BTreeMap<String, String>,
    /// The model's resource name, with or without `@version` or `@alias`.
    pub model: String,
    /// How the instances are written.
    pub instances_format: InputFormat,
    /// Where the instances lie. One `*` in a name matches anything but `/`.
    pub input_uris: Vec<String>,
    /// How to write the predictions.
    pub predictions_format: RowFormat,
    /// The directory under which the job makes its own.
    pub output_uri_prefix: String,
    /// What the model sees of a row.
    pub fields: InstanceFields,
    /// Attributions beside each prediction (JSONL only).
    pub explain: bool,
    /// The protocol that the rows are requests in, where the model is a language model; see [`Control::answer_with`].
    pub protocol: String,
    /// The request as the client wrote it, to be read back.
    pub as_written: serde_json::Value,
}

/// A batch of requests to create.
#[derive(Debug, Clone)]
pub struct NewRequestBatch {
    /// The owner's labels.
    pub labels: BTreeMap<String, String>,
    /// The protocol that its lines are written in; see [`Control::answer_with`].
    pub protocol: String,
    /// What every line is a request to, in the protocol's own words.
    pub endpoint: String,
    /// The resource name of the file with the requests.
    pub input: String,
    /// How long it may take, as the client wrote it.
    pub window: String,
    /// The same.
    pub lasts: Duration,
}

/// An evaluation to create.
#[derive(Debug, Clone, Default)]
pub struct NewEvaluation {
    /// What people call it.
    pub display_name: String,
    /// The model's resource name, with or without `@version` or `@alias`.
    pub model: String,
    /// Where the labelled rows lie.
    pub uris: Vec<String>,
    /// How they are written.
    pub format: InputFormat,
    /// The column with the truth; the training label column when absent.
    pub target: Option<String>,
    /// Columns to slice by.
    pub slice_by: Vec<String>,
    /// How labels are read and predicted, where a row may have any number of them.
    pub multi_label: Option<LabelSets>,
    /// The version to compare it with on the same rows, by resource name as `model`.
    pub against: Option<String>,
    /// What the classes are called, in the order of the scores; as the model says when empty.
    pub class_labels: Vec<String>,
    /// The pipeline as which it is asked for.
    pub pipeline: Option<NewPipeline>,
}

/// The pipeline as which a client asks for an evaluation.
#[derive(Debug, Clone, Default)]
pub struct NewPipeline {
    /// The job's id; generated when absent.
    pub id: Option<String>,
    /// The owner's labels.
    pub labels: BTreeMap<String, String>,
    /// The pipeline as the client wrote it, to be read back.
    pub as_written: serde_json::Value,
}

impl Jobs {
    pub(crate) fn new(control: Control) -> Self {
        Jobs { control }
    }

    /// Creates a training job.
    ///
    /// # Errors
    /// `NotFound` if the dataset, the parent model or a bucket does not exist; `InvalidArgument` for an
    /// address or a name that is none; `ResourceExhausted` if the project has no training left in this month.
    pub async fn create_training(&self, parent: &Parent, new: NewTraining) -> Result<Job> {
        let mut uris = new.uris;
        if let (true, Some(dataset)) = (uris.is_empty(), &new.dataset) {
            uris = self.control.datasets().get(dataset).await?.uris;
        }
        self.check_inputs(parent, &uris)?;
        if let Some(model) = &new.target.parent_model {
            self.control.models().get(model).await?;
        }
        self.control.books().meter(&parent.project, &new.target.display_name).check_training()?;
        let spec =
            serde_json::to_value(&new.spec).map_err(|e| Error::internal("writing the specification", e))?;
        let kind = JobKind::Training(TrainingJob {
            dataset: new.dataset,
            uris,
            epochs: u32::try_from(new.spec.epochs).unwrap_or(u32::MAX),
            spec,
            as_written: new.as_written,
            target: new.target,
            progress: Vec::new(),
            rows: 0,
            skipped: 0,
            partial_failures: Vec::new(),
            dataset_digest: None,
            result: None,
        });
        let mut job = blank(parent, JobCollection::Training, new.display_name, new.labels, kind)?;
        self.submit(&mut job, Vec::new()).await?;
        Ok(job)
    }

    /// Creates a batch prediction job. The version is resolved now: later changes of aliases do not
    /// concern the job.
    ///
    /// # Errors
    /// `NotFound` if the model, the version or a bucket does not exist; `FailedPrecondition` if the
    /// version is disabled; `InvalidArgument` for addresses that are none and for combinations that are
    /// not offered; `ResourceExhausted` if the project cannot pay a single row.
    pub async fn create_batch(&self, parent: &Parent, new: NewBatch) -> Result<Job> {
        let (model, version) = self.usable(&new.model).await?;
        self.check_inputs(parent, &new.input_uris)?;
        new.fields.check()?;
        let output = ObjectUri::parse_prefix(&new.output_uri_prefix)?;
        self.control.storage(&parent.project).check_reachable(&output)?;
        if new.explain && new.predictions_format == RowFormat::Csv {
            return Err(Error::invalid(
                "explanations are written in JSONL only; set predictionsFormat to jsonl",
            ));
        }
        self.control.books().meter(&parent.project, &model.display_name).check_rows()?;
        let kind = JobKind::Batch(BatchJob {
            model: model.name,
            version,
            instances_format: new.instances_format,
            input_uris: new.input_uris,
            predictions_format: new.predictions_format,
            output_uri_prefix: new.output_uri_prefix,
            fields: new.fields,
            explain: new.explain,
            protocol: new.protocol,
            as_written: new.as_written,
            output_directory: None,
            successful: 0,
            failed: 0,
            partial_failures: Vec::new(),
            checkpoint: None,
        });
        let mut job = blank(parent, JobCollection::Batch, new.display_name, new.labels, kind)?;
        self.submit(&mut job, Vec::new()).await?;
        Ok(job)
    }

    /// Creates an evaluation job and the operation that ends with it.
    ///
    /// # Errors
    /// As [`Jobs::create_batch`]; `InvalidArgument` if the version to compare with is the same, or another
    /// project's.
    pub async fn create_evaluation(&self, parent: &Parent, new: NewEvaluation) -> Result<(Job, Operation)> {
        let (model, version) = self.usable(&new.model).await?;
        self.check_inputs(parent, &new.uris)?;
        new.multi_label.as_ref().map_or(Ok(()), LabelSets::check)?;
        if new.multi_label.is_some() && !new.class_labels.is_empty() {
            return Err(Error::invalid("multiLabel names its labels itself: give no class labels beside it"));
        }
        let against = match &new.against {
            Some(name) => Some(self.against(parent, name, &model, version).await?),
            None => None,
        };
        let collection =
            if new.pipeline.is_some() { JobCollection::Pipeline } else { JobCollection::Evaluation };
        let NewPipeline { id, labels, as_written } = new.pipeline.clone().unwrap_or_default();
        check::labels(&labels)?;
        check::json("the pipeline", &as_written)?;
        self.control.books().meter(&parent.project, &model.display_name).check_rows()?;
        let now = Timestamp::now();
        let mut job = blank(
            parent,
            collection,
            new.display_name,
            labels,
            JobKind::Evaluation(EvaluationJob {
                model: model.name.clone(),
                version,
                uris: new.uris,
                format: new.format,
                target: new.target,
                slice_by: new.slice_by,
                multi_label: new.multi_label,
                against,
                class_labels: new.class_labels,
                pipeline: new.pipeline.map(|_| as_written),
                rows: 0,
                result: None,
            }),
        )?;
        if let Some(id) = id {
            check::id("pipeline_job_id", &id)?;
            job.name = parent.child(collection.as_str(), &id);
        }
        let mut operation = Operation {
            name: operation_name(&model.name, &job.name),
            target: model.name,
            kind: OperationKind::EvaluateModel,
            done: false,
            outcome: None,
            progress_percent: 0,
            job: Some(job.name.clone()),
            transfer: None,
            create_time: now,
            update_time: now,
            etag: String::new(),
        };
        let write = operation.insert()?;
        self.submit(&mut job, vec![write]).await?;
        Ok((job, operation))
    }

    /// Creates a batch of requests.
    ///
    /// # Errors
    /// `NotFound` if the file does not exist.
    pub async fn create_requests(&self, parent: &Parent, new: NewRequestBatch) -> Result<Job> {
        let expires = Timestamp::now().checked_add(new.lasts);
        let expires = expires.map_err(|_| Error::invalid(format!("`{}` is too long", new.window)))?;
        let kind = JobKind::Requests(RequestBatch {
            protocol: new.protocol,
            endpoint: new.endpoint,
            input: new.input.clone(),
            window: new.window,
            expires,
            phase: BatchPhase::Validating,
            model: None,
            total: 0,
            answered: 0,
            failed: 0,
            faults: Vec::new(),
            answering_since: None,
            finalizing_since: None,
            cancelling_since: None,
            ending: None,
            output: None,
            errors: None,
            checkpoint: None,
        });
        let mut job = blank(parent, JobCollection::Requests, String::new(), new.labels, kind)?;
        let held = self.control.files().hold(&new.input, &job.name).await?;
        self.submit(&mut job, held).await?;
        Ok(job)
    }

    /// The job `name`.
    ///
    /// # Errors
    /// If there is none.
    pub async fn get(&self, name: &str) -> Result<Job> {
        store::get(self.control.store(), name).await
    }

    /// Jobs of one kind in `parent`.
    ///
    /// # Errors
    /// If the query is malformed.
    pub async fn list(&self, parent: &Parent, kind: JobCollection, query: &ListQuery) -> Result<Page<Job>> {
        let scope = format!("{parent}/{}", kind.as_str());
        let jobs = store::list_all::<Job>(self.control.store(), Some(&scope)).await?;
        query.page(&scope, jobs, |job| (job.name.clone(), job.view()))
    }

    /// All batches of requests in `parent`, the newest first.
    ///
    /// # Errors
    /// If the metadata cannot be read.
    pub async fn request_batches(&self, parent: &Parent) -> Result<Vec<Job>> {
        let scope = format!("{parent}/{}", JobCollection::Requests.as_str());
        let mut jobs = store::list_all::<Job>(self.control.store(), Some(&scope)).await?;
        jobs.sort_by(|a, b| (b.create_time, &b.name).cmp(&(a.create_time, &a.name)));
        Ok(jobs)
    }

    /// Asks the job `name` to stop: at once if it waits, else at its next checkpoint. It may still
    /// succeed; wait for it to know. A job that has ended stays as it is.
    ///
    /// # Errors
    /// If there is none.
    pub async fn cancel(&self, name: &str) -> Result<()> {
        self.control.runner().cancel(&self.control, name).await
    }

    /// Forgets the job `name`; what it made stays.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` if it has not ended.
    pub async fn delete(&self, name: &str) -> Result<()> {
        let job = self.get(name).await?;
        if !job.state.is_final() {
            return Err(Error::precondition(format!("{name} has not ended; cancel it first")));
        }
        Ok(self.control.store().commit(vec![job.delete()]).await?)
    }

    /// The job `name` once it has ended, or as it is after `timeout`.
    ///
    /// # Errors
    /// If there is none.
    pub async fn wait(&self, name: &str, timeout: Duration) -> Result<Job> {
        let deadline = tokio::time::Instant::now() + timeout;
        let mut changes = self.control.runner().changes();
        loop {
            let job = self.get(name).await?;
            if job.state.is_final() || tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
                return Ok(job);
            }
        }
    }

    /// Stops running jobs at their next checkpoint, to go on when the data directory is next opened, and
    /// takes up no others. For the end of the process.
    pub async fn stop(&self) {
        self.control.runner().stop().await;
    }

    /// Writes a job down and wakes a worker.
    async fn submit(&self, job: &mut Job, mut writes: Vec<Write>) -> Result<()> {
        if self.control.runner().unfinished() >= UNFINISHED_MAX {
            return Err(Error::new(
                crate::ErrorCode::ResourceExhausted,
                format!("{UNFINISHED_MAX} jobs are waiting already; try again when some have ended"),
            ));
        }
        writes.push(job.insert()?);
        self.control.store().commit(writes).await?;
        self.control.runner().enqueue(&job.name);
        Ok(())
    }

    /// The model and the number of the version that `name` means, if jobs may use it.
    /// The version `name` to compare version `version` of `model` with.
    async fn against(&self, parent: &Parent, name: &str, model: &Model, version: u32) -> Result<Against> {
        let (home, _) = Parent::split(name)?;
        if home != *parent {
            return Err(Error::invalid(format!("the version to compare with must be in {parent}")));
        }
        let (other, number) = self.usable(name).await?;
        if other.name == model.name && number == version {
            return Err(Error::invalid(format!("version {version} cannot be compared with itself")));
        }
        Ok(Against { model: other.name, version: number })
    }

    async fn usable(&self, name: &str) -> Result<(Model, u32)> {
        let (model, number) = self.control.models().get(name).await?;
        match model.versions.iter().find(|version| version.number == number) {
            Some(version) if version.serving == ServingStatus::Enabled => Ok((model, number)),
            Some(_) => Err(Error::precondition(format!(
                "version {number} of {} is disabled; enable it or choose another one",
                model.name
            ))),
            None => Err(Error::not_found(format!("{}@{number}", model.name))),
        }
    }

    fn check_inputs(&self, parent: &Parent, uris: &[String]) -> Result<()> {
        if uris.is_empty() || uris.len() > URIS_MAX {
            return Err(Error::invalid(format!(
                "a job reads from 1 to {URIS_MAX} addresses, not {}",
                uris.len()
            )));
        }
        let storage = self.control.storage(&parent.project);
        for uri in uris {
            let fixed = uri.split_once('*').map_or(uri.as_str(), |(before, _)| before);
            storage.check_reachable(&ObjectUri::parse_prefix(fixed)?)?;
        }
        Ok(())
    }
}

fn blank(
    parent: &Parent,
    collection: JobCollection,
    display_name: String,
    labels: BTreeMap<String, String>,
    kind: JobKind,
) -> Result<Job> {
    let now = Timestamp::now();
    Ok(Job {
        name: parent.child(collection.as_str(), &fresh_id()?),
        display_name,
        labels,
        state: JobState::Pending,
        kind,
        error: None,
        cancel_requested: false,
        attempts: 0,
        crashes: 0,
        create_time: now,
        start_time: None,
        end_time: None,
        update_time: now,
        etag: String::new(),
    })
}

/// The last segment of a job's name.
fn job_id(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The files that the batch of requests `job` leaves: of answers, and of errors.
fn files_of(job: &str) -> Result<[String; 2]> {
    let (parent, _) = Parent::split(job)?;
    Ok(["answers", "errors"].map(|what| parent.child("files", &format!("{}-{what}", job_id(job)))))
}

/// The operation that ends with an evaluation job has the job's id.
fn operation_name(model: &str, job: &str) -> String {
    format!("{model}/operations/{}", job_id(job))
}
