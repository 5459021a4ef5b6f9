//! The product with AVX2: panels of 8 rows, 8-bit products through 16-bit sums.
//!
//! `vpmaddubsw` multiplies 32 unsigned codes with 32 signed activations and adds neighbours in 16 bits, saturating. A sum
//! of two products stays below 2 * 127 * code (128 for a number that was not finite), so sums of `RUN` such pairs fit as
//! long as `RUN * 2 * 128 * code_max` is below 2^15:
//!
//! | codes | largest | RUN | largest sum |
//! |---|---|---|---|
//! | 2, 3, 4 bits | 15 | 8 | 30,720 |
//! | MXFP4 around 12 | 24 | 4 | 24,576 |
//! | 5 bits | 31 | 4 | 31,744 |
//! | 6 bits | 63 | 2 | 32,256 |
//!
//! Only then they are widened, by `vpmaddwd`. Codes of 8 bits are widened first and multiplied by `vpmaddwd` alone.
#![allow(clippy::needless_range_loop, reason = "an index runs through several small arrays, unrolled")]
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "every function here is instructions and pointers through and through"
)]

use std::arch::x86_64::*;

use formats::Format;

use super::Call;
use super::unroll::{eight, for_panels};
use crate::activations::{Column, Wide};
use crate::dequantize::{IQ4_VALUES, MXFP4_DOUBLED};
use crate::expect::expect_read;
use crate::packed::Layout;

/// Rows of a panel: 32-bit sums of a vector.
const ROWS: usize = 8;
/// Vectors that a step takes at once: with two panels, eight sums in registers.
const STEP: usize = 4;

/// Computes `call`.
///
/// # Safety
/// The CPU must have AVX2, FMA and F16C; `sums` must be valid for `count * panels * 8` numbers, 32-byte aligned.
pub(super) unsafe fn run(call: &Call<'_>, sums: *mut f32) {
    match call.panels {
        1 => run_panels::<1>(call, [call.panel(0).as_ptr()], sums.cast()),
        _ => run_panels::<2>(call, [call.panel(0).as_ptr(), call.panel(1).as_ptr()], sums.cast()),
    }
}

unsafe fn run_panels<const P: usize>(call: &Call<'_>, panels: [*const u8; P], sums: *mut __m256) {
    match call.matrix.format() {
        Format::F32 => floats::<F32, P>(call, panels, sums),
        Format::F16 => floats::<F16, P>(call, panels, sums),
        Format::Bf16 => floats::<Bf16, P>(call, panels, sums),
        Format::Q8_0 if call.count < STEP => blocks::<Q8_0, Bytes, P>(call, panels, sums),
        Format::Q8_0 => blocks::<Q8_0, Signed, P>(call, panels, sums),
        Format::Q4_0 => blocks::<Q4_0, <Q4_0 as Packed>::Tile, P>(call, panels, sums),
        Format::Q4_1 => blocks::<Q4_1, <Q4_1 as Packed>::Tile, P>(call, panels, sums),
        Format::Q5_0 => blocks::<Q5_0, <Q5_0 as Packed>::Tile, P>(call, panels, sums),
        Format::Q5_1 => blocks::<Q5_1, <Q5_1 as Packed>::Tile, P>(call, panels, sums),
        Format::Q2K => blocks::<Q2K, <Q2K as Packed>::Tile, P>(call, panels, sums),
        Format::Q3K => blocks::<Q3K, <Q3K as Packed>::Tile, P>(call, panels, sums),
        Format::Q4K => blocks::<Q4K, <Q4K as Packed>::Tile, P>(call, panels, sums),
        Format::Q5K => blocks::<Q5K, <Q5K as Packed>::Tile, P>(call, panels, sums),
        Format::Q6K => blocks::<Q6K, <Q6K as Packed>::Tile, P>(call, panels, sums),
        Format::Iq4Nl if call.count < STEP => blocks::<Iq4Nl, Bytes, P>(call, panels, sums),
        Format::Iq4Nl => blocks::<Iq4Nl, Signed, P>(call, panels, sums),
        Format::Iq4Xs if call.count < STEP => blocks::<Iq4Xs, Bytes, P>(call, panels, sums),
        Format::Iq4Xs => blocks::<Iq4Xs, Signed, P>(call, panels, sums),
        Format::Mxfp4 => blocks::<Mxfp4, <Mxfp4 as Packed>::Tile, P>(call, panels, sums),
    }
}

