//! [`Comparison`]: two models on the same rows.

use crate::ObservationError;
use crate::classification::{first_highest, loss};
use crate::multilabel::is_exact;
use crate::random::Random;
use crate::sum::Sum;

/// Resamplings behind an interval.
pub const REPLICATES: usize = 1000;

/// Rows below which an interval by resampling promises more than it holds, so that no verdict is given.
const VERDICT_ROWS_MIN: u64 = 30;

/// The share of differences that an interval leaves out at each end.
const TAIL: f64 = 0.025;

/// Shares of 2³² that are Poisson's chances, with mean 1, of at least 1, 2, 3… ; what is left out is under 2⁻³².
const AT_LEAST: [u32; 12] = [
    2_714_937_127,
    1_134_906_959,
    344_891_874,
    81_553_513,
    15_718_922,
    2_552_004,
    357_518,
    44_020,
    4_833,
    479,
    43,
    4,
];

/// Sets the resamplings apart from other uses of a row's number.
const SEED: u64 = 0x636f_6d70_6172_6521;

/// How wrong one model was about one row, in the two figures that its kind is judged by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RowError {
    /// Of a classifier.
    Classes {
        /// Whether the first class with the highest score is the true one.
        right: bool,
        /// −ln of the true class's score, clipped; `None` if a score is no probability.
        log_loss: Option<f64>,
    },
    /// Of a model of numbers: prediction − truth.
    Value(f64),
}

impl RowError {
    /// Of the scores of each class.
    ///
    /// # Errors
    /// If there is no score of `truth`, or a score is not finite.
    pub fn of_scores(truth: usize, scores: &[f32]) -> Result<Self, ObservationError> {
        if truth >= scores.len() {
            return Err(ObservationError::Truth { truth, classes: scores.len() });
        }
        if scores.iter().any(|score| !score.is_finite()) {
            return Err(ObservationError::NotFinite);
        }
        Ok(RowError::Classes { right: first_highest(scores) == truth, log_loss: loss(truth, scores) })
    }

    /// Of the scores of labels, of which any number may be right: of all of them together, the loss their mean.
    ///
    /// # Errors
    /// If there are not as many as labels, or a score is not finite.
    pub fn of_labels(truth: &[bool], scores: &[f32], threshold: f32) -> Result<Self, ObservationError> {
        if truth.len() != scores.len() || truth.is_empty() {
            return Err(ObservationError::Scores { found: scores.len(), classes: truth.len() });
        }
        if scores.iter().any(|score| !score.is_finite()) {
            return Err(ObservationError::NotFinite);
        }
        let losses = truth.iter().zip(scores).map(|(truth, score)| {
            let of = if *truth { [*score, 1.0 - score] } else { [1.0 - score, *score] };
            loss(0, &of)
        });
        let sum: Option<f64> = losses.sum();
        let right = is_exact(truth, scores, threshold);
        Ok(RowError::Classes { right, log_loss: sum.map(|sum| sum / truth.len() as f64) })
    }

    /// Of a predicted number.
    ///
    /// # Errors
    /// If one of the two is not finite.
    pub fn of_value(truth: f64, prediction: f64) -> Result<Self, ObservationError> {
        let error = prediction - truth;
        if error.is_finite() { Ok(RowError::Value(error)) } else { Err(ObservationError::NotFinite) }
    }
}

/// What is summed of a row: of each model, the terms of its two figures.
type Terms = [[f64; 2]; 2];

/// Differences of two models on rows that both have predicted, accumulated in constant memory.
///
/// Intervals are those of the paired bootstrap. What a resampling holds of a row is drawn from Poisson's law, by the
/// row's number, so that rows can be seen in any order, in parts, once.
#[derive(Debug, Clone)]
pub struct Comparison {
    values: bool,
    rows: u64,
    sums: [[Sum; 2]; 2],
    /// Whether every score of both was a probability.
    probabilities: bool,
    only_first_right: u64,
    only_second_right: u64,
    replicates: Vec<Replicate>,
}

/// One resampling.
#[derive(Debug, Clone, Copy, Default)]
struct Replicate {
    rows: f64,
    sums: Terms,
}

impl Replicate {
    fn add(&mut self, copies: f64, terms: &Terms) {
        self.rows += copies;
        for (sums, terms) in self.sums.iter_mut().zip(terms) {
            sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += copies * term);
        }
    }
}

