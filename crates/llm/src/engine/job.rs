//! A request under way: its answers, their text, and where its events go.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::Arrival;
use super::speculate::Drafter;
use crate::constraint::Follower;
use crate::request::{Event, FinishReason, GenerateRequest, Sink, TokenLogprob, Usage};
use crate::scheduler::{BACKGROUND, SequenceId};
use crate::text::{Released, Text};

/// What travels with a token until its text is decided.
pub(super) type Tag = (u32, Option<TokenLogprob>);

/// One answer.
pub(super) struct Choice {
    /// Its sequence; nothing when the answer ended.
    pub(super) sequence: Option<SequenceId>,
    pub(super) answer: Vec<u32>,
    pub(super) follower: Option<Follower>,
    pub(super) drafter: Drafter,
    text: Text<Tag>,
}

impl Choice {
    fn new(sequence: SequenceId, follower: Option<Follower>) -> Choice {
        Choice {
            sequence: Some(sequence),
            answer: Vec::new(),
            follower,
            drafter: Drafter::default(),
            text: Text::new(),
        }
    }
}

/// One request and all of its answers.
pub(super) struct Job {
    pub(super) request: GenerateRequest,
    pub(super) seed: u64,
    /// One until the prompt is computed, then as many as were asked for.
    pub(super) choices: Vec<Choice>,
    pub(super) usage: Usage,
    /// Whether its prompt was once computed.
    pub(super) begun: bool,
    sink: Sink,
    cancelled: Arc<AtomicBool>,
    /// Whether anyone still listens.
    listening: bool,
}

impl Job {
    pub(super) fn new(arrival: Arrival, sequence: SequenceId) -> Job {
        let Arrival { request, seed, follower, sink, cancelled } = arrival;
        let usage = Usage { prompt: request.prompt.len(), ..Usage::default() };
        let choices = vec![Choice::new(sequence, follower)];
        Job { request, seed, choices, usage, begun: false, sink, cancelled, listening: true }
    }

    /// Adds the other answers, once the prompt is computed.
    pub(super) fn fork(&mut self, sequences: Vec<SequenceId>) {
        for sequence in sequences {
            let follower = self.choices[0].follower.as_ref().map(Follower::fork);
            self.choices.push(Choice::new(sequence, follower));
        }
    }

    /// Whether what follows is guessed: not where it is given or nobody waits for it, and not before there is an answer.
    pub(super) fn drafts(&self) -> bool {
        self.begun && self.request.given.is_none() && self.request.priority > BACKGROUND
    }

    /// Why it has to end now, if it has to.
    pub(super) fn ended_from_outside(&self, now: Instant) -> Option<FinishReason> {
        if !self.listening || self.cancelled.load(Ordering::Acquire) {
            return Some(FinishReason::Cancelled);
        }
        (now >= self.request.deadline).then_some(FinishReason::Deadline)
    }

    pub(super) fn is_finished(&self) -> bool {
        self.choices.iter().all(|choice| choice.sequence.is_none())
    }

    /// Adds a token to an answer and sends the text that is decided. Gives the stop text that is complete, if one is.
    pub(super) fn push(&mut self, choice: usize, tag: Tag, bytes: &[u8]) -> Option<usize> {
        let (released, stop) = self.choices[choice].text.push(tag, bytes, &self.request.stop);
        self.send_tokens(choice, released);
        stop
    }

    /// Ends an answer: what was held back is sent, then the reason. Gives the sequence that is free now.
    pub(super) fn finish(&mut self, choice: usize, reason: FinishReason) -> Option<SequenceId> {
        let sequence = self.choices[choice].sequence.take()?;
        let (released, text) = self.choices[choice].text.finish();
        self.send_tokens(choice, released);
        self.send(Event::Finished { choice, reason, text });
        Some(sequence)
    }

    fn send_tokens(&mut self, choice: usize, released: Vec<Released<Tag>>) {
        for Released { tag: (id, logprob), text } in released {
            self.send(Event::Token { choice, id, text, logprob });
        }
    }

    pub(super) fn send(&mut self, event: Event) {
        if self.listening && (self.sink)(event) == ControlFlow::Break(()) {
            self.listening = false;
        }
    }
}
