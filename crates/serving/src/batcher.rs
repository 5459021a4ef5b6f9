//! [`Batcher`]: admission and dynamic batching for one deployed model.
//!
//! A request enters a bounded queue. The first one to find nobody gathering becomes the **leader**: it runs
//! everything that is queued as one batch, its own rows among them, and hands the results out; the others
//! wait. A model that is cheap so far is run right there on the leader's async thread, because a hand-off to
//! another thread would cost more than the model; if it is not among the very cheapest, the tasks that are ready
//! on that thread get one turn before, so that they can join. One of a few milliseconds is run there too, once the
//! runtime has given that thread's other tasks to another; an expensive one on the model threads. Nobody waits for a
//! batch to fill: a lone request runs at once.
//!
//! Invariant: while the queue holds requests, somebody gathers, or a batch is running whose runner will
//! look at the queue again.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tensor::Tensors;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::error::Elapsed;
use tokio::time::timeout_at;

use crate::cost::Cost;
use crate::counters::{Counters, bump};
use crate::error::ServeError;
use crate::model::Model;
use crate::pool::Pool;
use crate::rows::{byte_count, join, joinable, row_count};
use crate::runtime::RuntimeError;

/// How long a leading task may take to run before others stop relying on it.
const PATIENCE: Duration = Duration::from_millis(2);

/// A batch that is expected to take no longer may run on the thread of its leader, whose other tasks go on elsewhere.
const IN_PLACE_MAX: Duration = Duration::from_millis(5);

/// A model that takes less is run for each request alone: waiting for others would cost more than it saves.
const SHARING_MIN: Duration = Duration::from_micros(10);

/// What a batcher runs: a model, seen as rows in, rows out.
pub(crate) trait Run: Send + Sync + 'static {
    /// Predicts all rows; every output has as many rows as the inputs.
    fn run(&self, inputs: &Tensors) -> Result<Tensors, RuntimeError>;

    /// Whether it can be run at once, without a load before.
    fn is_ready(&self) -> bool {
        true
    }
}

/// Bounds of the queues and batches of each deployed model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests that may wait; further ones are refused as overloaded.
    pub queue_requests_max: usize,
    /// Bytes of inputs that may wait. A request that finds the queue empty is let in whatever its size.
    pub queue_bytes_max: usize,
    /// Rows that requests of different callers may form in one batch. A larger request runs by itself.
    pub batch_rows_max: usize,
    /// Batches of one deployed model that may run at the same time. The process has one model thread more, so that
    /// no model alone can hold up all others.
    pub lanes: usize,
    /// A batch expected to take no longer runs on the async thread of its leader.
    pub inline_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            queue_requests_max: 4096,
            queue_bytes_max: 256 << 20,
            batch_rows_max: 64,
            lanes: std::thread::available_parallelism().map_or(1, usize::from),
            inline_max: Duration::from_micros(100),
        }
    }
}

impl Limits {
    /// These limits for `model`, of which `concurrency` batches may run at once where that is fewer. Where rows together
    /// take as long as each by itself, requests run apart.
    pub(crate) fn of(self, model: &Model, concurrency: Option<NonZeroUsize>) -> Limits {
        Limits {
            batch_rows_max: if model.runs_apart() { 1 } else { self.batch_rows_max },
            lanes: concurrency.map_or(self.lanes, |most| most.get().min(self.lanes)),
            ..self
        }
    }
}

/// One caller's rows of a batch's outputs.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    pub(crate) outputs: Arc<Tensors>,
    pub(crate) range: Range<usize>,
}

pub(crate) struct Batcher {
    work: Arc<dyn Run>,
    pool: Arc<Pool>,
    limits: Limits,
    cost: Cost,
    pub(crate) counters: Arc<Counters>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Waiting requests, ascending by ticket.
    queue: VecDeque<Waiting>,
    rows: usize,
    bytes: usize,
    next_ticket: u64,
    /// Who has promised to take a batch.
    gathering: Gathering,
    /// Batches that run now.
    running: usize,
}

/// Who takes the next batch.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Gathering {
    #[default]
    Nobody,
    /// The leading request's task, since then.
    Task(Instant),
    /// A model thread, as soon as one is free.
    Thread,
}

struct Waiting {
    ticket: u64,
    inputs: Tensors,
    rows: usize,
    bytes: usize,
    since: Instant,
    deadline: Instant,
    reply: oneshot::Sender<Result<Rows, ServeError>>,
}

impl Batcher {
    pub(crate) fn new(
        work: Arc<dyn Run>,
        pool: Arc<Pool>,
        limits: Limits,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        Arc::new(Batcher { work, pool, limits, cost: Cost::default(), counters, state: Mutex::default() })
    }

