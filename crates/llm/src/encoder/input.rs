//! [`Input`]: a text, or a pair of texts, as an encoder takes it.

use kernels::PAGE_TOKENS;

use crate::tokenizer::{Special, Tokenizer};

/// The tokens of a text, or of two that are judged together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// With those that begin, divide and end texts.
    pub tokens: Vec<u32>,
    /// From here on they are the second text's; their number where there is one text.
    pub second_from: usize,
}

impl Input {
    /// A text. Names of control tokens in it are text.
    #[must_use]
    pub fn text(tokenizer: &Tokenizer, text: &str) -> Input {
        Input::tokens(tokenizer, tokenizer.encode(text, Special::AsText))
    }

    /// A text's tokens, with those that begin and end it where they are not there yet.
    #[must_use]
    pub fn tokens(tokenizer: &Tokenizer, tokens: Vec<u32>) -> Input {
        let tokens = tokenizer.complete(tokens);
        Input { second_from: tokens.len(), tokens }
    }

    /// Two texts, each with its end: `[CLS] first [SEP] second [SEP]`.
    #[must_use]
    pub fn pair(tokenizer: &Tokenizer, first: &str, second: &str) -> Input {
        let mut tokens = Input::text(tokenizer, first).tokens;
        let more = tokenizer.pair_ends().saturating_sub(1);
        tokens.extend(tokenizer.eos().into_iter().cycle().take(more));
        let second_from = tokens.len();
        tokens.extend(tokenizer.encode(second, Special::AsText));
        tokens.extend(tokenizer.eos());
        Input { tokens, second_from }
    }

    /// The part of a step that it takes: its tokens, in whole pages of keys and values.
    #[must_use]
    pub fn padded_len(&self) -> usize {
        self.tokens.len().next_multiple_of(PAGE_TOKENS)
    }

    /// Cuts the text that comes last so that there are at most `max` tokens, the token that ends it kept where it has one.
    /// `false`, and nothing is done, where even without that text there are more.
    pub fn truncate(&mut self, tokenizer: &Tokenizer, max: usize) -> bool {
        if self.tokens.len() <= max {
            return true;
        }
        let begins = if self.second_from < self.tokens.len() { self.second_from } else { 1 };
        if max <= begins {
            return false;
        }
        let one = self.second_from == self.tokens.len();
        let end = self.tokens.last().copied().filter(|&end| tokenizer.eos() == Some(end));
        self.tokens.truncate(max - usize::from(end.is_some()));
        self.tokens.extend(end);
        if one {
            self.second_from = max;
        }
        true
    }
}
