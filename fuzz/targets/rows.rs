//! CSV and JSON Lines, cut anywhere: the same rows and faults as from the whole.
#![no_main]

use formats::rows::{CsvDecoder, JsonlDecoder, Limits};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { row_bytes_max: 512, columns_max: 16 };

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
    let (first, second) = bytes.split_at(usize::from(cut).min(bytes.len()));
    assert_eq!(csv(&[bytes]), csv(&[first, second]));
    assert_eq!(jsonl(&[bytes]), jsonl(&[first, second]));
});

/// Rows as text, and the faults.
fn csv(parts: &[&[u8]]) -> Vec<String> {
    let mut decoder = CsvDecoder::new(LIMITS);
    let mut found = Vec::new();
    let mut faults = Vec::new();
    for part in parts.iter().map(Some).chain([None]) {
        match part {
            Some(part) => decoder.push(part),
            None => decoder.finish(),
        }
        loop {
            match decoder.take(64) {
                Ok(Some(block)) => {
                    for row in 0..block.rows() {
                        let cells: Vec<_> =
                            (0..block.columns()).map(|column| block.cell(row, column)).collect();
                        found.push(format!("{} {cells:?}", block.row_number(row)));
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    found.push(error.to_string());
                    return found;
                }
            }
        }
        faults.extend(decoder.take_faults().into_iter().map(|fault| format!("{fault:?}")));
    }
    found.append(&mut faults);
    found
}

/// Rows as text, and the faults.
fn jsonl(parts: &[&[u8]]) -> Vec<String> {
    let mut decoder = JsonlDecoder::new(LIMITS);
    let mut found = Vec::new();
    let mut faults = Vec::new();
    for part in parts.iter().map(Some).chain([None]) {
        match part {
            Some(part) => decoder.push(part),
            None => decoder.finish(),
        }
        while let Some(rows) = decoder.take(64) {
            found.extend(rows.into_iter().map(|row| format!("{row:?}")));
        }
        faults.extend(decoder.take_faults().into_iter().map(|fault| format!("{fault:?}")));
    }
    found.append(&mut faults);
    found
}
