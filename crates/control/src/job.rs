//! What all durable jobs share: [`Job`], its [`JobState`], its [`JobKind`].
//!
//! A job is written down before it is begun. A process that dies leaves its jobs `Running`; the next
//! one takes them up again from their last checkpoint. Whatever a job publishes appears once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::store::{Kind, Record};
use crate::{BatchJob, Error, EvaluationJob, PullJob, RequestBatch, Timestamp, TrainingJob};

/// A durable job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// `projects/{p}/locations/{l}/{collection}/{id}`; see [`crate::JobCollection`].
    pub name: String,
    /// What people call it.
    pub display_name: String,
    /// The owner's labels.
    pub labels: BTreeMap<String, String>,
    /// Where it stands.
    pub state: JobState,
    /// What it does, what it has done so far, and what came of it.
    pub kind: JobKind,
    /// Why it failed, for the client.
    pub error: Option<JobError>,
    /// The client asked to stop it; the worker sees this at its next checkpoint.
    pub cancel_requested: bool,
    /// How many times a process has taken it up.
    pub attempts: u32,
    /// How many of the last attempts in a row ended with the process, without a checkpoint reached.
    #[serde(default)]
    pub crashes: u32,
    /// When it was asked for.
    pub create_time: Timestamp,
    /// When a worker first took it up.
    pub start_time: Option<Timestamp>,
    /// When it reached a final state.
    pub end_time: Option<Timestamp>,
    /// When it last changed.
    pub update_time: Timestamp,
    /// Changes with every write.
    pub etag: String,
}

/// Where a job stands. The last three are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waiting for a worker.
    Pending,
    /// A worker has it, or had it when the process died.
    Running,
    /// Done; its output is whole, or as much of it as there was time for.
    Succeeded,
    /// It could not be done; see [`Job::error`]. It left no output.
    Failed,
    /// Stopped on request. It left no output, save a batch of requests what it had answered.
    Cancelled,
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// What kind of error, as [`crate::Error`] classifies it.
    pub code: crate::ErrorCode,
    /// What happened and what to do, for the client.
    pub message: String,
}

/// The particular work of a [`Job`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Trains a model and registers it.
    Training(TrainingJob),
    /// Predicts every row of some objects.
    Batch(BatchJob),
    /// Measures a version on labelled rows.
    Evaluation(EvaluationJob),
    /// Fetches a model's file and registers it.
    Pull(PullJob),
    /// Answers every request of a file.
    Requests(RequestBatch),
}

impl JobState {
    /// Whether the job will not change any more.
    pub fn is_final(self) -> bool {
        matches!(self, JobState::Succeeded | JobState::Failed | JobState::Cancelled)
    }
}

impl From<&Error> for JobError {
    fn from(error: &Error) -> Self {
        JobError { code: error.code, message: error.message.clone() }
    }
}

impl Record for Job {
    const KIND: Kind = Kind::Job;

    fn name(&self) -> &str {
        &self.name
    }

    fn etag(&self) -> &str {
        &self.etag
    }

    fn created(&self) -> Timestamp {
        self.create_time
    }

    fn stamp(&mut self, etag: String, now: Timestamp) {
        self.etag = etag;
        self.update_time = now;
    }
}
