//! The product with AVX-512 VNNI: panels of 16 rows, 8-bit products summed in 32 bits by `vpdpbusd`.
//!
//! `vpdpbusd` multiplies unsigned codes with signed activations and adds four neighbours without saturating, so no width
//! needs care: signed codes are made unsigned by a centre, whose share is taken off through the activations' sums, in
//! integers. The sums are those of every other set, and the f32 operations after them as well.
#![allow(clippy::needless_range_loop, reason = "an index runs through several small arrays, unrolled")]
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "every function here is instructions and pointers through and through"
)]

use std::arch::x86_64::*;

use formats::Format;

use super::Call;
use super::unroll::{eight, for_panels};
use crate::activations::Column;
use crate::dequantize::{IQ4_VALUES, MXFP4_DOUBLED};
use crate::expect::expect_read;
use crate::packed::Layout;

/// Rows of a panel: 32-bit sums of a vector.
const ROWS: usize = 16;
/// Vectors that one pass over a panel takes: their sums, in integers and in floats, stay in registers beside the eight
/// that hold a block's codes.
const PASS: usize = 8;
/// Vectors that a step with floats takes at once.
const STEP: usize = 4;

/// Computes `call`.
///
/// # Safety
/// The CPU must have AVX-512 F, BW, VL and VNNI; `sums` must be valid for `count * panels * 16` numbers, 64-byte aligned.
pub(super) unsafe fn run(call: &Call<'_>, sums: *mut f32) {
    match call.panels {
        1 => run_panels::<1>(call, [call.panel(0).as_ptr()], sums.cast()),
        _ => run_panels::<2>(call, [call.panel(0).as_ptr(), call.panel(1).as_ptr()], sums.cast()),
    }
}

unsafe fn run_panels<const P: usize>(call: &Call<'_>, panels: [*const u8; P], sums: *mut __m512) {
    match call.matrix.format() {
        Format::F32 => floats::<F32, P>(call, panels, sums),
        Format::F16 => floats::<F16, P>(call, panels, sums),
        Format::Bf16 => floats::<Bf16, P>(call, panels, sums),
        Format::Q8_0 => blocks::<Q8_0, P>(call, panels, sums),
        Format::Q4_0 => blocks::<Q4_0, P>(call, panels, sums),
        Format::Q4_1 => blocks::<Q4_1, P>(call, panels, sums),
        Format::Q5_0 => blocks::<Q5_0, P>(call, panels, sums),
        Format::Q5_1 => blocks::<Q5_1, P>(call, panels, sums),
        Format::Q2K => blocks::<Q2K, P>(call, panels, sums),
        Format::Q3K => blocks::<Q3K, P>(call, panels, sums),
        Format::Q4K => blocks::<Q4K, P>(call, panels, sums),
        Format::Q5K => blocks::<Q5K, P>(call, panels, sums),
        Format::Q6K => blocks::<Q6K, P>(call, panels, sums),
        Format::Iq4Nl => blocks::<Iq4Nl, P>(call, panels, sums),
        Format::Iq4Xs => blocks::<Iq4Xs, P>(call, panels, sums),
        Format::Mxfp4 => blocks::<Mxfp4, P>(call, panels, sums),
    }
}

/// One packed format, as these instructions read it.
trait Packed {
    /// The format, for its layout.
    const FORMAT: Format;
    /// What is read once a super-block.
    type Head: Copy;
    /// A block of a panel, unpacked.
    type Tile: Tile;
    /// Reads the head of a super-block.
    unsafe fn head(at: *const u8) -> Self::Head;
    /// Unpacks a block.
    unsafe fn tile(at: *const u8, head: Self::Head) -> Self::Tile;
}

