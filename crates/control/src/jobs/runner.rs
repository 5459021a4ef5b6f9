//! [`Runner`]: the queue of jobs and the workers that take them up.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};

use super::context::{Context, Signals, staging, storage_of};
use super::meters::{ATTEMPTS_MAX, Dues, Meters, commit, contended, overtaken};
use super::{CRASHES_MAX, JobCollection, JobOptions, files_of, operation_name, pipeline};
use super::{batch, evaluation, pull, requests, training};
use crate::control::WeakControl;
use crate::operation::OperationResult;
use crate::room::Room;
use crate::storage::failed;
use crate::store::{self, Write};
use crate::{
    Control, Error, ErrorCode, Job, JobError, JobKind, JobState, Operation, Result, Timestamp, fault,
};

/// The queue of jobs, an image of what the metadata store holds, and the signals to running ones.
#[derive(Debug)]
pub(crate) struct Runner {
    state: Mutex<State>,
    /// Something was put in the queue.
    wake: Notify,
    /// Counts changes of jobs, for those who wait for one.
    changes: watch::Sender<u64>,
    /// Requests of batches that may be with the models at once.
    requests: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<String>,
    running: HashMap<String, Arc<Signals>>,
    stopping: bool,
}

/// What a job that has succeeded leaves in the metadata, in the commit that ends it.
pub(super) struct Done {
    /// How it ended.
    pub(super) state: JobState,
    /// The job's particular part in its final form.
    pub(super) kind: JobKind,
    /// Resources that appear with it.
    pub(super) writes: Vec<Write>,
    /// What came of it, for the operation that waits for it.
    pub(super) result: Option<OperationResult>,
    /// Room for files that appear with it, held until they do.
    pub(super) _room: Option<Room>,
}

/// Which jobs a worker takes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    /// Pulls, which wait for the network.
    Pulls,
    /// Batches of requests, which wait for the models.
    Requests,
    /// All others, which take processors.
    Work,
}

impl Lane {
    /// Whether the job `name` is in this lane.
    fn has(self, name: &str) -> bool {
        let collection = name.rsplit('/').nth(1);
        let own = if collection == Some(JobCollection::Pull.as_str()) {
            Lane::Pulls
        } else if collection == Some(JobCollection::Requests.as_str()) {
            Lane::Requests
        } else {
            Lane::Work
        };
        self == own
    }
}

impl Done {
    /// The end of a job in `state`, with nothing else to write.
    pub(super) fn new(state: JobState, kind: JobKind) -> Done {
        Done { state, kind, writes: Vec::new(), result: None, _room: None }
    }
}

impl Runner {
    pub(crate) fn new(options: &JobOptions) -> Self {
        let requests = Arc::new(Semaphore::new(options.requests.max(1)));
        Runner { state: Mutex::default(), wake: Notify::new(), changes: watch::Sender::new(0), requests }
    }

    /// Requests of batches that may be with the models at once.
    pub(super) fn requests(&self) -> &Arc<Semaphore> {
        &self.requests
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up what a dead process left, removes what nobody needs any more, and sets the workers to work.
    /// Called once, when everything that jobs use is there.
    pub(crate) async fn start(control: &Control) -> Result<()> {
        let runner = control.runner();
        let mut jobs = store::list_all::<Job>(control.store(), None).await?;
        jobs.retain(|job| !job.state.is_final());
        jobs.sort_by_key(|job| (job.create_time, job.name.clone()));
        clear_staging(control, &jobs)?;
        runner.state().queue = jobs.into_iter().map(|job| job.name).collect();
        let options = &control.options().jobs;
        let (pulls, batches) =
            if options.slots == 0 { (0, 0) } else { (options.pulls, options.request_batches) };
        for (lane, workers) in [(Lane::Work, options.slots), (Lane::Pulls, pulls), (Lane::Requests, batches)]
        {
            for _ in 0..workers {
                tokio::spawn(work(runner.clone(), control.downgrade(), lane));
            }
        }
        Ok(())
    }

    /// Jobs that wait or run.
    pub(super) fn unfinished(&self) -> usize {
        let state = self.state();
        state.queue.len() + state.running.len()
    }

    /// Puts a job that has been written down in the queue.
    pub(super) fn enqueue(&self, name: &str) {
        self.state().queue.push_back(name.to_owned());
        // Whose lane it is in is not known to those who sleep.
        self.wake.notify_waiters();
        self.changed();
    }

    /// Tells those who wait that some job has changed.
    pub(super) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Becomes ready whenever some job changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Asks running jobs to stop where they are, to go on in the next process. Takes up no others.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.stopping = true;
        state.running.values().for_each(|signals| signals.stopping.store(true, Ordering::Relaxed));
        drop(state);
        self.wake.notify_waiters();
    }

