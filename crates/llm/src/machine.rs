//! [`Machine`]: what computes a model's layers.

use std::sync::Arc;

use kernels::{Activations, Isa, Pool, matmul, ops};

use crate::rows::each_row;
use crate::weights::Linear;

/// The instruction set and the threads of one model.
pub(crate) struct Machine {
    pub(crate) isa: Isa,
    pub(crate) pool: Arc<Pool>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Machine {{ isa: {:?}, threads: {} }}", self.isa, self.pool.threads())
    }
}

impl Machine {
    /// Multiplies each matrix with the same vectors and adds the biases; `out` is `[m, rows]` each.
    pub(crate) fn multiply(&self, parts: &mut [(&Linear, &mut [f32])], vectors: &Activations) {
        let mut outs: Vec<_> = parts.iter_mut().map(|(linear, out)| (&linear.matrix, &mut **out)).collect();
        matmul(&self.pool, self.isa, &mut outs, vectors);
        for (linear, out) in parts {
            if let Some(bias) = &linear.bias {
                each_row(&self.pool, out, bias.len(), |_, row| ops::add(self.isa, row, bias));
            }
        }
    }

    /// The vectors that a block takes: `x`, `[m, width]`, normed.
    pub(crate) fn normed(&self, vectors: &mut Activations, x: &[f32], weight: &[f32], epsilon: f32) {
        let width = weight.len();
        vectors.fill(&self.pool, self.isa, x.len() / width, width, |row, out| {
            ops::rms_norm(self.isa, &x[row * width..][..width], weight, epsilon, out);
        });
    }

    /// Adds to `x` what a block computed, normed first where the family does so.
    pub(crate) fn add(
        &self,
        x: &mut [f32],
        added: &mut [f32],
        norm: Option<&[f32]>,
        width: usize,
        epsilon: f32,
    ) {
        if let Some(weight) = norm {
            each_row(&self.pool, added, width, |_, row| {
                ops::rms_norm_in_place(self.isa, row, weight, epsilon)
            });
        }
        let added = &*added;
        each_row(&self.pool, x, width, |row, x| ops::add(self.isa, x, &added[row * width..][..width]));
    }
}
