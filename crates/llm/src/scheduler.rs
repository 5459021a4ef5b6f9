//! Who runs in the next step, and in which blocks. Integers only: no model, no text, no clock.
//!
//! Every step, sequences that continue by one token go first; what is left of the step's token budget goes to
//! prompts, in chunks. Guesses at what comes after those tokens are computed with them where there is room. A prompt is
//! admitted when its blocks are there. When a running sequence finds no block, the one that comes last (lowest
//! priority, youngest) gives up all of its own and waits to be computed again.
//!
//! Tenants are served alike, whatever each asks: of those that wait the one goes first that got fewest tokens, and one
//! that asks little finds the model nearly as if those that ask much were not there: see [`FEW_ANSWERS`]. A step that was
//! begun for those others may be given up when it comes: [`Scheduler::gives_way`], [`Scheduler::take_back`].
//!
//! Sequences that nobody waits for, the background, come after all that: see [`BACKGROUND`].

mod blocks;
mod sequence;

use std::collections::{BTreeMap, HashMap};

pub use blocks::{BlockId, BlockManager, ContentId};
pub use sequence::{NewSequence, Sequence, SequenceId};

use blocks::NOTHING;

/// The greatest priority of the background: sequences that nobody waits for. No token of theirs is computed while
/// anybody waits for a first one, few are beside other answers, and their steps are short where there is nothing else:
/// whoever comes finds the model as if they were not there, but for the rest of one short step. They are not admitted
/// before others however long they wait, and give up their places and blocks to all others.
pub const BACKGROUND: i8 = -2;

/// Tokens of others' answers for each one of the background's in the same step.
const BACKGROUND_SHARE: usize = 4;

/// A waiting sequence that so many later ones went past is admitted before all others, and gives way to nobody.
const PASSED_MAX: u32 = 64;

/// Answers that a tenant may wait for and count as one that asks little. While one such waits for a first token, tenants
/// that wait for more and got more go on with only so many, begin no others, and give up their last for a place.
const FEW_ANSWERS: usize = 4;

/// Steps in a row in which tenants that ask much may give way, or that are given up for others; the one after them is not
/// given up, and their turn comes first: they go on however many others come.
const HELD_MAX: u32 = 32;

/// Tokens that a tenant may be behind the others when it comes: so many it gets before it is their turn again.
const CREDIT_TOKENS: u64 = 512;

/// How many tenants' shares are remembered while they ask for nothing.
const TENANTS_MAX: usize = 4096;

/// The scheduler's bounds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Tokens a block holds.
    pub block_len: usize,
    /// Blocks in the key-value cache.
    pub blocks: u32,
    /// Tokens computed in one step at most. At least `running_max + mixed_tokens`.
    pub step_tokens: usize,
    /// Prompt tokens computed at most in a step in which other sequences wait for their next token.
    pub mixed_tokens: usize,
    /// Tokens computed at most in a step that computes nothing but the background's.
    pub background_tokens: usize,
    /// Rows of logits in one step at most. More than `running_max`.
    pub wanted_max: usize,
    /// Sequences that run at once.
    pub running_max: usize,
    /// Sequences that wait to run.
    pub waiting_max: usize,
    /// Tokens in a sequence at most, prompt and answer.
    pub sequence_tokens_max: usize,
}

/// Why a sequence was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// As many wait as may.
    #[error("{waiting} sequences wait already; try again later")]
    Full {
        /// How many wait.
        waiting: usize,
    },
    /// It could never run.
    #[error("the prompt has {tokens} tokens; at most {limit} fit; shorten it")]
    TooLong {
        /// Tokens in the prompt.
        tokens: usize,
        /// Tokens that fit, one of the answer's among them.
        limit: usize,
    },
    /// There is nothing to continue, or logits of more tokens are wanted than there are.
    #[error("the prompt has no token; send at least one")]
    Empty,
    /// More answers than may run at once.
    #[error("{seats} answers are asked for at once; at most {limit} can run; ask for fewer")]
    TooWide {
        /// Answers asked for.
        seats: usize,
        /// Answers that can run.
        limit: usize,
    },
}