/// One packed format, as these instructions read it.
trait Packed {
    /// The format, for its layout.
    const FORMAT: Format;
    /// What is read once a super-block.
    type Head: Copy;
    /// A block of a panel, unpacked.
    type Tile: Copy;
    /// Reads the head of a super-block.
    unsafe fn head(at: *const u8) -> Self::Head;
    /// Unpacks a block.
    unsafe fn tile(at: *const u8, head: Self::Head) -> Self::Tile;
}

/// 8 rows by 32 columns of weights, ready to be multiplied.
trait Tile: Copy {
    /// Adds the products of `P` tiles with `C` vectors to `sums`, `[C, P]`.
    unsafe fn step<const P: usize, const C: usize>(
        tiles: &[Self; P],
        columns: *const Column,
        wide: *const Wide,
        sums: *mut __m256,
    );
}

/// A tile made of an unpacked block.
trait Made<Block>: Sized {
    /// The tile.
    unsafe fn made(block: Block) -> Self;
}

impl<T: Tile> Made<T> for T {
    #[inline(always)]
    unsafe fn made(block: T) -> T {
        block
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn blocks<F: Packed, T: Tile + Made<F::Tile>, const P: usize>(
    call: &Call<'_>,
    panels: [*const u8; P],
    sums: *mut __m256,
) {
    match call.count {
        1 => few::<F, T, P, 1>(call, panels, sums),
        2 => few::<F, T, P, 2>(call, panels, sums),
        STEP => few::<F, T, P, STEP>(call, panels, sums),
        _ => many::<F, T, P>(call, panels, sums),
    }
}

/// Calls `each(tiles, columns, wide)` with every block's tiles and its first column, in order.
#[inline(always)]
unsafe fn each_block<F: Packed, T: Tile + Made<F::Tile>, const P: usize>(
    call: &Call<'_>,
    mut panels: [*const u8; P],
    mut each: impl FnMut(&[T; P], *const Column, *const Wide),
) {
    let Some(layout) = (const { Layout::of(F::FORMAT) }) else { return };
    let stride = call.activations.m();
    let ahead = P * call.panel(0).len();
    let (mut columns, mut wide) = (call.columns(), call.wide());
    for _ in 0..call.panel(0).len() / layout.super_bytes(ROWS) {
        let heads: [F::Head; P] = for_panels!(|p| F::head(panels[p]));
        for panel in &mut panels {
            *panel = panel.add(layout.head_bytes(ROWS));
        }
        for _ in 0..layout.blocks {
            let tiles: [T; P] = for_panels!(|p| T::made(F::tile(panels[p], heads[p])));
            each(&tiles, columns, wide);
            for panel in &mut panels {
                expect_read(panel.wrapping_add(ahead), layout.block_bytes(ROWS));
                *panel = panel.add(layout.block_bytes(ROWS));
            }
            // Past the last block these point beyond the arrays, and are not read.
            columns = columns.wrapping_add(stride);
            wide = wide.wrapping_add(stride);
        }
    }
}

/// `C` vectors, whose sums stay here from the first block to the last.
#[inline(always)]
unsafe fn few<F: Packed, T: Tile + Made<F::Tile>, const P: usize, const C: usize>(
    call: &Call<'_>,
    panels: [*const u8; P],
    sums: *mut __m256,
) {
    let mut totals = [[_mm256_setzero_ps(); P]; C];
    each_block::<F, T, P>(
        call,
        panels,
        #[inline(always)]
        |tiles, columns, wide| T::step::<P, C>(tiles, columns, wide, totals.as_mut_ptr().cast()),
    );
    for c in 0..C {
        for p in 0..P {
            *sums.add(c * P + p) = totals[c][p];
        }
    }
}

/// Any number of vectors.
#[inline(always)]
unsafe fn many<F: Packed, T: Tile + Made<F::Tile>, const P: usize>(
    call: &Call<'_>,
    panels: [*const u8; P],
    sums: *mut __m256,
) {
    for index in 0..call.count * P {
        *sums.add(index) = _mm256_setzero_ps();
    }
    each_block::<F, T, P>(
        call,
        panels,
        #[inline(always)]
        |tiles, columns, wide| {
            let mut at = 0;
            while at + STEP <= call.count {
                T::step::<P, STEP>(tiles, columns.add(at), wide.add(at), sums.add(at * P));
                at += STEP;
            }
            let (columns, wide, sums) = (columns.add(at), wide.add(at), sums.add(at * P));
            match call.count - at {
                1 => T::step::<P, 1>(tiles, columns, wide, sums),
                2 => T::step::<P, 2>(tiles, columns, wide, sums),
                3 => T::step::<P, 3>(tiles, columns, wide, sums),
                _ => {}
            }
        },
    );
}

type Codes = [__m256i; 8];

/// Sums over 32 columns of codes times activations, by row. `by[half]` multiplies the sums over 16 columns each.
#[inline(always)]
unsafe fn dot<const P: usize, const C: usize, const RUN: usize>(
    codes: [&Codes; P],
    by: [[__m256i; 2]; P],
    columns: *const Column,
) -> [[__m256i; P]; C] {
    let mut totals = [[_mm256_setzero_si256(); P]; C];
    for run in 0..8 / RUN {
        let mut sums = [[_mm256_setzero_si256(); P]; C];
        for k in run * RUN..(run + 1) * RUN {
            for c in 0..C {
                let four: *const i32 = (&raw const (*columns.add(c)).codes).cast();
                let x = _mm256_set1_epi32(*four.add(k));
                for p in 0..P {
                    sums[c][p] = pin(_mm256_add_epi16(sums[c][p], _mm256_maddubs_epi16(codes[p][k], x)));
                }
            }
        }
        for c in 0..C {
            for p in 0..P {
                let widened = _mm256_madd_epi16(sums[c][p], by[p][run * RUN / 4]);
                totals[c][p] = _mm256_add_epi32(totals[c][p], widened);
            }
        }
    }
    totals
}

#[inline(always)]
unsafe fn ones<const P: usize>() -> [[__m256i; 2]; P] {
    [[_mm256_set1_epi16(1); 2]; P]
}

/// `x`, computed here, in a register: no instruction, but the compiler neither reorders what is pinned nor regroups it.
/// Left to itself it makes trees of the sums below and runs out of registers.
#[inline]
#[target_feature(enable = "avx2")]
fn pin(mut x: __m256i) -> __m256i {
    // SAFETY: no instruction at all.
    unsafe { std::arch::asm!("/* {0} */", inout(ymm_reg) x, options(nomem, nostack, preserves_flags)) };
    x
}

/// `scale * code + offset`.
#[derive(Clone, Copy)]
struct Affine<const RUN: usize> {
    codes: Codes,
    scale: __m256,
    offset: __m256,
}

impl<const RUN: usize> Tile for Affine<RUN> {
    #[inline(always)]
    unsafe fn step<const P: usize, const C: usize>(
        tiles: &[Self; P],
        columns: *const Column,
        _: *const Wide,
        sums: *mut __m256,
    ) {
        let products = dot::<P, C, RUN>(for_panels!(|p| &tiles[p].codes), ones(), columns);
        for c in 0..C {
            let column = columns.add(c);
            let (scale, sum) = (_mm256_set1_ps((*column).scale), _mm256_set1_ps((*column).sum));
            for p in 0..P {
                let total = sums.add(c * P + p);
                let by = _mm256_mul_ps(tiles[p].scale, scale);
                let added = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products[c][p]), by, *total);
                *total = _mm256_fmadd_ps(tiles[p].offset, sum, added);
            }
        }
    }
}

