//! What kind of character a character is, in the categories that splitting rules are written in.

use std::sync::LazyLock;

use regex_syntax::hir::{Class as HirClass, HirKind};

/// A set of the categories below.
pub(super) type Classes = u8;

/// Upper and title case letters: `\p{Lu}`, `\p{Lt}`.
pub(super) const UPPER: Classes = 1;
/// Lower case letters: `\p{Ll}`.
pub(super) const LOWER: Classes = 1 << 1;
/// Letters without case: `\p{Lm}`, `\p{Lo}`.
pub(super) const CASELESS: Classes = 1 << 2;
/// Marks: `\p{M}`.
pub(super) const MARK: Classes = 1 << 3;
/// Numbers: `\p{N}`.
pub(super) const NUMBER: Classes = 1 << 4;
/// Punctuation: `\p{P}`.
pub(super) const PUNCTUATION: Classes = 1 << 5;
/// Symbols: `\p{S}`.
pub(super) const SYMBOL: Classes = 1 << 6;
/// White space: `\s`.
pub(super) const SPACE: Classes = 1 << 7;
/// Letters: `\p{L}`.
pub(super) const LETTER: Classes = UPPER | LOWER | CASELESS;

const PAGE: usize = 256;
const PAGES: usize = (char::MAX as usize + 1) / PAGE;

/// Categories of all characters, in pages; most pages are alike and kept once.
struct Table {
    /// By the page's number: where in `pages` it is.
    index: Box<[u16]>,
    pages: Vec<[Classes; PAGE]>,
}

static TABLE: LazyLock<Table> = LazyLock::new(Table::build);

/// The categories of a character; none for controls and what is not assigned.
pub(super) fn classes(c: char) -> Classes {
    let code = c as usize;
    TABLE.pages[usize::from(TABLE.index[code / PAGE])][code % PAGE]
}

impl Table {
    fn build() -> Table {
        let mut flat = vec![0; PAGES * PAGE];
        let categories = [
            (UPPER, r"[\p{Lu}\p{Lt}]"),
            (LOWER, r"\p{Ll}"),
            (CASELESS, r"[\p{Lm}\p{Lo}]"),
            (MARK, r"\p{M}"),
            (NUMBER, r"\p{N}"),
            (PUNCTUATION, r"\p{P}"),
            (SYMBOL, r"\p{S}"),
            (SPACE, r"\s"),
        ];
        for (class, pattern) in categories {
            for (first, last) in ranges(pattern) {
                flat[first as usize..=last as usize].iter_mut().for_each(|entry| *entry |= class);
            }
        }
        let mut table = Table { index: vec![0; PAGES].into(), pages: Vec::new() };
        for (entry, page) in table.index.iter_mut().zip(flat.as_chunks::<PAGE>().0) {
            let at = table.pages.iter().position(|known| known == page).unwrap_or_else(|| {
                table.pages.push(*page);
                table.pages.len() - 1
            });
            // There are fewer pages than a u16 counts.
            *entry = u16::try_from(at).unwrap_or_default();
        }
        table
    }
}

/// A set of characters that is asked for seldom.
pub(super) struct Set(Vec<(char, char)>);

impl Set {
    /// The characters of a class, such as `\p{Mn}`.
    pub(super) fn of(pattern: &str) -> Set {
        Set(ranges(pattern))
    }

    pub(super) fn contains(&self, c: char) -> bool {
        let after = self.0.partition_point(|&(first, _)| first <= c);
        after > 0 && self.0.get(after - 1).is_some_and(|&(_, last)| c <= last)
    }
}

/// First and last characters of the runs that a class is made of. A pattern that is not one class has none.
fn ranges(pattern: &str) -> Vec<(char, char)> {
    match regex_syntax::parse(pattern).map(regex_syntax::hir::Hir::into_kind) {
        Ok(HirKind::Class(HirClass::Unicode(class))) => {
            class.ranges().iter().map(|range| (range.start(), range.end())).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_of_their_categories() {
        let cases = [
            ('a', LOWER),
            ('Z', UPPER),
            ('ǅ', UPPER),
            ('中', CASELESS),
            ('ʰ', CASELESS),
            ('\u{301}', MARK),
            ('٣', NUMBER),
            ('½', NUMBER),
            ('!', PUNCTUATION),
            ('+', SYMBOL),
            ('\u{a0}', SPACE),
            ('\u{1f600}', SYMBOL),
            ('\u{0}', 0),
            ('\u{1c}', 0),
            ('\u{10ffff}', 0),
        ];
        for (c, expected) in cases {
            assert_eq!(classes(c), expected, "{c:?}");
        }
        assert!(TABLE.pages.len() < 1000);
    }

    #[test]
    fn a_set_has_its_characters() {
        let set = Set::of(r"\p{Mn}");
        assert!(set.contains('\u{301}') && !set.contains('a') && !set.contains('\u{903}'));
    }
}
