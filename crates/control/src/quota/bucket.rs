//! [`Bucket`]: so many a minute. Integers only, and no clock of its own.

/// Milliseconds in a minute.
const MINUTE_MS: u64 = 60_000;

/// What was taken of something that comes back evenly, a limit's worth each minute. A minute's worth may be taken at
/// once, so that in any span of `t` minutes no more than `1 + t` times the limit is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    /// What is not back yet, times a minute in milliseconds.
    taken: u128,
    /// As of then.
    at_ms: u64,
}

impl Bucket {
    /// Lets come back what comes back until `now_ms`.
    pub(super) fn refill(&mut self, limit: u64, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.at_ms);
        self.taken = self.taken.saturating_sub(u128::from(limit) * u128::from(passed));
        self.at_ms = self.at_ms.max(now_ms);
    }

    /// How much may be taken.
    pub(super) fn left(&self, limit: u64) -> u64 {
        let most = u128::from(limit) * u128::from(MINUTE_MS);
        u64::try_from(most.saturating_sub(self.taken) / u128::from(MINUTE_MS)).unwrap_or(limit)
    }

    /// Takes `n`, whether or not so much is left.
    pub(super) fn take(&mut self, n: u64) {
        self.taken = self.taken.saturating_add(u128::from(n) * u128::from(MINUTE_MS));
    }

    /// Gives back `n` that were taken and not used.
    pub(super) fn give_back(&mut self, n: u64) {
        self.taken = self.taken.saturating_sub(u128::from(n) * u128::from(MINUTE_MS));
    }

    /// Milliseconds until `n` may be taken, if nobody else takes any; a limit's worth at most.
    pub(super) fn wait_ms(&self, limit: u64, n: u64) -> u64 {
        let (limit, minute) = (u128::from(limit), u128::from(MINUTE_MS));
        let excess = (self.taken + u128::from(n).min(limit) * minute).saturating_sub(limit * minute);
        u64::try_from(excess.div_ceil(limit.max(1))).unwrap_or(u64::MAX)
    }

    /// Milliseconds until all is back.
    pub(super) fn full_ms(&self, limit: u64) -> u64 {
        self.wait_ms(limit, limit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whoever takes what is left, and waits as told where nothing is, never takes more than the rule allows.
        #[test]
        fn no_span_sees_more_than_the_rule(
            limit in 1u64..5000,
            asks in prop::collection::vec((0u64..20_000, 1u64..3000), 1..60),
        ) {
            let mut bucket = Bucket::default();
            let mut now = 1_000_000;
            let mut takes: Vec<(u64, u64)> = Vec::new();
            for (pause, n) in asks {
                now += pause;
                let n = n.min(limit);
                bucket.refill(limit, now);
                if bucket.left(limit) < n {
                    let wait = bucket.wait_ms(limit, n);
                    prop_assert!(wait > 0);
                    let mut early = bucket;
                    early.refill(limit, now + wait - 1);
                    prop_assert!(early.left(limit) < n);
                    now += wait;
                    bucket.refill(limit, now);
                }
                prop_assert!(bucket.left(limit) >= n);
                bucket.take(n);
                takes.push((now, n));
            }
            for (first, (begin, _)) in takes.iter().enumerate() {
                let mut sum = 0;
                for (end, n) in &takes[first..] {
                    sum += n;
                    prop_assert!(sum * MINUTE_MS <= limit * MINUTE_MS + limit * (end - begin));
                }
            }
        }
    }

    #[test]
    fn what_is_given_back_may_be_taken_again() {
        let mut bucket = Bucket::default();
        bucket.refill(60, 5_000);
        bucket.take(60);
        assert_eq!((bucket.left(60), bucket.wait_ms(60, 1), bucket.full_ms(60)), (0, 1000, 60_000));
        bucket.give_back(10);
        assert_eq!((bucket.left(60), bucket.wait_ms(60, 10)), (10, 0));
        bucket.refill(60, 7_000);
        assert_eq!(bucket.left(60), 12);
        // A clock that goes back gives nothing.
        bucket.refill(60, 1_000);
        assert_eq!(bucket.left(60), 12);
    }
}
