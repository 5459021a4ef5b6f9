//! Attention: queries, keys and values of the batch, the cache of those before, and what each query sees of them.

use kernels::{Activations, AttentionArgs, KvPages, OutOfMemory, Place, attention, ops};

use super::BLOCK_LEN;
use super::weights::Layer;
use crate::family::{Architecture, Pairs, Rope};
use crate::forward::Batch;
use crate::machine::Machine;
use crate::rows::{each_row, room};
use crate::scheduler::BlockCopy;

/// Keys and values of every layer, in blocks.
#[derive(Debug)]
pub(super) struct Cache {
    layers: Vec<KvPages>,
}

impl Cache {
    /// Room for `blocks` blocks; it takes memory as it is written.
    pub(super) fn new(shape: &Architecture, blocks: u32) -> Result<Cache, OutOfMemory> {
        let layer = |_| KvPages::new(blocks as usize, shape.kv_heads, shape.head_dim);
        Ok(Cache { layers: (0..shape.layers).map(layer).collect::<Result<_, _>>()? })
    }

    pub(super) fn copy(&mut self, copies: &[BlockCopy]) {
        for copy in copies {
            self.layers.iter_mut().for_each(|layer| layer.copy_page(copy.from, copy.to));
        }
    }
}

/// Where each row's keys and values go.
pub(super) fn places(batch: &Batch) -> Vec<Place> {
    let place = |blocks: &[u32], position: u32| Place {
        page: blocks[position as usize / BLOCK_LEN],
        slot: position % BLOCK_LEN as u32,
    };
    let rows = batch.spans.iter().flat_map(|span| span.rows.clone().map(|row| (row, &span.blocks)));
    rows.map(|(row, blocks)| place(blocks, batch.positions[row])).collect()
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
    /// `[pairs]`, in radians a position.
    angles: Vec<f64>,
    magnitude: f32,
    /// `[m, pairs]` each.
    cosines: Vec<f32>,
    sines: Vec<f32>,
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
        Turn { pairs: rope.pairs, angles, magnitude, cosines: Vec::new(), sines: Vec::new() }
    }

    fn turn_to(&mut self, positions: &[u32]) {
        self.cosines.clear();
        self.sines.clear();
        for &position in positions {
            for angle in &self.angles {
                let (sine, cosine) = (f64::from(position) * angle).sin_cos();
                self.cosines.push(cosine as f32 * self.magnitude);
                self.sines.push(sine as f32 * self.magnitude);
            }
        }
    }

    /// Turns one head's numbers of row `row`.
    fn apply(&self, machine: &Machine, row: usize, head: &mut [f32]) {
        let pairs = self.angles.len();
        let part = row * pairs..(row + 1) * pairs;
        let (cosines, sines) = (&self.cosines[part.clone()], &self.sines[part]);
        match self.pairs {
            Pairs::Neighbours => ops::rope_neighbours(head, cosines, sines),
            Pairs::Halves => ops::rope_halves(machine.isa, head, cosines, sines),
        }
    }
}

/// What a block keeps from step to step.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// `[m, query_width]`.
    query: Vec<f32>,
    /// `[m, kv_width]` each.
    key: Vec<f32>,
    value: Vec<f32>,
    /// `[m, query_width]`: the values that each head took.
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
    /// `[m]`.
    pub(super) places: &'a [Place],
    pub(super) spans: &'a [kernels::Span<'a>],
}

