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

/// A guess has to be worth so much more than it costs.
const MARGIN: f64 = 1.15;

/// Of the small model's guesses, the share of the newest outcome in what is thought of them.
const FAITH_SHARE: f64 = 1.0 / 32.0;

/// Where the small model's guesses do not pay, one answer of so many tries them again.
const FAITH_PROBE: u32 = 16;

/// Of the small model's guesses, how many outcomes tell enough of it.
const FAITH_OUTCOMES: u32 = 32;

/// Before enough is known of the small model, reading what it has not read yet may take this share of what the answer
/// takes without it.
const TRIAL_SHARE: f64 = 0.03;

/// Reading what it has not read yet has to pay so many times over.
const ENTRY_MARGIN: f64 = 2.0;

/// How often one kind of guess is right when the ones before it are.
#[derive(Clone, Copy, Debug)]
struct Rate(f64);

impl Rate {
    /// How many guesses in a row pay at `price`: the n-th is right with the n-th power of the rate.
    fn worth(self, price: f64) -> usize {
        let least = price * MARGIN;
        if self.0 <= least {
            return 0;
        }
        // Not above some hundreds: the rate stays below one.
        (least.max(1e-3).ln() / self.0.min(0.99).ln()) as usize
    }

    /// The share of an answer's time that `count` guesses at a time save at `price`: what the guesses and the token
    /// after them take, of what as many tokens as come of it take on average.
    fn saves(self, count: usize, price: f64) -> f64 {
        let tokens: f64 = (0..=count).map(|nth| self.0.powi(nth as i32)).sum();
        1.0 - (1.0 + count as f64 * price) / tokens
    }

    /// Takes in how many of `computed` guesses were right, before the first wrong one.
    fn learn(&mut self, computed: usize, right: usize, share: f64) {
        let mut outcome = |hit: f64| self.0 += (hit - self.0) * share;
        (0..right.min(computed)).for_each(|_| outcome(1.0));
        if right < computed {
            outcome(0.0);
        }
    }
}

/// What all answers together tell of the small model's guesses.
#[derive(Debug)]
pub(super) struct Faith {
    rate: Rate,
    /// How many guesses the rate was learnt from, up to [`FAITH_OUTCOMES`].
    outcomes: u32,
    /// Answers that began where guesses do not pay.
    doubts: u32,
}

impl Default for Faith {
    fn default() -> Faith {
        Faith { rate: Rate(RATE_FIRST), outcomes: 0, doubts: 0 }
    }
}

impl Faith {
    /// What an answer begins with.
    fn first(&mut self, price: f64) -> Rate {
        if self.rate.worth(price) > 0 {
            return self.rate;
        }
        self.doubts = (self.doubts + 1) % FAITH_PROBE;
        if self.doubts == 0 { Rate(RATE_FIRST) } else { self.rate }
    }

    /// Whether guesses are known to pay at `price`, and not only hoped to.
    fn is_firm(&self, price: f64) -> bool {
        self.outcomes >= FAITH_OUTCOMES && self.rate.worth(price) > 0
    }

    fn learn(&mut self, computed: usize, right: usize) {
        self.rate.learn(computed, right, FAITH_SHARE);
        let told = u32::try_from(computed).unwrap_or(FAITH_OUTCOMES);
        self.outcomes = self.outcomes.saturating_add(told).min(FAITH_OUTCOMES);
    }
}

/// What asking the small model costs and may gain, in times that a token of the answer takes without it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Of a guess: made, and one row more.
    pub(super) price: f64,
    /// What it has not read yet of prompt and answer.
    pub(super) entry: f64,
    /// How much of the answer is still to come.
    pub(super) left: f64,
}

