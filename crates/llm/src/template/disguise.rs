//! Keeps what people wrote from being taken for control tokens.
//!
//! Each character with which some control token's name begins is replaced, in every string that a request brings, by a
//! private character that the request does not use. A string keeps its length, and whatever the template cuts out of
//! it, joins or removes, no control token can begin in it. What the template itself looks for in messages (`</think>`
//! and the like) is left as it is.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};

use minijinja::Value;
use minijinja::value::ValueKind;

use super::{Context, Message, TemplateError};

/// Values nested deeper are refused.
const DEPTH_MAX: usize = 64;
/// The longest tag that a template can look for.
const TAG_BYTES_MAX: usize = 48;
/// Where characters for private use begin that nobody uses.
const PRIVATE: std::ops::RangeInclusive<char> = '\u{100000}'..='\u{10fffd}';

/// What is to be hidden, for one template and one vocabulary.
#[derive(Debug)]
pub(super) struct Disguise {
    /// First characters of control tokens.
    firsts: Vec<char>,
    /// Tags that the template mentions and that are no part of a control token's name.
    tags: HashSet<Box<str>>,
    /// Private characters that the template uses itself.
    used: BTreeSet<char>,
}

/// The disguise for one request.
#[derive(Debug, Clone)]
pub(super) struct Mask {
    /// Characters and what stands for them.
    pairs: Vec<(char, char)>,
    tags: HashSet<Box<str>>,
    bytes: usize,
}

impl Disguise {
    pub(super) fn new<'n>(source: &str, controls: impl Iterator<Item = &'n str>) -> Disguise {
        let controls: Vec<&str> = controls.collect();
        let firsts: BTreeSet<char> = controls.iter().filter_map(|name| name.chars().next()).collect();
        let part_of_control =
            |tag: &str| controls.iter().any(|name| name.starts_with(tag) || tag.starts_with(name));
        let tags = source
            .char_indices()
            .filter(|(_, c)| firsts.contains(c))
            .filter_map(|(at, _)| tag(&source[at..]))
            .filter(|tag| !part_of_control(tag))
            .map(Box::from)
            .collect();
        Disguise { firsts: firsts.into_iter().collect(), tags, used: private(source).collect() }
    }

    /// Chooses private characters that nothing in the request uses.
    pub(super) fn mask(&self, messages: &[Message], context: &Context) -> Result<Mask, TemplateError> {
        let mut seen = Seen { used: self.used.clone(), bytes: 0 };
        for message in messages {
            let texts = [&message.content, &message.reasoning, &message.name, &message.tool_call_id];
            texts.into_iter().flatten().for_each(|text| seen.text(text));
            for call in &message.tool_calls {
                seen.text(&call.id);
                seen.text(&call.name);
                seen.value(&call.arguments, 0)?;
            }
        }
        context.tools.iter().try_for_each(|tool| seen.value(tool, 0))?;
        context.extra.iter().try_for_each(|(_, value)| seen.value(value, 0))?;
        let mut free = PRIVATE.filter(|c| !seen.used.contains(c));
        let pairs: Vec<_> = self.firsts.iter().filter_map(|&first| Some((first, free.next()?))).collect();
        if pairs.len() < self.firsts.len() {
            return Err(TemplateError::Limit("private characters in messages"));
        }
        Ok(Mask { pairs, tags: self.tags.clone(), bytes: seen.bytes })
    }
}

/// What a request's strings hold.
struct Seen {
    used: BTreeSet<char>,
    bytes: usize,
}

impl Seen {
    fn text(&mut self, text: &str) {
        self.bytes = self.bytes.saturating_add(text.len());
        self.used.extend(private(text));
    }

    fn value(&mut self, value: &Value, depth: usize) -> Result<(), TemplateError> {
        if depth > DEPTH_MAX {
            return Err(TemplateError::Limit("depth"));
        }
        match value.kind() {
            ValueKind::String => self.text(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                for item in value.try_iter().into_iter().flatten() {
                    self.value(&item, depth + 1)?;
                }
            }
            ValueKind::Map => {
                for key in value.try_iter().into_iter().flatten() {
                    self.value(&key, depth + 1)?;
                    self.value(&value.get_item(&key).unwrap_or_default(), depth + 1)?;
                }
            }
            _ => self.bytes = self.bytes.saturating_add(size_of::<Value>()),
        }
        Ok(())
    }
}

impl Mask {
    /// Bytes of all strings of the request.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A string as the template may see it.
    pub(super) fn put_on_text(&self, text: &str) -> String {
        let mut result = String::with_capacity(text.len());
        for (at, c) in text.char_indices() {
            let stand_in = self.pairs.iter().find(|(first, _)| *first == c);
            match stand_in.filter(|_| !tag(&text[at..]).is_some_and(|tag| self.tags.contains(tag))) {
                Some((_, private)) => result.push(*private),
                None => result.push(c),
            }
        }
        result
    }

    /// A value as the template may see it, every string and every key of it.
    pub(super) fn put_on(&self, value: &Value) -> Result<Value, TemplateError> {
        self.put_on_at(value, 0)
    }

    fn put_on_at(&self, value: &Value, depth: usize) -> Result<Value, TemplateError> {
        if depth > DEPTH_MAX {
            return Err(TemplateError::Limit("depth"));
        }
        match value.kind() {
            ValueKind::String => Ok(Value::from(self.put_on_text(value.as_str().unwrap_or_default()))),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter().into_iter().flatten();
                items
                    .map(|item| self.put_on_at(&item, depth + 1))
                    .collect::<Result<Vec<_>, _>>()
                    .map(Value::from)
            }
            ValueKind::Map => {
                let pairs = value.try_iter().into_iter().flatten().map(|key| {
                    let item = value.get_item(&key).unwrap_or_default();
                    Ok((self.put_on_at(&key, depth + 1)?, self.put_on_at(&item, depth + 1)?))
                });
                pairs.collect::<Result<Vec<_>, TemplateError>>().map(|pairs| pairs.into_iter().collect())
            }
            _ => Ok(value.clone()),
        }
    }

    /// The text as it was meant.
    pub(super) fn take_off<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if private(text).next().is_none() {
            return Cow::Borrowed(text);
        }
        let original =
            |c: char| self.pairs.iter().find(|(_, private)| *private == c).map_or(c, |(first, _)| *first);
        Cow::Owned(text.chars().map(original).collect())
    }
}

/// The private characters in a text.
fn private(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|c| PRIVATE.contains(c))
}

/// What the text begins with, if it is written like `<this>`, `</this>` or `[THIS]`.
fn tag(text: &str) -> Option<&str> {
    let first = text.chars().next()?;
    let inner = &text[first.len_utf8()..];
    let len = inner
        .bytes()
        .take(TAG_BYTES_MAX)
        .position(|b| !(b.is_ascii_alphanumeric() || b"_-/".contains(&b)))?;
    let close = matches!(inner.as_bytes().get(len), Some(b'>' | b']')) && len > 0;
    close.then(|| &text[..first.len_utf8() + len + 1])
}
