//! [`Ledger`]: every use, written down once, before whoever used it hears the end of the answer.
//!
//! Entries are appended to segments, `DATA/usage/<number>.log`, each with a checksum. An entry is in the file once its
//! [`Noted`] is dropped, so that the death of the process loses none that a client was told; it is on the disk
//! within [`SYNC_INTERVAL`]. Full segments are folded into a file of totals for each day and removed. The totals say
//! which segment they end with, so that a crash between the two counts nothing twice.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::day::now_ms;
use super::entry::{Entry, User};
use super::totals::Totals;
use super::{Account, Amount, Day};
use crate::storage::sync_directory;
use crate::{Error, Result};

/// A power failure loses the entries of so long at most.
const SYNC_INTERVAL: Duration = Duration::from_millis(200);
/// A segment that has so many bytes is followed by another.
const SEGMENT_BYTES: u64 = 16 << 20;
/// Bytes of entries that are kept in memory while the disk takes none. With so many nothing more is let in.
const PENDING_BYTES_MAX: usize = 1 << 20;
/// Segments are left unfolded for so long: quotas look at the last minute's entries one by one at the start.
const FOLD_AFTER_MS: u64 = 120_000;

/// The ledger of one data directory. Dropping it puts everything on the disk.
pub(crate) struct Ledger {
    shared: Arc<Shared>,
    keeper: Option<JoinHandle<()>>,
}

struct Shared {
    directory: PathBuf,
    pending: Mutex<Pending>,
    segment: Mutex<Segment>,
    /// So many of all entries are in segments, in the order in which they were added.
    written: AtomicU64,
    /// Held while segments become totals, and while both are read together.
    folding: Mutex<()>,
    /// Whether the disk takes no entries.
    fails: AtomicBool,
    stopping: Mutex<bool>,
    stop: Condvar,
}

/// Entries that are in no segment yet.
#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    /// How many entries were ever added.
    added: u64,
}

/// The segment that is being written.
struct Segment {
    number: u64,
    file: File,
    length: u64,
    /// Whether something in it may not be on the disk yet.
    dirty: bool,
    /// Room for the entries that come next.
    spare: Vec<u8>,
}

/// A use that the ledger has heard of. It is in the file once this is dropped, before anybody may be told.
#[must_use = "the use is written down when this is dropped"]
pub struct Noted<'a> {
    shared: &'a Shared,
    /// Its place among all entries, the first being 1.
    place: u64,
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.shared.flush(self.place);
    }
}

impl Ledger {
    /// Opens the ledger in `directory`, made if it is not there, and starts its keeper.
    pub(crate) fn open(directory: &Path) -> Result<Ledger> {
        let failed = |e: io::Error| Error::internal(format_args!("opening {}", directory.display()), e);
        let segment = open_next(directory).map_err(failed)?;
        let shared = Arc::new(Shared {
            directory: directory.to_owned(),
            pending: Mutex::default(),
            segment: Mutex::new(segment),
            written: AtomicU64::new(0),
            folding: Mutex::default(),
            fails: AtomicBool::new(false),
            stopping: Mutex::new(false),
            stop: Condvar::new(),
        });
        let keeping = Arc::clone(&shared);
        let keeper = std::thread::Builder::new().name("meuse-usage".into()).spawn(move || keeping.keep());
        Ok(Ledger { shared, keeper: Some(keeper.map_err(failed)?) })
    }

