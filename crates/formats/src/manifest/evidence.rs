//! [`Evidence`]: what the `evidence` text step learnt.

use serde::{Deserialize, Serialize};

use super::packed;

/// Terms with their evidence for each class.
///
/// A text's row is, for each block (words, pairs of neighbouring words, parts of words): the sum of the
/// evidence of its terms, divided by the square root of their number; and for each chosen word: its
/// occurrences times its weight, divided by the square root of the number of known words. Then each
/// column is shifted by `mean` and divided by `deviation`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Columns of a block: the classes.
    pub classes: usize,
    /// Known words, in lower case.
    pub words: Vec<String>,
    /// `[words, classes]`
    #[serde(with = "packed::f32s")]
    pub word_evidence: Vec<f32>,
    /// Pairs of neighbouring words, as two indices into `words` each: `[pairs, 2]`. Empty where the
    /// width leaves no room for the block.
    #[serde(with = "packed::u32s")]
    pub pairs: Vec<u32>,
    /// `[pairs, classes]`
    #[serde(with = "packed::f32s")]
    pub pair_evidence: Vec<f32>,
    /// Parts of words: 3 to 5 characters, a blank marking begin and end.
    pub parts: Vec<String>,
    /// `[parts, classes]`
    #[serde(with = "packed::f32s")]
    pub part_evidence: Vec<f32>,
    /// How many of the three blocks (words, parts, pairs, in this order) the row has.
    pub blocks: usize,
    /// Words with a column of their own, as indices into `words`.
    #[serde(with = "packed::u32s")]
    pub chosen: Vec<u32>,
    /// Weight of each chosen word.
    #[serde(with = "packed::f32s")]
    pub chosen_weight: Vec<f32>,
    /// Shift of each column: `blocks * classes + chosen`.
    #[serde(with = "packed::f32s")]
    pub mean: Vec<f32>,
    /// Divisor of each column.
    #[serde(with = "packed::f32s")]
    pub deviation: Vec<f32>,
}

/// The most terms of one kind.
const TERMS_MAX: usize = 1 << 20;

impl Evidence {
    /// Columns of a row.
    pub fn width(&self) -> usize {
        self.blocks.saturating_mul(self.classes).saturating_add(self.chosen.len())
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if self.classes == 0 || !(1..=3).contains(&self.blocks) {
            return Err(format!("{} blocks of {} classes", self.blocks, self.classes));
        }
        let tables = [
            ("words", self.words.len(), &self.word_evidence),
            ("pairs", self.pairs.len() / 2, &self.pair_evidence),
            ("parts", self.parts.len(), &self.part_evidence),
        ];
        for (name, terms, table) in tables {
            if terms > TERMS_MAX || table.len() != terms.saturating_mul(self.classes) {
                return Err(format!(
                    "{} numbers for {terms} {name} of {} classes",
                    table.len(),
                    self.classes
                ));
            }
            finite(name, table)?;
        }
        let known = |index: &u32| (*index as usize) < self.words.len();
        if !self.pairs.len().is_multiple_of(2) || !self.pairs.iter().chain(&self.chosen).all(known) {
            return Err("a pair or a chosen word is not among the words".to_owned());
        }
        if self.chosen_weight.len() != self.chosen.len() {
            return Err("chosen words and their weights differ in number".to_owned());
        }
        finite("chosen weights", &self.chosen_weight)?;
        standardizer(&self.mean, &self.deviation, self.width())
    }
}

/// Refuses NaN and infinity.
pub(crate) fn finite(name: &str, values: &[f32]) -> Result<(), String> {
    match values.iter().all(|v| v.is_finite()) {
        true => Ok(()),
        false => Err(format!("a number of `{name}` is not finite")),
    }
}

/// Checks shift and divisor of `width` columns.
pub(crate) fn standardizer(mean: &[f32], deviation: &[f32], width: usize) -> Result<(), String> {
    if mean.len() != width || deviation.len() != width {
        return Err(format!("{} means and {} deviations for {width} columns", mean.len(), deviation.len()));
    }
    finite("mean", mean)?;
    finite("deviation", deviation)?;
    if deviation.iter().any(|d| *d <= 0.0) {
        return Err("a deviation is not positive".to_owned());
    }
    Ok(())
}