    /// As [`Runner::close`], and waits until they have stopped.
    pub(super) async fn stop(&self) {
        let mut changes = self.changes();
        self.close();
        while !self.state().running.is_empty() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// See [`super::Jobs::cancel`].
    pub(super) async fn cancel(&self, control: &Control, name: &str) -> Result<()> {
        let job: Job = store::get(control.store(), name).await?;
        if job.state.is_final() {
            return Ok(());
        }
        let job = store::modify::<Job>(control.store(), name, None, |job| {
            job.cancel_requested |= !job.state.is_final();
            if let JobKind::Requests(batch) = &mut job.kind {
                batch.cancelling_since.get_or_insert(Timestamp::now());
            }
            Ok(Vec::new())
        })
        .await?;
        // What an earlier process has answered of a batch is kept: a worker ends it.
        let begun = matches!(&job.kind, JobKind::Requests(batch) if batch.checkpoint.is_some());
        let waiting = {
            let mut state = self.state();
            if let Some(signals) = state.running.get(name) {
                signals.cancelled.store(true, Ordering::Relaxed);
            }
            let before = state.queue.len();
            state.queue.retain(|queued| queued != name);
            let waiting = before != state.queue.len();
            if waiting && begun {
                state.queue.push_front(name.to_owned());
            }
            waiting && !begun
        };
        if waiting {
            // Taken up at once, whatever waits before it, to be ended as cancelled.
            let cancelled = Error::new(ErrorCode::Cancelled, "cancelled on request");
            end(control, name, Err(cancelled), None).await?;
        }
        self.changed();
        Ok(())
    }

    /// The next job to take up; `None` when the process ends.
    async fn next(&self, lane: Lane) -> Option<(String, Arc<Signals>)> {
        loop {
            let woken = self.wake.notified();
            {
                let mut state = self.state();
                if state.stopping {
                    return None;
                }
                let place = state.queue.iter().position(|name| lane.has(name));
                if let Some(name) = place.and_then(|place| state.queue.remove(place)) {
                    let signals = Arc::new(Signals::default());
                    state.running.insert(name.clone(), signals.clone());
                    return Some((name, signals));
                }
            }
            woken.await;
        }
    }

    fn leave(&self, name: &str) {
        self.state().running.remove(name);
        self.changed();
    }
}

/// One worker: takes up jobs until the process ends. While it waits it does not keep the data directory open.
async fn work(runner: Arc<Runner>, control: WeakControl, lane: Lane) {
    while let Some((name, signals)) = runner.next(lane).await {
        let Some(control) = control.upgrade() else { return };
        if let Err(error) = run(&control, &name, signals).await {
            tracing::error!(job = %name, %error, cause = ?error.source, "a job could not be ended; it is taken up at the next start");
        }
        runner.leave(&name);
    }
}

async fn run(control: &Control, name: &str, signals: Arc<Signals>) -> Result<()> {
    let job = match claim(control, name).await {
        Ok(Some(job)) => job,
        // Deleted or ended meanwhile.
        Ok(None) => return Ok(()),
        Err(error) if error.code == ErrorCode::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if job.cancel_requested {
        signals.cancelled.store(true, Ordering::Relaxed);
    }
    tracing::info!(job = %name, attempt = job.attempts, "a job begins");
    let meters = Meters::of(control, &job).await?;
    let context = Context {
        control: control.clone(),
        runtime: Handle::current(),
        job,
        signals: signals.clone(),
        meters: meters.clone(),
    };
    let outcome = if context.job.crashes > CRASHES_MAX {
        Err(given_up(&context.job))
    } else {
        on_thread(context.clone()).await
    };
    if signals.stopping.load(Ordering::Relaxed) && outcome.is_err() {
        // What a training took is taken, though it begins anew; rows since the last checkpoint are predicted again.
        let taken = matches!(context.job.kind, JobKind::Training(_)).then_some(&meters);
        return put_back(control, name, taken).await;
    }
    end(control, name, outcome, Some(&meters)).await
}

/// Notes that the job has been taken up. From here on until its next checkpoint, a death of the process
/// counts as a crash by this job.
async fn claim(control: &Control, name: &str) -> Result<Option<Job>> {
    let mut ended = false;
    fault::step().map_err(|e| failed("taking up a job", e))?;
    let job = store::modify::<Job>(control.store(), name, None, |job| {
        ended = job.state.is_final();
        if !ended {
            job.state = JobState::Running;
            job.attempts += 1;
            job.crashes += 1;
            job.start_time = job.start_time.or_else(|| Some(Timestamp::now()));
        }
        Ok(Vec::new())
    })
    .await?;
    control.runner().changed();
    Ok((!ended).then_some(job))
}

fn given_up(job: &Job) -> Error {
    Error::new(
        ErrorCode::Internal,
        format!(
            "the server died {CRASHES_MAX} times while it worked on this job, so it is not taken up again; the \
             server's log has the causes (often: not enough memory). Attempts in all: {}",
            job.attempts - 1
        ),
    )
}

/// Gives a job back to the queue of the next process, and writes down what was `taken`.
async fn put_back(control: &Control, name: &str, taken: Option<&Meters>) -> Result<()> {
    let change = |job: &mut Job| {
        if !job.state.is_final() {
            job.state = JobState::Pending;
            job.crashes = job.crashes.saturating_sub(1);
        }
    };
    commit(control, name, taken, change).await.map(|_| ())
}

/// Does the particular work on a thread of its own. A panic there is an error here.
async fn on_thread(context: Context) -> Result<Done> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let spawned = std::thread::Builder::new().name("job".to_owned()).spawn(move || {
        pipeline::lower_priority();
        let outcome = match &context.job.kind {
            JobKind::Batch(job) => batch::run(&context, job),
            JobKind::Training(job) => training::run(&context, job),
            JobKind::Evaluation(job) => evaluation::run(&context, job),
            JobKind::Pull(job) => pull::run(&context, job),
            JobKind::Requests(batch) => requests::run(&context, batch),
        };
        // Nobody waits for it only when the process ends.
        let _ = sender.send(outcome);
    });
    spawned.map_err(|e| Error::internal("starting a thread for the job", e))?;
    let defect = "a defect stopped the job; the server's log has the cause";
    receiver.await.unwrap_or_else(|_| Err(Error::new(ErrorCode::Internal, defect)))
}

/// Ends a job: its state, what it publishes, what it has taken and the operation that waits for it, in one commit.
async fn end(control: &Control, name: &str, outcome: Result<Done>, taken: Option<&Meters>) -> Result<()> {
    if let Err(error) = &outcome {
        tracing::warn!(job = %name, %error, cause = ?error.source, "a job ends without success");
        withdraw(control, name).await;
        let _ = std::fs::remove_dir_all(staging(control, name));
    }
    fault::step().map_err(|e| failed("ending a job", e))?;
    for _ in 0..ATTEMPTS_MAX {
        let mut job: Job = store::get(control.store(), name).await?;
        if job.state.is_final() {
            return Ok(());
        }
        let mut writes = finish(&mut job, &outcome);
        writes.extend(operation_write(control, &job, &outcome).await?);
        writes.extend(control.files().release(name).await?);
        let dues = match taken {
            Some(meters) => meters.due(control).await?,
            None => Dues::default(),
        };
        writes.extend(dues.writes.iter().cloned());
        writes.push(store::update(&mut job)?);
        match control.store().commit(writes).await {
            Ok(()) => {
                dues.written();
                fault::step().map_err(|e| failed("ending a job", e))?;
                // Needed until here: had the commit failed, the next process would publish again.
                let _ = std::fs::remove_dir_all(staging(control, name));
                control.runner().changed();
                tracing::info!(job = %name, state = ?job.state, "a job has ended");
                return Ok(());
            }
            Err(error) if overtaken(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(contended(name))
}

/// Sets the final state and gives what is to be written beside it.
fn finish(job: &mut Job, outcome: &Result<Done>) -> Vec<Write> {
    job.end_time = Some(Timestamp::now());
    match outcome {
        Ok(done) => {
            job.state = done.state;
            job.kind = done.kind.clone();
            job.crashes = 0;
            done.writes.clone()
        }
        Err(error) => {
            let cancelled = error.code == ErrorCode::Cancelled;
            job.state = if cancelled { JobState::Cancelled } else { JobState::Failed };
            job.error = Some(JobError::from(error));
            match &mut job.kind {
                JobKind::Batch(batch) => (batch.output_directory, batch.checkpoint) = (None, None),
                JobKind::Requests(batch) => batch.checkpoint = None,
                JobKind::Training(_) | JobKind::Evaluation(_) | JobKind::Pull(_) => {}
            }
            Vec::new()
        }
    }
}

/// Ends the operation that waits for the job, if there is one.
async fn operation_write(control: &Control, job: &Job, outcome: &Result<Done>) -> Result<Option<Write>> {
    let name = match &job.kind {
        JobKind::Evaluation(evaluation) => operation_name(&evaluation.model, &job.name),
        JobKind::Pull(_) => pull::operation_name(job)?,
        JobKind::Training(_) | JobKind::Batch(_) | JobKind::Requests(_) => return Ok(None),
    };
    let mut operation: Operation = match store::get(control.store(), &name).await {
        Ok(operation) => operation,
        // The client has deleted it.
        Err(error) if error.code == ErrorCode::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    operation.done = true;
    operation.progress_percent = 100;
    if let JobKind::Pull(pull) = &job.kind {
        operation.transfer = Some(pull.transfer.clone());
    }
    operation.outcome = match outcome {
        Ok(done) => done.result.clone().map(Ok),
        Err(error) => Some(Err(JobError::from(error))),
    };
    store::update(&mut operation).map(Some)
}

/// Takes back what an unsuccessful job may have published. A failure is logged: it must not keep the job
/// from ending.
async fn withdraw(control: &Control, name: &str) {
    let Ok(job) = store::get::<Job>(control.store(), name).await else { return };
    let withdrawn = match &job.kind {
        JobKind::Batch(batch) => batch::withdraw(&storage_of(control, name), batch).await,
        JobKind::Requests(_) => {
            files_of(name).map(|files| files.iter().for_each(|file| control.files().disown(file)))
        }
        JobKind::Training(_) | JobKind::Evaluation(_) | JobKind::Pull(_) => Ok(()),
    };
    if let Err(error) = withdrawn {
        tracing::error!(job = %name, %error, "output of an unsuccessful job could not be removed");
    }
}

/// Removes the unfinished work of jobs that are not among `unfinished`.
fn clear_staging(control: &Control, unfinished: &[Job]) -> Result<()> {
    let clearing = |e| failed("clearing the directory of unfinished jobs", e);
    let root = control.options().data_dir.join("jobs");
    std::fs::create_dir_all(&root).map_err(clearing)?;
    let needed: HashSet<_> = unfinished.iter().map(|job| staging(control, &job.name)).collect();
    for entry in std::fs::read_dir(&root).map_err(clearing)? {
        let path = entry.map_err(clearing)?.path();
        if !needed.contains(&path) {
            std::fs::remove_dir_all(&path).map_err(clearing)?;
        }
    }
    Ok(())
}
