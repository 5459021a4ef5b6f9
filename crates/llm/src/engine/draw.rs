//! From the logits of a step to the tokens of one answer.

use std::borrow::Cow;
use std::cell::RefCell;

use super::step::Answer;
use crate::constraint::Follower;
use crate::sampler::{self, History, LogProbs, Place, SamplingParams, TokenMask};

/// The logits of a step.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) logits: &'a [f32],
    pub(super) vocab: usize,
    /// Embeddings are at times filled up to a round number of rows; there are no tokens there.
    pub(super) tokens: usize,
}

impl<'a> Rows<'a> {
    fn row(&self, row: usize) -> Option<&'a [f32]> {
        let first = row * self.vocab;
        self.logits.get(first..first + self.vocab.min(self.tokens))
    }
}

/// What an answer's rows were computed of.
pub(super) enum Basis {
    /// A draft: a row is right as long as what is chosen is what was guessed. The first row always is.
    Draft(Vec<u32>),
    /// The answer itself, from the first row's token on: nothing is chosen.
    Given(Vec<u32>),
}

/// The draws for one answer, but for the constraint.
pub(super) struct Draw<'a> {
    pub(super) params: &'a SamplingParams,
    pub(super) rows: Rows<'a>,
    pub(super) history: History<'a>,
    /// Of the first row.
    pub(super) place: Place,
    pub(super) top: Option<usize>,
    /// Tokens after which nothing follows.
    pub(super) ends: &'a [u32],
    pub(super) basis: Basis,
}

/// Draws to be made, and then what came of them.
pub(super) struct Ask<'a> {
    pub(super) answer: Answer,
    pub(super) draw: Draw<'a>,
    pub(super) follower: Option<Follower>,
    pub(super) picks: Vec<Pick>,
}

/// What was drawn at one place.
pub(super) struct Pick {
    /// The token, or why there is none.
    pub(super) token: Result<u32, String>,
    pub(super) logprobs: Option<LogProbs>,
    /// Whether the constraint lets nothing follow.
    pub(super) complete: bool,
}

thread_local! {
    /// Where logits are edited.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// A draw, with the thread's own place to edit in.
pub(super) fn sampled(
    params: &SamplingParams,
    logits: &[f32],
    history: History<'_>,
    mask: Option<TokenMask<'_>>,
    place: Place,
) -> Option<u32> {
    SCRATCH.with_borrow_mut(|scratch| sampler::sample(params, logits, history, mask, place, scratch))
}

impl Ask<'_> {
    /// Draws as many tokens as the rows are right for.
    pub(super) fn choose(&mut self) {
        let Ask { answer, draw, follower, picks } = self;
        let rows = answer.rows.clone().map_while(|row| draw.rows.row(row));
        match &draw.basis {
            Basis::Given(tokens) => picks.extend(rows.zip(tokens).map(|(logits, &token)| Pick {
                token: Ok(token),
                logprobs: sampler::log_probs(logits, token, draw.top.unwrap_or(0)),
                complete: false,
            })),
            Basis::Draft(guesses) => {
                let mut said = Cow::Borrowed(draw.history.answer);
                for (nth, logits) in rows.enumerate() {
                    let pick = draw.pick(logits, &said, follower.as_mut());
                    let guessed =
                        matches!((&pick.token, guesses.get(nth)), (Ok(token), Some(guess)) if token == guess);
                    let goes_on = guessed && !pick.complete && !draw.ends.contains(&guesses[nth]);
                    picks.push(pick);
                    if !goes_on {
                        break;
                    }
                    said.to_mut().push(guesses[nth]);
                }
            }
        }
    }
}

impl Draw<'_> {
    /// Draws the token after `said`, and lets the constraint go on by it.
    fn pick(&self, logits: &[f32], said: &[u32], mut follower: Option<&mut Follower>) -> Pick {
        let history = History { answer: said, ..self.history };
        let place = Place { position: said.len(), ..self.place };
        let mask = follower.as_deref_mut().map(Follower::mask).transpose();
        let token = mask.map_err(|error| error.to_string()).and_then(|mask| {
            sampled(self.params, logits, history, mask, place).ok_or_else(|| match mask {
                Some(_) => "nothing that the constraint allows can follow".to_string(),
                None => "the model's numbers are not finite; its file may be damaged".to_string(),
            })
        });
        let logprobs = match (&token, self.top) {
            (Ok(token), Some(top)) => sampler::log_probs(logits, *token, top),
            _ => None,
        };
        let followed = token.and_then(|token| {
            let Some(follower) = follower.filter(|_| !self.ends.contains(&token)) else {
                return Ok((token, false));
            };
            follower.accept(token).map_err(|error| error.to_string())?;
            Ok((token, follower.is_complete()))
        });
        match followed {
            Ok((token, complete)) => Pick { token: Ok(token), logprobs, complete },
            Err(message) => Pick { token: Err(message), logprobs: None, complete: false },
        }
    }
}
