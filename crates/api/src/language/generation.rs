//! [`Generation`]: a request with the engine, and what comes of it.

use std::ops::ControlFlow;
use std::sync::Arc;

use llm::{Event, FinishReason, GenerateRequest, SubmitError, Ticket, TokenLogprob, Usage};
use serving::{LanguageRoute, Outcome};
use tokio::sync::mpsc;

use super::Names;
use super::prepare::too_long;
use crate::fields::invalid;
use crate::metering::{Charge, Lease};
use crate::{Code, Fault};

/// What happens to one of the answers.
#[derive(Debug)]
pub(crate) enum Said {
    /// A token was chosen.
    Token {
        /// Which of the answers: those to the first prompt first.
        answer: usize,
        /// The token.
        id: u32,
        /// The characters that it completed.
        text: String,
        /// Where asked for.
        logprob: Option<TokenLogprob>,
    },
    /// An answer ended.
    Ended {
        /// Which of the answers.
        answer: usize,
        /// Its last text.
        text: String,
        /// Why.
        end: End,
    },
}

impl Said {
    /// Which of the answers it happened to.
    pub(super) fn answer(&self) -> usize {
        match self {
            Said::Token { answer, .. } | Said::Ended { answer, .. } => *answer,
        }
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The model ended it.
    Stop,
    /// The stop text of this index was about to follow.
    StopText(usize),
    /// It has as many tokens as may be.
    Length,
    /// It calls tools.
    Calls,
}

/// One request to the engine, or several that are answered as one. Dropping it ends the work within a step.
pub(crate) struct Generation {
    /// What answers.
    pub(crate) route: LanguageRoute,
    /// Tokens so far; complete once [`Generation::next`] says that there is no more.
    pub(crate) usage: Usage,
    /// Tokens in the prompts.
    pub(crate) prompt_tokens: usize,
    events: mpsc::Receiver<(usize, Event)>,
    tickets: Vec<Ticket>,
    /// Answers to each prompt.
    n: usize,
    /// Prompts whose answers have not all ended.
    open: usize,
    /// Whether its end was counted.
    counted: bool,
    lease: Lease,
    /// Whether no more tokens were to be had: the answers end with what was told.
    spent: bool,
}

/// Events taken at a time.
const EVENTS: usize = 64;

impl Generation {
    /// Hands `prompts` to the model, each with the rest of `request`, paid for by `charge`. Not for async threads: a
    /// constraint is compiled here.
    pub(crate) fn start(
        route: LanguageRoute,
        project: &str,
        prompts: Vec<Vec<u32>>,
        request: &GenerateRequest,
        names: &Names,
        charge: Charge,
    ) -> Result<Generation, Fault> {
        let language = Arc::clone(&route.language);
        let tokens = request.max_tokens.min(language.context());
        // All that can come fits: the engine never waits for a client.
        let most = prompts.len() * (request.n.min(1024) * (tokens + 2) + 2);
        let (sender, events) = mpsc::channel(most);
        let (n, open) = (request.n, prompts.len());
        let prompt_tokens = prompts.iter().map(Vec::len).sum();
        let mut tickets = Vec::with_capacity(open);
        let answers = open.saturating_mul(n);
        let lease = Lease::take(charge, &route.deployed, prompt_tokens, answers, tokens)?;
        for (place, prompt) in prompts.into_iter().enumerate() {
            let sender = sender.clone();
            let sink = move |event| match sender.try_send((place, event)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            };
            let one = GenerateRequest { prompt, ..request.clone() };
            let ticket = language.submit(project, one, Box::new(sink)).map_err(|error| {
                route.count_refusal(&error);
                refused(&error, names)
            })?;
            tickets.push(ticket);
        }
        let usage = Usage::default();
        let (counted, spent) = (false, false);
        Ok(Generation { route, usage, prompt_tokens, events, tickets, n, open, counted, lease, spent })
    }

    /// Waits for what happens next and appends it to `said`. `false` once every answer has ended.
    ///
    /// # Errors
    /// If the model fails, or time is up.
    pub(crate) async fn next(&mut self, said: &mut Vec<Said>) -> Result<bool, Fault> {
        if self.open == 0 {
            return Ok(false);
        }
        let mut events = Vec::with_capacity(EVENTS);
        if self.events.recv_many(&mut events, EVENTS).await == 0 {
            return Err(self.failed(
                Outcome::Failed,
                Code::Unavailable,
                "the model stopped before its answer was complete; try again",
            ));
        }
        for (prompt, event) in events {
            self.take(prompt, event, said)?;
        }
        Ok(true)
    }

    fn take(&mut self, prompt: usize, event: Event, said: &mut Vec<Said>) -> Result<(), Fault> {
        match event {
            Event::Token { .. } if self.spent => {}
            Event::Token { .. } if !self.lease.tell() => {
                self.spent = true;
                self.cancel();
            }
            Event::Token { choice, id, text, logprob } => {
                said.push(Said::Token { answer: prompt * self.n + choice, id, text, logprob });
            }
            Event::Finished { choice, .. } if self.spent => {
                let answer = prompt * self.n + choice;
                said.push(Said::Ended { answer, text: String::new(), end: End::Length });
            }
            Event::Finished { choice, reason, text } => {
                let end = match reason {
                    FinishReason::Stop | FinishReason::Cancelled => End::Stop,
                    FinishReason::StopText(index) => End::StopText(index),
                    FinishReason::Length => End::Length,
                    FinishReason::Deadline => {
                        let message = "the answer took longer than this server allows";
                        return Err(self.failed(Outcome::Expired, Code::DeadlineExceeded, message));
                    }
                };
                said.push(Said::Ended { answer: prompt * self.n + choice, text, end });
            }
            Event::Done { usage } => {
                self.open -= 1;
                self.usage.prompt += usage.prompt;
                self.usage.cached += usage.cached;
                self.usage.completion += usage.completion;
                if self.open == 0 {
                    if self.spent {
                        self.usage.completion = self.lease.told();
                    }
                    self.lease.record(&self.usage);
                }
            }
            Event::Failed { message } => return Err(self.failed(Outcome::Failed, Code::Internal, &message)),
        }
        Ok(())
    }

    fn failed(&mut self, outcome: Outcome, code: Code, message: &str) -> Fault {
        self.route.count(outcome);
        self.counted = true;
        self.open = 0;
        self.tickets.clear();
        Fault::new(code, message)
    }

    /// Ends the answers that go on: they come to their ends soon, as if the model had ended them.
    pub(crate) fn cancel(&self) {
        self.tickets.iter().for_each(Ticket::cancel);
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if self.open > 0 && !self.counted {
            self.route.count(Outcome::Cancelled);
            self.lease.record_broken_off();
        }
    }
}

/// What to tell a client whose request the engine did not take.
fn refused(error: &SubmitError, names: &Names) -> Fault {
    match error {
        SubmitError::Full { retry_after } => Fault {
            retry_after: Some(*retry_after),
            ..Fault::new(Code::ResourceExhausted, error.to_string()).because("rate_limit_exceeded")
        },
        SubmitError::PromptTooLong { .. } => too_long(names.prompt, error.to_string()),
        SubmitError::Invalid { field: "constraint", message } => {
            Fault::invalid(message.clone()).about(names.format).because("invalid_value")
        }
        SubmitError::Invalid { field: "prompt", message } => invalid(names.prompt, message.clone()),
        SubmitError::Invalid { field, message } => invalid(*field, message.clone()),
        SubmitError::Stopped => Fault::new(Code::Unavailable, error.to_string()),
    }
}
