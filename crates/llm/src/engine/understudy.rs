//! A small model beside the large one: what it would say is a guess at what the large one will.
//!
//! It draws as the request's own draws do, at the same places with the same seed, so that its guesses are as often right
//! as two models agree. It keeps keys and values of its own, which guesses that were wrong are simply written over.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::Draft;
use super::draw::sampled;
use super::speculate::StepCost;
use crate::forward::{Batch, Forward, ForwardError, Span};
use crate::sampler::{History, Place, SamplingParams};
use crate::scheduler::{BlockId, SequenceId};

/// Steps of more rows than so many for each answer say nothing of what a guess takes.
const ROWS_LEARNT: usize = 4;

/// Rows of the steps that tell what guesses take before any is wanted. The first is not counted: all is cold.
const TRIAL_ROWS: [usize; 7] = [8, 1, 8, 1, 8, 1, 8];

/// An answer of which guesses are wanted.
pub(super) struct Wish<'a> {
    pub(super) sequence: SequenceId,
    /// Prompt and answer.
    pub(super) tokens: &'a [u32],
    /// How many of them are the prompt's.
    pub(super) prompt: usize,
    /// How many guesses.
    pub(super) most: usize,
    pub(super) params: &'a SamplingParams,
    pub(super) seed: u64,
    pub(super) choice: usize,
    /// Tokens after which nothing follows.
    pub(super) ends: &'a [u32],
}

/// The small model and what it has computed.
pub(super) struct Understudy {
    model: Box<dyn Forward>,
    block_len: usize,
    context_max: usize,
    free: Vec<BlockId>,
    known: HashMap<SequenceId, Known>,
    /// What steps of few rows take.
    cost: StepCost,
    /// Tokens that both models have.
    tokens: usize,
    batch: Batch,
    turn: u64,
}

/// What is computed of a sequence.
#[derive(Default)]
struct Known {
    /// Those whose keys and values are in the blocks; the last may be guesses.
    tokens: Vec<u32>,
    blocks: Vec<BlockId>,
    /// When guesses were last wanted.
    turn: u64,
}

impl Understudy {
    /// A small model for a large one of `tokens` tokens.
    pub(super) fn new(draft: Draft, tokens: usize) -> Understudy {
        let Draft { forward, blocks, block_len, context_max } = draft;
        Understudy {
            tokens: tokens.min(forward.vocab()),
            model: forward,
            block_len,
            context_max,
            free: (0..blocks).rev().collect(),
            known: HashMap::new(),
            cost: StepCost::default(),
            batch: Batch::default(),
            turn: 0,
        }
    }

    /// Learns what guesses take: an answer that finds out pays for it.
    pub(super) fn try_out(&mut self) -> Result<(), ForwardError> {
        for (nth, rows) in TRIAL_ROWS.into_iter().enumerate() {
            let blocks = rows.div_ceil(self.block_len);
            let Some(from) = self.free.len().checked_sub(blocks) else { return Ok(()) };
            let blocks = self.free[from..].to_vec();
            self.clear();
            self.batch.tokens.resize(rows, 0);
            self.batch.positions.extend((0u32..).take(rows));
            self.batch.wanted.push(rows - 1);
            self.batch.spans.push(Span { rows: 0..rows, blocks, hidden: 0..0 });
            let begun = Instant::now();
            self.model.forward(&self.batch)?;
            if nth > 0 {
                self.cost.learn(rows, begun.elapsed());
            }
        }
        Ok(())
    }

    /// Seconds that it takes to read what is not read yet of a sequence of so many tokens, beside the newest.
    pub(super) fn entry(&self, sequence: SequenceId, tokens: usize) -> f64 {
        let read = self.known.get(&sequence).map_or(0, |known| known.tokens.len());
        self.cost.row().unwrap_or(0.0) * tokens.saturating_sub(read + 1) as f64
    }

    /// Forgets sequences that are no more.
    pub(super) fn retain(&mut self, is_there: impl Fn(SequenceId) -> bool) {
        let Understudy { known, free, .. } = self;
        known.retain(|&id, known| {
            let stays = is_there(id);
            if !stays {
                free.append(&mut known.blocks);
            }
            stays
        });
    }

    /// Seconds that a guess takes for each of `answers`; 0 where that is not known yet.
    pub(super) fn takes(&self, answers: usize) -> f64 {
        self.cost.takes(answers).unwrap_or(0.0) / answers.max(1) as f64
    }

