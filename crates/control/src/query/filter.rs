//! Filters: `display_name="x" AND labels.team=search AND NOT (state=failed OR size>3)`.
//!
//! The language is the part of Google's (AIP-160) that its clients use. AND and OR next to each other
//! need parentheses here: Google's own systems disagree on which binds tighter.

use std::iter::Peekable;
use std::str::CharIndices;

use serde_json::Value;

use super::{lookup, snake_case};
use crate::{Error, Result, Timestamp};

/// Bytes of a filter at most.
const BYTES_MAX: usize = 8 << 10;
/// Parentheses and NOTs inside each other at most: the parser recurses.
const DEPTH_MAX: usize = 32;

/// A condition on an item's fields.
#[derive(Debug, PartialEq)]
pub(super) enum Filter {
    All(Vec<Filter>),
    Any(Vec<Filter>),
    Not(Box<Filter>),
    Test(Test),
}

/// One field's condition.
#[derive(Debug, PartialEq)]
pub(super) struct Test {
    path: Vec<String>,
    operator: Operator,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// `:`, a map has the key, a list the item, a text the pattern.
    Has,
    /// `:*`, there is something.
    Present,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Open,
    Close,
    Operator(Operator),
    /// A part of a word that was in quotes keeps its dots.
    Word(Vec<Part>),
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Bare(String),
    Quoted(String),
}

impl Filter {
    /// Reads a filter; `None` if it is empty.
    pub(super) fn parse(text: &str) -> Result<Option<Self>> {
        if text.len() > BYTES_MAX {
            return Err(Error::invalid(format!("the filter is longer than {BYTES_MAX} bytes")));
        }
        let tokens = lex(text)?;
        if tokens.is_empty() {
            return Ok(None);
        }
        let mut parser = Parser { tokens: tokens.into_iter().peekable(), depth: 0 };
        let filter = parser.expression()?;
        match parser.tokens.next() {
            None => Ok(Some(filter)),
            Some(Token::Close) => Err(malformed("there is an unexpected `)`")),
            Some(_) => Err(malformed("put AND or OR between two conditions")),
        }
    }

    /// Whether an item with these fields is meant.
    pub(super) fn matches(&self, fields: &Value) -> Result<bool> {
        match self {
            // Every part is evaluated, so that an unknown field is always refused.
            Filter::All(parts) => parts.iter().try_fold(true, |all, part| Ok(part.matches(fields)? && all)),
            Filter::Any(parts) => parts.iter().try_fold(false, |any, part| Ok(part.matches(fields)? || any)),
            Filter::Not(part) => Ok(!part.matches(fields)?),
            Filter::Test(test) => test.matches(fields),
        }
    }
}

fn malformed(what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("the filter cannot be read: {what}"))
}

struct Parser {
    tokens: Peekable<std::vec::IntoIter<Token>>,
    depth: usize,
}

impl Parser {
    fn expression(&mut self) -> Result<Filter> {
        let first = self.unary()?;
        let Some(joint @ ("AND" | "OR")) = self.keyword() else { return Ok(first) };
        let mut parts = vec![first];
        while let Some(next) = self.keyword() {
            match next {
                "AND" | "OR" if next != joint => {
                    return Err(malformed("put parentheses where AND and OR stand next to each other"));
                }
                "AND" | "OR" => {
                    self.tokens.next();
                    parts.push(self.unary()?);
                }
                _ => break,
            }
        }
        Ok(if joint == "AND" { Filter::All(parts) } else { Filter::Any(parts) })
    }

