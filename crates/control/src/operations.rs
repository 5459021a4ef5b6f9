//! [`Operations`]: work that can be waited on by name.
//!
//! Quick work is done within the call that asks for it. What takes longer goes on behind a durable row;
//! how many may go on at once is bounded. A row that a dead process left open ends as aborted, unless a
//! durable job does the work: the job ends its operation in the commit that ends itself.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinError, JoinHandle};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::name::fresh_id;
use crate::store::{Kind, Record, get, list_all, modify};
use crate::{
    Control, Error, ErrorCode, JobError, JobKind, ListQuery, Operation, OperationKind, OperationResult, Page,
    Parent, Result, Timestamp,
};

/// How long a call waits for its work before it answers with an open operation.
const INLINE: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 2000 });
/// Operations that may work at once.
const CONCURRENT_MAX: usize = 64;
/// The longest that one call waits for an operation.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// How often an operation that a job does, or another process, is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Ended operations are forgotten after so many hours.
const KEPT_HOURS: i64 = 30 * 24;

/// Work that can be waited on. Get one from [`Control::operations`].
#[derive(Clone)]
pub struct Operations {
    control: Control,
}

/// The operations that work in this process now.
pub(crate) struct Running {
    permits: Arc<Semaphore>,
    tasks: Mutex<HashMap<String, Task>>,
}

struct Task {
    progress: Progress,
    abort: AbortHandle,
    /// Closed when the outcome is in the store.
    ended: watch::Receiver<()>,
}

/// How far an operation is; its work tells, whoever reads it sees.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress(Arc<AtomicU32>);

impl Progress {
    /// Tells that `percent` of the work is done.
    pub(crate) fn set(&self, percent: u32) {
        self.0.store(percent.min(100), Ordering::Relaxed);
    }

    fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Running {
    fn default() -> Self {
        Running { permits: Arc::new(Semaphore::new(CONCURRENT_MAX)), tasks: Mutex::default() }
    }
}

impl Running {
    fn tasks(&self) -> MutexGuard<'_, HashMap<String, Task>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record for Operation {
    const KIND: Kind = Kind::Operation;

    fn name(&self) -> &str {
        &self.name
    }

    fn parent(&self) -> String {
        Parent::split(&self.name).map(|(parent, _)| parent.to_string()).unwrap_or_default()
    }

    fn etag(&self) -> &str {
        &self.etag
    }

    fn created(&self) -> Timestamp {
        self.create_time
    }

    fn stamp(&mut self, etag: String, now: Timestamp) {
        (self.etag, self.update_time) = (etag, now);
    }
}

impl Operation {
    fn open(kind: OperationKind, target: &str) -> Result<Self> {
        let now = Timestamp::now();
        Ok(Operation {
            name: format!("{target}/operations/{}", fresh_id()?),
            target: target.to_owned(),
            kind,
            done: false,
            outcome: None,
            progress_percent: 0,
            job: None,
            transfer: None,
            create_time: now,
            update_time: now,
            etag: String::new(),
        })
    }

    fn end(&mut self, outcome: std::result::Result<OperationResult, JobError>) {
        if outcome.is_ok() {
            self.progress_percent = 100;
        }
        (self.done, self.outcome) = (true, Some(outcome));
    }
}

impl Operations {
    pub(crate) fn new(control: Control) -> Self {
        Operations { control }
    }

    /// Does `work` on `target`. If it is done soon, so is the operation returned, and an error of the work
    /// is the call's own; otherwise the work goes on behind the operation's name.
    ///
    /// Once begun, the work goes on even if the caller leaves; cancelling it drops its future at an await.
    ///
    /// # Errors
    /// The work's own; [`ErrorCode::ResourceExhausted`] if too much is going on.
    pub(crate) async fn start<F>(
        &self,
        kind: OperationKind,
        target: &str,
        work: impl FnOnce(Progress) -> F,
    ) -> Result<Operation>
    where
        F: Future<Output = Result<OperationResult>> + Send + 'static,
    {
        let running = self.control.running();
        let Ok(permit) = Arc::clone(&running.permits).try_acquire_owned() else {
            return Err(Error::new(
                ErrorCode::ResourceExhausted,
                format!(
                    "{CONCURRENT_MAX} operations are going on already; wait for one to end and try again"
                ),
            ));
        };
        let mut operation = Operation::open(kind, target)?;
        let progress = Progress::default();
        let work = work(progress.clone());
        let mut task = tokio::spawn(async move {
            let _permit = permit;
            work.await
        });
        match timeout(INLINE, &mut task).await {
            Ok(ended) => {
                operation.end(Ok(flatten(ended)?));
                let write = operation.insert()?;
                // What was asked for is done: not to be able to note it is no reason to deny it.
                if let Err(error) = self.control.store().commit(vec![write]).await {
                    tracing::warn!(%error, operation = operation.name, "an operation that ended was not noted");
                }
                Ok(operation)
            }
            Err(_) => self.detach(operation, progress, task).await,
        }
    }

