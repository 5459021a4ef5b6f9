#![allow(clippy::unwrap_used)]

use formats::Format;

use crate::dequantize::dequantize;
use crate::random::Random;
use crate::{Activations, Arena, Biased, Isa, Matrix, PackError, Pool, matmul, matmul_gated};

/// A stored matrix of random codes, with scales around those of a trained model.
pub(crate) fn stored(format: Format, rows: usize, cols: usize, random: &mut Random) -> Vec<u8> {
    let blocks = rows * cols / format.block_len();
    let mut bytes: Vec<u8> = (0..blocks * format.block_bytes()).map(|_| random.next() as u8).collect();
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        let scale = crate::half::f32_to_f16(0.01 + 0.02 * random.uniform()).to_le_bytes();
        let min = crate::half::f32_to_f16(-0.05 * random.uniform()).to_le_bytes();
        match format {
            Format::F32 => block.copy_from_slice(&(0.1 * random.normal()).to_le_bytes()),
            Format::F16 => {
                block.copy_from_slice(&crate::half::f32_to_f16(0.1 * random.normal()).to_le_bytes())
            }
            Format::Bf16 => block.copy_from_slice(&(0.1 * random.normal()).to_le_bytes()[2..]),
            Format::Mxfp4 => block[0] = 120 + (block[0] & 7),
            Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => {
                block[..2].copy_from_slice(&scale);
                block[2..4].copy_from_slice(&min);
            }
            Format::Q2K => {
                block[80..82].copy_from_slice(&scale);
                block[82..84].copy_from_slice(&scale);
            }
            Format::Q3K => block[108..110].copy_from_slice(&scale),
            Format::Q6K => block[208..210].copy_from_slice(&scale),
            Format::Q8_0 | Format::Q4_0 | Format::Q5_0 | Format::Iq4Nl | Format::Iq4Xs => {
                block[..2].copy_from_slice(&scale);
            }
        }
    }
    bytes
}

fn numbers(format: Format, bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![0.0; bytes.len() / format.block_bytes() * format.block_len()];
    dequantize(format, bytes, &mut out);
    out
}

fn product(pool: &Pool, isa: Isa, matrix: &Matrix, x: &[f32], m: usize) -> Vec<f32> {
    let mut activations = Activations::new();
    activations.quantize(pool, isa, x, m, matrix.cols());
    let mut out = vec![f32::NAN; m * matrix.rows()];
    matmul(pool, isa, &mut [(matrix, &mut out)], &activations);
    out
}

