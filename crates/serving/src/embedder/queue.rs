//! [`Queue`]: what waits for an encoder, and the thread that computes it.
//!
//! A step takes a text from each project in turn until it is full, and of each project one from each request in turn: a
//! request of a few texts is not held up by one of thousands, nor by another project's thousands of requests. Nobody waits
//! for a step to fill.
//!
//! A project may have no more waiting than there is room left, so that however many fill the queue, each leaves some. One
//! of which nothing waits is let in whatever the others have.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use llm::encoder::{Input, STEP_TOKENS};
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::Engine;
use super::turns::Turns;
use crate::error::ServeError;

/// Requests that may wait, and one more of each project; a project alone has half of it.
const REQUESTS_MAX: usize = 2048;
/// Tokens that may wait, in the same way.
const TOKENS_MAX: usize = 8 << 20;
/// When those who were refused had better come back.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// For how long an encoder that nobody asks stays in memory, and how it comes back.
pub(super) struct Resting {
    pub(super) idle_max: Duration,
    pub(super) again: Box<dyn Fn() -> Result<Engine, String> + Send>,
}

/// What the thread does next.
enum Next {
    /// Compute what is open.
    Work,
    /// Give the encoder's memory back.
    Rest,
    /// Nothing more.
    End,
}

/// A queue with its thread, which ends when this is dropped.
pub(super) struct Queue {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    /// Requests that the thread has not seen yet.
    new: Vec<Request>,
    /// Of all requests that are not answered.
    all: Share,
    /// Of those, what each project has; none that has nothing.
    shares: HashMap<String, Share>,
    /// Whether the encoder is in memory.
    loaded: bool,
    closed: bool,
}

/// What waits for an answer.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Share {
    requests: usize,
    tokens: usize,
}

impl Share {
    fn add(&mut self, tokens: usize) {
        self.requests += 1;
        self.tokens += tokens;
    }

    fn remove(&mut self, tokens: usize) {
        self.requests -= 1;
        self.tokens -= tokens;
    }
}

impl State {
    /// Counts a request of `project`, if there is room for it.
    fn enter(&mut self, project: &str, tokens: usize) -> Result<(), ServeError> {
        let own = self.shares.get(project).copied().unwrap_or_default();
        let left = Share {
            requests: REQUESTS_MAX.saturating_sub(self.all.requests),
            tokens: TOKENS_MAX.saturating_sub(self.all.tokens),
        };
        if own.requests > 0 && (own.requests >= left.requests || own.tokens + tokens > left.tokens) {
            return Err(ServeError::Overloaded { retry_after: RETRY_AFTER });
        }
        self.all.add(tokens);
        self.shares.entry(project.to_owned()).or_default().add(tokens);
        Ok(())
    }

    /// Counts that a request of `project` is answered.
    fn leave(&mut self, project: &str, tokens: usize) {
        self.all.remove(tokens);
        if let Some(share) = self.shares.get_mut(project) {
            share.remove(tokens);
            if share.requests == 0 {
                self.shares.remove(project);
            }
        }
    }
}

struct Request {
    project: String,
    inputs: Vec<Input>,
    /// How many of them were computed, or are in the step at hand.
    taken: usize,
    tokens: usize,
    /// In order, those of the inputs that were computed.
    vectors: Vec<Vec<f32>>,
    deadline: Instant,
    reply: oneshot::Sender<Result<Vec<Vec<f32>>, ServeError>>,
}

/// What the thread has taken in and not answered.
#[derive(Default)]
struct Open {
    requests: BTreeMap<u64, Request>,
    /// Of those that have texts which were not computed.
    turns: Turns,
    arrivals: u64,
}

