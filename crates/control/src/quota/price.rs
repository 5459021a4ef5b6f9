//! [`Price`]: what the use of a model costs.

use serde::{Deserialize, Serialize};

use crate::usage::{Amount, Money};

/// What the use of a model costs. What is absent is free.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Price {
    /// A million tokens of prompts.
    #[serde(default)]
    pub prompt_million: Money,
    /// A million tokens of prompts that were found computed; as other tokens of prompts where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_million: Option<Money>,
    /// A million tokens of answers.
    #[serde(default)]
    pub output_million: Money,
    /// A thousand predictions.
    #[serde(default)]
    pub rows_thousand: Money,
    /// A minute of training.
    #[serde(default)]
    pub training_minute: Money,
}

impl Price {
    /// What `amount` costs, rounded up.
    pub fn of(&self, amount: &Amount) -> Money {
        let cached = amount.cached_tokens.min(amount.prompt_tokens);
        let each = |count: u64, price: Money, of: u128| {
            (u128::from(count) * u128::from(price.0)).saturating_mul(PARTS / of)
        };
        let sum = each(amount.prompt_tokens - cached, self.prompt_million, MILLION)
            .saturating_add(each(cached, self.cached_million.unwrap_or(self.prompt_million), MILLION))
            .saturating_add(each(amount.output_tokens, self.output_million, MILLION))
            .saturating_add(each(amount.rows, self.rows_thousand, THOUSAND))
            .saturating_add(each(amount.training_seconds, self.training_minute, MINUTE));
        Money(u64::try_from(sum.div_ceil(PARTS)).unwrap_or(u64::MAX))
    }

    /// How many seconds of training `money` pays for.
    pub(super) fn training_seconds(&self, money: Money) -> u64 {
        let paid = (u128::from(money.0) * MINUTE).checked_div(u128::from(self.training_minute.0));
        paid.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(u64::MAX)
    }
}

const MILLION: u128 = 1_000_000;
const THOUSAND: u128 = 1000;
const MINUTE: u128 = 60;
/// Parts of money in which all prices are whole: a multiple of what they are of.
const PARTS: u128 = 3 * MILLION;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_of_millions_and_thousands() {
        let unit = 1_000_000_000;
        let price = Price {
            prompt_million: Money(2 * unit),
            cached_million: Some(Money(unit)),
            output_million: Money(8 * unit),
            rows_thousand: Money(unit),
            training_minute: Money(6 * unit),
        };
        let amount = Amount {
            prompt_tokens: 1_500_000,
            cached_tokens: 500_000,
            output_tokens: 250_000,
            rows: 500,
            training_seconds: 5,
            ..Amount::default()
        };
        assert_eq!(price.of(&amount), Money(2 * unit + unit / 2 + 2 * unit + unit / 2 + unit / 2));
        let little = Amount { output_tokens: 1, ..Amount::default() };
        assert_eq!(Price { output_million: Money(1), ..Price::default() }.of(&little), Money(1));
        assert_eq!(Price::default().of(&amount), Money(0));
    }

    #[test]
    fn what_is_left_pays_for_so_many_seconds_and_no_more() {
        for (minute, money, seconds) in
            [(60, 9, 9), (7, 9, 77), (1000, 16, 0), (1000, 17, 1), (0, 0, u64::MAX)]
        {
            let price = Price { training_minute: Money(minute), ..Price::default() };
            assert_eq!(price.training_seconds(Money(money)), seconds);
            let cost = |training_seconds| price.of(&Amount { training_seconds, ..Amount::default() });
            assert!(cost(seconds) <= Money(money));
            assert!(minute == 0 || cost(seconds + 1) > Money(money));
        }
    }
}
