//! [`WordPiece`]: BERT's tokenizer, for encoders.

use std::collections::HashMap;

use formats::tokenizer::{TokenKind, TokenizerSpec};
use unicode_normalization::UnicodeNormalization;

use super::TokenizerError;
use super::classes::{PUNCTUATION, Set, classes};
use super::tokens::Tokens;

/// Longer words are unknown.
const WORD_CHARS_MAX: usize = 100;

/// Normalises text, cuts it into words, and words into the longest tokens there are.
pub(super) struct WordPiece {
    /// Tokens that begin a word.
    beginnings: HashMap<Box<str>, u32>,
    /// Tokens that go on with one.
    continuations: HashMap<Box<str>, u32>,
    unknown: u32,
    /// Characters of the longest token.
    chars_max: usize,
    lowercase: bool,
    strip_accents: bool,
    /// `\p{Mn}`: what accents are made of.
    accents: Set,
    /// Controls, invisible formatting, private use.
    others: Set,
}

impl std::fmt::Debug for WordPiece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WordPiece").field("beginnings", &self.beginnings.len()).finish_non_exhaustive()
    }
}

impl WordPiece {
    pub(super) fn new(
        tokens: &Tokens,
        spec: &TokenizerSpec,
        lowercase: bool,
        strip_accents: bool,
    ) -> Result<WordPiece, TokenizerError> {
        let mut beginnings: HashMap<Box<str>, u32> = HashMap::new();
        let mut continuations: HashMap<Box<str>, u32> = HashMap::new();
        for ((id, kind, _), token) in tokens.iter().zip(&spec.tokens) {
            if kind == TokenKind::Normal {
                match token.text.strip_prefix('▁') {
                    Some(text) => beginnings.entry(text.into()).or_insert(id),
                    None => continuations.entry(token.text.as_str().into()).or_insert(id),
                };
            }
        }
        let texts = beginnings.keys().chain(continuations.keys());
        let chars_max = texts.map(|text| text.chars().count()).max().unwrap_or(0);
        let unknown = spec.unknown.ok_or(TokenizerError::Byte(0))?;
        let (accents, others) = (Set::of(r"\p{Mn}"), Set::of(r"[\p{Cc}\p{Cf}\p{Co}]"));
        Ok(WordPiece {
            beginnings,
            continuations,
            unknown,
            chars_max,
            lowercase,
            strip_accents,
            accents,
            others,
        })
    }

    /// Appends the tokens of `text`.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let text = self.normalise(text);
        for word in text.split_whitespace() {
            let mut rest = word;
            while let Some(c) = rest.chars().next() {
                let len = if is_punctuation(c) {
                    c.len_utf8()
                } else {
                    rest.find(is_punctuation).unwrap_or(rest.len())
                };
                let (part, after) = rest.split_at(len);
                self.encode_word(part, ids);
                rest = after;
            }
        }
    }

    /// Drops controls, makes white space plain, sets Chinese characters apart, and as asked takes off accents and case.
    fn normalise(&self, text: &str) -> String {
        let mut clean = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '\t' | '\n' | '\r' => clean.push(' '),
                '\0' | '\u{fffd}' => {}
                c if self.others.contains(c) => {}
                c if c.is_whitespace() => clean.push(' '),
                c if is_chinese(c) => clean.extend([' ', c, ' ']),
                c => clean.push(c),
            }
        }
        if self.strip_accents {
            clean = clean.nfd().filter(|&c| !self.accents.contains(c)).collect();
        }
        if self.lowercase { clean.chars().flat_map(char::to_lowercase).collect() } else { clean }
    }

    /// The longest tokens that fit, from the left; the whole word is unknown when one does not.
    fn encode_word(&self, word: &str, ids: &mut Vec<u32>) {
        let before = ids.len();
        if word.chars().count() > WORD_CHARS_MAX {
            ids.push(self.unknown);
            return;
        }
        let mut rest = word;
        while !rest.is_empty() {
            let known = if rest.len() == word.len() { &self.beginnings } else { &self.continuations };
            let ends = rest.char_indices().map(|(at, c)| at + c.len_utf8()).take(self.chars_max);
            let found = ends
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .find_map(|end| Some((end, *known.get(&rest[..end])?)));
            let Some((end, id)) = found else {
                ids.truncate(before);
                ids.push(self.unknown);
                return;
            };
            ids.push(id);
            rest = &rest[end..];
        }
    }
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || classes(c) & PUNCTUATION != 0
}

/// The blocks of Han characters; neither kana nor hangul.
fn is_chinese(c: char) -> bool {
    matches!(
        c,
        '\u{4e00}'..='\u{9fff}'
            | '\u{3400}'..='\u{4dbf}'
            | '\u{20000}'..='\u{2a6df}'
            | '\u{2a700}'..='\u{2b73f}'
            | '\u{2b740}'..='\u{2b81f}'
            | '\u{2b920}'..='\u{2ceaf}'
            | '\u{f900}'..='\u{faff}'
            | '\u{2f800}'..='\u{2fa1f}'
    )
}
