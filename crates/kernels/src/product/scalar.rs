//! The definition of a product, on any CPU.

use formats::Format;

use super::Call;
use crate::activations::Column;
use crate::half::{bf16_to_f32, f16_to_f32, u16_at};
use crate::packed::{BLOCK, Layout, Numbers, read_block};

/// Computes `call` over panels of `rows` rows.
pub(super) fn run(call: &Call<'_>, rows: usize, sums: &mut [f32]) {
    sums.fill(0.0);
    for index in 0..call.panels {
        match Layout::of(call.matrix.format()) {
            Some(layout) => quantised(call, layout, index, rows, sums),
            None => floats(call, index, rows, sums),
        }
    }
}

fn quantised(call: &Call<'_>, layout: Layout, index: usize, rows: usize, sums: &mut [f32]) {
    let m = call.activations.m();
    let supers = call.panel(index).chunks_exact(layout.super_bytes(rows));
    for (super_index, packed) in supers.enumerate() {
        for block in 0..layout.blocks {
            let at = (super_index * layout.blocks + block) * m + call.first;
            let columns = &call.activations.columns()[at..at + call.count];
            for row in 0..rows {
                let (codes, numbers) = read_block(call.matrix.format(), layout, packed, rows, row, block);
                let sums = sums.iter_mut().skip(index * rows + row).step_by(call.panels * rows);
                for (sum, column) in sums.zip(columns) {
                    *sum = add_block(&codes, numbers, column, *sum);
                }
            }
        }
    }
}

/// Adds the product of 32 weights and 32 activations to `sum`.
fn add_block(codes: &[i16; BLOCK], numbers: Numbers, column: &Column, sum: f32) -> f32 {
    let products = |range: std::ops::Range<usize>| -> i32 {
        let pairs = codes[range.clone()].iter().zip(&column.codes[range]);
        pairs.map(|(&code, &x)| i32::from(code) * i32::from(x)).sum()
    };
    let halves = || [products(0..16), products(16..32)];
    let totals = column.halves.map(i32::from);
    match numbers {
        Numbers::Signed { scale } => (products(0..32) as f32).mul_add(scale * column.scale, sum),
        Numbers::Affine { scale, offset } => {
            let sum = (products(0..32) as f32).mul_add(scale * column.scale, sum);
            offset.mul_add(column.sum, sum)
        }
        Numbers::Centred { scale, factors, centre } => {
            let halves = halves();
            let product: i32 =
                (0..2).map(|half| factors[half] * (halves[half] - centre * totals[half])).sum();
            (product as f32).mul_add(scale * column.scale, sum)
        }
        Numbers::Halved { scale, factors, min, minima } => {
            let halves = halves();
            let product = factors[0] * halves[0] + factors[1] * halves[1];
            let below = minima[0] * totals[0] + minima[1] * totals[1];
            let sum = (product as f32).mul_add(scale * column.scale, sum);
            (below as f32).mul_add(-(min * column.scale), sum)
        }
    }
}

fn floats(call: &Call<'_>, index: usize, rows: usize, sums: &mut [f32]) {
    let (panel, cols) = (call.panel(index), call.matrix.cols());
    let weight = |at: usize| match call.matrix.format() {
        Format::F32 => {
            f32::from_le_bytes([panel[4 * at], panel[4 * at + 1], panel[4 * at + 2], panel[4 * at + 3]])
        }
        Format::F16 => f16_to_f32(u16_at(panel, 2 * at)),
        _ => bf16_to_f32(u16_at(panel, 2 * at)),
    };
    for (x, sums) in call.values().chunks_exact(cols).zip(sums.chunks_exact_mut(call.panels * rows)) {
        for (row, sum) in sums[index * rows..][..rows].iter_mut().enumerate() {
            *sum = x.iter().enumerate().fold(0.0, |sum, (k, x)| weight(k * rows + row).mul_add(*x, sum));
        }
    }
}
