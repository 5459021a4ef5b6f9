//! The engine's thread: schedule, forward, sample, commit.

use std::collections::{BTreeMap, HashMap};
use std::ops::{ControlFlow, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::draw::{Ask, Basis, Draw, Pick, Rows};
use super::job::Job;
use super::speculate::{Faith, StepCost, Terms};
use super::understudy::{Understudy, Wish};
use super::{Arrival, Counters, End, Shared};
use crate::constraint::Follower;
use crate::forward::{Batch, Forward, Span};
use crate::request::{Event, FinishReason, RankedToken, TokenLogprob};
use crate::sampler::{History, LogProb, LogProbs, Place};
use crate::scheduler::{BACKGROUND, NewSequence, Plan, Scheduler, Sequence, SequenceId};

/// How long the thread sleeps at most when it has requests but nothing to compute.
const IDLE: Duration = Duration::from_millis(10);

/// Steps of fewer tokens say nothing of how long larger ones take, and are not made any smaller.
const FIT_TOKENS: usize = 32;

/// Steps of the background alone are not made any smaller.
pub(super) const BACKGROUND_TOKENS_MIN: usize = 8;

/// While nobody has asked for so long, steps of the background may take [`QUIET_STEPS`] times as long: whoever asks next
/// waits once, and the background is done sooner.
const QUIET: Duration = Duration::from_secs(10);
const QUIET_STEPS: u32 = 4;

/// Of the pace's average, the share of the newest value.
const PACE_SHARE: u32 = 8;

/// Tokens of an answer, before any ended, and the share of the newest in their average.
const ANSWER_LEN: f64 = 200.0;
const ANSWER_SHARE: f64 = 0.125;

/// A step of those who ask much is given up for somebody else who comes, if its rest would take longer than this.
const REST: Duration = Duration::from_millis(8);

/// What giving steps up may lose: the time of one step in so many, saved up to no more than this.
const SPARE_SHARE: u32 = 8;
const SPARE_MAX: Duration = Duration::from_secs(1);

/// A request's place in the table.
pub(super) type JobId = u64;

/// The thread's state.
pub(super) struct Worker {
    model: Box<dyn Forward>,
    /// Nothing where there is none, or once it failed.
    understudy: Option<Understudy>,
    desk: Desk,
    batch: Batch,
}

/// Everything but the model.
struct Desk {
    shared: Arc<Shared>,
    scheduler: Scheduler,
    jobs: BTreeMap<JobId, Job>,
    /// Whose answer a sequence is.
    owners: HashMap<SequenceId, (JobId, usize)>,
    next_job: JobId,
    counters: Counters,
    pace: Duration,
    /// When a request last ended, or the first of those at hand came.
    last_end: Instant,
    /// When a request last came that somebody waits for.
    last_asked: Instant,
    /// Tokens a second in steps that compute prompts.
    rate: f64,
    /// What steps without prompts take.
    cost: StepCost,
    /// How often the small model's guesses are right.
    faith: Faith,
    /// Tokens that answers have on average.
    answer_len: f64,
    /// Time that may still be lost to steps that are given up.
    spare: Duration,
}

/// One of the answers that a step computed logits for, and which rows of them.
pub(super) struct Answer {
    pub(super) job: JobId,
    pub(super) choice: usize,
    pub(super) rows: Range<usize>,
    /// Which of the answer's tokens the first row is for.
    pub(super) first: usize,
}

/// What was sampled at one place of an answer.
struct Chosen {
    job: JobId,
    choice: usize,
    /// Which of the answer's tokens.
    place: usize,
    /// The token, or why there is none.
    token: Result<u32, String>,
    logprob: Option<TokenLogprob>,
    /// Whether the constraint lets nothing follow.
    complete: bool,
}

/// Says at the thread's end, whatever ended it, that nothing will be answered any more.
struct EndNotice(Arc<Shared>);

impl Drop for EndNotice {
    fn drop(&mut self) {
        let mut inbox = self.0.inbox();
        inbox.ended.get_or_insert(End::Stopped);
        inbox.arrived.clear();
        inbox.counters = Counters { running: 0, waiting: 0, blocks_used: 0, ..inbox.counters };
    }
}

impl Worker {
    pub(super) fn new(
        model: Box<dyn Forward>,
        understudy: Option<Understudy>,
        scheduler: Scheduler,
        shared: Arc<Shared>,
    ) -> Worker {
        let desk = Desk {
            shared,
            scheduler,
            jobs: BTreeMap::new(),
            owners: HashMap::new(),
            next_job: 0,
            counters: Counters::default(),
            pace: Duration::ZERO,
            last_end: Instant::now(),
            last_asked: Instant::now(),
            rate: 0.0,
            cost: StepCost::default(),
            faith: Faith::default(),
            answer_len: ANSWER_LEN,
            spare: Duration::ZERO,
        };
        Worker { model, understudy, desk, batch: Batch::default() }
    }

    /// Steps until the handle is dropped, nobody asks for too long, or the model breaks.
    pub(super) fn run(mut self) {
        let _notice = EndNotice(Arc::clone(&self.desk.shared));
        self.try_out();
        let mut idle = true;
        while self.desk.take_in(idle) {
            self.desk.end_from_outside();
            match self.step() {
                Ok(computed) => idle = !computed,
                Err(broken) => {
                    self.desk.fail_all(&broken);
                    return;
                }
            }
            self.desk.report();
        }
        self.desk.fail_all("the model is being unloaded; try again");
    }

    /// Lets the small model show what its guesses take.
    fn try_out(&mut self) {
        let Some(understudy) = &mut self.understudy else { return };
        let tried = catch_unwind(AssertUnwindSafe(|| understudy.try_out()));
        if !matches!(tried, Ok(Ok(()))) {
            self.understudy = None;
        }
    }

    /// One step. Says whether there was anything to do; fails where the model is not to be used any more.
    fn step(&mut self) -> Result<bool, String> {
        self.draft();
        let plan = self.desk.scheduler.schedule();
        if plan.runs.is_empty() {
            return Ok(false);
        }
        self.desk.lay_out(&plan, &mut self.batch);
        let (desk, begun) = (&self.desk, Instant::now());
        let mut watch = |share| match desk.is_to_be_given_up(&plan, begun.elapsed(), share) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        match catch_unwind(AssertUnwindSafe(|| self.model.forward_watched(&self.batch, &mut watch))) {
            Ok(Ok(ControlFlow::Continue(()))) => {
                let chosen = self.desk.sample(&plan, &*self.model);
                self.desk.learn(&plan, begun.elapsed());
                self.desk.commit(&plan, chosen);
            }
            Ok(Ok(ControlFlow::Break(()))) => self.desk.take_back(&plan, begun.elapsed()),
            Ok(Err(error)) => self.desk.fail_plan(&plan, &error.to_string()),
            Err(_) => return Err("the model broke while computing; it has to be loaded again".into()),
        }
        Ok(true)
    }

    /// Sets what may follow each answer that goes on by one token: what followed before, or what the small model says.
    fn draft(&mut self) {
        self.desk.look_up();
        // Nobody waits for guesses at others' answers.
        let Some(understudy) = self.understudy.as_mut().filter(|_| !self.desk.scheduler.has_newcomer())
        else {
            return;
        };
        let desk = &mut self.desk;
        understudy.retain(|id| desk.scheduler.sequence(id).is_some());
        let asked = desk.asked(understudy);
        if asked.is_empty() {
            return;
        }
        let wishes: Vec<_> = asked.iter().filter_map(|&(of, most)| desk.wish(of, most)).collect();
        let rows = desk.shared.options.mixed_tokens.max(1);
        let guessed = catch_unwind(AssertUnwindSafe(|| understudy.guess(&wishes, rows)));
        let of: Vec<_> = wishes.iter().map(|wish| wish.sequence).collect();
        match guessed {
            Ok(Ok(guesses)) => {
                of.into_iter().zip(guesses).for_each(|(id, guesses)| desk.set_draft(id, guesses))
            }
            // Answers go on without it.
            Ok(Err(_)) | Err(_) => self.understudy = None,
        }
    }
}

impl Desk {
    /// Lets each answer that goes on by one token be followed by what followed the same tokens before.
    fn look_up(&mut self) {
        let most = self.shared.options.draft_max;
        if most == 0 {
            return;
        }
        let price = self.cost.price(self.scheduler.running());
        for job in self.jobs.values_mut().filter(|job| job.drafts()) {
            for choice in &mut job.choices {
                let Some(id) = choice.sequence else { continue };
                let Some(sequence) = self.scheduler.sequence(id).filter(|it| it.remaining() == 1) else {
                    continue;
                };
                // The step's own token comes first, and nothing is wanted after the last.
                let left = job.request.max_tokens.saturating_sub(choice.answer.len() + 1);
                let guesses = choice.drafter.look_up(sequence.tokens(), most.min(left), price);
                self.scheduler.set_draft(id, guesses);
            }
        }
    }

    /// The answers of which the small model's guesses pay, and how many of them.
    fn asked(&mut self, understudy: &Understudy) -> Vec<((JobId, usize), usize)> {
        let most = self.shared.options.draft_max;
        let running = self.scheduler.running();
        // What a token takes now: not known before the first was computed.
        let Some(token) = self.cost.takes(running).map(|step| step / running.max(1) as f64) else {
            return Vec::new();
        };
        let token = token.max(f64::MIN_POSITIVE);
        let price = self.cost.price(running) + understudy.takes(running) / token;
        let mut asked = Vec::new();
        for (&id, job) in self.jobs.iter_mut().filter(|(_, job)| job.drafts()) {
            for (nth, choice) in job.choices.iter_mut().enumerate() {
                let Some(sequence) = choice.sequence else { continue };
                let goes_on = |it: &&Sequence| it.remaining() == 1 && it.draft().is_empty();
                let Some(of) = self.scheduler.sequence(sequence).filter(goes_on) else { continue };
                let left = job.request.max_tokens.saturating_sub(choice.answer.len() + 1);
                let entry = understudy.entry(sequence, of.tokens().len()) / token;
                let terms = Terms { price, entry, left: self.answer_len.min(left as f64) };
                let count = choice.drafter.worth_asking(&mut self.faith, terms).min(most).min(left);
                asked.extend((count > 0).then_some(((id, nth), count)));
            }
        }
        asked
    }

    /// An answer as the small model takes it.
    fn wish(&self, (job, choice): (JobId, usize), most: usize) -> Option<Wish<'_>> {
        let job = self.jobs.get(&job)?;
        let sequence = job.choices[choice].sequence?;
        Some(Wish {
            sequence,
            tokens: self.scheduler.sequence(sequence)?.tokens(),
            prompt: job.request.prompt.len(),
            most,
            params: &job.request.sampling,
            seed: job.seed,
            choice,
            ends: self.ends(job),
        })
    }

    /// Lets an answer be followed by what the small model says.
    fn set_draft(&mut self, sequence: SequenceId, guesses: Vec<u32>) {
        let Some(&(id, choice)) = self.owners.get(&sequence) else { return };
        if let Some(job) = self.jobs.get_mut(&id) {
            job.choices[choice].drafter.asked(guesses.len());
            self.scheduler.set_draft(sequence, guesses);
        }
    }

    /// The tokens after which nothing of the job's answers follows.
    fn ends(&self, job: &Job) -> &[u32] {
        if job.request.ignore_end { &[] } else { self.shared.vocabulary.ends() }
    }

    /// Whether to give up a step of which a `share` is done and has taken so long: somebody has come to whom most of it
    /// gives way, and its rest would take long.
    fn is_to_be_given_up(&self, plan: &Plan, took: Duration, share: f64) -> bool {
        let rest = took.as_secs_f64() * (1.0 - share) / share;
        if rest < REST.as_secs_f64() || took > self.spare {
            return false;
        }
        let inbox = self.shared.inbox();
        inbox.arrived.iter().any(|Arrival { request, .. }| {
            self.scheduler.gives_way(plan, request.salt, request.priority, request.n)
        })
    }

    /// Takes back a step that was given up.
    fn take_back(&mut self, plan: &Plan, took: Duration) {
        self.spare = self.spare.saturating_sub(took);
        self.counters.given_up += 1;
        self.counters.preemptions += plan.preempted.len() as u64;
        self.scheduler.take_back(plan);
    }

    /// Takes in how long a step took.
    fn learn(&mut self, plan: &Plan, took: Duration) {
        self.spare = (self.spare + took / SPARE_SHARE).min(SPARE_MAX);
        let background = |id| self.scheduler.sequence(id).is_some_and(Sequence::is_background);
        if plan.runs.iter().all(|run| background(run.sequence)) {
            self.fit_background(plan.tokens(), took);
        }
        match plan.runs.iter().all(|run| run.wanted == run.len) {
            true => self.cost.learn(plan.tokens(), took),
            false => self.fit_steps(plan.tokens(), took),
        }
    }

    /// Sets how many tokens the next steps compute by how long this one took.
    fn fit_steps(&mut self, tokens: usize, took: Duration) {
        if tokens < FIT_TOKENS {
            return;
        }
        let options = &self.shared.options;
        let rate = tokens as f64 / took.as_secs_f64().max(1e-6);
        self.rate = if self.rate == 0.0 { rate } else { (self.rate + rate) / 2.0 };
        let fitting = (self.rate * options.step_time.as_secs_f64()) as usize;
        let fit = |most: usize| fitting.clamp(FIT_TOKENS.min(most), most);
        self.scheduler.set_budgets(fit(options.step_tokens), fit(options.mixed_tokens));
    }

    /// Sets how many tokens the next steps of the background alone compute by how long this one took.
    fn fit_background(&mut self, tokens: usize, took: Duration) {
        let most = self.shared.options.background_time;
        let most = if self.last_asked.elapsed() < QUIET { most } else { QUIET_STEPS * most };
        let fitting = tokens as f64 * most.as_secs_f64() / took.as_secs_f64().max(1e-6);
        // A step of a few tokens says little of larger ones: no more than twice as many are tried.
        let most = (2 * tokens).max(BACKGROUND_TOKENS_MIN);
        self.scheduler.set_background_budget((fitting as usize).clamp(BACKGROUND_TOKENS_MIN, most));
    }

    /// Takes what has arrived; waits for it where there is nothing else to do. False when the engine is to stop.
    fn take_in(&mut self, idle: bool) -> bool {
        let shared = Arc::clone(&self.shared);
        let since = Instant::now();
        let mut inbox = shared.inbox();
        inbox.idle_since = (idle && self.jobs.is_empty()).then_some(since);
        while idle && inbox.arrived.is_empty() && !inbox.stopping {
            // With requests at hand, cancellations and deadlines are to be seen.
            let longest = match (self.jobs.is_empty(), inbox.idle_max) {
                (false, _) => IDLE,
                (true, None) => Duration::from_secs(3600),
                (true, Some(most)) => most.saturating_sub(since.elapsed()),
            };
            if longest.is_zero() {
                // Under the lock: whoever comes next is told, and nobody's request is lost.
                inbox.ended = Some(End::Idle);
                return false;
            }
            let waited = shared.wake.wait_timeout(inbox, longest);
            inbox = waited.unwrap_or_else(PoisonError::into_inner).0;
            if !self.jobs.is_empty() {
                break;
            }
        }
        inbox.idle_since = None;
        let arrived = std::mem::take(&mut inbox.arrived);
        // Counted here until the next report, so that the handle's bound holds.
        inbox.counters.waiting += arrived.len();
        for arrival in &arrived {
            *inbox.waiting.entry(arrival.request.salt).or_default() += 1;
        }
        let stopping = inbox.stopping;
        drop(inbox);
        for arrival in arrived {
            self.begin(arrival);
        }
        !stopping
    }

    fn begin(&mut self, mut arrival: Arrival) {
        let request = &arrival.request;
        if request.priority > BACKGROUND {
            self.last_asked = Instant::now();
        }
        let new = NewSequence {
            tokens: request.prompt.clone(),
            salt: request.salt,
            priority: request.priority,
            seats: request.n,
            wanted: 1,
            private: false,
        };
        let new = match &request.given {
            None => new,
            Some(given) => {
                let (_, before) = given.answer.split_last().unwrap_or((&0, &[]));
                let tokens = [&request.prompt, before].concat();
                NewSequence { tokens, wanted: given.answer.len(), private: !given.hidden.is_empty(), ..new }
            }
        };
        match self.scheduler.add(new) {
            Ok(sequence) => {
                if self.jobs.is_empty() {
                    // Time in which nobody asked says nothing of the pace.
                    self.last_end = Instant::now();
                }
                self.next_job += 1;
                self.owners.insert(sequence, (self.next_job, 0));
                self.jobs.insert(self.next_job, Job::new(arrival, sequence));
            }
            // The handle has checked the same; whoever listens may be gone, which is all the same here.
            Err(error) => {
                let _ = (arrival.sink)(Event::Failed { message: error.to_string() });
            }
        }
    }

    /// Ends requests that were cancelled or are past their deadline.
    fn end_from_outside(&mut self) {
        let now = Instant::now();
        let ended: Vec<_> =
            self.jobs.iter().filter_map(|(&id, job)| Some((id, job.ended_from_outside(now)?))).collect();
        for (id, reason) in ended {
            let choices = self.jobs.get(&id).map_or(0, |job| job.choices.len());
            for choice in 0..choices {
                self.finish(id, choice, reason);
            }
        }
    }

    /// The plan as the model takes it.
    fn lay_out(&self, plan: &Plan, batch: &mut Batch) {
        batch.tokens.clear();
        batch.positions.clear();
        batch.spans.clear();
        batch.wanted.clear();
        batch.copies.clone_from(&plan.copies);
        for run in &plan.runs {
            let Some(sequence) = self.scheduler.sequence(run.sequence) else { continue };
            let first = batch.tokens.len();
            let tokens = sequence.tokens().iter().chain(sequence.draft());
            batch.tokens.extend(tokens.skip(run.start).take(run.len));
            batch.positions.extend((run.start..run.start + run.len).map(|position| position as u32));
            let (end, wanted) = (first + run.len, first + run.len - run.wanted);
            batch.wanted.extend(wanted..end);
            let hidden = self.hidden_from(run.sequence);
            let cut = if hidden.is_empty() { end } else { wanted };
            for (rows, hidden) in [(first..cut, 0..0), (cut..end, hidden)] {
                if !rows.is_empty() {
                    batch.spans.push(Span { rows, blocks: sequence.blocks().to_vec(), hidden });
                }
            }
        }
    }

    /// The positions that the answer in this sequence does not see.
    fn hidden_from(&self, sequence: SequenceId) -> Range<usize> {
        let job = self.owners.get(&sequence).and_then(|(id, _)| self.jobs.get(id));
        job.and_then(|job| job.request.given.as_ref()).map_or(0..0, |given| given.hidden.clone())
    }

    /// Chooses tokens for each answer whose logits were computed, on all of the model's threads.
    fn sample(&mut self, plan: &Plan, model: &dyn Forward) -> Vec<Chosen> {
        let answers = self.answers(plan);
        let rows =
            Rows { logits: model.logits(), vocab: model.vocab(), tokens: self.shared.vocabulary.len() };
        let followers: Vec<_> = answers.iter().map(|answer| self.take_follower(answer)).collect();
        let asks = answers.into_iter().zip(followers).filter_map(|(answer, follower)| {
            let draw = self.draw(&answer, rows)?;
            Some(Mutex::new(Ask { answer, draw, follower, picks: Vec::new() }))
        });
        let asks: Vec<_> = asks.collect();
        model.spread(asks.len(), &|nth| asks[nth].lock().unwrap_or_else(PoisonError::into_inner).choose());
        let done = asks.into_iter().map(|ask| ask.into_inner().unwrap_or_else(PoisonError::into_inner));
        let done: Vec<_> = done.map(|ask| (ask.answer, ask.follower, ask.picks)).collect();
        let mut chosen = Vec::with_capacity(done.len());
        for (answer, follower, picks) in done {
            let Answer { job, choice, rows, first } = answer;
            if let Some(job) = self.jobs.get_mut(&job) {
                job.choices[choice].follower = follower;
                if job.drafts() {
                    let (computed, right) = (rows.len() - 1, picks.len().saturating_sub(1));
                    job.choices[choice].drafter.learn(computed, right, &mut self.faith);
                    self.counters.drafted_tokens += computed as u64;
                    self.counters.accepted_tokens += right as u64;
                }
            }
            chosen.extend(picks.into_iter().enumerate().map(|(nth, pick)| {
                let Pick { token, logprobs, complete } = pick;
                let logprob = logprobs.map(|logprobs| self.name(logprobs));
                Chosen { job, choice, place: first + nth, token, logprob, complete }
            }));
        }
        chosen
    }

    /// The answers that the plan computed logits for.
    fn answers(&mut self, plan: &Plan) -> Vec<Answer> {
        let mut answers = Vec::new();
        let mut row = 0;
        for run in plan.runs.iter().filter(|run| run.wanted > 0) {
            let rows = row..row + run.wanted;
            row = rows.end;
            for (job, choice) in self.answers_of(run.sequence) {
                let Some(of) = self.jobs.get(&job) else { continue };
                let first = match of.request.given {
                    Some(_) => run.start + run.len - run.wanted + 1 - of.request.prompt.len(),
                    None => of.choices[choice].answer.len(),
                };
                answers.push(Answer { job, choice, rows: rows.clone(), first });
            }
        }
        answers
    }

    fn take_follower(&mut self, answer: &Answer) -> Option<Follower> {
        self.jobs.get_mut(&answer.job)?.choices[answer.choice].follower.take()
    }

    /// What one answer's draws depend on.
    fn draw<'a>(&'a self, answer: &Answer, rows: Rows<'a>) -> Option<Draw<'a>> {
        let job = self.jobs.get(&answer.job)?;
        let choice = &job.choices[answer.choice];
        let basis = match &job.request.given {
            Some(given) => Basis::Given(given.answer.get(answer.first..)?.to_vec()),
            None => {
                let sequence = choice.sequence.and_then(|id| self.scheduler.sequence(id));
                Basis::Draft(sequence.map_or_else(Vec::new, |sequence| sequence.draft().to_vec()))
            }
        };
        Some(Draw {
            params: &job.request.sampling,
            rows,
            history: History { prompt: &job.request.prompt, answer: &choice.answer },
            place: Place { seed: job.seed, choice: answer.choice, position: answer.first },
            top: job.request.logprobs.map(usize::from),
            ends: self.ends(job),
            basis,
        })
    }

    /// The answers that go on from this sequence: one, or all of the request's when its prompt is just computed.
    fn answers_of(&mut self, sequence: SequenceId) -> Vec<(JobId, usize)> {
        let Some(&(id, choice)) = self.owners.get(&sequence) else { return Vec::new() };
        let Some(job) = self.jobs.get_mut(&id) else { return Vec::new() };
        if job.begun {
            return vec![(id, choice)];
        }
        job.begun = true;
        let cached = self.scheduler.sequence(sequence).map_or(0, |sequence| sequence.cached());
        job.usage.cached = cached;
        self.counters.prompt_tokens += job.usage.prompt as u64;
        self.counters.cached_tokens += cached as u64;
        let forks = self.scheduler.fork(sequence, job.request.n - 1);
        for (nth, &fork) in forks.iter().enumerate() {
            self.owners.insert(fork, (id, nth + 1));
        }
        job.fork(forks);
        (0..job.choices.len()).map(|choice| (id, choice)).collect()
    }

    fn name(&self, logprobs: LogProbs) -> TokenLogprob {
        let named = |LogProb { token, logprob }: LogProb| RankedToken {
            id: token,
            bytes: self.shared.vocabulary.bytes(token).to_vec(),
            logprob,
        };
        TokenLogprob { chosen: named(logprobs.chosen), top: logprobs.top.into_iter().map(named).collect() }
    }

    /// Makes known what was computed and moves every answer on by its token, or ends it.
    fn commit(&mut self, plan: &Plan, chosen: Vec<Chosen>) {
        self.counters.steps += 1;
        self.counters.preemptions += plan.preempted.len() as u64;
        self.scheduler.publish(plan);
        for chosen in chosen {
            self.advance(chosen);
        }
    }

    /// Adds a token to its answer, which goes on or ends.
    fn advance(&mut self, chosen: Chosen) {
        let Chosen { job: id, choice, place, token, logprob, complete } = chosen;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        // Of several tokens of a step one may have ended the answer, and what is computed again is known.
        if job.choices[choice].sequence.is_none() || place < job.choices[choice].answer.len() {
            return;
        }
        let token = match token {
            Ok(token) => token,
            Err(message) => return self.fail(id, &message),
        };
        let judged = job.request.given.as_ref().map(|given| given.answer.len());
        let vocabulary = &self.shared.vocabulary;
        if judged.is_none() {
            self.counters.completion_tokens += 1;
            job.usage.completion += 1;
            if vocabulary.ends().contains(&token) && !job.request.ignore_end {
                return self.finish(id, choice, FinishReason::Stop);
            }
        }
        let answer = &mut job.choices[choice];
        answer.answer.push(token);
        let tokens = job.request.prompt.len() + answer.answer.len();
        let most = judged.unwrap_or(job.request.max_tokens);
        let full = answer.answer.len() >= most || tokens >= self.shared.sequence_tokens_max;
        let sequence = answer.sequence;
        // Control tokens that end nothing are chosen at times; they are not text.
        let bytes = if vocabulary.is_control(token) { &[] } else { vocabulary.bytes(token) };
        let stop = job.push(choice, (token, logprob), bytes);
        match (stop, complete, full, sequence) {
            (Some(stop), ..) => self.finish(id, choice, FinishReason::StopText(stop)),
            (_, true, ..) => self.finish(id, choice, FinishReason::Stop),
            (_, _, true, _) => self.finish(id, choice, FinishReason::Length),
            (_, _, _, Some(sequence)) if judged.is_none() => self.scheduler.append(sequence, token),
            _ => {}
        }
    }

    /// Ends an answer, and the request with its last one.
    fn finish(&mut self, id: JobId, choice: usize, reason: FinishReason) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let len = job.choices[choice].answer.len() as f64;
        self.answer_len += (len - self.answer_len) * ANSWER_SHARE;
        if let Some(sequence) = job.finish(choice, reason) {
            self.owners.remove(&sequence);
            self.scheduler.remove(sequence);
        }
        if job.is_finished() {
            let usage = job.usage;
            job.send(Event::Done { usage });
            self.forget(id);
        }
    }

    /// Ends a request that cannot be answered.
    fn fail(&mut self, id: JobId, message: &str) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        for sequence in job.choices.iter_mut().filter_map(|choice| choice.sequence.take()) {
            self.owners.remove(&sequence);
            self.scheduler.remove(sequence);
        }
        job.send(Event::Failed { message: message.to_string() });
        self.forget(id);
    }

    fn forget(&mut self, id: JobId) {
        self.jobs.remove(&id);
        self.counters.finished += 1;
        let now = Instant::now();
        let took = now.duration_since(self.last_end).min(Duration::from_secs(60));
        self.pace = (self.pace * (PACE_SHARE - 1) + took) / PACE_SHARE;
        self.last_end = now;
    }

    fn fail_plan(&mut self, plan: &Plan, message: &str) {
        for run in &plan.runs {
            if let Some(&(id, _)) = self.owners.get(&run.sequence) {
                self.fail(id, message);
            }
        }
    }

    fn fail_all(&mut self, message: &str) {
        let ids: Vec<JobId> = self.jobs.keys().copied().collect();
        for id in ids {
            self.fail(id, message);
        }
    }

    /// Lets the handle see the counters.
    fn report(&mut self) {
        self.counters.running = self.scheduler.running();
        self.counters.waiting = self.scheduler.waiting();
        self.counters.blocks_used = self.scheduler.blocks().used();
        self.counters.blocks_total = self.scheduler.blocks().total();
        let mut inbox = self.shared.inbox();
        inbox.counters = self.counters;
        inbox.pace = self.pace;
        inbox.waiting.clear();
        for salt in self.scheduler.waiting_tenants() {
            *inbox.waiting.entry(salt).or_default() += 1;
        }
    }
}
