//! [`Files`]: files that clients keep here for their jobs, and that jobs leave.
//!
//! ```text
//! DATA/files/{id}               the content, immutable
//! DATA/files/.staging/{random}  files being written, emptied at start
//! ```
//! A file is written to `.staging`, synced and renamed; then its row is committed, and only then does it exist. A
//! file is deleted the other way round. What a crash leaves in between has no row, and is removed at the start.

use std::collections::HashSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::file::FileUse;
use crate::name::fresh_id;
use crate::room::Room;
use crate::storage::{BLOCK_BYTES, blocking, failed, random_name, sync_directory};
use crate::store::{self, Kind, Record, Write};
use crate::{Control, Error, ErrorCode, Parent, Result, StoredFile, Timestamp, fault};

/// Bytes of one file at most.
pub const FILE_BYTES_MAX: u64 = 512 << 20;

/// Bytes gathered before a file is written to.
const BUFFER_BYTES: usize = 1 << 20;

/// The collection in a file's resource name.
const COLLECTION: &str = "files";

/// Files of clients. Get them from [`Control::files`].
#[derive(Clone)]
pub struct Files {
    control: Control,
}

/// A file in the making, seen by nobody until it is whole. Dropped before, it leaves nothing behind.
pub struct FileWriter {
    control: Control,
    parent: Parent,
    id: String,
    room: Room,
    staged: Staged,
    file: Arc<fs::File>,
    buffer: BytesMut,
    written: u64,
}

/// The bytes of a file, in order, a few megabytes at a time.
pub struct FileReader {
    file: Arc<fs::File>,
    at: u64,
    end: u64,
}

/// A file that nobody sees yet, removed when dropped.
struct Staged(PathBuf);

impl Drop for Staged {
    fn drop(&mut self) {
        // After a rename there is nothing left of that name, which is as well.
        let _ = fs::remove_file(&self.0);
    }
}

impl Files {
    pub(crate) fn new(control: Control) -> Self {
        Files { control }
    }

    /// Makes the directories and removes what no file's row speaks of. Only at the opening, when nothing is being
    /// written.
    pub(crate) async fn sweep(&self) -> Result<()> {
        let rows = store::list_all::<StoredFile>(self.control.store(), None).await?;
        let known: HashSet<String> = rows.iter().map(|file| id(&file.name).to_owned()).collect();
        let root = root(&self.control);
        blocking(move || sweep(&root, &known).map_err(|e| failed("clearing the directory of files", e))).await
    }

    /// Begins a file in `parent`.
    ///
    /// # Errors
    /// `ResourceExhausted` on a full disk.
    pub async fn writer(&self, parent: &Parent) -> Result<FileWriter> {
        let (id, root) = (fresh_id()?, root(&self.control));
        let (staged, file) = blocking(move || {
            let staged = Staged(staging(&root).join(random_name()?));
            let made = fault::step().and_then(|()| fs::File::create_new(&staged.0));
            Ok((staged, made.map_err(|e| failed("beginning to write a file", e))?))
        })
        .await?;
        let (file, buffer) = (Arc::new(file), BytesMut::new());
        let (control, parent) = (self.control.clone(), parent.clone());
        let room = control.storage(&parent.project).room(&parent.project);
        Ok(FileWriter { control, parent, id, room, staged, file, buffer, written: 0 })
    }

    /// What is known of the file `name`.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get(&self, name: &str) -> Result<StoredFile> {
        store::get(self.control.store(), name).await
    }

    /// All files in `parent`, the newest first.
    ///
    /// # Errors
    /// If the metadata cannot be read.
    pub async fn list(&self, parent: &Parent) -> Result<Vec<StoredFile>> {
        let scope = format!("{parent}/{COLLECTION}");
        let mut files = store::list_all::<StoredFile>(self.control.store(), Some(&scope)).await?;
        files.sort_by(|a, b| (b.create_time, &b.name).cmp(&(a.create_time, &a.name)));
        Ok(files)
    }

    /// The bytes of the file `name`. They are read to their end even when it is deleted meanwhile.
    ///
    /// # Errors
    /// `NotFound`; `DataLoss` if its content is not there.
    pub async fn read(&self, name: &str) -> Result<FileReader> {
        let file = self.get(name).await?;
        let path = self.path(name);
        blocking(move || open(&path, &file)).await
    }

    /// Deletes the file `name`.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` while a job reads it.
    pub async fn delete(&self, name: &str) -> Result<()> {
        let unused = Write::RequireNone { kind: Kind::FileUse, parent: name.to_owned() };
        let removed =
            store::remove::<StoredFile>(self.control.store(), name, None, |_| Ok(vec![unused.clone()]));
        removed.await.map_err(|error| match error.code {
            ErrorCode::FailedPrecondition => Error::precondition(format!(
                "{name} is being read by a job; cancel that first, or wait for it"
            )),
            _ => error,
        })?;
        // Without its row it does not exist; what cannot be removed now is at the next start.
        let path = self.path(name);
        blocking(move || {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(file = %path.display(), %error, "the content of a deleted file was not removed");
            }
            Ok(())
        })
        .await
    }

    /// What keeps the file `name` from being deleted as long as the job `job` reads it: written with the job.
    pub(crate) async fn hold(&self, name: &str, job: &str) -> Result<Vec<Write>> {
        let file = self.get(name).await?;
        let mut holds = FileUse {
            name: job.to_owned(),
            file: name.to_owned(),
            create_time: Timestamp::now(),
            etag: String::new(),
        };
        Ok(vec![file.require(), holds.insert()?])
    }

    /// What lets the files that the job `job` reads be deleted again: written with its end.
    pub(crate) async fn release(&self, job: &str) -> Result<Option<Write>> {
        match store::get::<FileUse>(self.control.store(), job).await {
            Ok(held) => Ok(Some(held.delete())),
            Err(error) if error.code == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the finished file at `source` the content of a file to be, under an id that depends on the job alone, so
    /// that doing it again after a crash leaves the same. It exists once the write that is given is committed.
    pub(crate) fn adopt(&self, source: &Path, mut file: StoredFile) -> Result<Write> {
        let attempted = |e| failed("keeping a job's file", e);
        let staged = Staged(staging(&root(&self.control)).join(random_name()?));
        fault::step().map_err(attempted)?;
        if fs::hard_link(source, &staged.0).is_err() {
            let copied = fs::copy(source, &staged.0).and_then(|_| fs::File::open(&staged.0)?.sync_all());
            copied.map_err(attempted)?;
        }
        let path = self.path(&file.name);
        publish(&staged, &path).map_err(attempted)?;
        file.bytes = fs::metadata(&path).map_err(attempted)?.len();
        file.insert()
    }

    /// Removes the content of a file to be that will not be.
    pub(crate) fn disown(&self, name: &str) {
        // Absent, mostly; and what cannot be removed now is at the next start.
        let _ = fs::remove_file(self.path(name));
    }

    /// Where the content of the file `name` lies.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        root(&self.control).join(id(name))
    }
}