impl Comparison {
    /// Of two classifiers.
    pub fn of_classes() -> Self {
        Comparison {
            values: false,
            rows: 0,
            sums: Default::default(),
            probabilities: true,
            only_first_right: 0,
            only_second_right: 0,
            replicates: vec![Replicate::default(); REPLICATES],
        }
    }

    /// Of two models of numbers.
    pub fn of_values() -> Self {
        Comparison { values: true, ..Self::of_classes() }
    }

    /// Counts the row with this number; whether both errors are of the kind that is compared.
    pub fn observe(&mut self, row: u64, first: RowError, second: RowError) -> bool {
        let terms = match (self.values, first, second) {
            (true, RowError::Value(first), RowError::Value(second)) => {
                [first, second].map(|error| [error * error, error.abs()])
            }
            (
                false,
                RowError::Classes { right: first, log_loss: first_loss },
                RowError::Classes { right: second, log_loss: second_loss },
            ) => {
                self.only_first_right += u64::from(first && !second);
                self.only_second_right += u64::from(second && !first);
                self.probabilities &= first_loss.is_some() && second_loss.is_some();
                [(first, first_loss), (second, second_loss)]
                    .map(|(right, loss)| [f64::from(u8::from(right)), loss.unwrap_or_default()])
            }
            _ => return false,
        };
        self.rows += 1;
        for (sums, terms) in self.sums.iter_mut().zip(terms) {
            sums.iter_mut().zip(terms).for_each(|(sum, term)| sum.add(term));
        }
        let mut random = Random::new(Random::new(SEED ^ row).next());
        for pair in self.replicates.chunks_mut(2) {
            let bits = random.next();
            for (replicate, bits) in pair.iter_mut().zip([bits as u32, (bits >> 32) as u32]) {
                replicate.add(poisson(bits), &terms);
            }
        }
        true
    }

    /// Adds all that another of the same kind has counted.
    pub fn merge(&mut self, other: Comparison) {
        self.rows += other.rows;
        for (ours, theirs) in self.sums.iter_mut().flatten().zip(other.sums.into_iter().flatten()) {
            ours.merge(theirs);
        }
        self.probabilities &= other.probabilities;
        self.only_first_right += other.only_first_right;
        self.only_second_right += other.only_second_right;
        for (ours, theirs) in self.replicates.iter_mut().zip(other.replicates) {
            ours.rows += theirs.rows;
            for (sum, more) in ours.sums.iter_mut().flatten().zip(theirs.sums.into_iter().flatten()) {
                *sum += more;
            }
        }
    }

    /// The figures of all rows so far; `None` without rows.
    pub fn metrics(&self) -> Option<ComparisonMetrics> {
        if self.rows == 0 {
            return None;
        }
        let n = self.rows as f64;
        let sums = self.sums.map(|sums| sums.map(Sum::value));
        let figure = |figure: Figure| Difference {
            figure,
            first: figure.of(&sums[0], n),
            second: figure.of(&sums[1], n),
            interval: self.interval(figure),
        };
        let figures: &[Figure] = match (self.values, self.probabilities) {
            (true, _) => &[Figure::RootMeanSquaredError, Figure::MeanAbsoluteError],
            (false, true) => &[Figure::Accuracy, Figure::LogLoss],
            (false, false) => &[Figure::Accuracy],
        };
        let differences: Vec<Difference> = figures.iter().map(|which| figure(*which)).collect();
        let mc_nemar = (!self.values).then(|| McNemar {
            only_first_right: self.only_first_right,
            only_second_right: self.only_second_right,
            p_value: two_sided(self.only_first_right, self.only_second_right),
        });
        let verdict = self.verdict(differences.first(), mc_nemar.as_ref());
        Some(ComparisonMetrics { rows: self.rows, differences, mc_nemar, verdict })
    }

    /// The middle of the differences that the resamplings give.
    fn interval(&self, figure: Figure) -> (f64, f64) {
        let drawn = self.replicates.iter().filter(|replicate| replicate.rows > 0.0);
        let mut differences: Vec<f64> =
            drawn.map(|r| figure.of(&r.sums[0], r.rows) - figure.of(&r.sums[1], r.rows)).collect();
        differences.sort_by(f64::total_cmp);
        (quantile(&differences, TAIL), quantile(&differences, 1.0 - TAIL))
    }

