//! Request paths: split once, decoded once.

use std::borrow::Cow;

/// A request path's segments: empty ones (`//`, a trailing slash) are dropped, `%XX` is not yet decoded.
#[derive(Debug)]
pub(super) struct Segments {
    /// Start and end of each segment in the path, in bytes.
    spans: Vec<(u32, u32)>,
}

/// A path that no route may see.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PathError {
    /// More than a route could have.
    #[error("the path is too long")]
    TooLong,
    /// A percent sign without two hexadecimal digits, or bytes that are not UTF-8.
    #[error("the path holds a percent sign that encodes nothing")]
    Encoding,
    /// `.`, `..`, NUL, a backslash or one of them encoded twice.
    #[error(
        "the path holds a segment that could lead elsewhere (`..`, `.`, a backslash, NUL, or one encoded twice)"
    )]
    Traversal,
}

/// Longest path, in segments.
const SEGMENTS_MAX: usize = 64;

impl Segments {
    /// Splits `path`.
    pub(super) fn of(path: &str) -> Result<Self, PathError> {
        let mut spans = Vec::with_capacity(12);
        let mut start = 0;
        for (at, byte) in path.bytes().chain(*b"/").enumerate() {
            if byte == b'/' {
                if at > start {
                    spans.push((start as u32, at as u32));
                }
                start = at + 1;
            }
        }
        if spans.len() > SEGMENTS_MAX {
            return Err(PathError::TooLong);
        }
        Ok(Segments { spans })
    }

    /// Number of segments.
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Segment `i` as sent.
    pub(super) fn raw<'a>(&self, path: &'a str, i: usize) -> &'a str {
        let (start, end) = self.spans[i];
        &path[start as usize..end as usize]
    }

    /// Cuts `bytes` from the end of the last segment.
    pub(super) fn shorten_last(&mut self, bytes: usize) {
        if let Some((_, end)) = self.spans.last_mut() {
            *end -= bytes as u32;
        }
    }

    /// Segments `start..end` decoded and joined by slashes: borrowed when they lie in the path as such.
    pub(super) fn join<'a>(
        &self,
        path: &'a str,
        start: usize,
        end: usize,
    ) -> Result<Cow<'a, str>, PathError> {
        let (Some(first), Some(last)) = (self.spans.get(start), self.spans.get(end.wrapping_sub(1))) else {
            return Ok(Cow::Borrowed(""));
        };
        let whole = &path[first.0 as usize..last.1 as usize];
        let plain = whole.len() == self.joined_len(start, end) && !whole.contains('%');
        if plain {
            for i in start..end {
                check(self.raw(path, i))?;
            }
            return Ok(Cow::Borrowed(whole));
        }
        let mut joined = String::with_capacity(whole.len());
        for i in start..end {
            if i > start {
                joined.push('/');
            }
            joined.push_str(&decode(self.raw(path, i))?);
        }
        Ok(Cow::Owned(joined))
    }

    fn joined_len(&self, start: usize, end: usize) -> usize {
        let bytes: u32 = self.spans[start..end].iter().map(|(s, e)| e - s).sum();
        bytes as usize + (end - start - 1)
    }
}

/// Decodes one segment, once.
pub(super) fn decode(raw: &str) -> Result<Cow<'_, str>, PathError> {
    let decoded = percent_decode(raw, false).ok_or(PathError::Encoding)?;
    check(&decoded)?;
    Ok(decoded)
}

/// Refuses what could lead elsewhere if someone below decoded again or asked a file system.
fn check(segment: &str) -> Result<(), PathError> {
    if !segment.bytes().any(|byte| matches!(byte, b'.' | b'\\' | b'\0' | b'%')) {
        return Ok(());
    }
    let risky = |part: &str| part == "." || part == ".." || part.contains(['\\', '\0']);
    if segment.split('/').any(risky) {
        return Err(PathError::Traversal);
    }
    let mut rest = segment;
    while let Some((_, after)) = rest.split_once('%') {
        let head = after.get(..2).unwrap_or("").to_ascii_lowercase();
        if matches!(head.as_str(), "2e" | "2f" | "5c" | "00") {
            return Err(PathError::Traversal);
        }
        rest = after;
    }
    Ok(())
}

/// Decodes `%XX`, and `+` as a space where `form` says so. `None` for a broken escape or broken UTF-8.
pub(crate) fn percent_decode(raw: &str, form: bool) -> Option<Cow<'_, str>> {
    let encoded = raw.contains('%') || (form && raw.contains('+'));
    if !encoded {
        return Some(Cow::Borrowed(raw));
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            b'+' if form => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn join(path: &str) -> Result<String, PathError> {
        let segments = Segments::of(path)?;
        segments.join(path, 0, segments.len()).map(Cow::into_owned)
    }

    #[test]
    fn slashes_collapse_and_escapes_decode_once() {
        for (path, expected) in [
            ("//v1//a/", "v1/a"),
            ("/models/1%402", "models/1@2"),
            ("/o/a%2Fb", "o/a/b"),
            ("/o/a%2520b", "o/a%20b"),
            ("/", ""),
        ] {
            assert_eq!(join(path).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn an_undecorated_path_is_borrowed() {
        let path = "/v1/projects/p";
        let segments = Segments::of(path).unwrap();
        assert!(matches!(segments.join(path, 1, 3).unwrap(), Cow::Borrowed("projects/p")));
    }

    #[test]
    fn traversal_is_refused_plain_encoded_and_encoded_twice() {
        for path in [
            "/a/../b",
            "/a/%2e%2e/b",
            "/a/%252e%252e/b",
            "/a/..%2fb",
            "/a/b%5c..",
            "/a%00",
            "/a/%252Fetc",
            "/.",
        ] {
            assert_eq!(join(path), Err(PathError::Traversal), "{path}");
        }
        assert_eq!(join("/a/%zz"), Err(PathError::Encoding));
        assert_eq!(join("/a/%ff"), Err(PathError::Encoding));
        assert_eq!(join(&"/a".repeat(65)), Err(PathError::TooLong));
    }
}
