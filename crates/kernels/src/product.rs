//! The product of packed matrices with a few or many vectors.
//!
//! One element of the result is, for blocks of 32 columns in order: an exact integer sum of products of codes, then one
//! or two fused multiply-adds in f32. That order does not depend on how many vectors there are, on which of them are
//! computed together, or on the instruction set; so neither do the bits.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod gated;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod unroll;

use std::cell::RefCell;
use std::ops::Range;

pub use gated::{Biased, matmul_gated};

use crate::activations::{Activations, Shared};
#[cfg(target_arch = "x86_64")]
use crate::activations::{Column, Wide};
use crate::expect::expect_write;
use crate::isa::Isa;
#[cfg(target_arch = "x86_64")]
use crate::isa::Kind;
use crate::matrix::Matrix;
use crate::packed::BLOCK;
use crate::pool::Pool;

/// Vectors that a kernel takes in one call at most: their sums stay in the first-level cache.
const GROUP: usize = 64;
/// Their codes stay in the second-level cache while a task's panels pass: bytes for all, and about those for a block.
const GROUP_BYTES: usize = 192 << 10;
const COLUMN_BYTES: usize = 64;
/// Panels that a kernel takes in one call: each activation is loaded once for both.
const PAIR: usize = 2;
/// The largest panel, in rows.
const PANEL_ROWS_MAX: usize = 16;
/// Tasks for each thread, so that one which was interrupted leaves work for the others.
const TASKS_A_THREAD: usize = 6;
/// A task's weights, in bytes: they stay in the second-level cache while groups of vectors pass.
const TASK_BYTES_MAX: usize = 160 << 10;
/// Less than this is not worth a task of its own, in bytes of weights times vectors.
const TASK_WORK_MIN: usize = 24 << 10;

/// Multiplies each matrix with all `activations`: `out[i, row] = matrix[row] · x[i]`, `out` being `[m, rows]`.
///
/// Several matrices that take the same vectors (query, key and value; gate and up) are best given together: they share
/// one round of the pool. An element has the same bits whatever the other vectors, `m`, the threads, the set.
///
/// # Panics
/// When a matrix has other columns than the activations, an `out` another length than `m * rows`, or a matrix was
/// packed for panels of another width than `isa`'s.
pub fn matmul(pool: &Pool, isa: Isa, outs: &mut [(&Matrix, &mut [f32])], activations: &Activations) {
    let m = activations.m();
    for (matrix, out) in outs.iter() {
        check(matrix, isa, activations);
        assert_eq!(out.len(), m * matrix.rows(), "{m} products of {} rows", matrix.rows());
    }
    if m == 0 {
        return;
    }
    let products: Vec<Product<'_>> =
        outs.iter_mut().map(|(matrix, out)| Product { matrix, out: Shared(out.as_mut_ptr()) }).collect();
    let parts = parts(&products, pool.threads(), m);
    let group = group_len(activations);
    pool.run(parts.len(), |index| {
        let part = parts[index];
        let product = &products[part.product];
        SUMS.with_borrow_mut(|sums| {
            for first in (0..m).step_by(group) {
                product.group(isa, activations, part, first..m.min(first + group), sums);
            }
        });
    });
}

/// Panics where a matrix and what it is multiplied with do not fit.
fn check(matrix: &Matrix, isa: Isa, activations: &Activations) {
    assert_eq!(matrix.cols(), activations.cols(), "columns of the matrix and of what it is multiplied with");
    let packed = matrix.isa();
    assert_eq!(packed.panel_rows(), isa.panel_rows(), "packed for {packed:?}, run with {isa:?}");
}

/// Vectors that are best taken at once.
fn group_len(activations: &Activations) -> usize {
    let blocks = activations.cols().div_ceil(BLOCK).max(1);
    (GROUP_BYTES / (COLUMN_BYTES * blocks) / 8 * 8).clamp(8, GROUP)
}

/// Into how many tasks the product of `bytes` of weights with `m` vectors is best cut.
fn task_count(bytes: usize, threads: usize, m: usize) -> usize {
    let tasks = (bytes.saturating_mul(m) / TASK_WORK_MIN).clamp(1, threads * TASKS_A_THREAD);
    tasks.max(bytes / TASK_BYTES_MAX)
}

/// One matrix and where its product goes.
struct Product<'a> {
    matrix: &'a Matrix,
    out: Shared<f32>,
}

/// Panels `first..last` of one product: a task.
#[derive(Clone, Copy)]
struct Part {
    product: usize,
    first: usize,
    last: usize,
}

