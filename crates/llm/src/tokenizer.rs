//! [`Tokenizer`]: text to tokens and back, as the model's file describes it.
//!
//! Whatever a user writes is text: with [`Special::AsText`] no control token can come of it, however it is spelt. Only
//! what a template wrote is read with [`Special::Parse`]; see [`crate::template`] for how the two are kept apart.

mod bpe;
mod classes;
mod detokenizer;
mod markers;
mod normalize;
mod pairs;
mod split;
mod spm;
#[cfg(test)]
mod tests;
mod tokens;
mod unigram;
mod wordpiece;

use std::borrow::Cow;
use std::sync::Arc;

use formats::tokenizer::{TokenKind, TokenizerKind, TokenizerSpec};

pub use detokenizer::Detokenizer;
pub use split::PreTokenizer;

use crate::Vocabulary;
use bpe::Bpe;
use markers::{Markers, Part};
use spm::Spm;
use tokens::Tokens;
use unigram::Unigram;
use wordpiece::WordPiece;

/// Whether the spelling of a control token is that token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// It is: for what a template or the operator wrote.
    Parse,
    /// It is text like any other: for what a user wrote.
    AsText,
}

/// A tokenizer that cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenizerError {
    /// The splitting rule is not known.
    #[error("the tokenizer splits text by the rule {0:?}, which is not supported; see `tokenizer.ggml.pre`")]
    Rule(String),
    /// A merge names a text that is no token.
    #[error("merge {at} of the tokenizer makes {text:?}, which is not in its vocabulary")]
    Merge {
        /// Its place in the list.
        at: usize,
        /// The text that is missing.
        text: String,
    },
    /// There is neither a token for every byte nor one for what is unknown.
    #[error("the tokenizer has no token for byte {0}, and none for what is unknown")]
    Byte(u8),
    /// The texts of the tokens are too large to search for.
    #[error("the tokenizer's control tokens are too many or too long")]
    Markers,
}

/// Text to tokens and back. Cheap to clone: clones share the vocabulary.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    model: Model,
    tokens: Tokens,
    markers: Markers,
    add_bos: bool,
    add_eos: bool,
    pair_ends: usize,
}

#[derive(Debug)]
enum Model {
    Bpe(Bpe),
    Spm(Spm),
    WordPiece(WordPiece),
    Unigram(Unigram),
}

impl Tokenizer {
    /// Builds the tokenizer that a model file describes.
    ///
    /// # Errors
    /// [`TokenizerError`] when the description contradicts itself or uses what is not supported.
    pub fn new(spec: &TokenizerSpec) -> Result<Tokenizer, TokenizerError> {
        let tokens = Tokens::new(spec);
        let markers = Markers::new(&tokens, spec)?;
        let model = match &spec.kind {
            TokenizerKind::Bpe { pre, merges, ignore_merges } => {
                let rule = PreTokenizer::named(pre).ok_or_else(|| TokenizerError::Rule(pre.clone()))?;
                let whole = ignore_merges.unwrap_or(rule.ignore_merges());
                Model::Bpe(Bpe::new(rule, merges, whole, &tokens, spec)?)
            }
            TokenizerKind::Spm => Model::Spm(Spm::new(&tokens, spec)?),
            TokenizerKind::WordPiece { lowercase, strip_accents } => {
                Model::WordPiece(WordPiece::new(&tokens, spec, *lowercase, *strip_accents)?)
            }
            TokenizerKind::Unigram { normalize, cuts } => {
                Model::Unigram(Unigram::new(&tokens, spec, normalize, cuts)?)
            }
        };
        let TokenizerSpec { add_bos, add_eos, pair_ends, .. } = *spec;
        let inner = Inner { model, tokens, markers, add_bos, add_eos, pair_ends };
        Ok(Tokenizer { inner: Arc::new(inner) })
    }

    /// The tokens of `text`, with nothing put before or after. Every text has tokens; none is refused.
    #[must_use]
    pub fn encode(&self, text: &str, special: Special) -> Vec<u32> {
        self.encode_restoring(text, special, Cow::Borrowed)
    }

    /// The tokens of a whole prompt: `text` with what the model expects before and after it. A token that `text`
    /// begins or ends with is not doubled.
    #[must_use]
    pub fn encode_prompt(&self, text: &str, special: Special) -> Vec<u32> {
        self.complete(self.encode(text, special))
    }

