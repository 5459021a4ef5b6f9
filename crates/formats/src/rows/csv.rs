//! [`CsvDecoder`]: CSV as RFC 4180 has it, with a header.
//!
//! Rows without quotes, which are nearly all of a numeric file, are found by their structural bytes and
//! copied whole; the others go byte by byte through [`CellState`], which defines what a row is.

use super::block::{Arena, RowBlock, cell_text, ragged};
use super::feed::Feed;
use super::scan::{CellState, Event, Marks, find};
use super::{Limits, Names, Position, RowFault, RowsError, too_long};

/// Decodes CSV: the first line that is not blank names the columns; rows end with LF, CRLF or CR; a cell
/// in quotes may hold commas, line ends and doubled quotes; blank lines are skipped.
#[derive(Debug)]
pub struct CsvDecoder {
    limits: Limits,
    feed: Feed,
    names: Option<Names>,
    /// Number of the next row.
    row: u64,
    /// What is known of the row at the start of the feed, if the feed ends within it.
    tail: Option<Tail>,
    faults: Vec<RowFault>,
    /// Sizes of the last block, in bytes and cells: the next will be much like it.
    last_block: (usize, usize),
    /// The allocations of a block that its owner gave back.
    spare: Option<Arena>,
}

/// An incomplete row.
#[derive(Debug)]
struct Tail {
    /// Bytes of it seen, dropped ones included.
    seen: usize,
    /// Bytes of it dropped from the feed because it is too long anyway.
    dropped: usize,
    state: CellState,
}

/// What stands at some place of the feed.
enum Line {
    /// Nothing between two line ends; the next line starts here.
    Blank { next: usize },
    /// A row of so many cells, of which the first `columns` are in the arena.
    Row { cells: usize, next: usize },
    /// A row that cannot be used whatever its columns.
    Faulty { reason: String, next: usize },
    /// The beginning of a row.
    Incomplete,
}

impl CsvDecoder {
    /// A decoder at the start of a file.
    pub fn new(limits: Limits) -> Self {
        Self::start(limits, None, Position::default())
    }

    /// A decoder that goes on where another stood, in the same file: push the bytes from
    /// `position.offset` on. `names` are the column names that the other gave.
    pub fn resume_at(limits: Limits, names: Vec<String>, position: Position) -> Self {
        Self::start(limits, Some(names.into()), position)
    }