impl Attention<'_> {
    /// Writes what the block adds to `added`, `[m, width]`. `vectors` are its normed input.
    pub(super) fn run(
        &self,
        cache: &mut Cache,
        vectors: &Activations,
        scratch: &mut Scratch,
        added: &mut [f32],
    ) {
        let Attention { machine, shape, layer, .. } = self;
        let m = vectors.m();
        let query = room(&mut scratch.query, m * shape.query_width());
        let key = room(&mut scratch.key, m * shape.kv_width());
        let value = room(&mut scratch.value, m * shape.kv_width());
        let mut parts = [(&layer.query, query), (&layer.key, &mut *key), (&layer.value, &mut *value)];
        machine.multiply(&mut parts, vectors);
        self.store(cache, key, value);
        self.mix(cache, &|row| row, self.spans, scratch, added);
    }

    /// Computes and writes keys and values, and nothing else.
    pub(super) fn keep(&self, cache: &mut Cache, vectors: &Activations, scratch: &mut Scratch) {
        let Attention { machine, shape, layer, .. } = self;
        let key = room(&mut scratch.key, vectors.m() * shape.kv_width());
        let value = room(&mut scratch.value, vectors.m() * shape.kv_width());
        machine.multiply(&mut [(&layer.key, &mut *key), (&layer.value, &mut *value)], vectors);
        self.store(cache, key, value);
    }

    /// The rest after [`Self::keep`], for some rows: `vectors` are theirs, and `spans` the sequences that they are of.
    pub(super) fn run_of(
        &self,
        rows: &[usize],
        spans: &[kernels::Span<'_>],
        cache: &Cache,
        vectors: &Activations,
        scratch: &mut Scratch,
        added: &mut [f32],
    ) {
        let query = room(&mut scratch.query, rows.len() * self.shape.query_width());
        self.machine.multiply(&mut [(&self.layer.query, query)], vectors);
        self.mix(cache, &|row| rows[row], spans, scratch, added);
    }

    fn store(&self, cache: &mut Cache, key: &mut [f32], value: &[f32]) {
        let norm = self.layer.head_norms.as_ref().map(|(_, key)| key.as_slice());
        self.place(key, self.shape.kv_width(), norm, &|row| row);
        let kv = &mut cache.layers[self.index];
        kv.write(&self.machine.pool, self.machine.isa, self.places, key, value);
    }

    /// What the queries in `scratch` take of the values that they see. `row` is the batch's row that a query is of.
    fn mix(
        &self,
        cache: &Cache,
        row: &(dyn Fn(usize) -> usize + Sync),
        spans: &[kernels::Span<'_>],
        scratch: &mut Scratch,
        added: &mut [f32],
    ) {
        let Attention { machine, shape, layer, .. } = self;
        let m = added.len() / shape.width;
        let query = &mut scratch.query[..m * shape.query_width()];
        let norm = layer.head_norms.as_ref().map(|(query, _)| query.as_slice());
        self.place(query, shape.query_width(), norm, row);
        let mixed = room(&mut scratch.mixed, m * shape.query_width());
        let arguments = self.arguments(query, &cache.layers[self.index], spans);
        attention(&machine.pool, machine.isa, &arguments, mixed);
        scratch.vectors.quantize(&machine.pool, machine.isa, mixed, m, shape.query_width());
        machine.multiply(&mut [(&layer.output, added)], &scratch.vectors);
    }

    fn is_local(&self) -> bool {
        self.shape.local.as_ref().is_some_and(|local| local.has(self.index))
    }

    /// Norms each head where the family does so, and turns it to its position.
    fn place(
        &self,
        data: &mut [f32],
        width: usize,
        norm: Option<&[f32]>,
        row: &(dyn Fn(usize) -> usize + Sync),
    ) {
        let local = self.turns.local.as_ref().filter(|_| self.is_local());
        let turn = local.unwrap_or(&self.turns.global);
        each_row(&self.machine.pool, data, width, |at, data| {
            for head in data.chunks_exact_mut(self.shape.head_dim) {
                if let Some(norm) = norm {
                    ops::rms_norm_in_place(self.machine.isa, head, norm, self.shape.norm_epsilon);
                }
                turn.apply(self.machine, row(at), head);
            }
        });
    }

    fn arguments<'a>(
        &'a self,
        query: &'a [f32],
        kv: &'a KvPages,
        spans: &'a [kernels::Span<'a>],
    ) -> AttentionArgs<'a> {
        let local = self.shape.local.as_ref().filter(|_| self.is_local());
        AttentionArgs {
            q: query,
            heads: self.shape.heads,
            kv,
            spans,
            causal: true,
            scale: self.shape.attention_scale,
            softcap: self.shape.attention_softcap,
            window: local.map(|local| local.window),
            sinks: self.layer.sinks.as_deref(),
        }
    }
}
