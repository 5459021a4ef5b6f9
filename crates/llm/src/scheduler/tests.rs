//! The scheduler against a memory that remembers what was written where.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn limits(blocks: u32) -> Limits {
    Limits {
        block_len: 4,
        blocks,
        step_tokens: 12,
        mixed_tokens: 5,
        background_tokens: 3,
        wanted_max: 9,
        running_max: 6,
        waiting_max: 20,
        sequence_tokens_max: 40,
    }
}

fn prompt(tokens: &[u32]) -> NewSequence {
    NewSequence { tokens: tokens.to_vec(), salt: 0, priority: 0, seats: 1, wanted: 1, private: false }
}

/// Steps until the sequence's next token is due.
fn settle(scheduler: &mut Scheduler, id: SequenceId) -> Plan {
    for _ in 0..100 {
        let plan = scheduler.schedule();
        scheduler.publish(&plan);
        if plan.runs.iter().any(|run| run.sequence == id && run.wanted > 0) {
            return plan;
        }
    }
    panic!("{id:?} never ran");
}

#[test]
fn a_long_prompt_is_computed_in_chunks_between_others_tokens() {
    let mut scheduler = Scheduler::new(limits(40));
    let first = scheduler.add(prompt(&[1, 2])).unwrap();
    settle(&mut scheduler, first);
    scheduler.append(first, 3);
    let long = scheduler.add(prompt(&(0..30).collect::<Vec<_>>())).unwrap();
    let plan = scheduler.schedule();
    assert_eq!(plan.runs[0], Run { sequence: first, start: 2, len: 1, wanted: 1 });
    assert_eq!(plan.runs[1], Run { sequence: long, start: 0, len: 5, wanted: 0 });
    // Nobody waits for a token: the whole budget.
    assert_eq!(scheduler.schedule().runs, [Run { sequence: long, start: 5, len: 12, wanted: 0 }]);
}

#[test]
fn a_prefix_is_computed_once_for_a_tenant() {
    let mut scheduler = Scheduler::new(limits(40));
    let tokens: Vec<u32> = (0..12).collect();
    let first = scheduler.add(prompt(&tokens)).unwrap();
    settle(&mut scheduler, first);
    scheduler.remove(first);
    let again = scheduler.add(prompt(&tokens)).unwrap();
    let plan = settle(&mut scheduler, again);
    assert_eq!(plan.runs, [Run { sequence: again, start: 8, len: 4, wanted: 1 }]);
    assert_eq!(scheduler.sequence(again).unwrap().cached(), 8);
    let other = scheduler.add(NewSequence { salt: 1, ..prompt(&tokens) }).unwrap();
    settle(&mut scheduler, other);
    assert_eq!(scheduler.sequence(other).unwrap().cached(), 0);
}

#[test]
fn a_prefix_that_many_bring_at_once_is_computed_by_the_first() {
    let mut scheduler = Scheduler::new(Limits { step_tokens: 100, mixed_tokens: 50, ..limits(40) });
    let tokens: Vec<u32> = (0..12).collect();
    let ids: Vec<_> = (100..104)
        .map(|last| scheduler.add(prompt(&[tokens.as_slice(), &[last]].concat())).unwrap())
        .collect();
    let stranger = scheduler.add(NewSequence { salt: 1, ..prompt(&tokens) }).unwrap();
    let plan = scheduler.schedule();
    scheduler.publish(&plan);
    assert_eq!(plan.runs[0], Run { sequence: ids[0], start: 0, len: 13, wanted: 1 });
    assert!(plan.runs[1..].iter().all(|run| run.sequence == stranger), "{plan:?}");
    let plan = scheduler.schedule();
    let others: Vec<_> =
        ids[1..].iter().map(|&sequence| Run { sequence, start: 12, len: 1, wanted: 1 }).collect();
    for run in others {
        assert!(plan.runs.contains(&run), "{plan:?}");
    }
}

