//! [`Tokens`]: what every token stands for.

use std::collections::BTreeSet;

use formats::tokenizer::{TokenKind, TokenSpec, TokenizerKind, TokenizerSpec};

/// Tokens that end an answer in one family or another, whatever the file says of them.
const ENDS: [&str; 16] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
    "<|eot|>",
];

/// The vocabulary, by identity.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    /// All tokens' bytes, one after another.
    bytes: Vec<u8>,
    /// Where each token's bytes end.
    ends_at: Vec<usize>,
    kinds: Vec<TokenKind>,
    bytes_max: usize,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    /// Those that end an answer, in ascending order.
    pub(super) ends: Vec<u32>,
}

impl Tokens {
    pub(super) fn new(spec: &TokenizerSpec) -> Tokens {
        let ends = ends(spec);
        let mut tokens = Tokens { bos: spec.bos, eos: spec.eos, ..Tokens::default() };
        for (id, token) in spec.tokens.iter().enumerate() {
            let named =
                [spec.bos, spec.eos, spec.eot, spec.eom].iter().flatten().any(|&other| other as usize == id);
            let kind = if named || looks_like_control(token) { TokenKind::Control } else { token.kind };
            let before = tokens.bytes.len();
            put_bytes(&spec.kind, token, kind, &mut tokens.bytes);
            tokens.bytes_max = tokens.bytes_max.max(tokens.bytes.len() - before);
            tokens.ends_at.push(tokens.bytes.len());
            tokens.kinds.push(kind);
        }
        tokens.ends = ends.into_iter().collect();
        tokens
    }

    pub(super) fn len(&self) -> usize {
        self.kinds.len()
    }

    pub(super) fn bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let start = id.checked_sub(1).and_then(|before| self.ends_at.get(before)).copied().unwrap_or(0);
        self.ends_at.get(id).map_or(&[], |&end| &self.bytes[start..end])
    }

    pub(super) fn kind(&self, id: u32) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }

    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Identity, kind and bytes of every token.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, TokenKind, &[u8])> {
        (0..).zip(&self.kinds).map(|(id, &kind)| (id, kind, self.bytes(id)))
    }
}

/// Some files call markers of turns ordinary text that is never cut. What looks like `<|this|>` is taken for a control
/// token all the same, so that no user can write one.
fn looks_like_control(token: &TokenSpec) -> bool {
    let marker = token.text.len() > 4 && token.text.starts_with("<|") && token.text.ends_with("|>");
    let known = ENDS.contains(&token.text.as_str());
    (marker || known) && token.kind == TokenKind::UserDefined
}

/// Which tokens end an answer.
fn ends(spec: &TokenizerSpec) -> BTreeSet<u32> {
    let mut ends: BTreeSet<u32> = [spec.eos, spec.eot, spec.eom].into_iter().flatten().collect();
    let special = |token: &TokenSpec| matches!(token.kind, TokenKind::Control | TokenKind::UserDefined);
    let of = |text: &str| spec.tokens.iter().position(|token| token.text == text && special(token));
    let id = |text: &str| of(text).and_then(|id| u32::try_from(id).ok());
    ends.extend(ENDS.iter().filter_map(|text| id(text)));
    // In the harmony format a message ends with <|end|>, and an answer of several messages with one of the others.
    if let (Some(message), Some(_), Some(_)) = (id("<|end|>"), id("<|return|>"), id("<|call|>")) {
        ends.remove(&message);
    }
    ends
}

/// Appends what a token stands for.
fn put_bytes(model: &TokenizerKind, token: &TokenSpec, kind: TokenKind, out: &mut Vec<u8>) {
    match (model, kind) {
        (_, TokenKind::Byte(byte)) => out.push(byte),
        (_, TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown) => {
            out.extend(token.text.bytes())
        }
        (TokenizerKind::Bpe { .. }, _) => {
            let start = out.len();
            for c in token.text.chars() {
                match byte_of(c) {
                    Some(byte) => out.push(byte),
                    None => {
                        // Not in GPT-2's alphabet, so not written in it.
                        out.truncate(start);
                        out.extend(token.text.bytes());
                        break;
                    }
                }
            }
        }
        (TokenizerKind::Spm | TokenizerKind::WordPiece { .. } | TokenizerKind::Unigram { .. }, _) => {
            out.extend(token.text.replace('▁', " ").bytes());
        }
    }
}

/// The byte that GPT-2's alphabet writes with this letter.
fn byte_of(c: char) -> Option<u8> {
    ALPHABET.get(c as usize).copied().flatten()
}

/// Bytes by their letters: printable bytes stand for themselves, the others for the characters from U+0100 on, in order.
const ALPHABET: [Option<u8>; 0x144] = {
    let mut alphabet = [None; 0x144];
    let mut letter = 0x100;
    let mut byte = 0;
    while byte <= 0xff {
        if matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) {
            alphabet[byte] = Some(byte as u8);
        } else {
            alphabet[letter] = Some(byte as u8);
            letter += 1;
        }
        byte += 1;
    }
    alphabet
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_has_every_byte_once() {
        let bytes: Vec<u8> = (0..0x200).filter_map(char::from_u32).filter_map(byte_of).collect();
        let distinct: BTreeSet<u8> = bytes.iter().copied().collect();
        assert_eq!((bytes.len(), distinct.len()), (256, 256));
        assert_eq!(
            [byte_of('Ġ'), byte_of('Ċ'), byte_of('a'), byte_of(' ')],
            [Some(b' '), Some(b'\n'), Some(b'a'), None]
        );
    }
}
