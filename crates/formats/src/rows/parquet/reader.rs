//! [`ParquetReader`].

use super::cell;
use super::column::ColumnReader;
use super::footer::Footer;
use super::{HELD_BYTES_MAX, ParquetError, ParquetFailure, Source, UNPACKED_BYTES_FREE, UNPACKED_FACTOR};
use crate::rows::block::Arena;
use crate::rows::{Limits, Names, Position, RowBlock, RowFault, too_long};

/// Bytes of a block of rows after which no further row is added.
const BLOCK_BYTES: usize = 16 << 20;

/// How many bytes are read at a time: of each column, within these bounds, and of all together.
const READ_BYTES: (usize, usize) = (64 << 10, 1 << 20);
const READ_BYTES_TOGETHER: usize = 64 << 20;

/// Gives the rows of a file in order.
#[derive(Debug)]
pub struct ParquetReader<S> {
    source: S,
    footer: Footer,
    limits: Limits,
    names: Names,
    /// Number of the next row in the file.
    row: u64,
    /// The next group, and rows left of the one before.
    group: usize,
    left: u64,
    columns: Vec<ColumnReader>,
    /// What the columns hold in memory.
    held: usize,
    /// Bytes of cells so far, and at most.
    unpacked: u64,
    unpacked_max: u64,
    faults: Vec<RowFault>,
}

impl<S: Source> ParquetReader<S> {
    /// A reader of what `source` holds, from `position` on, where another has stood.
    ///
    /// # Errors
    /// If it is no Parquet file, or has columns that are not read here.
    pub fn resume_at(
        mut source: S,
        limits: Limits,
        position: Position,
    ) -> Result<Self, ParquetFailure<S::Error>> {
        let footer = Footer::read(&mut source, limits.columns_max)?;
        let unpacked_max = source.size().saturating_mul(UNPACKED_FACTOR).saturating_add(UNPACKED_BYTES_FREE);
        let rows = footer.groups.iter().fold(0u64, |rows, group| rows.saturating_add(group.rows));
        if rows.saturating_mul(footer.columns.len() as u64) > unpacked_max {
            return Err(ParquetError::Bomb.into());
        }
        let names = footer.columns.iter().map(|column| column.name.clone()).collect();
        let mut reader = ParquetReader {
            source,
            footer,
            limits,
            names,
            row: 0,
            group: 0,
            left: 0,
            columns: Vec::new(),
            held: 0,
            unpacked: 0,
            unpacked_max,
            faults: Vec::new(),
        };
        reader.seek(position.row);
        Ok(reader)
    }

    /// Goes to a row. Beyond the last, there are none.
    fn seek(&mut self, row: u64) {
        let mut skip = row;
        while let Some(group) = self.footer.groups.get(self.group) {
            if skip < group.rows {
                self.row = row;
                return self.open_group(skip);
            }
            skip -= group.rows;
            self.group += 1;
        }
        self.row = row - skip;
    }

    /// Begins the next group, `skip` rows after its first.
    fn open_group(&mut self, skip: u64) {
        let Some(group) = self.footer.groups.get(self.group) else { return };
        let read_bytes = (READ_BYTES_TOGETHER / group.chunks.len().max(1)).clamp(READ_BYTES.0, READ_BYTES.1);
        let chunks = group.chunks.iter();
        self.columns = chunks.map(|chunk| ColumnReader::new(*chunk, group.rows, skip, read_bytes)).collect();
        self.held = 0;
        self.left = group.rows - skip;
        self.group += 1;
    }

    /// The place just after the last row given, faulty ones included.
    pub fn position(&self) -> Position {
        Position { offset: 0, row: self.row }
    }

    /// The faults found since the last call, by row.
    pub fn take_faults(&mut self) -> Vec<RowFault> {
        std::mem::take(&mut self.faults)
    }

    /// The next rows, at most `max_rows` good and faulty ones together; `None` after the last. A block has no rows where
    /// all that were read are faulty.
    ///
    /// # Errors
    /// If the file is damaged, unpacks to too much, or cannot be read.
    pub fn take(&mut self, max_rows: usize) -> Result<Option<RowBlock>, ParquetFailure<S::Error>> {
        while self.left == 0 {
            if self.group >= self.footer.groups.len() {
                return Ok(None);
            }
            self.open_group(0);
        }
        let rows = self.left.min(max_rows.max(1) as u64);
        let mut arena = Arena::default();
        for _ in 0..rows {
            self.take_row(&mut arena)?;
            if arena.bytes.len() >= BLOCK_BYTES {
                break;
            }
        }
        let block = RowBlock::from_arena(arena, self.names.clone(), &mut self.faults);
        self.faults.sort_by_key(|fault| fault.row);
        Ok(Some(block))
    }

    fn take_row(&mut self, arena: &mut Arena) -> Result<(), ParquetFailure<S::Error>> {
        let (bytes, ends) = (arena.bytes.len(), arena.ends.len());
        let mut long = false;
        for at in 0..self.columns.len() {
            let (Some(reader), Some(column)) = (self.columns.get_mut(at), self.footer.columns.get(at)) else {
                continue;
            };
            if reader.awaits_page() {
                self.held -= reader.held();
                reader.read_page(&mut self.source, column)?;
                self.held += reader.held();
                if self.held > HELD_BYTES_MAX {
                    return Err(ParquetError::TooWide.into());
                }
            }
            let value = reader.next(column)?;
            self.unpacked += 1;
            if let Some(value) = value
                && !long
            {
                cell::write(&mut arena.bytes, value, column.meaning);
            }
            if arena.bytes.len() - bytes > self.limits.row_bytes_max {
                self.unpacked += (arena.bytes.len() - bytes) as u64;
                arena.bytes.truncate(bytes);
                long = true;
            }
            arena.ends.push(arena.bytes.len());
            arena.bytes.push(b',');
        }
        self.unpacked += (arena.bytes.len() - bytes) as u64;
        if self.unpacked > self.unpacked_max {
            return Err(ParquetError::Bomb.into());
        }
        if long {
            arena.truncate(bytes, ends);
            self.faults.push(RowFault { row: self.row, reason: too_long(&self.limits) });
        } else {
            arena.numbers.push(self.row);
        }
        self.row += 1;
        self.left -= 1;
        Ok(())
    }
}