/// 16 rows by 32 columns of weights, ready to be multiplied.
trait Tile: Copy {
    /// Adds the products of `P` tiles with `C` vectors to `sums`.
    unsafe fn step<const P: usize, const C: usize>(
        tiles: &[Self; P],
        columns: *const Column,
        sums: &mut [[__m512; P]; C],
    );
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn blocks<F: Packed, const P: usize>(call: &Call<'_>, panels: [*const u8; P], sums: *mut __m512) {
    match call.count {
        1 => pass::<F, P, 1>(call, panels, 0, sums, P),
        2 => pass::<F, P, 2>(call, panels, 0, sums, P),
        3 => pass::<F, P, 3>(call, panels, 0, sums, P),
        4 => pass::<F, P, 4>(call, panels, 0, sums, P),
        _ => {
            for p in 0..P {
                many::<F>(call, panels[p], sums.add(p), P);
            }
        }
    }
}

/// Any number of vectors with one panel, a pass over it for every eight: after the first it is in the first-level cache,
/// and to unpack it again is cheaper than to keep more sums than there are registers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn many<F: Packed>(call: &Call<'_>, panel: *const u8, sums: *mut __m512, stride: usize) {
    let mut at = 0;
    while at < call.count {
        let sums = sums.add(at * stride);
        let taken = match call.count - at {
            PASS.. => PASS,
            left => left.min(4),
        };
        match taken {
            1 => pass::<F, 1, 1>(call, [panel], at, sums, stride),
            2 => pass::<F, 1, 2>(call, [panel], at, sums, stride),
            3 => pass::<F, 1, 3>(call, [panel], at, sums, stride),
            4 => pass::<F, 1, 4>(call, [panel], at, sums, stride),
            _ => pass::<F, 1, PASS>(call, [panel], at, sums, stride),
        }
        at += taken;
    }
}

/// Vectors `first..first + C` with `P` panels; the sums of a vector go to `sums`, those of the next one `stride` further.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn pass<F: Packed, const P: usize, const C: usize>(
    call: &Call<'_>,
    mut panels: [*const u8; P],
    first: usize,
    sums: *mut __m512,
    stride: usize,
) {
    let Some(layout) = (const { Layout::of(F::FORMAT) }) else { return };
    let mut totals = [[_mm512_setzero_ps(); P]; C];
    let len = call.panel(0).len();
    let ahead = call.panels * len;
    // Past the last block this points beyond the array, and is not read.
    let mut columns = call.columns().wrapping_add(first);
    for _ in 0..len / layout.super_bytes(ROWS) {
        let heads: [F::Head; P] = for_panels!(|p| F::head(panels[p]));
        for panel in &mut panels {
            *panel = panel.add(layout.head_bytes(ROWS));
        }
        for _ in 0..layout.blocks {
            let tiles: [F::Tile; P] = for_panels!(|p| F::tile(panels[p], heads[p]));
            F::Tile::step::<P, C>(&tiles, columns, &mut totals);
            for panel in &mut panels {
                if first == 0 {
                    expect_read(panel.wrapping_add(ahead), layout.block_bytes(ROWS));
                }
                *panel = panel.add(layout.block_bytes(ROWS));
            }
            columns = columns.wrapping_add(call.activations.m());
        }
    }
    for c in 0..C {
        for p in 0..P {
            *sums.add(c * stride + p) = totals[c][p];
        }
    }
}

type Codes = [__m512i; 8];

/// Sums of codes times activations over columns `4 * from..4 * to` of a block, by row, beginning with `begin`, one
/// number for each vector.
#[inline(always)]
unsafe fn dot<const P: usize, const C: usize>(
    codes: [&Codes; P],
    columns: *const Column,
    from: usize,
    to: usize,
    begin: [__m512i; C],
) -> [[__m512i; P]; C] {
    let mut totals = [[_mm512_setzero_si512(); P]; C];
    for c in 0..C {
        totals[c] = [begin[c]; P];
    }
    for k in from..to {
        for c in 0..C {
            let four: *const i32 = (&raw const (*columns.add(c)).codes).cast();
            let x = _mm512_set1_epi32(*four.add(k));
            for p in 0..P {
                totals[c][p] = _mm512_dpbusd_epi32(totals[c][p], codes[p][k], x);
            }
        }
    }
    totals
}