    /// Writes down that `user` used `amount` then. Whoever drops what is returned writes for all who came before.
    pub(crate) fn append(&self, user: User<'_>, amount: &Amount, at_ms: u64) -> Noted<'_> {
        let mut pending = lock(&self.shared.pending);
        if pending.bytes.len() >= PENDING_BYTES_MAX {
            tracing::error!("the disk takes no usage, and there is no room to remember more: a use is lost");
        } else {
            Entry::write(at_ms, user, amount, &mut pending.bytes);
            pending.added += 1;
        }
        Noted { shared: &self.shared, place: pending.added }
    }

    /// Whether what is used now can be written down.
    pub(crate) fn takes_entries(&self) -> bool {
        !self.shared.fails.load(Ordering::Relaxed)
            || lock(&self.shared.pending).bytes.len() < PENDING_BYTES_MAX / 2
    }

    /// Gives `hear` what each account used, by days, from `first` through `last`: several times for the same account and
    /// day, in no order. Reads files.
    pub(crate) fn read(
        &self,
        first: Day,
        last: Day,
        mut hear: impl FnMut(Day, &Account, &Amount),
    ) -> Result<()> {
        let shared = &self.shared;
        let _folding = lock(&shared.folding);
        let failed =
            |e: io::Error| Error::internal(format_args!("reading {}", shared.directory.display()), e);
        let mut through = BTreeMap::new();
        let days = Totals::days(&shared.directory).map_err(failed)?;
        for day in days.into_iter().filter(|day| (first..=last).contains(day)) {
            let totals = Totals::read(&shared.directory, day)?;
            totals.rows().for_each(|(account, amount)| hear(day, account, amount));
            through.insert(day, totals.through);
        }
        for number in segments(&shared.directory).map_err(failed)? {
            shared
                .each_entry(number, |entry| {
                    let day = Day::of(entry.at_ms);
                    let folded = through.get(&day).is_some_and(|through| number <= *through);
                    if (first..=last).contains(&day) && !folded {
                        hear(day, &entry.account, &entry.amount);
                    }
                })
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Gives `hear` the entries since `since_ms`, in the order of their segments, with their times. Reads files.
    pub(crate) fn read_recent(
        &self,
        since_ms: u64,
        mut hear: impl FnMut(u64, &Account, &Amount),
    ) -> Result<()> {
        let shared = &self.shared;
        let _folding = lock(&shared.folding);
        let failed =
            |e: io::Error| Error::internal(format_args!("reading {}", shared.directory.display()), e);
        for number in segments(&shared.directory).map_err(failed)? {
            shared
                .each_entry(number, |entry| {
                    if entry.at_ms >= since_ms {
                        hear(entry.at_ms, &entry.account, &entry.amount);
                    }
                })
                .map_err(failed)?;
        }
        Ok(())
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        *lock(&self.shared.stopping) = true;
        self.shared.stop.notify_all();
        if let Some(keeper) = self.keeper.take() {
            // A panic of the thread was reported by the panic hook.
            let _ = keeper.join();
        }
    }
}

impl Shared {
    /// Writes what is pending, unless the entries up to `place` are written. Whoever holds the segment writes for all who
    /// wait for it.
    fn flush(&self, place: u64) {
        let is_written = || self.written.load(Ordering::Acquire) >= place;
        if is_written() {
            return;
        }
        let mut segment = lock(&self.segment);
        if is_written() {
            return;
        }
        let spare = std::mem::take(&mut segment.spare);
        let (mut bytes, added) = {
            let mut pending = lock(&self.pending);
            (std::mem::replace(&mut pending.bytes, spare), pending.added)
        };
        match segment.write(&self.directory, &bytes) {
            Ok(()) => {
                self.written.store(added, Ordering::Release);
                self.fails.store(false, Ordering::Relaxed);
            }
            Err(error) => {
                if !self.fails.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "usage cannot be written down; it is tried again");
                }
                // Before what came meanwhile.
                let mut pending = lock(&self.pending);
                std::mem::swap(&mut pending.bytes, &mut bytes);
                pending.bytes.extend_from_slice(&bytes);
            }
        }
        bytes.clear();
        segment.spare = bytes;
    }

    /// The keeper's life.
    fn keep(&self) {
        let mut stopping = lock(&self.stopping);
        while !*stopping {
            let waited = self.stop.wait_timeout(stopping, SYNC_INTERVAL);
            stopping = waited.unwrap_or_else(PoisonError::into_inner).0;
            let stops = *stopping;
            drop(stopping);
            let added = lock(&self.pending).added;
            self.flush(added);
            self.sync();
            if !stops && let Err(error) = self.fold(now_ms().saturating_sub(FOLD_AFTER_MS)) {
                tracing::warn!(%error, "usage could not be folded into totals; it is tried again");
            }
            stopping = lock(&self.stopping);
        }
    }

    fn sync(&self) {
        let file = {
            let mut segment = lock(&self.segment);
            if !std::mem::take(&mut segment.dirty) {
                return;
            }
            segment.file.try_clone()
        };
        if let Err(error) = file.and_then(|file| file.sync_data()) {
            tracing::error!(%error, "usage could not be put on the disk; it is tried again");
            lock(&self.segment).dirty = true;
        }
    }

    /// Adds the full segments that were last written before `until_ms` to the totals of their days, and removes them.
    fn fold(&self, until_ms: u64) -> Result<()> {
        let failed = |e: io::Error| Error::internal(format_args!("folding {}", self.directory.display()), e);
        let current = lock(&self.segment).number;
        let _folding = lock(&self.folding);
        for number in segments(&self.directory).map_err(failed)? {
            let path = self.directory.join(segment_name(number));
            let written = path.metadata().and_then(|metadata| metadata.modified()).map_err(failed)?;
            let written = written.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis();
            if number >= current || written > u128::from(until_ms) {
                return Ok(());
            }
            let mut days: BTreeMap<Day, BTreeMap<Account, Amount>> = BTreeMap::new();
            self.each_entry(number, |entry| {
                let accounts = days.entry(Day::of(entry.at_ms)).or_default();
                *accounts.entry(entry.account.clone()).or_default() += entry.amount;
            })
            .map_err(failed)?;
            for (day, accounts) in days {
                let mut totals = Totals::read(&self.directory, day)?;
                if totals.through < number {
                    totals.add(number, accounts);
                    totals.write(&self.directory, day).map_err(failed)?;
                }
            }
            fs::remove_file(&path).map_err(failed)?;
        }
        Ok(())
    }

    /// Gives `hear` the entries of a segment. What a crash has left half-written is no entry.
    fn each_entry(&self, number: u64, mut hear: impl FnMut(&Entry)) -> io::Result<()> {
        let bytes = fs::read(self.directory.join(segment_name(number)))?;
        for line in bytes.split(|byte| *byte == b'\n') {
            if let Some(entry) = Entry::read(line) {
                hear(&entry);
            }
        }
        Ok(())
    }
}

impl Segment {
    fn write(&mut self, directory: &Path, bytes: &[u8]) -> io::Result<()> {
        if self.length >= SEGMENT_BYTES {
            self.file.sync_data()?;
            *self = open_numbered(directory, self.number + 1)?;
        }
        // At a place of its own: bytes that fail to be written whole are written over.
        self.file.write_all_at(bytes, self.length)?;
        self.length += bytes.len() as u64;
        self.dirty = true;
        Ok(())
    }
}

/// The locks guard plain values that are whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn segment_name(number: u64) -> String {
    format!("{number:012}.log")
}

/// The segments there are, ascending.
fn segments(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".log"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The segment after all that ever were.
fn open_next(directory: &Path) -> io::Result<Segment> {
    fs::create_dir_all(directory)?;
    let mut last = segments(directory)?.last().copied().unwrap_or_default();
    for day in Totals::days(directory)? {
        last = last.max(Totals::read(directory, day).map_err(io::Error::other)?.through);
    }
    open_numbered(directory, last + 1)
}

fn open_numbered(directory: &Path, number: u64) -> io::Result<Segment> {
    let path = directory.join(segment_name(number));
    let file = OpenOptions::new().write(true).create_new(true).open(path)?;
    sync_directory(directory)?;
    Ok(Segment { number, file, length: 0, dirty: false, spare: Vec::new() })
}

#[cfg(test)]
mod tests;