    fn verdict(&self, first: Option<&Difference>, mc_nemar: Option<&McNemar>) -> Verdict {
        let Some(Difference { figure, interval: (low, high), .. }) = first else { return Verdict::Undecided };
        let doubted = mc_nemar.is_some_and(|test| test.p_value >= 2.0 * TAIL);
        if self.rows < VERDICT_ROWS_MIN || doubted || (*low <= 0.0 && *high >= 0.0) {
            return Verdict::Undecided;
        }
        if (*low > 0.0) == figure.more_is_better() { Verdict::FirstIsBetter } else { Verdict::SecondIsBetter }
    }
}

/// What two models are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// Share of the rows whose class was told.
    Accuracy,
    /// Mean −ln of the true class's probability.
    LogLoss,
    /// In the unit of the truth.
    RootMeanSquaredError,
    /// In the unit of the truth.
    MeanAbsoluteError,
}

impl Figure {
    /// Whether the larger value is that of the better model.
    pub fn more_is_better(self) -> bool {
        self == Figure::Accuracy
    }

    fn of(self, sums: &[f64; 2], rows: f64) -> f64 {
        match self {
            Figure::Accuracy => sums[0] / rows,
            Figure::RootMeanSquaredError => (sums[0] / rows).sqrt(),
            Figure::LogLoss | Figure::MeanAbsoluteError => sums[1] / rows,
        }
    }
}

/// A figure of both models on the same rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Which.
    pub figure: Figure,
    /// The first model's.
    pub first: f64,
    /// The second model's.
    pub second: f64,
    /// Of `first − second`, 95 %.
    pub interval: (f64, f64),
}

/// McNemar's test, exact: whether rows that only one of two classifiers told fall to both alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct McNemar {
    /// Rows that the first told and the second did not.
    pub only_first_right: u64,
    /// The reverse.
    pub only_second_right: u64,
    /// How often chance alone would divide them at least so unevenly.
    pub p_value: f64,
}

/// Which of two models is better by the first of the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The first.
    FirstIsBetter,
    /// The second.
    SecondIsBetter,
    /// The rows do not tell.
    Undecided,
}

/// What the rows say of two models.
#[derive(Debug, Clone, PartialEq)]
pub struct ComparisonMetrics {
    /// Rows that both have predicted.
    pub rows: u64,
    /// The figure that decides, then the other.
    pub differences: Vec<Difference>,
    /// Of classifiers.
    pub mc_nemar: Option<McNemar>,
    /// By the first figure.
    pub verdict: Verdict,
}

/// How often a resampling holds a row: Poisson's law with mean 1, from 32 random bits. No branch depends on them:
/// a processor would guess wrong every other time.
fn poisson(bits: u32) -> f64 {
    AT_LEAST.iter().map(|share| u32::from(bits < *share)).sum::<u32>().into()
}

/// The quantile of ascending `values`, between neighbours in proportion; 0 if there are none.
fn quantile(values: &[f64], share: f64) -> f64 {
    let place = share * values.len().saturating_sub(1) as f64;
    let at = |place: f64| values.get(place as usize).copied().unwrap_or_default();
    let (low, high) = (at(place.floor()), at(place.ceil()));
    low + (high - low) * place.fract()
}

