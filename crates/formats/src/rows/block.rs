//! [`RowBlock`]: some rows of a table as text, in three allocations.

use super::number::{NumberError, parse_number, parse_within};
use super::{Names, RowFault};

/// Rows of a table with named columns; every cell is valid UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowBlock {
    names: Names,
    /// The cells, row-major, each followed by one ASCII separator.
    text: String,
    /// Where each cell ends in `text`.
    ends: Vec<usize>,
    /// Number of each row in its file.
    numbers: Vec<u64>,
}

/// Numeric cells of the good rows of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbers {
    /// `[rows.len(), columns]`, row-major.
    pub values: Vec<f32>,
    /// Which rows of the block these are.
    pub rows: Vec<usize>,
    /// The other rows, and which cell is to blame.
    pub faults: Vec<RowFault>,
}

impl RowBlock {
    /// A block of given cells, row by row.
    ///
    /// # Errors
    /// The first row that has not as many cells as there are names.
    pub fn new<S: AsRef<str>>(names: Vec<String>, first_row: u64, rows: &[Vec<S>]) -> Result<Self, RowFault> {
        let mut block =
            RowBlock { names: names.into(), text: String::new(), ends: Vec::new(), numbers: Vec::new() };
        for (row, cells) in (first_row..).zip(rows) {
            if cells.len() != block.columns() {
                return Err(RowFault { row, reason: ragged(cells.len(), block.columns()) });
            }
            block.push_row(row, cells.iter().map(AsRef::as_ref));
        }
        Ok(block)
    }

    /// Checks the arena of a decoder in bulk. Rows that are not text become faults.
    pub(super) fn from_arena(arena: Arena, names: Names, faults: &mut Vec<RowFault>) -> RowBlock {
        let Arena { bytes, ends, numbers } = arena;
        let has_nul = bytes.contains(&0);
        match String::from_utf8(bytes) {
            Ok(text) if !has_nul => RowBlock { names, text, ends, numbers },
            Ok(text) => Self::from_faulty(text.as_bytes(), &ends, &numbers, names, faults),
            Err(error) => Self::from_faulty(error.as_bytes(), &ends, &numbers, names, faults),
        }
    }

    /// As [`RowBlock::from_arena`], row by row: for the rare block in which something is wrong.
    fn from_faulty(
        bytes: &[u8],
        ends: &[usize],
        numbers: &[u64],
        names: Names,
        faults: &mut Vec<RowFault>,
    ) -> RowBlock {
        let mut block = RowBlock { names, text: String::new(), ends: Vec::new(), numbers: Vec::new() };
        let mut start = 0;
        for (row_ends, &row) in ends.chunks(block.columns().max(1)).zip(numbers) {
            let mut cells = Vec::with_capacity(row_ends.len());
            let mut bad = None;
            for (&end, name) in row_ends.iter().zip(block.names.iter()) {
                match cell_text(bytes.get(start..end).unwrap_or_default()) {
                    Ok(text) => cells.push(text),
                    Err(what) => bad = bad.or(Some(format!("column `{name}`: {what}"))),
                }
                start = end + 1;
            }
            match bad {
                Some(reason) => faults.push(RowFault { row, reason }),
                None => block.push_row(row, cells.into_iter()),
            }
        }
        block
    }

