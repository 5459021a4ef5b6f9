//! `multipart/related` with two parts, a description and the bytes, read as it arrives.

use bytes::{Bytes, BytesMut};

use crate::Fault;

/// Most bytes of everything before the second part's content.
const HEAD_BYTES_MAX: usize = 1 << 20;
/// Longest boundary (RFC 2046).
const BOUNDARY_BYTES_MAX: usize = 70;

/// Splits a body into its description and its bytes.
pub(super) struct Multipart {
    /// `\r\n--boundary`.
    delimiter: Vec<u8>,
    buffer: BytesMut,
    state: State,
}

#[derive(PartialEq)]
enum State {
    Head,
    Content,
    Done,
}

/// The two parts' heads.
#[derive(Debug, PartialEq)]
pub(super) struct Head {
    /// The first part's content.
    pub(super) description: Bytes,
    /// The second part's media type.
    pub(super) content_type: Option<String>,
}

impl Multipart {
    /// A reader for a request of `content_type`.
    ///
    /// # Errors
    /// If it is not multipart or its boundary cannot be.
    pub(super) fn new(content_type: &str) -> Result<Self, Fault> {
        let boundary = content_type
            .split(';')
            .filter_map(|parameter| parameter.trim().split_once('='))
            .find(|(name, _)| name.eq_ignore_ascii_case("boundary"))
            .map(|(_, value)| value.trim_matches(['"', '\'']));
        match boundary.filter(|b| !b.is_empty() && b.len() <= BOUNDARY_BYTES_MAX) {
            Some(boundary) => Ok(Multipart {
                delimiter: format!("\r\n--{boundary}").into_bytes(),
                // The first delimiter stands at the very beginning: give it its line break.
                buffer: BytesMut::from(&b"\r\n"[..]),
                state: State::Head,
            }),
            None => Err(Fault::invalid(format!("{content_type:?} states no boundary of 1 to 70 bytes"))),
        }
    }

    /// Takes more of the body.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.state != State::Done {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The heads, once they are there.
    ///
    /// # Errors
    /// If they are not as they must be, or too long.
    pub(super) fn head(&mut self) -> Result<Option<Head>, Fault> {
        let malformed = || Fault::invalid("the multipart body must hold a description and then the bytes");
        let d = self.delimiter.len();
        let found = (|| {
            let first = find(&self.buffer, &self.delimiter, 0)? + d;
            let first_body = find(&self.buffer, b"\r\n\r\n", first)? + 4;
            let second = find(&self.buffer, &self.delimiter, first_body)?;
            let second_body = find(&self.buffer, b"\r\n\r\n", second + d)? + 4;
            Some((first, first_body, second, second_body))
        })();
        let Some((first, first_body, second, second_body)) = found else {
            return if self.buffer.len() > HEAD_BYTES_MAX { Err(malformed()) } else { Ok(None) };
        };
        if first != d {
            return Err(malformed());
        }
        let head = self.buffer.split_to(second_body).freeze();
        let headers = std::str::from_utf8(&head[second + d..]).map_err(|_| malformed())?;
        let content_type = headers
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("content-type"))
            .map(|(_, value)| value.trim().to_owned());
        self.state = State::Content;
        Ok(Some(Head { description: head.slice(first_body..second), content_type }))
    }

    /// What has come of the content; empty when more must come first.
    pub(super) fn content(&mut self) -> Bytes {
        if self.state != State::Content {
            return Bytes::new();
        }
        match find(&self.buffer, &self.delimiter, 0) {
            Some(end) => {
                self.state = State::Done;
                self.buffer.split_to(end).freeze()
            }
            // The delimiter may have come in part.
            None => {
                let sure = self.buffer.len().saturating_sub(self.delimiter.len() - 1);
                self.buffer.split_to(sure).freeze()
            }
        }
    }

    /// Whether the closing delimiter has come.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }
}

fn find(buffer: &[u8], what: &[u8], from: usize) -> Option<usize> {
    let first = *what.first()?;
    let mut at = from;
    while let Some(next) = buffer.get(at..)?.iter().position(|&byte| byte == first) {
        at += next;
        if buffer[at..].starts_with(what) {
            return Some(at);
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const BODY: &[u8] = b"--xyz\r\ncontent-type: application/json\r\n\r\n{\"name\":\"a\"}\r\n\
        --xyz\r\ncontent-type: text/csv\r\n\r\na,b\r\n--xy,\r\n\r\n--xyz--";

    #[test]
    fn any_cutting_gives_the_same_parts() {
        for size in 1..BODY.len() {
            let mut multipart = Multipart::new("multipart/related; boundary=\"xyz\"").unwrap();
            let (mut head, mut content) = (None, Vec::new());
            for piece in BODY.chunks(size) {
                multipart.push(piece);
                if head.is_none() {
                    head = multipart.head().unwrap();
                }
                content.extend_from_slice(&multipart.content());
            }
            let head = head.unwrap();
            assert_eq!(&head.description[..], b"{\"name\":\"a\"}", "cut at {size}");
            assert_eq!(head.content_type.as_deref(), Some("text/csv"));
            assert_eq!(content, b"a,b\r\n--xy,\r\n", "cut at {size}");
            assert!(multipart.is_done());
        }
    }

    #[test]
    fn bad_boundaries_and_endless_heads_are_refused() {
        assert!(Multipart::new("multipart/related").is_err());
        assert!(Multipart::new(&format!("multipart/related; boundary={}", "x".repeat(1 << 20))).is_err());
        let mut multipart = Multipart::new("multipart/related; boundary=x").unwrap();
        multipart.push(&vec![b'a'; HEAD_BYTES_MAX + 1]);
        assert!(multipart.head().is_err());
    }
}
