#![allow(clippy::unwrap_used)]
use super::*;
use crate::random::Random;

fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..len).map(|_| random.normal()).collect()
}

fn panels(isa: Isa, source: &[f32], rows: usize, cols: usize, strides: [usize; 2]) -> Panels {
    let mut panels = Panels::new(isa, rows, cols, &Arena::new(0).unwrap()).unwrap();
    panels.fill(source, strides);
    panels
}

/// `count` rows, each a number longer than it must be, and what is between them in the result stays.
fn run(matrix: &Panels, rows: &[f32], count: usize, bias: Option<&[f32]>) -> Vec<f32> {
    let (depth, stride) = (matrix.rows(), matrix.cols() + 3);
    let mut out = vec![9.0; count * stride];
    product(Rows { data: rows, stride: depth + 1 }, count, matrix, bias, &mut out, stride);
    for row in out.chunks_exact(stride) {
        assert_eq!(row[matrix.cols()..], [9.0; 3]);
    }
    out
}

#[test]
fn products_are_close_to_exact_and_alike_on_every_isa() {
    for (count, depth, cols) in [
        (1, 1, 1),
        (2, 7, 16),
        (12, 40, 33),
        (13, 5, 31),
        (25, 64, 32),
        (40, 129, 70),
        (3, 0, 5),
        (1200, 200, 3),
    ] {
        let (rows, source, bias) =
            (numbers(count * (depth + 1), 1), numbers(depth * cols, 2), numbers(cols, 3));
        let expected = run(&panels(Isa::SCALAR, &source, depth, cols, [cols, 1]), &rows, count, Some(&bias));
        for row in 0..count {
            for col in 0..cols {
                let product =
                    |k: usize| f64::from(rows[row * (depth + 1) + k]) * f64::from(source[k * cols + col]);
                let exact = f64::from(bias[col]) + (0..depth).map(product).sum::<f64>();
                let found = f64::from(expected[row * (cols + 3) + col]);
                assert!((found - exact).abs() < 1e-4, "{count} x {depth} x {cols}: {found}, not {exact}");
            }
        }
        for isa in Isa::available() {
            let found = run(&panels(isa, &source, depth, cols, [cols, 1]), &rows, count, Some(&bias));
            assert_eq!(found, expected, "{count} x {depth} x {cols} on {isa:?}");
        }
    }
}

#[test]
fn a_row_is_the_same_in_any_company() {
    let (depth, cols) = (50, 37);
    let (rows, source) = (numbers(30 * (depth + 1), 4), numbers(depth * cols, 5));
    for isa in Isa::available() {
        let matrix = panels(isa, &source, depth, cols, [cols, 1]);
        let whole = run(&matrix, &rows, 30, None);
        for count in 1..30 {
            for first in [0, 30 - count] {
                let part = run(&matrix, &rows[first * (depth + 1)..], count, None);
                assert_eq!(part, whole[first * (cols + 3)..][..part.len()]);
            }
        }
    }
}

#[test]
fn a_matrix_may_lie_turned_and_panels_may_be_filled_again() {
    let (depth, cols) = (19, 45);
    let source = numbers(depth * cols, 6);
    let turned: Vec<f32> = (0..cols * depth).map(|i| source[i % depth * cols + i / depth]).collect();
    let rows = numbers(4 * (depth + 1), 7);
    for isa in Isa::available() {
        let expected = run(&panels(isa, &source, depth, cols, [cols, 1]), &rows, 4, None);
        let mut matrix = panels(isa, &numbers(64 * 64, 8), 64, 64, [64, 1]);
        for (source, strides) in [(&source, [cols, 1]), (&turned, [1, depth])] {
            matrix.resize(depth, cols).unwrap();
            matrix.fill(source, strides);
            assert_eq!(run(&matrix, &rows, 4, None), expected);
        }
    }
}
