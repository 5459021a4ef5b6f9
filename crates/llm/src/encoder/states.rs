//! [`States`]: a decoder whose hidden states are the vectors, after its last norm.

use std::ops::Range;

use formats::gguf::Gguf;
use formats::safetensors::Pooling;
use kernels::Isa;

use super::Input;
use super::pool::Pooler;
use super::step::Step;
use crate::decoder::Decoder;
use crate::family::Keys;
use crate::forward::{Batch, Forward, ForwardError, Span};
use crate::load::{self, LoadError, LoadOptions, Need};

/// Rows that a decoder computes at once: what its need of memory is computed for.
const ROWS: usize = 512;

/// A decoder, and how the states of a text's tokens become one vector. Vectors are divided by their lengths, as everyone
/// who reads such files does.
#[derive(Debug)]
pub(super) struct States {
    decoder: Decoder,
    pooling: Pooling,
    pooler: Pooler,
    tokens_max: usize,
}

impl States {
    /// How the states become one vector, where the file says that they do.
    pub(super) fn pooling(gguf: &Gguf) -> Result<Option<Pooling>, LoadError> {
        let keys = Keys::new(gguf, usize::MAX);
        match keys.whole("pooling_type")? {
            None | Some(0) => Ok(None),
            Some(1) => Ok(Some(Pooling::Mean)),
            Some(2) => Ok(Some(Pooling::First)),
            Some(3) => Ok(Some(Pooling::Last)),
            Some(_) => {
                Err(keys.refuse("pooling_type", "0, 1, 2 or 3 in a decoder: none, mean, first or last"))
            }
        }
    }

    pub(super) fn read(
        gguf: &Gguf,
        pooling: Pooling,
        options: &LoadOptions,
        isa: Isa,
    ) -> Result<(States, Need), LoadError> {
        let (need, decoder, _) = load::decoders(gguf, None, options, isa)?;
        let pooler = Pooler::new(pooling, true)?;
        Ok((States { decoder, pooling, pooler, tokens_max: need.context }, need))
    }

    /// Numbers in a vector.
    pub(super) fn width(&self) -> usize {
        self.decoder.width()
    }

    pub(super) fn tokens_max(&self) -> usize {
        self.tokens_max
    }

    pub(super) fn vocab(&self) -> usize {
        self.decoder.vocab()
    }

    /// Each text's vector. The texts have been checked.
    pub(super) fn run(&mut self, texts: &[Input]) -> Result<Vec<Vec<f32>>, ForwardError> {
        let mut results = Vec::with_capacity(texts.len());
        while results.len() < texts.len() {
            let step = Step::of(&texts[results.len()..]);
            let kept = self.step(&step)?;
            let width = self.width();
            results.extend(kept.iter().map(|rows| self.pooler.vector(rows, width)));
        }
        Ok(results)
    }

    /// Of each text the states that its vector is made of.
    fn step(&mut self, step: &Step<'_>) -> Result<Vec<Vec<f32>>, ForwardError> {
        let mut kept = vec![Vec::new(); step.texts.len()];
        for from in (0..step.tokens).step_by(ROWS) {
            let (batch, of) = self.batch(step, from..step.tokens.min(from + ROWS));
            let width = self.decoder.width();
            let states = self.decoder.states(&batch)?;
            for (text, state) in of.into_iter().zip(states.chunks_exact(width)) {
                kept[text].extend_from_slice(state);
            }
        }
        Ok(kept)
    }

    /// What is computed of these rows of a step; and of each state that is wanted, which text it is of.
    fn batch(&self, step: &Step<'_>, rows: Range<usize>) -> (Batch, Vec<usize>) {
        let (mut batch, mut of) = (Batch::default(), Vec::new());
        for (text, (input, &first)) in step.texts.iter().zip(&step.first).enumerate() {
            let len = input.tokens.len();
            let part = rows.start.max(first)..rows.end.min(first + len);
            if part.is_empty() {
                continue;
            }
            let start = batch.tokens.len();
            for row in part {
                let at = row - first;
                let wanted = match self.pooling {
                    Pooling::First => at == 0,
                    Pooling::Last => at + 1 == len,
                    Pooling::Mean | Pooling::MeanSqrt | Pooling::Max => true,
                };
                if wanted {
                    batch.wanted.push(batch.tokens.len());
                    of.push(text);
                }
                batch.tokens.push(input.tokens[at]);
                batch.positions.push(at as u32);
            }
            let rows = start..batch.tokens.len();
            batch.spans.push(Span { rows, blocks: step.pages[text].clone(), hidden: 0..0 });
        }
        (batch, of)
    }
}
