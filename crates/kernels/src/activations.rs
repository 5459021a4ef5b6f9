//! What matrices are multiplied with: vectors, as they are and in 8 bits.

use std::marker::PhantomData;

use crate::isa::Isa;
#[cfg(target_arch = "x86_64")]
use crate::isa::Kind;
use crate::packed::BLOCK;
use crate::pool::Pool;

/// 32 consecutive numbers of one vector: `scale * codes`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, align(16))]
pub(crate) struct Column {
    /// -127 to 127.
    pub(crate) codes: [i8; BLOCK],
    /// The largest magnitude over 127.
    pub(crate) scale: f32,
    /// `scale` times the sum of the codes.
    pub(crate) sum: f32,
    /// Sums of the first 16 codes and of the last.
    pub(crate) halves: [i16; 2],
    /// Sum of all codes.
    pub(crate) total: i32,
}

/// The codes of a [`Column`] in 16 bits; of each four the even ones before the odd ones.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Wide(pub(crate) [i16; BLOCK]);

/// `m` vectors of `cols` numbers, quantised in blocks of 32 to 8 bits with a scale each: once, for all the matrices that
/// they are multiplied with. A buffer to use again and again; it keeps its largest size.
#[derive(Debug, Default)]
pub struct Activations {
    m: usize,
    cols: usize,
    /// `[m, cols]`, where they are kept.
    values: Vec<f32>,
    has_values: bool,
    /// `[blocks, m]`.
    columns: Vec<Column>,
    /// `[blocks, m]`.
    wide: Vec<Wide>,
}

impl Activations {
    /// No vectors.
    #[must_use]
    pub fn new() -> Activations {
        Activations::default()
    }

    /// Takes the vectors `x`, `[m, cols]`.
    ///
    /// # Panics
    /// When `x` does not have `m * cols` numbers.
    pub fn quantize(&mut self, pool: &Pool, isa: Isa, x: &[f32], m: usize, cols: usize) {
        assert_eq!(x.len(), m * cols, "{m} vectors of {cols} numbers");
        self.fill(pool, isa, m, cols, |row, out| out.copy_from_slice(&x[row * cols..][..cols]));
    }

    /// Takes `m` vectors of `cols` numbers that `write(row, out)` computes, on all threads: so that a norm or a gate is
    /// quantised where it is computed. `out` holds anything before.
    pub fn fill(
        &mut self,
        pool: &Pool,
        isa: Isa,
        m: usize,
        cols: usize,
        write: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        self.reserve(m, cols);
        self.has_values = true;
        let values = Shared(self.values.as_mut_ptr());
        let columns = Shared(self.columns.as_mut_ptr());
        let wide = Shared(self.wide.as_mut_ptr());
        let rows_a_task = ROWS_NUMBERS.div_ceil(cols.max(1));
        pool.run(m.div_ceil(rows_a_task), |task| {
            for row in task * rows_a_task..m.min((task + 1) * rows_a_task) {
                // SAFETY: `reserve` made `values` hold `m * cols` numbers; each row is one task's.
                let out = unsafe { std::slice::from_raw_parts_mut(values.get().add(row * cols), cols) };
                write(row, out);
                // SAFETY: `reserve` made both hold `m` a block, and only this task writes those of `row`.
                unsafe { quantize_row(isa, out, columns.get().add(row), wide.get().add(row), m) };
            }
        });
    }

    /// Room for `m` vectors of `cols` numbers, to be written block by block; `values` says whether they are also kept as
    /// they are.
    pub(crate) fn blocks(&mut self, m: usize, cols: usize, values: bool) -> Blocks<'_> {
        self.reserve(m, cols);
        self.has_values = values;
        Blocks {
            m,
            cols,
            values: values.then_some(Shared(self.values.as_mut_ptr())),
            columns: Shared(self.columns.as_mut_ptr()),
            wide: Shared(self.wide.as_mut_ptr()),
            of: PhantomData,
        }
    }

    /// How many vectors there are.
    #[must_use]
    pub fn m(&self) -> usize {
        self.m
    }

    /// Numbers in a vector.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The vectors as they came, `[m, cols]`.
    ///
    /// # Panics
    /// When they were not kept.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        assert!(self.has_values, "vectors that were not kept as they came");
        &self.values[..self.m * self.cols]
    }

    /// `[blocks, m]`.
    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns[..self.cols.div_ceil(BLOCK) * self.m]
    }

    /// `[blocks, m]`.
    #[cfg(any(target_arch = "x86_64", test))]
    pub(crate) fn wide(&self) -> &[Wide] {
        &self.wide[..self.cols.div_ceil(BLOCK) * self.m]
    }

    fn reserve(&mut self, m: usize, cols: usize) {
        (self.m, self.cols) = (m, cols);
        let blocks = cols.div_ceil(BLOCK) * m;
        if self.values.len() < m * cols {
            self.values.resize(m * cols, 0.0);
        }
        if self.columns.len() < blocks {
            self.columns.resize(blocks, Column::default());
            self.wide.resize(blocks, Wide::default());
        }
    }
}

