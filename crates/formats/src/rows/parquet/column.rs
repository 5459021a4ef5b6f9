//! [`ColumnReader`]: the values of one column of a row group, page by page.

use super::footer::Chunk;
use super::hybrid::Hybrid;
use super::page::{Levels, Page, PageHeader, unknown_codec};
use super::schema::Column;
use super::thrift::ENDS;
use super::values::{Dictionary, Scalar, Values, prefixed};
use super::{Malformed, ParquetError, ParquetFailure, Source};

/// Bytes of a page's header at most; it may quote values.
const HEADER_BYTES_MAX: usize = 1 << 20;

/// Reads a column from its first row in a group to the last.
#[derive(Debug)]
pub(super) struct ColumnReader {
    chunk: Chunk,
    /// Bytes that have been read and not yet looked at: those before `used` have been.
    ahead: Vec<u8>,
    used: usize,
    /// Where in the file the bytes after `ahead` are.
    at: u64,
    /// How many bytes are read at a time at least.
    read_bytes: usize,
    /// Rows of the group that are in pages still to come.
    rows: u64,
    /// Rows to be passed over before the first that is wanted.
    skip: u64,
    dictionary: Option<Dictionary>,
    page: Option<OpenPage>,
}

#[derive(Debug)]
struct OpenPage {
    bytes: Vec<u8>,
    left: u32,
    /// Which are there and which are null, if any may be.
    levels: Option<Hybrid>,
    values: Values,
}

impl ColumnReader {
    /// A reader of the `rows` rows of `chunk`, from the row `skip` on.
    pub(super) fn new(chunk: Chunk, rows: u64, skip: u64, read_bytes: usize) -> Self {
        ColumnReader {
            chunk,
            ahead: Vec::new(),
            used: 0,
            at: chunk.start,
            read_bytes,
            rows,
            skip,
            dictionary: None,
            page: None,
        }
    }

    /// Bytes of memory that it takes.
    pub(super) fn held(&self) -> usize {
        let page = self.page.as_ref().map_or(0, |page| page.bytes.len());
        self.ahead.len() + page + self.dictionary.as_ref().map_or(0, Dictionary::held)
    }

    /// Whether the next value is in a page that has yet to be read.
    pub(super) fn awaits_page(&self) -> bool {
        self.page.as_ref().is_none_or(|page| page.left == 0)
    }