#[test]
fn what_is_guessed_right_is_computed_already() {
    let mut scheduler = Scheduler::new(limits(40));
    let first = scheduler.add(prompt(&[1, 2])).unwrap();
    settle(&mut scheduler, first);
    scheduler.append(first, 3);
    scheduler.set_draft(first, vec![4, 5, 6]);
    let plan = scheduler.schedule();
    assert_eq!(plan.runs, [Run { sequence: first, start: 2, len: 4, wanted: 4 }]);
    for token in [4, 5, 9] {
        scheduler.append(first, token);
    }
    // 6 was wrong: it is computed again as what it is.
    assert_eq!(scheduler.schedule().runs, [Run { sequence: first, start: 5, len: 1, wanted: 1 }]);
}

#[test]
fn all_that_is_wanted_is_computed_and_what_is_private_is_not_found() {
    let mut scheduler = Scheduler::new(limits(40));
    let tokens: Vec<u32> = (0..16).collect();
    let new = NewSequence { wanted: 7, private: true, ..prompt(&tokens) };
    for cached in [0, 8] {
        let id = scheduler.add(new.clone()).unwrap();
        let mut wanted = 0;
        while wanted < 7 {
            let plan = scheduler.schedule();
            scheduler.publish(&plan);
            wanted += plan.wanted();
        }
        assert_eq!((wanted, scheduler.sequence(id).unwrap().cached()), (7, cached));
        scheduler.remove(id);
    }
}

#[test]
fn forks_share_until_they_write() {
    let mut scheduler = Scheduler::new(limits(40));
    let first = scheduler.add(NewSequence { seats: 3, ..prompt(&[1, 2, 3, 4, 5]) }).unwrap();
    settle(&mut scheduler, first);
    let forks = scheduler.fork(first, 2);
    assert_eq!(scheduler.blocks().used(), 2);
    for (&id, token) in [first].iter().chain(&forks).zip(6..) {
        scheduler.append(id, token);
    }
    let plan = scheduler.schedule();
    assert_eq!(plan.runs.len(), 3);
    assert_eq!(plan.copies.len(), 2, "the last to write keeps the block");
    assert_eq!(scheduler.blocks().used(), 4);
    for id in forks.into_iter().chain([first]) {
        scheduler.remove(id);
    }
    assert_eq!(scheduler.blocks().used(), 0);
}

#[test]
fn what_cannot_run_is_refused_with_the_figures() {
    let mut scheduler = Scheduler::new(limits(4));
    let long = prompt(&(0..16).collect::<Vec<_>>());
    assert_eq!(scheduler.add(long), Err(AddError::TooLong { tokens: 16, limit: 16 }));
    assert_eq!(scheduler.add(prompt(&[])), Err(AddError::Empty));
    let wide = NewSequence { seats: 7, ..prompt(&[1]) };
    assert_eq!(scheduler.add(wide), Err(AddError::TooWide { seats: 7, limit: 6 }));
    for _ in 0..20 {
        scheduler.add(prompt(&[1])).unwrap();
    }
    assert_eq!(scheduler.add(prompt(&[1])), Err(AddError::Full { waiting: 20 }));
}

#[test]
fn tenants_are_served_alike_however_much_one_asks() {
    let mut scheduler = Scheduler::new(Limits { running_max: 1, ..limits(40) });
    let greedy: Vec<_> = (0..10).map(|_| scheduler.add(prompt(&[1, 2, 3])).unwrap()).collect();
    let modest = scheduler.add(NewSequence { salt: 1, ..prompt(&[1, 2, 3]) }).unwrap();
    settle(&mut scheduler, greedy[0]);
    scheduler.remove(greedy[0]);
    let plan = scheduler.schedule();
    assert_eq!(plan.runs[0].sequence, modest);
}

/// One tenant with more prompts and answers than there are places.
fn flooded(limits: Limits, prompts: usize) -> (Scheduler, Vec<SequenceId>) {
    let mut scheduler = Scheduler::new(limits);
    let add = |n: usize| NewSequence { salt: 7, ..prompt(&[n as u32, 1, 2]) };
    let ids = (0..prompts).map(|n| scheduler.add(add(n)).unwrap()).collect();
    for _ in 0..30 {
        step(&mut scheduler);
    }
    assert_eq!(scheduler.running(), limits.running_max);
    (scheduler, ids)
}

