//! The decoder that all families share: embeddings, layers of attention and feed-forward blocks, logits.
//!
//! Rows are independent but for attention, which reads other rows' keys and values from the cache; every number of a
//! row is computed in one order, whatever else is in the batch. So the determinism contract needs no further care.

mod attention;
mod feed_forward;
mod weights;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use formats::gguf::Gguf;
use kernels::{Activations, Arena, Isa, Matrix, PAGE_TOKENS, Place, Pool, matmul, ops};

use crate::family::Architecture;
use crate::forward::{Batch, Forward, ForwardError, Span, Watch};
use crate::load::{LoadError, Need};
use crate::machine::Machine;
use crate::rows::{each_row, room};
use crate::weights::{File, Linear, Source};
use attention::{Cache, Turns};
use weights::Layer;

/// Tokens that a block of the key-value cache holds.
pub(crate) const BLOCK_LEN: usize = PAGE_TOKENS;

/// A model's weights, its key-value cache and what computes them.
#[derive(Debug)]
pub(crate) struct Decoder {
    machine: Machine,
    shape: Architecture,
    /// `[vocab, width]`.
    embedding: Matrix,
    /// `[width]`.
    output_norm: Vec<f32>,
    /// `[vocab, width]`; where the file has none, the embedding serves.
    output: Option<Linear>,
    layers: Vec<Layer>,
    cache: Cache,
    turns: Turns,
    scratch: Scratch,
    /// `[wanted, vocab]` of the last batch.
    logits: Vec<f32>,
    logits_len: usize,
}

/// What is between layers; kept from step to step.
#[derive(Debug, Default)]
struct Scratch {
    /// `[m, width]`.
    x: Vec<f32>,
    /// `[m, width]`: what a block adds.
    added: Vec<f32>,
    vectors: Activations,
    attention: attention::Scratch,
    feed_forward: feed_forward::Scratch,
}

impl Decoder {
    /// Reads all weights, several layers at once, and makes room for them and for keys and values, as much as `need`
    /// says.
    pub(crate) fn read(
        gguf: &Gguf,
        shape: Architecture,
        isa: Isa,
        pool: &Arc<Pool>,
        need: &Need,
    ) -> Result<Decoder, LoadError> {
        let arena =
            Arena::new(usize::try_from(need.weights).unwrap_or(usize::MAX)).map_err(LoadError::Weights)?;
        let source = Source::new(File::Gguf(gguf), isa, arena);
        let vocab = source.hidden("token_embd.weight", 0)?;
        let output_norm = source.vector("output_norm.weight", shape.width)?;
        let mut parts = read_parts(&source, &shape, vocab, pool.threads())?;
        // Factors of positions are read with the metadata.
        if let Some(name) = source.untaken(|name| name.starts_with("rope_f")) {
            return Err(LoadError::Unknown { name });
        }
        let missing = || LoadError::Missing { name: "token_embd.weight".into() };
        let embedding = parts.iter_mut().find_map(Part::take_embedding).ok_or_else(missing)?;
        let output = parts.iter_mut().find_map(Part::take_output);
        let layers = parts.into_iter().filter_map(Part::into_layer).collect();
        Ok(Decoder {
            machine: Machine { isa, pool: Arc::clone(pool) },
            embedding,
            output_norm,
            output,
            layers,
            cache: Cache::new(&shape, need.blocks).map_err(LoadError::Cache)?,
            turns: Turns::new(&shape),
            shape,
            scratch: Scratch::default(),
            logits: Vec::new(),
            logits_len: 0,
        })
    }

    /// Writes the tokens' embeddings to `x`.
    fn embed(&mut self, tokens: &[u32]) -> Result<(), ForwardError> {
        let (width, vocab) = (self.shape.width, self.vocab());
        if let Some(token) = tokens.iter().find(|&&token| token as usize >= vocab) {
            return Err(ForwardError(format!("token {token} is not one of its {vocab}")));
        }
        let (embedding, scale) = (&self.embedding, self.shape.embedding_scale);
        let x = room(&mut self.scratch.x, tokens.len() * width);
        each_row(&self.machine.pool, x, width, |row, x| {
            embedding.row_into(tokens[row] as usize, x);
            if scale != 1.0 {
                x.iter_mut().for_each(|x| *x *= scale);
            }
        });
        Ok(())
    }

