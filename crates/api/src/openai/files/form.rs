//! [`Form`]: `multipart/form-data`, read as it comes.

use bytes::{Buf, Bytes, BytesMut};

use crate::Fault;

/// Bytes of a part's head at most.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Bytes of a boundary at most: the standard's own number.
const BOUNDARY_BYTES_MAX: usize = 70;

/// A form on its way. Holds the bytes that were pushed and not yet taken.
pub(super) struct Form {
    delimiter: Vec<u8>,
    buffer: BytesMut,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a delimiter and what follows it.
    Between,
    /// In a part.
    Part,
    /// After the closing delimiter.
    Done,
}

/// What comes next in a form.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    /// A part begins.
    Part {
        /// The field's name.
        name: String,
        /// The file's name, where it is one.
        file: Option<String>,
    },
    /// Some of its content.
    Data(Bytes),
    /// It ends.
    End,
}

impl Form {
    /// A form that is sent as `content_type`.
    ///
    /// # Errors
    /// If that is no form with a boundary.
    pub(super) fn new(content_type: &str) -> Result<Form, Fault> {
        let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
        let boundary = kind.trim().eq_ignore_ascii_case("multipart/form-data").then_some(parameters);
        let boundary = boundary.and_then(|parameters| parameter(parameters, "boundary"));
        match boundary.filter(|boundary| (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len())) {
            Some(boundary) => Ok(Form {
                delimiter: format!("\r\n--{boundary}").into_bytes(),
                // The first delimiter stands at the very beginning: give it its line break.
                buffer: BytesMut::from(&b"\r\n"[..]),
                state: State::Between,
            }),
            None => {
                Err(Fault::invalid("a file is sent as multipart/form-data, with a boundary of 1 to 70 bytes"))
            }
        }
    }

    /// Takes more of the body.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.state != State::Done {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// What comes next; nothing when more must come first.
    ///
    /// # Errors
    /// If a part's head is not as it must be, or too long.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, Fault> {
        match self.state {
            State::Between => self.head(),
            State::Part => Ok(self.data()),
            State::Done => Ok(None),
        }
    }

    /// Whether the closing delimiter has come.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn head(&mut self) -> Result<Option<Piece>, Fault> {
        let malformed = || Fault::invalid("the body is not the form that its content type says it is");
        let after = self.delimiter.len();
        let here = self.buffer.len().min(after);
        if self.buffer[..here] != self.delimiter[..here] {
            return Err(malformed());
        }
        if self.buffer.len() < after + 2 {
            return Ok(None);
        }
        if self.buffer[after..].starts_with(b"--") {
            (self.state, self.buffer) = (State::Done, BytesMut::new());
            return Ok(None);
        }
        let Some(end) = find(&self.buffer[after..], b"\r\n\r\n") else {
            return if self.buffer.len() > HEAD_BYTES_MAX { Err(malformed()) } else { Ok(None) };
        };
        let head = self.buffer.split_to(after + end + 4);
        let head = std::str::from_utf8(&head[after..]).map_err(|_| malformed())?;
        let disposition = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"))
            .map(|(_, value)| value.trim());
        let name = disposition.and_then(|value| parameter(value, "name")).ok_or_else(malformed)?;
        let file = disposition
            .and_then(|value| parameter(value, "filename").or_else(|| parameter(value, "filename*")))
            .map(|name| name.strip_prefix("utf-8''").map(str::to_owned).unwrap_or(name));
        self.state = State::Part;
        Ok(Some(Piece::Part { name, file }))
    }

    fn data(&mut self) -> Option<Piece> {
        let data = match find(&self.buffer, &self.delimiter) {
            Some(0) => {
                self.state = State::Between;
                return Some(Piece::End);
            }
            Some(end) => self.buffer.copy_to_bytes(end),
            // The delimiter may have come in part.
            None => {
                let sure = self.buffer.len().saturating_sub(self.delimiter.len() - 1);
                self.buffer.split_to(sure).freeze()
            }
        };
        (!data.is_empty()).then_some(Piece::Data(data))
    }
}

/// The parameter `wanted` of a header's value: `form-data; name="file"; filename="a.jsonl"`.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value;
    loop {
        let (name, after) = rest.split_once('=')?;
        let name = name.rsplit(';').next().unwrap_or(name).trim();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find(';').unwrap_or(after.len())),
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value.trim().to_owned());
        }
        rest = after;
    }
}

fn find(buffer: &[u8], what: &[u8]) -> Option<usize> {
    let first = *what.first()?;
    let mut at = 0;
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

    const TYPE: &str = "multipart/form-data; boundary=xyz";
    const BODY: &[u8] = b"--xyz\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
        --xyz\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a;b=c.jsonl\"\r\n\
        content-type: text/plain\r\n\r\n{\"a\": 1}\r\n--xy,\r\n\r\n--xyz--\r\n";

    #[test]
    fn any_cutting_gives_the_same_parts() {
        for size in 1..BODY.len() {
            let mut form = Form::new(TYPE).unwrap();
            let (mut parts, mut ends) = (Vec::new(), 0);
            for piece in BODY.chunks(size) {
                form.push(piece);
                while let Some(piece) = form.next().unwrap() {
                    match piece {
                        Piece::Part { name, file } => parts.push((name, file, Vec::new())),
                        Piece::Data(data) => parts.last_mut().unwrap().2.extend_from_slice(&data),
                        Piece::End => ends += 1,
                    }
                }
            }
            let file =
                ("file".to_owned(), Some("a;b=c.jsonl".to_owned()), b"{\"a\": 1}\r\n--xy,\r\n".to_vec());
            assert_eq!(parts, [("purpose".to_owned(), None, b"batch".to_vec()), file], "cut at {size}");
            assert!(form.is_done() && ends == 2, "cut at {size}");
        }
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for kind in [
            "application/json",
            "multipart/form-data",
            "multipart/mixed; boundary=x",
            "multipart/form-data; boundary=",
        ] {
            assert!(Form::new(kind).is_err(), "{kind}");
        }
        for body in ["no delimiter at all", "--xyz\r\ncontent-type: text/plain\r\n\r\n"] {
            let mut form = Form::new(TYPE).unwrap();
            form.push(body.as_bytes());
            assert!(form.next().is_err(), "{body}");
        }
        let mut form = Form::new(TYPE).unwrap();
        form.push(b"--xyz\r\n");
        form.push(&vec![b'a'; HEAD_BYTES_MAX + 1]);
        assert!(form.next().is_err());
    }
}