/// A step, after which all whose tokens are computed go on.
fn step(scheduler: &mut Scheduler) -> Plan {
    let plan = scheduler.schedule();
    scheduler.publish(&plan);
    plan.runs.iter().filter(|run| run.wanted > 0).for_each(|run| scheduler.append(run.sequence, 5));
    plan
}

#[test]
fn one_who_asks_little_finds_a_place_and_most_of_the_steps() {
    let (mut scheduler, _) = flooded(Limits { sequence_tokens_max: 4000, ..limits(4000) }, 20);
    let tokens: Vec<u32> = (0..13).collect();
    let modest = scheduler.add(NewSequence { salt: 1, ..prompt(&tokens) }).unwrap();
    let first = step(&mut scheduler);
    assert_eq!(first.preempted.len(), 1, "the last of the many gives up its place");
    let second = step(&mut scheduler);
    let third = step(&mut scheduler);
    for plan in [&first, &second, &third] {
        let others: usize = plan.runs.iter().filter(|run| run.sequence != modest).map(|run| run.len).sum();
        assert_eq!(others, FEW_ANSWERS);
    }
    assert!(third.runs.iter().any(|run| run.sequence == modest && run.wanted == 1));
    // From then on all go on.
    let plan = step(&mut scheduler);
    assert_eq!(plan.runs.iter().filter(|run| run.wanted > 0).count(), 6);
    assert!(plan.runs.iter().any(|run| run.sequence == modest));
}

#[test]
fn the_few_answers_that_go_on_are_those_whose_token_is_due() {
    let (mut scheduler, _) = flooded(Limits { sequence_tokens_max: 4000, ..limits(4000) }, 20);
    let behind = scheduler.running[0];
    scheduler.append(behind, 5);
    scheduler.add(NewSequence { salt: 1, ..prompt(&[1, 2]) }).unwrap();
    let due: Vec<_> = scheduler.running[1..=FEW_ANSWERS].to_vec();
    let plan = scheduler.schedule();
    let ran = plan.runs.iter().filter(|run| scheduler.sequence(run.sequence).unwrap().salt == 7);
    assert_eq!(ran.map(|run| run.sequence).collect::<Vec<_>>(), due);
}

#[test]
fn a_step_of_a_flood_may_be_given_up_for_who_comes_and_not_the_step_after() {
    let (mut scheduler, _) = flooded(Limits { sequence_tokens_max: 4000, ..limits(4000) }, 20);
    let (served, computed) = (scheduler.served[&7], |scheduler: &Scheduler| -> Vec<usize> {
        scheduler.sequences.values().map(Sequence::computed).collect()
    });
    let before = computed(&scheduler);
    let plan = scheduler.schedule();
    assert!(scheduler.gives_way(&plan, 1, 0, FEW_ANSWERS));
    assert!(!scheduler.gives_way(&plan, 1, 0, FEW_ANSWERS + 1), "another that asks much");
    assert!(!scheduler.gives_way(&plan, 1, -1, 1), "of less priority");
    assert!(!scheduler.gives_way(&plan, 7, 0, 1), "one more of its own");
    scheduler.take_back(&plan);
    assert_eq!((scheduler.served[&7], computed(&scheduler)), (served, before));

    let modest = scheduler.add(NewSequence { salt: 1, ..prompt(&[1, 2]) }).unwrap();
    let plan = scheduler.schedule();
    assert!(plan.runs.contains(&Run { sequence: modest, start: 0, len: 2, wanted: 1 }), "{plan:?}");
    scheduler.publish(&plan);
    scheduler.remove(modest);
    scheduler.add(NewSequence { salt: 1, ..prompt(&(0..30).collect::<Vec<_>>()) }).unwrap();
    let plan = scheduler.schedule();
    assert!(!scheduler.gives_way(&plan, 2, 0, 1), "more than half of it is a newcomer's: {plan:?}");
}