/// Where sums begin that have nothing taken off.
#[inline(always)]
unsafe fn zeros<const C: usize>() -> [__m512i; C] {
    [_mm512_setzero_si512(); C]
}

/// `-CENTRE * sum`: what is taken off a product whose codes have a centre, with activations of this sum.
#[inline(always)]
unsafe fn less<const CENTRE: i32>(sum: i32) -> __m512i {
    let sum = _mm512_set1_epi32(sum);
    let share = match CENTRE {
        4 => _mm512_slli_epi32::<2>(sum),
        8 => _mm512_slli_epi32::<3>(sum),
        16 => _mm512_slli_epi32::<4>(sum),
        32 => _mm512_slli_epi32::<5>(sum),
        128 => _mm512_slli_epi32::<7>(sum),
        _ => _mm512_mullo_epi32(sum, _mm512_set1_epi32(CENTRE)),
    };
    _mm512_sub_epi32(_mm512_setzero_si512(), share)
}

/// `scale * code + offset`.
#[derive(Clone, Copy)]
struct Affine {
    codes: Codes,
    scale: __m512,
    offset: __m512,
}

impl Tile for Affine {
    #[inline(always)]
    unsafe fn step<const P: usize, const C: usize>(
        tiles: &[Self; P],
        columns: *const Column,
        sums: &mut [[__m512; P]; C],
    ) {
        let products = dot::<P, C>(for_panels!(|p| &tiles[p].codes), columns, 0, 8, zeros());
        for c in 0..C {
            let column = columns.add(c);
            let (scale, sum) = (_mm512_set1_ps((*column).scale), _mm512_set1_ps((*column).sum));
            for p in 0..P {
                let total = &mut sums[c][p];
                let by = _mm512_mul_ps(tiles[p].scale, scale);
                let added = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products[c][p]), by, *total);
                *total = _mm512_fmadd_ps(tiles[p].offset, sum, added);
            }
        }
    }
}

/// `scale * (code - CENTRE)`.
#[derive(Clone, Copy)]
struct Around<const CENTRE: i32> {
    codes: Codes,
    scale: __m512,
}

impl<const CENTRE: i32> Tile for Around<CENTRE> {
    #[inline(always)]
    unsafe fn step<const P: usize, const C: usize>(
        tiles: &[Self; P],
        columns: *const Column,
        sums: &mut [[__m512; P]; C],
    ) {
        // The centre's share is taken off first, where it costs an operation a vector and none a row.
        let mut begin = zeros::<C>();
        for c in 0..C {
            begin[c] = less::<CENTRE>((*columns.add(c)).total);
        }
        let products = dot::<P, C>(for_panels!(|p| &tiles[p].codes), columns, 0, 8, begin);
        for c in 0..C {
            let column = columns.add(c);
            let scale = _mm512_set1_ps((*column).scale);
            for p in 0..P {
                let total = &mut sums[c][p];
                let by = _mm512_mul_ps(tiles[p].scale, scale);
                *total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products[c][p]), by, *total);
            }
        }
    }
}

/// `scale * factors[half] * (code - CENTRE)`.
#[derive(Clone, Copy)]
struct Centred<const CENTRE: i32> {
    codes: Codes,
    scale: __m512,
    factors: [__m512i; 2],
}

impl<const CENTRE: i32> Tile for Centred<CENTRE> {
    #[inline(always)]
    unsafe fn step<const P: usize, const C: usize>(
        tiles: &[Self; P],
        columns: *const Column,
        sums: &mut [[__m512; P]; C],
    ) {
        let mut begin = [zeros::<C>(); 2];
        for c in 0..C {
            let halves = (*columns.add(c)).halves;
            begin[0][c] = less::<CENTRE>(halves[0].into());
            begin[1][c] = less::<CENTRE>(halves[1].into());
        }
        let first = dot::<P, C>(for_panels!(|p| &tiles[p].codes), columns, 0, 4, begin[0]);
        let second = dot::<P, C>(for_panels!(|p| &tiles[p].codes), columns, 4, 8, begin[1]);
        for c in 0..C {
            let column = columns.add(c);
            let scale = _mm512_set1_ps((*column).scale);
            for p in 0..P {
                let total = &mut sums[c][p];
                let product = _mm512_add_epi32(
                    _mm512_mullo_epi32(first[c][p], tiles[p].factors[0]),
                    _mm512_mullo_epi32(second[c][p], tiles[p].factors[1]),
                );
                let by = _mm512_mul_ps(tiles[p].scale, scale);
                *total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(product), by, *total);
            }
        }
    }
}

