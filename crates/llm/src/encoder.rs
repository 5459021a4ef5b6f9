//! The encoder of BERT (Devlin et al., 2018): every token of a text sees every other, and the whole becomes one vector
//! (Reimers and Gurevych, 2019) or, of a model made to judge pairs of texts, one score (Nogueira and Cho, 2019).
//!
//! The texts of a step lie one after another, without padding, and each sees its own tokens alone. So the numbers of
//! one depend, to the last bit, on nothing else that is computed with it.

mod input;
mod load;
mod pool;
mod shape;
#[cfg(test)]
mod tests;
mod weights;

use kernels::{Activations, AttentionArgs, KvPages, PAGE_TOKENS, Place, attention, matmul, ops};

use crate::forward::ForwardError;
use crate::machine::Machine;
use crate::rows::room;
use pool::Head;
use shape::Shape;
use weights::{Layer, Norm, Weights};

pub use input::Input;
pub use load::LoadedEncoder;

/// Tokens that are computed together, unless one text alone has more. Larger steps were not faster.
pub const STEP_TOKENS: usize = 1024;

/// What an encoder makes of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Makes {
    /// A vector of so many numbers.
    Vectors(usize),
    /// One number: how well a pair of texts goes together.
    Scores,
}

/// A model's weights and what computes them.
#[derive(Debug)]
pub struct Encoder {
    machine: Machine,
    shape: Shape,
    weights: Weights,
    head: Head,
    /// Keys and values of a step's texts, in one layer after another.
    kv: KvPages,
    scratch: Scratch,
}

/// What is between layers; kept from step to step.
#[derive(Debug, Default)]
struct Scratch {
    /// What comes into a layer: `[m, width]`.
    vectors: Activations,
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
    middle: Activations,
    /// Inside it: `[m, hidden]`, plain and as vectors.
    inner: Vec<f32>,
    inner_vectors: Activations,
}

/// The texts of one step, one after another.
#[derive(Default)]
struct Step<'a> {
    texts: Vec<&'a Input>,
    /// Of each text, the first row.
    first: Vec<usize>,
    /// Of each text, its pages for keys and values.
    pages: Vec<Vec<u32>>,
    /// Of each row, where its key and value go.
    places: Vec<Place>,
    tokens: usize,
}

impl<'a> Step<'a> {
    /// The first of `texts`, as many as a step takes, and at least one.
    fn of(texts: &'a [Input]) -> Step<'a> {
        let mut step = Step::default();
        let mut page = 0;
        for text in texts {
            let len = text.tokens.len();
            let pages = len.div_ceil(PAGE_TOKENS);
            if step.tokens > 0 && (page as usize + pages) * PAGE_TOKENS > STEP_TOKENS {
                break;
            }
            let own: Vec<u32> = (page..).take(pages).collect();
            let place = |token: usize| Place {
                page: page + (token / PAGE_TOKENS) as u32,
                slot: (token % PAGE_TOKENS) as u32,
            };
            step.places.extend((0..len).map(place));
            step.texts.push(text);
            step.first.push(step.tokens);
            step.tokens += len;
            page += own.len() as u32;
            step.pages.push(own);
        }
        step
    }

    /// Each text's rows as attention takes them.
    fn spans(&self) -> Vec<kernels::Span<'_>> {
        let span = |at: usize| {
            let count = self.texts[at].tokens.len();
            kernels::Span { row: self.first[at], count, visible: count, hidden: 0..0, pages: &self.pages[at] }
        };
        (0..self.texts.len()).map(span).collect()
    }
}

impl Encoder {
    /// What it makes of a text.
    #[must_use]
    pub fn makes(&self) -> Makes {
        match self.head {
            Head::Vector { .. } => Makes::Vectors(self.shape.width),
            Head::Score { .. } => Makes::Scores,
        }
    }

    /// Tokens that a text may have, those at its ends included.
    #[must_use]
    pub fn tokens_max(&self) -> usize {
        self.shape.tokens_max
    }

    /// What it makes of each text: its vector, or a vector of its score alone.
    ///
    /// # Errors
    /// If a text has no token, too many, or one that the model does not have. Nothing is computed then.
    pub fn run(&mut self, texts: &[Input]) -> Result<Vec<Vec<f32>>, ForwardError> {
        texts.iter().try_for_each(|text| self.check(text))?;
        let mut results = Vec::with_capacity(texts.len());
        while results.len() < texts.len() {
            let step = Step::of(&texts[results.len()..]);
            self.step(&step);
            let Encoder { machine, shape, head, scratch, .. } = self;
            head.run(machine, shape, &step, scratch, &mut results);
        }
        Ok(results)
    }

    fn check(&self, text: &Input) -> Result<(), ForwardError> {
        let (len, max, vocab) = (text.tokens.len(), self.shape.tokens_max, self.weights.words.rows());
        if len == 0 || len > max {
            return Err(ForwardError(format!("a text of {len} tokens; 1 to {max} are possible")));
        }
        match text.tokens.iter().find(|&&token| token as usize >= vocab) {
            Some(token) => Err(ForwardError(format!("token {token} is not one of its {vocab}"))),
            None => Ok(()),
        }
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
        let Encoder { machine, shape, weights, scratch, .. } = self;
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
        let Encoder { machine, shape, weights, kv, scratch, .. } = self;
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
        let Encoder { machine, shape, weights, scratch, .. } = self;
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
