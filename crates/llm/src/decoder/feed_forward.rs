//! The feed-forward block: one for all tokens, or experts that a router chooses for each.

use kernels::Activations;

use super::Machine;
use super::rows::{add, room};
use super::weights::{Expert, FeedForward, Linear};
use crate::family::{Architecture, Gate, Shares};

/// The limit of gpt-oss's gate.
const CLAMP: f32 = 7.0;

/// The slope of its sigmoid.
const SLOPE: f32 = 1.702;

/// What a block keeps from step to step.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// `[m, hidden]`.
    gate: Vec<f32>,
    up: Vec<f32>,
    inner: Activations,
    /// `[m, experts]`.
    router: Vec<f32>,
    /// Those of one expert's rows.
    taken: Activations,
    /// `[rows, width]`.
    added: Vec<f32>,
}

/// One step's input to the block.
pub(super) struct Step<'a> {
    pub(super) machine: &'a Machine,
    pub(super) shape: &'a Architecture,
    /// Normed: `[m, width]`.
    pub(super) vectors: &'a Activations,
}

impl Step<'_> {
    /// Writes what the block adds to `added`, `[m, width]`.
    pub(super) fn run(&self, block: &FeedForward, scratch: &mut Scratch, added: &mut [f32]) {
        match block {
            FeedForward::Dense(expert) => self.dense(expert, self.vectors, scratch, added),
            FeedForward::Experts { router, experts } => self.experts(router, experts, scratch, added),
        }
    }

    fn dense(&self, expert: &Expert, vectors: &Activations, scratch: &mut Scratch, added: &mut [f32]) {
        let (m, hidden) = (vectors.m(), expert.up.matrix.rows());
        let gate = room(&mut scratch.gate, m * hidden);
        let up = room(&mut scratch.up, m * hidden);
        self.machine.multiply(&mut [(&expert.gate, gate), (&expert.up, up)], vectors);
        let (gate, up, how) = (&*gate, &*up, self.shape.gate);
        scratch.inner.fill(&self.machine.pool, self.machine.isa, m, hidden, |row, out| {
            let part = row * hidden..(row + 1) * hidden;
            gated(how, &gate[part.clone()], &up[part], out);
        });
        self.machine.multiply(&mut [(&expert.down, added)], &scratch.inner);
    }

    /// A row's parts are added in the order of the experts, whatever rows they share them with.
    fn experts(&self, router: &Linear, experts: &[Expert], scratch: &mut Scratch, added: &mut [f32]) {
        let (m, width) = (self.vectors.m(), self.shape.width);
        let mut logits = std::mem::take(&mut scratch.router);
        self.machine.multiply(&mut [(router, room(&mut logits, m * experts.len()))], self.vectors);
        let shares: Vec<Vec<(usize, f32)>> =
            logits.chunks_exact(experts.len()).take(m).map(|logits| self.choose(logits)).collect();
        scratch.router = logits;
        added.fill(0.0);
        let (mut taken, mut part) = (std::mem::take(&mut scratch.taken), std::mem::take(&mut scratch.added));
        for (index, expert) in experts.iter().enumerate() {
            let share_of = |shares: &Vec<(usize, f32)>| {
                shares.iter().find(|(chosen, _)| *chosen == index).map(|(_, share)| *share)
            };
            let rows: Vec<(usize, f32)> = shares
                .iter()
                .enumerate()
                .filter_map(|(row, shares)| Some((row, share_of(shares)?)))
                .collect();
            if rows.is_empty() {
                continue;
            }
            let values = self.vectors.values();
            taken.fill(&self.machine.pool, self.machine.isa, rows.len(), width, |at, out| {
                out.copy_from_slice(&values[rows[at].0 * width..][..width]);
            });
            let part = room(&mut part, rows.len() * width);
            self.dense(expert, &taken, scratch, part);
            for (&(row, share), part) in rows.iter().zip(part.chunks_exact_mut(width)) {
                part.iter_mut().for_each(|number| *number *= share);
                add(&mut added[row * width..][..width], part);
            }
        }
        (scratch.taken, scratch.added) = (taken, part);
    }

    /// The experts that a row takes, with their shares.
    fn choose(&self, logits: &[f32]) -> Vec<(usize, f32)> {
        let Some(experts) = self.shape.experts else { return Vec::new() };
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        order.truncate(experts.used);
        let greatest = order.first().map_or(0.0, |&first| logits[first]);
        let weight = |expert: usize| (logits[expert] - greatest).exp();
        // Dividing shares of all by the sum of those taken is the softmax of those taken: the whole cancels out.
        let sum: f32 = match experts.shares {
            Shares::OfAll | Shares::OfTaken => order.iter().map(|&expert| weight(expert)).sum(),
        };
        order.into_iter().map(|expert| (expert, weight(expert) / sum)).collect()
    }
}

/// One row's numbers after the gate.
fn gated(how: Gate, gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
        *out = match how {
            Gate::Silu => gate / (1.0 + (-gate).exp()) * up,
            Gate::Gelu => {
                let inner = (2.0 / std::f32::consts::PI).sqrt() * (gate + 0.044_715 * gate * gate * gate);
                0.5 * gate * (1.0 + inner.tanh()) * up
            }
            Gate::Clamped => {
                let gate = gate.min(CLAMP);
                gate / (1.0 + (-SLOPE * gate).exp()) * (up.clamp(-CLAMP, CLAMP) + 1.0)
            }
        };
    }
}
