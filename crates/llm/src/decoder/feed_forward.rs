//! The feed-forward block: one for all tokens, or experts that a router chooses for each.

use kernels::{Activations, matmul_gated, ops};

use super::weights::{Expert, FeedForward};
use crate::family::{Architecture, Gate, Shares};
use crate::machine::Machine;
use crate::rows::room;
use crate::weights::Linear;

/// What a block keeps from step to step.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// What gate and up make: `m` vectors of `hidden` numbers.
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
        let isa = self.machine.isa;
        let join = |gate: &[f32], up: &[f32], out: &mut [f32]| match self.shape.gate {
            Gate::Silu => ops::silu_mul(isa, gate, up, out),
            Gate::Gelu => ops::gelu_tanh_mul(isa, gate, up, out),
            Gate::Clamped => ops::clamped_silu_mul(isa, gate, up, out),
        };
        let parts = [expert.gate.biased(), expert.up.biased()];
        let values = expert.down.matrix.takes_values();
        matmul_gated(&self.machine.pool, isa, parts, vectors, join, &mut scratch.inner, values);
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
            for (&(row, share), part) in rows.iter().zip(part.chunks_exact(width)) {
                ops::add_scaled(self.machine.isa, &mut added[row * width..][..width], part, share);
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
