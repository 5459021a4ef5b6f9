//! Many people's requests through one model: a thread that steps, and the handle that others hold.

mod draw;
mod job;
mod speculate;
mod step;
mod understudy;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::constraint::{Compiler, Follower};
use crate::forward::Forward;
use crate::request::{GenerateRequest, Given, Sink, SubmitError};
use crate::scheduler::{Limits, Scheduler};
use crate::vocabulary::Vocabulary;
use understudy::Understudy;

/// Stop texts a request may carry.
pub const STOPS_MAX: usize = 16;

/// Bytes a stop text may have.
pub const STOP_BYTES_MAX: usize = 256;

/// A tenant of whom less than this share of the queue waits finds room where others have filled it.
const FEW_SHARE: usize = 8;

/// Rows of logits that a step computes at most, as long as no more than half as many answers run at once.
pub(crate) const LOGITS_ROWS: usize = 128;

/// Alternatives that may be asked for with each token's log-probability.
pub const TOP_LOGPROBS_MAX: u8 = 20;

/// A model as the engine takes it.
pub struct Model {
    /// What computes.
    pub forward: Box<dyn Forward>,
    /// What its tokens are.
    pub vocabulary: Arc<dyn Vocabulary>,
    /// Blocks in its key-value cache.
    pub blocks: u32,
    /// Tokens a block holds.
    pub block_len: usize,
    /// Tokens a sequence may have.
    pub context_max: usize,
    /// A small model that guesses what this one will say, if there is one. Changes no answer.
    pub draft: Option<Draft>,
}

/// A small model whose tokens are those of a large one.
pub struct Draft {
    /// What computes.
    pub forward: Box<dyn Forward>,
    /// Blocks in its key-value cache.
    pub blocks: u32,
    /// Tokens a block holds.
    pub block_len: usize,
    /// Tokens a sequence may have; of longer ones nothing is guessed.
    pub context_max: usize,
}

impl Model {
    /// Tokens, prompt and answer together, that a sequence can reach in an engine of this model.
    #[must_use]
    pub fn sequence_tokens_max(&self) -> usize {
        self.context_max.min((self.blocks as usize).saturating_mul(self.block_len))
    }
}

impl std::fmt::Debug for Draft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Draft { blocks, block_len, context_max, .. } = self;
        write!(f, "Draft {{ blocks: {blocks}, block_len: {block_len}, context_max: {context_max} }}")
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Model { blocks, block_len, context_max, draft, .. } = self;
        write!(
            f,
            "Model {{ blocks: {blocks}, block_len: {block_len}, context_max: {context_max}, draft: {draft:?} }}"
        )
    }
}

/// How an engine shares its model.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// Tokens computed in a step at most.
    pub step_tokens: usize,
    /// Prompt tokens computed at most in a step in which others wait for their next token: what one long prompt may
    /// delay them by.
    pub mixed_tokens: usize,
    /// What a step that computes prompts should take at most; where the machine is slower than that, steps compute
    /// fewer tokens than the two bounds above. A cancellation is seen after a step.
    pub step_time: Duration,
    /// What a step of the background alone should take at most, where that does not mean fewer than a handful of
    /// tokens: what it may delay others by. Some times as long while nobody has asked for a while. See
    /// [`crate::BACKGROUND`].
    pub background_time: Duration,
    /// Answers computed at once.
    pub running_max: usize,
    /// Requests that wait; twice as many where those that come are of tenants of whom few do.
    pub waiting_max: usize,
    /// Tokens guessed ahead of each answer at most, where that pays; 0 guesses nothing. Changes no answer.
    pub draft_max: usize,
    /// Without a request for so long, the engine ends and gives its memory back; zero keeps it. [`Engine::keep`]
    /// changes it.
    pub idle_max: Duration,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            step_tokens: 512,
            mixed_tokens: 128,
            step_time: Duration::from_millis(400),
            background_time: Duration::from_millis(10),
            running_max: 64,
            waiting_max: 256,
            draft_max: 16,
            idle_max: Duration::ZERO,
        }
    }
}

/// What the engine does and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Answers under way.
    pub running: usize,
    /// Answers that wait, for the first time or again.
    pub waiting: usize,
    /// Blocks of the key-value cache in use, and in all.
    pub blocks_used: usize,
    /// Blocks in all.
    pub blocks_total: usize,
    /// Steps computed.
    pub steps: u64,
    /// Tokens in prompts that were begun.
    pub prompt_tokens: u64,
    /// Of those, found computed.
    pub cached_tokens: u64,
    /// Tokens chosen.
    pub completion_tokens: u64,
    /// Tokens guessed ahead and computed.
    pub drafted_tokens: u64,
    /// Of those, right.
    pub accepted_tokens: u64,
    /// Times that an answer gave up its blocks to another.
    pub preemptions: u64,
    /// Steps that were begun and given up for somebody who came.
    pub given_up: u64,
    /// Requests that ended, in whatever way.
    pub finished: u64,
}

