//! The confidence curve: what the labels would be worth if those scored below a threshold were held back.

/// The thresholds of Vertex AI's `classification_metrics_1.0.0` schema: 0.00, 0.05, … 0.95, 0.96, … 0.99.
pub const CONFIDENCE_THRESHOLDS: [f32; 24] = [
    0.00, 0.05, 0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.40, 0.45, 0.50, 0.55, 0.60, 0.65, 0.70, 0.75, 0.80,
    0.85, 0.90, 0.95, 0.96, 0.97, 0.98, 0.99,
];

const BUCKETS: usize = CONFIDENCE_THRESHOLDS.len() + 1;

/// What the labels that score at least `threshold` are worth.
///
/// For the curve of all classes, a row has as many possible labels as there are classes, of which one is right: these
/// are micro-averages. The figures *at 1* consider only the label with the highest score of each row.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfidencePoint {
    /// Labels with a score below this are held back.
    pub threshold: f64,
    /// Share of the right labels that are given.
    pub recall: f64,
    /// Share of the given labels that are right; 1 when none is given.
    pub precision: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
    /// Mean of the F1 of each class that occurs or is given.
    pub f1_macro: f64,
    /// Share of the wrong labels that are given.
    pub false_positive_rate: f64,
    /// `recall`, with only the best label of each row given.
    pub recall_at_1: f64,
    /// `precision`, with only the best label of each row given.
    pub precision_at_1: f64,
    /// `f1`, with only the best label of each row given.
    pub f1_at_1: f64,
    /// `false_positive_rate`, with only the best label of each row given.
    pub false_positive_rate_at_1: f64,
    /// Labels given and right.
    pub true_positives: u64,
    /// Labels given and wrong.
    pub false_positives: u64,
    /// Labels held back though right.
    pub false_negatives: u64,
    /// Labels held back and wrong.
    pub true_negatives: u64,
}

/// Counts of (wrong, right) labels between neighbouring thresholds, per class.
#[derive(Debug, Clone)]
pub(crate) struct ConfidenceCounts {
    given: Vec<Histogram>,
    /// Of the best label of each row alone.
    best: Vec<Histogram>,
}

/// `[n][0]` wrong and `[n][1]` right labels with a score that meets exactly the first `n` thresholds.
type Histogram = [[u64; 2]; BUCKETS];

impl ConfidenceCounts {
    pub(crate) fn new(classes: usize) -> Self {
        let empty = vec![[[0; 2]; BUCKETS]; classes];
        ConfidenceCounts { given: empty.clone(), best: empty }
    }

    /// `best` is the class with the highest score.
    pub(crate) fn observe(&mut self, truth: usize, best: usize, scores: &[f32]) {
        for (class, (histogram, score)) in self.given.iter_mut().zip(scores).enumerate() {
            histogram[bucket(*score)][usize::from(class == truth)] += 1;
        }
        self.best[best][bucket(scores[best])][usize::from(best == truth)] += 1;
    }

    pub(crate) fn merge(&mut self, other: &ConfidenceCounts) {
        let ours = self.given.iter_mut().chain(&mut self.best);
        for (ours, theirs) in ours.zip(other.given.iter().chain(&other.best)) {
            add(ours, theirs);
        }
    }

    /// The curve of one class against the rest.
    pub(crate) fn class_curve(&self, class: usize) -> Vec<ConfidencePoint> {
        let mut points = curve(&self.given[class], &self.best[class]);
        points.iter_mut().for_each(|p| p.f1_macro = p.f1);
        points
    }

    /// The curve of all classes together.
    pub(crate) fn curve(&self) -> Vec<ConfidencePoint> {
        let sum = |parts: &[Histogram]| {
            let mut total = [[0; 2]; BUCKETS];
            parts.iter().for_each(|part| add(&mut total, part));
            total
        };
        let mut points = curve(&sum(&self.given), &sum(&self.best));
        for (index, point) in points.iter_mut().enumerate() {
            point.f1_macro = self.f1_macro(index);
        }
        points
    }

    fn f1_macro(&self, threshold: usize) -> f64 {
        let (mut sum, mut classes) = (0.0, 0.0);
        for histogram in &self.given {
            let counts = Counts::at(histogram, threshold);
            if counts.right_given + counts.wrong_given + counts.right_held > 0 {
                sum += counts.f1();
                classes += 1.0;
            }
        }
        if classes > 0.0 { sum / classes } else { 0.0 }
    }
}

/// Compared as `f32`, so that a score written as 0.95 meets the threshold 0.95.
fn bucket(score: f32) -> usize {
    CONFIDENCE_THRESHOLDS.partition_point(|t| score >= *t)
}

