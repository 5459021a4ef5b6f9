//! [`Pooler`] and [`Head`]: from the vectors of a text's tokens to one vector, or to a score.

use formats::safetensors::Pooling;
use kernels::{Activations, Isa, ops};

use super::bert::Scratch;
use super::shape::Shape;
use super::step::Step;
use crate::load::LoadError;
use crate::machine::Machine;
use crate::rows::each_row;
use crate::weights::Linear;

/// The shortest vector that is still divided by its length.
const LENGTH_MIN: f32 = 1e-12;

/// How the vectors of a text's tokens become that of the text.
#[derive(Clone, Copy, Debug)]
pub struct Pooler {
    pooling: Pooling,
    normalize: bool,
    isa: Isa,
}

impl Pooler {
    /// By `pooling`, and if `normalize` divided by its length.
    ///
    /// # Errors
    /// If the operator asks for an instruction set that this processor does not have.
    pub fn new(pooling: Pooling, normalize: bool) -> Result<Pooler, LoadError> {
        Ok(Pooler { pooling, normalize, isa: Isa::forced()?.unwrap_or_else(Isa::best) })
    }

    /// The vector of a text whose tokens' vectors are `rows`, of `width` numbers each; always added up in their order.
    #[must_use]
    pub fn vector(&self, rows: &[f32], width: usize) -> Vec<f32> {
        let mut vector = self.pooled(rows, width);
        if self.normalize {
            let length = ops::dot(self.isa, &vector, &vector).sqrt().max(LENGTH_MIN);
            vector.iter_mut().for_each(|x| *x /= length);
        }
        vector
    }

    fn pooled(&self, rows: &[f32], width: usize) -> Vec<f32> {
        let count = rows.len() / width;
        let divided = |by: f32| {
            let mut sum = vec![0.0; width];
            rows.chunks_exact(width).for_each(|row| ops::add(self.isa, &mut sum, row));
            sum.iter_mut().for_each(|x| *x /= by);
            sum
        };
        match self.pooling {
            Pooling::Mean => divided(count as f32),
            Pooling::MeanSqrt => divided((count as f32).sqrt()),
            Pooling::First => rows[..width].to_vec(),
            Pooling::Last => rows[rows.len() - width..].to_vec(),
            Pooling::Max => {
                let mut most = rows[..width].to_vec();
                for row in rows.chunks_exact(width).skip(1) {
                    most.iter_mut().zip(row).for_each(|(most, x)| *most = most.max(*x));
                }
                most
            }
        }
    }
}

/// What follows the layers.
#[derive(Debug)]
pub(super) enum Head {
    /// The tokens' vectors become one.
    Vector(Pooler),
    /// The first token's vector goes through a layer of tanh, and becomes one number.
    Score { pooler: Linear, output: Linear },
}

impl Head {
    /// Appends what each text of the step becomes.
    pub(super) fn run(
        &self,
        machine: &Machine,
        shape: &Shape,
        step: &Step<'_>,
        scratch: &mut Scratch,
        results: &mut Vec<Vec<f32>>,
    ) {
        match self {
            Head::Vector(pooler) => {
                let values = scratch.vectors.values();
                for (text, &first) in step.texts.iter().zip(&step.first) {
                    let rows = &values[first * shape.width..][..text.tokens.len() * shape.width];
                    results.push(pooler.vector(rows, shape.width));
                }
            }
            Head::Score { pooler, output } => {
                let Scratch { vectors, middle, inner_vectors, .. } = scratch;
                let (texts, width) = (step.texts.len(), shape.width);
                let values = vectors.values();
                middle.fill(&machine.pool, machine.isa, texts, width, |text, out| {
                    out.copy_from_slice(&values[step.first[text] * width..][..width]);
                });
                let mut pooled = vec![0.0; texts * width];
                machine.multiply(&mut [(pooler, &mut pooled)], middle);
                each_row(&machine.pool, &mut pooled, width, |_, row| ops::softcap(machine.isa, row, 1.0));
                results.extend(scores(machine, output, &pooled, inner_vectors).into_iter().map(|s| vec![s]));
            }
        }
    }
}

fn scores(machine: &Machine, output: &Linear, pooled: &[f32], vectors: &mut Activations) -> Vec<f32> {
    let width = output.matrix.cols();
    let texts = pooled.len() / width;
    vectors.quantize(&machine.pool, machine.isa, pooled, texts, width);
    let mut scores = vec![0.0; texts];
    machine.multiply(&mut [(output, &mut scores)], vectors);
    scores
}