impl Queue {
    /// Starts the thread of `engine`, which stays in memory unless it is `resting` when nobody asks.
    pub(super) fn start(engine: Engine, resting: Option<Resting>) -> io::Result<Queue> {
        let state = State { loaded: true, ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), arrived: Condvar::new() });
        let queue = Queue { shared: Arc::clone(&shared) };
        thread::Builder::new().name("meuse-encoder".into()).spawn(move || shared.work(engine, resting))?;
        Ok(queue)
    }

    /// Requests that are not answered yet.
    pub(super) fn waiting(&self) -> usize {
        self.shared.lock().all.requests
    }

    /// Whether the encoder is in memory.
    pub(super) fn is_loaded(&self) -> bool {
        self.shared.lock().loaded
    }

    /// What the encoder makes of each of `inputs`, which have `tokens` tokens together and are of `project`.
    pub(super) async fn run(
        &self,
        project: &str,
        inputs: Vec<Input>,
        tokens: usize,
        deadline: Instant,
    ) -> Result<Vec<Vec<f32>>, ServeError> {
        if inputs.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, answer) = oneshot::channel();
        let (project, vectors) = (project.to_owned(), Vec::with_capacity(inputs.len()));
        self.shared.enter(Request { project, inputs, taken: 0, tokens, vectors, deadline, reply })?;
        match timeout_at(deadline.into(), answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(failed("the model's thread ended before it answered")),
            Err(_) => Err(ServeError::DeadlineExceeded),
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.arrived.notify_all();
    }
}

fn failed(message: &str) -> ServeError {
    ServeError::Failed { message: message.to_owned() }
}

impl Shared {
    /// The lock guards plain values that are whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, request: Request) -> Result<(), ServeError> {
        let mut state = self.lock();
        state.enter(&request.project, request.tokens)?;
        state.new.push(request);
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    fn leave(&self, request: Request, result: Result<(), ServeError>) {
        self.lock().leave(&request.project, request.tokens);
        // One who has left needs no answer.
        let _ = request.reply.send(result.map(|()| request.vectors));
    }

    /// The thread's life.
    fn work(&self, engine: Engine, resting: Option<Resting>) {
        let (mut engine, mut open) = (Some(engine), Open::default());
        loop {
            let idle_max = resting.as_ref().filter(|_| engine.is_some()).map(|resting| resting.idle_max);
            match self.admit(&mut open, idle_max) {
                Next::End => return,
                Next::Rest => {
                    engine = None;
                    self.lock().loaded = false;
                }
                Next::Work => {
                    self.drop_abandoned(&mut open);
                    if open.requests.is_empty() {
                        continue;
                    }
                    match self.awake(&mut engine, resting.as_ref()) {
                        Ok(engine) => self.step(engine, &mut open),
                        Err(error) => {
                            open.drain().for_each(|request| self.leave(request, Err(error.clone())));
                        }
                    }
                }
            }
        }
    }