/// A matrix in memory of its own.
fn pack(isa: Isa, format: Format, rows: usize, cols: usize, bytes: &[u8]) -> Result<Matrix, PackError> {
    Matrix::pack(&Arena::new(bytes.len()).unwrap(), isa, format, rows, cols, bytes)
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn packed_rows_are_the_stored_rows() {
    let mut random = Random::new(3);
    for format in Format::ALL {
        let (rows, cols) = (21, 512);
        let bytes = stored(format, rows, cols, &mut random);
        let expected = numbers(format, &bytes);
        for isa in Isa::available() {
            let matrix = pack(isa, format, rows, cols, &bytes).unwrap();
            let mut row = vec![0.0; cols];
            for (index, expected) in expected.chunks_exact(cols).enumerate() {
                matrix.row_into(index, &mut row);
                assert_eq!(row, expected, "{format} {isa:?} row {index}");
            }
        }
    }
}

#[test]
fn a_product_is_close_to_that_of_the_numbers() {
    let pool = Pool::new(2);
    let mut random = Random::new(4);
    for format in Format::ALL {
        let (rows, cols, m) = (9, 512, 2);
        let bytes = stored(format, rows, cols, &mut random);
        let weights = numbers(format, &bytes);
        let x: Vec<f32> = (0..m * cols).map(|_| random.normal()).collect();
        let matrix = pack(Isa::SCALAR, format, rows, cols, &bytes).unwrap();
        let found = product(&pool, Isa::SCALAR, &matrix, &x, m);
        for (x, found) in x.chunks_exact(cols).zip(found.chunks_exact(rows)) {
            for (weights, found) in weights.chunks_exact(cols).zip(found) {
                let exact: f64 = weights.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                let size: f64 =
                    weights.iter().zip(x).map(|(w, x)| f64::from(w * x).powi(2)).sum::<f64>().sqrt();
                let error = (f64::from(*found) - exact).abs() / size;
                assert!(error < 0.03, "{format}: {found} for {exact}, {error}");
            }
        }
    }
}

#[test]
fn every_isa_and_every_width_gives_the_same_bits() {
    let (one, three) = (Pool::new(1), Pool::new(3));
    let mut random = Random::new(5);
    for format in Format::ALL {
        let (rows, cols) = (37, 256);
        let bytes = stored(format, rows, cols, &mut random);
        let x: Vec<f32> = (0..70 * cols).map(|_| random.normal()).collect();
        let scalar = pack(Isa::SCALAR, format, rows, cols, &bytes).unwrap();
        let expected = bits(&product(&one, Isa::SCALAR, &scalar, &x, 70));
        for isa in Isa::available() {
            let matrix = pack(isa, format, rows, cols, &bytes).unwrap();
            for m in (1..=33).chain([64, 65, 70]) {
                let found = product(if m % 2 == 0 { &one } else { &three }, isa, &matrix, &x[..m * cols], m);
                assert_eq!(bits(&found), expected[..m * rows], "{format} {isa:?} m = {m}");
            }
        }
    }
}

#[test]
fn the_largest_codes_do_not_overflow() {
    let pool = Pool::new(1);
    for format in Format::ALL.into_iter().filter(|format| format.block_len() > 1) {
        for fill in [0x00, 0xff, 0x80, 0x7f] {
            let mut bytes = stored(format, 8, 256, &mut Random::new(6));
            let scales = stored(format, 8, 256, &mut Random::new(6));
            // Every code at an extreme, scales as they were.
            for (i, byte) in bytes.iter_mut().enumerate() {
                let at = i % format.block_bytes();
                let scale = match format {
                    Format::Q2K => at >= 80,
                    Format::Q3K => at >= 108,
                    Format::Q6K => at >= 208,
                    Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => at < 4,
                    Format::Mxfp4 => at == 0,
                    _ => at < 2,
                };
                *byte = if scale { scales[i] } else { fill };
            }
            for sign in [1.0, -1.0] {
                let x = vec![sign; 256];
                let scalar = pack(Isa::SCALAR, format, 8, 256, &bytes).unwrap();
                let expected = bits(&product(&pool, Isa::SCALAR, &scalar, &x, 1));
                for isa in Isa::available() {
                    let matrix = pack(isa, format, 8, 256, &bytes).unwrap();
                    assert_eq!(
                        bits(&product(&pool, isa, &matrix, &x, 1)),
                        expected,
                        "{format} {fill:x} {isa:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn several_matrices_share_a_call() {
    let pool = Pool::new(2);
    let mut random = Random::new(7);
    let (isa, cols, m) = (Isa::best(), 256, 5);
    let x: Vec<f32> = (0..m * cols).map(|_| random.normal()).collect();
    let matrices: Vec<_> = [(Format::Q4K, 40), (Format::Q8_0, 16), (Format::F16, 3), (Format::Q6K, 0)]
        .into_iter()
        .map(|(format, rows)| {
            pack(isa, format, rows, cols, &stored(format, rows, cols, &mut random)).unwrap()
        })
        .collect();
    let mut activations = Activations::new();
    activations.quantize(&pool, isa, &x, m, cols);
    let mut found: Vec<_> = matrices.iter().map(|matrix| vec![f32::NAN; m * matrix.rows()]).collect();
    let mut outs: Vec<_> =
        matrices.iter().zip(&mut found).map(|(matrix, out)| (matrix, &mut out[..])).collect();
    matmul(&pool, isa, &mut outs, &activations);
    for (matrix, found) in matrices.iter().zip(&found) {
        assert_eq!(bits(found), bits(&product(&pool, isa, matrix, &x, m)));
    }
}

/// As one after the other: both products, the join, the quantisation.
#[test]
fn joined_products_are_those_of_both() {
    let (one, three) = (Pool::new(1), Pool::new(3));
    let mut random = Random::new(8);
    let cols = 256;
    let x: Vec<f32> = (0..70 * cols).map(|_| random.normal()).collect();
    let join =
        |isa| move |gate: &[f32], up: &[f32], out: &mut [f32]| crate::ops::silu_mul(isa, gate, up, out);
    for (rows, m, format) in
        [(96, 1, Format::Q4_1), (45, 9, Format::Q6K), (33, 70, Format::F16), (7, 3, Format::Q8_0)]
    {
        let stored: [Vec<u8>; 2] = std::array::from_fn(|_| stored(format, rows, cols, &mut random));
        let bias: Vec<f32> = (0..rows).map(|_| random.normal()).collect();
        for isa in Isa::available() {
            let [gate, up] = stored.each_ref().map(|bytes| pack(isa, format, rows, cols, bytes).unwrap());
            let x = &x[..m * cols];
            let mut products = [&gate, &up].map(|matrix| product(&one, isa, matrix, x, m));
            for (sum, bias) in products[1].iter_mut().zip(bias.iter().cycle()) {
                *sum += bias;
            }
            let mut joined = vec![f32::NAN; m * rows];
            join(isa)(&products[0], &products[1], &mut joined);
            let mut expected = Activations::new();
            expected.quantize(&one, isa, &joined, m, rows);

            let mut activations = Activations::new();
            activations.quantize(&one, isa, x, m, cols);
            let parts = [Biased { matrix: &gate, bias: None }, Biased { matrix: &up, bias: Some(&bias) }];
            let mut found = Activations::new();
            matmul_gated(&three, isa, parts, &activations, join(isa), &mut found, true);
            assert_eq!(bits(found.values()), bits(expected.values()), "{format} {isa:?}");
            assert_eq!(found.columns(), expected.columns(), "{format} {isa:?}");
            assert_eq!(found.wide(), expected.wide(), "{format} {isa:?}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let refuse = |format, rows, cols, len| {
        pack(Isa::SCALAR, format, rows, cols, &vec![0; len]).unwrap_err().to_string()
    };
    assert!(refuse(Format::Q4K, 1, 96, 54).contains("a multiple of 256"));
    assert!(refuse(Format::Q4_0, 2, 64, 71).contains("there are 71"));
    assert!(refuse(Format::F32, usize::MAX, 8, 0).contains("None"));
}