impl FileWriter {
    /// Makes sure of room for a file of at least `bytes`, before any of them are there.
    ///
    /// # Errors
    /// `ResourceExhausted` if the project may not keep so much.
    pub async fn expect(&mut self, bytes: u64) -> Result<()> {
        self.room.ensure(bytes).await
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// `InvalidArgument` where there are more than [`FILE_BYTES_MAX`]; `ResourceExhausted` on a full disk, or if the
    /// project may not keep so much.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.written += bytes.len() as u64;
        if self.written > FILE_BYTES_MAX {
            return Err(Error::invalid(format!(
                "the file has more than the {FILE_BYTES_MAX} bytes that are kept"
            )));
        }
        self.room.ensure(self.written).await?;
        self.buffer.extend_from_slice(&bytes);
        if self.buffer.len() >= BUFFER_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<()> {
        let (bytes, file) = (self.buffer.split().freeze(), Arc::clone(&self.file));
        blocking(move || {
            let written = fault::step().and_then(|()| (&*file).write_all(&bytes));
            written.map_err(|e| failed("writing a file", e))
        })
        .await
    }

    /// Makes the file exist: whole, and sure to survive a crash.
    ///
    /// # Errors
    /// `ResourceExhausted` on a full disk, and what the metadata store fails with.
    pub async fn finish(mut self, file_name: String, purpose: String) -> Result<StoredFile> {
        self.flush().await?;
        let (path, file, staged) = (root(&self.control).join(&self.id), self.file, self.staged);
        blocking(move || {
            let synced = fault::step().and_then(|()| file.sync_all());
            synced.and_then(|()| publish(&staged, &path)).map_err(|e| failed("writing a file", e))
        })
        .await?;
        let now = Timestamp::now();
        let mut file = StoredFile {
            name: self.parent.child(COLLECTION, &self.id),
            file_name,
            purpose,
            bytes: self.written,
            create_time: now,
            update_time: now,
            etag: String::new(),
        };
        let write = file.insert()?;
        fault::step().map_err(|e| failed("writing a file", e))?;
        self.control.store().commit(vec![write]).await?;
        Ok(file)
    }
}

impl FileReader {
    /// Bytes in all.
    pub fn remaining(&self) -> u64 {
        self.end - self.at
    }

    /// The next block; `None` at the end.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let (at, length) = (self.at, self.remaining().min(BLOCK_BYTES));
        if length == 0 {
            return Ok(None);
        }
        let file = Arc::clone(&self.file);
        let block = blocking(move || {
            let mut block = vec![0; usize::try_from(length).unwrap_or(0)];
            file.read_exact_at(&mut block, at).map_err(|e| failed("reading a file", e))?;
            Ok(Bytes::from(block))
        })
        .await?;
        self.at += length;
        Ok(Some(block))
    }
}

/// Opens the content of `file`, which is as long as it was.
fn open(path: &Path, file: &StoredFile) -> Result<FileReader> {
    let opened = fs::File::open(path).and_then(|opened| Ok((opened.metadata()?.len(), opened)));
    match opened {
        Ok((length, opened)) if length == file.bytes => {
            Ok(FileReader { file: Arc::new(opened), at: 0, end: length })
        }
        Ok(_) => Err(lost(&file.name)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(lost(&file.name)),
        Err(error) => Err(failed("reading a file", error)),
    }
}

/// The error that the content of the file `name` is not what was stored.
pub(crate) fn lost(name: &str) -> Error {
    Error::new(ErrorCode::DataLoss, format!("the content of {name} is damaged or lost; upload it again"))
}

/// Gives a staged file its place.
fn publish(staged: &Staged, path: &Path) -> std::io::Result<()> {
    fault::step()?;
    fs::rename(&staged.0, path)?;
    sync_directory(path.parent().unwrap_or(path))
}

fn sweep(root: &Path, known: &HashSet<String>) -> std::io::Result<()> {
    if staging(root).exists() {
        fs::remove_dir_all(staging(root))?;
    }
    fs::create_dir_all(staging(root))?;
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let known = entry.file_name().to_str().is_some_and(|name| known.contains(name));
        if !known && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn root(control: &Control) -> PathBuf {
    control.options().data_dir.join("files")
}

fn staging(root: &Path) -> PathBuf {
    root.join(".staging")
}

/// The last segment of a file's name.
fn id(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}