    fn unary(&mut self) -> Result<Filter> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(malformed(format_args!(
                "more than {DEPTH_MAX} parentheses or NOTs are inside each other"
            )));
        }
        let filter = if self.keyword() == Some("NOT") {
            self.tokens.next();
            Filter::Not(Box::new(self.unary()?))
        } else if self.tokens.next_if_eq(&Token::Open).is_some() {
            let inner = self.expression()?;
            if self.tokens.next_if_eq(&Token::Close).is_none() {
                return Err(malformed("a closing `)` is missing, or AND or OR before the next condition"));
            }
            inner
        } else {
            Filter::Test(self.test()?)
        };
        self.depth -= 1;
        Ok(filter)
    }

    fn test(&mut self) -> Result<Test> {
        let Some(Token::Word(parts)) = self.tokens.next() else {
            return Err(malformed("a field's name is missing"));
        };
        let path = path(&parts)?;
        // `in_context("…")`, as Google writes it for metadata, is `in_context:"…"`.
        if path == ["in_context"] && self.tokens.next_if_eq(&Token::Open).is_some() {
            let Some(Token::Word(value)) = self.tokens.next() else {
                return Err(malformed("the context's name is missing"));
            };
            if self.tokens.next_if_eq(&Token::Close).is_none() {
                return Err(malformed("a closing `)` is missing behind the context's name"));
            }
            let value = value.into_iter().map(|(Part::Bare(text) | Part::Quoted(text))| text).collect();
            return Ok(Test { path, operator: Operator::Has, value });
        }
        let Some(Token::Operator(operator)) = self.tokens.next() else {
            return Err(malformed(format_args!(
                "after {:?} one of = != < <= > >= : is missing",
                path.join(".")
            )));
        };
        let Some(Token::Word(value)) = self.tokens.next() else {
            return Err(malformed(format_args!(
                "the value that {:?} is compared with is missing",
                path.join(".")
            )));
        };
        let operator = match value.as_slice() {
            [Part::Bare(star)] if operator == Operator::Has && star == "*" => Operator::Present,
            _ => operator,
        };
        let value = value.into_iter().map(|(Part::Bare(text) | Part::Quoted(text))| text).collect();
        Ok(Test { path, operator, value })
    }

    /// The next token, if it is one of the three words.
    fn keyword(&mut self) -> Option<&'static str> {
        match self.tokens.peek() {
            Some(Token::Word(parts)) => match parts.as_slice() {
                [Part::Bare(word)] => ["AND", "OR", "NOT"].into_iter().find(|k| k == word),
                _ => None,
            },
            _ => None,
        }
    }
}

/// `labels."a.b"` as its two parts.
fn path(parts: &[Part]) -> Result<Vec<String>> {
    let mut path = vec![String::new()];
    for part in parts {
        let mut pieces = match part {
            Part::Bare(text) => text.split('.').collect::<Vec<_>>().into_iter(),
            Part::Quoted(text) => vec![text.as_str()].into_iter(),
        };
        if let (Some(last), Some(piece)) = (path.last_mut(), pieces.next()) {
            last.push_str(piece);
        }
        path.extend(pieces.map(str::to_owned));
    }
    if path.iter().any(String::is_empty) {
        return Err(malformed("a field's name is empty"));
    }
    path[0] = snake_case(&path[0]);
    Ok(path)
}

fn lex(text: &str) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some(&(at, c)) = chars.peek() {
        if c.is_whitespace() {
            chars.next();
        } else if let Some((token, length)) = symbol(&text[at..]) {
            tokens.push(token);
            chars.by_ref().take(length).for_each(drop);
        } else {
            tokens.push(Token::Word(word(text, &mut chars)?));
        }
    }
    Ok(tokens)
}

/// A symbol at the head of `text`, and its length in bytes, which are all ASCII.
fn symbol(text: &str) -> Option<(Token, usize)> {
    const SYMBOLS: [(&str, Token); 9] = [
        ("!=", Token::Operator(Operator::NotEqual)),
        ("<=", Token::Operator(Operator::LessOrEqual)),
        (">=", Token::Operator(Operator::GreaterOrEqual)),
        ("=", Token::Operator(Operator::Equal)),
        ("<", Token::Operator(Operator::Less)),
        (">", Token::Operator(Operator::Greater)),
        (":", Token::Operator(Operator::Has)),
        ("(", Token::Open),
        (")", Token::Close),
    ];
    SYMBOLS
        .into_iter()
        .find(|(symbol, _)| text.starts_with(symbol))
        .map(|(symbol, token)| (token, symbol.len()))
}

/// A word: up to a blank or a symbol, but for what is in quotes. A colon between digits belongs to it, so
/// that a time needs no quotes.
fn word(text: &str, chars: &mut Peekable<CharIndices<'_>>) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut bare = String::new();
    while let Some(&(at, c)) = chars.peek() {
        if c == '"' || c == '\'' {
            chars.next();
            if !bare.is_empty() {
                parts.push(Part::Bare(std::mem::take(&mut bare)));
            }
            parts.push(Part::Quoted(quoted(c, chars)?));
        } else if c.is_whitespace() || symbol(&text[at..]).is_some() && !within_time(&bare, &text[at..]) {
            break;
        } else {
            bare.push(c);
            chars.next();
        }
    }
    if !bare.is_empty() {
        parts.push(Part::Bare(bare));
    }
    Ok(parts)
}

