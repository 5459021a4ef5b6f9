//! [`Solo`]: whether a row may run alone and yet be, bit for bit, what it is in a batch.
//!
//! The runtime multiplies a matrix of one row by another algorithm than one of several rows, which adds in another
//! order. A row alone is safe where no product has such a matrix: in a text of several tokens, say, every token is a
//! row. The shapes of a run follow from those of its inputs, so the first run of each is looked at, and the others
//! then are known.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rten::NodeId;

use crate::Tensor;

/// Shapes that are remembered; rows of others run as pairs.
const SHAPES_MAX: usize = 4096;

/// What is known of a network's products.
#[derive(Debug)]
pub(super) enum Products {
    /// None has ever a matrix of one row.
    Safe,
    /// All depend on these operands, and in each on this dimension, or the last but one.
    Of(Vec<(NodeId, Option<usize>)>),
    /// Nothing.
    Unknown,
}

/// How a single row is to be run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict<'a> {
    /// As it is.
    Alone,
    /// As two equal rows.
    Pair,
    /// As it is, with these values asked for too; then say what was [seen](Solo::saw).
    Look(&'a [(NodeId, Option<usize>)]),
}

/// What is known of a network's single rows.
#[derive(Debug)]
pub(super) struct Solo {
    products: Products,
    /// Whether the first dimension has turned out to be no batch.
    no_batch: AtomicBool,
    /// By the shapes of the inputs, whether a row is safe.
    known: Mutex<HashMap<Vec<Vec<usize>>, bool>>,
}

impl Solo {
    pub(super) fn new(products: Products) -> Self {
        Solo { products, no_batch: AtomicBool::new(false), known: Mutex::default() }
    }

    /// How to run the one row of `inputs`.
    pub(super) fn verdict(&self, inputs: &[&Tensor]) -> Verdict<'_> {
        if self.no_batch.load(Ordering::Relaxed) {
            return Verdict::Alone;
        }
        match &self.products {
            Products::Safe => Verdict::Alone,
            Products::Unknown => Verdict::Pair,
            Products::Of(operands) => {
                let known = self.known();
                match known.get(&shapes(inputs)) {
                    Some(true) => Verdict::Alone,
                    Some(false) => Verdict::Pair,
                    None if known.len() < SHAPES_MAX => Verdict::Look(operands),
                    None => Verdict::Pair,
                }
            }
        }
    }

    /// Notes how many rows the operands had in a run of `inputs`; `None` if that cannot be seen. Whether it was safe.
    pub(super) fn saw(&self, inputs: &[&Tensor], rows: Option<&[usize]>) -> bool {
        let safe = rows.is_some_and(|rows| rows.iter().all(|&rows| rows > 1));
        self.known().insert(shapes(inputs), safe);
        safe
    }

    /// Notes that two equal rows gave different results: the first dimension is no batch.
    pub(super) fn is_no_batch(&self) {
        self.no_batch.store(true, Ordering::Relaxed);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Vec<Vec<usize>>, bool>> {
        // Nothing is left half-written under the lock.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shapes(inputs: &[&Tensor]) -> Vec<Vec<usize>> {
    inputs.iter().map(|tensor| tensor.shape().to_vec()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Data;

    #[test]
    fn a_shape_is_looked_at_once() {
        let solo = Solo::new(Products::Of(vec![]));
        let long = Tensor::new(vec![1, 3], Data::I32(vec![0; 3])).unwrap();
        let short = Tensor::new(vec![1, 1], Data::I32(vec![0])).unwrap();
        assert_eq!(solo.verdict(&[&long]), Verdict::Look(&[]));
        assert!(solo.saw(&[&long], Some(&[3, 3])));
        assert_eq!(solo.verdict(&[&long]), Verdict::Alone);
        assert_eq!(solo.verdict(&[&short]), Verdict::Look(&[]));
        assert!(!solo.saw(&[&short], Some(&[3, 1])));
        assert_eq!(solo.verdict(&[&short]), Verdict::Pair);
    }

    #[test]
    fn what_cannot_be_seen_is_not_safe() {
        let solo = Solo::new(Products::Of(vec![]));
        let row = Tensor::new(vec![1, 3], Data::I32(vec![0; 3])).unwrap();
        assert!(!solo.saw(&[&row], None));
        assert_eq!(solo.verdict(&[&row]), Verdict::Pair);
    }
}