/// `scale * factors[half] * code - min * minima[half]`.
#[derive(Clone, Copy)]
struct Halved {
    codes: Codes,
    scale: __m512,
    min: __m512,
    factors: [__m512i; 2],
    minima: [__m512i; 2],
}

impl Tile for Halved {
    #[inline(always)]
    unsafe fn step<const P: usize, const C: usize>(
        tiles: &[Self; P],
        columns: *const Column,
        sums: &mut [[__m512; P]; C],
    ) {
        let first = dot::<P, C>(for_panels!(|p| &tiles[p].codes), columns, 0, 4, zeros());
        let second = dot::<P, C>(for_panels!(|p| &tiles[p].codes), columns, 4, 8, zeros());
        for c in 0..C {
            let column = columns.add(c);
            let scale = _mm512_set1_ps((*column).scale);
            let halves = (*column).halves.map(i32::from);
            for p in 0..P {
                let tile = &tiles[p];
                let total = &mut sums[c][p];
                let product = _mm512_add_epi32(
                    _mm512_mullo_epi32(first[c][p], tile.factors[0]),
                    _mm512_mullo_epi32(second[c][p], tile.factors[1]),
                );
                let below = _mm512_add_epi32(
                    _mm512_mullo_epi32(_mm512_set1_epi32(halves[0]), tile.minima[0]),
                    _mm512_mullo_epi32(_mm512_set1_epi32(halves[1]), tile.minima[1]),
                );
                let by = _mm512_mul_ps(tile.scale, scale);
                let added = _mm512_fmadd_ps(_mm512_cvtepi32_ps(product), by, *total);
                *total = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(below), _mm512_mul_ps(tile.min, scale), added);
            }
        }
    }
}

#[inline(always)]
unsafe fn load(at: *const u8, vector: usize) -> __m512i {
    _mm512_loadu_epi8(at.add(64 * vector).cast())
}

/// Array `index` of one 16-bit number a row.
#[inline(always)]
unsafe fn units(at: *const u8, index: usize) -> __m256i {
    _mm256_loadu_si256(at.cast::<__m256i>().add(index))
}

/// Array `index` of one f16 a row.
#[inline(always)]
unsafe fn f16s(at: *const u8, index: usize) -> __m512 {
    _mm512_cvtph_ps(units(at, index))
}

#[inline(always)]
unsafe fn nibbles(at: *const u8) -> Codes {
    let mask = _mm512_set1_epi8(15);
    eight!(|k| {
        let pairs = load(at, k % 4);
        _mm512_and_si512(if k < 4 { pairs } else { _mm512_srli_epi16::<4>(pairs) }, mask)
    })
}

/// `x` with every bit `shift` places higher, lower when negative; bits cross from byte to byte.
#[inline(always)]
unsafe fn shifted(x: __m512i, shift: i32) -> __m512i {
    match shift {
        -6 => _mm512_srli_epi16::<6>(x),
        -5 => _mm512_srli_epi16::<5>(x),
        -4 => _mm512_srli_epi16::<4>(x),
        -3 => _mm512_srli_epi16::<3>(x),
        -2 => _mm512_srli_epi16::<2>(x),
        -1 => _mm512_srli_epi16::<1>(x),
        1 => _mm512_slli_epi16::<1>(x),
        2 => _mm512_slli_epi16::<2>(x),
        3 => _mm512_slli_epi16::<3>(x),
        4 => _mm512_slli_epi16::<4>(x),
        _ => x,
    }
}

