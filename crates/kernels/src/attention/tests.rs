#![allow(clippy::unwrap_used)]

use super::*;
use crate::half::{f16_to_f32, f32_to_f16};
use crate::kv::Place;
use crate::random::Random;

/// A sequence's keys and values, as f32 that are f16 numbers, and where they lie.
struct Sequence {
    /// `[tokens, kv_heads, head_dim]`.
    keys: Vec<f32>,
    values: Vec<f32>,
    /// `[tokens, heads, head_dim]`.
    queries: Vec<f32>,
    pages: Vec<u32>,
    tokens: usize,
}

#[derive(Clone, Copy)]
struct Shape {
    heads: usize,
    kv_heads: usize,
    dim: usize,
}

#[derive(Clone, Copy)]
struct Variant {
    causal: bool,
    softcap: Option<f32>,
    window: Option<usize>,
    sinks: bool,
    /// First and end.
    hidden: (usize, usize),
}

const PLAIN: Variant = Variant { causal: true, softcap: None, window: None, sinks: false, hidden: (0, 0) };
const SCALE: f32 = 0.125;
const SINKS: [f32; 8] = [0.5, -1.0, 2.0, 0.0, 1.0, 3.0, -2.0, 0.25];

fn numbers(len: usize, random: &mut Random) -> Vec<f32> {
    (0..len).map(|_| f16_to_f32(f32_to_f16(random.normal()))).collect()
}

/// Sequences of these lengths with pages in no order, and a cache that holds them between numbers that are not finite.
fn sequences(shape: Shape, lengths: &[usize], random: &mut Random) -> (Vec<Sequence>, KvPages) {
    let pool = Pool::new(1);
    let total: usize = lengths.iter().map(|len| len.div_ceil(PAGE_TOKENS)).sum();
    let mut free: Vec<u32> = (0..total as u32).rev().collect();
    let mut kv = KvPages::new(total, shape.kv_heads, shape.dim).unwrap();
    let all: Vec<_> = (0..total * PAGE_TOKENS)
        .map(|at| Place { page: (at / PAGE_TOKENS) as u32, slot: (at % PAGE_TOKENS) as u32 })
        .collect();
    let junk = vec![f32::NAN; all.len() * shape.kv_heads * shape.dim];
    kv.write(&pool, Isa::SCALAR, &all, &junk, &junk);
    let sequences: Vec<_> = lengths
        .iter()
        .map(|&tokens| {
            let width = tokens * shape.kv_heads * shape.dim;
            let pages =
                (0..tokens.div_ceil(PAGE_TOKENS)).map(|i| free.swap_remove(i * 7 % free.len())).collect();
            let (keys, values) = (numbers(width, random), numbers(width, random));
            let queries = numbers(tokens * shape.heads * shape.dim, random);
            Sequence { keys, values, queries, pages, tokens }
        })
        .collect();
    for (sequence, isa) in sequences.iter().zip(Isa::available().into_iter().cycle()) {
        let place =
            |at: usize| Place { page: sequence.pages[at / PAGE_TOKENS], slot: (at % PAGE_TOKENS) as u32 };
        let places: Vec<_> = (0..sequence.tokens).map(place).collect();
        kv.write(&pool, isa, &places, &sequence.keys, &sequence.values);
    }
    (sequences, kv)
}

/// The definition in f64, one query of one head.
fn exact(shape: Shape, variant: Variant, sequence: &Sequence, query: usize, head: usize) -> Vec<f64> {
    let Shape { heads, kv_heads, dim } = shape;
    let end = if variant.causal { query + 1 } else { sequence.tokens };
    let first = variant.window.map_or(0, |window| end.saturating_sub(window));
    let q = &sequence.queries[(query * heads + head) * dim..][..dim];
    let at = |key: usize| (key * kv_heads + head / (heads / kv_heads)) * dim;
    let scores: Vec<f64> = (first..end)
        .map(|key| {
            if (variant.hidden.0..variant.hidden.1).contains(&key) {
                return f64::NEG_INFINITY;
            }
            let k = &sequence.keys[at(key)..][..dim];
            let product: f64 = q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
            let score = product * f64::from(SCALE);
            variant.softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
        })
        .collect();
    let sink = if variant.sinks { f64::from(SINKS[head]).exp() } else { 0.0 };
    let total: f64 = scores.iter().map(|score| score.exp()).sum::<f64>() + sink;
    (0..dim)
        .map(|i| {
            let weigh =
                |(key, score): (usize, &f64)| score.exp() * f64::from(sequence.values[at(first + key) + i]);
            scores.iter().enumerate().map(weigh).sum::<f64>() / total
        })
        .collect()
}

/// Attention of the last `counts` queries of each sequence, in one call.
fn last(
    pool: &Pool,
    isa: Isa,
    shape: Shape,
    variant: Variant,
    kv: &KvPages,
    parts: &[(&Sequence, std::ops::Range<usize>)],
) -> Vec<f32> {
    let width = shape.heads * shape.dim;
    let (mut q, mut spans) = (Vec::new(), Vec::new());
    for (sequence, range) in parts {
        spans.push(Span {
            row: q.len() / width,
            count: range.len(),
            visible: if variant.causal { range.start + 1 } else { sequence.tokens },
            hidden: variant.hidden.0..variant.hidden.1,
            pages: &sequence.pages,
        });
        q.extend_from_slice(&sequence.queries[range.start * width..range.end * width]);
    }
    let args = AttentionArgs {
        q: &q,
        heads: shape.heads,
        kv,
        spans: &spans,
        causal: variant.causal,
        scale: SCALE,
        softcap: variant.softcap,
        window: variant.window,
        sinks: variant.sinks.then_some(&SINKS[..shape.heads]),
    };
    let mut out = vec![f32::NAN; q.len()];
    attention(pool, isa, &args, &mut out);
    out
}

