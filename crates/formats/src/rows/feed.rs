//! [`Feed`]: the bytes pushed into a decoder and not yet decoded.

use super::BOM;

#[derive(Debug)]
pub(super) struct Feed {
    buffer: Vec<u8>,
    /// Index in `buffer` of the first undecoded byte.
    at: usize,
    /// Offset in the file of `buffer[0]`.
    offset: u64,
    ended: bool,
}

impl Feed {
    /// Starts at `offset` of the file.
    pub(super) fn new(offset: u64) -> Self {
        Feed { buffer: Vec::new(), at: 0, offset, ended: false }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        // Moving the rest to the front only when it is the smaller part keeps the cost of all moves linear.
        if self.at * 2 >= self.buffer.len() {
            self.buffer.drain(..self.at);
            self.offset += self.at as u64;
            self.at = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    pub(super) fn finish(&mut self) {
        self.ended = true;
    }

    /// Whether nothing will follow [`Feed::rest`].
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// The undecoded bytes.
    pub(super) fn rest(&self) -> &[u8] {
        self.buffer.get(self.at..).unwrap_or_default()
    }

    /// Counts `n` bytes of the rest as decoded.
    pub(super) fn consume(&mut self, n: usize) {
        self.at = (self.at + n).min(self.buffer.len());
    }

    /// Counts `n` bytes of the rest as decoded, and gives them.
    pub(super) fn take(&mut self, n: usize) -> &[u8] {
        let from = self.at;
        self.consume(n);
        self.buffer.get(from..self.at).unwrap_or_default()
    }

    /// Offset in the file of the first undecoded byte.
    pub(super) fn position(&self) -> u64 {
        self.offset + self.at as u64
    }

    /// Whether the byte order mark that may start a file is still to come, whole or in part.
    pub(super) fn awaits_bom(&self) -> bool {
        self.position() == 0 && !self.ended && self.rest().len() < BOM.len() && BOM.starts_with(self.rest())
    }

    /// Steps over the byte order mark, if the file starts with one.
    pub(super) fn skip_bom(&mut self) {
        if self.position() == 0 && self.rest().starts_with(BOM) {
            self.consume(BOM.len());
        }
    }
}
