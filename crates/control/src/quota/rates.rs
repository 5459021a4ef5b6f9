//! [`Rates`]: how much of a minute's is left, for those who are told.

use std::time::Duration;

/// How something that is limited by the minute stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How much there is a minute.
    pub limit: u64,
    /// How much is left now.
    pub left: u64,
    /// Until all of it is back.
    pub reset: Duration,
}

/// How requests and tokens stand, where they are limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// Requests a minute.
    pub requests: Option<Rate>,
    /// Tokens a minute.
    pub tokens: Option<Rate>,
}

impl Rates {
    /// Of each, the one of which less is left.
    pub(super) fn or_less(self, other: Rates) -> Rates {
        let less = |a: Option<Rate>, b: Option<Rate>| a.into_iter().chain(b).min_by_key(|rate| rate.left);
        Rates { requests: less(self.requests, other.requests), tokens: less(self.tokens, other.tokens) }
    }
}
