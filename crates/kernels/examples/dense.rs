//! How fast products of f32 matrices are on this machine, in GFLOP/s: `cargo run --release -p kernels --example dense`.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use kernels::{Arena, Isa, Panels, Rows, product};

/// Rows, and the matrix's rows and columns.
const SHAPES: [(usize, usize, usize); 6] =
    [(128, 384, 384), (128, 384, 1536), (128, 1536, 384), (128, 32, 128), (128, 128, 32), (16, 384, 384)];
/// Matrices to go round, in bytes: more than the caches hold, as in a model.
const WEIGHTS: usize = 40 << 20;

fn main() {
    let isa = Isa::best();
    for (count, depth, cols) in SHAPES {
        let bytes = Panels::bytes(isa, depth, cols);
        let arena = Arena::new(WEIGHTS + bytes).unwrap();
        let source: Vec<f32> = (0..depth * cols).map(|i| (i % 97) as f32 / 97.0 - 0.5).collect();
        let matrices: Vec<Panels> = (0..WEIGHTS / bytes + 1)
            .map(|_| {
                let mut matrix = Panels::new(isa, depth, cols, &arena).unwrap();
                matrix.fill(&source, [cols, 1]);
                matrix
            })
            .collect();
        let rows: Vec<f32> = (0..count * depth).map(|i| (i % 89) as f32 / 89.0 - 0.5).collect();
        let mut out = vec![0.0; count * cols];
        let mut best = Duration::MAX;
        for matrix in matrices.iter().cycle().take(2 * matrices.len().clamp(100, 400)) {
            let began = Instant::now();
            product(Rows { data: &rows, stride: depth }, count, matrix, None, &mut out, cols);
            best = best.min(began.elapsed());
        }
        let operations = 2.0 * (count * depth * cols) as f64;
        println!("{count} x {depth} x {cols}: {:.1} GFLOP/s at best", operations / best.as_secs_f64() / 1e9);
    }
}
