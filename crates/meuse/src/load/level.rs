//! [`Level`]: how hard a server is asked.

use std::fmt;

/// How hard a server is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Level {
    /// So many requests are under way at any time: the next is sent when one has ended.
    Concurrency(u32),
    /// So many requests a second are sent, at random times, whether or not earlier ones have ended.
    Rate(f64),
}

impl Level {
    /// What its number counts.
    pub fn unit(self) -> &'static str {
        match self {
            Level::Concurrency(_) => "concurrency",
            Level::Rate(_) => "rate",
        }
    }

    /// Its number.
    pub fn number(self) -> f64 {
        match self {
            Level::Concurrency(count) => f64::from(count),
            Level::Rate(rate) => rate,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number())
    }
}
