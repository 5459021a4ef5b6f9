//! [`Classification`]: figures of a classifier, one prediction at a time.

use crate::areas::{Area, Areas, areas};
use crate::confidence::{ConfidenceCounts, ConfidencePoint, ratio};
use crate::confusion::Confusion;
use crate::scores::ScoreCounts;
use crate::sum::Sum;

/// The most classes that can be measured.
pub const CLASSES_MAX: usize = 16_384;

/// What to measure and how much memory it may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Measure how often the truth is among the best `k` classes, for each of these `k`.
    pub top_k: Vec<usize>,
    /// Bytes for the counts of distinct scores, from which the areas under the curves come. A distinct score of a
    /// class takes two to four bytes. Within this the areas are exact; beyond it the lowest bits of the scores are
    /// dropped and the areas come with the most they may be off by ([`Area::error_bound`]). While counts are being
    /// merged up to four times as much is in use.
    pub score_bytes_max: usize,
}

impl Options {
    /// For the many accumulators of [`crate::Slices`]: a megabyte each.
    pub fn for_slice(&self) -> Options {
        Options { score_bytes_max: self.score_bytes_max.min(1 << 20), ..self.clone() }
    }
}

impl Default for Options {
    /// No top-k; 32 MiB, within which the areas of a million rows of ten classes, no score twice, are exact.
    fn default() -> Self {
        Options { top_k: Vec::new(), score_bytes_max: 32 << 20 }
    }
}

/// Why a prediction cannot be counted. Nothing of it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ObservationError {
    /// The true class is not one of the classes.
    #[error("the true class is number {truth} of {classes} classes (counted from 0)")]
    Truth {
        /// The class given.
        truth: usize,
        /// How many there are.
        classes: usize,
    },
    /// There is not one score a class.
    #[error("the prediction has {found} scores for {classes} classes")]
    Scores {
        /// Scores given.
        found: usize,
        /// How many there should be.
        classes: usize,
    },
    /// A score, value or truth is NaN or infinite.
    #[error("a score, value or truth is not a finite number")]
    NotFinite,
}

/// Why two accumulators cannot be merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("accumulators of different classes or options cannot be merged")]
pub struct MergeError;

/// Figures of a single-label classifier, accumulated in memory that does not grow with the rows.
///
/// The predicted class of a row is the first with the highest score.
#[derive(Debug, Clone)]
pub struct Classification {
    classes: usize,
    options: Options,
    rows: u64,
    /// Of the true class of each row, clipped.
    log_loss: Sum,
    /// Whether every score so far lies in 0..=1, without which there is no log loss.
    probabilities: bool,
    confusion: Confusion,
    confidence: ConfidenceCounts,
    scores: ScoreCounts,
    /// Rows whose truth is among the best `k`, for each `k` of the options.
    top_k: Vec<u64>,
}

impl Classification {
    /// For `classes` classes, numbered from 0; `None` when there are none or more than [`CLASSES_MAX`].
    pub fn new(classes: usize, options: Options) -> Option<Self> {
        if classes == 0 || classes > CLASSES_MAX {
            return None;
        }
        Some(Classification {
            classes,
            rows: 0,
            log_loss: Sum::default(),
            probabilities: true,
            confusion: Confusion::new(classes),
            confidence: ConfidenceCounts::new(classes),
            scores: ScoreCounts::new(classes as u32, options.score_bytes_max),
            top_k: vec![0; options.top_k.len()],
            options,
        })
    }

    /// Counts one row: its true class and the score of each class.
    pub fn observe(&mut self, truth: usize, scores: &[f32]) -> Result<(), ObservationError> {
        let classes = self.classes;
        if scores.len() != classes {
            return Err(ObservationError::Scores { found: scores.len(), classes });
        }
        if truth >= classes {
            return Err(ObservationError::Truth { truth, classes });
        }
        if scores.iter().any(|s| !s.is_finite()) {
            return Err(ObservationError::NotFinite);
        }
        let best = first_highest(scores);
        self.rows += 1;
        self.add_log_loss(truth, scores);
        self.confusion.observe(truth, best);
        self.confidence.observe(truth, best, scores);
        for (class, score) in scores.iter().enumerate() {
            self.scores.observe(class as u32, *score, class == truth);
        }
        if !self.top_k.is_empty() {
            let rank = rank(truth, scores);
            let hits = self.top_k.iter_mut().zip(&self.options.top_k);
            hits.filter(|(_, k)| rank < **k).for_each(|(hits, _)| *hits += 1);
        }
        Ok(())
    }