fn add(to: &mut Histogram, from: &Histogram) {
    for (to, from) in to.iter_mut().zip(from) {
        to[0] += from[0];
        to[1] += from[1];
    }
}

fn curve(given: &Histogram, best: &Histogram) -> Vec<ConfidencePoint> {
    let thresholds = CONFIDENCE_THRESHOLDS.iter().enumerate();
    thresholds
        .map(|(index, threshold)| {
            let counts = Counts::at(given, index);
            let right = counts.right_given + counts.right_held;
            let wrong = counts.wrong_given + counts.wrong_held;
            let mut at_1 = Counts::at(best, index);
            at_1.right_held = right - at_1.right_given;
            at_1.wrong_held = wrong - at_1.wrong_given;
            ConfidencePoint {
                threshold: crate::as_written(*threshold),
                recall: counts.recall(),
                precision: counts.precision(),
                f1: counts.f1(),
                f1_macro: 0.0,
                false_positive_rate: counts.false_positive_rate(),
                recall_at_1: at_1.recall(),
                precision_at_1: at_1.precision(),
                f1_at_1: at_1.f1(),
                false_positive_rate_at_1: at_1.false_positive_rate(),
                true_positives: counts.right_given,
                false_positives: counts.wrong_given,
                false_negatives: counts.right_held,
                true_negatives: counts.wrong_held,
            }
        })
        .collect()
}

/// Labels at one threshold.
struct Counts {
    right_given: u64,
    wrong_given: u64,
    right_held: u64,
    wrong_held: u64,
}

impl Counts {
    fn at(histogram: &Histogram, threshold: usize) -> Self {
        let (held, given) = histogram.split_at(threshold + 1);
        let sum = |part: &[[u64; 2]], right: usize| part.iter().map(|counts| counts[right]).sum();
        Counts {
            right_given: sum(given, 1),
            wrong_given: sum(given, 0),
            right_held: sum(held, 1),
            wrong_held: sum(held, 0),
        }
    }

    fn recall(&self) -> f64 {
        ratio(self.right_given, self.right_given + self.right_held)
    }

    fn precision(&self) -> f64 {
        let given = self.right_given + self.wrong_given;
        if given == 0 { 1.0 } else { ratio(self.right_given, given) }
    }

    fn f1(&self) -> f64 {
        ratio(2 * self.right_given, 2 * self.right_given + self.wrong_given + self.right_held)
    }

    fn false_positive_rate(&self) -> f64 {
        ratio(self.wrong_given, self.wrong_given + self.wrong_held)
    }
}

/// 0 of 0 is 0.
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_written_like_a_threshold_meets_it() {
        for (index, threshold) in CONFIDENCE_THRESHOLDS.iter().enumerate() {
            assert_eq!(bucket(*threshold), index + 1);
            assert_eq!(bucket(threshold.next_down()), index);
        }
    }

    #[test]
    fn a_curve_by_hand() {
        let mut counts = ConfidenceCounts::new(3);
        counts.observe(0, 0, &[0.7, 0.2, 0.1]);
        counts.observe(1, 0, &[0.5, 0.4, 0.1]);
        let curve = counts.curve();
        let at = |threshold: f64| {
            curve.iter().find(|p| (p.threshold - threshold).abs() < 1e-12).cloned().unwrap_or_else(|| {
                unreachable!("no point at {threshold}");
            })
        };
        let all = at(0.0);
        assert_eq!((all.recall, all.precision, all.false_positive_rate), (1.0, 2.0 / 6.0, 1.0));
        assert_eq!((all.recall_at_1, all.precision_at_1, all.false_positive_rate_at_1), (0.5, 0.5, 0.25));
        let some = at(0.4);
        assert_eq!((some.true_positives, some.false_positives), (2, 1));
        assert_eq!((some.false_negatives, some.true_negatives), (0, 3));
        // F1: class 0 has 2/3, class 1 has 1, class 2 neither occurs nor is given.
        assert!((some.f1_macro - (2.0 / 3.0 + 1.0) / 2.0).abs() < 1e-15);
        let most = at(0.6);
        assert_eq!((most.recall, most.precision, most.precision_at_1), (0.5, 1.0, 1.0));
        let none = at(0.99);
        assert_eq!((none.recall, none.precision, none.f1), (0.0, 1.0, 0.0));
        let second = &counts.class_curve(1)[0];
        assert_eq!((second.recall, second.precision, second.recall_at_1), (1.0, 0.5, 0.0));
    }
}
