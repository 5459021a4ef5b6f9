//! [`Sum`]: a sum that does not depend on how its terms were grouped.

/// A sum in twice the precision of an `f64`, so that merging parts in any grouping gives the same `f64`
/// (but for the last bit, rarely) and a billion small terms lose nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum {
    /// The sum, rounded.
    high: f64,
    /// What the rounding left over.
    low: f64,
}

impl Sum {
    /// Adds one term.
    pub(crate) fn add(&mut self, term: f64) {
        let (sum, error) = two_sum(self.high, term);
        self.renormalise(sum, error + self.low);
    }

    /// Adds the square of `term`, exactly.
    pub(crate) fn add_square(&mut self, term: f64) {
        let square = term * term;
        let (sum, error) = two_sum(self.high, square);
        self.renormalise(sum, error + (term.mul_add(term, -square) + self.low));
    }

    /// Adds all that another has summed.
    pub(crate) fn merge(&mut self, other: Sum) {
        let (sum, error) = two_sum(self.high, other.high);
        self.renormalise(sum, error + (self.low + other.low));
    }

    /// The sum, rounded once.
    pub(crate) fn value(self) -> f64 {
        self.high + self.low
    }

    /// `self − total² / n`: from sums of squares and of values to the sum of squares about the mean,
    /// without the cancellation that plain arithmetic would suffer.
    pub(crate) fn about_mean(self, total: Sum, n: f64) -> f64 {
        let mean = total.high / n;
        // total² / n = mean · total + (total − mean · n) / n · total
        let mut result = self;
        let product = mean * total.high;
        result.add(-product);
        result.add(-mean.mul_add(total.high, -product));
        let remainder = (-mean).mul_add(n, total.high) + total.low;
        result.add(-(remainder / n * total.high));
        result.add(-(mean * total.low));
        result.value().max(0.0)
    }

    fn renormalise(&mut self, high: f64, low: f64) {
        // An infinite sum leaves no remainder; without this it would become NaN.
        if !high.is_finite() {
            *self = Sum { high, low: 0.0 };
            return;
        }
        let sum = high + low;
        *self = Sum { high: sum, low: low - (sum - high) };
    }
}

/// The rounded sum and the exact rounding error (Knuth).
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let rounded_b = sum - a;
    (sum, (a - (sum - rounded_b)) + (b - rounded_b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_terms_are_not_lost() {
        let mut sum = Sum::default();
        sum.add(1e16);
        for _ in 0..1000 {
            sum.add(0.1);
        }
        sum.add(-1e16);
        assert!((sum.value() - 100.0).abs() < 1e-11, "{}", sum.value());
    }

    #[test]
    fn any_grouping_gives_the_same_sum() {
        let terms: Vec<f64> = (0..1000).map(|i| f64::from(i).sin() * 10f64.powi(i % 17)).collect();
        let mut whole = Sum::default();
        terms.iter().for_each(|t| whole.add(*t));
        for size in [1, 7, 100, 333] {
            let mut merged = Sum::default();
            for part in terms.chunks(size) {
                let mut sum = Sum::default();
                part.iter().for_each(|t| sum.add(*t));
                merged.merge(sum);
            }
            assert_eq!(merged.value(), whole.value());
        }
    }

    #[test]
    fn squares_about_the_mean_survive_a_large_offset() {
        let (mut squares, mut total) = (Sum::default(), Sum::default());
        for v in [1e9 + 1.0, 1e9 + 2.0, 1e9 + 4.0] {
            squares.add_square(v);
            total.add(v);
        }
        let exact = 14.0 / 3.0;
        assert!((squares.about_mean(total, 3.0) - exact).abs() < 1e-9);
    }

    #[test]
    fn infinity_stays_infinite() {
        let mut sum = Sum::default();
        sum.add(f64::INFINITY);
        sum.add(1.0);
        assert_eq!(sum.value(), f64::INFINITY);
    }
}
