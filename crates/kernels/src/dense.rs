//! Products of f32 matrices: many rows with one matrix that is laid out for it, as networks of tokens and pictures have.
//!
//! Each number of a result starts with its bias and adds its products in the order of the row, every multiplication and
//! addition rounded once. So it depends on its own row and column alone.
#![allow(clippy::needless_range_loop, reason = "an index runs through several small arrays, unrolled")]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m512};

use crate::buffer::{Arena, Buffer, OutOfMemory};
use crate::isa::Isa;
#[cfg(target_arch = "x86_64")]
use crate::isa::Kind;
use crate::lanes::{LANES, Vector};

/// Vectors side by side in a panel.
const WIDE: usize = 2;
/// Bytes of rows that are multiplied with one panel after another: they stay in the second cache beside a panel.
const BLOCK_BYTES: usize = 640 << 10;

/// Runs `$body` with `$r` for each number below `$n`, at most twelve, written out: what is left to the compiler as a loop
/// of so many turns keeps its arrays in memory.
macro_rules! for_rows {
    ($r:ident below $n:ident $body:block) => {
        for_rows!($r below $n $body 0 1 2 3 4 5 6 7 8 9 10 11)
    };
    ($r:ident below $n:ident $body:block $($at:literal)*) => {
        $(if $at < $n {
            const $r: usize = $at;
            $body
        })*
    };
}

/// Rows of numbers, each from `stride` after the one before.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The numbers.
    pub data: &'a [f32],
    /// From one row's first number to the next one's.
    pub stride: usize,
}

/// A matrix in panels of some columns, each row by row, zeros where there are no more columns.
#[derive(Debug)]
pub struct Panels {
    isa: Isa,
    rows: usize,
    cols: usize,
    buffer: Buffer,
}

impl Panels {
    /// Room for a matrix of `rows` times `cols`, out of `arena`; zeros at first.
    ///
    /// # Errors
    /// When the system does not give as much memory.
    pub fn new(isa: Isa, rows: usize, cols: usize, arena: &Arena) -> Result<Panels, OutOfMemory> {
        Ok(Panels { isa, rows, cols, buffer: arena.take(Panels::bytes(isa, rows, cols))? })
    }

    /// Makes it one of `rows` times `cols`, whose numbers are any until it is [filled](Panels::fill).
    ///
    /// # Errors
    /// When it must grow and the system does not give the memory.
    pub fn resize(&mut self, rows: usize, cols: usize) -> Result<(), OutOfMemory> {
        let bytes = Panels::bytes(self.isa, rows, cols);
        if bytes > self.buffer.len() {
            self.buffer = Buffer::zeroed(bytes)?;
        }
        (self.rows, self.cols) = (rows, cols);
        Ok(())
    }

    /// Bytes that such a matrix takes.
    #[must_use]
    pub fn bytes(isa: Isa, rows: usize, cols: usize) -> usize {
        cols.next_multiple_of(WIDE * isa.panel_rows()).saturating_mul(rows).saturating_mul(size_of::<f32>())
    }

    /// Rows: what a row that is multiplied with it has numbers.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: what a row of a product has numbers.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Lays out `source`, whose number in row `r` and column `c` is at `r * strides[0] + c * strides[1]`.
    ///
    /// # Panics
    /// When `source` is shorter than that.
    pub fn fill(&mut self, source: &[f32], strides: [usize; 2]) {
        let (rows, cols) = (self.rows, self.cols);
        if rows == 0 || cols == 0 {
            return;
        }
        let last = (rows - 1) * strides[0] + (cols - 1) * strides[1];
        assert!(last < source.len(), "a matrix of {rows} times {cols} in {} numbers", source.len());
        let width = WIDE * self.isa.panel_rows();
        let panels = self.data_mut().chunks_exact_mut(rows * width).take(cols.div_ceil(width));
        for (index, panel) in panels.enumerate() {
            let first = index * width;
            let count = width.min(cols - first);
            if strides[1] == 1 {
                for (row, cells) in panel.chunks_exact_mut(width).enumerate() {
                    cells[..count].copy_from_slice(&source[row * strides[0] + first..][..count]);
                    cells[count..].fill(0.0);
                }
            } else {
                if count < width {
                    panel.fill(0.0);
                }
                for column in 0..count {
                    let from = source[(first + column) * strides[1]..].iter().step_by(strides[0].max(1));
                    for (cell, x) in panel[column..].iter_mut().step_by(width).zip(from) {
                        *cell = *x;
                    }
                }
            }
        }
    }

    fn data(&self) -> &[f32] {
        let bytes = self.buffer.bytes();
        // SAFETY: the buffer is aligned to more than a number needs, and any bits are a number.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<f32>()) }
    }

    fn data_mut(&mut self) -> &mut [f32] {
        let bytes = self.buffer.bytes_mut();
        // SAFETY: as for `data`.
        unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len() / size_of::<f32>()) }
    }
}

