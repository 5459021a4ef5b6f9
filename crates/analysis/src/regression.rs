//! [`Regression`]: figures of a model that predicts a number.

use crate::classification::ObservationError;
use crate::sum::Sum;

/// Figures of predicted numbers, accumulated in constant memory.
///
/// An `f32` prediction goes in [as it is written](crate::as_written).
#[derive(Debug, Clone)]
pub struct Regression {
    rows: u64,
    squared_error: Sum,
    absolute_error: Sum,
    percentage_error: Sum,
    squared_log_error: Sum,
    /// Whether every truth and prediction is above −1, without which there is no logarithm.
    logarithms: bool,
    truth: Sum,
    squared_truth: Sum,
    truth_min: f64,
    truth_max: f64,
}

impl Default for Regression {
    fn default() -> Self {
        Regression {
            rows: 0,
            squared_error: Sum::default(),
            absolute_error: Sum::default(),
            percentage_error: Sum::default(),
            squared_log_error: Sum::default(),
            logarithms: true,
            truth: Sum::default(),
            squared_truth: Sum::default(),
            truth_min: f64::INFINITY,
            truth_max: f64::NEG_INFINITY,
        }
    }
}

impl Regression {
    /// Without any row.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one row.
    pub fn observe(&mut self, truth: f64, prediction: f64) -> Result<(), ObservationError> {
        if !(truth.is_finite() && prediction.is_finite()) {
            return Err(ObservationError::NotFinite);
        }
        let error = truth - prediction;
        self.rows += 1;
        self.squared_error.add_square(error);
        self.absolute_error.add(error.abs());
        self.percentage_error.add(error.abs() / truth.abs().max(f64::EPSILON));
        self.logarithms &= truth > -1.0 && prediction > -1.0;
        if self.logarithms {
            self.squared_log_error.add_square(truth.ln_1p() - prediction.ln_1p());
        }
        self.truth.add(truth);
        self.squared_truth.add_square(truth);
        self.truth_min = self.truth_min.min(truth);
        self.truth_max = self.truth_max.max(truth);
        Ok(())
    }

    /// Adds all that another has counted.
    pub fn merge(&mut self, other: Regression) {
        self.rows += other.rows;
        self.squared_error.merge(other.squared_error);
        self.absolute_error.merge(other.absolute_error);
        self.percentage_error.merge(other.percentage_error);
        self.squared_log_error.merge(other.squared_log_error);
        self.logarithms &= other.logarithms;
        self.truth.merge(other.truth);
        self.squared_truth.merge(other.squared_truth);
        self.truth_min = self.truth_min.min(other.truth_min);
        self.truth_max = self.truth_max.max(other.truth_max);
    }

    /// Rows counted.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The figures of all rows so far; `None` without rows.
    pub fn metrics(&self) -> Option<RegressionMetrics> {
        if self.rows == 0 {
            return None;
        }
        let n = self.rows as f64;
        Some(RegressionMetrics {
            rows: self.rows,
            root_mean_squared_error: (self.squared_error.value() / n).sqrt(),
            mean_absolute_error: self.absolute_error.value() / n,
            mean_absolute_percentage_error: self.percentage_error.value() / n,
            root_mean_squared_log_error: self.logarithms.then(|| (self.squared_log_error.value() / n).sqrt()),
            r_squared: self.r_squared(n),
        })
    }

    fn r_squared(&self, n: f64) -> Option<f64> {
        if self.rows < 2 {
            return None;
        }
        let error = self.squared_error.value();
        if self.truth_min == self.truth_max {
            return Some(if error == 0.0 { 1.0 } else { 0.0 });
        }
        Some(1.0 - error / self.squared_truth.about_mean(self.truth, n))
    }
}

/// Figures of a regression over all rows, by scikit-learn's definitions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RegressionMetrics {
    /// Rows measured.
    pub rows: u64,
    /// In the unit of the truth.
    pub root_mean_squared_error: f64,
    /// In the unit of the truth.
    pub mean_absolute_error: f64,
    /// A share, not per cent: 0.1 is 10 %. A truth of 0 counts as the smallest `f64` step from 1, so that the
    /// figure becomes very large, not infinite.
    pub mean_absolute_percentage_error: f64,
    /// Of ln(1 + value); `None` when a truth or a prediction is −1 or less.
    pub root_mean_squared_log_error: Option<f64>,
    /// Coefficient of determination: 1 − squared error / squared deviation of the truth from its mean. With a
    /// constant truth it is 1 for perfect predictions, else 0. `None` for a single row.
    pub r_squared: Option<f64>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn measure(rows: &[(f64, f64)]) -> Regression {
        let mut figures = Regression::new();
        rows.iter().for_each(|(truth, prediction)| figures.observe(*truth, *prediction).unwrap());
        figures
    }

    #[test]
    fn any_split_gives_the_figures_of_the_whole() {
        let mut random = Random::new(4);
        let rows: Vec<(f64, f64)> = (0..5000).map(|_| (1e6 + random.unit(), 1e6 + random.unit())).collect();
        let whole = measure(&rows).metrics().unwrap();
        for parts in [2, 7, 50] {
            let mut merged = Regression::new();
            rows.rchunks(rows.len() / parts).for_each(|part| merged.merge(measure(part)));
            let merged = merged.metrics().unwrap();
            let figures = |m: &RegressionMetrics| {
                [
                    m.root_mean_squared_error,
                    m.mean_absolute_error,
                    m.mean_absolute_percentage_error,
                    m.root_mean_squared_log_error.unwrap(),
                    m.r_squared.unwrap(),
                ]
            };
            for (a, b) in figures(&whole).iter().zip(figures(&merged)) {
                assert!((a - b).abs() <= 4.0 * f64::EPSILON * a.abs(), "{a} {b}");
            }
        }
    }

    #[test]
    fn a_constant_truth_has_a_defined_r_squared() {
        let right = measure(&[(0.1, 0.1), (0.1, 0.1), (0.1, 0.1)]).metrics().unwrap();
        let wrong = measure(&[(0.1, 0.1), (0.1, 0.2), (0.1, 0.1)]).metrics().unwrap();
        assert_eq!((right.r_squared, wrong.r_squared), (Some(1.0), Some(0.0)));
    }

    #[test]
    fn what_is_undefined_is_absent() {
        assert_eq!(Regression::new().metrics(), None);
        let one = measure(&[(-1.0, 2.0)]).metrics().unwrap();
        assert_eq!((one.r_squared, one.root_mean_squared_log_error), (None, None));
        assert_eq!(Regression::new().observe(f64::NAN, 0.0), Err(ObservationError::NotFinite));
    }
}