/// The chance that `first + second` fair coins fall at least as unevenly.
fn two_sided(first: u64, second: u64) -> f64 {
    let (few, all) = (first.min(second), first + second);
    if first == second {
        return 1.0;
    }
    // ln of the chance of exactly `few`, then the smaller ones by their ratios.
    let mut log = Sum::default();
    (1..=few).for_each(|k| log.add(((all - few + k) as f64 / k as f64).ln()));
    log.add(-(all as f64 * std::f64::consts::LN_2));
    let (mut term, mut total) = (1.0, 1.0);
    for k in (1..=few).rev() {
        term *= k as f64 / (all - k + 1) as f64;
        total += term;
        if term < f64::EPSILON * total * 0.01 {
            break;
        }
    }
    (2.0 * total * log.value().exp()).min(1.0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn class(right: bool) -> RowError {
        RowError::Classes { right, log_loss: Some(f64::from(u8::from(!right))) }
    }

    /// The comparison of two classifiers, of which each is right with its own chance.
    fn classifiers(seed: u64, rows: u64, first: f64, second: f64) -> Comparison {
        let mut random = Random::new(seed);
        let mut comparison = Comparison::of_classes();
        for row in 0..rows {
            let (a, b) = (random.unit() < first, random.unit() < second);
            assert!(comparison.observe(seed << 32 | row, class(a), class(b)));
        }
        comparison
    }

    #[test]
    fn the_interval_holds_the_true_difference_nineteen_times_in_twenty() {
        let held = (1..=300).filter(|seed| {
            let metrics = classifiers(*seed, 150, 0.8, 0.7).metrics().unwrap();
            let (low, high) = metrics.differences[0].interval;
            low <= 0.1 && 0.1 <= high
        });
        let held = held.count();
        assert!((273..=297).contains(&held), "{held} of 300");
    }

    #[test]
    fn the_width_is_that_of_the_normal_law() {
        let mut random = Random::new(3);
        let mut comparison = Comparison::of_values();
        for row in 0..2000 {
            let (first, second) = (random.unit(), 1.0 + random.unit());
            comparison.observe(row, RowError::Value(first), RowError::Value(second));
        }
        let metrics = comparison.metrics().unwrap();
        let mean = metrics.differences[1];
        let expected = 2.0 * 1.96 * (2.0f64 / 12.0 / 2000.0).sqrt();
        let width = mean.interval.1 - mean.interval.0;
        assert!((width / expected - 1.0).abs() < 0.1, "{width} {expected}");
        assert_eq!(metrics.verdict, Verdict::FirstIsBetter);
        assert_eq!(metrics.mc_nemar, None);
    }

    #[test]
    fn verdicts_follow_the_rows() {
        let verdict = |a, b| classifiers(1, 2000, a, b).metrics().unwrap().verdict;
        assert_eq!(verdict(0.9, 0.7), Verdict::FirstIsBetter);
        assert_eq!(verdict(0.7, 0.9), Verdict::SecondIsBetter);
        assert_eq!(verdict(0.8, 0.8), Verdict::Undecided);
        assert_eq!(classifiers(1, 20, 1.0, 0.0).metrics().unwrap().verdict, Verdict::Undecided);
        assert_eq!(Comparison::of_classes().metrics(), None);
    }

    #[test]
    fn parts_in_any_order_give_the_whole() {
        let mut whole = classifiers(1, 400, 0.8, 0.7);
        whole.merge(classifiers(2, 300, 0.8, 0.7));
        let mut other = classifiers(2, 300, 0.8, 0.7);
        other.merge(classifiers(1, 400, 0.8, 0.7));
        assert_eq!(whole.metrics(), other.metrics());
        assert_eq!(whole.metrics().unwrap().rows, 700);
    }

    #[test]
    fn mc_nemar_is_the_binomial_test() {
        // scipy.stats.binomtest(k, n, 0.5).pvalue
        for (first, second, expected) in [
            (5, 15, 0.041_389_465_332_031_25),
            (10, 10, 1.0),
            (0, 6, 0.03125),
            (0, 0, 1.0),
            (450, 550, 0.001_730_536_084_976_302_7),
        ] {
            let found = two_sided(first, second);
            assert!((found - expected).abs() <= 1e-9 * expected, "{first} {second}: {found}");
        }
    }

    #[test]
    fn rows_are_drawn_by_poissons_law() {
        let mut random = Random::new(9);
        let drawn: Vec<f64> = (0..100_000).map(|_| poisson(random.next() as u32)).collect();
        let mean = drawn.iter().sum::<f64>() / 1e5;
        let variance = drawn.iter().map(|copies| (copies - mean).powi(2)).sum::<f64>() / 1e5;
        assert!((mean - 1.0).abs() < 0.02 && (variance - 1.0).abs() < 0.04, "{mean} {variance}");
        assert_eq!((poisson(u32::MAX), poisson(0)), (0.0, 12.0));
    }

    #[test]
    fn kinds_do_not_mix() {
        assert!(!Comparison::of_values().observe(0, class(true), RowError::Value(1.0)));
        assert_eq!(
            RowError::of_scores(2, &[0.1, 0.9]),
            Err(ObservationError::Truth { truth: 2, classes: 2 })
        );
        assert_eq!(RowError::of_value(0.0, f64::NAN), Err(ObservationError::NotFinite));
        let scores = RowError::of_scores(1, &[-3.0, 4.0]).unwrap();
        assert_eq!(scores, RowError::Classes { right: true, log_loss: None });
    }
}