    /// Puts before and after a prompt's tokens what the model expects there, where it is not there yet.
    #[must_use]
    pub fn complete(&self, mut tokens: Vec<u32>) -> Vec<u32> {
        if let Some(bos) = self.bos().filter(|bos| self.inner.add_bos && tokens.first() != Some(bos)) {
            tokens.insert(0, bos);
        }
        if let Some(eos) =
            self.inner.tokens.eos.filter(|eos| self.inner.add_eos && tokens.last() != Some(eos))
        {
            tokens.push(eos);
        }
        tokens
    }

    /// Like [`Tokenizer::encode`], but what lies between control tokens is first passed through `restore`.
    pub(crate) fn encode_restoring<'t>(
        &self,
        text: &'t str,
        special: Special,
        restore: impl Fn(&'t str) -> Cow<'t, str>,
    ) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        match special {
            Special::AsText => self.encode_text(&restore(text), &mut ids),
            Special::Parse => self.inner.markers.split(text, Special::Parse, |part| match part {
                Part::Text(text) => self.encode_text(&restore(text), &mut ids),
                Part::Token(id) => ids.push(id),
            }),
        }
        ids
    }

    /// Appends the tokens of text in which nothing is a control token.
    fn encode_text(&self, text: &str, ids: &mut Vec<u32>) {
        let text = match &self.inner.model {
            // To SentencePiece the two are one.
            Model::Spm(_) if text.contains('▁') => Cow::Owned(text.replace('▁', " ")),
            _ => Cow::Borrowed(text),
        };
        self.inner.markers.split(&text, Special::AsText, |part| match (part, &self.inner.model) {
            (Part::Token(id), _) => ids.push(id),
            (Part::Text(text), Model::Bpe(model)) => model.encode(text, ids),
            (Part::Text(text), Model::Spm(model)) => model.encode(text, ids),
            (Part::Text(text), Model::WordPiece(model)) => model.encode(text, ids),
            (Part::Text(text), Model::Unigram(model)) => model.encode(text, ids.is_empty(), ids),
        });
    }

    /// The text of tokens. What is not UTF-8 becomes `�`; control tokens have no text.
    #[must_use]
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut detokenizer = Detokenizer::new(self);
        let mut text: String = ids.iter().map(|&id| detokenizer.push(id)).collect();
        text.push_str(&detokenizer.finish());
        match &self.inner.model {
            Model::Spm(model) if model.adds_space() && text.starts_with(' ') => text.split_off(1),
            Model::Unigram(model) if model.adds_space() && text.starts_with(' ') => text.split_off(1),
            _ => text,
        }
    }

    /// The bytes that a token stands for; of a control token, its name. Empty for a number that is no token.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.inner.tokens.bytes(id)
    }

    /// Whether a token structures a conversation and has no text of its own.
    #[must_use]
    pub fn is_control(&self, id: u32) -> bool {
        matches!(self.inner.tokens.kind(id), Some(TokenKind::Control | TokenKind::Unknown))
    }

    /// The token that begins a text.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.inner.tokens.bos
    }

    /// Whether texts begin with [`Tokenizer::bos`].
    #[must_use]
    pub fn add_bos(&self) -> bool {
        self.inner.add_bos
    }

    /// Tokens with which an answer ends, in ascending order.
    #[must_use]
    pub fn eos_ids(&self) -> &[u32] {
        &self.inner.tokens.ends
    }

    /// The token that ends a text, first among [`Tokenizer::eos_ids`].
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.inner.tokens.eos
    }

    /// How many [`Tokenizer::eos`] stand between two texts that are judged together.
    #[must_use]
    pub fn pair_ends(&self) -> usize {
        self.inner.pair_ends
    }

    /// How many tokens there are.
    #[must_use]
    pub fn vocab_len(&self) -> usize {
        self.inner.tokens.len()
    }

    /// The token that is written like this, such as `<|im_end|>`.
    #[must_use]
    pub fn token(&self, text: &str) -> Option<u32> {
        self.inner.markers.token(text)
    }

    /// The most bytes that one token stands for. A text of more than this many times a context's tokens cannot fit it,
    /// and need not be tokenized to know.
    #[must_use]
    pub fn token_bytes_max(&self) -> usize {
        self.inner.tokens.bytes_max()
    }

    /// Names of control tokens.
    pub(crate) fn controls(&self) -> impl Iterator<Item = &str> {
        self.inner.markers.controls()
    }
}

impl Vocabulary for Tokenizer {
    fn len(&self) -> usize {
        self.vocab_len()
    }

    fn bytes(&self, token: u32) -> &[u8] {
        if Tokenizer::is_control(self, token) { &[] } else { self.token_bytes(token) }
    }

    fn is_control(&self, token: u32) -> bool {
        Tokenizer::is_control(self, token)
    }

    fn ends(&self) -> &[u32] {
        self.eos_ids()
    }
}
