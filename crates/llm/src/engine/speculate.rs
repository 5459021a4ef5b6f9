//! Guesses at what comes next, so that a step may yield several tokens of one answer.
//!
//! What is chosen at a place depends on that place's logits, parameters and seed alone, and rows do not depend on their
//! company: so a guess changes when a token is computed, never which one it is (the exact case of Leviathan et al., 2023,
//! for drafts that are single sequences). Guesses come from the text itself (prompt lookup; Saxena, 2023).

use std::collections::HashMap;
use std::time::Duration;

/// Tokens that must have come before in the same order for what followed them to be guessed again.
const GRAM: usize = 3;

/// The share of the newest outcome in an answer's rate of right guesses.
const RATE_SHARE: f64 = 0.125;

/// The rate that an answer begins with.
const RATE_FIRST: f64 = 0.6;

/// Where guesses do not pay, one is made every so many tokens: the answer may have come to another part.
const PROBE: usize = 48;

/// A guess has to be worth so much more than it costs.
const MARGIN: f64 = 1.15;

/// One answer's guesses.
#[derive(Debug)]
pub(super) struct Drafter {
    /// Where each run of [`GRAM`] tokens last ended.
    ended: HashMap<[u32; GRAM], usize>,
    /// Up to where tokens are in `ended`.
    known: usize,
    /// How often a guess is right when the ones before it are.
    rate: f64,
    /// Answer tokens since the last guess.
    quiet: usize,
    /// How many were guessed for the step under way.
    guessed: usize,
}

impl Default for Drafter {
    fn default() -> Drafter {
        Drafter { ended: HashMap::new(), known: 0, rate: RATE_FIRST, quiet: 0, guessed: 0 }
    }
}

impl Drafter {
    /// What may follow `tokens`, prompt and answer: at most `most`, and no more than pay at `price`, the cost of one
    /// more row as a share of what a token costs anyway.
    pub(super) fn guess(&mut self, tokens: &[u32], most: usize, price: f64) -> Vec<u32> {
        let most = most.min(self.worth(price));
        self.quiet += 1;
        if most == 0 {
            return Vec::new();
        }
        let guesses = self.look_up(tokens, most);
        if !guesses.is_empty() {
            self.quiet = 0;
        }
        self.guessed = guesses.len();
        guesses
    }

    /// How many guesses in a row pay: the n-th is right with the n-th power of the rate.
    fn worth(&self, price: f64) -> usize {
        let least = price * MARGIN;
        if self.rate <= least {
            return usize::from(self.quiet >= PROBE);
        }
        // Not above some hundreds: the rate stays below one.
        (least.max(1e-3).ln() / self.rate.min(0.99).ln()) as usize
    }

    /// What followed the last time that the last tokens came.
    fn look_up(&mut self, tokens: &[u32], most: usize) -> Vec<u32> {
        for end in self.known.max(GRAM)..tokens.len() {
            if let Some(gram) = gram(tokens, end) {
                self.ended.insert(gram, end);
            }
        }
        self.known = tokens.len();
        let from = gram(tokens, tokens.len()).and_then(|gram| self.ended.get(&gram));
        from.map_or_else(Vec::new, |&from| tokens[from..tokens.len().min(from + most)].to_vec())
    }

    /// Takes in how many of the step's guesses were computed, and how many of those were right.
    pub(super) fn learn(&mut self, computed: usize, right: usize) {
        let computed = computed.min(std::mem::take(&mut self.guessed));
        let mut outcome = |hit: f64| self.rate += (hit - self.rate) * RATE_SHARE;
        (0..right.min(computed)).for_each(|_| outcome(1.0));
        if right < computed {
            outcome(0.0);
        }
    }
}

/// The tokens before `end`.
fn gram(tokens: &[u32], end: usize) -> Option<[u32; GRAM]> {
    tokens.get(end.checked_sub(GRAM)?..end)?.try_into().ok()
}

/// What a step of so many rows takes, learnt from the steps themselves: a fixed part (the weights are read) and one for
/// each row (they are multiplied).
#[derive(Debug, Default)]
pub(super) struct StepCost {
    /// Sums of 1, rows, rows squared, time, rows times time; older steps count less.
    sums: [f64; 5],
}

/// How much of its weight a step keeps with each one after it.
const KEEP: f64 = 0.99;

/// Before anything is known: the fixed part in rows.
const FIXED_ROWS: f64 = 6.0;

impl StepCost {
    /// Takes in a step.
    pub(super) fn learn(&mut self, rows: usize, took: Duration) {
        let (rows, took) = (rows as f64, took.as_secs_f64());
        for (sum, new) in self.sums.iter_mut().zip([1.0, rows, rows * rows, took, rows * took]) {
            *sum = *sum * KEEP + new;
        }
    }

    /// What one row more costs, as a share of what each of `rows` costs: the least squares line through the steps.
    pub(super) fn price(&self, rows: usize) -> f64 {
        let rows = rows.max(1) as f64;
        let [n, x, xx, t, xt] = self.sums;
        let spread = n * xx - x * x;
        let slope = (n * xt - x * t) / spread;
        let fixed = (t - slope * x) / n;
        // Steps that were all alike say nothing of others.
        let fixed_rows =
            if spread > n * n * 0.1 && slope > 0.0 { (fixed / slope).max(0.0) } else { FIXED_ROWS };
        rows / (fixed_rows + rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_before_is_guessed_again() {
        let mut drafter = Drafter::default();
        let tokens = [1, 2, 3, 4, 5, 6, 9, 1, 2, 3];
        assert_eq!(drafter.guess(&tokens, 2, 0.01), [4, 5]);
        assert!(drafter.guess(&[&tokens[..], &[7]].concat(), 2, 0.01).is_empty());
        assert_eq!(
            drafter.guess(&[&tokens[..], &[7, 1, 2, 3]].concat(), 8, 0.01),
            [7, 1, 2, 3],
            "the latest"
        );
    }

    #[test]
    fn guesses_stop_where_they_do_not_pay_and_are_tried_again() {
        let mut drafter = Drafter::default();
        let tokens: Vec<u32> = (0..40).chain(0..3).collect();
        let mut made = Vec::new();
        for _ in 0..400 {
            let guesses = drafter.guess(&tokens, 16, 0.3).len();
            drafter.learn(guesses, 0);
            made.push(guesses);
        }
        assert!(made[0] > 0);
        let late: usize = made[100..].iter().sum();
        assert!((1..=300 / PROBE + 1).contains(&late), "{late}");
        for _ in 0..400 {
            let guesses = drafter.guess(&tokens, 16, 0.3).len();
            drafter.learn(guesses, guesses);
        }
        assert_eq!(drafter.guess(&tokens, 16, 0.3).len(), 16);
        assert_eq!(drafter.guess(&tokens, 16, 1.0).len(), 0, "where a row costs as much as a token");
    }

    #[test]
    fn a_rows_price_is_learnt_from_steps() {
        let mut cost = StepCost::default();
        assert!((cost.price(1) - 1.0 / 7.0).abs() < 1e-9);
        for rows in [1, 2, 1, 4, 8, 3, 1] {
            cost.learn(rows, Duration::from_micros(9000 + 1000 * rows as u64));
        }
        assert!((cost.price(1) - 0.1).abs() < 1e-6, "{}", cost.price(1));
        assert!((cost.price(9) - 0.5).abs() < 1e-6, "{}", cost.price(9));
    }
}
