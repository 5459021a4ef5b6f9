//! [`Unigram`]: the tokens that are likeliest together (Kudo, 2018), after the steps that the model's file lists.

use std::cmp::Ordering;

use formats::tokenizer::{Cut, Normalize, Prepend, TokenKind, TokenizerSpec};

use super::TokenizerError;
use super::normalize::Normalizer;
use super::tokens::Tokens;

/// What a character without a token costs beyond the unlikeliest token.
const UNKNOWN_PENALTY: f64 = 10.0;

/// Finds the tokens whose scores have the greatest sum.
#[derive(Debug)]
pub(super) struct Unigram {
    normalizer: Normalizer,
    cuts: Vec<Cut>,
    pieces: Pieces,
    unknown: u32,
    unknown_score: f64,
    /// The token of each byte, if there are such.
    bytes: Option<Box<[u32; 256]>>,
    /// The steps begin a text's first word with a space that is not the text's.
    adds_space: bool,
}

/// How the best way to a place in a text arrives there.
#[derive(Clone, Copy)]
struct Arrival {
    score: f64,
    from: usize,
    /// None: the character has no token.
    token: Option<u32>,
}

impl Unigram {
    pub(super) fn new(
        tokens: &Tokens,
        spec: &TokenizerSpec,
        normalize: &[Normalize],
        cuts: &[Cut],
    ) -> Result<Unigram, TokenizerError> {
        let unknown = spec.unknown.ok_or(TokenizerError::Byte(0))?;
        let mut bytes = Box::new([u32::MAX; 256]);
        let mut pieces = Vec::new();
        for ((id, kind, _), token) in tokens.iter().zip(&spec.tokens) {
            match kind {
                TokenKind::Byte(byte) => bytes[usize::from(byte)] = id,
                TokenKind::Normal if !token.text.is_empty() => {
                    pieces.push(Piece { text: token.text.as_bytes().into(), score: token.score.into(), id });
                }
                _ => {}
            }
        }
        let least = spec.tokens.iter().map(|token| f64::from(token.score)).fold(f64::INFINITY, f64::min);
        Ok(Unigram {
            normalizer: Normalizer::new(normalize),
            cuts: cuts.to_vec(),
            pieces: Pieces::new(pieces),
            unknown,
            unknown_score: least - UNKNOWN_PENALTY,
            bytes: (!bytes.contains(&u32::MAX)).then_some(bytes),
            adds_space: spec.add_space_prefix,
        })
    }

    /// Whether a text's first word is given a space.
    pub(super) fn adds_space(&self) -> bool {
        self.adds_space
    }

    /// Appends the tokens of `text`; `first` says whether it begins the whole.
    pub(super) fn encode(&self, text: &str, first: bool, ids: &mut Vec<u32>) {
        let text = self.normalizer.run(text);
        for piece in cut(&text, &self.cuts, first) {
            self.encode_piece(&piece, ids);
        }
    }

    fn encode_piece(&self, text: &str, ids: &mut Vec<u32>) {
        let mut best: Vec<Option<Arrival>> = vec![None; text.len() + 1];
        best[0] = Some(Arrival { score: 0.0, from: 0, token: None });
        for (at, c) in text.char_indices() {
            let here = best[at].map_or(0.0, |arrival| arrival.score);
            let mut arrive = |end: usize, score: f64, token: Option<u32>| {
                let before = &mut best[end];
                if before.is_none_or(|before| here + score > before.score) {
                    *before = Some(Arrival { score: here + score, from: at, token });
                }
            };
            let mut single = false;
            self.pieces.beginnings(&text.as_bytes()[at..], |len, score, token| {
                arrive(at + len, score, Some(token));
                single |= len == c.len_utf8();
            });
            if !single {
                arrive(at + c.len_utf8(), self.unknown_score, None);
            }
        }
        let before = ids.len();
        let mut end = text.len();
        let mut unknown_from = None;
        // From the end to the beginning; what is unknown side by side is unknown as one.
        while let Some(arrival) = best[end].filter(|_| end > 0) {
            match arrival.token {
                None => {
                    unknown_from.get_or_insert(end);
                }
                Some(token) => {
                    self.give_up(text, end, &mut unknown_from, ids);
                    ids.push(token);
                }
            }
            end = arrival.from;
        }
        self.give_up(text, 0, &mut unknown_from, ids);
        ids[before..].reverse();
    }

