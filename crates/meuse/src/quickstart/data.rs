//! The shipped rows: definitions of nouns from WordNet 3.0, with what kind of thing each defines.

use std::collections::BTreeMap;

use formats::rows::CsvEncoder;

use crate::commands::rows::blocks;
use crate::failure::Result;

/// Rows to learn from: columns `text,class`.
pub(super) const TRAIN: &str = include_str!("../../data/train.csv");
/// Rows held out: the same columns.
pub(super) const HELDOUT: &str = include_str!("../../data/heldout.csv");
/// The column with the text.
pub(super) const TEXT: &str = "text";
/// The column with the answer.
pub(super) const LABEL: &str = "class";

/// What there is to say about labelled rows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Summary {
    /// How many.
    pub(super) rows: u64,
    /// How many of each class.
    pub(super) classes: BTreeMap<String, u64>,
}

impl Summary {
    /// Counts the rows of `csv`.
    pub(super) fn of(csv: &str) -> Result<Self> {
        let mut summary = Summary { rows: 0, classes: BTreeMap::new() };
        for block in blocks(csv)? {
            let Some(column) = block.column(LABEL) else { continue };
            for row in 0..block.rows() {
                summary.rows += 1;
                *summary.classes.entry(block.cell(row, column).to_owned()).or_default() += 1;
            }
        }
        Ok(summary)
    }

    /// The share of rows that one is right about who always answers the commonest class.
    pub(super) fn majority_share(&self) -> f64 {
        let most = self.classes.values().max().copied().unwrap_or(0);
        if self.rows == 0 { 0.0 } else { most as f64 / self.rows as f64 }
    }
}

/// The held-out texts alone, in the file's shuffled order: what a batch job gets to predict.
pub(super) fn texts() -> Result<Vec<u8>> {
    let mut csv = CsvEncoder::new();
    csv.text_row([TEXT]);
    for block in blocks(HELDOUT)? {
        let Some(column) = block.column(TEXT) else { continue };
        for row in 0..block.rows() {
            csv.text_row([block.cell(row, column)]);
        }
    }
    Ok(csv.take())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_shipped_rows_are_balanced_and_apart() {
        let (train, heldout) = (Summary::of(TRAIN).unwrap(), Summary::of(HELDOUT).unwrap());
        assert_eq!((train.rows, heldout.rows), (4000, 1000));
        assert_eq!(train.classes.len(), 10);
        assert!(train.classes.values().all(|n| *n == 400) && heldout.classes.values().all(|n| *n == 100));
        assert!((heldout.majority_share() - 0.1).abs() < 1e-12);
        let known: std::collections::HashSet<&str> = TRAIN.lines().skip(1).collect();
        assert!(HELDOUT.lines().skip(1).all(|row| !known.contains(row)));
    }
}
