//! [`Transform`]: what models do with their scores at the end.

use super::Fault;
use super::attributes::Attributes;

/// The attribute `post_transform`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transform {
    None,
    Softmax,
    Logistic,
    SoftmaxZero,
    Probit,
}

impl Transform {
    pub(super) fn of(attributes: &Attributes<'_>) -> Result<Transform, Fault> {
        Ok(match attributes.text("post_transform")? {
            None | Some("NONE") => Transform::None,
            Some("SOFTMAX") => Transform::Softmax,
            Some("LOGISTIC") => Transform::Logistic,
            Some("SOFTMAX_ZERO") => Transform::SoftmaxZero,
            Some("PROBIT") => Transform::Probit,
            Some(other) => return Err(Fault::new(format!("attribute `post_transform` has no `{other}`"))),
        })
    }

    /// Transforms the scores of one row.
    pub(super) fn apply(self, scores: &mut [f64]) {
        match self {
            Transform::None => {}
            Transform::Softmax => softmax(scores, false),
            Transform::SoftmaxZero => softmax(scores, true),
            Transform::Logistic => scores.iter_mut().for_each(|score| *score = logistic(*score)),
            Transform::Probit => scores.iter_mut().for_each(|score| *score = probit(*score)),
        }
    }

    /// The scores of two classes of which the second has `score`.
    pub(super) fn pair(self, score: f64, complement: bool) -> [f64; 2] {
        let mut pair = match (self, complement) {
            (Transform::None | Transform::Probit, true) => [1.0 - score, score],
            _ => [-score, score],
        };
        self.apply(&mut pair);
        pair
    }
}

pub(super) fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Exponentials that sum to 1. With `keep_zero`, scores of 0 stay what they are.
pub(super) fn softmax(scores: &mut [f64], keep_zero: bool) {
    let counts = |score: f64| !(keep_zero && score == 0.0);
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for score in scores.iter_mut().filter(|score| counts(**score)) {
        *score = (*score - max).exp();
        sum += *score;
    }
    for score in scores.iter_mut().filter(|score| counts(**score)) {
        *score /= sum;
    }
}

/// Approximately the inverse of the normal distribution, as other runtimes compute it.
fn probit(p: f64) -> f64 {
    let x = 2.0 * p - 1.0;
    let sign = if x < 0.0 { -1.0 } else { 1.0 };
    let log = ((1.0 - x) * (1.0 + x)).ln();
    let v = 2.0 / (std::f64::consts::PI * 0.147) + 0.5 * log;
    let inverse = sign * ((v * v - log / 0.147).sqrt() - v).sqrt();
    std::f64::consts::SQRT_2 * inverse
}

/// The place of the highest score; the first of equals.
pub(super) fn highest(scores: &[f64]) -> usize {
    let better = |best: usize, (place, score): (usize, &f64)| match scores.get(best) {
        Some(so_far) if score > so_far => place,
        _ => best,
    };
    scores.iter().enumerate().fold(0, better)
}
