//! [`JsonlDecoder`]: one JSON value a line.

use serde_json::error::Category;

use super::feed::Feed;
use super::scan::find;
use super::{Limits, Position, RowFault, too_long};
use crate::Value;

/// Decodes JSON Lines: a value a line, LF or CRLF; blank lines are skipped.
#[derive(Debug)]
pub struct JsonlDecoder {
    limits: Limits,
    feed: Feed,
    /// Number of the next row.
    row: u64,
    /// Bytes at the start of the feed known to hold no line end.
    scanned: usize,
    /// Bytes of the current row dropped from the feed because it is too long anyway.
    dropped: usize,
    faults: Vec<RowFault>,
}

impl JsonlDecoder {
    /// A decoder at the start of a file.
    pub fn new(limits: Limits) -> Self {
        Self::resume_at(limits, Position::default())
    }

    /// A decoder that goes on where another stood, in the same file: push the bytes from
    /// `position.offset` on.
    pub fn resume_at(limits: Limits, position: Position) -> Self {
        let feed = Feed::new(position.offset);
        JsonlDecoder { limits, feed, row: position.row, scanned: 0, dropped: 0, faults: Vec::new() }
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

    /// The faults found since the last call, by row.
    pub fn take_faults(&mut self) -> Vec<RowFault> {
        std::mem::take(&mut self.faults)
    }

    /// The rows that are complete, each with its number, at most `max_rows` good and faulty ones
    /// together; `None` if there are none until more is pushed. The list is empty where all that were
    /// read are faulty.
    pub fn take(&mut self, max_rows: usize) -> Option<Vec<(u64, Value)>> {
        if self.feed.awaits_bom() {
            return None;
        }
        self.feed.skip_bom();
        let mut rows = Vec::new();
        let mut taken = 0;
        while taken < max_rows {
            let Some((end, next)) = self.line_end() else { break };
            let line = self.feed.rest().get(..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let outcome = match self.dropped == 0 && line.len() <= self.limits.row_bytes_max {
                true if line.trim_ascii().is_empty() => None,
                true => Some(parse_line(line)),
                false => Some(Err(too_long(&self.limits))),
            };
            self.feed.consume(next);
            (self.scanned, self.dropped) = (0, 0);
            let Some(outcome) = outcome else { continue };
            match outcome {
                Ok(value) => rows.push((self.row, value)),
                Err(reason) => self.faults.push(RowFault { row: self.row, reason }),
            }
            self.row += 1;
            taken += 1;
        }
        (taken > 0).then_some(rows)
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

fn parse_line(line: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(line).map_err(|error| {
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or_default();
        match error.classify() {
            Category::Data => what.to_owned(),
            _ => format!("not JSON: {what} at column {}", error.column()),
        }
    })
}