    /// Appends what stands for the unknown text between `from` and `end`, backwards.
    fn give_up(&self, text: &str, from: usize, end: &mut Option<usize>, ids: &mut Vec<u32>) {
        let Some(end) = end.take() else { return };
        match &self.bytes {
            Some(bytes) => {
                ids.extend(text.as_bytes()[from..end].iter().rev().map(|byte| bytes[usize::from(*byte)]));
            }
            None => ids.push(self.unknown),
        }
    }
}

/// The pieces that the steps make of a text, in order.
fn cut(text: &str, cuts: &[Cut], first: bool) -> Vec<String> {
    // Of each piece, whether it begins the text.
    let mut pieces = vec![(text.to_owned(), first)];
    for cut in cuts {
        let before = std::mem::take(&mut pieces);
        for (piece, first) in before {
            match *cut {
                Cut::WhiteSpace => {
                    let begins = first && !piece.starts_with(char::is_whitespace);
                    let words = piece.split_whitespace().enumerate();
                    pieces.extend(words.map(|(place, word)| (word.to_owned(), begins && place == 0)));
                }
                Cut::MarkSpaces { prepend, cut } => {
                    let mut piece = piece.replace(' ', "▁");
                    let wanted = match prepend {
                        Prepend::Always => true,
                        Prepend::First => first,
                        Prepend::Never => false,
                    };
                    if wanted && !piece.is_empty() && !piece.starts_with('▁') {
                        piece.insert(0, '▁');
                    }
                    if cut {
                        pieces.extend(marked(&piece).map(|word| (word.to_owned(), false)));
                    } else {
                        pieces.push((piece, first));
                    }
                }
            }
        }
    }
    pieces.into_iter().map(|(piece, _)| piece).filter(|piece| !piece.is_empty()).collect()
}

/// The parts of a text of which all but the first begin with `▁`.
fn marked(text: &str) -> impl Iterator<Item = &str> {
    let mut from = 0;
    let ends = text.match_indices('▁').map(|(at, _)| at).filter(|at| *at > 0).chain([text.len()]);
    ends.map(move |end| {
        let part = &text[from..end];
        from = end;
        part
    })
}

#[derive(Debug)]
struct Piece {
    text: Box<[u8]>,
    score: f64,
    id: u32,
}

/// Tokens in the order of their bytes, so that all that begin alike lie together.
#[derive(Debug)]
struct Pieces {
    sorted: Vec<Piece>,
    /// Where those lie that begin with each byte.
    begin: Box<[u32; 257]>,
}

impl Pieces {
    fn new(mut pieces: Vec<Piece>) -> Pieces {
        pieces.sort_by(|a, b| a.text.cmp(&b.text).then(b.id.cmp(&a.id)));
        // Of equal texts the last counts.
        pieces.dedup_by(|a, b| a.text == b.text);
        let mut begin = Box::new([0; 257]);
        for (byte, begin) in begin.iter_mut().enumerate() {
            let before = |piece: &Piece| piece.text.first().is_some_and(|first| usize::from(*first) < byte);
            *begin = pieces.partition_point(before) as u32;
        }
        Pieces { sorted: pieces, begin }
    }

    /// Calls `found` with each token that `text` begins with, the shortest first: its length, score and identity.
    fn beginnings(&self, text: &[u8], mut found: impl FnMut(usize, f64, u32)) {
        let Some(first) = text.first().map(|first| usize::from(*first)) else { return };
        let mut lies = &self.sorted[self.begin[first] as usize..self.begin[first + 1] as usize];
        for len in 1.. {
            if let Some((piece, rest)) = lies.split_first().filter(|(piece, _)| piece.text.len() == len) {
                found(len, piece.score, piece.id);
                lies = rest;
            }
            let Some(&byte) = text.get(len).filter(|_| !lies.is_empty()) else { return };
            let order = |piece: &Piece| piece.text.get(len).map_or(Ordering::Less, |found| found.cmp(&byte));
            let from = lies.partition_point(|piece| order(piece).is_lt());
            let to = lies.partition_point(|piece| order(piece).is_le());
            lies = &lies[from..to];
        }
    }
}