#[test]
fn a_step_of_the_background_may_be_given_up_for_anybody() {
    let mut scheduler = Scheduler::new(limits(40));
    scheduler.add(NewSequence { priority: BACKGROUND, ..prompt(&[1, 2, 3]) }).unwrap();
    let plan = scheduler.schedule();
    assert!(scheduler.gives_way(&plan, 0, 0, 6));
    assert!(!scheduler.gives_way(&plan, 1, BACKGROUND, 1));
}

#[test]
fn nothing_is_guessed_for_those_who_give_way() {
    let limits = Limits { sequence_tokens_max: 4000, step_tokens: 40, wanted_max: 30, ..limits(4000) };
    let (mut scheduler, ids) = flooded(limits, 20);
    let due = |scheduler: &Scheduler| scheduler.running.clone();
    let guess = |scheduler: &mut Scheduler| {
        due(scheduler).into_iter().for_each(|id| scheduler.set_draft(id, vec![1, 2]));
    };
    guess(&mut scheduler);
    let plan = scheduler.schedule();
    assert_eq!(plan.tokens(), 3 * limits.running_max);
    scheduler.take_back(&plan);
    guess(&mut scheduler);
    scheduler.add(NewSequence { salt: 1, ..prompt(&[1, 2]) }).unwrap();
    let plan = scheduler.schedule();
    let of_flood = plan.runs.iter().filter(|run| ids.contains(&run.sequence));
    assert_eq!(of_flood.map(|run| run.len).sum::<usize>(), FEW_ANSWERS);
}

#[test]
fn a_tenant_alone_gives_way_to_nobody() {
    let (mut scheduler, _) = flooded(Limits { sequence_tokens_max: 4000, ..limits(4000) }, 20);
    for _ in 0..20 {
        let plan = step(&mut scheduler);
        assert_eq!((plan.runs.len(), plan.preempted.len()), (6, 0));
    }
}

#[test]
fn what_was_used_alone_is_not_held_against_anybody_for_long() {
    let mut scheduler = Scheduler::new(Limits { sequence_tokens_max: 10_000, ..limits(4000) });
    let first = scheduler.add(prompt(&[1, 2, 3])).unwrap();
    for _ in 0..3000 {
        step(&mut scheduler);
    }
    scheduler.remove(first);
    let other = scheduler.add(NewSequence { salt: 1, ..prompt(&[1, 2, 3]) }).unwrap();
    step(&mut scheduler);
    scheduler.add(prompt(&[1, 2, 3])).unwrap();
    let (own, theirs) = (scheduler.served[&0], scheduler.served[&1]);
    assert!(own.abs_diff(theirs) <= 2 * CREDIT_TOKENS, "{own} and {theirs}");
    scheduler.remove(other);
}

#[test]
fn a_low_priority_is_passed_only_so_often() {
    let mut scheduler = Scheduler::new(Limits { running_max: 1, ..limits(40) });
    let low = scheduler.add(NewSequence { priority: -1, ..prompt(&[1]) }).unwrap();
    for turn in 0.. {
        let id = scheduler.add(prompt(&[1])).unwrap();
        let plan = scheduler.schedule();
        if plan.runs[0].sequence == low {
            assert_eq!(turn, PASSED_MAX);
            break;
        }
        assert_eq!(plan.runs[0].sequence, id);
        scheduler.remove(id);
    }
}

