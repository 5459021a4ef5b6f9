//! What each storage format's bytes mean, in the plainest code: the definition that all else is tested against.
//!
//! The formats are those of GGUF files; the definitions agree bit for bit with the `gguf` package (tests/kernels).

use formats::Format;

use crate::half::{bf16_to_f32, f16_at, u16_at};

/// The 16 values that IQ4_NL and IQ4_XS index.
pub(crate) const IQ4_VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
/// Twice the 16 values of a 4-bit float (e2m1).
pub(crate) const MXFP4_DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Writes the numbers that `bytes` are in `format`.
///
/// # Panics
/// When `out` is not as long as the whole blocks in `bytes` say, or `bytes` is not whole blocks.
pub fn dequantize(format: Format, bytes: &[u8], out: &mut [f32]) {
    let block: fn(&[u8], &mut [f32]) = match format {
        Format::F32 => |b, out| out[0] = f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
        Format::F16 => |b, out| out[0] = f16_at(b, 0),
        Format::Bf16 => |b, out| out[0] = bf16_to_f32(u16_at(b, 0)),
        Format::Q8_0 => q8_0,
        Format::Q4_0 => q4_0,
        Format::Q4_1 => q4_1,
        Format::Q5_0 => q5_0,
        Format::Q5_1 => q5_1,
        Format::Q2K => q2_k,
        Format::Q3K => q3_k,
        Format::Q4K => q4_k,
        Format::Q5K => q5_k,
        Format::Q6K => q6_k,
        Format::Iq4Nl => iq4_nl,
        Format::Iq4Xs => iq4_xs,
        Format::Mxfp4 => mxfp4,
    };
    let blocks = bytes.len() / format.block_bytes();
    assert_eq!(bytes.len(), blocks * format.block_bytes(), "{format}: not whole blocks");
    assert_eq!(out.len(), blocks * format.block_len(), "{format}: the numbers of {blocks} blocks");
    for (bytes, out) in bytes.chunks_exact(format.block_bytes()).zip(out.chunks_exact_mut(format.block_len()))
    {
        block(bytes, out);
    }
}

fn q8_0(b: &[u8], out: &mut [f32]) {
    let d = f16_at(b, 0);
    for (x, &code) in out.iter_mut().zip(&b[2..]) {
        *x = f32::from(code as i8) * d;
    }
}

fn q4_0(b: &[u8], out: &mut [f32]) {
    let d = f16_at(b, 0);
    for (i, &pair) in b[2..].iter().enumerate() {
        out[i] = (f32::from(pair & 15) - 8.0) * d;
        out[i + 16] = (f32::from(pair >> 4) - 8.0) * d;
    }
}

fn q4_1(b: &[u8], out: &mut [f32]) {
    let (d, min) = (f16_at(b, 0), f16_at(b, 2));
    for (i, &pair) in b[4..].iter().enumerate() {
        out[i] = f32::from(pair & 15) * d + min;
        out[i + 16] = f32::from(pair >> 4) * d + min;
    }
}

/// Code `i` of 32 whose low four bits are in `pairs` and whose fifth bits are in `high`.
fn five_bits(high: &[u8], pairs: &[u8], i: usize) -> f32 {
    let low = (pairs[i % 16] >> (4 * (i / 16))) & 15;
    f32::from(low | (((high[i / 8] >> (i % 8)) & 1) << 4))
}

fn q5_0(b: &[u8], out: &mut [f32]) {
    let d = f16_at(b, 0);
    for (i, x) in out.iter_mut().enumerate() {
        *x = (five_bits(&b[2..6], &b[6..], i) - 16.0) * d;
    }
}

fn q5_1(b: &[u8], out: &mut [f32]) {
    let (d, min) = (f16_at(b, 0), f16_at(b, 2));
    for (i, x) in out.iter_mut().enumerate() {
        *x = five_bits(&b[4..8], &b[8..], i) * d + min;
    }
}

fn q2_k(b: &[u8], out: &mut [f32]) {
    let (scales, codes, d, dmin) = (&b[..16], &b[16..80], f16_at(b, 80), f16_at(b, 82));
    for (i, x) in out.iter_mut().enumerate() {
        let code = (codes[32 * (i / 128) + i % 32] >> (2 * (i / 32 % 4))) & 3;
        let scale = scales[i / 16];
        *x = d * f32::from(scale & 15) * f32::from(code) - dmin * f32::from(scale >> 4);
    }
}

/// Scale `group` of 16, from twelve bytes of 6-bit numbers.
pub(crate) fn q3_k_scale(packed: &[u8], group: usize) -> i8 {
    let low = (packed[group % 8] >> (4 * (group / 8))) & 15;
    let high = (packed[8 + group % 4] >> (2 * (group / 4))) & 3;
    (low | (high << 4)) as i8 - 32
}

fn q3_k(b: &[u8], out: &mut [f32]) {
    let (mask, codes, scales, d) = (&b[..32], &b[32..96], &b[96..108], f16_at(b, 108));
    for (i, x) in out.iter_mut().enumerate() {
        let low = (codes[32 * (i / 128) + i % 32] >> (2 * (i / 32 % 4))) & 3;
        let high = (mask[i % 32] >> (i / 32)) & 1;
        *x = d * f32::from(q3_k_scale(scales, i / 16)) * (f32::from(low | (high << 2)) - 4.0);
    }
}

