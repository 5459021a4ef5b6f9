//! From tokens to text that may be sent: whole characters only, and nothing that could be part of a stop string.

use std::collections::VecDeque;

/// A token whose text is decided.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Released<T> {
    /// What came with the token.
    pub(crate) tag: T,
    /// Its text; empty where it completes no character.
    pub(crate) text: String,
}

/// An answer's text as it grows. `T` travels with each token.
#[derive(Clone, Debug)]
pub(crate) struct Text<T> {
    /// The first bytes of a character that is not whole yet.
    partial: Vec<u8>,
    /// Text that could be the beginning of a stop string, or belongs to a token whose end could.
    held: String,
    /// Where `held` begins in the answer, in bytes.
    held_from: usize,
    /// Tokens whose text is not decided, each with where its text ends in the answer.
    pending: VecDeque<(T, usize)>,
}

impl<T> Text<T> {
    pub(crate) fn new() -> Text<T> {
        Text { partial: Vec::new(), held: String::new(), held_from: 0, pending: VecDeque::new() }
    }

    /// Takes the next token with its bytes. Gives the tokens whose text is now decided, and which of `stops` is
    /// complete: then the answer ends before it, and nothing more may be pushed. Of several that are complete, the
    /// one that ends first; of those the longest.
    pub(crate) fn push(
        &mut self,
        tag: T,
        bytes: &[u8],
        stops: &[String],
    ) -> (Vec<Released<T>>, Option<usize>) {
        self.partial.extend_from_slice(bytes);
        take_characters(&mut self.partial, &mut self.held);
        self.pending.push_back((tag, self.held_from + self.held.len()));
        if let Some((stop, start)) = first_stop(&self.held, stops) {
            self.held.truncate(start);
            self.partial.clear();
            let mut released = self.release(start);
            if let Some((tag, _)) = self.pending.pop_front().filter(|_| !self.held.is_empty()) {
                released.push(Released { tag, text: std::mem::take(&mut self.held) });
            }
            self.pending.clear();
            return (released, Some(stop));
        }
        let free = self.held.len() - undecided(&self.held, stops);
        (self.release(free), None)
    }

    /// The rest: tokens that were held back, and text that belongs to no token's event (a character that never
    /// became whole).
    pub(crate) fn finish(&mut self) -> (Vec<Released<T>>, String) {
        let released = self.release(self.held.len());
        let rest =
            if self.partial.is_empty() { String::new() } else { char::REPLACEMENT_CHARACTER.to_string() };
        self.partial.clear();
        (released, rest)
    }

    /// Lets the first `free` bytes of what is held go, with the tokens that end there or before. A token that ends
    /// later keeps all of its text: its event comes whole.
    fn release(&mut self, free: usize) -> Vec<Released<T>> {
        let mut released = Vec::new();
        let until = self.held_from + free;
        while self.pending.front().is_some_and(|(_, end)| *end <= until) {
            let Some((tag, end)) = self.pending.pop_front() else { break };
            let text: String = self.held.drain(..end - self.held_from).collect();
            self.held_from = end;
            released.push(Released { tag, text });
        }
        released
    }
}

/// Moves whole characters from `bytes` to `text`; what can never become one is replaced, as Unicode recommends.
fn take_characters(bytes: &mut Vec<u8>, text: &mut String) {
    let mut taken = 0;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        taken += chunk.valid().len();
        let invalid = chunk.invalid();
        let at_end = taken + invalid.len() == bytes.len();
        if invalid.is_empty() || (at_end && may_continue(invalid)) {
            break;
        }
        text.push(char::REPLACEMENT_CHARACTER);
        taken += invalid.len();
    }
    bytes.drain(..taken);
}

