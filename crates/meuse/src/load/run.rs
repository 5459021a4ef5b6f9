//! [`run`]: many requests at one level, until as many as wanted are answered, time is up or somebody says stop.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinSet};

use super::ask::Unanswered;
use super::{Answered, Asking, Figures, Goal, Lengths, Level, Prompts, Random, Trouble, Troubles, ask};

/// Requests under way at once; one more is not sent.
const OPEN_MAX: usize = 4096;

/// Two arrivals are not further apart.
const GAP_MAX: Duration = Duration::from_secs(3600);

/// The sequence of a seed from which arrivals are drawn.
const ARRIVALS: u64 = u64::MAX - 2;

/// Where a level ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests sent at most.
    pub requests: u64,
    /// No request is sent after this; what is under way is waited for.
    pub duration: Option<Duration>,
}

/// What is asked at every level.
#[derive(Debug)]
pub struct Plan {
    /// Whom, and how.
    pub asking: Arc<Asking>,
    /// What the prompts are made of.
    pub prompts: Prompts,
    /// How long they are.
    pub prompt_tokens: Lengths,
    /// How long answers may be.
    pub output_tokens: Lengths,
    /// What all of this is drawn from.
    pub seed: u64,
    /// What counts as served well.
    pub goal: Goal,
}

/// A level under way.
struct Run<'a> {
    plan: &'a Plan,
    level: Level,
    limits: Limits,
    /// The number of the first request: no two of a run have the same prompt.
    first: u64,
    begun: Instant,
    sent: u64,
    open: JoinSet<Result<Answered, Unanswered>>,
    answers: Vec<Answered>,
    troubles: Troubles,
    arrivals: Random,
    /// When the next request arrives, where they come at a rate.
    arrival: Instant,
}

/// Asks at `level`; requests are numbered from `first` on. `watch` is told the requests that ended and the share of
/// the work that is done. Says what came of it and whether `stop` ended it early.
pub async fn run(
    plan: &Plan,
    level: Level,
    limits: Limits,
    first: u64,
    mut stop: Pin<&mut impl Future>,
    mut watch: impl FnMut(u64, f64),
) -> (Figures, bool) {
    let begun = Instant::now();
    let mut run = Run {
        plan,
        level,
        limits,
        first,
        begun,
        sent: 0,
        open: JoinSet::new(),
        answers: Vec::new(),
        troubles: Troubles::default(),
        arrivals: Random::new(plan.seed, ARRIVALS),
        arrival: begun,
    };
    let mut ended = begun;
    let stopped = loop {
        let next = run.next();
        if next.is_none() && run.open.is_empty() {
            break false;
        }
        tokio::select! {
            biased;
            _ = &mut stop => break true,
            Some(done) = run.open.join_next(), if !run.open.is_empty() => {
                run.take(done);
                ended = Instant::now();
                watch(run.ended(), run.share());
            }
            () = until(next), if next.is_some() => run.send(),
        }
    };
    let elapsed = if stopped { begun.elapsed() } else { ended - begun };
    let unfinished = run.open.len() as u64;
    run.open.shutdown().await;
    (Figures::of(level, elapsed, &run.answers, run.troubles, unfinished, plan.goal), stopped)
}

async fn until(time: Option<Instant>) {
    if let Some(time) = time {
        tokio::time::sleep_until(time.into()).await;
    }
}

impl Run<'_> {
    /// Whether no more requests are sent.
    fn is_over(&self) -> bool {
        self.sent >= self.limits.requests
            || self.limits.duration.is_some_and(|most| self.due().duration_since(self.begun) >= most)
    }

    /// When the next request would be sent.
    fn due(&self) -> Instant {
        match self.level {
            Level::Concurrency(_) => Instant::now(),
            Level::Rate(_) => self.arrival,
        }
    }

    /// When to send the next request; `None` while there is none to send.
    fn next(&self) -> Option<Instant> {
        let waits = matches!(self.level, Level::Concurrency(most) if self.open.len() >= most as usize);
        (!waits && !self.is_over()).then(|| self.due())
    }

    fn send(&mut self) {
        let number = self.first + self.sent;
        self.sent += 1;
        if let Level::Rate(rate) = self.level {
            self.arrival += self.arrivals.gap(rate).min(GAP_MAX);
        }
        if self.open.len() >= OPEN_MAX {
            self.troubles.add(Trouble::NotSent, || format!("{OPEN_MAX} requests were under way"));
            return;
        }
        let mut random = Random::new(self.plan.seed, number);
        let tokens = self.plan.output_tokens.draw(&mut random);
        let length = self.plan.prompt_tokens.draw(&mut random);
        let prompt = self.plan.prompts.of(length, &mut random);
        let asking = Arc::clone(&self.plan.asking);
        self.open.spawn(async move { ask(&asking, &prompt, tokens).await });
    }

    fn take(&mut self, done: Result<Result<Answered, Unanswered>, JoinError>) {
        match done {
            Ok(Ok(answered)) => self.answers.push(answered),
            Ok(Err(unanswered)) => self.troubles.add(unanswered.trouble, || unanswered.message()),
            Err(error) => self.troubles.add(Trouble::NotSent, || error.to_string()),
        }
    }

    fn ended(&self) -> u64 {
        self.answers.len() as u64 + self.troubles.count()
    }

    /// How much of the work is done, from 0 to 1.
    fn share(&self) -> f64 {
        let requests = self.ended() as f64 / self.limits.requests.max(1) as f64;
        let time = self.limits.duration.map_or(0.0, |most| self.begun.elapsed().div_duration_f64(most));
        requests.max(time).min(1.0)
    }
}