#[test]
fn the_background_gives_way_to_whoever_waits() {
    let mut scheduler = Scheduler::new(Limits { running_max: 3, ..limits(12) });
    let behind = |tokens: &[u32]| NewSequence { priority: BACKGROUND, ..prompt(tokens) };
    let first = scheduler.add(behind(&[1, 2, 3, 4, 5])).unwrap();
    assert_eq!(
        scheduler.schedule().runs,
        [Run { sequence: first, start: 0, len: 3, wanted: 0 }],
        "a short step"
    );
    settle(&mut scheduler, first);
    scheduler.append(first, 6);
    let others: Vec<_> = (0..2).map(|_| scheduler.add(behind(&[7])).unwrap()).collect();
    assert_eq!(scheduler.schedule().runs.len(), 3);
    [first, others[0], others[1]].into_iter().for_each(|id| scheduler.append(id, 8));

    // A prompt takes a seat of theirs, and has the step for itself.
    let asked = scheduler.add(prompt(&(20..34).collect::<Vec<_>>())).unwrap();
    let plan = scheduler.schedule();
    assert_eq!(plan.runs, [Run { sequence: asked, start: 0, len: 12, wanted: 0 }]);
    assert_eq!(plan.preempted, [others[1]]);
    assert_eq!(scheduler.schedule().runs, [Run { sequence: asked, start: 12, len: 2, wanted: 1 }]);
    scheduler.append(asked, 9);

    // Beside its answer one goes on: the first.
    let turns: Vec<_> = scheduler.schedule().runs.iter().map(|run| run.sequence).collect();
    assert_eq!(turns, [asked, first]);
}

#[test]
fn the_background_is_passed_for_ever() {
    let mut scheduler = Scheduler::new(Limits { running_max: 1, ..limits(40) });
    let behind = scheduler.add(NewSequence { priority: BACKGROUND, ..prompt(&[1]) }).unwrap();
    for _ in 0..2 * PASSED_MAX {
        let id = scheduler.add(prompt(&[1])).unwrap();
        assert_eq!(scheduler.schedule().runs[0].sequence, id);
        scheduler.remove(id);
    }
    assert_eq!(scheduler.schedule().runs[0].sequence, behind);
}

/// What is asked in a random run.
#[derive(Clone, Debug)]
enum Ask {
    Add {
        family: u32,
        len: usize,
        salt: u64,
        priority: i8,
        seats: usize,
        answer: usize,
    },
    Step,
    /// A step that is given up.
    GiveUp,
    Cancel(usize),
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    let add = (0..3u32, 1..24usize, 0..2u64, BACKGROUND..2i8, 1..4usize, 1..12usize).prop_map(
        |(family, len, salt, priority, seats, answer)| Ask::Add {
            family,
            len,
            salt,
            priority,
            seats,
            answer,
        },
    );
    let ask = prop_oneof![2 => add, 5 => Just(Ask::Step), 1 => Just(Ask::GiveUp), 1 => (0..8usize).prop_map(Ask::Cancel)];
    prop::collection::vec(ask, 1..60)
}

/// One slot of the memory: whose tenant's, at which position, which token. What it means depends on all before
/// it, which the checks walk.
type Slot = Option<(u64, usize, u32)>;

struct Simulation {
    scheduler: Scheduler,
    memory: Vec<Slot>,
    /// Tokens each sequence still wants, and the forks it makes at its first.
    open: BTreeMap<SequenceId, (usize, usize)>,
}

impl Simulation {
    fn new(blocks: u32) -> Simulation {
        let limits = limits(blocks);
        let slots = blocks as usize * limits.block_len;
        Simulation { scheduler: Scheduler::new(limits), memory: vec![None; slots], open: BTreeMap::new() }
    }

    fn add(&mut self, new: NewSequence, answer: usize) {
        let seats = new.seats;
        if let Ok(id) = self.scheduler.add(new) {
            self.open.insert(id, (answer, seats));
        }
    }

    fn slot(&self, blocks: &[BlockId], position: usize) -> usize {
        let len = self.scheduler.limits().block_len;
        blocks[position / len] as usize * len + position % len
    }

    /// What a step plans, copied and computed.
    fn begin(&mut self) -> Plan {
        let due = self.due();
        self.guess(&due);
        let plan = self.scheduler.schedule();
        self.check(&plan, &due);
        let len = self.scheduler.limits().block_len;
        for copy in &plan.copies {
            let (from, to) = (copy.from as usize * len, copy.to as usize * len);
            self.memory.copy_within(from..from + len, to);
        }
        self.compute(&plan);
        plan
    }