    /// Adds all that another has counted. Whatever way rows are split, the merged figures are those of the whole.
    pub fn merge(&mut self, other: Classification) -> Result<(), MergeError> {
        if self.classes != other.classes || self.options != other.options {
            return Err(MergeError);
        }
        self.rows += other.rows;
        self.log_loss.merge(other.log_loss);
        self.probabilities &= other.probabilities;
        self.confusion.merge(&other.confusion);
        self.confidence.merge(&other.confidence);
        self.scores.merge(other.scores);
        self.top_k.iter_mut().zip(other.top_k).for_each(|(ours, theirs)| *ours += theirs);
        Ok(())
    }

    /// Rows counted.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The figures of all rows so far. More rows may follow.
    pub fn metrics(&mut self) -> ClassificationMetrics {
        self.scores.settle();
        let support = self.support();
        let (class_areas, areas) = areas(&self.scores, &support, self.rows);
        let per_class: Vec<ClassMetrics> = class_areas
            .iter()
            .enumerate()
            .map(|(class, areas)| self.class_metrics(class, support[class], areas))
            .collect();
        let right: u64 = (0..self.classes).map(|c| self.confusion.count(c, c)).sum();
        let accuracy = ratio(right, self.rows);
        let weighted = |m: &ClassMetrics| m.support as f64;
        let equal = |m: &ClassMetrics| f64::from(u8::from(m.support + m.predicted > 0));
        ClassificationMetrics {
            rows: self.rows,
            accuracy,
            log_loss: (self.rows > 0 && self.probabilities).then(|| self.log_loss.value() / self.rows as f64),
            micro: Averages {
                precision: accuracy,
                recall: accuracy,
                f1: accuracy,
                roc_auc: areas.roc_auc,
                average_precision: areas.average_precision,
            },
            macro_: averages(&per_class, equal),
            weighted: averages(&per_class, weighted),
            per_class,
            confusion: self.confusion.clone(),
            curve: self.confidence.curve(),
            top_k: self
                .options
                .top_k
                .iter()
                .zip(&self.top_k)
                .map(|(k, hits)| (*k, ratio(*hits, self.rows)))
                .collect(),
        }
    }

    /// Clipped as scikit-learn clips `f64` probabilities: by the machine's precision.
    fn add_log_loss(&mut self, truth: usize, scores: &[f32]) {
        match loss(truth, scores) {
            Some(loss) => self.log_loss.add(loss),
            None => self.probabilities = false,
        }
    }

    /// Rows of each class.
    fn support(&self) -> Vec<u64> {
        let mut support = vec![0; self.classes];
        self.confusion.entries().for_each(|(truth, _, rows)| support[truth] += rows);
        support
    }

    fn class_metrics(&self, class: usize, support: u64, areas: &Areas) -> ClassMetrics {
        let right = self.confusion.count(class, class);
        let predicted =
            self.confusion.entries().filter(|(_, p, _)| *p == class).map(|(_, _, rows)| rows).sum();
        ClassMetrics {
            support,
            predicted,
            precision: ratio(right, predicted),
            recall: ratio(right, support),
            f1: ratio(2 * right, predicted + support),
            roc_auc: areas.roc_auc,
            average_precision: areas.average_precision,
            curve: self.confidence.class_curve(class),
        }
    }
}

