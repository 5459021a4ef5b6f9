//! Two products with the same vectors, of which only what a gate makes of both is kept.

use std::cell::RefCell;
use std::ops::Range;

use super::{Call, GROUP, PAIR, PANEL_ROWS_MAX, check, group_len, task_count};
use crate::activations::{Activations, Blocks};
use crate::isa::Isa;
use crate::matrix::Matrix;
use crate::packed::BLOCK;
use crate::pool::Pool;

/// A matrix and what is added to its product, if anything is: a number a row.
#[derive(Clone, Copy, Debug)]
pub struct Biased<'a> {
    /// `[rows, cols]`.
    pub matrix: &'a Matrix,
    /// `[rows]`.
    pub bias: Option<&'a [f32]>,
}

/// Gives `out` the vectors `join(gate · x[i], up · x[i])`, quantised, for all `activations`.
///
/// `join` takes numbers of both products, as many of each, and writes one for each pair of them: element by element,
/// whichever they are. Neither product is ever in memory as a whole: what a thread has just computed it joins and
/// quantises, where writing both and reading them again, on another core, cost a tenth of a step. `values` says whether
/// `out` is also to keep the vectors as they are, for matrices of plain floats.
///
/// # Panics
/// When a matrix has other columns than the activations or was packed for panels of another width than `isa`'s, the
/// matrices have different numbers of rows, or a bias has another.
pub fn matmul_gated(
    pool: &Pool,
    isa: Isa,
    parts: [Biased<'_>; 2],
    activations: &Activations,
    join: impl Fn(&[f32], &[f32], &mut [f32]) + Sync,
    out: &mut Activations,
    values: bool,
) {
    let (rows, m) = (parts[0].matrix.rows(), activations.m());
    for Biased { matrix, bias } in parts {
        check(matrix, isa, activations);
        assert_eq!(matrix.rows(), rows, "rows of two matrices that are joined");
        assert!(bias.is_none_or(|bias| bias.len() == rows), "a bias for each of {rows} rows");
    }
    let joint = Joint { isa, parts, activations, join: &join, out: out.blocks(m, rows, values) };
    let units = rows.div_ceil(BLOCK);
    let bytes = parts.iter().map(|part| part.matrix.bytes()).sum();
    let tasks = task_count(bytes, pool.threads(), m).clamp(1, units.max(1));
    let group = group_len(activations);
    pool.run(tasks, |task| {
        SCRATCH.with_borrow_mut(|scratch| {
            for first in (0..m).step_by(group) {
                for unit in units * task / tasks..units * (task + 1) / tasks {
                    joint.unit(unit, first..m.min(first + group), scratch);
                }
            }
        });
    });
}

struct Joint<'a, J> {
    isa: Isa,
    parts: [Biased<'a>; 2],
    activations: &'a Activations,
    join: &'a J,
    out: Blocks<'a>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = const {
        RefCell::new(Scratch {
            products: [Sums([0.0; CALL]), Sums([0.0; CALL])],
            joined: Sums([0.0; CALL]),
            blocks: [[0.0; BLOCK]; GROUP],
        })
    };
}

/// Numbers that a call computes at most.
const CALL: usize = GROUP * PAIR * PANEL_ROWS_MAX;

#[repr(C, align(64))]
struct Sums([f32; CALL]);

/// What a task computes with.
struct Scratch {
    /// `[vectors, rows of a call]` each.
    products: [Sums; 2],
    joined: Sums,
    /// `[vectors, BLOCK]`.
    blocks: [[f32; BLOCK]; GROUP],
}

impl<J: Fn(&[f32], &[f32], &mut [f32]) + Sync> Joint<'_, J> {
    /// Computes rows `unit * BLOCK ..` of both products, with at most [`GROUP`] vectors.
    fn unit(&self, unit: usize, vectors: Range<usize>, scratch: &mut Scratch) {
        let Scratch { products: [gate, up], joined, blocks } = scratch;
        let panel_rows = self.isa.panel_rows();
        let all = self.parts[0].matrix.rows();
        let (begin, end) = (unit * BLOCK, all.min((unit + 1) * BLOCK));
        for row in (begin..end).step_by(PAIR * panel_rows) {
            let panels = PAIR.min((end - row).div_ceil(panel_rows));
            let (width, len) = (panels * panel_rows, vectors.len() * panels * panel_rows);
            for (part, sums) in self.parts.iter().zip([&mut *gate, &mut *up]) {
                self.product(*part, row, panels, &vectors, &mut sums.0[..len]);
            }
            (self.join)(&gate.0[..len], &up.0[..len], &mut joined.0[..len]);
            let rows = width.min(end - row);
            for (block, joined) in blocks.iter_mut().zip(joined.0[..len].chunks_exact(width)) {
                block[row - begin..][..rows].copy_from_slice(&joined[..rows]);
            }
        }
        for (block, vector) in blocks.iter().zip(vectors) {
            // SAFETY: this unit is this task's, and no other's.
            unsafe { self.out.write(self.isa, vector, unit, &block[..end - begin]) };
        }
    }

    /// Writes the products of `panels` panels from `row` on to `sums`, `[vectors, rows]`.
    fn product(&self, part: Biased<'_>, row: usize, panels: usize, vectors: &Range<usize>, sums: &mut [f32]) {
        let (panel_rows, activations) = (self.isa.panel_rows(), self.activations);
        let (panel, first, count) = (row / panel_rows, vectors.start, vectors.len());
        Call { matrix: part.matrix, panel, panels, activations, first, count }.run(self.isa, sums);
        if let Some(bias) = part.bias {
            for sums in sums.chunks_exact_mut(panels * panel_rows) {
                sums.iter_mut().zip(&bias[row..]).for_each(|(sum, bias)| *sum += bias);
            }
        }
    }
}