fn within_time(before: &str, rest: &str) -> bool {
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    let mut rest = rest.chars();
    before.contains('-') && digit(before.chars().last()) && rest.next() == Some(':') && digit(rest.next())
}

/// What stands before the closing quote; `\` takes the next character as it is.
fn quoted(quote: char, chars: &mut Peekable<CharIndices<'_>>) -> Result<String> {
    let mut text = String::new();
    while let Some((_, c)) = chars.next() {
        match c {
            _ if c == quote => return Ok(text),
            '\\' => text.extend(chars.next().map(|(_, c)| c)),
            _ => text.push(c),
        }
    }
    Err(malformed("a closing quote is missing"))
}

impl Test {
    fn matches(&self, fields: &Value) -> Result<bool> {
        let stored = lookup(fields, &self.path)?;
        match (self.operator, stored) {
            (Operator::Present, stored) => Ok(stored.is_some_and(|v| !is_empty(v))),
            (Operator::NotEqual, None) => Ok(true),
            (_, None) => Ok(false),
            (Operator::Equal, Some(stored)) => Ok(self.equals(stored)),
            (Operator::NotEqual, Some(stored)) => Ok(!self.equals(stored)),
            (Operator::Has, Some(stored)) => Ok(self.has(stored)),
            (_, Some(stored)) => self.compares(stored),
        }
    }

    fn equals(&self, stored: &Value) -> bool {
        match stored {
            Value::String(text) if self.path.last().is_some_and(|f| f == "state") => {
                bare_state(text) == bare_state(&self.value)
            }
            Value::String(text) => same_text(text, &self.value),
            Value::Number(n) => self.value.parse::<f64>().ok() == n.as_f64(),
            Value::Bool(b) => self.value.parse() == Ok(*b),
            Value::Array(items) => items.iter().any(|item| self.equals(item)),
            Value::Object(_) | Value::Null => false,
        }
    }

    fn has(&self, stored: &Value) -> bool {
        match stored {
            Value::Object(map) => map.contains_key(&self.value),
            Value::String(text) if self.value.contains('*') => glob(&self.value, text),
            _ => self.equals(stored),
        }
    }

    fn compares(&self, stored: &Value) -> Result<bool> {
        let ordering = match stored {
            Value::Number(n) => {
                let Ok(given) = self.value.parse::<f64>() else { return Err(self.not_a("number")) };
                n.as_f64().and_then(|n| n.partial_cmp(&given))
            }
            Value::String(text) => match (text.parse::<Timestamp>(), self.value.parse::<Timestamp>()) {
                (Ok(stored), Ok(given)) => Some(stored.cmp(&given)),
                (Ok(_), Err(_)) => return Err(self.not_a("time such as 2026-01-31T12:00:00Z")),
                (Err(_), _) => Some(text.as_str().cmp(&self.value)),
            },
            _ => None,
        };
        Ok(ordering.is_some_and(|o| match self.operator {
            Operator::Less => o.is_lt(),
            Operator::LessOrEqual => o.is_le(),
            Operator::Greater => o.is_gt(),
            _ => o.is_ge(),
        }))
    }

    fn not_a(&self, what: &str) -> Error {
        malformed(format_args!(
            "{:?} is compared with {:?}, which is no {what}",
            self.path.join("."),
            self.value
        ))
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Equal texts, equal times however written, or a resource name and its last segment.
fn same_text(stored: &str, given: &str) -> bool {
    if stored == given {
        return true;
    }
    if stored.starts_with("projects/") && !given.contains('/') {
        return stored.rsplit('/').next() == Some(given);
    }
    match (stored.parse::<Timestamp>(), given.parse::<Timestamp>()) {
        (Ok(stored), Ok(given)) => stored == given,
        _ => false,
    }
}

/// `JOB_STATE_RUNNING` and `RUNNING` as `running`.
fn bare_state(text: &str) -> String {
    let bare = ["JOB_STATE_", "PIPELINE_STATE_"].iter().find_map(|prefix| text.strip_prefix(prefix));
    bare.unwrap_or(text).to_ascii_lowercase()
}

/// Whether `text` is `pattern`, in which `*` stands for anything. Linear in the text for each star.
fn glob(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let (first, last) = (pieces.next().unwrap_or(""), pattern.rsplit('*').next().unwrap_or(""));
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let middle: Vec<&str> = pieces.collect();
    for piece in middle.iter().take(middle.len().saturating_sub(1)) {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}