/// A running engine. Dropping it ends what is under way with [`crate::Event::Failed`], within one step.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// One request's lease. Dropping it cancels the request within one step.
#[derive(Debug)]
pub struct Ticket {
    cancelled: Arc<AtomicBool>,
}

impl Ticket {
    /// Ends the request's answers within one step.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// A request on its way to the thread.
struct Arrival {
    request: GenerateRequest,
    seed: u64,
    follower: Option<Follower>,
    sink: Sink,
    cancelled: Arc<AtomicBool>,
}

/// What the handle and the thread both see.
#[derive(Debug)]
struct Shared {
    vocabulary: Arc<dyn Vocabulary>,
    compiler: Compiler,
    sequence_tokens_max: usize,
    options: EngineOptions,
    seeds: RandomState,
    inbox: Mutex<Inbox>,
    wake: Condvar,
}

impl std::fmt::Debug for dyn Vocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} tokens", self.len())
    }
}

/// Why an engine answers no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nobody asked for as long as it was to be kept.
    Idle,
    /// The model failed, or the handle was dropped.
    Stopped,
}

#[derive(Default)]
struct Inbox {
    arrived: VecDeque<Arrival>,
    /// Set by the handle.
    stopping: bool,
    /// Set by the thread, at its end.
    ended: Option<End>,
    counters: Counters,
    /// Of those that wait, how many are each tenant's; without those that have just arrived.
    waiting: HashMap<u64, usize>,
    /// Between two requests' ends, about.
    pace: Duration,
    /// Requests so far; makes seeds differ.
    taken: u64,
    /// How long the thread goes on without a request; for ever without a bound.
    idle_max: Option<Duration>,
    /// Since when it has had none, while it has none.
    idle_since: Option<Instant>,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox")
            .field("arrived", &self.arrived.len())
            .field("counters", &self.counters)
            .finish()
    }
}

impl Inbox {
    /// Whether a tenant of whom few wait is let into a queue that others have filled: it takes twice as many then.
    fn lets_past(&self, salt: u64, waiting: usize, most: usize) -> bool {
        let arrived = self.arrived.iter().filter(|arrival| arrival.request.salt == salt).count();
        let own = arrived + self.waiting.get(&salt).copied().unwrap_or_default();
        own < most / FEW_SHARE && waiting < 2 * most
    }
}

impl Shared {
    /// The lock guards plain values that are whole between any two statements, so that a panic elsewhere is no
    /// reason not to read them.
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Starts the thread. Fails where the system gives none.
    pub fn start(model: Model, options: EngineOptions) -> std::io::Result<Engine> {
        let running_max = options.running_max.max(1);
        let limits = Limits {
            block_len: model.block_len,
            blocks: model.blocks,
            step_tokens: options.step_tokens,
            mixed_tokens: options.mixed_tokens,
            background_tokens: step::BACKGROUND_TOKENS_MIN.min(options.step_tokens.max(1)),
            wanted_max: running_max.max(LOGITS_ROWS / 2) + LOGITS_ROWS / 2,
            running_max,
            // The handle refuses before this does; preempted answers wait here too.
            waiting_max: 2 * options.waiting_max + running_max,
            sequence_tokens_max: model.context_max,
        };
        let mut scheduler = Scheduler::new(limits);
        scheduler.set_budgets(options.step_tokens, options.mixed_tokens);
        let shared = Arc::new(Shared {
            vocabulary: Arc::clone(&model.vocabulary),
            compiler: Compiler::new(Arc::clone(&model.vocabulary)),
            sequence_tokens_max: scheduler.sequence_tokens_max(),
            options: EngineOptions { running_max, ..options },
            seeds: RandomState::new(),
            inbox: Mutex::new(Inbox {
                idle_max: Some(options.idle_max).filter(|most| !most.is_zero()),
                ..Inbox::default()
            }),
            wake: Condvar::new(),
        });
        let understudy = model.draft.map(|draft| Understudy::new(draft, model.vocabulary.len()));
        let worker = step::Worker::new(model.forward, understudy, scheduler, Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("llm-engine".into()).spawn(|| worker.run())?;
        Ok(Engine { shared, thread: Some(thread) })
    }

    /// Takes a request, or says why not. A constraint is compiled here, on the caller's thread. Events go to
    /// `sink`; the request ends early when the ticket is dropped.
    pub fn submit(&self, request: GenerateRequest, sink: Sink) -> Result<Ticket, SubmitError> {
        self.check(&request)?;
        let follower =
            match &request.constraint {
                None => None,
                Some(constraint) => Some(self.shared.compiler.compile(constraint).map_err(|error| {
                    SubmitError::Invalid { field: "constraint", message: error.to_string() }
                })?),
            };
        let cancelled = Arc::new(AtomicBool::new(false));
        let mut inbox = self.shared.inbox();
        if inbox.stopping || inbox.ended.is_some() {
            return Err(SubmitError::Stopped);
        }
        let waiting = inbox.arrived.len() + inbox.counters.waiting;
        let most = self.shared.options.waiting_max;
        // What nobody waits for leaves room for others.
        let most = if request.priority <= crate::BACKGROUND { most / 2 } else { most };
        if waiting >= most && !inbox.lets_past(request.salt, waiting, most) {
            // By then half of those who wait now have gone in: room for who was refused, and no long idle queue.
            let wait = inbox.pace.saturating_mul(waiting as u32) / 2;
            return Err(SubmitError::Full {
                retry_after: wait.clamp(Duration::from_secs(1), Duration::from_secs(60)),
            });
        }
        inbox.taken += 1;
        let seed = request.sampling.seed.unwrap_or_else(|| self.shared.seeds.hash_one(inbox.taken));
        inbox.arrived.push_back(Arrival { request, seed, follower, sink, cancelled: Arc::clone(&cancelled) });
        drop(inbox);
        self.shared.wake.notify_one();
        Ok(Ticket { cancelled })
    }

    fn check(&self, request: &GenerateRequest) -> Result<(), SubmitError> {
        let invalid = |field, message: String| Err(SubmitError::Invalid { field, message });
        let vocab = self.shared.vocabulary.len();
        let (choices, limit) = (self.shared.options.running_max, self.shared.sequence_tokens_max);
        if request.prompt.is_empty() {
            return invalid("prompt", "has no token; send at least one".into());
        }
        if request.prompt.len() >= limit {
            return Err(SubmitError::PromptTooLong { tokens: request.prompt.len(), limit });
        }
        if let Some(token) = request.prompt.iter().find(|&&token| token as usize >= vocab) {
            return invalid("prompt", format!("names token {token}; the vocabulary has {vocab} tokens"));
        }
        if !(1..=choices).contains(&request.n) {
            return invalid("n", format!("is {}; it must be between 1 and {choices}", request.n));
        }
        if let Some(given) = &request.given {
            check_given(given, request, vocab, limit)?;
        }
        if request.max_tokens == 0 {
            return invalid("max_tokens", "is 0; it must be at least 1".into());
        }
        check_stops(&request.stop)?;
        if let Some(top) = request.logprobs.filter(|&top| top > TOP_LOGPROBS_MAX) {
            return invalid("logprobs", format!("is {top}; it must be at most {TOP_LOGPROBS_MAX}"));
        }
        let sampling = request.sampling.check(vocab);
        sampling.map_err(|error| SubmitError::Invalid { field: error.field, message: error.message })
    }

    /// From now on, ends when nobody has asked for so long: at zero as soon as nothing is left to do, without a bound
    /// never.
    pub fn keep(&self, idle_max: Option<Duration>) {
        self.shared.inbox().idle_max = idle_max;
        self.shared.wake.notify_one();
    }

    /// How long it goes on if nobody asks; for ever without a bound.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        let inbox = self.shared.inbox();
        let idle = inbox.idle_since.map_or(Duration::ZERO, |since| since.elapsed());
        inbox.idle_max.map(|most| most.saturating_sub(idle))
    }

