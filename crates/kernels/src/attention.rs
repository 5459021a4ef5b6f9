//! Attention over paged keys and values: streaming softmax, block by block of keys.
//!
//! For one query and one head the result follows from blocks of [`KEYS`] keys, counted from the sequence's first token,
//! in order: scores (each a chain of fused multiply-adds over the head's numbers), the block's greatest, exponentials,
//! and a chain of fused multiply-adds over its values. What a query does not see takes no part. None of it depends on
//! which queries are computed together.
#![allow(clippy::needless_range_loop, reason = "an index runs through several small arrays, unrolled")]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m512};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

use crate::activations::Shared;
use crate::expect::expect_read;
use crate::isa::Isa;
#[cfg(target_arch = "x86_64")]
use crate::isa::Kind;
use crate::kv::{KvPages, PAGE_TOKENS};
use crate::lanes::{LANES, Lanes, Vector};
use crate::pool::Pool;

/// Keys of a block of the streaming softmax.
const KEYS: usize = 64;
/// The most rows that are multiplied with the same keys at once.
const MOST_ROWS: usize = 8;
/// Query rows (tokens times heads of a group) that a task takes at least, where a sequence has as many.
const TILE_ROWS: usize = 32;

/// Consecutive queries of one sequence.
#[derive(Clone, Debug)]
pub struct Span<'a> {
    /// The first query's row in [`AttentionArgs::q`].
    pub row: usize,
    /// How many queries.
    pub count: usize,
    /// How many of the sequence's keys the first query sees, itself included: its position plus one.
    pub visible: usize,
    /// Keys that none of the queries sees, though they come before it; not the first query's own.
    pub hidden: Range<usize>,
    /// The sequence's pages, in order; enough for all keys that are seen.
    pub pages: &'a [u32],
}

/// What attention is computed of.
#[derive(Clone, Debug)]
pub struct AttentionArgs<'a> {
    /// Queries `[m, heads, head_dim]`.
    pub q: &'a [f32],
    /// Query heads; a multiple of the key-value heads.
    pub heads: usize,
    /// Keys and values, those of the queries' own tokens included.
    pub kv: &'a KvPages,
    /// Which rows belong to which sequence. Rows in none are left as they are.
    pub spans: &'a [Span<'a>],
    /// Whether each query sees one key more than the one before it; otherwise all see as many (encoders).
    pub causal: bool,
    /// What products of queries and keys are multiplied with.
    pub scale: f32,
    /// Scores become `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// How many of the last keys are seen, the query's own included; all when there is none.
    pub window: Option<usize>,
    /// A score for each head that takes part in the softmax and has no value.
    pub sinks: Option<&'a [f32]>,
}

/// Writes to `out`, `[m, heads, head_dim]`, each query's mean of the values it sees, weighted by the softmax of its scores.
///
/// # Panics
/// When sizes disagree, a span's rows or pages are not there, spans share rows, or a first query sees nothing.
pub fn attention(pool: &Pool, isa: Isa, args: &AttentionArgs<'_>, out: &mut [f32]) {
    let tiles = tiles(args, out.len());
    let kv_heads = args.kv.kv_heads();
    let out = Shared(out.as_mut_ptr());
    // The last tiles of a long prompt see the most keys, so they come first: tasks are taken from the last on.
    pool.run(tiles.len() * kv_heads, |task| {
        let tile = Tile { args, kv_head: task % kv_heads, ..tiles[task / kv_heads] };
        SCRATCH.with_borrow_mut(|scratch| {
            run_tile(isa, &tile, scratch);
            // SAFETY: spans do not share rows and tiles do not share queries, so these rows of this group of heads are
            // this task's; `tiles` asserted that all of them are within `out`.
            unsafe { tile.write(scratch, out.get()) };
        });
    });
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// What a task computes with.
#[derive(Default)]
struct Scratch {
    /// Scores, then weights, of the block at hand: `[rows, KEYS]`.
    scores: Vec<f32>,
    /// `[rows, head_dim]`.
    sums: Vec<f32>,
    rows: Vec<Row>,
}

/// A query of one head.
#[derive(Clone, Copy)]
struct Row {
    /// Where its numbers start in the queries, and its result in the output.
    at: usize,
    head: usize,
    /// The keys that it sees.
    first: usize,
    end: usize,
    /// The greatest score so far, and what the sums are to be multiplied with for it.
    greatest: f32,
    correction: f32,
    /// The sum of weights so far.
    total: f32,
}

/// Queries of one sequence and one group of heads.
#[derive(Clone, Copy)]
struct Tile<'a> {
    args: &'a AttentionArgs<'a>,
    span: &'a Span<'a>,
    kv_head: usize,
    /// Queries of the span, from `first` on.
    first: usize,
    count: usize,
}

