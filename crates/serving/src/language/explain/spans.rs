//! The parts of what was said.

use std::ops::Range;

use llm::tokenizer::{Special, Tokenizer};

/// How what was said is cut into parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// The model's own tokens; those that share a character are one part.
    Token,
    /// Words, each with the space before it.
    Word,
    /// Sentences and lines, each with the space before it.
    Sentence,
    /// Whole messages.
    Message,
}

impl SpanKind {
    /// The parts of `text`, in bytes: together they are the whole text.
    pub(super) fn cut(self, text: &str, tokenizer: &Tokenizer) -> Vec<Range<usize>> {
        let ends: Vec<usize> = match self {
            SpanKind::Token => tokens(text, tokenizer),
            SpanKind::Word => words(text),
            SpanKind::Sentence => sentences(text),
            SpanKind::Message => vec![text.len()],
        };
        let mut first = 0;
        let mut spans: Vec<Range<usize>> = Vec::with_capacity(ends.len());
        for end in ends.into_iter().chain([text.len()]) {
            if end <= first {
                continue;
            }
            match spans.last_mut() {
                // Space at the end belongs to what it follows.
                Some(last) if text[first..end].trim().is_empty() => last.end = end,
                _ => spans.push(first..end),
            }
            first = end;
        }
        spans
    }
}

/// Where words end.
fn words(text: &str) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut inside = false;
    for (at, c) in text.char_indices() {
        if inside && c.is_whitespace() {
            ends.push(at);
        }
        inside = !c.is_whitespace();
    }
    ends
}

/// Where sentences end: after a mark that is followed by space or stands for one, and at the ends of lines.
fn sentences(text: &str) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|&(_, next)| next);
        let ends_here = match c {
            '.' | '!' | '?' => next.is_none_or(char::is_whitespace),
            '。' | '！' | '？' => true,
            '\n' => true,
            _ => false,
        };
        if ends_here {
            ends.push(if c == '\n' { at } else { at + c.len_utf8() });
        }
    }
    ends
}

/// Where tokens end, as far as characters do.
fn tokens(text: &str, tokenizer: &Tokenizer) -> Vec<usize> {
    let mut at = 0;
    let ids = tokenizer.encode(text, Special::AsText);
    // Some tokenizers put a space before the text.
    let bytes: usize = ids.iter().map(|&id| tokenizer.token_bytes(id).len()).sum();
    let before = bytes.saturating_sub(text.len());
    let mut ends = Vec::with_capacity(ids.len());
    for id in ids {
        at += tokenizer.token_bytes(id).len();
        let end = at.saturating_sub(before);
        if text.is_char_boundary(end) {
            ends.push(end);
        }
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut<'a>(text: &'a str, ends: &dyn Fn(&str) -> Vec<usize>) -> Vec<&'a str> {
        let mut ends = ends(text);
        ends.push(text.len());
        let firsts = std::iter::once(0).chain(ends.clone());
        firsts.zip(ends).map(|(first, end)| &text[first..end]).filter(|part| !part.is_empty()).collect()
    }

    #[test]
    fn words_take_the_space_before_them() {
        assert_eq!(cut("The cat  sat,\nit did.", &words), ["The", " cat", "  sat,", "\nit", " did."]);
        assert_eq!(cut("  a", &words), ["  a"]);
    }

    #[test]
    fn sentences_end_at_marks_and_lines() {
        assert_eq!(
            cut("At 3.14 p.m. he left. Why?\nNobody knows", &sentences),
            ["At 3.14 p.m.", " he left.", " Why?", "\nNobody knows"]
        );
        assert_eq!(cut("雨。晴れ。", &sentences), ["雨。", "晴れ。"]);
    }
}
