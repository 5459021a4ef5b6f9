//! [`Context`]: what a worker has in hand for one job.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;

use super::job_id;
use super::meters::{Meters, commit};
use crate::name::project_in;
use crate::storage::{Storage, failed};
use crate::{Control, Error, ErrorCode, Job, JobKind, Result, Version, fault};

/// What a worker has in hand for one job. Its methods block: workers have threads of their own.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) control: Control,
    pub(super) runtime: Handle,
    /// The job as it was when taken up.
    pub(super) job: Job,
    pub(super) signals: Arc<Signals>,
    pub(super) meters: Meters,
}

/// What a worker is told while it works.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// The client asked to stop the job.
    pub(super) cancelled: AtomicBool,
    /// The process ends; the job goes on in the next one.
    pub(super) stopping: AtomicBool,
}

impl Context {
    /// Whether the job is to stop.
    ///
    /// # Errors
    /// `Cancelled`, or `Unavailable` when the process ends.
    pub(super) fn check(&self) -> Result<()> {
        if self.signals.cancelled.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorCode::Cancelled, "cancelled on request"));
        }
        if self.signals.stopping.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorCode::Unavailable, "the server is being stopped"));
        }
        Ok(())
    }

    /// The error with which a job is left to another process, for the reason `message`.
    pub(super) fn leave(&self, message: impl Into<String>) -> Error {
        self.signals.stopping.store(true, Ordering::Relaxed);
        Error::new(ErrorCode::Unavailable, message)
    }

    /// Changes what the job's row says of its particular work. With `checkpoint`, work has been done that
    /// a crash will not undo: what it took is written down with it.
    pub(super) fn update(&self, checkpoint: bool, mut change: impl FnMut(&mut JobKind)) -> Result<()> {
        let meters = checkpoint.then_some(&self.meters);
        self.runtime.block_on(self.commit(meters, |job| {
            change(&mut job.kind);
            if checkpoint {
                job.crashes = 0;
            }
        }))
    }

    /// Writes down what was taken, where a crash will undo the work and not that it was done.
    pub(super) fn write_down(&self) -> Result<()> {
        self.runtime.block_on(self.commit(Some(&self.meters), |_| {}))
    }

    /// Changes the job's row, within async work of the job.
    pub(super) async fn note(&self, change: impl FnMut(&mut Job)) -> Result<()> {
        self.commit(None, change).await
    }

    async fn commit(&self, meters: Option<&Meters>, change: impl FnMut(&mut Job)) -> Result<()> {
        fault::step().map_err(|e| failed("noting a checkpoint", e))?;
        commit(&self.control, &self.job.name, meters, change).await?;
        self.control.runner().changed();
        Ok(())
    }

    /// Objects by address, as the job's project sees them.
    pub(super) fn storage(&self) -> Storage {
        storage_of(&self.control, &self.job.name)
    }

    /// The directory for the job's unfinished work. Removed once the job has ended.
    pub(super) fn staging(&self) -> PathBuf {
        staging(&self.control, &self.job.name)
    }

    /// The version `number` of `model`.
    pub(super) fn version(&self, model: &str, number: u32) -> Result<Version> {
        let (model, _) = self.runtime.block_on(self.control.models().get(model))?;
        let name = format!("{}@{number}", model.name);
        model
            .versions
            .into_iter()
            .find(|version| version.number == number)
            .ok_or_else(|| Error::not_found(name))
    }
}

/// Objects by address, as the project of the resource `name` sees them.
pub(super) fn storage_of(control: &Control, name: &str) -> Storage {
    control.storage(project_in(name))
}

/// Where the job `name` keeps its unfinished work.
pub(super) fn staging(control: &Control, name: &str) -> PathBuf {
    control.options().data_dir.join("jobs").join(job_id(name))
}
