//! [`Prompt`]: what was said, its parts, and the prompt that some of them make.

use std::ops::Range;

use analysis::shapley::Coalition;
use llm::template::Message;

use super::{Said, SpanKind, bad_request};
use crate::error::PredictError;
use crate::language::Language;

/// A part of a message's content.
#[derive(Debug, Clone)]
pub(super) struct Span {
    pub(super) message: usize,
    pub(super) bytes: Range<usize>,
}

/// What was said, in parts.
pub(super) struct Prompt<'a> {
    language: &'a Language,
    said: &'a Said,
    spans: Vec<Span>,
    whole: Vec<u32>,
}

impl<'a> Prompt<'a> {
    pub(super) fn new(
        language: &'a Language,
        said: &'a Said,
        kind: SpanKind,
    ) -> Result<Prompt<'a>, PredictError> {
        let whole = tokens(language, said)?;
        let parts = |(message, text): (usize, &'a str)| {
            let cut = kind.cut(text, language.tokenizer());
            cut.into_iter().map(move |bytes| Span { message, bytes })
        };
        let spans = contents(said).enumerate().flat_map(parts).collect();
        Ok(Prompt { language, said, spans, whole })
    }

    pub(super) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Its tokens.
    pub(super) fn whole(&self) -> &[u32] {
        &self.whole
    }

    /// The tokens of the prompt that has only these parts: rendered and tokenized anew, as if no more had been said.
    pub(super) fn with(&self, parts: &Coalition) -> Result<Vec<u32>, PredictError> {
        if (0..self.spans.len()).all(|part| parts.contains(part)) {
            return Ok(self.whole.clone());
        }
        let left = |message: usize, text: &str| -> String {
            let own = self
                .spans
                .iter()
                .enumerate()
                .filter(|(part, span)| span.message == message && parts.contains(*part));
            own.filter_map(|(_, span)| text.get(span.bytes.clone())).collect()
        };
        let said = match self.said {
            Said::Text(text) => Said::Text(left(0, text)),
            Said::Chat(messages) => {
                let messages = messages.iter().enumerate().map(|(place, message)| Message {
                    content: message.content.as_ref().map(|text| left(place, text)),
                    ..message.clone()
                });
                Said::Chat(messages.collect())
            }
        };
        tokens(self.language, &said)
    }

    /// Where each part's tokens are in the whole prompt. A token belongs to the part that its last byte is in.
    pub(super) fn tokens_of_spans(&self) -> Result<Vec<Range<usize>>, PredictError> {
        let tokenizer = self.language.tokenizer();
        let mut text = Vec::new();
        let mut ends = Vec::with_capacity(self.whole.len());
        for &token in &self.whole {
            text.extend_from_slice(tokenizer.token_bytes(token));
            ends.push(text.len());
        }
        let starts = starts(&text, contents(self.said))?;
        let last = self.whole.len().saturating_sub(1);
        let token_at = |byte: usize| ends.partition_point(|&end| end <= byte).min(last);
        let range = |span: &Span| {
            let (first, end) =
                (starts[span.message] + span.bytes.start, starts[span.message] + span.bytes.end);
            // The first token that ends within the part, and the first that ends after it.
            token_at(first)..token_at(end)
        };
        Ok(self.spans.iter().map(range).collect())
    }
}

/// Where each of `contents` begins in `text`, one after the other.
fn starts<'a>(text: &[u8], contents: impl Iterator<Item = &'a str>) -> Result<Vec<usize>, PredictError> {
    let mut at = 0;
    let mut starts = Vec::new();
    for (place, content) in contents.enumerate() {
        // Templates strip space around what is said.
        let seen = content.trim();
        let found = match seen.len() {
            0 => Some(0),
            len => text[at..].windows(len).position(|window| window == seen.as_bytes()),
        };
        let found = found.ok_or_else(|| {
            bad_request(format!(
                "the model's template changes message {place}, so that its parts cannot be hidden: use leave_one_out"
            ))
        })?;
        let before = content.len() - content.trim_start().len();
        starts.push((at + found).saturating_sub(before));
        at += found + seen.len();
    }
    Ok(starts)
}

/// What each message says.
fn contents(said: &Said) -> impl Iterator<Item = &str> {
    let (chat, text) = match said {
        Said::Chat(messages) => (messages.as_slice(), None),
        Said::Text(text) => (&[][..], Some(text.as_str())),
    };
    chat.iter().map(|message| message.content.as_deref().unwrap_or_default()).chain(text)
}

/// The prompt's tokens; at least one.
fn tokens(language: &Language, said: &Said) -> Result<Vec<u32>, PredictError> {
    let tokens = match said {
        Said::Chat(messages) => language.chat_prompt(messages, Vec::new()),
        Said::Text(text) => language.text_prompt(text),
    };
    let mut tokens = tokens.map_err(|error| bad_request(error.to_string()))?;
    if tokens.is_empty() {
        // What stands between texts stands for no text.
        tokens.extend(language.tokenizer().eos().or(language.tokenizer().bos()));
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn contents_are_found_in_order_and_space_around_them_may_be_gone() {
        let found =
            starts(b"<user>a b</user><user>a b c</user>", ["a b", "", " a b c\n"].into_iter()).unwrap();
        assert_eq!(found, [6, 9, 21]);
        assert!(starts(b"<user>A B</user>", ["a b"].into_iter()).is_err());
    }
}
