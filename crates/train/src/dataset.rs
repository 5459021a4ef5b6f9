//! [`Dataset`]: all training rows, as text, in memory.

use formats::rows::{RowBlock, RowFault};

use crate::{RowSource, TrainError};

/// The rows of a source, read to its end.
#[derive(Debug)]
pub(crate) struct Dataset {
    blocks: Vec<RowBlock>,
    names: Vec<String>,
    rows: u64,
}

/// Where a row lies: its block and its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RowRef {
    pub(crate) block: usize,
    pub(crate) row: usize,
}

/// The most that rows may take as text, in bytes, with 8 bytes a cell for bookkeeping.
const TEXT_BYTES_MAX: u64 = 4 << 30;

impl Dataset {
    /// Reads all rows. They are held as text in at most 4 GiB.
    pub(crate) fn read(source: &mut dyn RowSource) -> Result<Self, TrainError> {
        let mut dataset = Dataset { blocks: Vec::new(), names: Vec::new(), rows: 0 };
        let mut bytes = 0u64;
        while let Some(block) = source.next().map_err(TrainError::Source)? {
            if dataset.blocks.is_empty() {
                dataset.names = block.names().to_vec();
            } else if dataset.names != block.names() {
                let message =
                    "the columns change between parts of the rows; all files must have the same header";
                return Err(TrainError::Source(message.into()));
            }
            bytes += size(&block);
            if bytes > TEXT_BYTES_MAX {
                let what = "the rows as text";
                return Err(TrainError::TooLarge { what, bytes, limit: TEXT_BYTES_MAX });
            }
            dataset.rows += block.rows() as u64;
            dataset.blocks.push(block);
        }
        Ok(dataset)
    }

    /// Column names, in the file's order.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Rows read.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// The blocks.
    pub(crate) fn blocks(&self) -> &[RowBlock] {
        &self.blocks
    }

    /// All rows, in order.
    pub(crate) fn refs(&self) -> impl Iterator<Item = RowRef> + '_ {
        self.blocks
            .iter()
            .enumerate()
            .flat_map(|(block, b)| (0..b.rows()).map(move |row| RowRef { block, row }))
    }

    /// The text at a row and column.
    pub(crate) fn cell(&self, at: RowRef, column: usize) -> &str {
        self.blocks.get(at.block).map_or("", |block| block.cell(at.row, column))
    }

    /// The place of a column.
    pub(crate) fn column(&self, name: &str) -> Result<usize, TrainError> {
        self.names.iter().position(|n| n == name).ok_or_else(|| {
            let shown: Vec<&str> = self.names.iter().take(20).map(String::as_str).collect();
            let more = if self.names.len() > shown.len() { ", …" } else { "" };
            TrainError::MissingColumn {
                column: name.to_owned(),
                present: format!("{}{more}", shown.join(", ")),
            }
        })
    }

    /// A fault of a row.
    pub(crate) fn fault(&self, at: RowRef, reason: String) -> RowFault {
        RowFault { row: self.blocks.get(at.block).map_or(0, |block| block.row_number(at.row)), reason }
    }
}

fn size(block: &RowBlock) -> u64 {
    let cells = (0..block.rows()).flat_map(|row| (0..block.columns()).map(move |column| (row, column)));
    cells.map(|(row, column)| block.cell(row, column).len() as u64 + 9).sum()
}