    /// Guesses what follows each. At most `rows` tokens that are not computed yet are: who has more gets none now, and is
    /// further on the next time.
    pub(super) fn guess(&mut self, wishes: &[Wish<'_>], rows: usize) -> Result<Vec<Vec<u32>>, ForwardError> {
        self.turn += 1;
        for wish in wishes {
            // None of these gives way to another.
            self.known.entry(wish.sequence).or_default().turn = self.turn;
        }
        let mut guesses = vec![Vec::new(); wishes.len()];
        self.clear();
        let mut left = rows;
        let mut open = Vec::new();
        for (nth, wish) in wishes.iter().enumerate() {
            let Some(pending) = self.make_room(wish) else { continue };
            let len = pending.min(left);
            if len == 0 {
                continue;
            }
            left -= len;
            let start = wish.tokens.len() - pending;
            self.add(wish.sequence, &wish.tokens[start..start + len], len == pending);
            open.extend((len == pending).then_some(nth));
        }
        while !self.batch.tokens.is_empty() {
            let begun = Instant::now();
            self.model.forward(&self.batch)?;
            let drawn = self.draw(wishes, &open, &guesses);
            let rows = self.batch.tokens.len();
            if rows <= wishes.len() * ROWS_LEARNT {
                self.cost.learn(rows, begun.elapsed());
            }
            self.clear();
            let mut on = Vec::with_capacity(open.len());
            for (nth, token) in open.into_iter().zip(drawn) {
                let (Some(token), wish) = (token, &wishes[nth]) else { continue };
                guesses[nth].push(token);
                if guesses[nth].len() < wish.most && !wish.ends.contains(&token) {
                    self.add(wish.sequence, &[token], true);
                    on.push(nth);
                }
            }
            open = on;
        }
        Ok(guesses)
    }

    /// Makes what is known of the sequence a beginning of its tokens, and room for the rest and the guesses. Gives how
    /// many tokens are to be computed; nothing where it cannot be guessed at.
    fn make_room(&mut self, wish: &Wish<'_>) -> Option<usize> {
        let end = wish.tokens.len() + wish.most;
        if wish.most == 0 || end > self.context_max {
            return None;
        }
        let known = self.known.get_mut(&wish.sequence)?;
        let same = known.tokens.iter().zip(wish.tokens).take_while(|(a, b)| a == b).count();
        // The last one's logits are wanted in any case.
        let same = same.min(wish.tokens.len().saturating_sub(1));
        known.tokens.truncate(same);
        let pending = &wish.tokens[same..];
        if pending.iter().any(|&token| token as usize >= self.model.vocab()) {
            return None;
        }
        let missing = end.div_ceil(self.block_len).saturating_sub(known.blocks.len());
        while self.free.len() < missing {
            self.give_up_one()?;
        }
        let blocks = self.free.split_off(self.free.len() - missing);
        self.known.get_mut(&wish.sequence)?.blocks.extend(blocks);
        Some(pending.len())
    }

    /// Takes the blocks of the sequence that was not asked for longest; nothing where all are in use now.
    fn give_up_one(&mut self) -> Option<()> {
        let turn = self.turn;
        let idle = self.known.iter().filter(|(_, known)| known.turn < turn && !known.blocks.is_empty());
        let (&id, _) = idle.min_by_key(|(id, known)| (known.turn, **id))?;
        self.free.append(&mut self.known.remove(&id)?.blocks);
        Some(())
    }

    fn clear(&mut self) {
        let Batch { tokens, positions, spans, copies, wanted } = &mut self.batch;
        tokens.clear();
        positions.clear();
        spans.clear();
        copies.clear();
        wanted.clear();
    }

    /// Lets the next step compute `tokens` of a sequence, and the last one's logits where they are `wanted`.
    fn add(&mut self, sequence: SequenceId, tokens: &[u32], wanted: bool) {
        let Some(known) = self.known.get_mut(&sequence) else { return };
        let (row, first) = (self.batch.tokens.len(), known.tokens.len());
        known.tokens.extend(tokens);
        let (rows, end) = (row..row + tokens.len(), first + tokens.len());
        self.batch.tokens.extend(tokens);
        self.batch.positions.extend((first..end).map(|position| position as u32));
        self.batch.wanted.extend(wanted.then_some(rows.end - 1));
        self.batch.spans.push(Span { rows, blocks: known.blocks.clone(), hidden: 0..0 });
    }

    /// One token for each of the `open` wishes, by the step's logits.
    fn draw(&self, wishes: &[Wish<'_>], open: &[usize], guesses: &[Vec<u32>]) -> Vec<Option<u32>> {
        let (logits, vocab, tokens) = (self.model.logits(), self.model.vocab(), self.tokens);
        let drawn: Vec<Mutex<Option<u32>>> = open.iter().map(|_| Mutex::new(None)).collect();
        self.model.spread(open.len(), &|row| {
            let (wish, guessed) = (&wishes[open[row]], &guesses[open[row]]);
            let Some(logits) = logits.get(row * vocab..row * vocab + tokens) else { return };
            let (prompt, said) = wish.tokens.split_at(wish.prompt.min(wish.tokens.len()));
            let answer = [said, guessed].concat();
            let place = Place { seed: wish.seed, choice: wish.choice, position: answer.len() };
            let history = History { prompt, answer: &answer };
            let token = sampled(wish.params, logits, history, None, place);
            *drawn[row].lock().unwrap_or_else(PoisonError::into_inner) = token;
        });
        drawn.into_iter().map(|token| token.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
    }
}
