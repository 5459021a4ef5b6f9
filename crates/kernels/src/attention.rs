//! Attention over paged keys and values: streaming softmax, block by block of keys.
//!
//! For one query and one head the result follows from blocks of [`KEYS`] keys, counted from the sequence's first token,
//! in order: scores (each a chain of fused multiply-adds over the head's numbers), the block's greatest, exponentials,
//! and a chain of fused multiply-adds over its values. What a query does not see takes no part. None of it depends on
//! which queries are computed together.
#![allow(clippy::needless_range_loop, reason = "an index runs through several small arrays, unrolled")]

use std::cell::RefCell;
use std::ops::Range;

use crate::activations::Shared;
use crate::expect::expect_read;
use crate::isa::Isa;
use crate::kv::{KvPages, PAGE_TOKENS};
use crate::lanes::{LANES, Lanes, lanes_fn};
use crate::pool::Pool;

/// Keys of a block of the streaming softmax.
const KEYS: usize = 64;
/// Query rows (tokens times heads of a group) that a task takes at least, where a sequence has as many.
const TILE_ROWS: usize = 32;
/// Query rows that are multiplied with the same keys at once.
const STEP: usize = 4;

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

    /// Divides the sums by the weights and writes them.
    ///
    /// # Safety
    /// `out` must be valid for the results of all rows, and no other thread may touch these.
    unsafe fn write(&self, scratch: &Scratch, out: *mut f32) {
        let dim = self.args.kv.head_dim();
        for (row, sums) in scratch.rows.iter().zip(scratch.sums.chunks_exact(dim)) {
            let total = match self.args.sinks {
                Some(sinks) => row.total + (sinks[row.head] - row.greatest).exp(),
                None => row.total,
            };
            for (i, sum) in sums.iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { out.add(row.at + i).write(sum / total) };
            }
        }
    }
}

lanes_fn! {
    /// Computes a tile, up to the division.
    fn run_tile<L>(tile: &Tile<'_>, scratch: &mut Scratch) {
        let dim = tile.args.kv.head_dim();
        tile.rows(&mut scratch.rows);
        let rows = &mut scratch.rows[..];
        scratch.scores.clear();
        scratch.scores.resize(rows.len() * KEYS, 0.0);
        scratch.sums.clear();
        scratch.sums.resize(rows.len() * dim, 0.0);
        let first = rows.iter().map(|row| row.first).min().unwrap_or(0);
        let end = rows.iter().map(|row| row.end).max().unwrap_or(0);
        for start in (first / KEYS * KEYS..end).step_by(KEYS) {
            // Rows see no fewer keys than the rows before them, at either end.
            let from = rows.iter().position(|row| row.end > start).unwrap_or(rows.len());
            let to = rows.iter().rposition(|row| row.first < start + KEYS).map_or(0, |last| last + 1);
            if from >= to {
                continue;
            }
            let rows = &mut rows[from..to];
            let block = Block { tile, start, end: end.min(start + KEYS) };
            Block { tile, start: block.end, end: end.min(start + 2 * KEYS) }.expect();
            block.score::<L>(rows, &mut scratch.scores[..]);
            for (row, scores) in rows.iter_mut().zip(scratch.scores.chunks_exact_mut(KEYS)) {
                block.weigh::<L>(row, scores);
            }
            block.add::<L>(rows, &scratch.scores[..], &mut scratch.sums[from * dim..]);
        }
    }
}

/// Keys `start..end` of the sequence, at most [`KEYS`].
struct Block<'a> {
    tile: &'a Tile<'a>,
    start: usize,
    end: usize,
}