/// Vectors that several threads write, block by block.
pub(crate) struct Blocks<'a> {
    m: usize,
    cols: usize,
    values: Option<Shared<f32>>,
    columns: Shared<Column>,
    wide: Shared<Wide>,
    of: PhantomData<&'a mut Activations>,
}

impl Blocks<'_> {
    /// Takes `numbers` as block `block` of vector `vector`: [`BLOCK`] of them, or what is left of the vector.
    ///
    /// # Safety
    /// No two threads may write one block at once.
    ///
    /// # Panics
    /// When there is no such block, or it has another length.
    pub(crate) unsafe fn write(&self, isa: Isa, vector: usize, block: usize, numbers: &[f32]) {
        let first = block * BLOCK;
        assert!(vector < self.m && first < self.cols, "block {block} of vector {vector}");
        assert_eq!(numbers.len(), BLOCK.min(self.cols - first), "numbers of block {block}");
        let at = block * self.m + vector;
        // SAFETY: `reserve` made room for all blocks of all vectors, of which this is one (asserted); it is this thread's.
        unsafe {
            if let Some(values) = &self.values {
                let out = values.get().add(vector * self.cols + first);
                std::ptr::copy_nonoverlapping(numbers.as_ptr(), out, numbers.len());
            }
            quantize_row(isa, numbers, self.columns.get().add(at), self.wide.get().add(at), self.m);
        }
    }
}

/// Numbers that are worth a task of their own.
const ROWS_NUMBERS: usize = 2048;

/// A pointer that tasks share, each to write its own part.
pub(crate) struct Shared<T>(pub(crate) *mut T);

impl<T> Shared<T> {
    pub(crate) fn get(&self) -> *mut T {
        self.0
    }
}

// SAFETY: whoever dereferences the pointer promises, there, that no two tasks touch the same element.
unsafe impl<T: Send> Sync for Shared<T> {}

