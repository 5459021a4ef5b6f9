//! [`Tokenizer`]: where the tokens of a text lie, and their form in a vocabulary.

use std::ops::Range;

/// How a text falls into tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokenizer {
    /// Runs of letters and digits; a Han or kana character is a token of its own.
    Words,
    /// What lies between blanks and is more than ASCII punctuation: what Keras' `TextVectorization` does.
    Whitespace,
}

/// Buffers that live as long as a batch, so that tokens cost no allocation.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Tokens in their normal form, joined by one blank.
    pub joined: String,
    /// Begin and end of each token in `joined`.
    pub ends: Vec<Range<usize>>,
    /// One token between blanks.
    pub padded: String,
    /// Character boundaries of `padded`.
    pub bounds: Vec<usize>,
}

impl Tokenizer {
    /// The tokens of `text` as byte ranges, in order.
    pub fn spans(self, text: &str) -> Spans<'_> {
        Spans { tokenizer: self, text, at: 0 }
    }

    /// Appends the form of `token` that a vocabulary holds: lower case; without punctuation where that
    /// does not end tokens.
    pub fn normalize(self, token: &str, into: &mut String) {
        for c in token.chars() {
            if c.is_ascii() {
                if self == Tokenizer::Words || !c.is_ascii_punctuation() {
                    into.push(c.to_ascii_lowercase());
                }
            } else {
                into.extend(c.to_lowercase());
            }
        }
    }

    /// Puts all tokens of `text` into `scratch.joined` and `scratch.ends`.
    pub fn join(self, text: &str, scratch: &mut Scratch) {
        scratch.joined.clear();
        scratch.ends.clear();
        for span in self.spans(text) {
            if !scratch.joined.is_empty() {
                scratch.joined.push(' ');
            }
            let begin = scratch.joined.len();
            self.normalize(text.get(span).unwrap_or_default(), &mut scratch.joined);
            scratch.ends.push(begin..scratch.joined.len());
        }
    }

    /// Whether a character belongs to a token.
    fn is_part(self, c: char) -> bool {
        match self {
            Tokenizer::Words => {
                // Combining accents and joiners are neither letters nor digits, yet part of words.
                c.is_alphanumeric() || matches!(c, '\u{300}'..='\u{36f}' | '\u{200c}' | '\u{200d}')
            }
            Tokenizer::Whitespace => !c.is_whitespace(),
        }
    }
}

/// Iterator over the tokens of a text; see [`Tokenizer::spans`].
#[derive(Debug, Clone)]
pub struct Spans<'a> {
    tokenizer: Tokenizer,
    text: &'a str,
    at: usize,
}

impl Iterator for Spans<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        loop {
            let rest = self.text.get(self.at..)?;
            let mut chars = rest.char_indices().skip_while(|(_, c)| !self.tokenizer.is_part(*c));
            let (skipped, first) = chars.next()?;
            let begin = self.at + skipped;
            let mut end = begin + first.len_utf8();
            if !(self.tokenizer == Tokenizer::Words && stands_alone(first)) {
                for (i, c) in chars {
                    if !self.tokenizer.is_part(c) || (self.tokenizer == Tokenizer::Words && stands_alone(c)) {
                        break;
                    }
                    end = self.at + i + c.len_utf8();
                }
            }
            self.at = end;
            let token = self.text.get(begin..end)?;
            if self.tokenizer == Tokenizer::Words || token.chars().any(|c| !c.is_ascii_punctuation()) {
                return Some(begin..end);
            }
        }
    }
}

/// Scripts written without blanks, whose characters are words or nearly so: Han and kana.
fn stands_alone(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}

/// Calls `f` with every part of `word` between blanks that has `lengths` characters.
pub fn for_each_gram(
    word: &str,
    lengths: [usize; 2],
    padded: &mut String,
    bounds: &mut Vec<usize>,
    mut f: impl FnMut(&str),
) {
    padded.clear();
    padded.push(' ');
    padded.push_str(word);
    padded.push(' ');
    bounds.clear();
    bounds.extend(padded.char_indices().map(|(i, _)| i));
    bounds.push(padded.len());
    for length in lengths[0]..=lengths[1] {
        for pair in bounds.windows(length + 1) {
            if let [begin, .., end] = pair
                && let Some(gram) = padded.get(*begin..*end)
            {
                f(gram);
            }
        }
    }
}