/// Cuts the spans into tiles, having checked them.
fn tiles<'a>(args: &'a AttentionArgs<'a>, out_len: usize) -> Vec<Tile<'a>> {
    let (heads, dim, kv_heads) = (args.heads, args.kv.head_dim(), args.kv.kv_heads());
    assert!(kv_heads > 0 && heads.is_multiple_of(kv_heads), "{heads} heads in {kv_heads} groups");
    assert!(args.q.len() == out_len && out_len.is_multiple_of(heads * dim), "queries [m, {heads}, {dim}]");
    assert!(args.sinks.is_none_or(|sinks| sinks.len() == heads), "a sink for each of {heads} heads");
    let mut taken = vec![false; out_len / (heads * dim)];
    let step = (TILE_ROWS / (heads / kv_heads)).max(1);
    let mut tiles = Vec::new();
    for span in args.spans.iter().filter(|span| span.count > 0) {
        for taken in &mut taken[span.row..span.row + span.count] {
            assert!(!std::mem::replace(taken, true), "a row in two spans");
        }
        let seen = if args.causal { span.visible + span.count - 1 } else { span.visible };
        let Range { start, end } = span.hidden;
        assert!(start <= end && end < span.visible, "keys {start}..{end} hidden from query {}", span.visible);
        assert!(span.visible > 0 && args.window != Some(0), "a query that sees nothing");
        assert!(seen <= span.pages.len() * PAGE_TOKENS, "{seen} keys in {} pages", span.pages.len());
        assert!(span.pages.iter().all(|&page| (page as usize) < args.kv.pages()), "a page that is not there");
        tiles.extend((0..span.count).step_by(step).map(|first| Tile {
            args,
            span,
            kv_head: 0,
            first,
            count: step.min(span.count - first),
        }));
    }
    tiles
}

impl Tile<'_> {
    /// The rows of this tile: for each query the heads of the group.
    fn rows(&self, rows: &mut Vec<Row>) {
        let (args, dim) = (self.args, self.args.kv.head_dim());
        let group = args.heads / args.kv.kv_heads();
        rows.clear();
        for query in self.first..self.first + self.count {
            let end = if args.causal { self.span.visible + query } else { self.span.visible };
            let first = args.window.map_or(0, |window| end.saturating_sub(window));
            rows.extend((self.kv_head * group..(self.kv_head + 1) * group).map(|head| Row {
                at: ((self.span.row + query) * args.heads + head) * dim,
                head,
                first,
                end,
                greatest: f32::NEG_INFINITY,
                correction: 0.0,
                total: 0.0,
            }));
        }
    }

    /// Computes the tile; `V` holds a page's scores of a query.
    #[inline(always)]
    unsafe fn run<L: Lanes, V: Vector>(&self, scratch: &mut Scratch) {
        let dim = self.args.kv.head_dim();
        self.rows(&mut scratch.rows);
        let rows = &mut scratch.rows[..];
        scratch.scores.clear();
        scratch.scores.resize(rows.len() * KEYS, 0.0);
        scratch.sums.clear();
        scratch.sums.resize(rows.len() * dim, 0.0);
        let first = rows.iter().map(|row| row.first).min().unwrap_or(0);
        let end = rows.iter().map(|row| row.end).max().unwrap_or(0);
        let block = |start: usize| Block::new(self, start.min(end), end.min(start + KEYS));
        let mut next = block(first / KEYS * KEYS);
        while next.start < end {
            let after = block(next.start + KEYS);
            let this = std::mem::replace(&mut next, after);
            // Rows see no fewer keys than the rows before them, at either end.
            let from = rows.iter().position(|row| row.end > this.start).unwrap_or(rows.len());
            let to = rows.iter().rposition(|row| row.first < this.start + KEYS).map_or(0, |last| last + 1);
            if from >= to {
                continue;
            }
            let rows = &mut rows[from..to];
            next.expect();
            // SAFETY: the caller's promise about the CPU.
            unsafe {
                this.score::<V>(rows, &mut scratch.scores[..]);
                for (row, scores) in rows.iter_mut().zip(scratch.scores.as_chunks_mut::<KEYS>().0) {
                    this.weigh::<L>(row, scores);
                }
                this.add::<L, V>(rows, &scratch.scores[..], &mut scratch.sums[from * dim..]);
            }
        }
        for (row, sums) in scratch.rows.iter().zip(scratch.sums.chunks_exact_mut(dim)) {
            let total = match self.args.sinks {
                Some(sinks) => row.total + (sinks[row.head] - row.greatest).exp(),
                None => row.total,
            };
            for sums in sums.as_chunks_mut::<LANES>().0 {
                // SAFETY: eight numbers; the caller's promise about the CPU.
                unsafe { L::load(sums.as_ptr()).div(L::splat(total)).store(sums.as_mut_ptr()) };
            }
        }
    }

    /// Writes the results where they go.
    ///
    /// # Safety
    /// `out` must be valid for the results of all rows, and no other thread may touch these.
    unsafe fn write(&self, scratch: &Scratch, out: *mut f32) {
        let dim = self.args.kv.head_dim();
        for (row, result) in scratch.rows.iter().zip(scratch.sums.chunks_exact(dim)) {
            // SAFETY: the caller's promise.
            unsafe { out.add(row.at).copy_from_nonoverlapping(result.as_ptr(), dim) };
        }
    }
}

