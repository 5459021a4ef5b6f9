//! [`Lines`]: the lines of a stored file, on a thread that may block.

use std::fs::File;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use formats::rows::{Limits, LineDecoder, Position};

use crate::Result;
use crate::files::lost;
use crate::jobs::context::Context;
use crate::storage::failed;

/// Bytes of one line at most.
const LINE_BYTES_MAX: usize = 4 << 20;

/// Bytes read at a time.
const BLOCK_BYTES: usize = 1 << 20;

/// The lines of a stored file.
pub(super) struct Lines {
    file: File,
    offset: u64,
    ended: bool,
    decoder: LineDecoder,
}

impl Lines {
    /// The lines of the file `name` after `place`.
    pub(super) fn open(context: &Context, name: &str, place: Position) -> Result<Lines> {
        let file = File::open(context.control.files().path(name)).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => lost(name),
            _ => failed("reading a file", error),
        })?;
        let limits = Limits { row_bytes_max: LINE_BYTES_MAX, ..Limits::default() };
        Ok(Lines { file, offset: place.offset, ended: false, decoder: LineDecoder::resume_at(limits, place) })
    }

    /// The next line with its number, from 0, or what is wrong with it; `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<(u64, std::result::Result<Bytes, String>)>> {
        loop {
            if let Some((row, line)) = self.decoder.next_line() {
                return Ok(Some((row, line.map(Bytes::copy_from_slice))));
            }
            if self.ended {
                return Ok(None);
            }
            self.read_on()?;
        }
    }

    /// The place after the last line given.
    pub(super) fn position(&self) -> Position {
        self.decoder.position()
    }

    fn read_on(&mut self) -> Result<()> {
        let mut block = vec![0; BLOCK_BYTES];
        let read = self.file.read_at(&mut block, self.offset).map_err(|e| failed("reading a file", e))?;
        if read == 0 {
            self.ended = true;
            self.decoder.finish();
            return Ok(());
        }
        self.decoder.push(block.get(..read).unwrap_or_default());
        self.offset += read as u64;
        Ok(())
    }
}
