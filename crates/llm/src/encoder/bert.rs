//! [`Bert`] (Devlin et al., 2018): every token of a text sees every other, and the whole becomes one vector or, of a
//! model made to judge pairs of texts, one score.

use kernels::{Activations, AttentionArgs, KvPages, attention, matmul, ops};

use super::pool::Head;
use super::shape::Shape;
use super::step::Step;
use super::weights::{Layer, Norm, Weights};
use super::{Input, Makes};
use crate::machine::Machine;
use crate::rows::room;

/// A model's weights and what computes them.
#[derive(Debug)]
pub(super) struct Bert {
    pub(super) machine: Machine,
    pub(super) shape: Shape,
    pub(super) weights: Weights,
    pub(super) head: Head,
    /// Keys and values of a step's texts, in one layer after another.
    pub(super) kv: KvPages,
    pub(super) scratch: Scratch,
}

/// What is between layers; kept from step to step.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// What comes into a layer: `[m, width]`.
    pub(super) vectors: Activations,
    /// `[m, width]` each.
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    /// The values that each head took: `[m, width]`, plain and as vectors.
    mixed: Vec<f32>,
    mixed_vectors: Activations,
    /// What a block adds: `[m, width]`.
    added: Vec<f32>,
    /// What comes into the feed-forward block: `[m, width]`.
    pub(super) middle: Activations,
    /// Inside it: `[m, hidden]`, plain and as vectors.
    inner: Vec<f32>,
    pub(super) inner_vectors: Activations,
}

impl Bert {
    pub(super) fn makes(&self) -> Makes {
        match self.head {
            Head::Vector { .. } => Makes::Vectors(self.shape.width),
            Head::Score { .. } => Makes::Scores,
        }
    }

    pub(super) fn tokens_max(&self) -> usize {
        self.shape.tokens_max
    }

    pub(super) fn vocab(&self) -> usize {
        self.weights.words.rows()
    }

    /// What it makes of each text. The texts have been checked.
    pub(super) fn run(&mut self, texts: &[Input]) -> Vec<Vec<f32>> {
        let mut results = Vec::with_capacity(texts.len());
        while results.len() < texts.len() {
            let step = Step::of(&texts[results.len()..]);
            self.step(&step);
            let Bert { machine, shape, head, scratch, .. } = self;
            head.run(machine, shape, &step, scratch, &mut results);
        }
        results
    }

    /// Leaves the last layer's vectors in `scratch.vectors`.
    fn step(&mut self, step: &Step<'_>) {
        self.embed(step);
        let spans = step.spans();
        for index in 0..self.weights.layers.len() {
            self.attend(index, step, &spans);
            self.feed_forward(index, step.tokens);
        }
    }

    /// A token's vector is the sum of what it is, where it stands, and which text it is of; normed.
    fn embed(&mut self, step: &Step<'_>) {
        let Bert { machine, shape, weights, scratch, .. } = self;
        let width = shape.width;
        let rows: Vec<(u32, usize, usize)> = step
            .texts
            .iter()
            .flat_map(|text| {
                let tokens = text.tokens.iter().enumerate();
                tokens.map(|(at, &token)| (token, at, usize::from(at >= text.second_from)))
            })
            .collect();
        scratch.vectors.fill(&machine.pool, machine.isa, rows.len(), width, |row, out| {
            let (token, at, segment) = rows[row];
            weights.words.row_into(token as usize, out);
            if let Some(segments) = &weights.segments {
                ops::add(machine.isa, out, &segments[segment * width..][..width]);
            }
            ops::add(machine.isa, out, &weights.positions[at * width..][..width]);
            weights.norm.apply(machine, shape, out);
        });
    }

    /// From `scratch.vectors` to `scratch.middle`.
    fn attend(&mut self, index: usize, step: &Step<'_>, spans: &[kernels::Span<'_>]) {
        let Bert { machine, shape, weights, kv, scratch, .. } = self;
        let (layer, len) = (&weights.layers[index], step.tokens * shape.width);
        let query = room(&mut scratch.query, len);
        let key = room(&mut scratch.key, len);
        let value = room(&mut scratch.value, len);
        let mut parts = [(&layer.query, &mut *query), (&layer.key, &mut *key), (&layer.value, &mut *value)];
        machine.multiply(&mut parts, &scratch.vectors);
        kv.write(&machine.pool, machine.isa, &step.places, key, value);
        let arguments = AttentionArgs {
            q: query,
            heads: shape.heads,
            kv,
            spans,
            causal: false,
            scale: 1.0 / (shape.head_dim() as f32).sqrt(),
            softcap: None,
            window: None,
            sinks: None,
        };
        let mixed = room(&mut scratch.mixed, len);
        attention(&machine.pool, machine.isa, &arguments, mixed);
        scratch.mixed_vectors.quantize(&machine.pool, machine.isa, mixed, step.tokens, shape.width);
        let added = room(&mut scratch.added, len);
        matmul(
            &machine.pool,
            machine.isa,
            &mut [(&layer.output.matrix, &mut *added)],
            &scratch.mixed_vectors,
        );
        let sum = Sum { machine, shape, added, bias: layer.output.bias.as_deref(), before: &scratch.vectors };
        sum.norm_into(&layer.attention_norm, &mut scratch.middle);
    }

    /// From `scratch.middle` back to `scratch.vectors`.
    fn feed_forward(&mut self, index: usize, m: usize) {
        let Bert { machine, shape, weights, scratch, .. } = self;
        let Layer { up, down, norm, .. } = &weights.layers[index];
        let hidden = shape.hidden;
        let inner = room(&mut scratch.inner, m * hidden);
        matmul(&machine.pool, machine.isa, &mut [(&up.matrix, &mut *inner)], &scratch.middle);
        let inner = &*inner;
        scratch.inner_vectors.fill(&machine.pool, machine.isa, m, hidden, |row, out| {
            out.copy_from_slice(&inner[row * hidden..][..hidden]);
            if let Some(bias) = &up.bias {
                ops::add(machine.isa, out, bias);
            }
            ops::gelu(machine.isa, out);
        });
        let added = room(&mut scratch.added, m * shape.width);
        matmul(&machine.pool, machine.isa, &mut [(&down.matrix, &mut *added)], &scratch.inner_vectors);
        let sum = Sum { machine, shape, added, bias: down.bias.as_deref(), before: &scratch.middle };
        sum.norm_into(norm, &mut scratch.vectors);
    }
}

/// What a block makes, to be added to what came into it.
struct Sum<'a> {
    machine: &'a Machine,
    shape: &'a Shape,
    /// `[m, width]`.
    added: &'a [f32],
    /// `[width]`.
    bias: Option<&'a [f32]>,
    before: &'a Activations,
}

impl Sum<'_> {
    fn norm_into(&self, norm: &Norm, out: &mut Activations) {
        let Sum { machine, shape, added, bias, before } = self;
        let width = shape.width;
        out.fill(&machine.pool, machine.isa, before.m(), width, |row, out| {
            let part = row * width..(row + 1) * width;
            out.copy_from_slice(&added[part.clone()]);
            if let Some(bias) = bias {
                ops::add(machine.isa, out, bias);
            }
            ops::add(machine.isa, out, &before.values()[part]);
            norm.apply(machine, shape, out);
        });
    }
}

impl Norm {
    fn apply(&self, machine: &Machine, shape: &Shape, x: &mut [f32]) {
        ops::layer_norm(machine.isa, x, &self.weight, &self.bias, shape.epsilon);
    }
}