    fn start(limits: Limits, names: Option<Names>, position: Position) -> Self {
        let feed = Feed::new(position.offset);
        let (tail, faults, last_block, spare) = (None, Vec::new(), (0, 0), None);
        CsvDecoder { limits, feed, names, row: position.row, tail, faults, last_block, spare }
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

    /// Column names, once the header has been taken.
    pub fn names(&self) -> Option<&[String]> {
        self.names.as_deref()
    }

    /// The place just after the last row given, faulty ones included.
    pub fn position(&self) -> Position {
        let dropped = self.tail.as_ref().map_or(0, |tail| tail.dropped);
        Position { offset: self.feed.position() - dropped as u64, row: self.row }
    }

    /// The faults found since the last call, by row.
    pub fn take_faults(&mut self) -> Vec<RowFault> {
        std::mem::take(&mut self.faults)
    }

    /// The rows that are complete, at most `max_rows` good and faulty ones together; `None` if there are
    /// none until more is pushed. A block has no rows where all that were read are faulty.
    ///
    /// # Errors
    /// If the file has no usable header. Nothing can be taken from it then.
    pub fn take(&mut self, max_rows: usize) -> Result<Option<RowBlock>, RowsError> {
        let Some(names) = self.header()? else { return Ok(None) };
        let (last_block, rest) = (self.last_block, self.feed.rest().len());
        let mut arena = self.spare.take().unwrap_or_else(|| Arena::with_capacity(last_block, rest));
        let first_fault = self.faults.len();
        let mut taken = 0;
        while taken < max_rows {
            taken += self.decode(max_rows - taken, names.len(), &mut arena);
            if !self.advance_tail() {
                break;
            }
            if self.end_dropped_row() {
                taken += 1;
            }
        }
        if taken == 0 {
            self.spare = Some(arena);
            return Ok(None);
        }
        self.last_block = (arena.bytes.len(), arena.ends.len());
        let block = RowBlock::from_arena(arena, names, &mut self.faults);
        if let Some(faults) = self.faults.get_mut(first_fault..) {
            faults.sort_by_key(|fault| fault.row);
        }
        Ok(Some(block))
    }

    /// Gives back a block that is no longer needed, so that the next can use its memory: new memory costs
    /// more than decoding into it.
    pub fn recycle(&mut self, block: RowBlock) {
        self.spare = Some(block.into_arena());
    }

    /// The column names, read if they have not been yet.
    fn header(&mut self) -> Result<Option<Names>, RowsError> {
        if self.names.is_none() && !self.feed.awaits_bom() {
            if self.feed.position() == 0 && matches!(self.feed.rest(), [0xFE, 0xFF, ..] | [0xFF, 0xFE, ..]) {
                return Err(RowsError::Utf16);
            }
            self.feed.skip_bom();
            self.names = self.read_header()?;
        }
        Ok(self.names.clone())
    }

    fn read_header(&mut self) -> Result<Option<Names>, RowsError> {
        let mut arena = Arena::default();
        let cells_max = self.limits.columns_max;
        loop {
            if self.tail.is_some() {
                let ready = self.advance_tail();
                if self.tail.as_ref().is_some_and(|tail| tail.dropped > 0) {
                    return Err(RowsError::BadHeader { reason: too_long(&self.limits) });
                }
                if !ready {
                    return Ok(None);
                }
            }
            let rest = self.feed.rest();
            match careful_line(rest, 0, self.feed.ended(), &self.limits, cells_max, &mut arena) {
                Line::Blank { next } => self.feed.consume(next),
                Line::Faulty { reason, .. } => return Err(RowsError::BadHeader { reason }),
                Line::Row { cells, .. } if cells > cells_max => {
                    return Err(RowsError::TooManyColumns { max: cells_max });
                }
                Line::Row { next, .. } => {
                    let names = header_names(&arena)?;
                    self.feed.consume(next);
                    return Ok(Some(names));
                }
                Line::Incomplete if self.feed.ended() => return Err(RowsError::NoHeader),
                Line::Incomplete => self.tail = Some(Tail::new()),
            }
        }
    }

    /// Decodes rows that lie whole in the feed, unless the first is known to be incomplete. Returns how
    /// many rows, good or faulty, it took.
    fn decode(&mut self, max_rows: usize, columns: usize, arena: &mut Arena) -> usize {
        if self.tail.is_some() {
            return 0;
        }
        let CsvDecoder { limits, feed, row, tail, faults, .. } = self;
        let (rest, ended) = (feed.rest(), feed.ended());
        let mut marks = Marks::new(rest, 0);
        let (mut at, mut taken) = (0, 0);
        while taken < max_rows {
            let kept = (arena.bytes.len(), arena.ends.len());
            let line = match plain_line(rest, at, &mut marks, limits, columns, arena) {
                Some(line) => line,
                None => {
                    arena.truncate(kept.0, kept.1);
                    let line = careful_line(rest, at, ended, limits, columns, arena);
                    if let Line::Row { next, .. } | Line::Faulty { next, .. } | Line::Blank { next } = line {
                        marks = Marks::new(rest, next);
                    }
                    line
                }
            };
            let (next, fault) = match line {
                Line::Blank { next } => {
                    at = next;
                    continue;
                }
                Line::Incomplete => {
                    arena.truncate(kept.0, kept.1);
                    if at < rest.len() {
                        *tail = Some(Tail::new());
                    }
                    break;
                }
                Line::Row { cells, next } => (next, (cells != columns).then(|| ragged(cells, columns))),
                Line::Faulty { reason, next } => (next, Some(reason)),
            };
            match fault {
                None => arena.numbers.push(*row),
                Some(reason) => {
                    arena.truncate(kept.0, kept.1);
                    faults.push(RowFault { row: *row, reason });
                }
            }
            at = next;
            *row += 1;
            taken += 1;
        }
        feed.consume(at);
        taken
    }

    /// Looks for the end of an incomplete row in what was pushed since. True if there is more to do: the
    /// row is complete, or will not become so because the file has ended.
    fn advance_tail(&mut self) -> bool {
        let Some(tail) = &mut self.tail else { return false };
        let rest = self.feed.rest();
        let fresh = rest.get(tail.seen - tail.dropped..).unwrap_or_default();
        let end = tail.find_end(fresh);
        if tail.dropped == 0 && (end || tail.seen <= self.limits.row_bytes_max && self.feed.ended()) {
            self.tail = None;
            return true;
        }
        if tail.seen > self.limits.row_bytes_max {
            let gone = tail.seen - tail.dropped;
            self.feed.consume(gone);
            tail.dropped = tail.seen;
        }
        tail.dropped > 0 && (end || self.feed.ended())
    }

    /// Makes a fault of an over-long row whose end has come. False if there was none.
    fn end_dropped_row(&mut self) -> bool {
        if self.tail.is_none() {
            return false;
        }
        self.tail = None;
        // The line end itself, which no row counts among its bytes.
        if !self.feed.rest().is_empty() {
            self.feed.consume(1);
        }
        self.faults.push(RowFault { row: self.row, reason: too_long(&self.limits) });
        self.row += 1;
        true
    }
}

impl Tail {
    fn new() -> Self {
        Tail { seen: 0, dropped: 0, state: CellState::Start }
    }

