//! Attention: queries, keys and values of the batch, the cache of those before, and what each query sees of them.

use kernels::Activations;

use super::rows::{each_row, norm_in_place, room};
use super::weights::Layer;
use super::{BLOCK_LEN, Machine};
use crate::family::{Architecture, Pairs, Rope};
use crate::forward::Batch;
use crate::scheduler::BlockCopy;

/// Keys and values of every layer, in blocks.
#[derive(Debug)]
pub(super) struct Cache {
    /// For each layer `[blocks, BLOCK_LEN, kv_width]`.
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    kv_width: usize,
}

impl Cache {
    pub(super) fn new(shape: &Architecture, blocks: u32) -> Cache {
        let len = blocks as usize * BLOCK_LEN * shape.kv_width();
        Cache {
            keys: (0..shape.layers).map(|_| vec![0.0; len]).collect(),
            values: (0..shape.layers).map(|_| vec![0.0; len]).collect(),
            kv_width: shape.kv_width(),
        }
    }

    pub(super) fn copy(&mut self, copies: &[BlockCopy]) {
        let len = BLOCK_LEN * self.kv_width;
        for copy in copies {
            let (from, to) = (copy.from as usize * len, copy.to as usize * len);
            for numbers in self.keys.iter_mut().chain(&mut self.values) {
                numbers.copy_within(from..from + len, to);
            }
        }
    }
}

/// The batch's cosines and sines: by how much each row's pairs are turned.
#[derive(Debug)]
pub(super) struct Turns {
    global: Turn,
    /// Where local layers turn otherwise.
    local: Option<Turn>,
}

#[derive(Debug)]
struct Turn {
    pairs: Pairs,
    angles: Vec<f64>,
    magnitude: f32,
    /// `[m, pairs]` of (cosine, sine).
    table: Vec<(f32, f32)>,
}

impl Turns {
    pub(super) fn new(shape: &Architecture) -> Turns {
        let local = shape.local.as_ref().and_then(|local| local.rope.as_ref());
        Turns { global: Turn::new(&shape.rope), local: local.map(Turn::new) }
    }

    pub(super) fn turn_to(&mut self, positions: &[u32]) {
        self.global.turn_to(positions);
        if let Some(local) = &mut self.local {
            local.turn_to(positions);
        }
    }
}

impl Turn {
    fn new(rope: &Rope) -> Turn {
        let (angles, magnitude) = rope.angles();
        Turn { pairs: rope.pairs, angles, magnitude, table: Vec::new() }
    }

    fn turn_to(&mut self, positions: &[u32]) {
        self.table.clear();
        for &position in positions {
            self.table.extend(self.angles.iter().map(|angle| {
                let (sine, cosine) = (f64::from(position) * angle).sin_cos();
                (cosine as f32 * self.magnitude, sine as f32 * self.magnitude)
            }));
        }
    }

    /// Turns one head's numbers of row `row`.
    fn apply(&self, row: usize, head: &mut [f32]) {
        let pairs = self.angles.len();
        for (pair, &(cosine, sine)) in self.table[row * pairs..(row + 1) * pairs].iter().enumerate() {
            let (a, b) = match self.pairs {
                Pairs::Neighbours => (2 * pair, 2 * pair + 1),
                Pairs::Halves => (pair, pair + pairs),
            };
            (head[a], head[b]) = (head[a] * cosine - head[b] * sine, head[b] * cosine + head[a] * sine);
        }
    }
}

/// What a block keeps from step to step.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    mixed: Vec<f32>,
    vectors: Activations,
}

/// One layer's attention in one step.
pub(super) struct Attention<'a> {
    pub(super) machine: &'a Machine,
    pub(super) shape: &'a Architecture,
    pub(super) layer: &'a Layer,
    pub(super) index: usize,
    pub(super) turns: &'a Turns,
    pub(super) batch: &'a Batch,
}