    /// Requests that wait now.
    pub(crate) fn queued(&self) -> usize {
        self.lock().queue.len()
    }

    /// Batches that run now.
    pub(crate) fn running(&self) -> usize {
        self.lock().running
    }

    /// Predicts `inputs`, perhaps together with other callers' rows. Dropping the future withdraws the
    /// request.
    pub(crate) async fn predict(
        self: &Arc<Self>,
        inputs: Tensors,
        deadline: Instant,
    ) -> Result<Rows, ServeError> {
        let (mut ticket, lead) = self.enter(inputs, deadline)?;
        if let Some(lead) = lead {
            lead.run().await;
        }
        ticket.answer(deadline).await
    }

    fn enter(
        self: &Arc<Self>,
        inputs: Tensors,
        deadline: Instant,
    ) -> Result<(Ticket, Option<Lead>), ServeError> {
        let (rows, bytes, since) = (row_count(&inputs), byte_count(&inputs), Instant::now());
        let (reply, answer) = oneshot::channel();
        let mut state = self.lock();
        let full = state.queue.len() >= self.limits.queue_requests_max
            || state.bytes.saturating_add(bytes) > self.limits.queue_bytes_max;
        if full && !state.queue.is_empty() || self.limits.queue_requests_max == 0 {
            let waiting = state.rows;
            drop(state);
            bump(&self.counters.overloaded);
            return Err(ServeError::Overloaded { retry_after: self.retry_after(waiting) });
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.rows += rows;
        state.bytes += bytes;
        state.queue.push_back(Waiting { ticket, inputs, rows, bytes, since, deadline, reply });
        let lead = state.gathering == Gathering::Nobody && state.running < self.limits.lanes.max(1);
        if lead {
            state.gathering = Gathering::Task(since);
        }
        drop(state);
        let ticket = Ticket { batcher: self.clone(), number: ticket, answer, settled: false };
        Ok((ticket, lead.then(|| Lead { batcher: Some(self.clone()) })))
    }

    /// When those who wait now are likely to be done.
    fn retry_after(&self, waiting_rows: usize) -> Duration {
        let all = self.cost.estimate(waiting_rows).unwrap_or(Duration::from_secs(1));
        let lanes = u32::try_from(self.limits.lanes).unwrap_or(u32::MAX).max(1);
        (all / lanes).clamp(Duration::from_millis(50), Duration::from_secs(30))
    }

    /// Whether the next batch may run on an async thread.
    fn cheap(&self) -> bool {
        if !self.work.is_ready() {
            return false;
        }
        let rows = self.lock().rows;
        // A queue longer than a batch is cut into several; a single large request is not.
        self.cost.estimate(rows).is_some_and(|t| t <= self.limits.inline_max)
    }

    /// Whether the next batch may run on an async thread that hands its other tasks over: no thread is woken for the
    /// batch then, and none for its answer, which for a network of a millisecond is a tenth of its time.
    fn brief(&self) -> bool {
        let rows = self.lock().rows;
        let brief = self.cost.estimate(rows).is_some_and(|t| t <= IN_PLACE_MAX);
        brief && self.work.is_ready() && hands_over()
    }

    /// Runs the next batch right here, if the model threads have room for it. Where it is the only one in the process that
    /// runs so, another async thread looks after all else meanwhile; else this one's place is handed over, which costs
    /// two more turns of threads.
    fn run_in_place(self: &Arc<Self>) {
        let Some(leave) = self.pool.leave() else { return self.submit() };
        let Some(batch) = self.take() else { return };
        match leave.first && another_looks_on() {
            true => self.run_batch(batch),
            false => tokio::task::block_in_place(|| self.run_batch(batch)),
        }
        if self.finish() {
            self.submit();
        }
    }

    /// Whether a batch of several costs so much less than each alone that a turn for others is worth it.
    fn gains_by_sharing(&self) -> bool {
        self.cost.estimate(1).is_some_and(|t| t >= SHARING_MIN)
    }

    /// Ends a gathering: takes the oldest request and all that can share its batch. `None` if nobody waits
    /// any more, or as many run as may. Requests whose deadline has passed are answered so.
    fn take(self: &Arc<Self>) -> Option<Vec<Waiting>> {
        let now = Instant::now();
        let mut expired = Vec::new();
        let mut state = self.lock();
        state.gathering = Gathering::Nobody;
        // Two may have gathered: the runner of what runs looks at the queue again.
        if state.running >= self.limits.lanes.max(1) {
            return None;
        }
        let batch = state.take_batch(now, self.limits.batch_rows_max, &mut expired);
        if !batch.is_empty() {
            state.running += 1;
        }
        // What does not fit into this batch need not wait for its end.
        let more = !state.queue.is_empty() && state.running < self.limits.lanes.max(1);
        if more {
            state.gathering = Gathering::Thread;
        }
        drop(state);
        if more {
            self.submit();
        }
        for late in expired {
            bump(&self.counters.expired);
            late.answer(Err(ServeError::DeadlineExceeded));
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// Ends a batch. Returns whether requests wait that nobody else gathers: the caller then gathers.
    fn finish(&self) -> bool {
        let mut state = self.lock();
        state.running -= 1;
        let lead = !state.queue.is_empty() && state.gathering == Gathering::Nobody;
        if lead {
            state.gathering = Gathering::Thread;
        }
        lead
    }

    /// Gives the gathering to a model thread if the leading task was not run for a while, as when its future
    /// is kept without being polled.
    fn rescue(self: &Arc<Self>) {
        let mut state = self.lock();
        let stale = matches!(state.gathering, Gathering::Task(since) if since.elapsed() >= PATIENCE);
        if stale {
            state.gathering = Gathering::Thread;
        }
        drop(state);
        if stale {
            self.submit();
        }
    }

    /// Lets a model thread gather. Two may gather at a time: one of them finds nothing.
    fn submit(self: &Arc<Self>) {
        let batcher = self.clone();
        self.pool.submit(Box::new(move || {
            // One batch a turn, so that other deployed models get theirs.
            if let Some(batch) = batcher.take() {
                batcher.run_batch(batch);
                if batcher.finish() {
                    batcher.submit();
                }
            }
        }));
    }

    fn run_batch(&self, batch: Vec<Waiting>) {
        let began = Instant::now();
        let rows = batch.iter().map(|w| w.rows).sum();
        let result = match batch.as_slice() {
            [only] => self.guarded(&only.inputs, rows),
            all => join(&all.iter().map(|w| &w.inputs).collect::<Vec<_>>())
                .map_err(|e| RuntimeError::new(e.to_string()))
                .and_then(|inputs| self.guarded(&inputs, rows)),
        };
        let elapsed = began.elapsed();
        self.cost.record(rows, elapsed);
        self.counters.batch(rows, elapsed);
        match result {
            Ok(outputs) => self.hand_out(batch, outputs, began),
            Err(e) => self.isolate(batch, e, began),
        }
    }

    fn hand_out(&self, batch: Vec<Waiting>, outputs: Tensors, began: Instant) {
        let outputs = Arc::new(outputs);
        let mut start = 0;
        for waiting in batch {
            let range = start..start + waiting.rows;
            start = range.end;
            self.counters.queued(began.saturating_duration_since(waiting.since));
            waiting.answer(Ok(Rows { outputs: outputs.clone(), range }));
        }
    }

    /// Answers a batch that failed. Alone, each request meets only its own fate.
    fn isolate(&self, batch: Vec<Waiting>, error: RuntimeError, began: Instant) {
        let shared = batch.len() > 1;
        for waiting in batch {
            self.counters.queued(began.saturating_duration_since(waiting.since));
            if waiting.reply.is_closed() {
                continue;
            }
            let result =
                if shared { self.guarded(&waiting.inputs, waiting.rows) } else { Err(error.clone()) };
            if result.is_err() {
                bump(&self.counters.failed);
            }
            let range = 0..waiting.rows;
            let rows = result.map(|outputs| Rows { outputs: Arc::new(outputs), range });
            waiting.answer(rows.map_err(ServeError::from));
        }
    }

    /// Runs the model; a panic becomes an error.
    fn guarded(&self, inputs: &Tensors, rows: usize) -> Result<Tensors, RuntimeError> {
        let outputs = catch_unwind(AssertUnwindSafe(|| self.work.run(inputs))).unwrap_or_else(|_| {
            tracing::error!(
                "a model panicked while predicting {rows} rows; its requests are answered as failed"
            );
            Err(RuntimeError::new("the model stopped on a defect; the server's log has the cause"))
        })?;
        match outputs.iter().find(|(_, t)| t.rows() != rows) {
            Some((name, t)) => Err(RuntimeError::new(format!(
                "output `{name}` of the model has {} rows for {rows} instances",
                t.rows()
            ))),
            None => Ok(outputs),
        }
    }

    /// Takes request `ticket` out of the queue, if it still waits there, and frees its slot.
    fn withdraw(&self, ticket: u64) -> bool {
        let mut state = self.lock();
        let Ok(at) = state.queue.binary_search_by_key(&ticket, |w| w.ticket) else { return false };
        let withdrawn = state.remove(at);
        drop(state);
        drop(withdrawn);
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Neither a model nor a destructor of its data runs under the lock: a panic cannot tear the state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_batch(&mut self, now: Instant, rows_max: usize, expired: &mut Vec<Waiting>) -> Vec<Waiting> {
        let mut batch: Vec<Waiting> = Vec::new();
        let (mut at, mut rows) = (0, 0usize);
        while at < self.queue.len() && (batch.is_empty() || rows < rows_max) {
            let waiting = &self.queue[at];
            if waiting.deadline <= now {
                expired.extend(self.remove(at));
                continue;
            }
            let fits = match batch.first() {
                None => true,
                Some(first) => {
                    rows.saturating_add(waiting.rows) <= rows_max && joinable(&first.inputs, &waiting.inputs)
                }
            };
            if fits {
                rows = rows.saturating_add(waiting.rows);
                batch.extend(self.remove(at));
            } else {
                at += 1;
            }
        }
        batch
    }

    fn remove(&mut self, at: usize) -> Option<Waiting> {
        let waiting = self.queue.remove(at)?;
        self.rows -= waiting.rows;
        self.bytes -= waiting.bytes;
        Some(waiting)
    }
}

impl Waiting {
    fn answer(self, result: Result<Rows, ServeError>) {
        // A caller that has left needs no answer.
        let _ = self.reply.send(result);
    }
}

/// A request in the queue or in a batch. Dropped before its answer came, it leaves the queue.
struct Ticket {
    batcher: Arc<Batcher>,
    number: u64,
    answer: oneshot::Receiver<Result<Rows, ServeError>>,
    settled: bool,
}

impl Ticket {
    async fn answer(&mut self, deadline: Instant) -> Result<Rows, ServeError> {
        let answer = match self.answer.try_recv() {
            Ok(answer) => Ok(answer),
            Err(TryRecvError::Closed) => Ok(Err(dropped())),
            Err(TryRecvError::Empty) => self.wait(deadline).await,
        };
        self.settled = true;
        answer.unwrap_or_else(|_| {
            self.batcher.withdraw(self.number);
            bump(&self.batcher.counters.expired);
            Err(ServeError::DeadlineExceeded)
        })
    }

    async fn wait(&mut self, deadline: Instant) -> Result<Result<Rows, ServeError>, Elapsed> {
        let patience = Instant::now() + PATIENCE;
        if patience < deadline {
            if let Ok(answer) = timeout_at(patience.into(), &mut self.answer).await {
                return Ok(answer.unwrap_or_else(|_| Err(dropped())));
            }
            self.batcher.rescue();
        }
        timeout_at(deadline.into(), &mut self.answer)
            .await
            .map(|answer| answer.unwrap_or_else(|_| Err(dropped())))
    }
}

/// Whether the tasks of this thread can go on elsewhere while it computes.
fn hands_over() -> bool {
    Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
}

/// Whether there is another thread of the runtime, which then is awake and looks after what arrives.
fn another_looks_on() -> bool {
    let Some(runtime) = Handle::try_current().ok().filter(|runtime| runtime.metrics().num_workers() > 1)
    else {
        return false;
    };
    // A thread keeps the last task that it has made for itself, and calls another for the one before.
    (0..2).for_each(|_| drop(runtime.spawn(async {})));
    true
}

fn dropped() -> ServeError {
    ServeError::Failed { message: "the model's thread ended before it answered".into() }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.settled {
            self.batcher.withdraw(self.number);
            bump(&self.batcher.counters.cancelled);
        }
    }
}

/// The promise to take a batch. Dropped before it is kept, it goes to a model thread.
struct Lead {
    batcher: Option<Arc<Batcher>>,
}

impl Lead {
    async fn run(mut self) {
        if !self.batcher.as_ref().is_some_and(|b| b.cheap()) {
            if let Some(batcher) = self.batcher.take_if(|b| b.brief()) {
                batcher.run_in_place();
            }
            return;
        }
        if self.batcher.as_ref().is_some_and(|b| b.gains_by_sharing()) {
            OneTurn::default().await;
        }
        let Some(batcher) = self.batcher.take_if(|b| b.cheap()) else { return };
        let began = Instant::now();
        while let Some(batch) = batcher.take() {
            batcher.run_batch(batch);
            if !batcher.finish() {
                return;
            }
            // Its own answer is there; what came meanwhile may be done too, but not for long.
            if began.elapsed() > batcher.limits.inline_max || !batcher.cheap() {
                batcher.submit();
                return;
            }
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if let Some(batcher) = self.batcher.take() {
            batcher.submit();
        }
    }
}

/// Lets every task that is ready on this thread run once.
#[derive(Default)]
struct OneTurn(bool);

impl Future for OneTurn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
