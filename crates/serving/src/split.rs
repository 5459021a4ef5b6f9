//! [`Split`]: which deployed model takes a request, by weight.

/// The odd integer nearest to 2^64 / φ: its multiples modulo 2^64 fill the range evenly, and so does every
/// regular subsequence of them, so that clients that take turns see the split too.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// A weighted choice. Request number n always gets the same answer, any run of consecutive numbers honours
/// the weights within a request or two, and in the long run they are met exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Split {
    /// Running sums of the weights.
    ends: Vec<u64>,
}

impl Split {
    pub(crate) fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let mut total = 0u64;
        Split {
            ends: weights
                .into_iter()
                .map(|w| {
                    total += u64::from(w);
                    total
                })
                .collect(),
        }
    }

    /// The index that request number `n` goes to; `None` when every weight is zero.
    pub(crate) fn choose(&self, n: u64) -> Option<usize> {
        let total = *self.ends.last()?;
        let point = n.wrapping_mul(GOLDEN);
        let at = ((u128::from(point) * u128::from(total)) >> 64) as u64;
        (total > 0).then(|| self.ends.partition_point(|&end| end <= at))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn counts(split: &Split, numbers: impl Iterator<Item = u64>, n: usize) -> Vec<u64> {
        let mut counts = vec![0; n];
        for i in numbers {
            counts[split.choose(i).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn ninety_to_ten_shows_within_a_hundred_requests() {
        let split = Split::new([90, 10]);
        for start in [0, 12_345, u64::MAX - 50] {
            let counts = counts(&split, (0..100).map(|i| start.wrapping_add(i)), 2);
            assert!((88..=92).contains(&counts[0]), "{counts:?} from {start}");
        }
    }

    #[test]
    fn nothing_to_choose_from() {
        assert_eq!(Split::new([]).choose(7), None);
        assert_eq!(Split::new([0, 0]).choose(7), None);
    }

    #[test]
    fn a_weight_of_zero_is_never_chosen() {
        let split = Split::new([0, 1, 0, 3, 0]);
        let counts = counts(&split, 0..4000, 5);
        assert_eq!([counts[0], counts[2], counts[4]], [0, 0, 0]);
    }

    proptest! {
        #[test]
        fn shares_follow_the_weights(
            weights in prop::collection::vec(0u32..100, 1..6), start: u64, stride in 1u64..9
        ) {
            let total: u32 = weights.iter().sum();
            prop_assume!(total > 0);
            let n = 20_000u64;
            let counts = counts(&Split::new(weights.iter().copied()),
                (0..n).map(|i| start.wrapping_add(i.wrapping_mul(stride))), weights.len());
            for (w, c) in weights.iter().zip(counts) {
                let share = f64::from(*w) / f64::from(total);
                prop_assert!((c as f64 / n as f64 - share).abs() < 0.005, "weight {w}: {c} of {n}");
            }
        }
    }
}