    /// Computes all of a step, then takes it as not computed.
    fn give_up(&mut self) {
        let computed = |scheduler: &Scheduler, id: SequenceId| scheduler.sequence(id).unwrap().computed();
        let plan = self.begin();
        self.scheduler.take_back(&plan);
        for run in &plan.runs {
            assert_eq!(computed(&self.scheduler, run.sequence), run.start);
        }
    }

    fn step(&mut self) -> Plan {
        let plan = self.begin();
        self.scheduler.publish(&plan);
        for run in plan.runs.iter().filter(|run| run.wanted > 0) {
            // A row is right when what was guessed before it is what was chosen.
            loop {
                let guess = self.scheduler.sequence(run.sequence).unwrap().draft().first().copied();
                let right = guess == Some(self.next_token(run.sequence));
                if !self.sample(run.sequence) || !right {
                    break;
                }
            }
        }
        plan
    }

    fn next_token(&self, id: SequenceId) -> u32 {
        100 + (id.0 as u32 + self.open[&id].0 as u32) % 3
    }

    /// Guesses what comes next, rightly or not, for sequences that have an answer.
    fn guess(&mut self, due: &BTreeSet<SequenceId>) {
        for &id in due {
            let (left, seats) = self.open[&id];
            if seats == 1 {
                let guess = |ahead: usize| match (id.0 as usize + left + ahead) % 5 {
                    0 => 7,
                    _ => 100 + (id.0 as u32 + (left - ahead) as u32) % 3,
                };
                self.scheduler.set_draft(id, (0..left.min(6)).map(guess).collect());
            }
        }
    }

    /// Sequences whose next token is the only thing to be computed.
    fn due(&self) -> BTreeSet<SequenceId> {
        let running = self.scheduler.running.iter();
        running.copied().filter(|id| self.scheduler.sequences[id].remaining() == 1).collect()
    }

    fn check(&self, plan: &Plan, due: &BTreeSet<SequenceId>) {
        let limits = self.scheduler.limits();
        assert!(plan.tokens() <= limits.step_tokens);
        assert!(plan.wanted() <= limits.wanted_max);
        let ran: BTreeSet<_> = plan.runs.iter().map(|run| run.sequence).collect();
        assert_eq!(ran.len(), plan.runs.len(), "a sequence runs once a step");
        let behind = |id: &SequenceId| self.scheduler.sequence(*id).unwrap().is_background();
        // Of a tenant with many answers, some may give way to another's prompt.
        let few = |id: &&SequenceId| {
            let salt = self.scheduler.sequence(**id).unwrap().salt;
            due.iter().filter(|other| self.scheduler.sequence(**other).unwrap().salt == salt).count()
                <= FEW_ANSWERS
        };
        for id in due.iter().filter(|id| !behind(id)).filter(few) {
            assert!(ran.contains(id) || plan.preempted.contains(id), "{id:?} waits for its token");
        }
        let seats: usize = self.scheduler.running.iter().map(|id| self.scheduler.sequences[id].seats).sum();
        assert!(seats <= limits.running_max);
        let alone = ran.iter().all(behind);
        let of_background: usize =
            plan.runs.iter().filter(|run| behind(&run.sequence)).map(|run| run.len).sum();
        if alone {
            assert!(of_background <= limits.background_tokens);
        } else if of_background > 0 {
            assert!(of_background <= (plan.tokens() - of_background).div_ceil(BACKGROUND_SHARE));
            assert!(plan.runs.iter().all(|run| behind(&run.sequence) || run.len == run.wanted));
        }
        if due.iter().any(|id| ran.contains(id) && !behind(id)) {
            let others: usize =
                plan.runs.iter().filter(|run| !due.contains(&run.sequence)).map(|run| run.len).sum();
            assert!(others <= limits.mixed_tokens);
        }
    }

