//! [`Products`]: products of matrices of f32, on the thread that asks.

use kernels::{Arena, Isa, OutOfMemory, Panels, Rows, product};

/// What products of matrices need room for, which one product leaves to the next. All matrices lie row by row.
#[derive(Debug)]
pub(crate) struct Products {
    /// The matrix on the right, laid out.
    panels: Panels,
    /// The matrix on the left, turned.
    turned: Vec<f32>,
}

impl Products {
    pub(crate) fn new() -> Result<Products, OutOfMemory> {
        Self::by(Isa::best())
    }

    /// Those by the instructions of `isa`; all give the same bits.
    pub(crate) fn by(isa: Isa) -> Result<Products, OutOfMemory> {
        Ok(Products { panels: Panels::new(isa, 0, 0, &Arena::new(0)?)?, turned: Vec::new() })
    }

    /// `out = a · b + bias`: `[m, k]` by `[k, n]`.
    pub(crate) fn plain(
        &mut self,
        a: &[f32],
        b: &[f32],
        bias: Option<&[f32]>,
        out: &mut [f32],
        sizes: [usize; 3],
    ) -> Result<(), OutOfMemory> {
        self.product(a, (b, [sizes[2], 1]), bias, out, sizes)
    }

    /// `out = a · bᵀ`: `[m, k]` by `[n, k]`.
    pub(crate) fn by_turned(
        &mut self,
        a: &[f32],
        b: &[f32],
        out: &mut [f32],
        sizes: [usize; 3],
    ) -> Result<(), OutOfMemory> {
        self.product(a, (b, [1, sizes[1]]), None, out, sizes)
    }

    /// `out = aᵀ · b`: `[k, m]` by `[k, n]`.
    pub(crate) fn of_turned(
        &mut self,
        a: &[f32],
        b: &[f32],
        out: &mut [f32],
        [m, k, n]: [usize; 3],
    ) -> Result<(), OutOfMemory> {
        let mut turned = std::mem::take(&mut self.turned);
        turn(a, [k, m], &mut turned);
        let done = self.product(&turned, (b, [n, 1]), None, out, [m, k, n]);
        self.turned = turned;
        done
    }

    /// `out = a · b + bias`, where the steps from row to row and from column to column of `b` are given.
    fn product(
        &mut self,
        a: &[f32],
        (b, strides): (&[f32], [usize; 2]),
        bias: Option<&[f32]>,
        out: &mut [f32],
        [m, k, n]: [usize; 3],
    ) -> Result<(), OutOfMemory> {
        self.panels.resize(k, n)?;
        self.panels.fill(b, strides);
        product(Rows { data: a, stride: k }, m, &self.panels, bias, out, n);
        Ok(())
    }
}

/// Numbers of a row that are turned with those of other rows: they stay in the first cache.
const TILE: usize = 16;

/// Writes the columns of `a`, which has `rows` rows of `cols`, one after the other.
fn turn(a: &[f32], [rows, cols]: [usize; 2], turned: &mut Vec<f32>) {
    turned.clear();
    turned.resize(rows * cols, 0.0);
    for first in (0..cols).step_by(TILE) {
        let count = TILE.min(cols - first);
        for row in 0..rows {
            let from = &a[row * cols + first..][..count];
            let to = turned[first * rows + row..].iter_mut().step_by(rows);
            to.zip(from).for_each(|(to, x)| *to = *x);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::random::Random;

    #[test]
    fn products_are_sums_of_products_whichever_way_a_matrix_lies() {
        let mut random = Random::new(1, 9);
        for [m, k, n] in [[1, 1, 1], [5, 3, 2], [33, 17, 40], [2, 70, 65], [3, 0, 4]] {
            let mut numbers = |count| (0..count).map(|_| random.normal() as f32).collect::<Vec<_>>();
            let (a, b, bias) = (numbers(m * k), numbers(k * n), numbers(n));
            let (mut a_turned, mut b_turned) = (Vec::new(), Vec::new());
            turn(&a, [m, k], &mut a_turned);
            turn(&b, [k, n], &mut b_turned);
            let sums = |bias: &[f32]| -> Vec<f32> {
                let sum = |row: usize, col: usize| {
                    let start = bias.get(col).copied().unwrap_or(0.0);
                    (0..k).fold(start, |sum, i| a[row * k + i].mul_add(b[i * n + col], sum))
                };
                (0..m * n).map(|at| sum(at / n, at % n)).collect()
            };
            for isa in Isa::available() {
                let mut products = Products::by(isa).unwrap();
                let mut out = vec![f32::NAN; m * n];
                products.plain(&a, &b, Some(&bias), &mut out, [m, k, n]).unwrap();
                assert_eq!(out, sums(&bias), "{isa:?}");
                products.by_turned(&a, &b_turned, &mut out, [m, k, n]).unwrap();
                assert_eq!(out, sums(&[]), "{isa:?}");
                products.of_turned(&a_turned, &b, &mut out, [m, k, n]).unwrap();
                assert_eq!(out, sums(&[]), "{isa:?}");
            }
        }
    }
}
