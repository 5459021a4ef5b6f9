//! [`Amount`]: how much was used.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// What requests took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Amount {
    /// Requests that were answered.
    pub requests: u64,
    /// Tokens in prompts and in texts that were embedded.
    pub prompt_tokens: u64,
    /// Of those, found computed.
    pub cached_tokens: u64,
    /// Tokens in answers.
    pub output_tokens: u64,
    /// Instances that were predicted or explained.
    pub rows: u64,
    /// Seconds that networks were trained.
    pub training_seconds: u64,
    /// What it cost at the prices of its time.
    pub cost: Money,
}

impl Amount {
    /// Tokens that were read or written.
    pub fn tokens(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.output_tokens)
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, more: Amount) {
        self.requests = self.requests.saturating_add(more.requests);
        self.prompt_tokens = self.prompt_tokens.saturating_add(more.prompt_tokens);
        self.cached_tokens = self.cached_tokens.saturating_add(more.cached_tokens);
        self.output_tokens = self.output_tokens.saturating_add(more.output_tokens);
        self.rows = self.rows.saturating_add(more.rows);
        self.training_seconds = self.training_seconds.saturating_add(more.training_seconds);
        self.cost = Money(self.cost.0.saturating_add(more.cost.0));
    }
}

/// An amount of money in billionths of whatever prices are in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Money(pub u64);

/// Digits after the point.
const DIGITS: usize = 9;

impl std::str::FromStr for Money {
    type Err = crate::Error;

    /// Reads `12`, `0.15`: digits, and at most nine after a point.
    fn from_str(text: &str) -> crate::Result<Money> {
        let read = || {
            let (whole, part) = text.split_once('.').unwrap_or((text, ""));
            let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            if whole.is_empty() || part.len() > DIGITS || !digits(whole) || !digits(part) {
                return None;
            }
            let part: u64 = format!("{part:0<DIGITS$}").parse().ok()?;
            whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(part).map(Money)
        };
        read().ok_or_else(|| {
            crate::Error::invalid(format!("{text:?} is no amount of money; write it as 12 or 0.15"))
        })
    }
}

impl std::fmt::Display for Money {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, part) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        let part = format!("{part:0DIGITS$}");
        match part.trim_end_matches('0') {
            "" => write!(f, "{whole}"),
            part => write!(f, "{whole}.{part}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn money_is_read_and_written_without_loss() {
        for text in ["0", "12", "0.15", "0.000000001", "18446744073.709551615"] {
            assert_eq!(text.parse::<Money>().unwrap().to_string(), text);
        }
        assert_eq!("1.50".parse::<Money>().unwrap(), Money(1_500_000_000));
        for wrong in ["", ".", ".5", "-1", "1e3", "1.0000000001", "18446744074", "1,5", " 1"] {
            assert!(wrong.parse::<Money>().is_err(), "{wrong}");
        }
    }
}