/// Computes a tile: its results are the scratch's sums.
fn run_tile(isa: Isa, tile: &Tile<'_>, scratch: &mut Scratch) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn avx2(tile: &Tile<'_>, scratch: &mut Scratch) {
        // SAFETY: this function's features are those of these vectors.
        unsafe { tile.run::<__m256, [__m256; 2]>(scratch) }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512vl,avx2,fma,f16c")]
    fn avx512(tile: &Tile<'_>, scratch: &mut Scratch) {
        // SAFETY: this function's features are those of these vectors.
        unsafe { tile.run::<__m256, __m512>(scratch) }
    }

    match isa.kind() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` of this kind is proof that the CPU has these features.
        Kind::Avx2 => unsafe { avx2(tile, scratch) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` of this kind is proof that the CPU has these features.
        Kind::Avx512Vnni => unsafe { avx512(tile, scratch) },
        // SAFETY: these vectors need no instructions.
        _ => unsafe { tile.run::<[f32; LANES], [[f32; LANES]; 2]>(scratch) },
    }
}

/// Calls `$call::<V, R, W>` with the number of rows as `R`, and in `W` as many vectors side by side as the registers hold
/// sums of for all these rows.
macro_rules! by_rows {
    ($rows:expr, $this:ident.$call:ident::<$vector:ident>($($argument:expr),*)) => {
        match ($rows, $vector::ROWS > 4) {
            (1, _) => $this.$call::<$vector, 1, 4>($($argument),*),
            (2, false) => $this.$call::<$vector, 2, 2>($($argument),*),
            (3, false) => $this.$call::<$vector, 3, 1>($($argument),*),
            (_, false) => $this.$call::<$vector, 4, 1>($($argument),*),
            (2, true) => $this.$call::<$vector, 2, 4>($($argument),*),
            (3, true) => $this.$call::<$vector, 3, 4>($($argument),*),
            (4, true) => $this.$call::<$vector, 4, 4>($($argument),*),
            (5, true) => $this.$call::<$vector, 5, 2>($($argument),*),
            (6, true) => $this.$call::<$vector, 6, 2>($($argument),*),
            (7, true) => $this.$call::<$vector, 7, 2>($($argument),*),
            (_, true) => $this.$call::<$vector, 8, 2>($($argument),*),
        }
    };
}

/// Keys `start..end` of the sequence, at most [`KEYS`].
struct Block<'a> {
    tile: &'a Tile<'a>,
    start: usize,
    end: usize,
    /// The keys and values of each page that has some of them.
    pages: [(&'a [u16], &'a [u16]); KEYS / PAGE_TOKENS],
}