/// Tokens of one sequence that a step computes: positions `start .. start + len`. Those past the sequence's tokens are
/// its draft's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Whose.
    pub sequence: SequenceId,
    /// The first position.
    pub start: usize,
    /// How many.
    pub len: usize,
    /// Of how many of them, the last ones, the logits are wanted; none while a prompt is under way.
    pub wanted: usize,
}

/// A block to be copied before the step computes anything; copies are made in the order given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockCopy {
    /// The block that several sequences share.
    pub from: BlockId,
    /// The block of the one that is about to write.
    pub to: BlockId,
}

/// What one step computes.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Sequences that continue first, then prompts.
    pub runs: Vec<Run>,
    /// To be made first.
    pub copies: Vec<BlockCopy>,
    /// Sequences that lost their blocks and wait again.
    pub preempted: Vec<SequenceId>,
}

impl Plan {
    /// Tokens the step computes.
    pub fn tokens(&self) -> usize {
        self.runs.iter().map(|run| run.len).sum()
    }

    /// Rows of logits the step computes.
    pub fn wanted(&self) -> usize {
        self.runs.iter().map(|run| run.wanted).sum()
    }
}

/// Decides, step by step, which sequences run.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    blocks: BlockManager,
    sequences: BTreeMap<SequenceId, Sequence>,
    /// Those with blocks, by priority and then by admission: the last is preempted first.
    running: Vec<SequenceId>,
    waiting: Vec<SequenceId>,
    /// Tokens computed for each tenant, brought near to the others' when it returns.
    served: HashMap<u64, u64>,
    /// What the least served of those present was served, or of those who were present last. Never falls.
    level: u64,
    arrivals: u64,
    admissions: u64,
    /// Steps since the last that was computed and in which nobody gave way.
    held: u32,
    /// Whether somebody gives way in the step that was planned last.
    heeds: bool,
}

impl Scheduler {
    /// A scheduler with nothing to do.
    pub fn new(limits: Limits) -> Scheduler {
        Scheduler {
            limits,
            blocks: BlockManager::new(limits.blocks, limits.block_len),
            sequences: BTreeMap::new(),
            running: Vec::new(),
            waiting: Vec::new(),
            served: HashMap::new(),
            level: 0,
            arrivals: 0,
            admissions: 0,
            held: 0,
            heeds: false,
        }
    }

    /// The bounds it was made with.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Changes how many tokens a step computes: in all, and of prompts while others wait for their next token. Neither
    /// changes what is computed, only when. There is always room for every running sequence's next token.
    pub fn set_budgets(&mut self, step_tokens: usize, mixed_tokens: usize) {
        self.limits.mixed_tokens = mixed_tokens.max(1);
        self.limits.step_tokens = step_tokens.max(self.limits.running_max + self.limits.mixed_tokens);
    }

    /// Changes how many tokens a step computes that computes nothing but the background's.
    pub fn set_background_budget(&mut self, tokens: usize) {
        self.limits.background_tokens = tokens.clamp(1, self.limits.step_tokens);
    }

    /// Tokens, prompt and answer together, that one sequence can reach.
    pub fn sequence_tokens_max(&self) -> usize {
        self.limits.sequence_tokens_max.min(self.blocks.total() * self.limits.block_len)
    }

    /// Takes a sequence into the queue.
    pub fn add(&mut self, new: NewSequence) -> Result<SequenceId, AddError> {
        self.check(&new)?;
        self.welcome(new.salt);
        self.arrivals += 1;
        let id = SequenceId(self.arrivals);
        self.sequences.insert(id, Sequence::new(new, self.arrivals));
        self.waiting.push(id);
        Ok(id)
    }

    fn check(&self, new: &NewSequence) -> Result<(), AddError> {
        let limit = self.sequence_tokens_max();
        if new.tokens.is_empty() || !(1..=new.tokens.len()).contains(&new.wanted) {
            return Err(AddError::Empty);
        }
        if new.tokens.len() >= limit {
            return Err(AddError::TooLong { tokens: new.tokens.len(), limit });
        }
        if new.seats > self.limits.running_max {
            return Err(AddError::TooWide { seats: new.seats, limit: self.limits.running_max });
        }
        if self.waiting.len() >= self.limits.waiting_max {
            return Err(AddError::Full { waiting: self.waiting.len() });
        }
        Ok(())
    }