/// Cuts the products into tasks of about equal work.
fn parts(products: &[Product<'_>], threads: usize, m: usize) -> Vec<Part> {
    let total: usize = products.iter().map(|product| product.matrix.bytes()).sum();
    let bytes = (total / task_count(total, threads, m)).max(1);
    let mut parts = Vec::with_capacity(total / bytes + 2 * products.len());
    for (product, Product { matrix, .. }) in products.iter().enumerate() {
        let pairs = matrix.panels().div_ceil(PAIR);
        let count = (matrix.bytes() / bytes).clamp(1, pairs.max(1));
        for part in 0..count {
            let at = |part: usize| (pairs * part / count * PAIR).min(matrix.panels());
            parts.push(Part { product, first: at(part), last: at(part + 1) });
        }
    }
    parts
}

impl Product<'_> {
    /// Multiplies panels `part` with `vectors`, at most [`GROUP`] of them.
    fn group(&self, isa: Isa, activations: &Activations, part: Part, vectors: Range<usize>, sums: &mut Sums) {
        let (first, count) = (vectors.start, vectors.len());
        let rows = isa.panel_rows();
        for panel in (part.first..part.last).step_by(PAIR) {
            let panels = PAIR.min(part.last - panel);
            let call = Call { matrix: self.matrix, panel, panels, activations, first, count };
            let sums = &mut sums.0[..count * panels * rows];
            let (from, to) = (panel * rows, ((panel + panels) * rows).min(self.matrix.rows()));
            // Each vector's results lie a row of them apart: waiting for them one after another took a twentieth of a
            // prompt's time.
            for column in 0..count {
                expect_write(self.out.get().wrapping_add((first + column) * self.matrix.rows() + from));
            }
            call.run(isa, sums);
            for (column, sums) in sums.chunks_exact(panels * rows).enumerate() {
                let (eights, rest) = sums[..to - from].as_chunks::<8>();
                // SAFETY: `out` has `m * rows` numbers (asserted), `first + column` is below `m`, and these rows of it
                // are this task's. Eight at a time, since their number is known: a copy of a few bytes is no call.
                unsafe {
                    let out = self.out.get().add((first + column) * self.matrix.rows() + from);
                    for (index, eight) in eights.iter().enumerate() {
                        out.add(8 * index).cast::<[f32; 8]>().write_unaligned(*eight);
                    }
                    for (index, sum) in rest.iter().enumerate() {
                        out.add(8 * eights.len() + index).write(*sum);
                    }
                }
            }
        }
    }
}

thread_local! {
    static SUMS: RefCell<Sums> = const { RefCell::new(Sums([0.0; GROUP * PAIR * PANEL_ROWS_MAX])) };
}

#[repr(C, align(64))]
struct Sums([f32; GROUP * PAIR * PANEL_ROWS_MAX]);

/// What a kernel computes in one call: `panels` panels (one or two) from `panel` on, with `count` vectors from `first`.
///
/// The sums are `[count, panels, panel rows]`.
struct Call<'a> {
    matrix: &'a Matrix,
    panel: usize,
    panels: usize,
    activations: &'a Activations,
    first: usize,
    count: usize,
}

impl Call<'_> {
    fn run(&self, isa: Isa, sums: &mut [f32]) {
        match isa.kind() {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Isa` of this kind is proof that the CPU has AVX2, FMA and F16C; `sums` has `count * panels` times
            // eight numbers.
            Kind::Avx2 => unsafe { avx2::run(self, sums.as_mut_ptr()) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Isa` of this kind is proof that the CPU has AVX-512 F, BW, VL and VNNI; `sums` has
            // `count * panels` times sixteen numbers.
            Kind::Avx512Vnni => unsafe { avx512::run(self, sums.as_mut_ptr()) },
            _ => scalar::run(self, isa.panel_rows(), sums),
        }
    }

    /// The packed panel `index` of this call's.
    fn panel(&self, index: usize) -> &[u8] {
        self.matrix.panel(self.panel + index)
    }

    /// The first block of the first vector; the next block is `m` further.
    #[cfg(target_arch = "x86_64")]
    fn columns(&self) -> *const Column {
        self.activations.columns()[self.first..].as_ptr()
    }

    /// As [`Call::columns`], in 16 bits.
    #[cfg(target_arch = "x86_64")]
    fn wide(&self) -> *const Wide {
        self.activations.wide()[self.first..].as_ptr()
    }

    /// The first vector; the next is `cols` further.
    fn values(&self) -> &[f32] {
        &self.activations.values()[self.first * self.activations.cols()..]
    }
}

#[cfg(test)]
mod tests;
