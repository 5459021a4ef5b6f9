//! How quantised rows lie in memory for the product kernels.
//!
//! A *panel* is `R` rows (8, or 16 for 512-bit vectors) side by side. Along the columns it is cut as the file's format
//! is: into *super-blocks* of 32 or 256 columns, those into *blocks* of 32. A super-block is:
//!
//! - its head: `head` arrays of one u16 a row (scales that count for all its blocks),
//! - then for each block `scales` arrays of one u16 a row, and the codes.
//!
//! The codes of a block are eight vectors of `4 R` bytes: vector `k` holds, row after row, the row's columns
//! `4k..4k+4`, so that a product multiplies it with four activations repeated `R` times and needs no sum across rows.
//! Codes of fewer than 8 bits lie in planes of that shape, at the file's own number of bits:
//!
//! | bits | planes (bytes a row) | holds |
//! |---|---|---|
//! | 2 | crumbs (8) | vector `i`, bits `2j..2j+2`: code vector `i + 2j` |
//! | 3 | crumbs, bits (4) | bit `k` of the bits: the third bit of code vector `k` |
//! | 4 | nibbles (16) | vector `i`: low half code vector `i`, high half `i + 4` |
//! | 5 | nibbles, bits | |
//! | 6 | nibbles, crumbs | |
//! | 8 | bytes (32) | |

use formats::Format;

use crate::dequantize::{IQ4_VALUES, MXFP4_DOUBLED, iq4_xs_scale, mxfp4_scale, q3_k_scale, q4_k_scale};
use crate::half::{bf16_to_f32, f16_to_f32, u16_at};

/// Columns of a block.
pub(crate) const BLOCK: usize = 32;

/// The sizes that a packed format's memory follows from; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// u16 arrays at the head of a super-block.
    pub(crate) head: usize,
    /// Blocks of a super-block.
    pub(crate) blocks: usize,
    /// u16 arrays before a block's codes.
    pub(crate) scales: usize,
    /// Bits of a code.
    pub(crate) bits: usize,
}

impl Layout {
    /// The layout of a quantised format; `None` for plain floats.
    pub(crate) const fn of(format: Format) -> Option<Layout> {
        let (head, blocks, scales, bits) = match format {
            Format::F32 | Format::F16 | Format::Bf16 => return None,
            Format::Q8_0 => (0, 1, 1, 8),
            Format::Q4_0 | Format::Iq4Nl | Format::Mxfp4 => (0, 1, 1, 4),
            Format::Q4_1 => (0, 1, 2, 4),
            Format::Q5_0 => (0, 1, 1, 5),
            Format::Q5_1 => (0, 1, 2, 5),
            Format::Q2K => (2, 8, 1, 2),
            Format::Q3K => (1, 8, 1, 3),
            Format::Q4K => (2, 8, 1, 4),
            Format::Q5K => (2, 8, 1, 5),
            Format::Q6K => (1, 8, 1, 6),
            Format::Iq4Xs => (1, 8, 1, 4),
        };
        Some(Layout { head, blocks, scales, bits })
    }

    /// Bytes of the head of a super-block, in a panel of `rows`.
    pub(crate) const fn head_bytes(self, rows: usize) -> usize {
        rows * 2 * self.head
    }

    /// Bytes of a block in a panel of `rows`.
    pub(crate) const fn block_bytes(self, rows: usize) -> usize {
        rows * (2 * self.scales + 4 * self.bits)
    }

    /// Bytes of a super-block in a panel of `rows`.
    pub(crate) const fn super_bytes(self, rows: usize) -> usize {
        self.head_bytes(rows) + self.blocks * self.block_bytes(rows)
    }
}

/// How a block's numbers follow from its codes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Numbers {
    /// `scale * code + offset`, codes unsigned.
    Affine { scale: f32, offset: f32 },
    /// `scale * code`, codes signed.
    Signed { scale: f32 },
    /// `scale * factors[half] * (code - centre)`, codes unsigned, halves of 16 columns.
    Centred { scale: f32, factors: [i32; 2], centre: i32 },
    /// `scale * factors[half] * code - min * minima[half]`, codes unsigned, halves of 16 columns.
    Halved { scale: f32, factors: [i32; 2], min: f32, minima: [i32; 2] },
}

/// A super-block of one row, as the file has it.
struct Stored<'a> {
    format: Format,
    bytes: &'a [u8],
}