/// `scale * (code - CENTRE)`.
#[derive(Clone, Copy)]
struct Around<const RUN: usize, const CENTRE: i32> {
    codes: Codes,
    scale: __m256,
}

impl<const RUN: usize, const CENTRE: i32> Tile for Around<RUN, CENTRE> {
    #[inline(always)]
    unsafe fn step<const P: usize, const C: usize>(
        tiles: &[Self; P],
        columns: *const Column,
        _: *const Wide,
        sums: *mut __m256,
    ) {
        let products = dot::<P, C, RUN>(for_panels!(|p| &tiles[p].codes), ones(), columns);
        for c in 0..C {
            let column = columns.add(c);
            let scale = _mm256_set1_ps((*column).scale);
            let centre = _mm256_mullo_epi32(_mm256_set1_epi32((*column).total), _mm256_set1_epi32(CENTRE));
            for p in 0..P {
                let product = _mm256_sub_epi32(products[c][p], centre);
                add_scaled(product, tiles[p].scale, scale, sums.add(c * P + p));
            }
        }
    }
}

/// `scale * factors[half] * (code - CENTRE)`.
#[derive(Clone, Copy)]
struct Centred<const RUN: usize, const CENTRE: i32> {
    codes: Codes,
    scale: __m256,
    /// Both factors of each row, 16 bits each.
    factors: __m256i,
}

