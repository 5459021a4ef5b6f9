//! The port between the engine, which knows sequences and blocks, and a model, which knows numbers.

use std::ops::{ControlFlow, Range};

use crate::scheduler::{BlockCopy, BlockId};

/// What one step computes. A row is one token of one sequence.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// `[rows]`.
    pub tokens: Vec<u32>,
    /// `[rows]`: each token's place in its sequence, from 0.
    pub positions: Vec<u32>,
    /// One for each sequence, or two where some rows see less; together they are all rows, in order.
    pub spans: Vec<Span>,
    /// Blocks to be copied, in this order, before anything is computed.
    pub copies: Vec<BlockCopy>,
    /// The rows whose logits are wanted, ascending.
    pub wanted: Vec<usize>,
}

/// The rows of one sequence: consecutive positions.
#[derive(Clone, Debug)]
pub struct Span {
    /// Which rows.
    pub rows: Range<usize>,
    /// Where its keys and values are and go: block `i` holds positions `i * block_len .. (i + 1) * block_len`. Covers
    /// the last row's position.
    pub blocks: Vec<BlockId>,
    /// Earlier positions that these rows do not see.
    pub hidden: Range<usize>,
}

/// Why a step was not computed.
#[derive(Debug, thiserror::Error)]
#[error("the model could not compute a step: {0}")]
pub struct ForwardError(pub String);

/// Hears between the parts of a step what share of it is done, more than 0; `Break` gives the step up there.
pub type Watch<'a> = dyn FnMut(f64) -> ControlFlow<()> + 'a;

/// A model with its key-value cache.
///
/// The determinism contract rests here: a row's logits are a function of its sequence's tokens up to there, to the
/// last bit, whatever else is in the batch and however the tokens before it were divided into batches.
pub trait Forward: Send {
    /// Logits in a row.
    fn vocab(&self) -> usize;

    /// Computes the rows and writes their keys and values to their blocks, unless `watch` gives it up (`Break`). Blocks
    /// are copied even then; what was written of keys and values is what the same rows write when they are computed again.
    fn forward_watched(
        &mut self,
        batch: &Batch,
        watch: &mut Watch<'_>,
    ) -> Result<ControlFlow<()>, ForwardError>;

    /// Computes the whole batch.
    fn forward(&mut self, batch: &Batch) -> Result<(), ForwardError> {
        self.forward_watched(batch, &mut |_| ControlFlow::Continue(())).map(|_| ())
    }

    /// The logits of the last whole batch's wanted rows: `[wanted, vocab]`.
    fn logits(&self) -> &[f32];

    /// Calls `work` with each of `0..tasks`, on the model's threads where it has some: they are idle between steps.
    fn spread(&self, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
        (0..tasks).for_each(work);
    }
}
