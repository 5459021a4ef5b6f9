//! Parquet files: read to their end or refused, whatever they claim, and from a row on as from the start.
#![no_main]

use std::convert::Infallible;
use std::ops::Range;

use formats::rows::parquet::{ParquetFailure, ParquetReader, Source};
use formats::rows::{Limits, Position};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { row_bytes_max: 512, columns_max: 16 };
/// Rows looked at: a small file may claim many.
const ROWS_MAX: usize = 4096;

struct Memory<'a>(&'a [u8]);

impl Source for Memory<'_> {
    type Error = Infallible;

    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&mut self, range: Range<u64>) -> Result<Vec<u8>, Infallible> {
        let range = range.start as usize..range.end as usize;
        Ok(self.0.get(range).expect("a range within the file").to_vec())
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (from, bytes) = input;
    let (Ok(all), Ok(rest)) = (rows(bytes, 0), rows(bytes, usize::from(from))) else { return };
    let expected = all.get(usize::from(from)..).unwrap_or_default();
    let both = expected.len().min(rest.len());
    assert_eq!(expected[..both], rest[..both]);
});

/// Rows as text, those that are faulty, too.
fn rows(bytes: &[u8], from: usize) -> Result<Vec<String>, ParquetFailure<Infallible>> {
    let position = Position { offset: 0, row: from as u64 };
    let mut reader = ParquetReader::resume_at(Memory(bytes), LIMITS, position)?;
    let mut found = Vec::new();
    while let Some(block) = reader.take(64)? {
        let mut rows: Vec<(u64, String)> =
            reader.take_faults().into_iter().map(|fault| (fault.row, format!("{fault:?}"))).collect();
        for row in 0..block.rows() {
            let cells: Vec<_> = (0..block.columns()).map(|column| block.cell(row, column)).collect();
            rows.push((block.row_number(row), format!("{cells:?}")));
        }
        rows.sort();
        found.extend(rows.into_iter().map(|(_, row)| row));
        if found.len() > ROWS_MAX {
            break;
        }
    }
    Ok(found)
}