impl<const RUN: usize, const CENTRE: i32> Tile for Centred<RUN, CENTRE> {
    #[inline(always)]
    unsafe fn step<const P: usize, const C: usize>(
        tiles: &[Self; P],
        columns: *const Column,
        _: *const Wide,
        sums: *mut __m256,
    ) {
        let products = dot::<P, C, RUN>(
            for_panels!(|p| &tiles[p].codes),
            for_panels!(|p| apart(tiles[p].factors)),
            columns,
        );
        for c in 0..C {
            let column = columns.add(c);
            let scale = _mm256_set1_ps((*column).scale);
            let halves = halves(column);
            for p in 0..P {
                let total = sums.add(c * P + p);
                let centre = _mm256_madd_epi16(tiles[p].factors, halves);
                let centre = _mm256_mullo_epi32(centre, _mm256_set1_epi32(CENTRE));
                let product = _mm256_cvtepi32_ps(_mm256_sub_epi32(products[c][p], centre));
                *total = _mm256_fmadd_ps(product, _mm256_mul_ps(tiles[p].scale, scale), *total);
            }
        }
    }
}

/// `scale * factors[half] * code - min * minima[half]`.
#[derive(Clone, Copy)]
struct Halved {
    codes: Codes,
    scale: __m256,
    min: __m256,
    /// Both factors of each row, 16 bits each.
    factors: __m256i,
    /// Both minima of each row, 16 bits each.
    minima: __m256i,
}

impl Tile for Halved {
    #[inline(always)]
    unsafe fn step<const P: usize, const C: usize>(
        tiles: &[Self; P],
        columns: *const Column,
        _: *const Wide,
        sums: *mut __m256,
    ) {
        let products = dot::<P, C, 4>(
            for_panels!(|p| &tiles[p].codes),
            for_panels!(|p| apart(tiles[p].factors)),
            columns,
        );
        for c in 0..C {
            let column = columns.add(c);
            let scale = _mm256_set1_ps((*column).scale);
            let halves = halves(column);
            for p in 0..P {
                let total = sums.add(c * P + p);
                let below = _mm256_cvtepi32_ps(_mm256_madd_epi16(tiles[p].minima, halves));
                let product = _mm256_cvtepi32_ps(products[c][p]);
                let added = _mm256_fmadd_ps(product, _mm256_mul_ps(tiles[p].scale, scale), *total);
                *total = _mm256_fnmadd_ps(below, _mm256_mul_ps(tiles[p].min, scale), added);
            }
        }
    }
}

/// `scale * code`, codes of 8 bits: for few vectors, each of which takes the codes' signs so that the codes' magnitudes can
/// be the unsigned operand. Two products stay below 2 * 128 * 127 < 2^15.
#[derive(Clone, Copy)]
struct Bytes {
    codes: Codes,
    scale: __m256,
}

impl Tile for Bytes {
    #[inline(always)]
    unsafe fn step<const P: usize, const C: usize>(
        tiles: &[Self; P],
        columns: *const Column,
        _: *const Wide,
        sums: *mut __m256,
    ) {
        let ones = _mm256_set1_epi16(1);
        let mut products = [[_mm256_setzero_si256(); P]; C];
        for k in 0..8 {
            for c in 0..C {
                let four: *const i32 = (&raw const (*columns.add(c)).codes).cast();
                let x = _mm256_set1_epi32(*four.add(k));
                for p in 0..P {
                    let code = tiles[p].codes[k];
                    let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(code), _mm256_sign_epi8(x, code));
                    products[c][p] = pin(_mm256_add_epi32(products[c][p], _mm256_madd_epi16(pairs, ones)));
                }
            }
        }
        for c in 0..C {
            let scale = _mm256_set1_ps((*columns.add(c)).scale);
            for p in 0..P {
                add_scaled(products[c][p], tiles[p].scale, scale, sums.add(c * P + p));
            }
        }
    }
}