    /// A tenant that comes begins a little behind the least served of those present at most: what it did not use while
    /// away gives it no right to stop the others now, and what it used while it was alone is not held against it for long.
    fn welcome(&mut self, salt: u64) {
        self.raise_level();
        let served = self.served_on_arrival(salt);
        if self.served.len() >= TENANTS_MAX {
            let sequences = &self.sequences;
            self.served.retain(|salt, _| sequences.values().any(|sequence| sequence.salt == *salt));
        }
        self.served.insert(salt, served);
    }

    /// What counts as served of a tenant of which a sequence comes now.
    fn served_on_arrival(&self, salt: u64) -> u64 {
        let served = self.served(salt).max(self.level.saturating_sub(CREDIT_TOKENS));
        match self.sequences.values().any(|sequence| sequence.salt == salt) {
            true => served,
            false => served.min(self.level.saturating_add(CREDIT_TOKENS)),
        }
    }

    fn served(&self, salt: u64) -> u64 {
        self.served.get(&salt).copied().unwrap_or(0)
    }

    fn raise_level(&mut self) {
        let least = self.present().filter_map(|sequence| self.served.get(&sequence.salt)).min();
        self.level = self.level.max(least.copied().unwrap_or(0));
    }

    /// All but the background.
    fn present(&self) -> impl Iterator<Item = &Sequence> {
        self.sequences.values().filter(|sequence| !sequence.is_background())
    }

    /// How many answers each tenant waits for.
    fn answers(&self) -> HashMap<u64, usize> {
        let mut answers = HashMap::new();
        self.present().for_each(|sequence| *answers.entry(sequence.salt).or_default() += sequence.seats);
        answers
    }

    /// The least served of the tenants that ask little and wait for a first token, if others are to give way to it.
    fn newcomer(&self) -> Option<Newcomer> {
        let answers = self.answers();
        let few = |salt: u64| answers.get(&salt).is_none_or(|answers| *answers <= FEW_ANSWERS);
        if answers.keys().all(|salt| few(*salt)) {
            return None;
        }
        let served = |salt| self.served(salt);
        let waits = self.present().filter(|sequence| sequence.remaining() > 1 || sequence.blocks.is_empty());
        let first = waits.filter(|sequence| few(sequence.salt)).min_by_key(|sequence| {
            (std::cmp::Reverse(sequence.priority), served(sequence.salt), sequence.arrival)
        })?;
        let (salt, priority) = (first.salt, first.priority);
        let held =
            answers.keys().copied().filter(|other| !few(*other) && served(*other) > served(salt)).collect();
        Some(Newcomer { salt, priority, held })
    }

    /// Whether a tenant waits to which others give way.
    pub fn has_newcomer(&self) -> bool {
        self.newcomer().is_some()
    }

    /// Whether most of the step planned last is of sequences that would give way to these of the tenant `salt`, if they were there.
    pub fn gives_way(&self, plan: &Plan, salt: u64, priority: i8, seats: usize) -> bool {
        let answers = self.answers();
        let of = |salt: u64| answers.get(&salt).copied().unwrap_or(0);
        let (few, served) = (of(salt) + seats <= FEW_ANSWERS, self.served_on_arrival(salt));
        let behind = |sequence: &Sequence| {
            sequence.is_background()
                || few
                    && sequence.priority <= priority
                    && of(sequence.salt) > FEW_ANSWERS
                    && self.served(sequence.salt) > served
        };
        let rows = plan.runs.iter().filter(|run| self.sequence(run.sequence).is_some_and(behind));
        priority > BACKGROUND
            && self.held <= HELD_MAX
            && 2 * rows.map(|run| run.len).sum::<usize>() > plan.tokens()
    }

