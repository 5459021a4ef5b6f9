//! [`LineDecoder`]: lines as they are.

use super::feed::Feed;
use super::scan::find;
use super::{Limits, Position, too_long};

/// Cuts a file into lines, LF or CRLF; blank lines are skipped.
#[derive(Debug)]
pub struct LineDecoder {
    limits: Limits,
    feed: Feed,
    /// Number of the next row.
    row: u64,
    /// Bytes at the start of the feed known to hold no line end.
    scanned: usize,
    /// Bytes of the current row dropped from the feed because it is too long anyway.
    dropped: usize,
}

impl LineDecoder {
    /// A decoder at the start of a file.
    pub fn new(limits: Limits) -> Self {
        Self::resume_at(limits, Position::default())
    }

    /// A decoder that goes on where another stood, in the same file: push the bytes from
    /// `position.offset` on.
    pub fn resume_at(limits: Limits, position: Position) -> Self {
        let feed = Feed::new(position.offset);
        LineDecoder { limits, feed, row: position.row, scanned: 0, dropped: 0 }
    }

    /// Hands over the next bytes of the file. Take what they hold before pushing more: the decoder keeps
    /// what is pushed until it is taken.
    pub fn push(&mut self, bytes: &[u8]) {
        self.feed.push(bytes);
    }

    /// Says that the file has ended, so that a last line without a line end is a row.
    pub fn finish(&mut self) {
        self.feed.finish();
    }

    /// The place just after the last row given, faulty ones included.
    pub fn position(&self) -> Position {
        Position { offset: self.feed.position() - self.dropped as u64, row: self.row }
    }

    /// The next line that is complete, with its number, or what is wrong with it: that it is too long. `None`
    /// if there is none until more is pushed.
    pub fn next_line(&mut self) -> Option<(u64, Result<&[u8], String>)> {
        if self.feed.awaits_bom() {
            return None;
        }
        self.feed.skip_bom();
        let (len, next, long) = loop {
            let (end, next) = self.line_end()?;
            let line = self.feed.rest().get(..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let long = self.dropped > 0 || line.len() > self.limits.row_bytes_max;
            let (len, blank) = (line.len(), line.trim_ascii().is_empty());
            (self.scanned, self.dropped) = (0, 0);
            if long || !blank {
                break (len, next, long);
            }
            self.feed.consume(next);
        };
        let row = self.row;
        self.row += 1;
        let line = self.feed.take(next).get(..len).unwrap_or_default();
        Some((row, if long { Err(too_long(&self.limits)) } else { Ok(line) }))
    }

    /// Where the first line of the feed ends and the next begins.
    fn line_end(&mut self) -> Option<(usize, usize)> {
        let rest = self.feed.rest();
        if let Some(found) = find(rest.get(self.scanned..).unwrap_or_default(), b'\n') {
            let end = self.scanned + found;
            return Some((end, end + 1));
        }
        self.scanned = rest.len();
        if self.feed.ended() {
            return (self.scanned > 0 || self.dropped > 0).then_some((self.scanned, self.scanned));
        }
        // One more than the limit may be the CR of a line end that is still to come.
        if self.scanned > self.limits.row_bytes_max + 1 {
            self.dropped += self.scanned;
            self.feed.consume(self.scanned);
            self.scanned = 0;
        }
        None
    }
}