/// Adds `product * (scale of the row * scale of the vector)`.
#[inline(always)]
unsafe fn add_scaled(product: __m256i, row: __m256, vector: __m256, total: *mut __m256) {
    *total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(product), _mm256_mul_ps(row, vector), *total);
}

/// As [`Bytes`], for many vectors: codes widened to 16 bits once for all of them. Vector `2k` holds the even columns of
/// `4k..4k+4`, `2k + 1` the odd ones.
#[derive(Clone, Copy)]
struct Signed {
    codes: [__m256i; 16],
    scale: __m256,
}

impl Made<Bytes> for Signed {
    #[inline(always)]
    unsafe fn made(block: Bytes) -> Signed {
        let mut codes = [_mm256_setzero_si256(); 16];
        for (k, pair) in block.codes.into_iter().enumerate() {
            codes[2 * k] = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(pair));
            codes[2 * k + 1] = _mm256_srai_epi16::<8>(pair);
        }
        Signed { codes, scale: block.scale }
    }
}

impl Tile for Signed {
    #[inline(always)]
    unsafe fn step<const P: usize, const C: usize>(
        tiles: &[Self; P],
        columns: *const Column,
        wide: *const Wide,
        sums: *mut __m256,
    ) {
        let mut products = [[_mm256_setzero_si256(); P]; C];
        for k in 0..16 {
            for c in 0..C {
                let two: *const i32 = wide.add(c).cast();
                let x = _mm256_set1_epi32(*two.add(k));
                for p in 0..P {
                    let product = _mm256_madd_epi16(tiles[p].codes[k], x);
                    products[c][p] = pin(_mm256_add_epi32(products[c][p], product));
                }
            }
        }
        for c in 0..C {
            let scale = _mm256_set1_ps((*columns.add(c)).scale);
            for p in 0..P {
                add_scaled(products[c][p], tiles[p].scale, scale, sums.add(c * P + p));
            }
        }
    }
}

/// Each 16-bit pair's first number twice, and its second.
#[inline(always)]
unsafe fn apart(pairs: __m256i) -> [__m256i; 2] {
    let low = _mm256_set1_epi32(0x0000_ffff);
    let (first, second) = (_mm256_and_si256(pairs, low), _mm256_andnot_si256(low, pairs));
    [
        _mm256_or_si256(first, _mm256_slli_epi32::<16>(first)),
        _mm256_or_si256(second, _mm256_srli_epi32::<16>(second)),
    ]
}

/// The sums of both halves of a column, for every row.
#[inline(always)]
unsafe fn halves(column: *const Column) -> __m256i {
    _mm256_set1_epi32(*(&raw const (*column).halves).cast::<i32>())
}

#[inline(always)]
unsafe fn load(at: *const u8, vector: usize) -> __m256i {
    _mm256_loadu_si256(at.cast::<__m256i>().add(vector))
}

/// Array `index` of one f16 a row.
#[inline(always)]
unsafe fn f16s(at: *const u8, index: usize) -> __m256 {
    _mm256_cvtph_ps(_mm_loadu_si128(at.cast::<__m128i>().add(index)))
}

#[inline(always)]
unsafe fn nibbles(at: *const u8) -> Codes {
    let mask = _mm256_set1_epi8(15);
    eight!(|k| {
        let pairs = load(at, k % 4);
        _mm256_and_si256(if k < 4 { pairs } else { _mm256_srli_epi16::<4>(pairs) }, mask)
    })
}

/// `x` with every bit `shift` places higher, lower when negative; bits cross from byte to byte.
#[inline(always)]
unsafe fn shifted(x: __m256i, shift: i32) -> __m256i {
    match shift {
        -6 => _mm256_srli_epi16::<6>(x),
        -5 => _mm256_srli_epi16::<5>(x),
        -4 => _mm256_srli_epi16::<4>(x),
        -3 => _mm256_srli_epi16::<3>(x),
        -2 => _mm256_srli_epi16::<2>(x),
        -1 => _mm256_srli_epi16::<1>(x),
        1 => _mm256_slli_epi16::<1>(x),
        2 => _mm256_slli_epi16::<2>(x),
        3 => _mm256_slli_epi16::<3>(x),
        4 => _mm256_slli_epi16::<4>(x),
        _ => x,
    }
}