    /// One layer: attention, then feed-forward, each added to what came in.
    ///
    /// Of the last one, only the `wanted` rows are computed beyond their keys and values; they are then the first.
    fn layer(&mut self, index: usize, wanted: &[usize], places: &[Place], spans: &[kernels::Span<'_>]) {
        let Decoder { machine, shape, layers, cache, turns, scratch, .. } = self;
        let layer = &layers[index];
        let (width, epsilon, m) = (shape.width, shape.norm_epsilon, places.len());
        let is_whole = index + 1 < layers.len() || wanted.len() == m;
        let attention = attention::Attention { machine, shape, layer, index, turns, places, spans };

        machine.normed(&mut scratch.vectors, &scratch.x[..m * width], &layer.attention_norm, epsilon);
        let m = if is_whole { m } else { wanted.len() };
        let added = room(&mut scratch.added, m * width);
        if is_whole {
            attention.run(cache, &scratch.vectors, &mut scratch.attention, added);
        } else {
            attention.keep(cache, &scratch.vectors, &mut scratch.attention);
            if wanted.is_empty() {
                return;
            }
            for (at, &row) in wanted.iter().enumerate() {
                scratch.x.copy_within(row * width..(row + 1) * width, at * width);
            }
            machine.normed(&mut scratch.vectors, &scratch.x[..m * width], &layer.attention_norm, epsilon);
            let spans = spans_of(wanted, spans);
            attention.run_of(wanted, &spans, cache, &scratch.vectors, &mut scratch.attention, added);
        }
        let x = &mut scratch.x[..m * width];
        let norm = layer.post_norms.as_ref().map(|(attention, _)| attention.as_slice());
        machine.add(x, added, norm, width, epsilon);

        machine.normed(&mut scratch.vectors, x, &layer.feed_forward_norm, epsilon);
        let feed_forward = feed_forward::Step { machine, shape, vectors: &scratch.vectors };
        feed_forward.run(&layer.feed_forward, &mut scratch.feed_forward, added);
        let norm = layer.post_norms.as_ref().map(|(_, feed_forward)| feed_forward.as_slice());
        machine.add(x, added, norm, width, epsilon);
    }

    /// Computes the rows, as far as what comes out of the last norm: the states of those that are wanted, in
    /// `scratch.vectors`. Between layers `watch` may give it up.
    fn compute(&mut self, batch: &Batch, watch: &mut Watch<'_>) -> Result<ControlFlow<()>, ForwardError> {
        self.cache.copy(&batch.copies);
        self.embed(&batch.tokens)?;
        self.turns.turn_to(&batch.positions);
        let places = attention::places(batch);
        let spans: Vec<_> = batch.spans.iter().map(|span| seen(span, &batch.positions)).collect();
        for index in 0..self.layers.len() {
            self.layer(index, &batch.wanted, &places, &spans);
            // The logits are one part more.
            if watch((index + 1) as f64 / (self.layers.len() + 1) as f64).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        let Decoder { machine, shape, scratch, .. } = self;
        let (width, epsilon, x, norm) = (shape.width, shape.norm_epsilon, &scratch.x, &self.output_norm);
        scratch.vectors.fill(&machine.pool, machine.isa, batch.wanted.len(), width, |row, out| {
            ops::rms_norm(machine.isa, &x[row * width..][..width], norm, epsilon, out);
        });
        Ok(ControlFlow::Continue(()))
    }

    /// Computes the rows and writes their keys and values to their blocks, as [`Forward::forward`] does, and gives the
    /// wanted rows' hidden states, `[wanted, width]`, in place of their logits.
    pub(crate) fn states(&mut self, batch: &Batch) -> Result<&[f32], ForwardError> {
        // Nothing gives it up.
        let _ = self.compute(batch, &mut |_| ControlFlow::Continue(()))?;
        Ok(self.scratch.vectors.values())
    }

    /// Numbers of a hidden state.
    pub(crate) fn width(&self) -> usize {
        self.shape.width
    }

    /// The logits of the states that were computed last.
    fn project(&mut self) {
        let Decoder { machine, shape, scratch, .. } = self;
        let matrix = self.output.as_ref().map_or(&self.embedding, |output| &output.matrix);
        self.logits_len = scratch.vectors.m() * matrix.rows();
        let logits = room(&mut self.logits, self.logits_len);
        matmul(&machine.pool, machine.isa, &mut [(matrix, &mut *logits)], &scratch.vectors);
        if let Some(cap) = shape.logit_softcap {
            each_row(&machine.pool, logits, matrix.rows(), |_, row| {
                ops::softcap(machine.isa, row, cap);
            });
        }
    }
}

impl Forward for Decoder {
    fn vocab(&self) -> usize {
        self.embedding.rows()
    }

    fn forward_watched(
        &mut self,
        batch: &Batch,
        watch: &mut Watch<'_>,
    ) -> Result<ControlFlow<()>, ForwardError> {
        let ended = self.compute(batch, watch)?;
        if ended.is_continue() {
            self.project();
        }
        Ok(ended)
    }

    fn logits(&self) -> &[f32] {
        &self.logits[..self.logits_len]
    }

    fn spread(&self, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
        self.machine.pool.run(tasks, work);
    }
}

/// A sequence's rows as attention takes them.
fn seen<'a>(span: &'a Span, positions: &[u32]) -> kernels::Span<'a> {
    let (row, count) = (span.rows.start, span.rows.len());
    kernels::Span {
        row,
        count,
        visible: positions[row] as usize + 1,
        hidden: span.hidden.clone(),
        pages: &span.blocks,
    }
}