/// The crumbs of code vector `k`, at bits `to` and above.
#[inline(always)]
unsafe fn crumbs(at: *const u8, k: usize, to: i32) -> __m512i {
    _mm512_and_si512(shifted(load(at, k % 2), to - 2 * (k / 2) as i32), _mm512_set1_epi8(3 << to))
}

/// The single bits of code vector `k`, at bit `to`.
#[inline(always)]
unsafe fn bits(at: *const u8, k: usize, to: i32) -> __m512i {
    _mm512_and_si512(shifted(load(at, 0), to - k as i32), _mm512_set1_epi8(1 << to))
}

#[inline(always)]
unsafe fn five_bits(at: *const u8) -> Codes {
    let low = nibbles(at);
    eight!(|k| _mm512_or_si512(low[k], bits(at.add(256), k, 4)))
}

/// 4-bit codes as indices into a table of signed bytes, made unsigned by `centre`.
#[inline(always)]
unsafe fn looked_up(codes: Codes, table: [i8; 16], centre: u8) -> Codes {
    let table = table.map(|value| (value as u8).wrapping_add(centre));
    let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
    eight!(|k| _mm512_shuffle_epi8(table, codes[k]))
}

/// The two bytes of each row as 32-bit integers, the first and the second: unsigned.
#[inline(always)]
unsafe fn unsigned_pairs(at: *const u8) -> [__m512i; 2] {
    let pairs = _mm512_cvtepu16_epi32(units(at, 0));
    [_mm512_and_si512(pairs, _mm512_set1_epi32(255)), _mm512_srli_epi32::<8>(pairs)]
}

/// As [`unsigned_pairs`]: signed.
#[inline(always)]
unsafe fn signed_pairs(at: *const u8) -> [__m512i; 2] {
    let pairs = _mm512_cvtepi16_epi32(units(at, 0));
    [_mm512_srai_epi32::<24>(_mm512_slli_epi32::<24>(pairs)), _mm512_srai_epi32::<8>(pairs)]
}

/// A block's scale and offset from its bytes and the super-block's scales for both.
#[inline(always)]
unsafe fn scaled(bytes: [__m512i; 2], head: [__m512; 2]) -> [__m512; 2] {
    let scale = _mm512_mul_ps(head[0], _mm512_cvtepi32_ps(bytes[0]));
    let below = _mm512_mul_ps(head[1], _mm512_cvtepi32_ps(bytes[1]));
    // The sign by bits: a subtraction from zero would lose that of zero.
    [scale, _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(below), _mm512_set1_epi32(i32::MIN)))]
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

