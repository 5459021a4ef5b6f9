//! [`Parser`]: text and calls in what a model writes, as it comes.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Style;

/// Before a call.
pub(super) const OPEN: &str = "<tool_call>";
/// After a call.
pub(super) const CLOSE: &str = "</tool_call>";
/// Ends of a call that are tried: one may stand within a text in its arguments.
const TRIES_MAX: usize = 16;

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Text for the reader.
    Text(String),
    /// A whole call.
    Call {
        /// The function.
        name: String,
        /// Its arguments: JSON as the model wrote it.
        arguments: String,
    },
}

/// Tells calls from text. Text is passed on as it comes, but for what could be the beginning of a call; a call is
/// passed on whole. What looked like a call and is none is passed on as the text it is: nothing is lost.
#[derive(Debug)]
pub(crate) struct Parser {
    style: Option<Style>,
    /// Functions that there are.
    names: Vec<String>,
    held: String,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but white space so far, or since the last call.
    Start,
    /// In text.
    Text,
    /// After the opening marker; so many ends were tried, up to that place.
    Call { tried: usize, until: usize },
}

/// `{"name": …, "arguments": …}`
#[derive(Deserialize)]
struct Body<'a> {
    name: String,
    #[serde(borrow, default, alias = "parameters")]
    arguments: Option<&'a RawValue>,
}

impl Parser {
    /// A parser of what a model that calls in this style writes; without one, all is text.
    pub(crate) fn new(style: Option<Style>, names: Vec<String>) -> Parser {
        Parser { style, names, held: String::new(), state: State::Start }
    }

    /// Takes the next text.
    pub(crate) fn push(&mut self, text: &str, pieces: &mut Vec<Piece>) {
        match self.style {
            None => say(text, pieces),
            Some(Style::Tagged) => {
                self.held.push_str(text);
                while self.step(pieces) {}
            }
            Some(Style::Bare) => {
                self.held.push_str(text);
                let begun = self.held.trim_start();
                if self.state == State::Text || !(begun.is_empty() || begun.starts_with('{')) {
                    self.state = State::Text;
                    say(&std::mem::take(&mut self.held), pieces);
                }
            }
        }
    }

    /// What is left at the answer's end.
    pub(crate) fn finish(&mut self, pieces: &mut Vec<Piece>) {
        let held = std::mem::take(&mut self.held);
        match (self.style, self.state) {
            (Some(Style::Tagged), State::Start) if held.trim().is_empty() => {}
            (Some(_), State::Start) => match bare_calls(&held, &self.names) {
                Some(calls) => pieces.extend(calls),
                None => say(&held, pieces),
            },
            // A model that ends its answer with the call need not have closed it.
            (Some(Style::Tagged), State::Call { .. }) => match call(&held) {
                Some(call) => pieces.push(call),
                None => say(&format!("{OPEN}{held}"), pieces),
            },
            _ => say(&held, pieces),
        }
    }

    /// Moves on through what is held; `false` when more has to come first.
    fn step(&mut self, pieces: &mut Vec<Piece>) -> bool {
        match self.state {
            State::Start | State::Text => self.step_text(pieces),
            State::Call { tried, until } => self.step_call(tried, until, pieces),
        }
    }

    fn step_text(&mut self, pieces: &mut Vec<Piece>) -> bool {
        if let Some(at) = self.held.find(OPEN) {
            let before = self.held[..at].to_owned();
            if self.state == State::Text || !before.trim().is_empty() {
                say(&before, pieces);
            }
            self.held.drain(..at + OPEN.len());
            self.state = State::Call { tried: 0, until: 0 };
            return true;
        }
        let keep = (1..OPEN.len()).rev().find(|&len| self.held.ends_with(&OPEN[..len])).unwrap_or(0);
        let free = self.held.len() - keep;
        // White space before a call is the template's, not the reader's. What begins like a bare call is decided
        // at the end: models leave the markers out at times.
        let begun = self.held[..free].trim_start();
        if self.state == State::Start && (begun.is_empty() || begun.starts_with('{')) {
            return false;
        }
        self.state = State::Text;
        let text: String = self.held.drain(..free).collect();
        say(&text, pieces);
        false
    }

    fn step_call(&mut self, tried: usize, until: usize, pieces: &mut Vec<Piece>) -> bool {
        let Some(found) = self.held.get(until..).and_then(|rest| rest.find(CLOSE)) else { return false };
        let end = until + found;
        let after = end + CLOSE.len();
        match call(&self.held[..end]) {
            Some(call) => {
                pieces.push(call);
                self.held.drain(..after);
                self.state = State::Start;
            }
            None if tried + 1 >= TRIES_MAX => {
                say(OPEN, pieces);
                self.state = State::Text;
            }
            None => self.state = State::Call { tried: tried + 1, until: after },
        }
        true
    }
}