/// Quantises one vector; block `b` goes to `b * stride` of each array.
///
/// # Safety
/// Both pointers must be valid for writes at every such place.
unsafe fn quantize_row(isa: Isa, x: &[f32], columns: *mut Column, wide: *mut Wide, stride: usize) {
    for (index, numbers) in x.chunks(BLOCK).enumerate() {
        let mut block = [0.0; BLOCK];
        let block = if let Ok(whole) = <&[f32; BLOCK]>::try_from(numbers) {
            whole
        } else {
            block[..numbers.len()].copy_from_slice(numbers);
            &block
        };
        // SAFETY: the caller's promise.
        let (column, wide) = unsafe { (&mut *columns.add(index * stride), &mut *wide.add(index * stride)) };
        match isa.kind() {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Isa` of this kind is proof that the CPU has AVX2.
            Kind::Avx2 | Kind::Avx512Vnni => unsafe { avx2::quantize_block(block, column, wide) },
            _ => quantize_block(block, column, wide),
        }
    }
}

/// The definition.
fn quantize_block(x: &[f32; BLOCK], column: &mut Column, wide: &mut Wide) {
    let largest = x.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
    let inverse = inverse(largest);
    column.scale = largest / 127.0;
    for (code, x) in column.codes.iter_mut().zip(x) {
        *code = (x * inverse).round_ties_even() as i8;
    }
    finish_block(column, wide);
}

/// What a block of this largest magnitude is multiplied with. Nothing, for numbers so small that it would overflow.
fn inverse(largest: f32) -> f32 {
    if largest > 1e-30 { 127.0 / largest } else { 0.0 }
}

fn finish_block(column: &mut Column, wide: &mut Wide) {
    for (wide, codes) in wide.0.chunks_exact_mut(4).zip(column.codes.chunks_exact(4)) {
        wide.copy_from_slice(&[codes[0], codes[2], codes[1], codes[3]].map(i16::from));
    }
    let sum = |codes: &[i8]| codes.iter().map(|&code| i16::from(code)).sum::<i16>();
    let halves = [sum(&column.codes[..16]), sum(&column.codes[16..])];
    column.halves = halves;
    column.total = i32::from(halves[0]) + i32::from(halves[1]);
    column.sum = column.scale * column.total as f32;
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{BLOCK, Column, Wide};

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn quantize_block(x: &[f32; BLOCK], column: &mut Column, wide: &mut Wide) {
        let sign = _mm256_set1_ps(-0.0);
        // SAFETY: 32 numbers.
        let v: [__m256; 4] = std::array::from_fn(|i| unsafe { _mm256_loadu_ps(x.as_ptr().add(8 * i)) });
        let abs: [__m256; 4] = std::array::from_fn(|i| _mm256_andnot_ps(sign, v[i]));
        let largest = _mm256_max_ps(_mm256_max_ps(abs[0], abs[1]), _mm256_max_ps(abs[2], abs[3]));
        let largest = _mm_max_ps(_mm256_castps256_ps128(largest), _mm256_extractf128_ps::<1>(largest));
        let largest = _mm_max_ps(largest, _mm_movehl_ps(largest, largest));
        let largest = _mm_cvtss_f32(_mm_max_ss(largest, _mm_movehdup_ps(largest)));
        let inverse = super::inverse(largest);
        column.scale = largest / 127.0;
        let inverse = _mm256_set1_ps(inverse);
        let codes: [__m256i; 4] = std::array::from_fn(|i| _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse)));
        // Packing works in 128-bit lanes; the permutation puts groups of four codes back in order.
        let low = _mm256_packs_epi32(codes[0], codes[1]);
        let high = _mm256_packs_epi32(codes[2], codes[3]);
        let packed = _mm256_packs_epi16(low, high);
        let packed = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        // SAFETY: 32 bytes, unaligned.
        unsafe { _mm256_storeu_si256(column.codes.as_mut_ptr().cast(), packed) };

        let swap = _mm256_setr_epi8(
            0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15, 0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10,
            11, 14, 15,
        );
        let first = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(packed));
        let second = _mm256_cvtepi8_epi16(_mm256_extracti128_si256::<1>(packed));
        // SAFETY: 64 bytes, unaligned.
        unsafe {
            let out: *mut __m256i = wide.0.as_mut_ptr().cast();
            _mm256_storeu_si256(out, _mm256_shuffle_epi8(first, swap));
            _mm256_storeu_si256(out.add(1), _mm256_shuffle_epi8(second, swap));
        }
        let halves = [sum(first), sum(second)];
        column.halves = halves.map(|half| half as i16);
        column.total = halves[0] + halves[1];
        column.sum = column.scale * column.total as f32;
    }

    /// The sum of 16 numbers of 16 bits.
    #[target_feature(enable = "avx2")]
    fn sum(x: __m256i) -> i32 {
        let x = _mm256_madd_epi16(x, _mm256_set1_epi16(1));
        let x = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
        let x = _mm_add_epi32(x, _mm_unpackhi_epi64(x, x));
        _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32::<1>(x)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn every_isa_quantises_alike() {
        let pool = Pool::new(2);
        let mut random = Random::new(1);
        for (m, cols) in [(1, 32), (3, 96), (5, 40), (70, 64)] {
            let mut x: Vec<f32> = (0..m * cols).map(|_| random.normal()).collect();
            x[..cols.min(32)].fill(0.0);
            let mut expected = Activations::new();
            expected.quantize(&pool, Isa::SCALAR, &x, m, cols);
            assert_eq!(expected.values(), x);
            for isa in Isa::available() {
                let mut found = Activations::new();
                found.quantize(&pool, isa, &x, m, cols);
                assert_eq!(found.columns(), expected.columns(), "{isa:?}");
                assert_eq!(found.wide(), expected.wide(), "{isa:?}");
            }
        }
    }

    #[test]
    fn codes_are_within_half_a_step() {
        let pool = Pool::new(1);
        let mut random = Random::new(2);
        let x: Vec<f32> = (0..64).map(|_| random.normal()).collect();
        let mut activations = Activations::new();
        activations.quantize(&pool, Isa::SCALAR, &x, 1, 64);
        for (column, x) in activations.columns().iter().zip(x.chunks(32)) {
            for (&code, x) in column.codes.iter().zip(x) {
                assert!((f32::from(code) * column.scale - x).abs() <= column.scale * 0.5001);
            }
        }
    }
}