/// Scale and minimum `group` of 8, from twelve bytes of 6-bit numbers.
pub(crate) fn q4_k_scale(packed: &[u8], group: usize) -> (u8, u8) {
    if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        (
            (packed[group + 4] & 15) | ((packed[group - 4] >> 6) << 4),
            (packed[group + 4] >> 4) | ((packed[group] >> 6) << 4),
        )
    }
}

fn q4_k(b: &[u8], out: &mut [f32]) {
    let (d, dmin, scales, codes) = (f16_at(b, 0), f16_at(b, 2), &b[4..16], &b[16..]);
    for (i, x) in out.iter_mut().enumerate() {
        let code = (codes[32 * (i / 64) + i % 32] >> (4 * (i / 32 % 2))) & 15;
        let (scale, min) = q4_k_scale(scales, i / 32);
        *x = d * f32::from(scale) * f32::from(code) - dmin * f32::from(min);
    }
}

fn q5_k(b: &[u8], out: &mut [f32]) {
    let (d, dmin, scales, high, codes) = (f16_at(b, 0), f16_at(b, 2), &b[4..16], &b[16..48], &b[48..]);
    for (i, x) in out.iter_mut().enumerate() {
        let low = (codes[32 * (i / 64) + i % 32] >> (4 * (i / 32 % 2))) & 15;
        let code = low | (((high[i % 32] >> (i / 32)) & 1) << 4);
        let (scale, min) = q4_k_scale(scales, i / 32);
        *x = d * f32::from(scale) * f32::from(code) - dmin * f32::from(min);
    }
}

fn q6_k(b: &[u8], out: &mut [f32]) {
    let (lows, highs, scales, d) = (&b[..128], &b[128..192], &b[192..208], f16_at(b, 208));
    for (i, x) in out.iter_mut().enumerate() {
        let (half, part, at) = (i / 128, i / 32 % 4, i % 32);
        let low = (lows[64 * half + 32 * (part % 2) + at] >> (4 * (part / 2))) & 15;
        let high = (highs[32 * half + at] >> (2 * part)) & 3;
        *x = d * f32::from(scales[i / 16] as i8) * (f32::from(low | (high << 4)) - 32.0);
    }
}

fn iq4_nl(b: &[u8], out: &mut [f32]) {
    table(f16_at(b, 0), &IQ4_VALUES, &b[2..], out);
}

/// The scale of 32-element group `group` of 8, from the high bits and the low bits of 6-bit numbers.
pub(crate) fn iq4_xs_scale(high: u16, low: &[u8], group: usize) -> i8 {
    let low = (low[group / 2] >> (4 * (group % 2))) & 15;
    let high = ((high >> (2 * group)) & 3) as u8;
    (low | (high << 4)) as i8 - 32
}

fn iq4_xs(b: &[u8], out: &mut [f32]) {
    let (d, high, low) = (f16_at(b, 0), u16_at(b, 2), &b[4..8]);
    for (group, (codes, out)) in b[8..].chunks_exact(16).zip(out.chunks_exact_mut(32)).enumerate() {
        table(d * f32::from(iq4_xs_scale(high, low, group)), &IQ4_VALUES, codes, out);
    }
}

/// Half of the power of two that a byte of MXFP4 stands for: its elements are doubled.
pub(crate) fn mxfp4_scale(exponent: u8) -> f32 {
    // 2^-128 and 2^-127 are subnormal.
    let bits = if exponent < 2 { 0x0020_0000 << exponent } else { (u32::from(exponent) - 1) << 23 };
    f32::from_bits(bits)
}

fn mxfp4(b: &[u8], out: &mut [f32]) {
    table(mxfp4_scale(b[0]), &MXFP4_DOUBLED, &b[1..], out);
}

/// Sixteen pairs of indices into `values`, the low ones first.
fn table(scale: f32, values: &[i8; 16], pairs: &[u8], out: &mut [f32]) {
    for (i, &pair) in pairs.iter().enumerate() {
        out[i] = scale * f32::from(values[usize::from(pair & 15)]);
        out[i + 16] = scale * f32::from(values[usize::from(pair >> 4)]);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::random::Random;

    /// Blocks of pseudo-random bytes whose scales are finite, as `tests/kernels/test_dequantize.py` makes them.
    fn blocks(format: Format) -> Vec<u8> {
        let size = format.block_bytes();
        let uppers: &[usize] = match format {
            Format::F32 => &[3],
            Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => &[1, 3],
            Format::Q2K => &[81, 83],
            Format::Q3K => &[109],
            Format::Q6K => &[209],
            Format::Mxfp4 => &[],
            _ => &[1],
        };
        let mut random = Random::new(size as u64);
        let mut bytes: Vec<u8> = (0..64 * size).map(|_| (random.next() >> 56) as u8).collect();
        for block in bytes.chunks_exact_mut(size) {
            for &upper in uppers {
                block[upper] &= 0xbf;
            }
        }
        bytes
    }

    #[test]
    fn numbers_are_those_of_the_reference() {
        let golden = include_str!("dequantize/golden.txt");
        assert_eq!(golden.lines().count(), Format::ALL.len());
        for format in Format::ALL {
            let mut numbers = vec![0.0; 64 * format.block_len()];
            dequantize(format, &blocks(format), &mut numbers);
            let digest = numbers.iter().fold(0xcbf2_9ce4_8422_2325_u64, |digest, number| {
                (digest ^ u64::from(number.to_bits())).wrapping_mul(0x100_0000_01b3)
            });
            assert!(golden.contains(&format!("{format} {digest:016x}\n")), "{format}: {digest:016x}");
        }
    }
}