/// −ln of the true class's score, clipped; `None` unless every score lies in 0..=1.
pub(crate) fn loss(truth: usize, scores: &[f32]) -> Option<f64> {
    let probabilities = scores.iter().all(|s| (0.0..=1.0).contains(s));
    let probability = crate::as_written(scores[truth]).clamp(f64::EPSILON, 1.0 - f64::EPSILON);
    probabilities.then(|| -probability.ln())
}

/// Scores are finite and there is at least one.
pub(crate) fn first_highest(scores: &[f32]) -> usize {
    let mut best = 0;
    for (class, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = class;
        }
    }
    best
}

/// Classes ranked before `truth`. Among equal scores the later class goes first, as in scikit-learn's
/// `top_k_accuracy_score`.
fn rank(truth: usize, scores: &[f32]) -> usize {
    let own = scores[truth];
    scores.iter().enumerate().filter(|(class, s)| **s > own || **s == own && *class > truth).count()
}

/// Means over classes, by weight. A class without an area does not take part in the mean of that area.
pub(crate) fn averages(classes: &[ClassMetrics], weight: impl Fn(&ClassMetrics) -> f64) -> Averages {
    let mean = |value: &dyn Fn(&ClassMetrics) -> Option<f64>| {
        let (mut sum, mut weights) = (Sum::default(), 0.0);
        for class in classes {
            if let Some(value) = value(class) {
                sum.add(weight(class) * value);
                weights += weight(class);
            }
        }
        (weights > 0.0).then(|| sum.value() / weights)
    };
    let area = |of: &dyn Fn(&ClassMetrics) -> Option<Area>| {
        Some(Area {
            value: mean(&|m| of(m).map(|a| a.value))?,
            error_bound: mean(&|m| of(m).map(|a| a.error_bound))?,
        })
    };
    Averages {
        precision: mean(&|m| Some(m.precision)).unwrap_or_default(),
        recall: mean(&|m| Some(m.recall)).unwrap_or_default(),
        f1: mean(&|m| Some(m.f1)).unwrap_or_default(),
        roc_auc: area(&|m| m.roc_auc),
        average_precision: area(&|m| m.average_precision.filter(|_| m.support > 0)),
    }
}

/// Figures of a classifier over all rows.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassificationMetrics {
    /// Rows measured.
    pub rows: u64,
    /// Share of rows whose predicted class is the true one; 0 without rows.
    pub accuracy: f64,
    /// Mean of −ln(score of the true class), that score clipped to `[ε, 1 − ε]` with the ε of `f64`. `None` without
    /// rows, or when a score lies outside 0..=1 and so is no probability.
    pub log_loss: Option<f64>,
    /// Over all (row, class) pairs. Precision, recall and F1 equal the accuracy.
    pub micro: Averages,
    /// Every class counts the same, of those that occur or are predicted.
    pub macro_: Averages,
    /// Classes count by how often they occur.
    pub weighted: Averages,
    /// By class, in the order of the scores.
    pub per_class: Vec<ClassMetrics>,
    /// Which class was taken for which.
    pub confusion: Confusion,
    /// At each of [`crate::CONFIDENCE_THRESHOLDS`].
    pub curve: Vec<ConfidencePoint>,
    /// For each k asked for, the share of rows whose truth is among the k best classes.
    pub top_k: Vec<(usize, f64)>,
}

/// Figures averaged over classes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Averages {
    /// Share of predictions that are right.
    pub precision: f64,
    /// Share of rows that are found.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
    /// Area under the ROC curve, one class against the rest; over the classes that have one.
    pub roc_auc: Option<Area>,
    /// Area under the precision-recall curve (average precision), one class against the rest; over the classes
    /// that occur.
    pub average_precision: Option<Area>,
}