    /// Writes what the plan computes, each position after checking that all before it are its own.
    fn compute(&mut self, plan: &Plan) {
        for run in &plan.runs {
            let sequence = self.scheduler.sequence(run.sequence).unwrap().clone();
            let token = |at: usize| *sequence.tokens().iter().chain(sequence.draft()).nth(at).unwrap();
            for position in run.start..run.start + run.len {
                let slot = self.slot(sequence.blocks(), position);
                let block = sequence.blocks()[position / self.scheduler.limits().block_len];
                assert_eq!(self.scheduler.blocks().references(block), 1, "{block} is written and shared");
                self.memory[slot] = Some((sequence.salt, position, token(position)));
            }
            for position in 0..run.start + run.len {
                let slot = self.slot(sequence.blocks(), position);
                let wanted = Some((sequence.salt, position, token(position)));
                assert_eq!(self.memory[slot], wanted, "{:?} at {position}", run.sequence);
            }
        }
    }

    /// Continues a sequence, or ends it. Says whether it goes on, alone.
    fn sample(&mut self, id: SequenceId) -> bool {
        let (answer, seats) = self.open[&id];
        self.open.insert(id, (answer, 1));
        let mut ids = vec![id];
        if seats > 1 {
            for fork in self.scheduler.fork(id, seats - 1) {
                self.open.insert(fork, (answer, 1));
                ids.push(fork);
            }
        }
        let mut goes_on = seats == 1;
        for id in ids {
            let left = self.open[&id].0 - 1;
            let full = self.scheduler.sequence(id).unwrap().tokens().len() + 1
                >= self.scheduler.sequence_tokens_max();
            if left == 0 || full {
                self.scheduler.remove(id);
                self.open.remove(&id);
                goes_on = false;
            } else {
                self.scheduler.append(id, self.next_token(id));
                self.open.insert(id, (left, 1));
            }
        }
        goes_on
    }

    fn cancel(&mut self, nth: usize) {
        if let Some(&id) = self.open.keys().nth(nth) {
            self.scheduler.remove(id);
            self.open.remove(&id);
        }
    }