/// The crumbs of code vector `k`, at bits `to` and above.
#[inline(always)]
unsafe fn crumbs(at: *const u8, k: usize, to: i32) -> __m256i {
    let mask = _mm256_set1_epi8(3 << to);
    _mm256_and_si256(shifted(load(at, k % 2), to - 2 * (k / 2) as i32), mask)
}

/// The single bits of code vector `k`, at bit `to`.
#[inline(always)]
unsafe fn bits(at: *const u8, k: usize, to: i32) -> __m256i {
    _mm256_and_si256(shifted(load(at, 0), to - k as i32), _mm256_set1_epi8(1 << to))
}

#[inline(always)]
unsafe fn five_bits(at: *const u8) -> Codes {
    let low = nibbles(at);
    eight!(|k| _mm256_or_si256(low[k], bits(at.add(128), k, 4)))
}

/// 4-bit codes as indices into a table.
#[inline(always)]
unsafe fn looked_up(codes: Codes, table: &[i8; 16]) -> Codes {
    let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
    eight!(|k| _mm256_shuffle_epi8(table, codes[k]))
}

/// The two bytes of each row, as 32-bit numbers: the first, the second.
#[inline(always)]
unsafe fn byte_pairs(at: *const u8) -> [__m256; 2] {
    let pairs = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()));
    let first = _mm256_and_si256(pairs, _mm256_set1_epi32(255));
    [_mm256_cvtepi32_ps(first), _mm256_cvtepi32_ps(_mm256_srli_epi32::<8>(pairs))]
}

macro_rules! packed {
    ($($name:ident, $head:ty, $tile:ty, |$head_at:ident| $read_head:expr, |$at:ident, $head_value:pat_param| $read:expr;)*) => {$(
        struct $name;

        impl Packed for $name {
            const FORMAT: Format = Format::$name;
            type Head = $head;
            type Tile = $tile;

            #[inline(always)]
            unsafe fn head($head_at: *const u8) -> $head {
                $read_head
            }

            #[inline(always)]
            unsafe fn tile($at: *const u8, $head_value: $head) -> $tile {
                $read
            }
        }
    )*};
}

/// [`MXFP4_DOUBLED`] around 12.
const MXFP4_RAISED: [i8; 16] = {
    let mut values = MXFP4_DOUBLED;
    let mut i = 0;
    while i < 16 {
        values[i] += 12;
        i += 1;
    }
    values
};

packed! {
    Q8_0, (), Bytes, |_at| (), |at, ()| Bytes { codes: eight!(|k| load(at.add(16), k)), scale: f16s(at, 0) };
    Q4_0, (), Around<8, 8>, |_at| (), |at, ()| Around { codes: nibbles(at.add(16)), scale: f16s(at, 0) };
    Q4_1, (), Affine<8>, |_at| (), |at, ()| Affine {
        codes: nibbles(at.add(32)), scale: f16s(at, 0), offset: f16s(at, 1),
    };
    Q5_0, (), Around<4, 16>, |_at| (), |at, ()| Around { codes: five_bits(at.add(16)), scale: f16s(at, 0) };
    Q5_1, (), Affine<4>, |_at| (), |at, ()| Affine {
        codes: five_bits(at.add(32)), scale: f16s(at, 0), offset: f16s(at, 1),
    };
    Q2K, [__m256; 2], Halved, |at| [f16s(at, 0), f16s(at, 1)], |at, [scale, min]| {
        let pairs = _mm256_cvtepu8_epi16(_mm_loadu_si128(at.cast()));
        Halved {
            codes: eight!(|k| crumbs(at.add(16), k, 0)),
            scale,
            min,
            factors: _mm256_and_si256(pairs, _mm256_set1_epi16(15)),
            minima: _mm256_srli_epi16::<4>(pairs),
        }
    };
    Q3K, __m256, Centred<4, 4>, |at| f16s(at, 0), |at, scale| Centred {
        codes: eight!(|k| _mm256_or_si256(crumbs(at.add(16), k, 0), bits(at.add(80), k, 2))),
        scale,
        factors: _mm256_cvtepi8_epi16(_mm_loadu_si128(at.cast())),
    };
    Q4K, [__m256; 2], Affine<8>, |at| [f16s(at, 0), f16s(at, 1)], |at, head| {
        let [scale, offset] = scaled(byte_pairs(at), head);
        Affine { codes: nibbles(at.add(16)), scale, offset }
    };
    Q5K, [__m256; 2], Affine<4>, |at| [f16s(at, 0), f16s(at, 1)], |at, head| {
        let [scale, offset] = scaled(byte_pairs(at), head);
        Affine { codes: five_bits(at.add(16)), scale, offset }
    };
    Q6K, __m256, Centred<2, 32>, |at| f16s(at, 0), |at, scale| {
        let low = nibbles(at.add(16));
        Centred {
            codes: eight!(|k| _mm256_or_si256(low[k], crumbs(at.add(144), k, 4))),
            scale,
            factors: _mm256_cvtepi8_epi16(_mm_loadu_si128(at.cast())),
        }
    };
    Iq4Nl, (), Bytes, |_at| (), |at, ()| Bytes {
        codes: looked_up(nibbles(at.add(16)), &IQ4_VALUES), scale: f16s(at, 0),
    };
    Iq4Xs, __m256, Bytes, |at| f16s(at, 0), |at, head| {
        let factor = _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm_loadu_si128(at.cast())));
        let codes = looked_up(nibbles(at.add(16)), &IQ4_VALUES);
        Bytes { codes, scale: _mm256_mul_ps(head, factor) }
    };
    Mxfp4, (), Around<4, 12>, |_at| (), |at, ()| {
        let codes = looked_up(nibbles(at.add(16)), &MXFP4_RAISED);
        let scale = _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast())));
        Around { codes, scale: _mm256_castsi256_ps(scale) }
    };
}