    /// Notes an operation whose work takes long and lets it go on.
    async fn detach(
        &self,
        mut operation: Operation,
        progress: Progress,
        task: JoinHandle<Result<OperationResult>>,
    ) -> Result<Operation> {
        operation.progress_percent = progress.get();
        let write = operation.insert()?;
        if let Err(error) = self.control.store().commit(vec![write]).await {
            task.abort();
            return Err(error.into());
        }
        let (ending, ended) = watch::channel(());
        let name = operation.name.clone();
        let entry = Task { progress, abort: task.abort_handle(), ended };
        self.control.running().tasks().insert(name.clone(), entry);
        let control = self.control.clone();
        tokio::spawn(async move {
            let outcome = flatten(task.await);
            if let Err(error) = &outcome {
                tracing::info!(operation = name, %error, cause = ?error.source, "an operation failed");
            }
            control.operations().note_end(&name, outcome).await;
            control.running().tasks().remove(&name);
            drop(ending);
        });
        Ok(operation)
    }

    async fn note_end(&self, name: &str, outcome: Result<OperationResult>) {
        let outcome = outcome.map_err(|error| JobError::from(&error));
        let mut pause = LOOK;
        loop {
            let noted = modify::<Operation>(self.control.store(), name, None, |operation| {
                operation.end(outcome.clone());
                Ok(Vec::new())
            });
            match noted.await {
                Ok(_) => return,
                Err(error) if error.code == ErrorCode::NotFound => return,
                Err(error) => {
                    tracing::error!(operation = name, %error, "the end of an operation is not noted yet")
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(30));
        }
    }

    /// Ends what a dead process left open, and forgets what ended long ago.
    pub(crate) async fn recover(&self) -> Result<()> {
        let now = Timestamp::now();
        for mut operation in list_all::<Operation>(self.control.store(), None).await? {
            let age_hours = now.duration_since(operation.update_time).as_hours();
            let write = if operation.done && age_hours > KEPT_HOURS {
                operation.delete()
            } else if !operation.done && operation.job.is_none() {
                operation.end(Err(JobError {
                    code: ErrorCode::Aborted,
                    message: "the server stopped before this was done; ask for it again".to_owned(),
                }));
                crate::store::update(&mut operation)?
            } else {
                continue;
            };
            self.control.store().commit(vec![write]).await?;
        }
        Ok(())
    }

    /// The operation `name`.
    ///
    /// # Errors
    /// If there is none.
    pub async fn get(&self, name: &str) -> Result<Operation> {
        check_name(name)?;
        self.current(get(self.control.store(), name).await?).await
    }

    /// The operation as it is now, rather than as it was last noted.
    async fn current(&self, mut operation: Operation) -> Result<Operation> {
        if operation.done {
            return Ok(operation);
        }
        if let Some(task) = self.control.running().tasks().get(&operation.name) {
            operation.progress_percent = task.progress.get();
        }
        if operation.kind == OperationKind::PullModel
            && let Some(job) = &operation.job
            && let JobKind::Pull(pull) = self.control.jobs().get(job).await?.kind
        {
            operation.progress_percent = pull.transfer.percent();
            operation.transfer = Some(pull.transfer);
        }
        Ok(operation)
    }

    /// Operations in `parent`, on whatever resource.
    ///
    /// # Errors
    /// If the query is malformed.
    pub async fn list(&self, parent: &Parent, query: &ListQuery) -> Result<Page<Operation>> {
        let parent = parent.to_string();
        let operations = list_all::<Operation>(self.control.store(), Some(&parent)).await?;
        let page = query.page(&format!("{parent}/operations"), operations, |o| (o.name.clone(), o.view()))?;
        let mut items = Vec::with_capacity(page.items.len());
        for operation in page.items {
            items.push(self.current(operation).await?);
        }
        Ok(Page { items, next_page_token: page.next_page_token })
    }

    /// The operation `name` once it is done, or as it is after `timeout` (10 minutes at most).
    ///
    /// # Errors
    /// If there is none.
    pub async fn wait(&self, name: &str, timeout: Duration) -> Result<Operation> {
        let deadline = Instant::now() + timeout.min(WAIT_MAX);
        loop {
            let operation = self.get(name).await?;
            if operation.done || Instant::now() >= deadline {
                return Ok(operation);
            }
            let ended = self.control.running().tasks().get(name).map(|task| task.ended.clone());
            match ended {
                // Never sent to, only closed: an error is the end.
                Some(mut ended) => drop(timeout_at(deadline, ended.changed()).await),
                None => sleep(LOOK.min(deadline - Instant::now())).await,
            }
        }
    }

    /// Asks the operation `name` to stop. It may still succeed; read it to know.
    ///
    /// # Errors
    /// If there is none.
    pub async fn cancel(&self, name: &str) -> Result<()> {
        let operation = self.get(name).await?;
        if operation.done {
            return Ok(());
        }
        if let Some(job) = &operation.job {
            return self.control.jobs().cancel(job).await;
        }
        if let Some(task) = self.control.running().tasks().get(name) {
            task.abort.abort();
        }
        Ok(())
    }

    /// Forgets the operation `name`; what it made stays.
    ///
    /// # Errors
    /// If there is none, or it is not done.
    pub async fn delete(&self, name: &str) -> Result<()> {
        let operation = self.get(name).await?;
        if !operation.done {
            return Err(Error::precondition(format!(
                "{name} is still going on; cancel it, or wait for it to end"
            )));
        }
        Ok(self.control.store().commit(vec![operation.delete()]).await?)
    }
}

fn check_name(name: &str) -> Result<()> {
    let form = "projects/{project}/locations/{location}/{…}/operations/{operation}";
    match Parent::split(name) {
        Ok((_, rest)) if rest.starts_with("operations/") || rest.contains("/operations/") => Ok(()),
        _ => Err(Error::invalid(format!("{name:?} is not a name of the form `{form}`"))),
    }
}

/// A task's result; a panic or an abort is an error of its own.
fn flatten(ended: std::result::Result<Result<OperationResult>, JoinError>) -> Result<OperationResult> {
    match ended {
        Ok(result) => result,
        Err(error) if error.is_cancelled() => Err(Error::new(ErrorCode::Cancelled, "cancelled on request")),
        Err(error) => Err(Error::internal("doing an operation", error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use tokio::sync::Notify;

    use super::*;
    use crate::control::tests::open;

    const TARGET: &str = "projects/p/locations/l/models/m";
    const LONG: Duration = Duration::from_secs(30);

    /// Starts an operation that ends when told to.
    async fn slow(control: &Control, release: &Arc<Notify>) -> Operation {
        let release = release.clone();
        let work = move |progress: Progress| async move {
            progress.set(40);
            release.notified().await;
            Ok(OperationResult::Deleted)
        };
        control.operations().start(OperationKind::DeleteModel, TARGET, work).await.unwrap()
    }

    #[tokio::test]
    async fn long_work_goes_on_behind_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let control = open(directory.path()).await;
        let operations = control.operations();
        let release = Arc::new(Notify::new());
        let operation = slow(&control, &release).await;
        assert!(!operation.done);
        assert_eq!(operations.get(&operation.name).await.unwrap().progress_percent, 40);
        assert!(!operations.wait(&operation.name, Duration::from_millis(10)).await.unwrap().done);
        assert_eq!(operations.delete(&operation.name).await.unwrap_err().code, ErrorCode::FailedPrecondition);
        release.notify_one();
        let ended = operations.wait(&operation.name, LONG).await.unwrap();
        assert_eq!(ended.outcome, Some(Ok(OperationResult::Deleted)));
        assert_eq!(operations.get(&operation.name).await.unwrap(), ended);
    }

    #[tokio::test]
    async fn long_work_can_be_cancelled() {
        let directory = tempfile::tempdir().unwrap();
        let control = open(directory.path()).await;
        let operation = slow(&control, &Arc::new(Notify::new())).await;
        control.operations().cancel(&operation.name).await.unwrap();
        let ended = control.operations().wait(&operation.name, LONG).await.unwrap();
        assert!(matches!(ended.outcome, Some(Err(JobError { code: ErrorCode::Cancelled, .. }))), "{ended:?}");
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_leaves_no_trace() {
        let directory = tempfile::tempdir().unwrap();
        let control = open(directory.path()).await;
        let work = |_| async { panic!("poison") };
        let error = control.operations().start(OperationKind::DeleteModel, TARGET, work).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Internal);
        assert!(!error.message.contains("poison"));
    }

    #[tokio::test]
    async fn too_many_at_once_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let control = open(directory.path()).await;
        let release = Arc::new(Notify::new());
        let begun = (0..CONCURRENT_MAX).map(|_| slow(&control, &release));
        let begun = futures_util::future::join_all(begun).await;
        let work = |_| async { Ok(OperationResult::Deleted) };
        let refused = control.operations().start(OperationKind::DeleteModel, TARGET, work).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::ResourceExhausted);
        release.notify_waiters();
        for operation in begun {
            assert!(control.operations().wait(&operation.name, LONG).await.unwrap().done);
        }
        control.operations().start(OperationKind::DeleteModel, TARGET, work).await.unwrap();
    }

    #[tokio::test]
    async fn what_a_dead_process_left_open_ends_as_aborted() {
        let directory = tempfile::tempdir().unwrap();
        let control = open(directory.path()).await;
        let mut left = Operation::open(OperationKind::UploadModel, TARGET).unwrap();
        let mut tied = Operation {
            job: Some("job".into()),
            ..Operation::open(OperationKind::EvaluateModel, TARGET).unwrap()
        };
        let mut old = Operation::open(OperationKind::DeleteModel, TARGET).unwrap();
        old.end(Ok(OperationResult::Deleted));
        let writes = vec![left.insert().unwrap(), tied.insert().unwrap(), old.insert().unwrap()];
        control.store().commit(writes).await.unwrap();
        control.operations().recover().await.unwrap();
        let ended = control.operations().get(&left.name).await.unwrap();
        let Some(Err(error)) = ended.outcome else { panic!("{ended:?}") };
        assert_eq!(error.code, ErrorCode::Aborted);
        assert!(!control.operations().get(&tied.name).await.unwrap().done);
        assert_eq!(control.operations().get(&old.name).await.unwrap(), old);
    }
}
