//! [`Output`]: the files that a batch job writes before anyone else sees them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::storage::{failed, sync_directory};
use crate::{Error, ErrorCode, Result, fault};

/// What had been written, and was sure to stay, at a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct OutputState {
    /// Bytes of each part.
    pub(super) parts: Vec<u64>,
    /// First line of the last part; empty where parts have none.
    header: String,
    /// Bytes of the file of failed rows.
    pub(super) fault_bytes: u64,
}

/// The parts and the file of failed rows of one job.
#[derive(Debug)]
pub(super) struct Output {
    directory: PathBuf,
    part_bytes_max: u64,
    state: OutputState,
    part: Option<File>,
    faults: File,
}

/// The file of part `number` in the job's directory.
pub(super) fn part_file(number: usize) -> String {
    format!("part-{number:05}")
}

/// The file of failed rows in the job's directory.
pub(super) const FAULTS_FILE: &str = "faults";

impl OutputState {
    /// Bytes of it all.
    pub(super) fn bytes(&self) -> u64 {
        self.parts.iter().fold(self.fault_bytes, |sum, bytes| sum.saturating_add(*bytes))
    }
}

impl Output {
    /// Opens the files in `directory` as they were at `state`: what was written after it is cut off.
    pub(super) fn open(directory: PathBuf, state: &OutputState, part_bytes_max: u64) -> Result<Self> {
        let opening = |e| failed("opening the job's output", e);
        fault::step().and_then(|()| fs::create_dir_all(&directory)).map_err(opening)?;
        for entry in fs::read_dir(&directory).map_err(opening)? {
            let name = entry.map_err(opening)?.file_name();
            let kept = name == FAULTS_FILE
                || (0..state.parts.len()).any(|number| name == part_file(number).as_str());
            if !kept {
                fs::remove_file(directory.join(name)).map_err(opening)?;
            }
        }
        let mut part = None;
        for (number, bytes) in state.parts.iter().enumerate() {
            part = Some(cut(directory.join(part_file(number)), *bytes)?);
        }
        let faults = cut(directory.join(FAULTS_FILE), state.fault_bytes)?;
        Ok(Output { directory, part_bytes_max, state: state.clone(), part, faults })
    }

    /// Appends rows, to a part that begins with `header`, and failed rows. Gives the bytes written.
    pub(super) fn append(&mut self, header: &str, rows: &[u8], faults: &[u8]) -> Result<u64> {
        let writing = |e| failed("writing the job's output", e);
        if !rows.is_empty() {
            self.ensure_part(header).map_err(writing)?;
            self.write_rows(rows).map_err(writing)?;
        }
        if !faults.is_empty() {
            fault::step().and_then(|()| self.faults.write_all(faults)).map_err(writing)?;
            self.state.fault_bytes += faults.len() as u64;
        }
        Ok((rows.len() + faults.len()) as u64)
    }

    /// Makes everything appended survive a crash, and says how much that is.
    pub(super) fn sync(&mut self) -> Result<OutputState> {
        let syncing = |e| failed("writing the job's output", e);
        fault::step().map_err(syncing)?;
        if let Some(part) = &self.part {
            part.sync_data().map_err(syncing)?;
        }
        self.faults.sync_data().map_err(syncing)?;
        sync_directory(&self.directory).map_err(syncing)?;
        Ok(self.state.clone())
    }

    /// Begins another part where the present one is full or has another header.
    fn ensure_part(&mut self, header: &str) -> io::Result<()> {
        let full = self.state.parts.last().is_none_or(|bytes| *bytes >= self.part_bytes_max);
        if self.part.is_some() && !full && self.state.header == header {
            return Ok(());
        }
        if let Some(finished) = self.part.take() {
            finished.sync_data()?;
        }
        fault::step()?;
        self.part = Some(File::create(self.directory.join(part_file(self.state.parts.len())))?);
        self.state.parts.push(0);
        self.state.header = header.to_owned();
        self.write_rows(header.as_bytes())
    }

    fn write_rows(&mut self, rows: &[u8]) -> io::Result<()> {
        fault::step()?;
        if let (Some(part), Some(bytes)) = (&mut self.part, self.state.parts.last_mut()) {
            part.write_all(rows)?;
            *bytes += rows.len() as u64;
        }
        Ok(())
    }
}

/// Opens a file for appending after its first `bytes`, the rest being cut off.
fn cut(path: PathBuf, bytes: u64) -> Result<File> {
    let opening = |e| failed("opening the job's output", e);
    let file = OpenOptions::new().create(true).append(true).open(path).map_err(opening)?;
    if file.metadata().map_err(opening)?.len() < bytes {
        let message = "the job's unfinished output has been damaged; create the job again";
        return Err(Error::new(ErrorCode::DataLoss, message));
    }
    file.set_len(bytes).map_err(opening)?;
    Ok(file)
}