/// A block's scale and offset from its bytes and the super-block's scales for both.
#[inline(always)]
unsafe fn scaled(bytes: [__m256; 2], head: [__m256; 2]) -> [__m256; 2] {
    let below = _mm256_mul_ps(head[1], bytes[1]);
    [_mm256_mul_ps(head[0], bytes[0]), _mm256_xor_ps(below, _mm256_set1_ps(-0.0))]
}

/// A format of plain floats.
trait Float {
    /// The eight rows' numbers of column `k`.
    unsafe fn load(at: *const u8, k: usize) -> __m256;
}

struct F32;

impl Float for F32 {
    #[inline(always)]
    unsafe fn load(at: *const u8, k: usize) -> __m256 {
        _mm256_loadu_ps(at.cast::<f32>().add(ROWS * k))
    }
}

struct F16;

impl Float for F16 {
    #[inline(always)]
    unsafe fn load(at: *const u8, k: usize) -> __m256 {
        f16s(at, k)
    }
}

struct Bf16;

impl Float for Bf16 {
    #[inline(always)]
    unsafe fn load(at: *const u8, k: usize) -> __m256 {
        let halves = _mm_loadu_si128(at.cast::<__m128i>().add(k));
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn floats<F: Float, const P: usize>(call: &Call<'_>, panels: [*const u8; P], sums: *mut __m256) {
    let cols = call.matrix.cols();
    let x = call.values().as_ptr();
    let mut at = 0;
    while at + STEP <= call.count {
        float_step::<F, P, STEP>(panels, cols, x.add(at * cols), sums.add(at * P));
        at += STEP;
    }
    let (x, sums) = (x.wrapping_add(at * cols), sums.add(at * P));
    match call.count - at {
        1 => float_step::<F, P, 1>(panels, cols, x, sums),
        2 => float_step::<F, P, 2>(panels, cols, x, sums),
        3 => float_step::<F, P, 3>(panels, cols, x, sums),
        _ => {}
    }
}

#[inline(always)]
unsafe fn float_step<F: Float, const P: usize, const C: usize>(
    panels: [*const u8; P],
    cols: usize,
    x: *const f32,
    sums: *mut __m256,
) {
    let mut totals = [[_mm256_setzero_ps(); P]; C];
    for k in 0..cols {
        let weights: [__m256; P] = for_panels!(|p| F::load(panels[p], k));
        for c in 0..C {
            let x = _mm256_set1_ps(*x.add(c * cols + k));
            for p in 0..P {
                totals[c][p] = _mm256_fmadd_ps(weights[p], x, totals[c][p]);
            }
        }
    }
    for c in 0..C {
        for p in 0..P {
            *sums.add(c * P + p) = totals[c][p];
        }
    }
}
