//! A weight matrix, packed for the product kernels.

use formats::Format;

use crate::buffer::{Arena, Buffer, OutOfMemory};
use crate::half::{bf16_to_f32, f16_to_f32, u16_at};
use crate::isa::Isa;
use crate::packed::{self, Layout};

/// `[rows, cols]` weights, packed for one instruction set at the bit width of the file.
#[derive(Debug)]
pub struct Matrix {
    isa: Isa,
    format: Format,
    rows: usize,
    cols: usize,
    panel_bytes: usize,
    data: Buffer,
}

/// A matrix could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The columns are not a whole number of blocks.
    #[error("cannot pack a {format} matrix of {cols} columns: {format} needs a multiple of {}", format.block_len())]
    Columns {
        /// The format.
        format: Format,
        /// Columns asked for.
        cols: usize,
    },
    /// There are more or fewer bytes than rows and columns say.
    #[error(
        "cannot pack a {format} matrix of {rows} x {cols}: it takes {expected:?} bytes, there are {found}"
    )]
    Size {
        /// The format.
        format: Format,
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        cols: usize,
        /// Bytes that these take; nothing when that is beyond all memory.
        expected: Option<usize>,
        /// Bytes given.
        found: usize,
    },
    /// There is no memory for the packed copy.
    #[error("cannot pack a {format} matrix of {rows} x {cols}")]
    Memory {
        /// The format.
        format: Format,
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        cols: usize,
        /// How much was asked for, and what the system said.
        #[source]
        source: OutOfMemory,
    },
}

impl Matrix {
    /// Packs `rows` rows of `cols` numbers, stored one after another in `bytes`, in memory of `arena`.
    ///
    /// The packed copy is as large as `bytes`, to within a few percent and the last rows' padding. Takes about a
    /// second a gigabyte on one thread; packing several matrices at once is for the caller.
    ///
    /// # Errors
    /// When `cols` is not a whole number of the format's blocks, `bytes` does not have the size that follows, or there
    /// is no memory.
    pub fn pack(
        arena: &Arena,
        isa: Isa,
        format: Format,
        rows: usize,
        cols: usize,
        bytes: &[u8],
    ) -> Result<Matrix, PackError> {
        let row_bytes = format.row_bytes(cols).ok_or(PackError::Columns { format, cols })?;
        let expected = row_bytes.checked_mul(rows);
        if expected != Some(bytes.len()) {
            return Err(PackError::Size { format, rows, cols, expected, found: bytes.len() });
        }
        let panel_bytes = panel_bytes(isa, format, cols);
        let panel_rows = isa.panel_rows();
        let panels = rows.div_ceil(panel_rows);
        let mut data = arena
            .take(panels.saturating_mul(panel_bytes))
            .map_err(|source| PackError::Memory { format, rows, cols, source })?;
        if panel_bytes > 0 {
            let sources = bytes.chunks(row_bytes * panel_rows);
            for (panel, source) in data.bytes_mut().chunks_exact_mut(panel_bytes).zip(sources) {
                for (row, source) in source.chunks_exact(row_bytes).enumerate() {
                    pack_row(format, source, panel, panel_rows, row);
                }
            }
        }
        Ok(Matrix { isa, format, rows, cols, panel_bytes, data })
    }

    /// Rows: the length of a product.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: the length of what it is multiplied with.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// How the file stored it, and at whose width it is packed.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether a product takes the other side's numbers as they are, rather than quantised.
    #[must_use]
    pub fn takes_values(&self) -> bool {
        Layout::of(self.format).is_none()
    }

    /// Bytes that it takes, and that a product reads.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Writes row `index`, as [`crate::dequantize`] defines it; `out` has `cols` numbers.
    ///
    /// # Panics
    /// When there is no such row, or `out` has another length.
    pub fn row_into(&self, index: usize, out: &mut [f32]) {
        assert!(index < self.rows, "row {index} of a matrix of {} rows", self.rows);
        assert_eq!(out.len(), self.cols, "a row has {} numbers", self.cols);
        let rows = self.isa.panel_rows();
        let row = index % rows;
        let panel = self.panel(index / rows);
        match self.format {
            Format::F32 => {
                for (bytes, x) in panel.chunks_exact(4 * rows).zip(out) {
                    let at = 4 * row;
                    *x = f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
                }
            }
            Format::F16 => read_halves(panel, rows, row, out, f16_to_f32),
            Format::Bf16 => read_halves(panel, rows, row, out, bf16_to_f32),
            quantised => packed::read_row(quantised, panel, rows, row, out),
        }
    }

    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    pub(crate) fn panels(&self) -> usize {
        self.rows.div_ceil(self.isa.panel_rows())
    }

    pub(crate) fn panel(&self, index: usize) -> &[u8] {
        &self.data.bytes()[index * self.panel_bytes..][..self.panel_bytes]
    }
}

/// Bytes of a panel of a matrix of `cols` columns, whole blocks of `format`.
fn panel_bytes(isa: Isa, format: Format, cols: usize) -> usize {
    match Layout::of(format) {
        Some(layout) => cols / format.block_len() * layout.super_bytes(isa.panel_rows()),
        None => cols * format.block_bytes() * isa.panel_rows(),
    }
}

/// Rows of floats lie side by side: a panel's numbers of column 0, then of column 1, and so on.
fn pack_row(format: Format, source: &[u8], panel: &mut [u8], rows: usize, row: usize) {
    match format {
        Format::F32 => {
            for (number, column) in source.chunks_exact(4).zip(panel.chunks_exact_mut(4 * rows)) {
                column[4 * row..4 * row + 4].copy_from_slice(number);
            }
        }
        Format::F16 | Format::Bf16 => {
            for (number, column) in source.chunks_exact(2).zip(panel.chunks_exact_mut(2 * rows)) {
                column[2 * row..2 * row + 2].copy_from_slice(number);
            }
        }
        quantised => packed::pack_row(quantised, source, panel, rows, row),
    }
}

fn read_halves(panel: &[u8], rows: usize, row: usize, out: &mut [f32], convert: fn(u16) -> f32) {
    for (bytes, x) in panel.chunks_exact(2 * rows).zip(out) {
        *x = convert(u16_at(bytes, 2 * row));
    }
}