    /// Counts a plan that was given up as not computed. Whom it admitted and whom it put off stay so.
    pub fn take_back(&mut self, plan: &Plan) {
        self.held += 1;
        for run in &plan.runs {
            let Some(sequence) = self.sequences.get_mut(&run.sequence) else { continue };
            sequence.computed = run.start;
            let served = self.served.entry(sequence.salt).or_insert(0);
            *served = served.saturating_sub(run.len as u64);
        }
    }

    /// Decides what the next step computes, and counts it as computed: the caller runs the plan, then calls
    /// [`Scheduler::publish`], or [`Scheduler::take_back`] where it gave up. Empty when there is nothing to do.
    pub fn schedule(&mut self) -> Plan {
        let mut plan = Plan::default();
        let mut all = self.limits.running_max;
        self.raise_level();
        let newcomer = self.newcomer();
        let turn = match &newcomer {
            None => Turn::All,
            Some(newcomer) if self.held > HELD_MAX => Turn::Held(newcomer),
            Some(newcomer) => Turn::Newcomer(newcomer),
        };
        self.heeds = turn.newcomer().is_some();
        self.continue_running(turn, &mut plan, &mut all);
        self.extend_by_drafts(turn, &mut plan);
        let spent = plan.tokens();
        let mut budget = self.limits.step_tokens.saturating_sub(spent);
        if spent > 0 {
            budget = budget.min(self.limits.mixed_tokens);
        }
        self.prefill_running(turn, &mut plan, &mut budget);
        self.admit(turn, &mut plan, &mut budget);
        if let Turn::Held(newcomer) = turn {
            self.prefill_running(Turn::Newcomer(newcomer), &mut plan, &mut budget);
            self.admit(Turn::Newcomer(newcomer), &mut plan, &mut budget);
        }
        self.run_background(&mut plan);
        plan
    }

    /// One token for each running sequence, of the background or of all others, whose other tokens are computed; as far
    /// as `budget` goes. Of those who give way to a newcomer, a few go on.
    fn continue_running(&mut self, turn: Turn<'_>, plan: &mut Plan, budget: &mut usize) {
        let background = matches!(turn, Turn::Background);
        let mut index = 0;
        let mut continued: HashMap<u64, usize> = HashMap::new();
        while let Some(&id) = self.running.get(index).filter(|_| *budget > 0) {
            let sequence = &self.sequences[&id];
            if sequence.is_background() == background && sequence.remaining() == 1 {
                if turn.newcomer().is_some_and(|newcomer| newcomer.holds(sequence)) {
                    let before = continued.entry(sequence.salt).or_default();
                    *before += 1;
                    if *before > FEW_ANSWERS {
                        index += 1;
                        continue;
                    }
                }
                if !self.make_room(id, plan) {
                    continue; // It was itself the last: `index` is now past the end.
                }
                self.run(id, 1, plan);
                *budget -= 1;
            }
            index += 1;
        }
    }

    /// What the step computes of the background.
    fn run_background(&mut self, plan: &mut Plan) {
        let mut budget = self.background_budget(plan);
        self.continue_running(Turn::Background, plan, &mut budget);
        self.prefill_running(Turn::Background, plan, &mut budget);
        self.admit(Turn::Background, plan, &mut budget);
    }

    /// Tokens of the background that the step may compute beside what is planned.
    fn background_budget(&self, plan: &Plan) -> usize {
        let others_wait = self.waiting.iter().any(|id| !self.sequences[id].is_background());
        let prompts = plan.runs.iter().any(|run| run.len > run.wanted);
        let most = match plan.tokens() {
            _ if others_wait || prompts => 0,
            0 => self.limits.background_tokens,
            tokens => (tokens / BACKGROUND_SHARE).max(1),
        };
        let rows = self.limits.wanted_max.saturating_sub(plan.wanted());
        most.min(rows.max(1)).min(self.limits.step_tokens.saturating_sub(plan.tokens()))
    }