/// Some of the spans' rows, each now where it is among `rows`.
fn spans_of<'a>(rows: &[usize], spans: &[kernels::Span<'a>]) -> Vec<kernels::Span<'a>> {
    let mut parts: Vec<kernels::Span<'a>> = Vec::new();
    for span in spans {
        let from = rows.partition_point(|&row| row < span.row);
        let to = rows.partition_point(|&row| row < span.row + span.count);
        for (at, &row) in rows.iter().enumerate().take(to).skip(from) {
            let visible = span.visible + row - span.row;
            match parts.last_mut().filter(|part| at > from && part.visible + part.count == visible) {
                Some(part) => part.count += 1,
                None => parts.push(kernels::Span { row: at, count: 1, visible, ..span.clone() }),
            }
        }
    }
    parts
}

/// What one thread reads at a time.
enum Part {
    Embedding(Matrix),
    Output(Linear),
    Layer(Box<Layer>),
    Taken,
}

impl Part {
    fn take_embedding(&mut self) -> Option<Matrix> {
        match std::mem::replace(self, Part::Taken) {
            Part::Embedding(matrix) => Some(matrix),
            other => {
                *self = other;
                None
            }
        }
    }

    fn take_output(&mut self) -> Option<Linear> {
        match std::mem::replace(self, Part::Taken) {
            Part::Output(linear) => Some(linear),
            other => {
                *self = other;
                None
            }
        }
    }

    fn into_layer(self) -> Option<Layer> {
        match self {
            Part::Layer(layer) => Some(*layer),
            _ => None,
        }
    }
}

/// Embedding, output and layers in this order, read by as many threads. The largest come first.
fn read_parts(
    source: &Source<'_>,
    shape: &Architecture,
    vocab: usize,
    threads: usize,
) -> Result<Vec<Part>, LoadError> {
    let output = source.has("output.weight");
    let aside = 1 + usize::from(output);
    let read = |part: usize| match part {
        0 => source.matrix("token_embd.weight", vocab, shape.width).map(Part::Embedding),
        1 if output => source
            .matrix("output.weight", vocab, shape.width)
            .map(|matrix| Part::Output(Linear { matrix, bias: None })),
        layer => Layer::read(source, shape, layer - aside).map(|layer| Part::Layer(Box::new(layer))),
    };
    let count = aside + shape.layers;
    let next = AtomicUsize::new(0);
    let parts: Vec<_> = (0..count).map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, count) {
            scope.spawn(|| {
                loop {
                    let part = next.fetch_add(1, Ordering::Relaxed);
                    let Some(place) = parts.get(part) else { return };
                    let result = read(part);
                    if result.is_err() {
                        next.store(count, Ordering::Relaxed);
                    }
                    *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                }
            });
        }
    });
    let results =
        parts.into_iter().filter_map(|part| part.into_inner().unwrap_or_else(PoisonError::into_inner));
    results.collect()
}

#[cfg(test)]
pub(crate) mod tests;
