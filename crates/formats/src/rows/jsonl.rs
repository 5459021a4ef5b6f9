//! [`JsonlDecoder`]: one JSON value a line.

use serde_json::error::Category;

use super::lines::LineDecoder;
use super::{Limits, Position, RowFault};
use crate::Value;

/// Decodes JSON Lines: a value a line, LF or CRLF; blank lines are skipped.
#[derive(Debug)]
pub struct JsonlDecoder {
    lines: LineDecoder,
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
        JsonlDecoder { lines: LineDecoder::resume_at(limits, position), faults: Vec::new() }
    }

    /// Hands over the next bytes of the file. Take what they hold before pushing more: the decoder keeps
    /// what is pushed until it is taken.
    pub fn push(&mut self, bytes: &[u8]) {
        self.lines.push(bytes);
    }

    /// Says that the file has ended, so that a last line without a line end is a row.
    pub fn finish(&mut self) {
        self.lines.finish();
    }

    /// The place just after the last row given, faulty ones included.
    pub fn position(&self) -> Position {
        self.lines.position()
    }

    /// The faults found since the last call, by row.
    pub fn take_faults(&mut self) -> Vec<RowFault> {
        std::mem::take(&mut self.faults)
    }

    /// The next row that is complete, as it is written, with its number, or why it is none.
    pub fn take_line(&mut self) -> Option<(u64, Result<&[u8], String>)> {
        self.lines.next_line()
    }

    /// The rows that are complete, each with its number, at most `max_rows` good and faulty ones
    /// together; `None` if there are none until more is pushed. The list is empty where all that were
    /// read are faulty.
    pub fn take(&mut self, max_rows: usize) -> Option<Vec<(u64, Value)>> {
        let mut rows = Vec::new();
        let mut taken = 0;
        while taken < max_rows {
            let Some((row, line)) = self.lines.next_line() else { break };
            match line.and_then(parse_line) {
                Ok(value) => rows.push((row, value)),
                Err(reason) => self.faults.push(RowFault { row, reason }),
            }
            taken += 1;
        }
        (taken > 0).then_some(rows)
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
