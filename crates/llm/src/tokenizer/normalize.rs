//! [`Normalizer`]: the steps that change a text before a unigram tokenizer looks for tokens.

use std::borrow::Cow;

use formats::tokenizer::{Charsmap, Normalize};
use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

use super::classes::Set;

/// Characters that people see as one are looked up whole where they have fewer bytes.
const GRAPHEME_BYTES: usize = 6;

/// Steps, one after another.
pub(super) struct Normalizer {
    steps: Vec<Normalize>,
    /// `\p{M}`: what accents are made of.
    accents: Set,
}

impl Normalizer {
    pub(super) fn new(steps: &[Normalize]) -> Normalizer {
        Normalizer { steps: steps.to_vec(), accents: Set::of(r"\p{M}") }
    }

    /// What becomes of a text.
    pub(super) fn run<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for step in &self.steps {
            text = self.step(step, text);
        }
        text
    }

    fn step<'t>(&self, step: &Normalize, text: Cow<'t, str>) -> Cow<'t, str> {
        let made = match step {
            Normalize::Charsmap(map) => replaced(map, &text),
            Normalize::CharsmapOfGraphemes(map) => replaced_graphemes(map, &text),
            Normalize::Replace { from, .. } if !text.contains(from) => return text,
            Normalize::Replace { from, to } => text.replace(from, to),
            Normalize::ReplaceSpaces { .. } if !text.contains("  ") => return text,
            Normalize::ReplaceSpaces { to } => replaced_spaces(&text, to),
            Normalize::SqueezeSpaces => {
                text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
            }
            Normalize::Prepend(_) if text.is_empty() => return text,
            Normalize::Prepend(before) => format!("{before}{text}"),
            Normalize::Strip { left, right } => {
                let rest = if *left { text.trim_start() } else { &text };
                (if *right { rest.trim_end() } else { rest }).to_owned()
            }
            Normalize::StripAccents => text.chars().filter(|&c| !self.accents.contains(c)).collect(),
            Normalize::Lowercase => text.chars().flat_map(char::to_lowercase).collect(),
            Normalize::Nfc => text.nfc().collect(),
            Normalize::Nfd => text.nfd().collect(),
            Normalize::Nfkc => text.nfkc().collect(),
            Normalize::Nfkd => text.nfkd().collect(),
        };
        Cow::Owned(made)
    }
}

impl std::fmt::Debug for Normalizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Normalizer").field("steps", &self.steps).finish_non_exhaustive()
    }
}

fn replaced(map: &Charsmap, text: &str) -> String {
    let mut made = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let len = match map.longest(rest) {
            Some((len, by)) => {
                made.push_str(by);
                len
            }
            None => {
                made.push(c);
                c.len_utf8()
            }
        };
        rest = &rest[len..];
    }
    made
}

/// A whole character is replaced by what its shortest beginning in the table becomes, as `tokenizers` has it.
fn replaced_graphemes(map: &Charsmap, text: &str) -> String {
    let mut made = String::with_capacity(text.len());
    for grapheme in text.graphemes(true) {
        let whole = if grapheme.len() < GRAPHEME_BYTES { map.shortest(grapheme) } else { None };
        if let Some((_, by)) = whole {
            made.push_str(by);
            continue;
        }
        for c in grapheme.chars() {
            match map.shortest(c.encode_utf8(&mut [0; 4])) {
                Some((_, by)) => made.push_str(by),
                None => made.push(c),
            }
        }
    }
    made
}

/// Two or more spaces one after another become `to`.
fn replaced_spaces(text: &str, to: &str) -> String {
    let mut made = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("  ") {
        made.push_str(&rest[..at]);
        made.push_str(to);
        rest = rest[at..].trim_start_matches(' ');
    }
    made.push_str(rest);
    made
}
