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
}

impl Price {
    /// What `amount` costs, rounded up.
    pub fn of(&self, amount: &Amount) -> Money {
        let cached = amount.cached_tokens.min(amount.prompt_tokens);
        let each =
            |count: u64, price: Money, of: u128| u128::from(count) * u128::from(price.0) * (MILLION / of);
        let sum = each(amount.prompt_tokens - cached, self.prompt_million, MILLION)
            .saturating_add(each(cached, self.cached_million.unwrap_or(self.prompt_million), MILLION))
            .saturating_add(each(amount.output_tokens, self.output_million, MILLION))
            .saturating_add(each(amount.rows, self.rows_thousand, 1000));
        Money(u64::try_from(sum.div_ceil(MILLION)).unwrap_or(u64::MAX))
    }
}

const MILLION: u128 = 1_000_000;

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
        };
        let amount = Amount {
            prompt_tokens: 1_500_000,
            cached_tokens: 500_000,
            output_tokens: 250_000,
            rows: 500,
            ..Amount::default()
        };
        assert_eq!(price.of(&amount), Money(2 * unit + unit / 2 + 2 * unit + unit / 2));
        let little = Amount { output_tokens: 1, ..Amount::default() };
        assert_eq!(Price { output_million: Money(1), ..Price::default() }.of(&little), Money(1));
        assert_eq!(Price::default().of(&amount), Money(0));
    }
}