impl<'a> Block<'a> {
    fn new(tile: &'a Tile<'a>, start: usize, end: usize) -> Block<'a> {
        let mut pages: [(&[u16], &[u16]); KEYS / PAGE_TOKENS] = Default::default();
        let numbers = start / PAGE_TOKENS..end.div_ceil(PAGE_TOKENS);
        for (page, number) in pages.iter_mut().zip(numbers) {
            *page = tile.args.kv.head(tile.span.pages[number], tile.kv_head);
        }
        Block { tile, start, end, pages }
    }

    /// The pages that there are.
    fn pages(&self) -> &[(&'a [u16], &'a [u16])] {
        &self.pages[..(self.end - self.start).div_ceil(PAGE_TOKENS)]
    }

    /// Which of its keys no query of the span sees.
    fn hidden(&self) -> Range<usize> {
        let at = |key: usize| key.clamp(self.start, self.start + KEYS) - self.start;
        at(self.tile.span.hidden.start)..at(self.tile.span.hidden.end)
    }

    /// Asks for its keys and values: pages lie anywhere in memory.
    #[inline(always)]
    fn expect(&self) {
        for (keys, values) in self.pages() {
            expect_read(keys.as_ptr().cast(), size_of_val(*keys));
            expect_read(values.as_ptr().cast(), size_of_val(*values));
        }
    }

    /// Writes products of queries and keys to `scores`, `[rows, KEYS]`.
    #[inline(always)]
    unsafe fn score<V: Vector>(&self, rows: &[Row], scores: &mut [f32]) {
        for (rows, scores) in rows.chunks(V::ROWS).zip(scores.chunks_mut(V::ROWS * KEYS)) {
            assert!(scores.len() >= rows.len() * KEYS);
            // SAFETY: there is a block's room for each row (asserted).
            unsafe { by_rows!(rows.len(), self.score_rows::<V>(rows, scores.as_mut_ptr())) };
        }
    }

    /// [`Block::score`] for `R` rows, `W` pages at once.
    #[inline(always)]
    unsafe fn score_rows<V: Vector, const R: usize, const W: usize>(&self, rows: &[Row], out: *mut f32) {
        const { assert!(V::LEN == PAGE_TOKENS) };
        let dim = self.tile.args.kv.head_dim();
        let mut q = [std::ptr::null(); R];
        for (q, row) in q.iter_mut().zip(rows) {
            *q = self.tile.args.q[row.at..][..dim].as_ptr();
        }
        let pages = self.pages();
        let mut at = 0;
        // SAFETY: each query has `dim` numbers, every page of keys `dim` times its tokens; the caller gives room for a
        // block's scores a row.
        unsafe {
            while at + W <= pages.len() {
                score_pages::<V, R, W>(q, dim, &pages[at..], out.add(at * PAGE_TOKENS));
                at += W;
            }
            while at < pages.len() {
                score_pages::<V, R, 1>(q, dim, &pages[at..], out.add(at * PAGE_TOKENS));
                at += 1;
            }
        }
    }

    /// Turns a row's products into weights, relative to the greatest score so far.
    #[inline(always)]
    unsafe fn weigh<L: Lanes>(&self, row: &mut Row, scores: &mut [f32; KEYS]) {
        let args = self.tile.args;
        // The keys of this block that the row sees.
        let (from, to) = (row.first.saturating_sub(self.start), (row.end - self.start).min(KEYS));
        let hidden = self.hidden();
        let all = from == 0 && to == KEYS && hidden.is_empty();
        // Whatever lies where nothing is seen takes no part.
        let mask = |scores: &mut [f32; KEYS], with: f32| {
            scores[..from].fill(with);
            scores[to..].fill(with);
            scores[hidden.clone()].fill(with);
        };
        // SAFETY: each chunk is eight numbers, read and written where it is.
        unsafe {
            if !all {
                mask(scores, f32::NEG_INFINITY);
            }
            let mut chunks = [L::splat(0.0); KEYS / LANES];
            for (chunk, scores) in chunks.iter_mut().zip(scores.as_chunks::<LANES>().0) {
                *chunk = L::load(scores.as_ptr()).mul(L::splat(args.scale));
            }
            if let Some(cap) = args.softcap {
                let cap = L::splat(cap);
                for chunk in &mut chunks {
                    *chunk = cap.mul(chunk.div(cap).tanh());
                }
                if !all {
                    store(chunks, scores);
                    mask(scores, f32::NEG_INFINITY);
                    chunks = load(scores);
                }
            }
            let mut greatest = chunks[0];
            for chunk in &chunks[1..] {
                greatest = chunk.max(greatest);
            }
            let greatest = greatest.max(L::splat(row.greatest)).greatest();
            if greatest == f32::NEG_INFINITY {
                // Nothing was seen so far, and nothing is here.
                scores.fill(0.0);
                row.correction = 1.0;
                return;
            }
            // Most blocks have no greater score than those before them; e to the power of zero is one.
            row.correction = if row.greatest == greatest { 1.0 } else { exp::<L>(row.greatest - greatest) };
            row.greatest = greatest;
            for chunk in &mut chunks {
                *chunk = chunk.sub(L::splat(greatest)).exp();
            }
            store(chunks, scores);
            if !all {
                mask(scores, 0.0);
                chunks = load(scores);
            }
            let mut total = L::splat(0.0);
            for chunk in chunks {
                total = total.add(chunk);
            }
            row.total = row.total.mul_add(row.correction, total.sum());
        }
    }

    /// Adds the weighted values to `sums`, `[rows, head_dim]`.
    #[inline(always)]
    unsafe fn add<L: Lanes, V: Vector>(&self, rows: &[Row], weights: &[f32], sums: &mut [f32]) {
        let dim = self.tile.args.kv.head_dim();
        let values = Values { block: self, dim, lanes: PhantomData::<L> };
        let weights = weights.chunks(V::ROWS * KEYS);
        for ((rows, weights), sums) in rows.chunks(V::ROWS).zip(weights).zip(sums.chunks_mut(V::ROWS * dim)) {
            // Keys that some of these rows do not see must not be touched for those: what lies there is not theirs. What
            // all see is added for all at once, the keys after it row by row: in the same order for each.
            let seen = |row: &Row| {
                let from = row.first.saturating_sub(self.start);
                from..(row.end.min(self.end) - self.start).max(from)
            };
            let from = seen(&rows[0]).start;
            let to = rows.iter().map(|row| seen(row).end).min().unwrap_or(from);
            let together = to > from && rows.iter().all(|row| seen(row).start == from);
            assert!(weights.len() >= rows.len() * KEYS && sums.len() >= rows.len() * dim);
            let (weights, sums) = (weights.as_ptr(), sums.as_mut_ptr());
            // SAFETY: there are weights and sums for these rows (asserted), and pages for all keys that a row sees.
            unsafe {
                if together {
                    let mut by = [1.0; MOST_ROWS];
                    for (by, row) in by.iter_mut().zip(rows) {
                        *by = row.correction;
                    }
                    by_rows!(rows.len(), values.add::<V>(&by, from..to, weights, sums));
                }
                for (index, row) in rows.iter().enumerate() {
                    let Range { start, end } = seen(row);
                    let (keys, by) = if together { (to..end, 1.0) } else { (start..end, row.correction) };
                    if !keys.is_empty() || !together {
                        let (weights, sums) = (weights.add(index * KEYS), sums.add(index * dim));
                        values.add::<V, 1, 4>(&[by; MOST_ROWS], keys, weights, sums);
                    }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn load<L: Lanes>(scores: &[f32; KEYS]) -> [L; KEYS / LANES] {
    // SAFETY: each chunk is eight numbers; the caller's promise about the CPU.
    unsafe {
        let mut chunks = [L::splat(0.0); KEYS / LANES];
        for (chunk, scores) in chunks.iter_mut().zip(scores.as_chunks::<LANES>().0) {
            *chunk = L::load(scores.as_ptr());
        }
        chunks
    }
}

#[inline(always)]
unsafe fn store<L: Lanes>(chunks: [L; KEYS / LANES], scores: &mut [f32; KEYS]) {
    for (chunk, scores) in chunks.into_iter().zip(scores.as_chunks_mut::<LANES>().0) {
        // SAFETY: each chunk is eight numbers; the caller's promise about the CPU.
        unsafe { chunk.store(scores.as_mut_ptr()) };
    }
}

/// e to the power of one number, as the lanes have it; nothing for minus infinity.
#[inline(always)]
unsafe fn exp<L: Lanes>(x: f32) -> f32 {
    // SAFETY: no memory.
    if x == f32::NEG_INFINITY { 0.0 } else { unsafe { L::splat(x).exp().array()[0] } }
}

/// Products of `R` queries with the keys of `W` pages: `out[r, token]`, rows [`KEYS`] apart.
#[inline(always)]
unsafe fn score_pages<V: Vector, const R: usize, const W: usize>(
    q: [*const f32; R],
    dim: usize,
    pages: &[(&[u16], &[u16])],
    out: *mut f32,
) {
    let mut keys = [std::ptr::null(); W];
    for (keys, page) in keys.iter_mut().zip(pages) {
        *keys = page.0.as_ptr();
    }
    // SAFETY: the caller gives `dim` numbers a query, `W` pages of `dim * PAGE_TOKENS` keys, and room for their scores.
    unsafe {
        let mut sums = [[V::splat(0.0); W]; R];
        for i in 0..dim {
            let mut these = [V::splat(0.0); W];
            for w in 0..W {
                these[w] = V::load_f16(keys[w].add(i * PAGE_TOKENS));
            }
            for r in 0..R {
                let x = V::splat(*q[r].add(i));
                for w in 0..W {
                    sums[r][w] = these[w].fma(x, sums[r][w]);
                }
            }
        }
        for r in 0..R {
            for w in 0..W {
                sums[r][w].store(out.add(r * KEYS + w * PAGE_TOKENS));
            }
        }
    }
}

/// The values of a block's keys.
struct Values<'a, L> {
    block: &'a Block<'a>,
    dim: usize,
    /// What is left of a whole vector is added in these.
    lanes: PhantomData<L>,
}

impl<L: Lanes> Values<'_, L> {
    /// `sums[r] = sums[r] * by[r] + sum of weights[r, key] * value[key]` over `keys` of the block, `W` vectors of each
    /// value at once.
    #[inline(always)]
    unsafe fn add<V: Vector, const R: usize, const W: usize>(
        &self,
        by: &[f32; MOST_ROWS],
        keys: Range<usize>,
        weights: *const f32,
        sums: *mut f32,
    ) {
        let mut at = 0;
        // SAFETY: the caller's promises, passed on; the steps end at `dim`, a multiple of a vector of lanes.
        unsafe {
            while at + W * V::LEN <= self.dim {
                self.add_at::<V, R, W>(by, &keys, weights, sums, at);
                at += W * V::LEN;
            }
            while at + V::LEN <= self.dim {
                self.add_at::<V, R, 1>(by, &keys, weights, sums, at);
                at += V::LEN;
            }
            while at < self.dim {
                self.add_at::<[L; 1], R, 1>(by, &keys, weights, sums, at);
                at += LANES;
            }
        }
    }

    /// [`Values::add`] for the `W` vectors from number `at` on.
    #[inline(always)]
    unsafe fn add_at<V: Vector, const R: usize, const W: usize>(
        &self,
        by: &[f32; MOST_ROWS],
        keys: &Range<usize>,
        weights: *const f32,
        sums: *mut f32,
        at: usize,
    ) {
        // SAFETY: the caller gives weights of [`KEYS`] a row, sums of `dim` a row, and pages for `keys`.
        unsafe {
            let mut totals = [[V::splat(0.0); W]; R];
            for r in 0..R {
                for w in 0..W {
                    let sum = V::load(sums.add(r * self.dim + at + w * V::LEN));
                    totals[r][w] = sum.mul(V::splat(by[r]));
                }
            }
            for (number, (_, page)) in self.block.pages().iter().enumerate() {
                let first = number * PAGE_TOKENS;
                let keys = keys.start.max(first)..keys.end.min(first + PAGE_TOKENS);
                for key in keys {
                    let value = page.as_ptr().add((key - first) * self.dim + at);
                    let mut values = [V::splat(0.0); W];
                    for w in 0..W {
                        values[w] = V::load_f16(value.add(w * V::LEN));
                    }
                    for r in 0..R {
                        let weight = V::splat(*weights.add(r * KEYS + key));
                        for w in 0..W {
                            totals[r][w] = values[w].fma(weight, totals[r][w]);
                        }
                    }
                }
            }
            for r in 0..R {
                for w in 0..W {
                    totals[r][w].store(sums.add(r * self.dim + at + w * V::LEN));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