    /// Lets sequences that continue compute their guesses too, as far as rows and free blocks allow: nobody is preempted
    /// for a guess, and a block is left for each that runs. None for those who give way to a newcomer.
    fn extend_by_drafts(&mut self, turn: Turn<'_>, plan: &mut Plan) {
        let logits = self.limits.wanted_max.saturating_sub(plan.wanted());
        let tokens = self.limits.step_tokens.saturating_sub(self.limits.mixed_tokens + plan.tokens());
        let mut rows = logits.min(tokens);
        for run in &mut plan.runs {
            let Some(sequence) = self.sequences.get_mut(&run.sequence) else { continue };
            let gives_way = turn.newcomer().is_some_and(|newcomer| newcomer.holds(sequence));
            let rest = self.limits.sequence_tokens_max.saturating_sub(sequence.tokens.len() + 1);
            let longest = if gives_way { 0 } else { rest };
            sequence.draft.truncate(longest.min(rows));
            let end = |sequence: &Sequence| sequence.tokens.len() + sequence.draft.len();
            while end(sequence) > sequence.blocks.len() * self.limits.block_len {
                let spare = self.blocks.available() > self.running.len();
                match spare.then(|| self.blocks.allocate()).flatten() {
                    Some(block) => sequence.blocks.push(block),
                    None => {
                        let room = sequence.blocks.len() * self.limits.block_len - sequence.tokens.len();
                        sequence.draft.truncate(room);
                    }
                }
            }
            let guesses = sequence.draft.len();
            rows -= guesses;
            run.len += guesses;
            run.wanted += guesses;
            *self.served.entry(sequence.salt).or_insert(0) += guesses as u64;
        }
    }

    /// A block of its own for the sequence's next token, taken from the last running sequence if it must be.
    /// False when that is the sequence itself, which then waits.
    fn make_room(&mut self, id: SequenceId, plan: &mut Plan) -> bool {
        loop {
            match self.room_of(id) {
                Room::There => return true,
                Room::Block => {
                    if let Some(block) = self.blocks.allocate() {
                        self.edit(id, |sequence| sequence.blocks.push(block));
                        return true;
                    }
                }
                Room::Copy { index, from } => {
                    if let Some(to) = self.blocks.allocate() {
                        self.blocks.release(from);
                        self.edit(id, |sequence| sequence.blocks[index] = to);
                        plan.copies.push(BlockCopy { from, to });
                        return true;
                    }
                }
            }
            if self.preempt_last(plan) == Some(id) {
                return false;
            }
        }
    }

    fn room_of(&self, id: SequenceId) -> Room {
        let sequence = &self.sequences[&id];
        let index = sequence.computed / self.limits.block_len;
        match sequence.blocks.get(index) {
            None => Room::Block,
            Some(&from) if self.blocks.references(from) > 1 => Room::Copy { index, from },
            Some(_) => Room::There,
        }
    }

    fn preempt_last(&mut self, plan: &mut Plan) -> Option<SequenceId> {
        let last = self.running.pop()?;
        self.put_off(last, plan);
        Some(last)
    }

    fn put_off(&mut self, id: SequenceId, plan: &mut Plan) {
        self.free_blocks(id);
        self.waiting.push(id);
        plan.preempted.push(id);
    }

    /// Puts off the last of the sequences that give way to the `newcomer` and are not in the step. Whether there was one.
    fn preempt_held(&mut self, newcomer: &Newcomer, plan: &mut Plan) -> bool {
        let gives_way = |id: &SequenceId| {
            newcomer.holds(&self.sequences[id]) && plan.runs.iter().all(|run| run.sequence != *id)
        };
        let Some(place) = self.running.iter().rposition(gives_way) else { return false };
        let id = self.running.remove(place);
        self.put_off(id, plan);
        true
    }

    /// Prompts that are under way, in chunks. Their blocks were given at admission.
    fn prefill_running(&mut self, turn: Turn<'_>, plan: &mut Plan, budget: &mut usize) {
        let begun = |id: &SequenceId| {
            let sequence = &self.sequences[id];
            turn.includes(sequence) && sequence.remaining() > 1
        };
        let begun: Vec<SequenceId> = self.running.iter().copied().filter(begun).collect();
        for id in begun {
            self.run_chunk(id, plan, budget);
        }
    }

