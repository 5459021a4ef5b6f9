//! [`Spm`]: SentencePiece's byte-pair encoding over characters.

use std::cmp::Ordering;
use std::collections::HashMap;

use formats::tokenizer::{TokenKind, TokenizerSpec};

use super::TokenizerError;
use super::pairs::Pairs;
use super::tokens::Tokens;

/// No token.
const NONE: u32 = u32::MAX;

/// Merges characters to tokens, the token of the highest score first.
#[derive(Debug)]
pub(super) struct Spm {
    /// Ordinary tokens by their text, `▁` for a space. Control tokens are not among them, so that none can be spelt.
    by_text: HashMap<Box<str>, (Score, u32)>,
    /// The token of each byte, for characters without one; or one token for all such characters.
    fallback: Fallback,
    text_bytes_max: usize,
    add_space_prefix: bool,
}

/// What becomes of a character that has no token.
#[derive(Debug)]
enum Fallback {
    Bytes(Box<[u32; 256]>),
    Unknown(u32),
}

/// Scores of tokens, the highest first.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Score(f32);

impl Eq for Score {}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.total_cmp(&self.0)
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Spm {
    pub(super) fn new(tokens: &Tokens, spec: &TokenizerSpec) -> Result<Spm, TokenizerError> {
        let mut bytes = Box::new([NONE; 256]);
        let mut by_text: HashMap<Box<str>, _> = HashMap::new();
        for ((id, kind, _), token) in tokens.iter().zip(&spec.tokens) {
            match kind {
                TokenKind::Byte(byte) => bytes[usize::from(byte)] = id,
                // The first of two equal texts is the one that counts. Zeros of both signs are one score.
                TokenKind::Normal => {
                    by_text.entry(token.text.as_str().into()).or_insert((Score(token.score + 0.0), id));
                }
                _ => {}
            }
        }
        let fallback = match ((0..=255).find(|&byte: &u8| bytes[usize::from(byte)] == NONE), spec.unknown) {
            (None, _) => Fallback::Bytes(bytes),
            (Some(_), Some(unknown)) => Fallback::Unknown(unknown),
            (Some(byte), None) => return Err(TokenizerError::Byte(byte)),
        };
        let text_bytes_max = by_text.keys().map(|text| text.len()).max().unwrap_or(0);
        Ok(Spm { by_text, fallback, text_bytes_max, add_space_prefix: spec.add_space_prefix })
    }

    /// Whether a text's first word is given a space.
    pub(super) fn adds_space(&self) -> bool {
        self.add_space_prefix
    }

    /// Appends the tokens of `text`, which begins a text or follows a control token.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let prefix = if self.add_space_prefix { "▁" } else { "" };
        let text = format!("{prefix}{}", text.replace(' ', "▁"));
        let mut pairs = Pairs::new();
        for c in text.chars() {
            let len = c.len_utf8();
            let mut buffer = [0; 4];
            pairs.push(self.id(c.encode_utf8(&mut buffer)), len);
        }
        pairs.merge(|left, right, start| {
            let len = (left.len + right.len) as usize;
            if len > self.text_bytes_max {
                return None;
            }
            self.by_text.get(&text[start..start + len]).copied()
        });
        for (symbol, start) in pairs.symbols() {
            match (&self.fallback, symbol.id) {
                (Fallback::Bytes(bytes), NONE) => {
                    let character = text[start..start + symbol.len as usize].bytes();
                    ids.extend(character.map(|byte| bytes[usize::from(byte)]));
                }
                (Fallback::Unknown(unknown), NONE) => ids.push(*unknown),
                (_, id) => ids.push(id),
            }
        }
    }

    fn id(&self, text: &str) -> u32 {
        self.by_text.get(text).map_or(NONE, |&(_, id)| id)
    }
}