/// One answer's guesses.
#[derive(Debug)]
pub(super) struct Drafter {
    /// Where each run of [`GRAM`] tokens last ended.
    ended: HashMap<[u32; GRAM], usize>,
    /// Up to where tokens are in `ended`.
    known: usize,
    /// Of guesses from the text.
    found: Rate,
    /// Where guesses from the text do not pay: the place and the token that were guessed and not computed.
    silent: Option<(usize, u32)>,
    /// Of the small model's guesses, once there was a reason to think of them.
    asked: Option<Rate>,
    /// How many were guessed for the step under way, and whether by the small model.
    guessed: usize,
    was_asked: bool,
}

impl Default for Drafter {
    fn default() -> Drafter {
        Drafter {
            ended: HashMap::new(),
            known: 0,
            found: Rate(RATE_FIRST),
            silent: None,
            asked: None,
            guessed: 0,
            was_asked: false,
        }
    }
}

impl Drafter {
    /// What may follow `tokens`, prompt and answer, because it did before: at most `most`, and no more than pay at
    /// `price`, the cost of one more row as a share of what a token costs anyway.
    pub(super) fn look_up(&mut self, tokens: &[u32], most: usize, price: f64) -> Vec<u32> {
        // Where the answer did not go on meanwhile, nothing is known yet.
        if let Some((place, guess)) = self.silent.take_if(|(place, _)| *place < tokens.len()) {
            let right = usize::from(tokens.get(place) == Some(&guess));
            self.found.learn(1, right, RATE_SHARE);
        }
        (self.guessed, self.was_asked) = (0, false);
        // To look is nothing beside a step: where guesses do not pay it tells when they would again.
        let worth = self.found.worth(price).min(most);
        let guesses = self.find(tokens, worth.max(1));
        if worth == 0 {
            self.silent = guesses.first().map(|&guess| (tokens.len(), guess));
            return Vec::new();
        }
        self.guessed = guesses.len();
        guesses
    }

    /// How many of the small model's guesses pay on these terms. There is no trying in between: what that takes is too
    /// much to be lost again and again.
    pub(super) fn worth_asking(&mut self, faith: &mut Faith, terms: Terms) -> usize {
        let Terms { price, entry, left } = terms;
        let rate = *self.asked.get_or_insert_with(|| faith.first(price));
        let count = rate.worth(price);
        let gain = rate.saves(count, price) * left;
        let entry_max = if faith.is_firm(price) { f64::INFINITY } else { TRIAL_SHARE * left };
        if entry * ENTRY_MARGIN > gain || entry > entry_max { 0 } else { count }
    }

    /// Says that the step's guesses, so many, are the small model's.
    pub(super) fn asked(&mut self, guesses: usize) {
        (self.guessed, self.was_asked) = (guesses, true);
    }

