//! From a row of logits to a token: edits, a fold of filters, one draw.
//!
//! A draw depends on the row, the parameters, the seed, the choice and the position, and on nothing else: not on
//! what else was computed in the same step.

mod candidates;
mod draw;
mod params;

pub use candidates::Candidate;
pub use params::{InvalidSampling, SamplingParams};

use candidates::Candidates;

/// Which tokens may come next; one bit a token, the lowest bit of the first word for token 0.
#[derive(Clone, Copy, Debug)]
pub struct TokenMask<'a>(pub &'a [u32]);

impl TokenMask<'_> {
    /// Whether the token may come next.
    #[must_use]
    pub fn allows(self, token: usize) -> bool {
        self.0.get(token / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
    }
}

/// Tokens that a sequence has, as penalties want them.
#[derive(Clone, Copy, Debug)]
pub struct History<'a> {
    /// The prompt.
    pub prompt: &'a [u32],
    /// The answer so far.
    pub answer: &'a [u32],
}

/// Where a draw stands: the same place draws the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The request's seed.
    pub seed: u64,
    /// Which of the request's answers.
    pub choice: usize,
    /// Which token of the answer.
    pub position: usize,
}

/// A token and the logarithm of its probability, by the model's own logits: before bias, penalties, temperature,
/// filters and constraints.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogProb {
    /// The token.
    pub token: u32,
    /// Natural logarithm; at most 0.
    pub logprob: f32,
}

/// The log-probabilities at one position.
#[derive(Clone, Debug, PartialEq)]
pub struct LogProbs {
    /// Of the token that was chosen.
    pub chosen: LogProb,
    /// The most probable ones, as many as were asked for, greatest first.
    pub top: Vec<LogProb>,
}

/// Chooses the token that follows. `logits` is `[vocab]`; `scratch` is used where they have to be edited. Where
/// nothing is allowed, or no logit is a number, there is no token.
pub fn sample(
    params: &SamplingParams,
    logits: &[f32],
    history: History<'_>,
    mask: Option<TokenMask<'_>>,
    place: Place,
    scratch: &mut Vec<f32>,
) -> Option<u32> {
    let logits = if params.edits() || mask.is_some() {
        scratch.clear();
        scratch.extend_from_slice(logits);
        edit(params, scratch, history, mask);
        scratch
    } else {
        logits
    };
    let (best, greatest) = greatest(logits)?;
    if params.temperature == 0.0 {
        return Some(best);
    }
    let candidates = Candidates::new(logits, greatest, params.temperature);
    let kept = params.filters().iter().fold(candidates, |candidates, filter| filter.apply(candidates));
    kept.draw(draw::uniform(place))
}

/// The log-probabilities of `token` and of the `top` most probable ones. `logits` is `[vocab]`, as the model gave
/// it.
pub fn log_probs(logits: &[f32], token: u32, top: usize) -> Option<LogProbs> {
    let (_, greatest) = greatest(logits)?;
    let log_sum = logits.iter().map(|&logit| f64::from((logit - greatest).exp())).sum::<f64>().ln();
    let log_prob = |token: u32, logit: f32| LogProb {
        token,
        logprob: (f64::from(logit) - f64::from(greatest) - log_sum) as f32,
    };
    let chosen = log_prob(token, *logits.get(token as usize)?);
    let top = candidates::greatest_of(logits, top)
        .into_iter()
        .map(|(token, logit)| log_prob(token, logit))
        .collect();
    Some(LogProbs { chosen, top })
}

/// The greatest logit and its token; of equals the first. Nothing where no logit is above minus infinity.
fn greatest(logits: &[f32]) -> Option<(u32, f32)> {
    // Eight running maxima: the compiler makes one vector of them.
    let mut lanes = [f32::NEG_INFINITY; 8];
    let (chunks, rest) = logits.as_chunks::<8>();
    for chunk in chunks {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            *lane = if logit > *lane { logit } else { *lane };
        }
    }
    let most = lanes
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |most, &logit| if logit > most { logit } else { most });
    if most == f32::NEG_INFINITY {
        return None;
    }
    let token = logits.iter().position(|&logit| logit == most)?;
    Some((token as u32, most))
}

/// Penalties, then bias, then what is not allowed.
fn edit(params: &SamplingParams, logits: &mut [f32], history: History<'_>, mask: Option<TokenMask<'_>>) {
    penalize(params, logits, history);
    for &(token, bias) in &params.logit_bias {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit += bias;
        }
    }
    if let Some(mask) = mask {
        forbid(logits, mask);
    }
}

/// Repetition: what occurred in prompt or answer is divided (or, below zero, multiplied). Presence and frequency:
/// what occurred in the answer loses a constant, and a constant for each time.
fn penalize(params: &SamplingParams, logits: &mut [f32], history: History<'_>) {
    if params.repetition_penalty != 1.0 {
        let mut seen: Vec<u32> = history.prompt.iter().chain(history.answer).copied().collect();
        seen.sort_unstable();
        seen.dedup();
        for token in seen {
            if let Some(logit) = logits.get_mut(token as usize) {
                let penalty = params.repetition_penalty;
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            }
        }
    }
    if params.presence_penalty != 0.0 || params.frequency_penalty != 0.0 {
        let mut answer = history.answer.to_vec();
        answer.sort_unstable();
        for same in answer.chunk_by(|a, b| a == b) {
            if let Some(logit) = logits.get_mut(same[0] as usize) {
                *logit -= params.presence_penalty + params.frequency_penalty * same.len() as f32;
            }
        }
    }
}

fn forbid(logits: &mut [f32], mask: TokenMask<'_>) {
    for (token, logit) in logits.iter_mut().enumerate() {
        if !mask.allows(token) {
            *logit = f32::NEG_INFINITY;
        }
    }
}

#[cfg(test)]
mod tests;