/// Whether more bytes could make a character of these.
fn may_continue(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

/// The stop string that is complete first, and where it starts.
fn first_stop(text: &str, stops: &[String]) -> Option<(usize, usize)> {
    let found = stops.iter().enumerate().filter_map(|(index, stop)| {
        let start = text.find(stop.as_str())?;
        Some((start + stop.len(), start, index))
    });
    found.min().map(|(_, start, index)| (index, start))
}

/// Bytes at the end of `text` that a stop string could begin with.
fn undecided(text: &str, stops: &[String]) -> usize {
    let overlap = |stop: &String| {
        let most = text.len().min(stop.len() - 1);
        (1..=most).rev().find(|&len| text.as_bytes().ends_with(&stop.as_bytes()[..len])).unwrap_or(0)
    };
    stops.iter().filter(|stop| !stop.is_empty()).map(overlap).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(tokens: &[&[u8]], stops: &[&str]) -> (Vec<String>, String, Option<usize>) {
        let stops: Vec<String> = stops.iter().map(ToString::to_string).collect();
        let mut text = Text::new();
        let mut events = Vec::new();
        for (tag, bytes) in tokens.iter().enumerate() {
            let (released, stop) = text.push(tag, bytes, &stops);
            events.extend(released.into_iter().map(|event| event.text));
            if stop.is_some() {
                return (events, String::new(), stop);
            }
        }
        let (released, rest) = text.finish();
        events.extend(released.into_iter().map(|event| event.text));
        (events, rest, None)
    }

    #[test]
    fn text_is_held_back_only_while_it_could_be_a_stop() {
        let stops = vec!["</end>".to_string()];
        let mut text = Text::new();
        assert_eq!(text.push(0, b"hi <", &stops).0, []);
        assert_eq!(text.push(1, b"/en", &stops).0, []);
        let released = text.push(2, b"try", &stops).0;
        let texts: Vec<_> = released.iter().map(|event| event.text.as_str()).collect();
        assert_eq!(texts, ["hi <", "/en", "try"]);
    }

    #[test]
    fn a_stop_that_spans_tokens_takes_its_tokens_along() {
        let (events, _, stop) = run(&[b"one ", b"tw", b"o S", b"TO", b"P x"], &["STOP", "never"]);
        assert_eq!(events, ["one ", "tw", "o "]);
        assert_eq!(stop, Some(0));
    }

    #[test]
    fn what_stands_before_a_stop_within_a_token_is_kept() {
        let (events, rest, stop) = run(&[b"yes\n\nno"], &["\n\n"]);
        assert_eq!((events.concat() + &rest, stop), ("yes".into(), Some(0)));
    }

    #[test]
    fn characters_come_whole_and_bytes_that_are_none_are_replaced() {
        let euro = "€".as_bytes();
        assert_eq!(run(&[&euro[..1], &euro[1..2], &euro[2..]], &[]).0, ["", "", "€"]);
        assert_eq!(run(&[&euro[..2], b"x"], &[]).0, ["", "\u{fffd}x"]);
        assert_eq!(run(&[b"\xff", b"x"], &[]).0, ["\u{fffd}", "x"]);
        let (events, rest, _) = run(&[b"a", &euro[..2]], &[]);
        assert_eq!((events.concat(), rest.as_str()), ("a".into(), "\u{fffd}"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// However the text is cut into tokens, it ends before the stop that is complete first.
        #[test]
        fn cuts_do_not_matter(text in "[abé]{0,24}", cuts in prop::collection::vec(1..4usize, 24), stops in prop::collection::vec("[abé]{1,4}", 0..3)) {
            let mut tokens = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts {
                let (token, after) = rest.split_at(cut.min(rest.len()));
                tokens.push(token);
                rest = after;
            }
            tokens.push(rest);
            let borrowed: Vec<&str> = stops.iter().map(String::as_str).collect();
            let (events, tail, _) = run(&tokens, &borrowed);
            let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
            let wanted = ends
                .filter_map(|end| stops.iter().filter(|stop| text[..end].ends_with(stop.as_str())).map(|stop| end - stop.len()).min())
                .next();
            prop_assert_eq!(events.concat() + &tail, &text[..wanted.unwrap_or(text.len())]);
        }
    }
}