    /// The encoder, loaded again if it rests.
    fn awake<'a>(
        &self,
        engine: &'a mut Option<Engine>,
        resting: Option<&Resting>,
    ) -> Result<&'a mut Engine, ServeError> {
        if engine.is_none() {
            let again = || resting.map_or_else(|| Err("it has gone".to_owned()), |resting| (resting.again)());
            let loaded = catch_unwind(AssertUnwindSafe(again)).unwrap_or_else(|_| Err("a defect".to_owned()));
            let loaded = loaded.map_err(|reason| {
                tracing::error!("an encoder cannot be loaded again: {reason}");
                failed(&format!("the model cannot be loaded again: {reason}"))
            })?;
            *engine = Some(loaded);
            self.lock().loaded = true;
        }
        engine.as_mut().ok_or_else(|| failed("the model has gone"))
    }

    /// Takes in what has arrived; waits for something where nothing is open, for `idle_max` at most.
    fn admit(&self, open: &mut Open, idle_max: Option<Duration>) -> Next {
        let begun = Instant::now();
        let mut state = self.lock();
        while open.requests.is_empty() && state.new.is_empty() && !state.closed {
            state = match idle_max.map(|most| most.saturating_sub(begun.elapsed())) {
                None => self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return Next::Rest,
                Some(left) => {
                    self.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        state.new.drain(..).for_each(|request| open.add(request));
        if state.closed { Next::End } else { Next::Work }
    }

    /// Lets go of requests that nobody waits for any more.
    fn drop_abandoned(&self, open: &mut Open) {
        let now = Instant::now();
        let abandoned = |request: &Request| request.reply.is_closed() || request.deadline <= now;
        let ids: Vec<u64> =
            open.requests.iter().filter(|(_, request)| abandoned(request)).map(|(id, _)| *id).collect();
        for request in ids.into_iter().filter_map(|id| open.remove(id)) {
            self.leave(request, Err(ServeError::DeadlineExceeded));
        }
    }

    /// Computes a step and answers the requests that it completes.
    fn step(&self, engine: &mut Engine, open: &mut Open) {
        let (ids, inputs): (Vec<u64>, Vec<Input>) = open.choose().into_iter().unzip();
        let result = catch_unwind(AssertUnwindSafe(|| engine.run(&inputs)));
        let vectors = match result {
            Ok(Ok(vectors)) => Ok(vectors),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => {
                tracing::error!("an encoder panicked; the requests of its step are answered as failed");
                Err(failed("the model stopped on a defect; the server's log has the cause"))
            }
        };
        let mut faults: BTreeMap<u64, ServeError> = BTreeMap::new();
        match vectors {
            Ok(vectors) => {
                for (id, vector) in ids.iter().zip(vectors) {
                    if !vector.iter().all(|x| x.is_finite()) {
                        let fault = failed("the model gives numbers that are not finite for this text");
                        faults.insert(*id, fault);
                    }
                    if let Some(request) = open.requests.get_mut(id) {
                        request.vectors.push(vector);
                    }
                }
            }
            Err(error) => faults.extend(ids.iter().map(|id| (*id, error.clone()))),
        }
        for id in ids {
            let fault = faults.remove(&id);
            let whole = |request: &Request| request.vectors.len() == request.inputs.len();
            if (fault.is_some() || open.requests.get(&id).is_some_and(whole))
                && let Some(request) = open.remove(id)
            {
                self.leave(request, fault.map_or(Ok(()), Err));
            }
        }
    }
}

impl Open {
    fn add(&mut self, request: Request) {
        self.arrivals += 1;
        self.turns.add(&request.project, self.arrivals);
        self.requests.insert(self.arrivals, request);
    }

    /// Takes all of them out.
    fn drain(&mut self) -> impl Iterator<Item = Request> + use<> {
        std::mem::take(self).requests.into_values()
    }

    fn remove(&mut self, id: u64) -> Option<Request> {
        self.turns.remove(id);
        self.requests.remove(&id)
    }

    /// The texts of the next step, each with its request.
    fn choose(&mut self) -> Vec<(u64, Input)> {
        let (mut chosen, mut tokens) = (Vec::new(), 0);
        while let Some(id) = self.turns.next() {
            let request = self.requests.get_mut(&id);
            let next = request.and_then(|it| Some((it.inputs.get(it.taken)?.clone(), it)));
            let Some((input, request)) = next else {
                self.turns.end(false);
                continue;
            };
            tokens += input.padded_len();
            if tokens > STEP_TOKENS && !chosen.is_empty() {
                break;
            }
            chosen.push((id, input));
            request.taken += 1;
            self.turns.end(request.taken < request.inputs.len());
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(project: &str, texts: usize, tokens: usize) -> Request {
        let input = Input { tokens: vec![0; tokens], second_from: tokens };
        let (reply, _) = oneshot::channel();
        Request {
            project: project.to_owned(),
            inputs: vec![input; texts],
            taken: 0,
            tokens: texts * tokens,
            vectors: Vec::new(),
            deadline: Instant::now(),
            reply,
        }
    }

    fn open(requests: impl IntoIterator<Item = Request>) -> Open {
        let mut open = Open::default();
        requests.into_iter().for_each(|request| open.add(request));
        open
    }

    fn choose(open: &mut Open) -> Vec<u64> {
        open.choose().iter().map(|(id, _)| *id).collect()
    }

    #[test]
    fn a_step_takes_turns_and_is_never_empty() {
        let mut few = open([request("p", 2, 200), request("p", 1, 10), request("p", 2, 5000)]);
        assert_eq!(choose(&mut few), [1, 2]);
        assert_eq!(choose(&mut few), [3], "one that is larger than a step has one for itself");
        assert_eq!(choose(&mut few), [1]);
        assert_eq!(choose(&mut few), [3]);
        assert!(choose(&mut few).is_empty());
        let mut many = open([request("p", 3, 1), request("p", 100, 16)]);
        let chosen = choose(&mut many);
        assert_eq!((&chosen[..7], chosen.len()), (&[1, 2, 1, 2, 1, 2, 2][..], STEP_TOKENS / 16));
    }

    #[test]
    fn projects_take_turns_whatever_each_asks() {
        let flood = (0..100).map(|_| request("flood", 10, STEP_TOKENS / 4));
        let mut open = open(flood.chain([request("other", 5, STEP_TOKENS / 4)]));
        let steps: Vec<Vec<u64>> = (0..3).map(|_| choose(&mut open)).collect();
        let others = |step: &Vec<u64>| step.iter().filter(|id| **id == 101).count();
        assert_eq!(steps.iter().map(others).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(steps[0], [1, 101, 2, 101], "each project's requests take turns, too");
    }

    #[test]
    fn a_project_alone_has_half_of_the_room_and_the_next_half_of_the_rest() {
        let fill = |state: &mut State, project: &str, tokens: usize| {
            let before = state.all.requests;
            while state.enter(project, tokens).is_ok() {}
            state.all.requests - before
        };
        let mut state = State::default();
        let shares = ["a", "b", "c"].map(|project| fill(&mut state, project, 1));
        assert_eq!(shares, [REQUESTS_MAX / 2, REQUESTS_MAX / 4, REQUESTS_MAX / 8]);
        assert_eq!(fill(&mut State::default(), "a", TOKENS_MAX / 8), 4);
        // One that is larger than all of it is let in where nothing of the project waits, and keeps nobody else out.
        let mut state = State::default();
        assert_eq!(fill(&mut state, "a", 2 * TOKENS_MAX), 1);
        assert_eq!(fill(&mut state, "b", 1), 1);
        state.leave("a", 2 * TOKENS_MAX);
        assert!(fill(&mut state, "b", 1) > 1000);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever others do, one of whom nothing waits is let in; and what waits is bounded.
        #[test]
        fn nobody_is_kept_out_by_others(
            steps in prop::collection::vec((0u8..24, 1usize..TOKENS_MAX / 64, 1usize..400, any::<bool>()), 1..200),
        ) {
            let (mut state, mut waiting) = (State::default(), Vec::new());
            for (project, tokens, times, leave) in steps {
                let project = project.to_string();
                for _ in 0..times {
                    let newcomer = !state.shares.contains_key(&project);
                    let entered = state.enter(&project, tokens).is_ok();
                    prop_assert!(entered || !newcomer);
                    waiting.extend(entered.then(|| (project.clone(), tokens)));
                }
                prop_assert!(state.all.requests <= REQUESTS_MAX + state.shares.len());
                prop_assert!(state.all.tokens <= TOKENS_MAX + state.shares.len() * (TOKENS_MAX / 64));
                if leave {
                    let half = waiting.len() / 2;
                    waiting.drain(..half).for_each(|(project, tokens)| state.leave(&project, tokens));
                }
            }
            waiting.into_iter().for_each(|(project, tokens)| state.leave(&project, tokens));
            prop_assert_eq!((state.all, state.shares.len()), (Share::default(), 0));
        }
    }
}