    /// Every block's users are counted, and every block is somewhere.
    fn check_blocks(&self) {
        let mut users = vec![0u32; self.scheduler.blocks().total()];
        for sequence in self.scheduler.sequences.values() {
            for &block in sequence.blocks() {
                users[block as usize] += 1;
            }
        }
        for (block, &users) in users.iter().enumerate() {
            assert_eq!(self.scheduler.blocks().references(block as u32), users, "block {block}");
        }
        assert_eq!(self.scheduler.blocks().used(), users.iter().filter(|&&users| users > 0).count());
        assert_eq!(self.scheduler.running() + self.scheduler.waiting(), self.open.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// However another tenant floods, one that asks for one answer at a time has its first token after as many steps as
    /// its prompt needs beside a few answers.
    #[test]
    fn a_flood_delays_no_first_token_for_long(
        flood in prop::collection::vec((1..24usize, 1..30usize), 8..16),
        asks in prop::collection::vec((1..30usize, 1..8usize, 0..10usize), 1..8),
    ) {
        let limits = limits(200);
        let mut flooding = Flooding { scheduler: Scheduler::new(limits), flood, left: BTreeMap::new(), added: 0 };
        for _ in 0..200 {
            flooding.step();
        }
        for (len, answer, pause) in asks {
            for _ in 0..pause {
                flooding.step();
            }
            let id = flooding.add(1, len, answer);
            let mut steps = 1;
            while !flooding.step().runs.iter().any(|run| run.sequence == id && run.wanted > 0) {
                steps += 1;
            }
            prop_assert!(steps <= len.div_ceil(limits.mixed_tokens), "{steps} steps for {len} tokens");
            while flooding.left.contains_key(&id) {
                flooding.step();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, failure_persistence: None, ..ProptestConfig::default() })]

    /// However many others come, each asking little, and though every step that gives way to one is given up: those that
    /// ask much are answered too.
    #[test]
    fn newcomers_without_end_stop_nobody_for_ever(
        flood in prop::collection::vec((1..24usize, 1..12usize), 8..16),
        newcomers in prop::collection::vec((1..20usize, 1..5usize), 1..8),
    ) {
        let mut flooding = Flooding { scheduler: Scheduler::new(limits(200)), flood, left: BTreeMap::new(), added: 0 };
        let ids: Vec<_> = flooding.flood.clone().into_iter().map(|(len, answer)| flooding.add(7, len, answer)).collect();
        let rows: usize = flooding.flood.iter().map(|(len, answer)| len + answer).sum();
        flooding.flood.clear();
        let mut steps = 0;
        while ids.iter().any(|id| flooding.left.contains_key(id)) {
            let salt = 100 + steps as u64;
            let (len, answer) = newcomers[steps % newcomers.len()];
            let plan = flooding.scheduler.schedule();
            match flooding.scheduler.gives_way(&plan, salt, 0, 1) {
                true => flooding.scheduler.take_back(&plan),
                false => flooding.finish(&plan),
            }
            let waits = |(salt, _): &&(u64, usize)| *salt != 7;
            if flooding.left.values().filter(waits).count() < 4 {
                flooding.add(salt, len, answer);
            }
            steps += 1;
            prop_assert!(steps < 4 * HELD_MAX as usize * rows, "{} are not answered", flooding.left.len());
        }
    }
}

/// One tenant that always has as many requests as `flood`, whatever is answered.
struct Flooding {
    scheduler: Scheduler,
    /// Tokens of each prompt, and of its answer.
    flood: Vec<(usize, usize)>,
    /// Whose each sequence is, and the tokens that it still wants.
    left: BTreeMap<SequenceId, (u64, usize)>,
    added: u32,
}

impl Flooding {
    fn add(&mut self, salt: u64, len: usize, answer: usize) -> SequenceId {
        self.added += 1;
        let tokens: Vec<u32> = (0..len as u32).map(|at| at + 100 * self.added).collect();
        let id = self.scheduler.add(NewSequence { salt, ..prompt(&tokens) }).unwrap();
        self.left.insert(id, (salt, answer));
        id
    }

    fn step(&mut self) -> Plan {
        while self.left.values().filter(|(salt, _)| *salt == 7).count() < self.flood.len() {
            let (len, answer) = self.flood[self.added as usize % self.flood.len()];
            self.add(7, len, answer);
        }
        let plan = self.scheduler.schedule();
        self.finish(&plan);
        plan
    }

    /// Moves on everything whose tokens the plan computes.
    fn finish(&mut self, plan: &Plan) {
        self.scheduler.publish(plan);
        for run in plan.runs.iter().filter(|run| run.wanted > 0) {
            let (_, rest) = self.left.get_mut(&run.sequence).unwrap();
            *rest -= 1;
            if *rest == 0 {
                self.scheduler.remove(run.sequence);
                self.left.remove(&run.sequence);
            } else {
                self.scheduler.append(run.sequence, 5);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// No block leaked or written while shared, no position computed from another's numbers, every token that is
    /// due computed or its sequence preempted, and everything asked for answered within bounded steps.
    #[test]
    fn every_sequence_is_answered_from_its_own_blocks(asks in asks(), blocks in 6..30u32) {
        let mut simulation = Simulation::new(blocks);
        for ask in asks {
            match ask {
                Ask::Add { family, len, salt, priority, seats, answer } => {
                    let tokens: Vec<u32> = (0..len as u32).map(|at| family * (at / 5) + at % 5).collect();
                    simulation.add(NewSequence { salt, priority, seats, ..prompt(&tokens) }, answer);
                }
                Ask::Step => {
                    simulation.step();
                }
                Ask::GiveUp => simulation.give_up(),
                Ask::Cancel(nth) => simulation.cancel(nth),
            }
            simulation.check_blocks();
        }
        let mut steps = 0;
        while !simulation.open.is_empty() {
            let plan = simulation.step();
            simulation.check_blocks();
            prop_assert!(!plan.runs.is_empty(), "a step without work while {} wait", simulation.open.len());
            steps += 1;
            prop_assert!(steps < 10_000);
        }
        prop_assert_eq!(simulation.scheduler.blocks().used(), 0);
        prop_assert_eq!(simulation.scheduler.blocks().available(), blocks as usize);
    }
}