impl Stored<'_> {
    /// The u16s for the head.
    fn head(&self) -> [u16; 2] {
        let at = |offset| u16_at(self.bytes, offset);
        match self.format {
            Format::Q2K => [at(80), at(82)],
            Format::Q3K => [at(108), 0],
            Format::Q4K | Format::Q5K => [at(0), at(2)],
            Format::Q6K => [at(208), 0],
            Format::Iq4Xs => [at(0), 0],
            _ => [0, 0],
        }
    }

    /// The u16s before block `block`.
    fn scales(&self, block: usize) -> [u16; 2] {
        let b = self.bytes;
        let pair = |low: u8, high: u8| [u16::from_le_bytes([low, high]), 0];
        match self.format {
            Format::Q4_1 | Format::Q5_1 => [u16_at(b, 0), u16_at(b, 2)],
            Format::Mxfp4 => [(mxfp4_scale(b[0]).to_bits() >> 16) as u16, 0],
            Format::Q2K => pair(b[2 * block], b[2 * block + 1]),
            Format::Q3K => {
                let scale = |group| q3_k_scale(&b[96..108], group) as u8;
                pair(scale(2 * block), scale(2 * block + 1))
            }
            Format::Q4K | Format::Q5K => {
                let (scale, min) = q4_k_scale(&b[4..16], block);
                pair(scale, min)
            }
            Format::Q6K => pair(b[192 + 2 * block], b[193 + 2 * block]),
            Format::Iq4Xs => [i16::from(iq4_xs_scale(u16_at(b, 2), &b[4..8], block)) as u16, 0],
            _ => [u16_at(b, 0), 0],
        }
    }

    /// The 32 codes of block `block`.
    #[inline(always)]
    fn codes(&self, block: usize) -> [u8; BLOCK] {
        let b = self.bytes;
        match self.format {
            Format::Q8_0 => std::array::from_fn(|i| b[2 + i]),
            Format::Q4_0 | Format::Iq4Nl => nibbles(&b[2..18]),
            Format::Mxfp4 => nibbles(&b[1..17]),
            Format::Q4_1 => nibbles(&b[4..20]),
            Format::Q5_0 => with_bits(nibbles(&b[6..22]), &b[2..6]),
            Format::Q5_1 => with_bits(nibbles(&b[8..24]), &b[4..8]),
            Format::Iq4Xs => nibbles(&b[8 + 16 * block..24 + 16 * block]),
            Format::Q2K => {
                let low = window(b, 16 + 32 * (block / 4));
                std::array::from_fn(|i| (low[i] >> (2 * (block % 4))) & 3)
            }
            Format::Q3K => {
                let (low, high) = (window(b, 32 + 32 * (block / 4)), window(b, 0));
                std::array::from_fn(|i| ((low[i] >> (2 * (block % 4))) & 3) | (((high[i] >> block) & 1) << 2))
            }
            Format::Q4K => {
                let low = window(b, 16 + 32 * (block / 2));
                std::array::from_fn(|i| (low[i] >> (4 * (block % 2))) & 15)
            }
            Format::Q5K => {
                let (low, high) = (window(b, 48 + 32 * (block / 2)), window(b, 16));
                std::array::from_fn(|i| {
                    ((low[i] >> (4 * (block % 2))) & 15) | (((high[i] >> block) & 1) << 4)
                })
            }
            Format::Q6K => {
                let (half, part) = (block / 4, block % 4);
                let low = window(b, 64 * half + 32 * (part % 2));
                let high = window(b, 128 + 32 * half);
                std::array::from_fn(|i| {
                    ((low[i] >> (4 * (part / 2))) & 15) | (((high[i] >> (2 * part)) & 3) << 4)
                })
            }
            Format::F32 | Format::F16 | Format::Bf16 => [0; BLOCK],
        }
    }
}

/// The 32 bytes from `at` on.
fn window(bytes: &[u8], at: usize) -> [u8; 32] {
    let mut window = [0; 32];
    window.copy_from_slice(&bytes[at..at + 32]);
    window
}

/// Sixteen pairs of 4-bit codes, the low halves first.
fn nibbles(pairs: &[u8]) -> [u8; BLOCK] {
    let mut codes = [0; BLOCK];
    for (i, &pair) in pairs.iter().enumerate().take(16) {
        codes[i] = pair & 15;
        codes[i + 16] = pair >> 4;
    }
    codes
}