    /// Starts waiting sequences, the best first, while there are seats, blocks and budget. Nobody is let past one
    /// that does not fit: it would never fit otherwise. One whose next block this very step computes for another
    /// waits for it: of many that begin alike and come at once, the first computes for all.
    fn admit(&mut self, turn: Turn<'_>, plan: &mut Plan, budget: &mut usize) {
        while *budget > 0 {
            let Some(place) = self.next_waiting(turn) else { return };
            let id = self.waiting[place];
            if self.is_being_computed(id, plan) || !self.make_place(id, turn.newcomer(), plan) {
                return;
            }
            self.waiting.swap_remove(place);
            self.count_passed(id);
            self.start(id);
            self.run_chunk(id, plan, budget);
        }
    }

    /// A seat and blocks for the sequence; taken from the background where it is not itself of it, and for a `newcomer` from
    /// those who give way. False, and it has none, when there are too few.
    fn make_place(&mut self, id: SequenceId, newcomer: Option<&Newcomer>, plan: &mut Plan) -> bool {
        loop {
            let seated = self.seats_taken() + self.sequences[&id].seats <= self.limits.running_max;
            if seated && self.give_blocks(id) {
                return true;
            }
            let last = self.running.last().map(|last| &self.sequences[last]);
            if self.sequences[&id].is_background() {
                return false;
            }
            if last.is_some_and(Sequence::is_background) {
                self.preempt_last(plan);
                continue;
            }
            let comes = newcomer.filter(|newcomer| newcomer.salt == self.sequences[&id].salt);
            if !comes.is_some_and(|newcomer| self.preempt_held(newcomer, plan)) {
                return false;
            }
        }
    }

    /// Whether the plan computes, for another sequence, the first block of this one that is not known yet.
    fn is_being_computed(&self, id: SequenceId, plan: &Plan) -> bool {
        let sequence = &self.sequences[&id];
        let prompt = sequence.prompt();
        let known = known_prefix(&self.blocks, sequence.salt, prompt).0.len();
        let end = (known + 1) * self.limits.block_len;
        let Some(beginning) = prompt.get(..end) else { return false };
        plan.runs.iter().any(|run| {
            let other = &self.sequences[&run.sequence];
            (run.start..run.start + run.len).contains(&(end - 1))
                && other.salt == sequence.salt
                && other.tokens.get(..end) == Some(beginning)
        })
    }

    fn seats_taken(&self) -> usize {
        self.running.iter().map(|id| self.sequences[id].seats).sum()
    }

    /// The place in `waiting` of the one to be admitted next: whoever was passed too often, then by priority, then
    /// the tenant that got least, then whoever came first.
    fn next_waiting(&self, turn: Turn<'_>) -> Option<usize> {
        let rank = |id: &SequenceId| {
            let sequence = &self.sequences[id];
            let patient = sequence.passed < PASSED_MAX;
            let priority =
                if patient { std::cmp::Reverse(sequence.priority) } else { std::cmp::Reverse(i8::MAX) };
            let served = if patient { self.served.get(&sequence.salt).copied().unwrap_or(0) } else { 0 };
            (patient, priority, served, sequence.arrival)
        };
        let of_turn = |place: &usize| turn.includes(&self.sequences[&self.waiting[*place]]);
        (0..self.waiting.len()).filter(of_turn).min_by_key(|&place| rank(&self.waiting[place]))
    }

    fn count_passed(&mut self, admitted: SequenceId) {
        let arrival = self.sequences[&admitted].arrival;
        for id in &self.waiting {
            if let Some(sequence) = self.sequences.get_mut(id).filter(|other| other.arrival < arrival) {
                sequence.passed = sequence.passed.saturating_add(1);
            }
        }
    }

    /// Blocks for all of the sequence's tokens, those that are known already shared. False, and nothing taken,
    /// when there are too few. Leaves one block for each that runs, so that an admission does not at once lead to
    /// a preemption.
    fn give_blocks(&mut self, id: SequenceId) -> bool {
        let sequence = &self.sequences[&id];
        let block_len = self.limits.block_len;
        let needed = sequence.tokens.len().div_ceil(block_len);
        let (mut blocks, content) = known_prefix(&self.blocks, sequence.salt, sequence.prompt());
        let known = blocks.len();
        for &block in &blocks {
            self.blocks.share(block);
        }
        if self.blocks.available() < needed - known + self.running.len() {
            release_all(&mut self.blocks, &blocks);
            return false;
        }
        while blocks.len() < needed {
            let Some(block) = self.blocks.allocate() else {
                release_all(&mut self.blocks, &blocks);
                return false;
            };
            blocks.push(block);
        }
        self.edit(id, |sequence| {
            sequence.blocks = blocks;
            sequence.computed = known * block_len;
            sequence.published = known;
            sequence.content = content;
            sequence.cached.get_or_insert(known * block_len);
        });
        true
    }