impl Attention<'_> {
    /// Writes what the block adds to `added`, `[m, width]`.
    pub(super) fn run(
        &self,
        cache: &mut Cache,
        vectors: &mut Activations,
        scratch: &mut Scratch,
        added: &mut [f32],
    ) {
        let (m, shape, layer) = (self.batch.tokens.len(), self.shape, self.layer);
        let query = room(&mut scratch.query, m * shape.query_width());
        let key = room(&mut scratch.key, m * shape.kv_width());
        let value = room(&mut scratch.value, m * shape.kv_width());
        let mut parts = [(&layer.query, &mut *query), (&layer.key, &mut *key), (&layer.value, &mut *value)];
        self.machine.multiply(&mut parts, vectors);
        let norms = layer.head_norms.as_ref();
        self.place(query, shape.query_width(), norms.map(|(query, _)| query.as_slice()));
        self.place(key, shape.kv_width(), norms.map(|(_, key)| key.as_slice()));
        self.store(cache, key, value);
        let mixed = room(&mut scratch.mixed, m * shape.query_width());
        self.mix(cache, query, mixed);
        scratch.vectors.quantize(&self.machine.pool, self.machine.isa, mixed, m, shape.query_width());
        self.machine.multiply(&mut [(&layer.output, added)], &scratch.vectors);
    }

    /// Norms each head where the family does so, and turns it to its position.
    fn place(&self, data: &mut [f32], width: usize, norm: Option<&[f32]>) {
        let local = self.shape.local.as_ref().is_some_and(|local| local.has(self.index));
        let turn = self.turns.local.as_ref().filter(|_| local).unwrap_or(&self.turns.global);
        each_row(&self.machine.pool, data, width, |row, data| {
            for head in data.chunks_exact_mut(self.shape.head_dim) {
                if let Some(norm) = norm {
                    norm_in_place(head, norm, self.shape.norm_epsilon);
                }
                turn.apply(row, head);
            }
        });
    }

    fn store(&self, cache: &mut Cache, key: &[f32], value: &[f32]) {
        let width = self.shape.kv_width();
        for span in &self.batch.spans {
            for row in span.rows.clone() {
                let position = self.batch.positions[row] as usize;
                let slot = span.blocks[position / BLOCK_LEN] as usize * BLOCK_LEN + position % BLOCK_LEN;
                let from = row * width..(row + 1) * width;
                let to = slot * width..(slot + 1) * width;
                cache.keys[self.index][to.clone()].copy_from_slice(&key[from.clone()]);
                cache.values[self.index][to].copy_from_slice(&value[from]);
            }
        }
    }

    fn mix(&self, cache: &Cache, query: &[f32], mixed: &mut [f32]) {
        let shape = self.shape;
        let (dim, width) = (shape.head_dim, shape.query_width());
        let group = shape.heads / shape.kv_heads;
        let window = shape.local.as_ref().filter(|local| local.has(self.index)).map(|local| local.window);
        let span_of: Vec<usize> = self
            .batch
            .spans
            .iter()
            .enumerate()
            .flat_map(|(at, span)| span.rows.clone().map(move |_| at))
            .collect();
        let (keys, values) = (&cache.keys[self.index], &cache.values[self.index]);
        each_row(&self.machine.pool, mixed, width, |row, mixed| {
            let position = self.batch.positions[row] as usize;
            let blocks = &self.batch.spans[span_of[row]].blocks;
            let first = window.map_or(0, |window| (position + 1).saturating_sub(window));
            let at = |position: usize, head: usize| {
                let slot = blocks[position / BLOCK_LEN] as usize * BLOCK_LEN + position % BLOCK_LEN;
                let start = slot * cache.kv_width + head / group * dim;
                start..start + dim
            };
            for (head, out) in mixed.chunks_exact_mut(dim).enumerate() {
                let query = &query[row * width + head * dim..][..dim];
                let mut scores: Vec<f32> = (first..=position)
                    .map(|position| {
                        let key = &keys[at(position, head)];
                        let score =
                            query.iter().zip(key).map(|(a, b)| a * b).sum::<f32>() * shape.attention_scale;
                        shape.attention_softcap.map_or(score, |cap| cap * (score / cap).tanh())
                    })
                    .collect();
                let sink = self.layer.sinks.as_ref().map(|sinks| sinks[head]);
                let greatest = scores.iter().copied().chain(sink).fold(f32::NEG_INFINITY, f32::max);
                scores.iter_mut().for_each(|score| *score = (*score - greatest).exp());
                let sum = scores.iter().sum::<f32>() + sink.map_or(0.0, |sink| (sink - greatest).exp());
                out.fill(0.0);
                for (position, score) in (first..=position).zip(&scores) {
                    for (out, value) in out.iter_mut().zip(&values[at(position, head)]) {
                        *out += score / sum * value;
                    }
                }
            }
        });
    }
}