    fn push_row<'a>(&mut self, row: u64, cells: impl Iterator<Item = &'a str>) {
        for cell in cells {
            self.text.push_str(cell);
            self.ends.push(self.text.len());
            self.text.push(',');
        }
        self.numbers.push(row);
    }

    /// The allocations of the block, empty.
    pub(super) fn into_arena(self) -> Arena {
        let mut arena = Arena { bytes: self.text.into_bytes(), ends: self.ends, numbers: self.numbers };
        arena.truncate(0, 0);
        arena.numbers.clear();
        arena
    }

    /// Number of rows; may be 0 where a decoder found nothing but faulty ones.
    pub fn rows(&self) -> usize {
        self.numbers.len()
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.names.len()
    }

    /// Column names, in the file's order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The place of the column called `name`.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|n| n == name)
    }

    /// The text at `row` of this block and `column`; empty outside of the block.
    #[inline]
    pub fn cell(&self, row: usize, column: usize) -> &str {
        self.span(row, column).and_then(|(start, end)| self.text.get(start..end)).unwrap_or("")
    }

    /// Where the cell at `row` and `column` lies in the text.
    #[inline]
    fn span(&self, row: usize, column: usize) -> Option<(usize, usize)> {
        if column >= self.columns() {
            return None;
        }
        let index = row * self.columns() + column;
        let start = if index == 0 { 0 } else { self.ends.get(index - 1)? + 1 };
        Some((start, *self.ends.get(index)?))
    }

    /// The number in the cell at `row` and `column`: as [`parse_number`] of the cell, and faster.
    ///
    /// # Errors
    /// See [`parse_number`].
    #[inline]
    pub fn number(&self, row: usize, column: usize) -> Result<f64, NumberError> {
        let span = self.span(row, column);
        match span.and_then(|(start, end)| parse_within(self.text.as_bytes(), start, end)) {
            Some(number) => Ok(number),
            None => parse_number(self.cell(row, column)),
        }
    }

    /// Number in its file of `row` of this block. Numbers ascend, with gaps where faulty rows were.
    pub fn row_number(&self, row: usize) -> u64 {
        self.numbers.get(row).copied().unwrap_or_default()
    }

    /// Number in its file of the first row; 0 if there is none.
    pub fn first_row(&self) -> u64 {
        self.row_number(0)
    }

    /// The given rows of this block, in the given order; others than this block's are left out.
    pub fn select(&self, rows: &[usize]) -> RowBlock {
        let mut block = RowBlock {
            names: self.names.clone(),
            text: String::new(),
            ends: Vec::new(),
            numbers: Vec::new(),
        };
        for &row in rows.iter().filter(|&&row| row < self.rows()) {
            block.push_row(self.row_number(row), (0..self.columns()).map(|column| self.cell(row, column)));
        }
        block
    }

    /// This block with these columns only, in the given order; others than this block's are left out.
    pub fn project(&self, columns: &[usize]) -> RowBlock {
        let columns: Vec<usize> = columns.iter().copied().filter(|&column| column < self.columns()).collect();
        let mut block = RowBlock {
            names: columns.iter().map(|&column| self.names[column].clone()).collect(),
            text: String::new(),
            ends: Vec::new(),
            numbers: Vec::new(),
        };
        for row in 0..self.rows() {
            block.push_row(self.row_number(row), columns.iter().map(|&column| self.cell(row, column)));
        }
        block
    }

    /// This block with other cells in `column`, which `cell` gives by row. A row for which it gives a reason instead is
    /// left out, and a fault.
    pub fn replace(
        &self,
        column: usize,
        mut cell: impl FnMut(usize) -> Result<String, String>,
    ) -> (RowBlock, Vec<RowFault>) {
        let mut block = RowBlock {
            names: self.names.clone(),
            text: String::new(),
            ends: Vec::new(),
            numbers: Vec::new(),
        };
        let mut faults = Vec::new();
        for row in 0..self.rows() {
            match cell(row) {
                Ok(own) => {
                    let cells = (0..self.columns()).map(|at| match at == column {
                        true => own.as_str(),
                        false => self.cell(row, at),
                    });
                    block.push_row(self.row_number(row), cells);
                }
                Err(reason) => faults.push(RowFault { row: self.row_number(row), reason }),
            }
        }
        (block, faults)
    }

    /// The cells of `columns` as float32. A row with a cell that is empty, not a number, or not finite in
    /// float32 is a fault that names the column and quotes the cell. A column that this block does not
    /// have reads as empty cells.
    pub fn numbers(&self, columns: &[usize]) -> Numbers {
        let mut values = Vec::with_capacity(self.rows() * columns.len());
        let mut rows = Vec::with_capacity(self.rows());
        let mut faults = Vec::new();
        for row in 0..self.rows() {
            let kept = values.len();
            let bad = columns.iter().find_map(|&column| match self.number(row, column) {
                Ok(number) => {
                    values.push(number as f32);
                    None
                }
                Err(error) => Some((column, error)),
            });
            match bad {
                None => rows.push(row),
                Some((column, error)) => {
                    values.truncate(kept);
                    let name = self.names.get(column).map_or("", String::as_str);
                    let reason = format!("column `{name}`: {error}");
                    faults.push(RowFault { row: self.row_number(row), reason });
                }
            }
        }
        Numbers { values, rows, faults }
    }
}

/// A block under construction: cells not yet known to be text.
#[derive(Debug, Default)]
pub(super) struct Arena {
    /// The cells, row-major, each followed by one ASCII byte, so that all cells are UTF-8 if and only if
    /// the whole is.
    pub(super) bytes: Vec<u8>,
    /// Where each cell ends in `bytes`.
    pub(super) ends: Vec<usize>,
    /// Number of each row in its file.
    pub(super) numbers: Vec<u64>,
}

impl Arena {
    /// Room for a block of `bytes` and `cells` and a little more, but not for more than `bytes_max` can hold.
    pub(super) fn with_capacity((bytes, cells): (usize, usize), bytes_max: usize) -> Self {
        let room = |n: usize| (n + n / 8).min(bytes_max + 1);
        Arena {
            bytes: Vec::with_capacity(room(bytes)),
            ends: Vec::with_capacity(room(cells)),
            numbers: Vec::new(),
        }
    }

    /// Takes back an unfinished row that began at these lengths of `bytes` and `ends`.
    pub(super) fn truncate(&mut self, bytes: usize, ends: usize) {
        self.bytes.truncate(bytes);
        self.ends.truncate(ends);
    }
}

/// The reason of a row with a wrong number of cells.
pub(super) fn ragged(found: usize, expected: usize) -> String {
    format!("expected {expected} columns, found {found}")
}

/// `cell` as text, or what is wrong with it.
pub(super) fn cell_text(cell: &[u8]) -> Result<&str, &'static str> {
    match std::str::from_utf8(cell) {
        Ok(text) if text.contains('\0') => Err("a NUL byte in the text"),
        Ok(text) => Ok(text),
        Err(_) => Err("the text is not UTF-8"),
    }
}