    fn start(&mut self, id: SequenceId) {
        self.admissions += 1;
        let admitted = self.admissions;
        self.edit(id, |sequence| {
            sequence.admitted = admitted;
            sequence.passed = 0;
        });
        self.take_running(id);
    }

    fn take_running(&mut self, id: SequenceId) {
        let sequences = &self.sequences;
        let rank = |id: &SequenceId| (std::cmp::Reverse(sequences[id].priority), sequences[id].admitted, *id);
        let place = self.running.partition_point(|other| rank(other) < rank(&id));
        self.running.insert(place, id);
    }

    fn run_chunk(&mut self, id: SequenceId, plan: &mut Plan, budget: &mut usize) {
        let sequence = &self.sequences[&id];
        // Those before the ones whose logits are wanted, and of these as many as there are rows for.
        let rows = self.limits.wanted_max.saturating_sub(plan.wanted());
        let most = sequence.prompt().len().saturating_sub(sequence.computed) + rows;
        let len = sequence.remaining().min(*budget).min(most);
        if len > 0 {
            *budget -= len;
            self.run(id, len, plan);
        }
    }

    fn run(&mut self, id: SequenceId, len: usize, plan: &mut Plan) {
        let Some(sequence) = self.sequences.get_mut(&id) else { return };
        let start = sequence.computed;
        sequence.computed += len;
        *self.served.entry(sequence.salt).or_insert(0) += len as u64;
        let wanted = sequence.computed.saturating_sub(start.max(sequence.prompt().len()));
        plan.runs.push(Run { sequence: id, start, len, wanted });
    }

    /// Makes the blocks that the plan filled known to later prompts. To be called when the plan has been computed.
    pub fn publish(&mut self, plan: &Plan) {
        self.held = if self.heeds { self.held + 1 } else { 0 };
        for run in &plan.runs {
            let Some(sequence) = self.sequences.get_mut(&run.sequence) else { continue };
            while (sequence.published + 1) * self.limits.block_len <= sequence.shareable() {
                let first = sequence.published * self.limits.block_len;
                let tokens = &sequence.tokens[first..first + self.limits.block_len];
                let block = sequence.blocks[sequence.published];
                sequence.content = self.blocks.publish(block, sequence.salt, sequence.content, tokens);
                sequence.published += 1;
            }
        }
    }

    /// What may follow a sequence's last token: the next step computes it too, where there is room, and
    /// [`Scheduler::append`] finds what was guessed right computed. Nothing is guessed for the background.
    pub fn set_draft(&mut self, id: SequenceId, draft: Vec<u32>) {
        self.edit(id, |sequence| {
            if !sequence.is_background() {
                sequence.draft = draft;
            }
        });
    }

    /// Continues a sequence whose tokens are all computed by one more. If that was the draft's next it is computed too;
    /// otherwise what was guessed is of no use any more.
    pub fn append(&mut self, id: SequenceId, token: u32) {
        self.edit(id, |sequence| {
            if sequence.draft.first() == Some(&token) {
                sequence.draft.remove(0);
                sequence.computed += 1;
            } else {
                sequence.draft.clear();
            }
            sequence.tokens.push(token);
        });
    }

    /// Makes `copies` more sequences of one whose prompt has just been computed; they share its blocks until they
    /// write. It gives them the seats that it kept.
    pub fn fork(&mut self, id: SequenceId, copies: usize) -> Vec<SequenceId> {
        let Some(original) = self.sequences.get_mut(&id) else { return Vec::new() };
        original.seats = 1;
        let original = original.clone();
        let mut forks = Vec::with_capacity(copies);
        for _ in 0..copies {
            self.arrivals += 1;
            let fork = SequenceId(self.arrivals);
            for &block in &original.blocks {
                self.blocks.share(block);
            }
            self.sequences.insert(fork, original.clone());
            self.take_running(fork);
            forks.push(fork);
        }
        forks
    }

