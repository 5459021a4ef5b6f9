//! How fast products are on this machine, as shares of what it can do: `cargo run --release -p kernels --example product`.
//!
//! For the shapes of two small models and several numbers of vectors: GB/s of weights read against the probed bandwidth,
//! and 8-bit giga-operations a second against the probed rate (a multiplication and an addition are two). Arguments are
//! the number of threads (default: all) and a part of a line's name to measure only those.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use formats::Format;
use kernels::{Activations, Arena, Isa, Matrix, Pool, matmul, probe};

/// A matrix's format, rows and columns, and what it is.
const SHAPES: [(&str, Format, usize, usize); 14] = [
    ("135M gate", Format::Q4_1, 1536, 576),
    ("135M down", Format::Q4_1, 576, 1536),
    ("135M head", Format::Q8_0, 49152, 576),
    ("0.5B gate", Format::Q5_0, 4864, 896),
    ("0.5B down", Format::Q4K, 896, 4864),
    ("0.5B down", Format::Q6K, 896, 4864),
    ("0.5B head", Format::Q8_0, 151_936, 896),
    ("0.5B gate", Format::Q4_0, 4864, 896),
    ("0.5B gate", Format::Q5K, 4864, 1024),
    ("0.5B gate", Format::Q3K, 4864, 1024),
    ("0.5B gate", Format::Q2K, 4864, 1024),
    ("0.5B gate", Format::Iq4Xs, 4864, 1024),
    ("0.5B gate", Format::Mxfp4, 4864, 896),
    ("0.5B gate", Format::F16, 4864, 896),
];
/// Numbers of vectors.
const WIDTHS: [usize; 7] = [1, 2, 4, 8, 16, 32, 128];
/// Weights to go round, in bytes: more than the caches hold, as in a model.
const WEIGHTS: usize = 96 << 20;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(threads);
    let only = arguments.next().unwrap_or_default();
    let (pool, isa) = (Pool::new(threads), Isa::best());
    let bandwidth = probe::bandwidth(&pool, Duration::from_millis(500)).expect("memory for the probe");
    let rate = probe::int8_rate(&pool, isa, Duration::from_millis(500));
    println!(
        "{} threads, {}: {:.1} GB/s, {:.0} int8 GOP/s",
        threads,
        isa.name(),
        bandwidth / 1e9,
        rate / 1e9
    );
    println!(
        "{:<26}{:>5}{:>12}{:>8}{:>7}{:>9}{:>7}{:>10}",
        "", "m", "us", "GB/s", "share", "GOP/s", "share", "us/m"
    );
    for (name, format, rows, cols) in SHAPES {
        let label = format!("{name} {format} {rows}x{cols}");
        if label.contains(&only) {
            measure(&pool, isa, &label, format, rows, cols, bandwidth, rate);
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "a line of a table")]
fn measure(
    pool: &Pool,
    isa: Isa,
    label: &str,
    format: Format,
    rows: usize,
    cols: usize,
    bandwidth: f64,
    rate: f64,
) {
    let bytes = vec![0x11; format.row_bytes(cols).unwrap() * rows];
    let copies = (WEIGHTS / bytes.len()).max(1);
    let arena = Arena::new(WEIGHTS + bytes.len() + (1 << 20)).expect("memory");
    let matrices: Vec<_> =
        (0..copies).map(|_| Matrix::pack(&arena, isa, format, rows, cols, &bytes).unwrap()).collect();
    for m in WIDTHS {
        let x: Vec<f32> = (0..m * cols).map(|i| (i % 97) as f32 - 48.0).collect();
        let mut activations = Activations::new();
        activations.quantize(pool, isa, &x, m, cols);
        let mut out = vec![0.0; m * rows];
        let (mut runs, mut best, started) = (0, f64::MAX, Instant::now());
        while runs < 3 || started.elapsed() < Duration::from_millis(250) {
            // The quickest call: others on this machine only ever add to it.
            for matrix in &matrices {
                let call = Instant::now();
                matmul(pool, isa, &mut [(matrix, &mut out)], &activations);
                best = best.min(call.elapsed().as_secs_f64());
            }
            runs += 1;
        }
        let read = matrices[0].bytes() as f64 / best;
        let operations = 2.0 * (m * rows * cols) as f64 / best;
        println!(
            "{label:<26}{m:>5}{:>12.1}{:>8.2}{:>6.0}%{:>9.1}{:>6.0}%{:>10.2}",
            best * 1e6,
            read / 1e9,
            100.0 * read / bandwidth,
            operations / 1e9,
            100.0 * operations / rate,
            best * 1e6 / m as f64,
        );
    }
}