    /// What it does and has done, as of the last step.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let inbox = self.shared.inbox();
        Counters { waiting: inbox.counters.waiting + inbox.arrived.len(), ..inbox.counters }
    }

    /// Tokens, prompt and answer together, that a sequence can reach here.
    #[must_use]
    pub fn context(&self) -> usize {
        self.shared.sequence_tokens_max
    }

    /// Why the thread has ended, if it has: nothing will be answered any more.
    #[must_use]
    pub fn ended(&self) -> Option<End> {
        self.shared.inbox().ended
    }
}

fn check_given(
    given: &Given,
    request: &GenerateRequest,
    vocab: usize,
    limit: usize,
) -> Result<(), SubmitError> {
    let invalid = |field, message: String| Err(SubmitError::Invalid { field, message });
    let (prompt, answer) = (request.prompt.len(), given.answer.len());
    if answer == 0 {
        return invalid("answer", "has no token; give at least one".into());
    }
    if prompt + answer > limit {
        return Err(SubmitError::PromptTooLong { tokens: prompt + answer, limit });
    }
    if let Some(token) = given.answer.iter().find(|&&token| token as usize >= vocab) {
        return invalid("answer", format!("names token {token}; the vocabulary has {vocab} tokens"));
    }
    if given.hidden.end >= prompt {
        return invalid(
            "hidden",
            format!("ends at {}; the prompt's last token must be seen", given.hidden.end),
        );
    }
    if request.n != 1 || request.constraint.is_some() || !request.stop.is_empty() {
        return invalid("answer", "is given; n, stop and a constraint have no meaning with it".into());
    }
    Ok(())
}

fn check_stops(stops: &[String]) -> Result<(), SubmitError> {
    let invalid = |message| Err(SubmitError::Invalid { field: "stop", message });
    if stops.len() > STOPS_MAX {
        return invalid(format!("has {} entries; at most {STOPS_MAX} are allowed", stops.len()));
    }
    for stop in stops {
        if stop.is_empty() || stop.len() > STOP_BYTES_MAX {
            return invalid(format!(
                "has an entry of {} bytes; each must have between 1 and {STOP_BYTES_MAX}",
                stop.len()
            ));
        }
    }
    Ok(())
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.inbox().stopping = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by the panic hook; there is nothing to add here.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
