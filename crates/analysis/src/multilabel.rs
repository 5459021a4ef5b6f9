//! [`MultiLabel`]: figures of a classifier of which any number of labels may be right, one prediction at a time.

use crate::areas::areas;
use crate::classification::{
    Averages, CLASSES_MAX, ClassMetrics, MergeError, ObservationError, Options, averages,
};
use crate::confidence::ratio;
use crate::scores::ScoreCounts;

/// Figures of a multi-label classifier, accumulated in memory that does not grow with the rows.
///
/// A label is predicted where its score is at least the threshold.
#[derive(Debug, Clone)]
pub struct MultiLabel {
    threshold: f32,
    options: Options,
    rows: u64,
    /// Rows whose labels are predicted exactly.
    exact: u64,
    /// By label: rows that have it, rows that are predicted to, and both.
    counts: Vec<Counts>,
    scores: ScoreCounts,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    support: u64,
    predicted: u64,
    right: u64,
}

/// Figures of a multi-label classifier over all rows.
#[derive(Debug, Clone, PartialEq)]
pub struct MultiLabelMetrics {
    /// Rows measured.
    pub rows: u64,
    /// Share of rows of which every label is predicted and no other; 0 without rows.
    pub subset_accuracy: f64,
    /// Share of (row, label) pairs that are wrong; 0 without rows.
    pub hamming_loss: f64,
    /// Over all (row, label) pairs.
    pub micro: Averages,
    /// Every label counts the same.
    pub macro_: Averages,
    /// Labels count by how often they occur.
    pub weighted: Averages,
    /// By label, in the order of the scores; without curves.
    pub per_label: Vec<ClassMetrics>,
}

impl MultiLabel {
    /// For `labels` labels, numbered from 0; `None` when there are none or more than [`CLASSES_MAX`].
    pub fn new(labels: usize, threshold: f32, options: Options) -> Option<Self> {
        if labels == 0 || labels > CLASSES_MAX {
            return None;
        }
        Some(MultiLabel {
            threshold,
            rows: 0,
            exact: 0,
            counts: vec![Counts::default(); labels],
            scores: ScoreCounts::new(labels as u32, options.score_bytes_max),
            options,
        })
    }

    /// Counts one row: whether each label is right, and its score.
    ///
    /// # Errors
    /// If there are not as many as labels, or a score is not finite. Nothing is counted then.
    pub fn observe(&mut self, truth: &[bool], scores: &[f32]) -> Result<(), ObservationError> {
        let classes = self.counts.len();
        if scores.len() != classes || truth.len() != classes {
            return Err(ObservationError::Scores { found: scores.len(), classes });
        }
        if scores.iter().any(|score| !score.is_finite()) {
            return Err(ObservationError::NotFinite);
        }
        self.rows += 1;
        self.exact += u64::from(is_exact(truth, scores, self.threshold));
        for (label, ((counts, truth), score)) in self.counts.iter_mut().zip(truth).zip(scores).enumerate() {
            let predicted = *score >= self.threshold;
            counts.support += u64::from(*truth);
            counts.predicted += u64::from(predicted);
            counts.right += u64::from(*truth && predicted);
            self.scores.observe(label as u32, *score, *truth);
        }
        Ok(())
    }

    /// Adds all that another has counted. Whatever way rows are split, the merged figures are those of the whole.
    ///
    /// # Errors
    /// If the other has other labels or options.
    pub fn merge(&mut self, other: MultiLabel) -> Result<(), MergeError> {
        let alike = self.counts.len() == other.counts.len() && self.threshold == other.threshold;
        if !alike || self.options != other.options {
            return Err(MergeError);
        }
        self.rows += other.rows;
        self.exact += other.exact;
        for (ours, theirs) in self.counts.iter_mut().zip(other.counts) {
            ours.support += theirs.support;
            ours.predicted += theirs.predicted;
            ours.right += theirs.right;
        }
        self.scores.merge(other.scores);
        Ok(())
    }

