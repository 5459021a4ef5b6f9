//! [`Area`]s under the ROC and precision-recall curves, from counted scores.

use crate::scores::ScoreCounts;
use crate::sum::Sum;

/// An area under a curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    /// The area, in 0..=1.
    pub value: f64,
    /// The most by which `value` may be off because scores that lie close together were no longer told apart;
    /// 0 when every distinct score was kept.
    pub error_bound: f64,
}

/// Areas of one class against the rest, or of all classes together. `None` where undefined.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Areas {
    /// Needs rows of the class and rows of others.
    pub(crate) roc_auc: Option<Area>,
    /// Needs rows of the class.
    pub(crate) average_precision: Option<Area>,
}

/// Areas of each class, and those of all (row, class) pairs together, in one pass over settled `counts`.
/// `support`: rows of each class, of `rows` in all.
pub(crate) fn areas(counts: &ScoreCounts, support: &[u64], rows: u64) -> (Vec<Areas>, Areas) {
    let positives: u64 = support.iter().sum();
    let exact = counts.dropped_bits() == 0;
    let mut classes: Vec<Curve> = support.iter().map(|p| Curve::new(*p, rows - p, exact)).collect();
    let mut all = Curve::new(positives, rows * support.len() as u64 - positives, exact);
    // Equal scores of different classes are one step of the curve of all.
    let mut step = (0, 0, 0);
    for bin in counts.bins() {
        classes[bin.class as usize].climb(bin.negatives, bin.positives);
        if bin.key != step.0 {
            all.climb(step.1, step.2);
            step = (bin.key, 0, 0);
        }
        step = (bin.key, step.1 + bin.negatives, step.2 + bin.positives);
    }
    all.climb(step.1, step.2);
    (classes.into_iter().map(Curve::areas).collect(), all.areas())
}

/// Climbs through the scores from the lowest.
struct Curve {
    positives: u64,
    negatives: u64,
    exact: bool,
    /// With a lower score than those that come next.
    positives_below: u64,
    negatives_below: u64,
    /// Pairs in which the positive has the higher score, twice, plus those in which both have the same.
    ordered_pairs_twice: u128,
    tied_pairs: u128,
    average_precision: Sum,
    average_precision_error: Sum,
}

impl Curve {
    fn new(positives: u64, negatives: u64, exact: bool) -> Self {
        Curve {
            positives,
            negatives,
            exact,
            positives_below: 0,
            negatives_below: 0,
            ordered_pairs_twice: 0,
            tied_pairs: 0,
            average_precision: Sum::default(),
            average_precision_error: Sum::default(),
        }
    }

    /// The next higher score, which `negatives` and `positives` rows have.
    fn climb(&mut self, negatives: u64, positives: u64) {
        if positives > 0 {
            let pairs = u128::from(positives) * u128::from(negatives);
            self.tied_pairs += pairs;
            self.ordered_pairs_twice += 2 * u128::from(positives) * u128::from(self.negatives_below) + pairs;
            self.add_precision(negatives, positives);
        }
        self.negatives_below += negatives;
        self.positives_below += positives;
    }

    /// Adds precision at this score, weighted by the step in recall.
    fn add_precision(&mut self, negatives: u64, positives: u64) {
        let step = positives as f64 / self.positives as f64;
        let found = self.positives - self.positives_below;
        let wrong = self.negatives - self.negatives_below;
        let at = precision(found, wrong);
        self.average_precision.add(step * at);
        if !self.exact {
            // Told apart, each of these positives would have a precision between these two.
            let best = precision(found, wrong - negatives);
            let worst = precision(found - positives + 1, wrong);
            self.average_precision_error.add(step * (best - at).max(at - worst));
        }
    }

    fn areas(self) -> Areas {
        let pairs = u128::from(self.positives) * u128::from(self.negatives);
        let roc_auc = (pairs > 0).then(|| Area {
            value: self.ordered_pairs_twice as f64 / (2 * pairs) as f64,
            error_bound: if self.exact { 0.0 } else { self.tied_pairs as f64 / (2 * pairs) as f64 },
        });
        let average_precision = (self.positives > 0).then(|| Area {
            value: self.average_precision.value().min(1.0),
            error_bound: self.average_precision_error.value(),
        });
        Areas { roc_auc, average_precision }
    }
}

/// `found` is never 0 here.
fn precision(found: u64, wrong: u64) -> f64 {
    found as f64 / (found + wrong) as f64
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Areas of class 1 of two, from (is class 1, score of class 1).
    fn of(rows: &[(bool, f32)], bytes_max: usize) -> Areas {
        let mut counts = ScoreCounts::new(2, bytes_max);
        for (positive, score) in rows {
            counts.observe(0, 1.0 - score, !positive);
            counts.observe(1, *score, *positive);
        }
        counts.settle();
        let positives = rows.iter().filter(|r| r.0).count() as u64;
        areas(&counts, &[rows.len() as u64 - positives, positives], rows.len() as u64).0[1]
    }

    #[test]
    fn textbook_case() {
        let found = of(&[(false, 0.1), (false, 0.4), (true, 0.35), (true, 0.8)], 1 << 20);
        assert_eq!(found.roc_auc, Some(Area { value: 0.75, error_bound: 0.0 }));
        let average_precision = found.average_precision.unwrap();
        assert!((average_precision.value - (0.5 + 0.5 * 2.0 / 3.0)).abs() < 1e-15);
    }

    #[test]
    fn a_constant_score_says_nothing() {
        let found = of(&[(true, 0.5), (false, 0.5), (false, 0.5), (true, 0.5)], 1 << 20);
        assert_eq!(found.roc_auc.unwrap().value, 0.5);
        assert_eq!(found.average_precision.unwrap().value, 0.5);
    }

    #[test]
    fn one_class_alone_has_no_roc_curve() {
        assert_eq!(of(&[(false, 0.5)], 1 << 20), Areas::default());
        let found = of(&[(true, 0.5)], 1 << 20);
        assert_eq!((found.roc_auc, found.average_precision.unwrap().value), (None, 1.0));
    }

    #[test]
    fn the_error_bound_holds_and_is_small() {
        let mut random = Random::new(9);
        let rows: Vec<(bool, f32)> = (0..60_000)
            .map(|_| {
                let positive = random.below(3) == 0;
                let lift = if positive { 0.3 } else { 0.0 };
                (positive, (lift + 0.7 * random.unit()) as f32)
            })
            .collect();
        let (exact, binned) = (of(&rows, 1 << 20), of(&rows, 6000));
        for (exact, binned) in
            [(exact.roc_auc, binned.roc_auc), (exact.average_precision, binned.average_precision)]
        {
            let (exact, binned) = (exact.unwrap(), binned.unwrap());
            assert_eq!(exact.error_bound, 0.0);
            assert!((exact.value - binned.value).abs() <= binned.error_bound, "{exact:?} {binned:?}");
            assert!(binned.error_bound > 0.0 && binned.error_bound < 0.01, "{binned:?}");
        }
    }
}
