//! What is asked of the engine, and what it answers.

use std::ops::{ControlFlow, Range};
use std::time::{Duration, Instant};

use crate::constraint::Constraint;
use crate::sampler::SamplingParams;

/// A prompt to be continued.
#[derive(Clone, Debug)]
pub struct GenerateRequest {
    /// The prompt; at least one token.
    pub prompt: Vec<u32>,
    /// Answers wanted; each is drawn by itself, the prompt is computed once.
    pub n: usize,
    /// Tokens in each answer at most; at least 1. An answer also ends where the model's context does.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Texts before which an answer ends; at most [`crate::STOPS_MAX`].
    pub stop: Vec<String>,
    /// Log-probabilities with each token: of the token, and of so many of the most probable ones (0 to
    /// [`crate::TOP_LOGPROBS_MAX`]).
    pub logprobs: Option<u8>,
    /// What the answers must look like.
    pub constraint: Option<Constraint>,
    /// The tenant's: prefixes are shared, and service is fair, by salt.
    pub salt: u64,
    /// Greater goes first; 0 is usual. From [`crate::BACKGROUND`] down, it goes on in what others leave.
    pub priority: i8,
    /// When the answers end, finished or not.
    pub deadline: Instant,
    /// Goes on past the token that ends an answer; for measurements.
    pub ignore_end: bool,
    /// The answer, where it is known and only its log-probabilities are wanted.
    pub given: Option<Given>,
}

/// An answer that is to be judged, not found. Its tokens come as events, each with its log-probability; nothing is
/// drawn, and nothing counts as completion.
#[derive(Clone, Debug)]
pub struct Given {
    /// At least one token. What ends answers is a token like others here.
    pub answer: Vec<u32>,
    /// Positions of the prompt that the answer does not attend to. The rest of the prompt does, and is computed as usual:
    /// so this tells approximately what the answer were without them, at the cost of the answer alone.
    pub hidden: Range<usize>,
}

impl GenerateRequest {
    /// One greedy answer to `prompt`, of at most `max_tokens`, within five minutes.
    #[must_use]
    pub fn new(prompt: Vec<u32>, max_tokens: usize) -> GenerateRequest {
        GenerateRequest {
            prompt,
            n: 1,
            max_tokens,
            sampling: SamplingParams::greedy(),
            stop: Vec::new(),
            logprobs: None,
            constraint: None,
            salt: 0,
            priority: 0,
            deadline: Instant::now() + Duration::from_secs(300),
            ignore_end: false,
            given: None,
        }
    }

    /// The log-probabilities of `answer` after `prompt`, of which it does not see the positions `hidden`; within five
    /// minutes.
    #[must_use]
    pub fn judge(prompt: Vec<u32>, answer: Vec<u32>, hidden: Range<usize>) -> GenerateRequest {
        let request = GenerateRequest::new(prompt, answer.len());
        GenerateRequest { logprobs: Some(0), given: Some(Given { answer, hidden }), ..request }
    }
}

/// Where a request's events go. Called by the engine's thread: it must not wait. `Break` cancels the request.
pub type Sink = Box<dyn FnMut(Event) -> ControlFlow<()> + Send>;

/// What happens to a request, in order: tokens, one `Finished` for each choice, then `Done`; or `Failed`, and nothing
/// after it.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A token was chosen, and its text is decided.
    Token {
        /// Which of the answers.
        choice: usize,
        /// The token.
        id: u32,
        /// The characters that it completed; may be empty.
        text: String,
        /// Present where asked for.
        logprob: Option<TokenLogprob>,
    },
    /// An answer ended.
    Finished {
        /// Which of the answers.
        choice: usize,
        /// Why.
        reason: FinishReason,
        /// The answer's last text, where no token's event carried it: nearly always empty.
        text: String,
    },
    /// Every answer ended.
    Done {
        /// What it cost.
        usage: Usage,
    },
    /// The request cannot be answered.
    Failed {
        /// Why, for the client.
        message: String,
    },
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended it, or its constraint is complete.
    Stop,
    /// The request's stop text of this index was about to follow.
    StopText(usize),
    /// It has as many tokens as were asked for, or as fit.
    Length,
    /// The caller cancelled.
    Cancelled,
    /// The deadline passed.
    Deadline,
}

/// A token with its log-probability.
#[derive(Clone, Debug, PartialEq)]
pub struct RankedToken {
    /// The token.
    pub id: u32,
    /// The bytes it stands for; parts of characters, or nothing for control tokens.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability by the model's own logits, before bias, penalties, temperature,
    /// filters and constraints.
    pub logprob: f32,
}

/// The log-probabilities at one place of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token that was chosen.
    pub chosen: RankedToken,
    /// The most probable ones, greatest first.
    pub top: Vec<RankedToken>,
}

/// Tokens a request took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In the prompt.
    pub prompt: usize,
    /// Of those, found computed.
    pub cached: usize,
    /// Chosen, over all answers, those that ended them included.
    pub completion: usize,
}

/// Why a request was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// As many wait as may.
    #[error("the model is busy: the queue is full; try again in {} s", retry_after.as_secs().max(1))]
    Full {
        /// When there is likely to be room.
        retry_after: Duration,
    },
    /// It does not fit, and is not cut.
    #[error("the prompt has {tokens} tokens; this model takes fewer than {limit}; shorten it")]
    PromptTooLong {
        /// Tokens in the prompt.
        tokens: usize,
        /// Tokens in the context.
        limit: usize,
    },
    /// A field is out of range.
    #[error("{field}: {message}")]
    Invalid {
        /// The field's name.
        field: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The engine has stopped.
    #[error("the model is not loaded at present; try again in a few seconds")]
    Stopped,
}