    /// Takes a sequence out, whatever it was doing, and frees its blocks.
    pub fn remove(&mut self, id: SequenceId) {
        self.free_blocks(id);
        self.running.retain(|other| *other != id);
        self.waiting.retain(|other| *other != id);
        self.sequences.remove(&id);
    }

    /// Releases the last block first: of a prefix, the end is given up before the beginning.
    fn free_blocks(&mut self, id: SequenceId) {
        let Some(sequence) = self.sequences.get_mut(&id) else { return };
        sequence.computed = 0;
        sequence.published = 0;
        sequence.content = NOTHING;
        sequence.draft.clear();
        let blocks = std::mem::take(&mut sequence.blocks);
        release_all(&mut self.blocks, &blocks);
    }

    fn edit(&mut self, id: SequenceId, change: impl FnOnce(&mut Sequence)) {
        if let Some(sequence) = self.sequences.get_mut(&id) {
            change(sequence);
        }
    }

    /// A sequence that was added and not removed.
    pub fn sequence(&self, id: SequenceId) -> Option<&Sequence> {
        self.sequences.get(&id)
    }

    /// Sequences that have blocks.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Sequences that have none.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Each one's tenant.
    pub fn waiting_tenants(&self) -> impl Iterator<Item = u64> {
        self.waiting.iter().map(|id| self.sequences[id].salt)
    }

    /// The blocks and their users.
    pub fn blocks(&self) -> &BlockManager {
        &self.blocks
    }
}

/// A tenant that asks little and waits for a first token.
struct Newcomer {
    salt: u64,
    priority: i8,
    /// The tenants that give way: they ask more, and got more.
    held: Vec<u64>,
}

impl Newcomer {
    fn holds(&self, sequence: &Sequence) -> bool {
        let patient = !sequence.is_background() && sequence.passed < PASSED_MAX;
        let gives_way = patient && sequence.priority <= self.priority;
        gives_way && self.held.contains(&sequence.salt)
    }
}

/// Whose turn it is to be computed.
#[derive(Clone, Copy)]
enum Turn<'a> {
    /// Everybody's but the background's.
    All,
    /// The newcomer's and everybody's who does not give way to it.
    Newcomer(&'a Newcomer),
    /// Of those who have given way to it for long.
    Held(&'a Newcomer),
    /// Of those for whom nobody waits.
    Background,
}

impl<'a> Turn<'a> {
    fn includes(self, sequence: &Sequence) -> bool {
        match self {
            Turn::All => !sequence.is_background(),
            Turn::Newcomer(newcomer) => !sequence.is_background() && !newcomer.holds(sequence),
            Turn::Held(newcomer) => newcomer.holds(sequence),
            Turn::Background => sequence.is_background(),
        }
    }

    /// To whom others give way.
    fn newcomer(self) -> Option<&'a Newcomer> {
        match self {
            Turn::Newcomer(newcomer) => Some(newcomer),
            _ => None,
        }
    }
}

/// What a sequence's next token needs.
enum Room {
    There,
    Block,
    Copy { index: usize, from: BlockId },
}

/// The known blocks that hold the beginning of `tokens`, and their content.
fn known_prefix(blocks: &BlockManager, salt: u64, tokens: &[u32]) -> (Vec<BlockId>, ContentId) {
    let mut found = Vec::new();
    let mut content = NOTHING;
    for chunk in tokens.chunks_exact(blocks.block_len()) {
        let Some((block, next)) = blocks.find(salt, content, chunk) else { break };
        found.push(block);
        content = next;
    }
    (found, content)
}

fn release_all(blocks: &mut BlockManager, ids: &[BlockId]) {
    for &id in ids.iter().rev() {
        blocks.release(id);
    }
}

#[cfg(test)]
mod tests;