/// Figures of one class against the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassMetrics {
    /// Rows of this class.
    pub support: u64,
    /// Rows predicted as this class.
    pub predicted: u64,
    /// Share of those predicted as this class that are of it; 0 when none is.
    pub precision: f64,
    /// Share of this class's rows that are predicted as it; 0 when there are none.
    pub recall: f64,
    /// Harmonic mean of the two; 0 when both are.
    pub f1: f64,
    /// Area under the ROC curve; `None` unless rows of this class and of others occur.
    pub roc_auc: Option<Area>,
    /// Area under the precision-recall curve (average precision); `None` unless the class occurs.
    pub average_precision: Option<Area>,
    /// At each of [`crate::CONFIDENCE_THRESHOLDS`].
    pub curve: Vec<ConfidencePoint>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn rows(seed: u64, n: usize, classes: usize) -> Vec<(usize, Vec<f32>)> {
        let mut random = Random::new(seed);
        (0..n)
            .map(|_| {
                let truth = random.below(classes as u64) as usize;
                let mut scores: Vec<f64> = (0..classes).map(|_| random.unit()).collect();
                scores[truth] += 0.4;
                let sum: f64 = scores.iter().sum();
                (truth, scores.iter().map(|s| (s / sum) as f32).collect())
            })
            .collect()
    }

    fn measure(rows: &[(usize, Vec<f32>)], options: &Options) -> Classification {
        let mut figures = Classification::new(rows[0].1.len(), options.clone()).unwrap();
        rows.iter().for_each(|(truth, scores)| figures.observe(*truth, scores).unwrap());
        figures
    }

    #[test]
    fn any_split_gives_the_figures_of_the_whole() {
        for (seed, score_bytes_max) in [(1, 1 << 20), (2, 4096)] {
            let options = Options { top_k: vec![1, 3], score_bytes_max };
            let rows = rows(seed, 20_000, 5);
            let whole = measure(&rows, &options).metrics();
            for parts in [2, 3, 11] {
                let mut merged = Classification::new(5, options.clone()).unwrap();
                for part in rows.rchunks(rows.len() / parts) {
                    merged.merge(measure(part, &options)).unwrap();
                }
                let merged = merged.metrics();
                let (a, b) = (whole.log_loss.unwrap(), merged.log_loss.unwrap());
                assert!((a - b).abs() <= f64::EPSILON * a, "{a} {b}");
                assert_eq!(ClassificationMetrics { log_loss: whole.log_loss, ..merged }, whole);
            }
        }
    }

    #[test]
    fn memory_is_bounded() {
        let options = Options { score_bytes_max: 4096, ..Options::default() };
        let figures = measure(&rows(3, 50_000, 4), &options).metrics();
        let area = figures.macro_.roc_auc.unwrap();
        assert!(area.error_bound > 0.0 && area.error_bound < 0.01, "{area:?}");
    }

    #[test]
    fn without_rows_there_is_little_to_say() {
        let figures = Classification::new(2, Options::default()).unwrap().metrics();
        assert_eq!((figures.rows, figures.accuracy, figures.log_loss), (0, 0.0, None));
        assert_eq!((figures.micro.roc_auc, figures.macro_.average_precision), (None, None));
    }

    #[test]
    fn scores_that_are_no_probabilities_have_no_log_loss() {
        let mut figures = Classification::new(2, Options::default()).unwrap();
        figures.observe(0, &[3.0, -1.0]).unwrap();
        let metrics = figures.metrics();
        assert_eq!((metrics.accuracy, metrics.log_loss), (1.0, None));
    }

    #[test]
    fn faulty_predictions_are_refused_whole() {
        let mut figures = Classification::new(2, Options::default()).unwrap();
        let truth = ObservationError::Truth { truth: 2, classes: 2 };
        assert_eq!(figures.observe(2, &[0.5, 0.5]), Err(truth));
        let scores = ObservationError::Scores { found: 1, classes: 2 };
        assert_eq!(figures.observe(0, &[0.5]), Err(scores));
        assert_eq!(figures.observe(0, &[f32::NAN, 0.5]), Err(ObservationError::NotFinite));
        assert_eq!(figures.rows(), 0);
        assert!(Classification::new(0, Options::default()).is_none());
        assert!(Classification::new(CLASSES_MAX + 1, Options::default()).is_none());
        let other = Classification::new(3, Options::default()).unwrap();
        assert_eq!(figures.merge(other), Err(MergeError));
    }
}