packed! {
    Q8_0, (), Around<128>, |_at| (), |at, ()| {
        let sign = _mm512_set1_epi8(-128);
        Around { codes: eight!(|k| _mm512_xor_si512(load(at.add(32), k), sign)), scale: f16s(at, 0) }
    };
    Q4_0, (), Around<8>, |_at| (), |at, ()| Around { codes: nibbles(at.add(32)), scale: f16s(at, 0) };
    Q4_1, (), Affine, |_at| (), |at, ()| Affine {
        codes: nibbles(at.add(64)), scale: f16s(at, 0), offset: f16s(at, 1),
    };
    Q5_0, (), Around<16>, |_at| (), |at, ()| Around { codes: five_bits(at.add(32)), scale: f16s(at, 0) };
    Q5_1, (), Affine, |_at| (), |at, ()| Affine {
        codes: five_bits(at.add(64)), scale: f16s(at, 0), offset: f16s(at, 1),
    };
    Q2K, [__m512; 2], Halved, |at| [f16s(at, 0), f16s(at, 1)], |at, [scale, min]| {
        let [first, second] = unsigned_pairs(at);
        let low = _mm512_set1_epi32(15);
        Halved {
            codes: eight!(|k| crumbs(at.add(32), k, 0)),
            scale,
            min,
            factors: [_mm512_and_si512(first, low), _mm512_and_si512(second, low)],
            minima: [_mm512_srli_epi32::<4>(first), _mm512_srli_epi32::<4>(second)],
        }
    };
    Q3K, __m512, Centred<4>, |at| f16s(at, 0), |at, scale| Centred {
        codes: eight!(|k| _mm512_or_si512(crumbs(at.add(32), k, 0), bits(at.add(160), k, 2))),
        scale,
        factors: signed_pairs(at),
    };
    Q4K, [__m512; 2], Affine, |at| [f16s(at, 0), f16s(at, 1)], |at, head| {
        let [scale, offset] = scaled(unsigned_pairs(at), head);
        Affine { codes: nibbles(at.add(32)), scale, offset }
    };
    Q5K, [__m512; 2], Affine, |at| [f16s(at, 0), f16s(at, 1)], |at, head| {
        let [scale, offset] = scaled(unsigned_pairs(at), head);
        Affine { codes: five_bits(at.add(32)), scale, offset }
    };
    Q6K, __m512, Centred<32>, |at| f16s(at, 0), |at, scale| {
        let low = nibbles(at.add(32));
        Centred {
            codes: eight!(|k| _mm512_or_si512(low[k], crumbs(at.add(288), k, 4))),
            scale,
            factors: signed_pairs(at),
        }
    };
    Iq4Nl, (), Around<128>, |_at| (), |at, ()| Around {
        codes: looked_up(nibbles(at.add(32)), IQ4_VALUES, 128), scale: f16s(at, 0),
    };
    Iq4Xs, __m512, Around<128>, |at| f16s(at, 0), |at, head| {
        let factor = _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(units(at, 0)));
        Around { codes: looked_up(nibbles(at.add(32)), IQ4_VALUES, 128), scale: _mm512_mul_ps(head, factor) }
    };
    Mxfp4, (), Around<12>, |_at| (), |at, ()| Around {
        codes: looked_up(nibbles(at.add(32)), MXFP4_DOUBLED, 12), scale: bf16s(at, 0),
    };
}

/// Array `index` of one bf16 a row.
#[inline(always)]
unsafe fn bf16s(at: *const u8, index: usize) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(units(at, index))))
}

/// A format of plain floats.
trait Float {
    /// The sixteen rows' numbers of column `k`.
    unsafe fn load(at: *const u8, k: usize) -> __m512;
}

struct F32;

impl Float for F32 {
    #[inline(always)]
    unsafe fn load(at: *const u8, k: usize) -> __m512 {
        _mm512_loadu_ps(at.cast::<f32>().add(ROWS * k))
    }
}

struct F16;

impl Float for F16 {
    #[inline(always)]
    unsafe fn load(at: *const u8, k: usize) -> __m512 {
        f16s(at, k)
    }
}

struct Bf16;

impl Float for Bf16 {
    #[inline(always)]
    unsafe fn load(at: *const u8, k: usize) -> __m512 {
        bf16s(at, k)
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn floats<F: Float, const P: usize>(call: &Call<'_>, panels: [*const u8; P], sums: *mut __m512) {
    let cols = call.matrix.cols();
    let x = call.values().as_ptr();
    let mut at = 0;
    while at + STEP <= call.count {
        float_step::<F, P, STEP>(panels, cols, x.add(at * cols), sums.add(at * P));
        at += STEP;
    }
    while at < call.count {
        float_step::<F, P, 1>(panels, cols, x.add(at * cols), sums.add(at * P));
        at += 1;
    }
}

#[inline(always)]
unsafe fn float_step<F: Float, const P: usize, const C: usize>(
    panels: [*const u8; P],
    cols: usize,
    x: *const f32,
    sums: *mut __m512,
) {
    let mut totals = [[_mm512_setzero_ps(); P]; C];
    for k in 0..cols {
        let weights: [__m512; P] = for_panels!(|p| F::load(panels[p], k));
        for c in 0..C {
            let x = _mm512_set1_ps(*x.add(c * cols + k));
            for p in 0..P {
                totals[c][p] = _mm512_fmadd_ps(weights[p], x, totals[c][p]);
            }
        }
    }
    for c in 0..C {
        for p in 0..P {
            *sums.add(c * P + p) = totals[c][p];
        }
    }
}