/// Writes `bias + rows · matrix`, `count` rows of it, to `out`, each from `stride` after the one before.
///
/// # Panics
/// When `rows`, `bias` or `out` are too short, or rows of `out` overlap.
pub fn product(
    rows: Rows<'_>,
    count: usize,
    matrix: &Panels,
    bias: Option<&[f32]>,
    out: &mut [f32],
    stride: usize,
) {
    let (depth, cols) = (matrix.rows, matrix.cols);
    if count == 0 || cols == 0 {
        return;
    }
    assert!((count - 1) * rows.stride + depth <= rows.data.len(), "{count} rows of {depth}");
    assert!(bias.is_none_or(|bias| bias.len() == cols), "a bias for each of {cols} columns");
    assert!((count - 1) * stride + cols <= out.len(), "{count} rows of {cols} to write");
    assert!(stride >= cols || count == 1, "rows of {cols} that overlap");
    let call = Call { rows, count, matrix, bias, out: out.as_mut_ptr(), stride };
    match matrix.isa.kind() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` of this kind is proof that the CPU has these features.
        Kind::Avx2 => unsafe { avx2(&call) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` of this kind is proof that the CPU has these features.
        Kind::Avx512Vnni => unsafe { avx512(&call) },
        // SAFETY: these vectors need no instructions.
        _ => unsafe { call.run::<[[f32; LANES]; 1], 2>() },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn avx2(call: &Call<'_>) {
    // SAFETY: this function's features are those of these vectors.
    unsafe { call.run::<[__m256; 1], 2>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx2,fma,f16c")]
fn avx512(call: &Call<'_>) {
    // SAFETY: this function's features are those of these vectors.
    unsafe { call.run::<__m512, 4>() }
}

/// A product that was checked: all that its tiles read and write is there.
struct Call<'a> {
    rows: Rows<'a>,
    count: usize,
    matrix: &'a Panels,
    bias: Option<&'a [f32]>,
    out: *mut f32,
    stride: usize,
}

impl Call<'_> {
    /// Computes it in tiles of up to `G` times three rows and a panel: as many sums as there are registers.
    #[inline(always)]
    unsafe fn run<V: Vector, const G: usize>(&self) {
        let (depth, cols, width) = (self.matrix.rows, self.matrix.cols, WIDE * V::LEN);
        let most = 3 * G;
        let block = (BLOCK_BYTES / size_of::<f32>() / depth.max(1)).max(most) / most * most;
        for start in (0..self.count).step_by(block) {
            let end = self.count.min(start + block);
            for first in (0..cols).step_by(width) {
                let panel = self.matrix.data()[first * depth..].as_ptr();
                let mut bias = [0.0f32; 32];
                let there = width.min(cols - first);
                if let Some(all) = self.bias {
                    bias[..there].copy_from_slice(&all[first..first + there]);
                }
                let mut row = start;
                while row < end {
                    // Tiles of about one height rather than a low one at the end.
                    let left = end - row;
                    let height = left.div_ceil(left.div_ceil(most));
                    // SAFETY: the rows are there, and so are the panel and the columns of the result.
                    unsafe { self.tile::<V>(row, height, panel, first, there, &bias) };
                    row += height;
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<V: Vector>(
        &self,
        row: usize,
        height: usize,
        panel: *const f32,
        first: usize,
        there: usize,
        bias: &[f32; 32],
    ) {
        macro_rules! by_height {
            ($($n:literal)*) => {
                match height {
                    $($n => self.sums::<V, $n>(row, panel, first, there, bias),)*
                    _ => {}
                }
            };
        }
        // SAFETY: the caller's promise.
        unsafe { by_height!(1 2 3 4 5 6 7 8 9 10 11 12) }
    }

    #[inline(always)]
    unsafe fn sums<V: Vector, const R: usize>(
        &self,
        row: usize,
        panel: *const f32,
        first: usize,
        there: usize,
        bias: &[f32; 32],
    ) {
        let depth = self.matrix.rows;
        let step = self.rows.stride;
        // SAFETY: `R` rows of `depth` numbers are there, a panel of as many rows, and `R` rows of the result.
        unsafe {
            let start = [V::load(bias.as_ptr()), V::load(bias.as_ptr().add(V::LEN))];
            let mut sums = [start; R];
            let base = self.rows.data.as_ptr().add(row * step);
            let mut groups = [0, 3, 6, 9].map(|after| base.wrapping_add(after * step));
            let mut weights = panel;
            for _ in 0..depth {
                let side = [V::load(weights), V::load(weights.add(V::LEN))];
                for_rows!(ROW below R {
                    let x = V::splat(*groups[ROW / 3].add(ROW % 3 * step));
                    sums[ROW][0] = x.fma(side[0], sums[ROW][0]);
                    sums[ROW][1] = x.fma(side[1], sums[ROW][1]);
                });
                groups = groups.map(|group| group.wrapping_add(1));
                weights = weights.add(WIDE * V::LEN);
            }
            for_rows!(ROW below R {
                let to = self.out.add((row + ROW) * self.stride + first);
                if there == WIDE * V::LEN {
                    sums[ROW][0].store(to);
                    sums[ROW][1].store(to.add(V::LEN));
                } else {
                    let mut part = [0.0f32; 32];
                    sums[ROW][0].store(part.as_mut_ptr());
                    sums[ROW][1].store(part.as_mut_ptr().add(V::LEN));
                    to.copy_from_nonoverlapping(part.as_ptr(), there);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests;
