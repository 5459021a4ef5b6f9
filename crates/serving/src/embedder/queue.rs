//! [`Queue`]: what waits for an encoder, and the thread that computes it.
//!
//! A step takes a text from each request in turn until it is full, so that a request of a few texts is not held up by
//! one of thousands. Nobody waits for a step to fill.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use llm::encoder::{Input, STEP_TOKENS};
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::Engine;
use crate::error::ServeError;

/// Requests that may wait; further ones are refused as overloaded.
const REQUESTS_MAX: usize = 1024;
/// Tokens that may wait. A request that finds nobody waiting is let in whatever its size.
const TOKENS_MAX: usize = 4 << 20;
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
    requests: usize,
    tokens: usize,
    /// Whether the encoder is in memory.
    loaded: bool,
    closed: bool,
}

struct Request {
    inputs: Vec<Input>,
    /// How many of them were computed, or are in the step at hand.
    taken: usize,
    tokens: usize,
    /// In order, those of the inputs that were computed.
    vectors: Vec<Vec<f32>>,
    deadline: Instant,
    reply: oneshot::Sender<Result<Vec<Vec<f32>>, ServeError>>,
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
        self.shared.lock().requests
    }

    /// Whether the encoder is in memory.
    pub(super) fn is_loaded(&self) -> bool {
        self.shared.lock().loaded
    }

    /// What the encoder makes of each of `inputs`, which have `tokens` tokens together.
    pub(super) async fn run(
        &self,
        inputs: Vec<Input>,
        tokens: usize,
        deadline: Instant,
    ) -> Result<Vec<Vec<f32>>, ServeError> {
        if inputs.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, answer) = oneshot::channel();
        let vectors = Vec::with_capacity(inputs.len());
        self.shared.enter(Request { inputs, taken: 0, tokens, vectors, deadline, reply })?;
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
        let full = state.requests >= REQUESTS_MAX || state.tokens + request.tokens > TOKENS_MAX;
        if full && state.requests > 0 {
            return Err(ServeError::Overloaded { retry_after: RETRY_AFTER });
        }
        state.requests += 1;
        state.tokens += request.tokens;
        state.new.push(request);
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    fn leave(&self, request: Request, result: Result<(), ServeError>) {
        let mut state = self.lock();
        state.requests -= 1;
        state.tokens -= request.tokens;
        drop(state);
        // One who has left needs no answer.
        let _ = request.reply.send(result.map(|()| request.vectors));
    }

    /// The thread's life.
    fn work(&self, engine: Engine, resting: Option<Resting>) {
        let (mut engine, mut open) = (Some(engine), VecDeque::new());
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
                    if open.is_empty() {
                        continue;
                    }
                    match self.awake(&mut engine, resting.as_ref()) {
                        Ok(engine) => self.step(engine, &mut open),
                        Err(error) => {
                            open.drain(..).for_each(|request| self.leave(request, Err(error.clone())));
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
    fn admit(&self, open: &mut VecDeque<Request>, idle_max: Option<Duration>) -> Next {
        let begun = Instant::now();
        let mut state = self.lock();
        while open.is_empty() && state.new.is_empty() && !state.closed {
            state = match idle_max.map(|most| most.saturating_sub(begun.elapsed())) {
                None => self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return Next::Rest,
                Some(left) => {
                    self.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        open.extend(state.new.drain(..));
        if state.closed { Next::End } else { Next::Work }
    }

    /// Lets go of requests that nobody waits for any more.
    fn drop_abandoned(&self, open: &mut VecDeque<Request>) {
        let now = Instant::now();
        let abandoned = |request: &Request| request.reply.is_closed() || request.deadline <= now;
        while let Some(at) = open.iter().position(abandoned) {
            if let Some(request) = open.remove(at) {
                self.leave(request, Err(ServeError::DeadlineExceeded));
            }
        }
    }

    /// Computes a step and answers the requests that it completes.
    fn step(&self, engine: &mut Engine, open: &mut VecDeque<Request>) {
        let (places, inputs): (Vec<usize>, Vec<Input>) = choose(open).into_iter().unzip();
        let result = catch_unwind(AssertUnwindSafe(|| engine.run(&inputs)));
        let vectors = match result {
            Ok(Ok(vectors)) => Ok(vectors),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => {
                tracing::error!("an encoder panicked; the requests of its step are answered as failed");
                Err(failed("the model stopped on a defect; the server's log has the cause"))
            }
        };
        let mut faults: Vec<Option<ServeError>> = vec![None; open.len()];
        match vectors {
            Ok(vectors) => {
                for (&at, vector) in places.iter().zip(vectors) {
                    if !vector.iter().all(|x| x.is_finite()) {
                        faults[at] =
                            Some(failed("the model gives numbers that are not finite for this text"));
                    }
                    open[at].vectors.push(vector);
                }
            }
            Err(error) => places.iter().for_each(|&at| faults[at] = Some(error.clone())),
        }
        // Those who were served go behind those who were not.
        let served = places.iter().map(|at| at + 1).max().unwrap_or_default();
        let mut later = VecDeque::new();
        for (place, fault) in faults.into_iter().enumerate() {
            let Some(request) = open.pop_front() else { break };
            match fault {
                Some(fault) => self.leave(request, Err(fault)),
                None if request.vectors.len() == request.inputs.len() => self.leave(request, Ok(())),
                None if place < served => later.push_back(request),
                None => open.push_back(request),
            }
        }
        open.append(&mut later);
    }
}

/// The texts of the next step, each with its request's place: one of each request in turn.
fn choose(open: &mut VecDeque<Request>) -> Vec<(usize, Input)> {
    let (mut chosen, mut tokens) = (Vec::new(), 0);
    loop {
        let before = chosen.len();
        for (at, request) in open.iter_mut().enumerate() {
            let Some(input) = request.inputs.get(request.taken) else { continue };
            tokens += input.padded_len();
            if tokens > STEP_TOKENS && !chosen.is_empty() {
                return chosen;
            }
            chosen.push((at, input.clone()));
            request.taken += 1;
        }
        if chosen.len() == before {
            return chosen;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn request(texts: usize, tokens: usize) -> Request {
        let input = Input { tokens: vec![0; tokens], second_from: tokens };
        let (reply, _) = oneshot::channel();
        Request {
            inputs: vec![input; texts],
            taken: 0,
            tokens: texts * tokens,
            vectors: Vec::new(),
            deadline: Instant::now(),
            reply,
        }
    }

    #[test]
    fn a_step_takes_turns_and_is_never_empty() {
        let mut open = VecDeque::from([request(1000, 200), request(1, 10), request(2, 5000)]);
        let places =
            |open: &mut VecDeque<Request>| choose(open).iter().map(|(at, _)| *at).collect::<Vec<_>>();
        assert_eq!(places(&mut open), [0, 1]);
        assert_eq!(places(&mut open), [0]);
        open.pop_front();
        assert_eq!(places(&mut open), [1]);
        assert_eq!(places(&mut open), [1]);
        assert!(places(&mut open).is_empty());
        let mut open = VecDeque::from([request(3, 1), request(100, 16)]);
        let chosen = places(&mut open);
        assert_eq!((&chosen[..7], chosen.len()), (&[0, 1, 0, 1, 0, 1, 1][..], STEP_TOKENS / 16));
    }
}
