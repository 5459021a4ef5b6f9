//! How a tensor's numbers are stored: plain floats, or blocks of a few bits a number with shared scales.

use std::fmt;

/// The storage format of one tensor.
///
/// Numbers are stored in blocks of [`Format::block_len`] consecutive elements of a row, [`Format::block_bytes`] bytes
/// a block, all integers and floats little-endian. A row holds a whole number of blocks. What a block's bytes mean is
/// defined by `kernels::dequantize`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// 32-bit IEEE 754 floats.
    F32,
    /// 16-bit IEEE 754 floats.
    F16,
    /// The upper half of a 32-bit float.
    Bf16,
    /// 32 elements: an f16 scale, 32 signed bytes.
    Q8_0,
    /// 32 elements: an f16 scale, 4 bits each around 8.
    Q4_0,
    /// 32 elements: an f16 scale and an f16 minimum, 4 bits each.
    Q4_1,
    /// 32 elements: an f16 scale, the fifth bits, 4 bits each, around 16.
    Q5_0,
    /// 32 elements: an f16 scale and an f16 minimum, the fifth bits, 4 bits each.
    Q5_1,
    /// 256 elements: 16 groups with 4-bit scales and minima, 2 bits each.
    Q2K,
    /// 256 elements: 16 groups with 6-bit scales, 3 bits each.
    Q3K,
    /// 256 elements: 8 groups with 6-bit scales and minima, 4 bits each.
    Q4K,
    /// 256 elements: 8 groups with 6-bit scales and minima, 5 bits each.
    Q5K,
    /// 256 elements: 16 groups with 8-bit scales, 6 bits each.
    Q6K,
    /// 32 elements: an f16 scale, 4-bit indices into a fixed table of 16 values.
    Iq4Nl,
    /// 256 elements: 8 groups with 6-bit scales, 4-bit indices into the table of [`Format::Iq4Nl`].
    Iq4Xs,
    /// 32 elements: a shared power of two (one byte), 4-bit floats (e2m1).
    Mxfp4,
}

impl Format {
    /// Every format, in the order of declaration.
    pub const ALL: [Format; 16] = [
        Format::F32,
        Format::F16,
        Format::Bf16,
        Format::Q8_0,
        Format::Q4_0,
        Format::Q4_1,
        Format::Q5_0,
        Format::Q5_1,
        Format::Q2K,
        Format::Q3K,
        Format::Q4K,
        Format::Q5K,
        Format::Q6K,
        Format::Iq4Nl,
        Format::Iq4Xs,
        Format::Mxfp4,
    ];

    /// The format that a GGUF file calls by this number, if it is one of ours.
    #[must_use]
    pub const fn from_gguf(number: u32) -> Option<Format> {
        Some(match number {
            0 => Format::F32,
            1 => Format::F16,
            2 => Format::Q4_0,
            3 => Format::Q4_1,
            6 => Format::Q5_0,
            7 => Format::Q5_1,
            8 => Format::Q8_0,
            10 => Format::Q2K,
            11 => Format::Q3K,
            12 => Format::Q4K,
            13 => Format::Q5K,
            14 => Format::Q6K,
            20 => Format::Iq4Nl,
            23 => Format::Iq4Xs,
            30 => Format::Bf16,
            39 => Format::Mxfp4,
            _ => return None,
        })
    }

    /// The number by which a GGUF file calls this format.
    #[must_use]
    pub const fn gguf_number(self) -> u32 {
        match self {
            Format::F32 => 0,
            Format::F16 => 1,
            Format::Q4_0 => 2,
            Format::Q4_1 => 3,
            Format::Q5_0 => 6,
            Format::Q5_1 => 7,
            Format::Q8_0 => 8,
            Format::Q2K => 10,
            Format::Q3K => 11,
            Format::Q4K => 12,
            Format::Q5K => 13,
            Format::Q6K => 14,
            Format::Iq4Nl => 20,
            Format::Iq4Xs => 23,
            Format::Bf16 => 30,
            Format::Mxfp4 => 39,
        }
    }

    /// The name as GGUF tools print it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Format::F32 => "F32",
            Format::F16 => "F16",
            Format::Bf16 => "BF16",
            Format::Q8_0 => "Q8_0",
            Format::Q4_0 => "Q4_0",
            Format::Q4_1 => "Q4_1",
            Format::Q5_0 => "Q5_0",
            Format::Q5_1 => "Q5_1",
            Format::Q2K => "Q2_K",
            Format::Q3K => "Q3_K",
            Format::Q4K => "Q4_K",
            Format::Q5K => "Q5_K",
            Format::Q6K => "Q6_K",
            Format::Iq4Nl => "IQ4_NL",
            Format::Iq4Xs => "IQ4_XS",
            Format::Mxfp4 => "MXFP4",
        }
    }

    /// Elements in a block; 1 for plain floats.
    #[must_use]
    pub const fn block_len(self) -> usize {
        match self {
            Format::F32 | Format::F16 | Format::Bf16 => 1,
            Format::Q8_0
            | Format::Q4_0
            | Format::Q4_1
            | Format::Q5_0
            | Format::Q5_1
            | Format::Iq4Nl
            | Format::Mxfp4 => 32,
            Format::Q2K | Format::Q3K | Format::Q4K | Format::Q5K | Format::Q6K | Format::Iq4Xs => 256,
        }
    }

    /// Bytes of a block.
    #[must_use]
    pub const fn block_bytes(self) -> usize {
        match self {
            Format::F32 => 4,
            Format::F16 | Format::Bf16 => 2,
            Format::Q8_0 => 2 + 32,
            Format::Q4_0 | Format::Iq4Nl => 2 + 16,
            Format::Q4_1 => 4 + 16,
            Format::Q5_0 => 2 + 4 + 16,
            Format::Q5_1 => 4 + 4 + 16,
            Format::Q2K => 16 + 64 + 4,
            Format::Q3K => 32 + 64 + 12 + 2,
            Format::Q4K => 4 + 12 + 128,
            Format::Q5K => 4 + 12 + 32 + 128,
            Format::Q6K => 128 + 64 + 16 + 2,
            Format::Iq4Xs => 2 + 2 + 4 + 128,
            Format::Mxfp4 => 1 + 16,
        }
    }

    /// Bytes of a row of `columns` elements: `None` when that is not a whole number of blocks, or overflows.
    #[must_use]
    pub const fn row_bytes(self, columns: usize) -> Option<usize> {
        if !columns.is_multiple_of(self.block_len()) {
            return None;
        }
        (columns / self.block_len()).checked_mul(self.block_bytes())
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_formats_are_each_others_inverse() {
        for format in Format::ALL {
            assert_eq!(Format::from_gguf(format.gguf_number()), Some(format));
        }
        let known = (0..=1000).filter(|&number| Format::from_gguf(number).is_some()).count();
        assert_eq!(known, Format::ALL.len());
    }

    #[test]
    fn a_row_is_whole_blocks() {
        assert_eq!(Format::Q4K.row_bytes(512), Some(288));
        assert_eq!(Format::Q4K.row_bytes(576), None);
        assert_eq!(Format::Q4_1.row_bytes(576), Some(360));
        assert_eq!(Format::F32.row_bytes(usize::MAX), None);
    }
}
