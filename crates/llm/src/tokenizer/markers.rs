//! [`Markers`]: finds the tokens in a text that are taken as they are spelt.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, MatchKind};
use formats::tokenizer::{TokenKind, TokenizerKind, TokenizerSpec};

use super::tokens::Tokens;
use super::{Special, TokenizerError};

/// A piece of a text.
pub(super) enum Part<'t> {
    /// What is between markers; never empty.
    Text(&'t str),
    /// A marker's token.
    Token(u32),
}

/// Control tokens, and those that are text but never cut.
#[derive(Debug, Default)]
pub(super) struct Markers {
    all: Finder,
    /// Without control tokens.
    harmless: Finder,
    by_text: HashMap<Box<str>, u32>,
    controls: Vec<Box<str>>,
}

/// The leftmost and there the longest of some texts.
#[derive(Debug, Default)]
struct Finder {
    /// None when there is nothing to find.
    search: Option<AhoCorasick>,
    found: Vec<Marker>,
}

#[derive(Debug, Clone)]
struct Marker {
    text: Box<str>,
    id: u32,
    strip_right: bool,
}

impl Markers {
    pub(super) fn new(tokens: &Tokens, spec: &TokenizerSpec) -> Result<Markers, TokenizerError> {
        let mut all = Vec::new();
        let mut harmless = Vec::new();
        let mut markers = Markers::default();
        for ((id, kind, _), token) in tokens.iter().zip(&spec.tokens) {
            let text = match (&spec.kind, kind) {
                (TokenizerKind::Spm, TokenKind::UserDefined) => token.text.replace('▁', " ").into(),
                _ => token.text.as_str().into(),
            };
            let marker = Marker { text, id, strip_right: token.strip_right };
            if marker.text.is_empty() {
                continue;
            }
            match kind {
                TokenKind::UserDefined => harmless.push(marker.clone()),
                TokenKind::Control | TokenKind::Unknown => markers.controls.push(marker.text.clone()),
                TokenKind::Normal | TokenKind::Unused | TokenKind::Byte(_) => continue,
            }
            markers.by_text.entry(marker.text.clone()).or_insert(id);
            all.push(marker);
        }
        markers.all = Finder::new(all)?;
        markers.harmless = Finder::new(harmless)?;
        Ok(markers)
    }

    /// Calls `part` with the pieces of `text`, in order.
    pub(super) fn split<'t>(&self, text: &'t str, special: Special, part: impl FnMut(Part<'t>)) {
        match special {
            Special::Parse => self.all.split(text, part),
            Special::AsText => self.harmless.split(text, part),
        }
    }

    pub(super) fn token(&self, text: &str) -> Option<u32> {
        self.by_text.get(text).copied()
    }

    pub(super) fn controls(&self) -> impl Iterator<Item = &str> {
        self.controls.iter().map(AsRef::as_ref)
    }
}

impl Finder {
    fn new(found: Vec<Marker>) -> Result<Finder, TokenizerError> {
        if found.is_empty() {
            return Ok(Finder::default());
        }
        let texts = found.iter().map(|marker| marker.text.as_bytes());
        let search = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts);
        Ok(Finder { search: Some(search.map_err(|_| TokenizerError::Markers)?), found })
    }

    fn split<'t>(&self, text: &'t str, mut part: impl FnMut(Part<'t>)) {
        let mut done = 0;
        let mut emit = |text: &'t str, token: Option<u32>| {
            if !text.is_empty() {
                part(Part::Text(text));
            }
            if let Some(id) = token {
                part(Part::Token(id));
            }
        };
        for found in self.search.iter().flat_map(|search| search.find_iter(text)) {
            let Some(marker) = self.found.get(found.pattern().as_usize()) else { continue };
            emit(&text[done.min(found.start())..found.start()], Some(marker.id));
            let rest = &text[found.end()..];
            let stripped = if marker.strip_right { rest.len() - rest.trim_start().len() } else { 0 };
            done = found.end() + stripped;
        }
        emit(&text[done..], None);
    }
}
