//! [`Confusion`]: which class was taken for which.

use std::collections::BTreeMap;

/// Rows by true and predicted class. Only pairs that occurred take memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    counts: BTreeMap<(usize, usize), u64>,
}

impl Confusion {
    pub(crate) fn new(classes: usize) -> Self {
        Confusion { classes, counts: BTreeMap::new() }
    }

    pub(crate) fn observe(&mut self, truth: usize, predicted: usize) {
        *self.counts.entry((truth, predicted)).or_default() += 1;
    }

    pub(crate) fn merge(&mut self, other: &Confusion) {
        for (pair, count) in &other.counts {
            *self.counts.entry(*pair).or_default() += count;
        }
    }

    /// How many classes there are.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Rows of class `truth` that were predicted as `predicted`.
    pub fn count(&self, truth: usize, predicted: usize) -> u64 {
        self.counts.get(&(truth, predicted)).copied().unwrap_or_default()
    }

    /// Rows of class `truth` by predicted class.
    pub fn row(&self, truth: usize) -> Vec<u64> {
        (0..self.classes).map(|predicted| self.count(truth, predicted)).collect()
    }

    /// What occurred: (true class, predicted class, rows), ascending.
    pub fn entries(&self) -> impl Iterator<Item = (usize, usize, u64)> + '_ {
        self.counts.iter().map(|((truth, predicted), count)| (*truth, *predicted, *count))
    }
}