const SHAPES: [Shape; 3] = [
    Shape { heads: 3, kv_heads: 1, dim: 64 },
    Shape { heads: 8, kv_heads: 2, dim: 24 },
    Shape { heads: 2, kv_heads: 2, dim: 16 },
];

#[test]
fn it_is_the_softmax_of_what_is_seen() {
    let pool = Pool::new(2);
    let mut random = Random::new(21);
    let variants = [
        PLAIN,
        Variant { softcap: Some(2.0), ..PLAIN },
        Variant { window: Some(5), ..PLAIN },
        Variant { window: Some(70), sinks: true, ..PLAIN },
        Variant { causal: false, ..PLAIN },
    ];
    for shape in SHAPES {
        let (sequences, kv) = sequences(shape, &[1, 15, 16, 150], &mut random);
        for variant in variants {
            for sequence in &sequences {
                let found = last(&pool, Isa::SCALAR, shape, variant, &kv, &[(sequence, 0..sequence.tokens)]);
                for (row, found) in found.chunks_exact(shape.dim).enumerate() {
                    let exact = exact(shape, variant, sequence, row / shape.heads, row % shape.heads);
                    for (found, exact) in found.iter().zip(exact) {
                        assert!((f64::from(*found) - exact).abs() < 2e-5, "row {row}: {found}, not {exact}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_bits_do_not_depend_on_company_chunks_threads_or_isa() {
    let (one, three) = (Pool::new(1), Pool::new(3));
    let mut random = Random::new(22);
    for shape in SHAPES {
        let width = shape.heads * shape.dim;
        let (sequences, kv) = sequences(shape, &[200, 33, 64, 65], &mut random);
        for variant in [PLAIN, Variant { window: Some(40), sinks: true, softcap: Some(3.0), ..PLAIN }] {
            let whole =
                |sequence| last(&one, Isa::SCALAR, shape, variant, &kv, &[(sequence, 0..sequence.tokens)]);
            let expected: Vec<_> = sequences.iter().map(whole).collect();
            for isa in Isa::available() {
                for chunk in [1, 3, 16, 50] {
                    // Steps in which each sequence that has queries left gives up to `chunk` of them.
                    for step in 0..200_usize.div_ceil(chunk) {
                        let part = |sequence: &Sequence| {
                            (step * chunk).min(sequence.tokens)..((step + 1) * chunk).min(sequence.tokens)
                        };
                        let parts: Vec<_> =
                            sequences.iter().map(|sequence| (sequence, part(sequence))).collect();
                        let pool = if step % 2 == 0 { &one } else { &three };
                        let found = last(pool, isa, shape, variant, &kv, &parts);
                        let expected: Vec<f32> = parts
                            .iter()
                            .zip(&expected)
                            .flat_map(|((_, range), all)| &all[range.start * width..range.end * width])
                            .copied()
                            .collect();
                        assert!(found == expected, "{isa:?}, chunks of {chunk}, step {step}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_hidden_takes_no_part() {
    let mut random = Random::new(23);
    let (pools, sinks) = ([Pool::new(1), Pool::new(3)], Variant { sinks: true, ..PLAIN });
    for shape in SHAPES {
        let (sequences, kv) = sequences(shape, &[150], &mut random);
        let sequence = &sequences[0];
        for hidden in [(0, 1), (3, 9), (0, 64), (0, 100), (10, 139), (64, 128), (50, 130)] {
            for variant in [PLAIN, sinks, Variant { window: Some(70), ..PLAIN }] {
                let variant = Variant { hidden, ..variant };
                let of = |pool: &Pool, isa| last(pool, isa, shape, variant, &kv, &[(sequence, 140..150)]);
                let found = of(&pools[0], Isa::SCALAR);
                for (row, numbers) in found.chunks_exact(shape.dim).enumerate() {
                    let exact = exact(shape, variant, sequence, 140 + row / shape.heads, row % shape.heads);
                    for (found, exact) in numbers.iter().zip(exact) {
                        assert!((f64::from(*found) - exact).abs() < 2e-5, "{hidden:?}: {found}, not {exact}");
                    }
                }
                for isa in Isa::available() {
                    assert!(of(&pools[1], isa) == found, "{isa:?}, {hidden:?}");
                }
            }
        }
    }
}

#[test]
fn a_copied_page_is_the_page() {
    let mut kv = KvPages::new(3, 1, 8).unwrap();
    let place = Place { page: 0, slot: 3 };
    kv.write(&Pool::new(1), Isa::SCALAR, &[place], &[1.0; 8], &[2.0; 8]);
    kv.copy_page(0, 2);
    assert_eq!(kv.head(0, 0), kv.head(2, 0));
    assert_ne!(kv.head(0, 0), kv.head(1, 0));
}