impl Block<'_> {
    /// The pages of this block, each with its first key's number within the block.
    fn pages(&self) -> impl Iterator<Item = (usize, (&[u16], &[u16]))> {
        let pages = self.start / PAGE_TOKENS..self.end.div_ceil(PAGE_TOKENS);
        let (span, kv) = (self.tile.span, self.tile.args.kv);
        pages.map(move |page| (page * PAGE_TOKENS - self.start, kv.head(span.pages[page], self.tile.kv_head)))
    }

    /// Which of its keys no query of the span sees.
    fn hidden(&self) -> Range<usize> {
        let at = |key: usize| key.clamp(self.start, self.start + KEYS) - self.start;
        at(self.tile.span.hidden.start)..at(self.tile.span.hidden.end)
    }

    /// Asks for its keys and values: pages lie anywhere in memory.
    #[inline(always)]
    fn expect(&self) {
        if self.start < self.end {
            for (_, (keys, values)) in self.pages() {
                expect_read(keys.as_ptr().cast(), size_of_val(keys));
                expect_read(values.as_ptr().cast(), size_of_val(values));
            }
        }
    }

    /// Writes products of queries and keys to `scores`, `[rows, KEYS]`.
    #[inline(always)]
    unsafe fn score<L: Lanes>(&self, rows: &[Row], scores: &mut [f32]) {
        let dim = self.tile.args.kv.head_dim();
        for (at, (keys, _)) in self.pages() {
            for (index, rows) in rows.chunks(STEP).enumerate() {
                let out = &mut scores[index * STEP * KEYS + at..];
                let q = |row: usize| self.tile.args.q[rows[row].at..][..dim].as_ptr();
                assert!(
                    keys.len() == dim * PAGE_TOKENS && out.len() >= (rows.len() - 1) * KEYS + PAGE_TOKENS
                );
                // SAFETY: each query has `dim` numbers, the page `dim` times its tokens, and `out` holds a page's tokens
                // for each row (asserted).
                unsafe {
                    let (keys, out) = (keys.as_ptr(), out.as_mut_ptr());
                    match rows.len() {
                        1 => score_page::<L, 1>([q(0)], dim, keys, out),
                        2 => score_page::<L, 2>([q(0), q(1)], dim, keys, out),
                        3 => score_page::<L, 3>([q(0), q(1), q(2)], dim, keys, out),
                        _ => score_page::<L, 4>([q(0), q(1), q(2), q(3)], dim, keys, out),
                    }
                }
            }
        }
    }

    /// Turns a row's products into weights, relative to the greatest score so far.
    #[inline(always)]
    unsafe fn weigh<L: Lanes>(&self, row: &mut Row, scores: &mut [f32]) {
        let args = self.tile.args;
        // The keys of this block that the row sees.
        let (from, to) = (row.first.saturating_sub(self.start), (row.end - self.start).min(KEYS));
        // SAFETY: each chunk is eight numbers, read and written where it is.
        unsafe {
            let mut greatest = L::splat(row.greatest);
            for chunk in scores.as_chunks_mut::<LANES>().0 {
                let mut score = L::load(chunk.as_ptr()).mul(L::splat(args.scale));
                if let Some(cap) = args.softcap {
                    let cap = L::splat(cap);
                    score = cap.mul(score.div(cap).tanh());
                }
                score.store(chunk.as_mut_ptr());
            }
            // Whatever lies there takes no part.
            scores[..from].fill(f32::NEG_INFINITY);
            scores[to..].fill(f32::NEG_INFINITY);
            let hidden = self.hidden();
            scores[hidden.clone()].fill(f32::NEG_INFINITY);
            for chunk in scores.as_chunks::<LANES>().0 {
                greatest = L::load(chunk.as_ptr()).max(greatest);
            }
            let greatest = greatest.greatest();
            if greatest == f32::NEG_INFINITY {
                // Nothing was seen so far, and nothing is here.
                scores.fill(0.0);
                row.correction = 1.0;
                return;
            }
            row.correction = exp::<L>(row.greatest - greatest);
            row.greatest = greatest;
            let mut total = L::splat(0.0);
            for chunk in scores.as_chunks_mut::<LANES>().0 {
                L::load(chunk.as_ptr()).sub(L::splat(greatest)).exp().store(chunk.as_mut_ptr());
            }
            scores[..from].fill(0.0);
            scores[to..].fill(0.0);
            scores[hidden].fill(0.0);
            for chunk in scores.as_chunks::<LANES>().0 {
                total = total.add(L::load(chunk.as_ptr()));
            }
            row.total = row.total.mul_add(row.correction, total.sum());
        }
    }

    /// Adds the weighted values to `sums`, `[rows, head_dim]`.
    #[inline(always)]
    unsafe fn add<L: Lanes>(&self, rows: &[Row], weights: &[f32], sums: &mut [f32]) {
        let dim = self.tile.args.kv.head_dim();
        let mut values = [std::ptr::null(); KEYS / PAGE_TOKENS];
        for (at, (_, page)) in self.pages() {
            assert_eq!(page.len(), dim * PAGE_TOKENS);
            values[at / PAGE_TOKENS] = page.as_ptr();
        }
        let weights = weights.chunks(STEP * KEYS);
        for ((rows, weights), sums) in rows.chunks(STEP).zip(weights).zip(sums.chunks_mut(STEP * dim)) {
            // Keys that some of these rows do not see must not be touched for those: what lies there is not theirs. What
            // all see is added for all at once, the keys after it row by row: in the same order for each.
            let seen = |row: &Row| {
                let from = row.first.saturating_sub(self.start);
                (from, (row.end.min(self.end) - self.start).max(from))
            };
            let from = seen(&rows[0]).0;
            let to = rows.iter().map(|row| seen(row).1).min().unwrap_or(from);
            let together = to > from && rows.iter().all(|row| seen(row).0 == from);
            let all = Values { pages: values, dim };
            assert!(weights.len() >= rows.len() * KEYS && sums.len() >= rows.len() * dim);
            let (weights, sums) = (weights.as_ptr(), sums.as_mut_ptr());
            // SAFETY: there are weights and sums for these rows (asserted), and pages for all keys that a row sees.
            unsafe {
                if together {
                    let by = |row: usize| rows[row].correction;
                    match rows.len() {
                        1 => all.add::<L, 1>([by(0)], from, to, weights, sums),
                        2 => all.add::<L, 2>([by(0), by(1)], from, to, weights, sums),
                        3 => all.add::<L, 3>([by(0), by(1), by(2)], from, to, weights, sums),
                        _ => all.add::<L, 4>([by(0), by(1), by(2), by(3)], from, to, weights, sums),
                    }
                }
                for (index, row) in rows.iter().enumerate() {
                    let (first, last) = seen(row);
                    let (first, by) = if together { (to, 1.0) } else { (first, row.correction) };
                    if first < last || !together {
                        let (weights, sums) = (weights.add(index * KEYS), sums.add(index * dim));
                        all.add::<L, 1>([by], first, last, weights, sums);
                    }
                }
            }
        }
    }
}

