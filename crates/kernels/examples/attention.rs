//! How fast attention is on this machine: `cargo run --release -p kernels --example attention`.
//!
//! For the shapes of two small models: one query over a long context (decode), several sequences, and the last chunk of
//! a prompt. Giga multiply-adds a second, and GB/s of keys and values. The argument is the number of threads.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use kernels::{AttentionArgs, Isa, KvPages, PAGE_TOKENS, Pool, Span, attention};

/// A model's query heads, key-value heads and numbers a head.
const SHAPES: [(&str, usize, usize, usize); 2] = [("135M", 9, 3, 64), ("0.5B", 14, 2, 64)];
/// Sequences, queries of each, and keys that the last one sees.
const CASES: [(usize, usize, usize); 6] =
    [(1, 1, 128), (1, 1, 2048), (8, 1, 512), (32, 1, 512), (1, 256, 256), (1, 256, 2048)];

fn main() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(threads);
    let (pool, isa) = (Pool::new(threads), Isa::best());
    println!("{threads} threads, {}", isa.name());
    println!(
        "{:<8}{:>10}{:>9}{:>7}{:>11}{:>9}{:>8}",
        "", "sequences", "queries", "keys", "us", "GMAC/s", "GB/s"
    );
    for (name, heads, kv_heads, dim) in SHAPES {
        for (sequences, queries, keys) in CASES {
            let a_sequence = keys.div_ceil(PAGE_TOKENS);
            let kv = KvPages::new(sequences * a_sequence, kv_heads, dim).unwrap();
            let pages: Vec<u32> = (0..(sequences * a_sequence) as u32).collect();
            let spans: Vec<_> = (0..sequences)
                .map(|index| Span {
                    row: index * queries,
                    count: queries,
                    visible: keys - queries + 1,
                    hidden: 0..0,
                    pages: &pages[index * a_sequence..(index + 1) * a_sequence],
                })
                .collect();
            let q = vec![0.1; sequences * queries * heads * dim];
            let args = AttentionArgs {
                q: &q,
                heads,
                kv: &kv,
                spans: &spans,
                causal: true,
                scale: 0.125,
                softcap: None,
                window: None,
                sinks: None,
            };
            let mut out = vec![0.0; q.len()];
            let (mut best, started) = (f64::MAX, Instant::now());
            while best == f64::MAX || started.elapsed() < Duration::from_millis(200) {
                let call = Instant::now();
                attention(&pool, isa, &args, &mut out);
                best = best.min(call.elapsed().as_secs_f64());
            }
            let seen: usize = (0..queries).map(|query| keys - query).sum::<usize>() * sequences;
            let products = (2 * seen * heads * dim) as f64;
            let bytes = (sequences * a_sequence * KvPages::page_bytes(kv_heads, dim)) as f64;
            println!(
                "{name:<8}{sequences:>10}{queries:>9}{keys:>7}{:>11.1}{:>9.2}{:>8.2}",
                best * 1e6,
                products / best / 1e9,
                bytes / best / 1e9
            );
        }
    }
}