/// `codes` with a fifth bit each.
fn with_bits(mut codes: [u8; BLOCK], high: &[u8]) -> [u8; BLOCK] {
    for (i, code) in codes.iter_mut().enumerate() {
        *code |= ((high[i / 8] >> (i % 8)) & 1) << 4;
    }
    codes
}

/// Packs one row into its place `row` of a zeroed panel of `panel_rows`.
pub(crate) fn pack_row(format: Format, row_bytes: &[u8], panel: &mut [u8], panel_rows: usize, row: usize) {
    let Some(layout) = Layout::of(format) else { return };
    // The format is a constant within each call, so that the loops over codes compile to one format's vector code.
    macro_rules! dispatch {
        ($($name:ident)*) => {
            match format {
                $(Format::$name => pack_row_as(Format::$name, layout, row_bytes, panel, panel_rows, row),)*
                Format::F32 | Format::F16 | Format::Bf16 => {}
            }
        };
    }
    dispatch!(Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2K Q3K Q4K Q5K Q6K Iq4Nl Iq4Xs Mxfp4);
}

#[inline(always)]
fn pack_row_as(format: Format, layout: Layout, row_bytes: &[u8], panel: &mut [u8], rows: usize, row: usize) {
    let supers = row_bytes.chunks_exact(format.block_bytes());
    for (bytes, packed) in supers.zip(panel.chunks_exact_mut(layout.super_bytes(rows))) {
        let stored = Stored { format, bytes };
        let (head, blocks) = packed.split_at_mut(layout.head_bytes(rows));
        write_units(head, rows, row, &stored.head()[..layout.head]);
        for (block, packed) in blocks.chunks_exact_mut(layout.block_bytes(rows)).enumerate() {
            let (scales, planes) = packed.split_at_mut(2 * rows * layout.scales);
            write_units(scales, rows, row, &stored.scales(block)[..layout.scales]);
            write_codes(planes, rows, row, layout.bits, &words(&stored.codes(block)));
        }
    }
}

fn write_units(out: &mut [u8], rows: usize, row: usize, units: &[u16]) {
    for (i, unit) in units.iter().enumerate() {
        let at = 2 * (i * rows + row);
        out[at..at + 2].copy_from_slice(&unit.to_le_bytes());
    }
}

fn read_unit(bytes: &[u8], rows: usize, row: usize, index: usize) -> u16 {
    u16_at(bytes, 2 * (index * rows + row))
}

/// Code vectors of one row: word `k` is the codes of columns `4k..4k+4`.
fn words(codes: &[u8; BLOCK]) -> [u32; 8] {
    std::array::from_fn(|k| {
        u32::from_le_bytes([codes[4 * k], codes[4 * k + 1], codes[4 * k + 2], codes[4 * k + 3]])
    })
}

#[inline(always)]
fn write_codes(planes: &mut [u8], rows: usize, row: usize, bits: usize, codes: &[u32; 8]) {
    let mut put = |vector: usize, word: u32| {
        let at = 4 * (vector * rows + row);
        planes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    };
    let crumbs = |i: usize, shift: u32| {
        (0..4).fold(0, |word, j| word | (((codes[i + 2 * j] >> shift) & 0x0303_0303) << (2 * j)))
    };
    let single = |shift: u32| (0..8).fold(0, |word, k| word | (((codes[k] >> shift) & 0x0101_0101) << k));
    if bits == 8 {
        codes.iter().enumerate().for_each(|(k, &word)| put(k, word));
    }
    if (4..8).contains(&bits) {
        (0..4).for_each(|i| put(i, (codes[i] & 0x0f0f_0f0f) | ((codes[i + 4] & 0x0f0f_0f0f) << 4)));
    }
    match bits {
        2 | 3 => (0..2).for_each(|i| put(i, crumbs(i, 0))),
        6 => (0..2).for_each(|i| put(4 + i, crumbs(i, 4))),
        _ => {}
    }
    match bits {
        3 => put(2, single(2)),
        5 => put(4, single(4)),
        _ => {}
    }
}

fn read_codes(planes: &[u8], rows: usize, row: usize, bits: usize) -> [u8; BLOCK] {
    let get = |vector: usize, byte: usize| planes[4 * (vector * rows + row) + byte];
    std::array::from_fn(|column| {
        let (k, byte) = (column / 4, column % 4);
        let nibble = |at: usize| (get(at + k % 4, byte) >> (4 * (k / 4))) & 15;
        let crumb = |at: usize| (get(at + k % 2, byte) >> (2 * (k / 2))) & 3;
        let bit = |at: usize| (get(at, byte) >> k) & 1;
        match bits {
            2 => crumb(0),
            3 => crumb(0) | (bit(2) << 2),
            4 => nibble(0),
            5 => nibble(0) | (bit(4) << 4),
            6 => nibble(0) | (crumb(4) << 4),
            _ => get(k, byte),
        }
    })
}