    /// What followed the last time that the last tokens came.
    fn find(&mut self, tokens: &[u32], most: usize) -> Vec<u32> {
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
    pub(super) fn learn(&mut self, computed: usize, right: usize, faith: &mut Faith) {
        let computed = computed.min(std::mem::take(&mut self.guessed));
        if !self.was_asked {
            return self.found.learn(computed, right, RATE_SHARE);
        }
        faith.learn(computed, right);
        if let Some(rate) = &mut self.asked {
            rate.learn(computed, right, RATE_SHARE);
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

/// A step counts for at most so many times what was thought that it takes: something else had the processor.
const DISTURBED: f64 = 2.0;

/// After so many steps there is something to think.
const KNOWN_STEPS: f64 = 8.0;

/// Before anything is known: the fixed part in rows.
const FIXED_ROWS: f64 = 6.0;

impl StepCost {
    /// Takes in a step.
    pub(super) fn learn(&mut self, rows: usize, took: Duration) {
        let usual = self.takes(rows).filter(|_| self.sums[0] >= KNOWN_STEPS);
        let took = took.as_secs_f64().min(usual.map_or(f64::INFINITY, |usual| usual * DISTURBED));
        let rows = rows as f64;
        for (sum, new) in self.sums.iter_mut().zip([1.0, rows, rows * rows, took, rows * took]) {
            *sum = *sum * KEEP + new;
        }
    }

    /// The least squares line through the steps: seconds of a step without rows, and of each row. Nothing before the
    /// first.
    fn line(&self) -> Option<(f64, f64)> {
        let [n, x, xx, t, xt] = self.sums;
        if n == 0.0 {
            return None;
        }
        let spread = n * xx - x * x;
        let slope = (n * xt - x * t) / spread;
        if spread > n * n * 0.1 {
            let slope = slope.max(0.0);
            return Some((((t - slope * x) / n).max(0.0), slope));
        }
        // Steps that were all alike say nothing of others.
        let slope = t / (n * FIXED_ROWS + x);
        Some((FIXED_ROWS * slope, slope))
    }

    /// Seconds that a step of so many rows takes; nothing before the first.
    pub(super) fn takes(&self, rows: usize) -> Option<f64> {
        self.line().map(|(fixed, slope)| fixed + slope * rows as f64)
    }

    /// Seconds that each row takes; nothing before the first step.
    pub(super) fn row(&self) -> Option<f64> {
        self.line().map(|(_, slope)| slope)
    }

    /// What one row more costs, as a share of what each of `rows` costs.
    pub(super) fn price(&self, rows: usize) -> f64 {
        let rows = rows.max(1) as f64;
        let fixed_rows = match self.line() {
            Some((fixed, slope)) if slope > 0.0 => fixed / slope,
            _ => FIXED_ROWS,
        };
        rows / (fixed_rows + rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(price: f64, entry: f64) -> Terms {
        Terms { price, entry, left: 200.0 }
    }

    #[test]
    fn a_small_model_reads_a_prompt_where_that_pays() {
        let mut faith = Faith::default();
        let worth = |faith: &mut Faith, entry| Drafter::default().worth_asking(faith, terms(0.2, entry));
        assert!(worth(&mut faith, 0.0) > 0 && worth(&mut faith, 5.0) > 0);
        assert_eq!(worth(&mut faith, 7.0), 0, "more than may be lost by a trial");
        faith.learn(FAITH_OUTCOMES as usize, FAITH_OUTCOMES as usize);
        assert!(worth(&mut faith, 7.0) > 0 && worth(&mut faith, 30.0) > 0, "known to pay");
        assert_eq!(worth(&mut faith, 100.0), 0, "more than is gained");
        assert_eq!(Drafter::default().worth_asking(&mut faith, terms(1.1, 0.0)), 0);
    }

    #[test]
    fn what_guesses_save_is_reckoned_with() {
        let saves = Rate(0.5).saves(2, 0.25);
        assert!((saves - (1.0 - 1.5 / 1.75)).abs() < 1e-9, "{saves}");
        assert!(Rate(0.3).saves(2, 0.4) < 0.0 && Rate(0.3).saves(0, 0.4) == 0.0);
    }

    #[test]
    fn what_came_before_is_guessed_again() {
        let mut drafter = Drafter::default();
        let tokens = [1, 2, 3, 4, 5, 6, 9, 1, 2, 3];
        assert_eq!(drafter.look_up(&tokens, 2, 0.01), [4, 5]);
        assert!(drafter.look_up(&[&tokens[..], &[7]].concat(), 2, 0.01).is_empty());
        assert_eq!(
            drafter.look_up(&[&tokens[..], &[7, 1, 2, 3]].concat(), 8, 0.01),
            [7, 1, 2, 3],
            "the latest"
        );
    }

    #[test]
    fn guesses_stop_where_they_do_not_pay_and_begin_again_where_they_would() {
        let (mut drafter, mut faith) = (Drafter::default(), Faith::default());
        let mut random = 1u32;
        // After each pair and a seven comes anything: what came the last time is no guide.
        let mut tokens: Vec<u32> = vec![1, 2, 7];
        let mut go_on = |tokens: &mut Vec<u32>, drafter: &mut Drafter, next: &mut dyn FnMut(usize) -> u32| {
            let guesses = drafter.look_up(tokens, 16, 0.3);
            let mut right = 0;
            loop {
                let token = next(tokens.len());
                tokens.push(token);
                if guesses.get(right) != Some(&token) {
                    break;
                }
                right += 1;
            }
            drafter.learn(guesses.len(), right, &mut faith);
            (guesses.len(), right)
        };
        let mut noise = |place: usize| match place % 4 {
            3 => {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                100 + (random >> 16) % 1000
            }
            within => [1, 2, 7][within],
        };
        let made: Vec<usize> = (0..400).map(|_| go_on(&mut tokens, &mut drafter, &mut noise).0).collect();
        assert!(made[..20].iter().any(|made| *made > 0) && made[200..].iter().all(|made| *made == 0));
        let mut verse = |place: usize| 2000 + place as u32 % 40;
        let made: Vec<(usize, usize)> =
            (0..100).map(|_| go_on(&mut tokens, &mut drafter, &mut verse)).collect();
        assert!(made.iter().position(|made| made.0 > 0).is_some_and(|at| at < 50), "{made:?}");
        assert_eq!(made[99], (16, 16));
        assert_eq!(drafter.look_up(&tokens, 16, 1.0).len(), 0, "where a row costs as much as a token");
    }

    #[test]
    fn a_small_model_that_is_mostly_wrong_is_asked_by_one_answer_of_many() {
        let mut faith = Faith::default();
        let mut answer = |right: bool| {
            let (mut drafter, mut computed) = (Drafter::default(), 0);
            for _ in 0..200 {
                let guesses = drafter.worth_asking(&mut faith, terms(0.2, 0.0));
                drafter.asked(guesses);
                drafter.learn(guesses, if right { guesses } else { 0 }, &mut faith);
                computed += guesses;
            }
            computed
        };
        let asked: Vec<usize> = (0..64).map(|_| answer(false)).collect();
        assert!(asked[0] > 0 && asked[32..].iter().filter(|asked| **asked > 0).count() == 2, "{asked:?}");
        assert!(asked.iter().all(|asked| *asked < 50), "{asked:?}");
        let asked: Vec<usize> = (0..100).map(|_| answer(true)).collect();
        assert!(asked[90..].iter().all(|asked| *asked > 1000), "{asked:?}");
    }

    #[test]
    fn a_rows_price_is_learnt_from_steps() {
        let mut cost = StepCost::default();
        assert!((cost.price(1) - 1.0 / 7.0).abs() < 1e-9);
        assert_eq!(cost.takes(1), None);
        for rows in [1, 2, 1, 4, 8, 3, 1] {
            cost.learn(rows, Duration::from_micros(9000 + 1000 * rows as u64));
        }
        assert!((cost.price(1) - 0.1).abs() < 1e-6, "{}", cost.price(1));
        assert!((cost.price(9) - 0.5).abs() < 1e-6, "{}", cost.price(9));
        assert!(cost.takes(3).is_some_and(|takes| (takes - 0.012).abs() < 1e-9));
        (0..8).for_each(|_| cost.learn(1, Duration::from_millis(10)));
        let before = cost.takes(1).unwrap_or_default();
        cost.learn(1, Duration::from_secs(1));
        assert!(cost.takes(1).is_some_and(|takes| takes < before * 1.1), "one that was disturbed");
        (0..500).for_each(|_| cost.learn(1, Duration::from_millis(100)));
        assert!(cost.takes(1).is_some_and(|takes| takes > 0.09), "and all that are slower: {cost:?}");
        let mut flat = StepCost::default();
        for (rows, took) in [(1, 10), (8, 9), (1, 10), (8, 9)] {
            flat.learn(rows, Duration::from_millis(took));
        }
        assert!(flat.takes(1).is_some_and(|takes| (takes - 0.0095).abs() < 1e-4) && flat.row() == Some(0.0));
    }
}
