//! [`Contents`]: the list of an artifact's files, from which its digest is taken.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Digest;

/// First line of the canonical text.
const HEADING: &str = "meuse artifact 1";

/// The files of an artifact: path to digest and size in bytes.
///
/// The canonical text is the heading and then one line per file, `{64 hex digits} {size} {path}`, sorted
/// by path, each line ended by a newline. An artifact's digest is the SHA-256 of that text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents(BTreeMap<String, (Digest, u64)>);

impl Contents {
    /// Notes a file. Its path has been checked; `false` if it is there already.
    pub(super) fn insert(&mut self, path: String, digest: Digest, size: u64) -> bool {
        self.0.insert(path, (digest, size)).is_none()
    }

    /// Path, digest and size of every file, by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, Digest, u64)> {
        self.0.iter().map(|(path, (digest, size))| (path.as_str(), *digest, *size))
    }

    /// The digest of the artifact.
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_text().as_bytes())
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = format!("{HEADING}\n");
        for (path, digest, size) in self.files() {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{} {size} {path}", digest.hex());
        }
        text
    }

    /// Reads the canonical text; `None` if it is anything else.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let mut contents = Contents::default();
        let mut lines = text.lines();
        if lines.next() != Some(HEADING) {
            return None;
        }
        for line in lines {
            let (hex, rest) = line.split_once(' ')?;
            let (size, path) = rest.split_once(' ')?;
            crate::storage::check_name(path).ok()?;
            contents.insert(path.to_owned(), format!("sha256:{hex}").parse().ok()?, size.parse().ok()?);
        }
        (contents.to_text() == text).then_some(contents)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn text_and_back() {
        let mut contents = Contents::default();
        assert!(contents.insert("b".to_owned(), Digest::of(b"x"), 1));
        assert!(contents.insert("a/c d".to_owned(), Digest::of(b""), 0));
        assert!(!contents.insert("b".to_owned(), Digest::of(b"y"), 1));
        assert_eq!(Contents::from_text(&contents.to_text()), Some(contents));
    }

    #[test]
    fn only_the_canonical_text_is_read() {
        let hex = Digest::of(b"").hex();
        for text in [
            String::new(),
            "meuse artifact 2\n".to_owned(),
            format!("{HEADING}\n{hex} 0 b\n{hex} 0 a\n"),
            format!("{HEADING}\n{hex} 0 a"),
            format!("{HEADING}\n{hex} 00 a\n"),
            format!("{HEADING}\n{hex} 0 ../a\n"),
            format!("{HEADING}\n{hex} 0 a\n{hex} 0 a\n"),
        ] {
            assert_eq!(Contents::from_text(&text), None, "{text:?}");
        }
    }
}