/// A block of one row of a packed panel: its codes, signed where [`Numbers::Signed`], and what they stand for.
pub(crate) fn read_block(
    format: Format,
    layout: Layout,
    packed_super: &[u8],
    rows: usize,
    row: usize,
    block: usize,
) -> ([i16; BLOCK], Numbers) {
    let (head, blocks) = packed_super.split_at(layout.head_bytes(rows));
    let packed = &blocks[block * layout.block_bytes(rows)..][..layout.block_bytes(rows)];
    let (scales, planes) = packed.split_at(2 * rows * layout.scales);
    let codes = read_codes(planes, rows, row, layout.bits);
    let head = |index| f16_to_f32(read_unit(head, rows, row, index));
    let unit = |index| read_unit(scales, rows, row, index);
    let [low, high] = unit(0).to_le_bytes();
    let signed_pair = [i32::from(low as i8), i32::from(high as i8)];
    let numbers = match format {
        Format::Q4_1 | Format::Q5_1 => {
            Numbers::Affine { scale: f16_to_f32(unit(0)), offset: f16_to_f32(unit(1)) }
        }
        Format::Q4K | Format::Q5K => {
            Numbers::Affine { scale: head(0) * f32::from(low), offset: -(head(1) * f32::from(high)) }
        }
        Format::Q6K => Numbers::Centred { scale: head(0), factors: signed_pair, centre: 32 },
        Format::Q3K => Numbers::Centred { scale: head(0), factors: signed_pair, centre: 4 },
        Format::Q2K => Numbers::Halved {
            scale: head(0),
            factors: [i32::from(low & 15), i32::from(high & 15)],
            min: head(1),
            minima: [i32::from(low >> 4), i32::from(high >> 4)],
        },
        Format::Iq4Xs => Numbers::Signed { scale: head(0) * f32::from(unit(0) as i16) },
        Format::Mxfp4 => Numbers::Signed { scale: bf16_to_f32(unit(0)) },
        Format::Q8_0 | Format::Q4_0 | Format::Q5_0 | Format::Iq4Nl => {
            Numbers::Signed { scale: f16_to_f32(unit(0)) }
        }
        Format::F32 | Format::F16 | Format::Bf16 => Numbers::Signed { scale: 0.0 },
    };
    let codes = codes.map(|code| match format {
        Format::Q8_0 => i16::from(code as i8),
        Format::Q4_0 => i16::from(code) - 8,
        Format::Q5_0 => i16::from(code) - 16,
        Format::Iq4Nl | Format::Iq4Xs => i16::from(IQ4_VALUES[usize::from(code & 15)]),
        Format::Mxfp4 => i16::from(MXFP4_DOUBLED[usize::from(code & 15)]),
        _ => i16::from(code),
    });
    (codes, numbers)
}

/// The numbers of one row of a packed panel.
pub(crate) fn read_row(format: Format, panel: &[u8], rows: usize, row: usize, out: &mut [f32]) {
    let Some(layout) = Layout::of(format) else { return };
    let supers = panel.chunks_exact(layout.super_bytes(rows));
    for (packed, out) in supers.zip(out.chunks_exact_mut(BLOCK * layout.blocks)) {
        for (block, out) in out.chunks_exact_mut(BLOCK).enumerate() {
            let (codes, numbers) = read_block(format, layout, packed, rows, row, block);
            for (i, (x, &code)) in out.iter_mut().zip(&codes).enumerate() {
                *x = number(numbers, code, i / 16);
            }
        }
    }
}

fn number(numbers: Numbers, code: i16, half: usize) -> f32 {
    let code = f32::from(code);
    match numbers {
        Numbers::Affine { scale, offset } => scale * code + offset,
        Numbers::Signed { scale } => scale * code,
        Numbers::Centred { scale, factors, centre } => scale * factors[half] as f32 * (code - centre as f32),
        Numbers::Halved { scale, factors, min, minima } => {
            scale * factors[half] as f32 * code - min * minima[half] as f32
        }
    }
}
