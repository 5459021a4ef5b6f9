//! [`Answers`]: what a model says in a conversation, with calls of tools told from text.

use llm::TokenLogprob;

use super::generation::{End, Generation, Said};
use super::tools::{Parser, Piece, Style, Tools, spelled};
use crate::Fault;

/// The answers to a conversation on their way. Dropping them ends the work within a step.
pub(crate) struct Answers {
    /// What answers, and what it cost so far.
    pub(crate) generation: Generation,
    answers: Vec<Answer>,
    /// Whether an answer may have more than one call.
    parallel: bool,
    said: Vec<Said>,
}

/// One answer as it grows.
struct Answer {
    parser: Parser,
    calls: usize,
    /// Of tokens whose text is not told yet.
    ranks: Vec<TokenLogprob>,
}

/// What is told of an answer at once. Nothing of it is told again.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Text and calls, in order.
    pub(crate) pieces: Vec<Piece>,
    /// How many calls came before.
    pub(crate) calls_before: usize,
    /// The log-probabilities, where asked for, of tokens up to here.
    pub(crate) ranks: Vec<TokenLogprob>,
    /// Why it ended, if it did.
    pub(crate) ended: Option<End>,
}

impl Answers {
    pub(super) fn new(generation: Generation, n: usize, style: Option<Style>, tools: &Tools) -> Answers {
        let names = tools.names();
        let answer = |_| Answer { parser: Parser::new(style, names.clone()), calls: 0, ranks: Vec::new() };
        let answers = (0..n).map(answer).collect();
        Answers { generation, answers, parallel: tools.parallel, said: Vec::new() }
    }

    /// Waits for what happens next; each thing with the number of the answer that it happened to. Nothing once all
    /// have ended. May be given up and called again.
    ///
    /// # Errors
    /// If the model fails, or time is up.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<(usize, Told)>>, Fault> {
        let mut said = std::mem::take(&mut self.said);
        let more = self.generation.next(&mut said).await?;
        let told: Vec<(usize, Told)> = said.drain(..).filter_map(|said| self.hear(said)).collect();
        self.said = said;
        Ok((more || !told.is_empty()).then_some(told))
    }

    fn hear(&mut self, said: Said) -> Option<(usize, Told)> {
        let (place, mut pieces, mut ended) = (said.answer(), Vec::new(), None);
        let alone = self.answers.len() == 1;
        let answer = self.answers.get_mut(place)?;
        match said {
            Said::Token { id, text, logprob, .. } => {
                answer.ranks.extend(logprob);
                answer.parser.push(&spelled(&self.generation.route.language, id, text), &mut pieces);
            }
            Said::Ended { text, end, .. } => {
                answer.parser.push(&text, &mut pieces);
                answer.parser.finish(&mut pieces);
                ended = Some(end);
            }
        }
        if !self.parallel && answer.keep_one_call(&mut pieces) && alone {
            self.generation.cancel();
        }
        let calls_before = answer.calls;
        answer.calls += pieces.iter().filter(|piece| matches!(piece, Piece::Call { .. })).count();
        // A call that was cut off is text, and ends as text does.
        let ended = ended.map(|end| if answer.calls > 0 && end != End::Length { End::Calls } else { end });
        let ranks = match (pieces.is_empty(), ended) {
            (true, None) => Vec::new(),
            _ => std::mem::take(&mut answer.ranks),
        };
        Some((place, Told { pieces, calls_before, ranks, ended }))
    }
}

impl Answer {
    /// Lets nothing pass after the first call. Says whether there is one.
    fn keep_one_call(&self, pieces: &mut Vec<Piece>) -> bool {
        if self.calls > 0 {
            pieces.clear();
            return true;
        }
        let first = pieces.iter().position(|piece| matches!(piece, Piece::Call { .. }));
        if let Some(first) = first {
            pieces.truncate(first + 1);
        }
        first.is_some()
    }
}