    /// Rows counted.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The figures of all rows so far. More rows may follow.
    pub fn metrics(&mut self) -> MultiLabelMetrics {
        self.scores.settle();
        let support: Vec<u64> = self.counts.iter().map(|counts| counts.support).collect();
        let (label_areas, all_areas) = areas(&self.scores, &support, self.rows);
        let per_label: Vec<ClassMetrics> = self
            .counts
            .iter()
            .zip(&label_areas)
            .map(|(counts, areas)| ClassMetrics {
                support: counts.support,
                predicted: counts.predicted,
                precision: ratio(counts.right, counts.predicted),
                recall: ratio(counts.right, counts.support),
                f1: ratio(2 * counts.right, counts.predicted + counts.support),
                roc_auc: areas.roc_auc,
                average_precision: areas.average_precision,
                curve: Vec::new(),
            })
            .collect();
        let all = self.counts.iter().fold(Counts::default(), |all, counts| Counts {
            support: all.support + counts.support,
            predicted: all.predicted + counts.predicted,
            right: all.right + counts.right,
        });
        let wrong = all.support + all.predicted - 2 * all.right;
        MultiLabelMetrics {
            rows: self.rows,
            subset_accuracy: ratio(self.exact, self.rows),
            hamming_loss: ratio(wrong, self.rows * self.counts.len() as u64),
            micro: Averages {
                precision: ratio(all.right, all.predicted),
                recall: ratio(all.right, all.support),
                f1: ratio(2 * all.right, all.predicted + all.support),
                roc_auc: all_areas.roc_auc,
                average_precision: all_areas.average_precision,
            },
            macro_: averages(&per_label, |_| 1.0),
            weighted: averages(&per_label, |label| label.support as f64),
            per_label,
        }
    }
}

/// Whether exactly the right labels have scores of at least the threshold.
pub(crate) fn is_exact(truth: &[bool], scores: &[f32], threshold: f32) -> bool {
    truth.iter().zip(scores).all(|(truth, score)| *truth == (*score >= threshold))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn figures(rows: &[([bool; 3], [f32; 3])]) -> MultiLabel {
        let mut figures = MultiLabel::new(3, 0.5, Options::default()).unwrap();
        rows.iter().for_each(|(truth, scores)| figures.observe(truth, scores).unwrap());
        figures
    }

    const ROWS: [([bool; 3], [f32; 3]); 4] = [
        ([true, false, true], [0.9, 0.2, 0.5]),
        ([false, false, false], [0.1, 0.6, 0.2]),
        ([true, true, false], [0.4, 0.8, 0.1]),
        ([false, false, true], [0.3, 0.1, 0.7]),
    ];

    #[test]
    fn the_figures_are_those_of_the_definitions() {
        let metrics = figures(&ROWS).metrics();
        assert_eq!((metrics.rows, metrics.subset_accuracy), (4, 0.5));
        assert!((metrics.hamming_loss - 2.0 / 12.0).abs() < 1e-12);
        // Of five labels, four are found; five are predicted.
        assert!((metrics.micro.precision - 0.8).abs() < 1e-12 && (metrics.micro.recall - 0.8).abs() < 1e-12);
        let by_label: Vec<_> = metrics.per_label.iter().map(|m| (m.precision, m.recall, m.support)).collect();
        assert_eq!(by_label, [(1.0, 0.5, 2), (0.5, 1.0, 1), (1.0, 1.0, 2)]);
        assert!((metrics.macro_.precision - 2.5 / 3.0).abs() < 1e-12);
        assert!((metrics.weighted.recall - 0.8).abs() < 1e-12);
    }

    #[test]
    fn any_split_gives_the_figures_of_the_whole() {
        let whole = figures(&ROWS).metrics();
        let mut merged = figures(&ROWS[..1]);
        merged.merge(figures(&ROWS[1..])).unwrap();
        assert_eq!(merged.metrics(), whole);
        let other = MultiLabel::new(3, 0.4, Options::default()).unwrap();
        assert_eq!(merged.merge(other), Err(MergeError));
    }

    #[test]
    fn faulty_predictions_are_refused_whole() {
        let mut figures = figures(&ROWS);
        assert!(figures.observe(&[true, false], &[0.1, 0.2]).is_err());
        assert_eq!(figures.observe(&[true; 3], &[0.1, f32::NAN, 0.2]), Err(ObservationError::NotFinite));
        assert_eq!(figures.rows(), 4);
        assert!(MultiLabel::new(0, 0.5, Options::default()).is_none());
    }
}