fn say(text: &str, pieces: &mut Vec<Piece>) {
    if text.is_empty() {
        return;
    }
    match pieces.last_mut() {
        Some(Piece::Text(before)) => before.push_str(text),
        _ => pieces.push(Piece::Text(text.to_owned())),
    }
}

/// The call that `text` is.
fn call(text: &str) -> Option<Piece> {
    piece(serde_json::from_str(text.trim()).ok()?)
}

fn piece(body: Body<'_>) -> Option<Piece> {
    let arguments = match body.arguments.map(RawValue::get) {
        None | Some("null") => "{}".to_owned(),
        // Some models write the arguments as OpenAI has them: a text that is JSON.
        Some(text) if text.starts_with('"') => serde_json::from_str(text).ok()?,
        Some(json) => json.to_owned(),
    };
    Some(Piece::Call { name: body.name, arguments })
}

/// The calls that `text` is made of, if it is nothing else and each function is one of `names`.
fn bare_calls(text: &str, names: &[String]) -> Option<Vec<Piece>> {
    let mut calls = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
        let body: Body<'_> = serde_json::from_str(values.next()?.ok()?.get()).ok()?;
        if !names.contains(&body.name) {
            return None;
        }
        calls.push(piece(body)?);
        rest = rest[values.byte_offset()..].trim_start_matches([';', ' ', '\n', '\r', '\t']);
    }
    (!calls.is_empty()).then_some(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of `text` cut into pieces of `size` characters, neighbouring texts joined.
    fn parse(style: Style, text: &str, size: usize) -> Vec<Piece> {
        let mut parser = Parser::new(Some(style), vec!["f".into(), "g".into()]);
        let mut pieces = Vec::new();
        let characters: Vec<char> = text.chars().collect();
        for chunk in characters.chunks(size) {
            parser.push(&chunk.iter().collect::<String>(), &mut pieces);
        }
        parser.finish(&mut pieces);
        pieces
    }

    fn text(text: &str) -> Piece {
        Piece::Text(text.into())
    }

    fn call(name: &str, arguments: &str) -> Piece {
        Piece::Call { name: name.into(), arguments: arguments.into() }
    }

    #[test]
    fn calls_are_found_however_the_text_is_cut() {
        let one = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1.50, \"b\": \"é\"}}\n</tool_call>";
        let two = format!("Let me see.\n{one}\n<tool_call>{{\"name\":\"g\"}}</tool_call>\n");
        let f = || call("f", "{\"a\": 1.50, \"b\": \"é\"}");
        for size in 1..40 {
            assert_eq!(parse(Style::Tagged, one, size), [f()]);
            assert_eq!(parse(Style::Tagged, &two, size), [text("Let me see.\n"), f(), call("g", "{}")]);
        }
    }

    #[test]
    fn what_is_no_call_stays_text() {
        for answer in
            ["a < b <tool", "<tool_call>no json</tool_call>", "<tool_call>{\"name\"", "  <b>", "x<tool_call>"]
        {
            for size in 1..12 {
                assert_eq!(parse(Style::Tagged, answer, size), [text(answer)], "{answer} by {size}");
            }
        }
        assert_eq!(
            parse(Style::Bare, "{\"name\": \"h\", \"parameters\": {}}", 3),
            [text("{\"name\": \"h\", \"parameters\": {}}")]
        );
        assert_eq!(parse(Style::Bare, "Hello {", 1), [text("Hello {")]);
    }

    #[test]
    fn a_marker_within_a_text_ends_no_call() {
        let answer = "<tool_call>{\"name\": \"f\", \"arguments\": {\"t\": \"</tool_call>\"}}</tool_call>";
        for size in 1..30 {
            assert_eq!(parse(Style::Tagged, answer, size), [call("f", "{\"t\": \"</tool_call>\"}")]);
        }
    }

    #[test]
    fn a_call_need_not_be_closed() {
        let answer = "<tool_call>\n{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1}\"}";
        assert_eq!(parse(Style::Tagged, answer, 5), [call("f", "{\"a\": 1}")]);
    }

    #[test]
    fn markers_may_be_missing() {
        let answer = "{\"name\": \"f\", \"arguments\": {}}\n{\"name\": \"g\", \"arguments\": {}}";
        let other = "{\"name\": \"h\", \"arguments\": {}}";
        for size in 1..20 {
            assert_eq!(parse(Style::Tagged, answer, size), [call("f", "{}"), call("g", "{}")]);
            assert_eq!(parse(Style::Tagged, other, size), [text(other)]);
        }
    }

    #[test]
    fn bare_calls_are_the_whole_answer() {
        let answer = " {\"name\": \"f\", \"parameters\": {\"a\": 1}}; {\"name\": \"g\", \"parameters\": {}}";
        for size in 1..20 {
            assert_eq!(parse(Style::Bare, answer, size), [call("f", "{\"a\": 1}"), call("g", "{}")]);
        }
    }
}