    /// The next value of `column`, `None` if it is null. Call it where none is awaited of a page.
    pub(super) fn next(&mut self, column: &Column) -> Result<Option<Scalar<'_>>, ParquetError> {
        let dictionary = self.dictionary.as_ref();
        let value = match &mut self.page {
            Some(page) => page.next(dictionary),
            None => Err(ENDS),
        };
        value.map_err(|malformed| damaged(column, malformed))
    }

    /// Reads the page that holds the next row that is wanted.
    pub(super) fn read_page<S: Source>(
        &mut self,
        source: &mut S,
        column: &Column,
    ) -> Result<(), ParquetFailure<S::Error>> {
        let damaged = |malformed| damaged(column, malformed);
        if let Some(what) = unknown_codec(self.chunk.codec) {
            return Err(unsupported(column, what).into());
        }
        self.page = None;
        loop {
            let header = self.read_header(source, column)?;
            let packed = header.packed;
            if let Some(rows) = header.rows() {
                let beyond = Malformed("it holds more values than there are rows");
                self.rows = self.rows.checked_sub(u64::from(rows)).ok_or(damaged(beyond))?;
                if u64::from(rows) <= self.skip {
                    self.skip -= u64::from(rows);
                    self.pass(packed).map_err(damaged)?;
                    continue;
                }
            }
            self.fill(source, packed)?;
            let bytes = self.unread().get(..packed).ok_or(damaged(ENDS))?;
            let page = header.page(bytes, self.chunk.codec).map_err(damaged)?;
            self.used += packed;
            match page {
                Page::Dictionary { bytes, values } => {
                    let dictionary = Dictionary::new(bytes, values, column.physical).map_err(damaged)?;
                    self.dictionary = Some(dictionary);
                }
                Page::Data { bytes, values, encoding, levels } => {
                    let mut page = OpenPage::new(bytes, values, encoding, levels, column)?;
                    for _ in 0..std::mem::take(&mut self.skip) {
                        page.next(self.dictionary.as_ref()).map_err(damaged)?;
                    }
                    self.page = Some(page);
                    return Ok(());
                }
                Page::Other => {}
            }
        }
    }

    fn read_header<S: Source>(
        &mut self,
        source: &mut S,
        column: &Column,
    ) -> Result<PageHeader, ParquetFailure<S::Error>> {
        let mut wanted = 1;
        loop {
            self.fill(source, wanted)?;
            match PageHeader::read(self.unread()) {
                Ok((header, length)) => {
                    self.used += length;
                    return Ok(header);
                }
                Err(malformed) if malformed == ENDS => {
                    let unread = self.unread().len();
                    if self.at >= self.chunk.end || unread >= HEADER_BYTES_MAX {
                        let reason = "it has fewer values than there are rows";
                        return Err(damaged(column, Malformed(reason)).into());
                    }
                    wanted = unread + 1;
                }
                Err(malformed) => return Err(damaged(column, malformed).into()),
            }
        }
    }

    fn unread(&self) -> &[u8] {
        self.ahead.get(self.used..).unwrap_or_default()
    }

    /// Reads on until `wanted` bytes are there, or the column's last.
    fn fill<S: Source>(&mut self, source: &mut S, wanted: usize) -> Result<(), ParquetFailure<S::Error>> {
        let missing = wanted.saturating_sub(self.unread().len());
        if missing == 0 || self.at >= self.chunk.end {
            return Ok(());
        }
        let end = self.chunk.end.min(self.at + missing.max(self.read_bytes) as u64);
        let bytes = source.read(self.at..end).map_err(ParquetFailure::Source)?;
        self.at = end;
        if self.used >= self.ahead.len() {
            self.ahead = bytes;
        } else {
            self.ahead.drain(..self.used);
            self.ahead.extend_from_slice(&bytes);
        }
        self.used = 0;
        Ok(())
    }

    /// Passes over `length` bytes, without reading those that have not been.
    fn pass(&mut self, length: usize) -> Result<(), Malformed> {
        match length.checked_sub(self.unread().len()) {
            None | Some(0) => self.used += length,
            Some(beyond) => {
                self.at += beyond as u64;
                (self.ahead, self.used) = (Vec::new(), 0);
                if self.at > self.chunk.end {
                    return Err(ENDS);
                }
            }
        }
        Ok(())
    }
}

impl OpenPage {
    fn new(
        bytes: Vec<u8>,
        values: u32,
        encoding: i64,
        levels: Levels,
        column: &Column,
    ) -> Result<OpenPage, ParquetError> {
        let damaged = |malformed| damaged(column, malformed);
        let place = match levels {
            Levels::Prefixed if column.optional => prefixed(&bytes, 0).map_err(damaged)?,
            Levels::Prefixed => (0, 0),
            Levels::Bytes(length) => (0, length),
        };
        let levels =
            column.optional.then(|| Hybrid::new(place.0, place.1, 1)).transpose().map_err(damaged)?;
        match Values::new(&bytes, place.1, values, encoding, column.physical).map_err(damaged)? {
            Some(found) => Ok(OpenPage { bytes, left: values, levels, values: found }),
            None => Err(unsupported(column, &format!("its encoding ({encoding})"))),
        }
    }

    fn next<'a>(&'a mut self, dictionary: Option<&'a Dictionary>) -> Result<Option<Scalar<'a>>, Malformed> {
        self.left = self.left.checked_sub(1).ok_or(ENDS)?;
        if let Some(levels) = &mut self.levels
            && levels.next(&self.bytes)? == 0
        {
            return Ok(None);
        }
        self.values.next(&self.bytes, dictionary).map(Some)
    }
}

fn damaged(column: &Column, Malformed(reason): Malformed) -> ParquetError {
    ParquetError::Damaged { column: column.name.clone(), reason }
}

fn unsupported(column: &Column, what: &str) -> ParquetError {
    ParquetError::Unsupported { column: column.name.clone(), what: what.to_owned() }
}