    /// Steps over the bytes of the row in `fresh`; true if its end is there.
    fn find_end(&mut self, fresh: &[u8]) -> bool {
        for &byte in fresh {
            let (state, event) = self.state.step(byte);
            if event == Event::RowEnd {
                return true;
            }
            self.state = state;
            self.seen += 1;
        }
        false
    }
}

/// Reads the line at `at` if its end is there and it has no quotes.
fn plain_line(
    bytes: &[u8],
    at: usize,
    marks: &mut Marks<'_>,
    limits: &Limits,
    columns: usize,
    arena: &mut Arena,
) -> Option<Line> {
    let base = arena.bytes.len();
    let mut cells = 1;
    for place in marks.by_ref() {
        match bytes.get(place)? {
            b',' => {
                if cells <= columns {
                    arena.ends.push(base + (place - at));
                }
                cells += 1;
            }
            b'"' => return None,
            _ if place == at => return Some(Line::Blank { next: place + 1 }),
            _ => {
                let next = place + 1;
                if place - at > limits.row_bytes_max {
                    return Some(Line::Faulty { reason: too_long(limits), next });
                }
                if cells == columns {
                    arena.ends.push(base + (place - at));
                    arena.bytes.extend_from_slice(bytes.get(at..place)?);
                    arena.bytes.push(b'\n');
                }
                return Some(Line::Row { cells, next });
            }
        }
    }
    None
}

/// Reads the line at `at`, whatever it holds; the end of `bytes` ends it if the file has `ended`.
fn careful_line(
    bytes: &[u8],
    at: usize,
    ended: bool,
    limits: &Limits,
    columns: usize,
    arena: &mut Arena,
) -> Line {
    let mut state = CellState::Start;
    let (mut cells, mut stray, mut place) = (1, None, at);
    let mut row_end = None;
    while let Some(&byte) = bytes.get(place) {
        if state == CellState::Quoted && byte != b'"' {
            let rest = bytes.get(place..).unwrap_or_default();
            let run = find(rest, b'"').unwrap_or(rest.len());
            arena.bytes.extend_from_slice(rest.get(..run).unwrap_or_default());
            place += run;
            continue;
        }
        let (next, event) = state.step(byte);
        state = next;
        match event {
            Event::Byte => arena.bytes.push(byte),
            Event::Quote => {}
            Event::Stray => stray = stray.or(Some(cells)),
            Event::CellEnd => {
                end_cell(cells, columns, arena);
                cells += 1;
            }
            Event::RowEnd => {
                row_end = Some(place);
                break;
            }
        }
        place += 1;
    }
    let Some(end) = row_end.or(ended.then_some(bytes.len())) else { return Line::Incomplete };
    if end == at {
        return if row_end.is_some() { Line::Blank { next: at + 1 } } else { Line::Incomplete };
    }
    let next = if row_end.is_some() { end + 1 } else { end };
    if end - at > limits.row_bytes_max {
        return Line::Faulty { reason: too_long(limits), next };
    }
    if row_end.is_none() && state == CellState::Quoted {
        let reason = format!("the quote that opens column {cells} is never closed");
        return Line::Faulty { reason, next };
    }
    if let Some(column) = stray {
        let reason = format!("column {column} goes on after its closing quote");
        return Line::Faulty { reason, next };
    }
    end_cell(cells, columns, arena);
    Line::Row { cells, next }
}

/// Ends a cell in the arena if it is one of those wanted.
fn end_cell(cell: usize, columns: usize, arena: &mut Arena) {
    if cell <= columns {
        arena.ends.push(arena.bytes.len());
    }
    arena.bytes.push(b',');
}

fn header_names(arena: &Arena) -> Result<Names, RowsError> {
    let mut names = Vec::with_capacity(arena.ends.len());
    let mut start = 0;
    for (i, &end) in arena.ends.iter().enumerate() {
        let cell = arena.bytes.get(start..end).unwrap_or_default();
        let name = cell_text(cell)
            .map_err(|what| RowsError::BadHeader { reason: format!("column {}: {what}", i + 1) })?;
        if name.trim().is_empty() {
            return Err(RowsError::UnnamedColumn { number: i + 1 });
        }
        names.push(name.to_owned());
        start = end + 1;
    }
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|&i| (&names[i], i));
    for pair in order.windows(2) {
        if let [first, second] = *pair
            && names[first] == names[second]
        {
            let name = names[first].clone();
            return Err(RowsError::DuplicateColumn { name, first: first + 1, second: second + 1 });
        }
    }
    Ok(names.into())
}