/// e to the power of one number, as the lanes have it; nothing for minus infinity.
#[inline(always)]
unsafe fn exp<L: Lanes>(x: f32) -> f32 {
    // SAFETY: no memory.
    if x == f32::NEG_INFINITY { 0.0 } else { unsafe { L::splat(x).exp().array()[0] } }
}

/// Products of `R` queries with a page of keys: `out[r, token]`, rows [`KEYS`] apart.
#[inline(always)]
unsafe fn score_page<L: Lanes, const R: usize>(
    q: [*const f32; R],
    dim: usize,
    keys: *const u16,
    out: *mut f32,
) {
    // SAFETY: the caller gives `dim` numbers a query, `dim * PAGE_TOKENS` keys, and room for a page's scores a row.
    unsafe {
        let mut sums = [[L::splat(0.0); PAGE_TOKENS / LANES]; R];
        for i in 0..dim {
            let keys = keys.add(i * PAGE_TOKENS);
            let keys = [L::load_f16(keys), L::load_f16(keys.add(LANES))];
            for r in 0..R {
                let x = L::splat(*q[r].add(i));
                for (sum, keys) in sums[r].iter_mut().zip(keys) {
                    *sum = keys.fma(x, *sum);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (i, sum) in sums.iter().enumerate() {
                sum.store(out.add(r * KEYS + i * LANES));
            }
        }
    }
}

/// The values of a block's keys.
struct Values {
    pages: [*const u16; KEYS / PAGE_TOKENS],
    dim: usize,
}

impl Values {
    /// `sums[r] = sums[r] * by[r] + sum of weights[r, key] * value[key]` over keys `from..to` of the block.
    #[inline(always)]
    unsafe fn add<L: Lanes, const R: usize>(
        &self,
        by: [f32; R],
        from: usize,
        to: usize,
        weights: *const f32,
        sums: *mut f32,
    ) {
        let wide = self.dim / (2 * LANES) * 2 * LANES;
        // SAFETY: the caller's promises, passed on; `wide` and what is left make `dim`, a multiple of eight.
        unsafe {
            for at in (0..wide).step_by(2 * LANES) {
                self.add_lanes::<L, R, 2>(by, from, to, weights, sums, at);
            }
            if wide < self.dim {
                self.add_lanes::<L, R, 1>(by, from, to, weights, sums, wide);
            }
        }
    }

    /// [`Values::add`] for the `D` vectors from number `at` on.
    #[inline(always)]
    unsafe fn add_lanes<L: Lanes, const R: usize, const D: usize>(
        &self,
        by: [f32; R],
        from: usize,
        to: usize,
        weights: *const f32,
        sums: *mut f32,
        at: usize,
    ) {
        // SAFETY: the caller gives weights of [`KEYS`] a row, sums of `dim` a row, and pages for `from..to`.
        unsafe {
            let mut totals = [[L::splat(0.0); D]; R];
            for r in 0..R {
                for d in 0..D {
                    let sum = L::load(sums.add(r * self.dim + at + d * LANES));
                    totals[r][d] = sum.mul(L::splat(by[r]));
                }
            }
            for key in from..to {
                let value = self.pages[key / PAGE_TOKENS].add(key % PAGE_TOKENS * self.dim + at);
                let mut values = [L::splat(0.0); D];
                for (d, values) in values.iter_mut().enumerate() {
                    *values = L::load_f16(value.add(d * LANES));
                }
                for r in 0..R {
                    let weight = L::splat(*weights.add(r * KEYS + key));
                    for d in 0..D {
                        totals[r][d] = values[d].fma(weight, totals[r][d]);
                    }
                }
            }
            for r in 0..R {
                for d in 0..D {
                    totals[r][d].store(sums.add(r * self.dim + at + d * LANES));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
