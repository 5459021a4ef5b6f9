//! [`Figures`]: what a level's requests were, together.

use std::time::Duration;

use super::{Answered, Level, Troubles};

/// The mean of some values, and those below which half, nine tenths and 99 hundredths of them lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Their mean.
    pub mean: f64,
    /// Half of them lie below.
    pub p50: f64,
    /// Nine tenths of them lie below.
    pub p90: f64,
    /// 99 hundredths of them lie below.
    pub p99: f64,
}

impl Spread {
    /// Of these values; `None` where there are none.
    pub fn of(mut values: Vec<f64>) -> Option<Spread> {
        if values.is_empty() {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| quantile(&values, share));
        Some(Spread { mean, p50, p90, p99 })
    }
}

/// The value below which a share of the sorted values lies; on the line between two where it falls there.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * place.fract()
}

/// What a request has to keep to count as served well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Goal {
    /// Its first token comes within this.
    pub first_token: Option<Duration>,
    /// Its further tokens come within this, in the mean.
    pub between_tokens: Option<Duration>,
}

impl Goal {
    /// Whether anything is asked.
    pub fn is_set(self) -> bool {
        self.first_token.is_some() || self.between_tokens.is_some()
    }

    /// Whether `answered` kept it.
    pub fn met_by(self, answered: &Answered) -> bool {
        let within = |most: Option<Duration>, took: Option<Duration>| match (most, took) {
            (Some(most), Some(took)) => took <= most,
            _ => true,
        };
        within(self.first_token, Some(answered.first_token))
            && within(self.between_tokens, answered.between_tokens())
    }
}

/// What a level's requests were, together.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// How hard the server was asked.
    pub level: Level,
    /// From the first request's sending to the last one's end.
    pub seconds: f64,
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that were not.
    pub troubles: Troubles,
    /// Requests whose end nobody waited for.
    pub unfinished: u64,
    /// Answers a second.
    pub requests_per_second: f64,
    /// Tokens of answered prompts a second.
    pub prompt_tokens_per_second: f64,
    /// Tokens of answers a second.
    pub output_tokens_per_second: f64,
    /// Answers a second that kept the goal; `None` where none is set.
    pub goodput: Option<f64>,
    /// The share of the prompts' tokens that the server found computed.
    pub cached_share: f64,
    /// Tokens of a prompt.
    pub prompt_tokens: Option<Spread>,
    /// Tokens of an answer.
    pub output_tokens: Option<Spread>,
    /// Milliseconds to the first token.
    pub first_token_ms: Option<Spread>,
    /// Milliseconds between two tokens: of each answer the mean.
    pub between_tokens_ms: Option<Spread>,
    /// Milliseconds of each answer's longest pause.
    pub pause_ms: Option<Spread>,
    /// Milliseconds to the answer's end.
    pub whole_ms: Option<Spread>,
}

impl Figures {
    /// Of what came within `elapsed`.
    pub fn of(
        level: Level,
        elapsed: Duration,
        answers: &[Answered],
        troubles: Troubles,
        unfinished: u64,
        goal: Goal,
    ) -> Figures {
        let seconds = elapsed.as_secs_f64();
        let each_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let sum = |of: fn(&Answered) -> u64| answers.iter().map(of).sum::<u64>();
        let spread = |of: fn(&Answered) -> Option<f64>| Spread::of(answers.iter().filter_map(of).collect());
        let prompts = sum(|a| a.prompt_tokens);
        let met = || answers.iter().filter(|a| goal.met_by(a)).count() as u64;
        Figures {
            level,
            seconds,
            answered: answers.len() as u64,
            troubles,
            unfinished,
            requests_per_second: each_second(answers.len() as u64),
            prompt_tokens_per_second: each_second(prompts),
            output_tokens_per_second: each_second(sum(|a| a.output_tokens)),
            goodput: goal.is_set().then(|| each_second(met())),
            cached_share: sum(|a| a.cached_tokens) as f64 / prompts.max(1) as f64,
            prompt_tokens: spread(|a| Some(a.prompt_tokens as f64)),
            output_tokens: spread(|a| Some(a.output_tokens as f64)),
            first_token_ms: spread(|a| Some(ms(a.first_token))),
            between_tokens_ms: spread(|a| a.between_tokens().map(ms)),
            pause_ms: spread(|a| (a.output_tokens > 1).then(|| ms(a.pause))),
            whole_ms: spread(|a| Some(ms(a.whole))),
        }
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Trouble;
    use super::*;

    fn answered(first_ms: u64, between_ms: u64, output_tokens: u64) -> Answered {
        Answered {
            first_token: Duration::from_millis(first_ms),
            between: Duration::from_millis(between_ms),
            pause: Duration::from_millis(between_ms),
            whole: Duration::from_millis(first_ms + between_ms),
            prompt_tokens: 10,
            cached_tokens: 4,
            output_tokens,
        }
    }

    #[test]
    fn a_spread_is_what_numpy_says() {
        let spread = Spread::of(vec![4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((spread.mean, spread.p50), (2.5, 2.5));
        assert!((spread.p90 - 3.7).abs() < 1e-12 && (spread.p99 - 3.97).abs() < 1e-12);
        let one = Spread::of(vec![7.0]).unwrap();
        assert_eq!((one.mean, one.p50, one.p90, one.p99), (7.0, 7.0, 7.0, 7.0));
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn rates_are_over_the_time_and_goodput_counts_who_kept_the_goal() {
        let answers =
            [answered(100, 900, 10), answered(300, 900, 10), answered(100, 1800, 10), answered(50, 0, 1)];
        let goal = Goal {
            first_token: Some(Duration::from_millis(200)),
            between_tokens: Some(Duration::from_millis(100)),
        };
        let mut troubles = Troubles::default();
        troubles.add(Trouble::Status(429), || "busy".to_owned());
        let figures = Figures::of(Level::Concurrency(2), Duration::from_secs(2), &answers, troubles, 0, goal);
        assert_eq!((figures.answered, figures.troubles.count()), (4, 1));
        assert_eq!((figures.requests_per_second, figures.goodput), (2.0, Some(1.0)));
        assert_eq!((figures.prompt_tokens_per_second, figures.output_tokens_per_second), (20.0, 15.5));
        assert_eq!(figures.cached_share, 0.4);
        // The answer of one token has no time between tokens.
        assert_eq!(figures.between_tokens_ms.unwrap().p50, 100.0);
        assert_eq!(figures.first_token_ms.unwrap().mean, 137.5);
        let without =
            Figures::of(Level::Rate(1.5), Duration::ZERO, &[], Troubles::default(), 3, Goal::default());
        assert_eq!((without.goodput, without.requests_per_second, without.whole_ms), (None, 0.0, None));
    }
}
