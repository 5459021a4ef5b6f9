//! [`LocalBuckets`]: buckets as directories, objects as files, for `gs://` with nothing else installed.
//!
//! ```text
//! DATA/buckets/{bucket}/{object…}   the objects; files put here by hand are objects too
//! DATA/buckets/.meta/{bucket}.json                  who made the bucket
//! DATA/buckets/.meta/{bucket}/{sha256 of name}.json hashes, media type, the writer's own keys
//! DATA/buckets/.staging/{random}                    files being written, emptied at start
//! ```
//! An object appears whole or not at all: it is written to `.staging`, synced, then renamed. What is in
//! `.meta` counts only while size and time of the file are those noted there, so that a crash between
//! the two renames or an edit by hand loses hashes, never truth. No bucket's name begins with a dot.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::hash::{Hasher, Hashes, sha256_hex};
use super::object::{BucketInfo, ObjectInfo, Precondition, PutOptions, guessed_content_type};
use super::uri::{check_bucket, check_name};
use crate::{Error, ErrorCode, Result, Timestamp, fault};

/// Buckets under one directory. Synchronous: callers are on threads that may block.
#[derive(Debug)]
pub(crate) struct LocalBuckets {
    root: PathBuf,
    /// Held where directories come and go, and where a precondition is checked and acted upon. In it, bytes of the
    /// buckets that somebody has asked for.
    commit: Mutex<HashMap<String, u64>>,
}

/// What is noted beside an object.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    size: u64,
    modified_ns: i64,
    md5: Option<[u8; 16]>,
    crc32c: Option<u32>,
    content_type: Option<String>,
    custom: BTreeMap<String, String>,
}

/// An object being written: a file that nobody sees yet, removed when dropped.
#[derive(Debug)]
pub(crate) struct Staged {
    path: PathBuf,
    file: File,
    hasher: Hasher,
}

impl LocalBuckets {
    /// Opens the buckets below `root`, making it where absent, and removes what a crash left half-written.
    pub(crate) fn open(root: PathBuf) -> Result<Self> {
        let buckets = LocalBuckets { root, commit: Mutex::default() };
        let opening = |e| failed("opening the local buckets", e);
        if buckets.staging().exists() {
            fs::remove_dir_all(buckets.staging()).map_err(opening)?;
        }
        fs::create_dir_all(buckets.staging()).map_err(opening)?;
        fs::create_dir_all(buckets.notes()).map_err(opening)?;
        Ok(buckets)
    }

    fn staging(&self) -> PathBuf {
        self.root.join(".staging")
    }

    fn notes(&self) -> PathBuf {
        self.root.join(".meta")
    }

    fn bucket_note(&self, bucket: &str) -> PathBuf {
        self.notes().join(format!("{bucket}.json"))
    }

    fn object_note(&self, bucket: &str, name: &str) -> PathBuf {
        self.notes().join(bucket).join(format!("{}.json", sha256_hex(name.as_bytes())))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.commit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is such a bucket.
    pub(crate) fn has(&self, bucket: &str) -> bool {
        check_bucket(bucket).is_ok() && self.root.join(bucket).is_dir()
    }

    /// Makes a bucket.
    pub(crate) fn create(&self, bucket: &str, project: &str, location: &str) -> Result<BucketInfo> {
        check_bucket(bucket).map_err(Error::invalid)?;
        let _commit = self.lock();
        let info = BucketInfo {
            name: bucket.to_owned(),
            project: project.to_owned(),
            location: location.to_owned(),
            created: Timestamp::now(),
        };
        let directory = self.root.join(bucket);
        if directory.exists() {
            let message = format!("the bucket `{bucket}` exists already; choose another name");
            return Err(Error::new(ErrorCode::AlreadyExists, message));
        }
        let attempted = || format!("making the bucket `{bucket}`");
        write_note(&self.bucket_note(bucket), &self.staging(), &info).map_err(|e| failed(attempted(), e))?;
        fs::create_dir_all(&directory).map_err(|e| failed(attempted(), e))?;
        sync_directory(&self.root).map_err(|e| failed(attempted(), e))?;
        Ok(info)
    }

    /// What is known of a bucket.
    pub(crate) fn get(&self, bucket: &str) -> Result<BucketInfo> {
        check_bucket(bucket).map_err(Error::invalid)?;
        let directory = self.root.join(bucket);
        let Ok(metadata) = fs::metadata(&directory) else { return Err(no_bucket(bucket)) };
        Ok(read_note(&self.bucket_note(bucket)).unwrap_or_else(|| BucketInfo {
            name: bucket.to_owned(),
            project: String::new(),
            location: String::new(),
            created: metadata.modified().map_or(Timestamp::UNIX_EPOCH, timestamp),
        }))
    }

    /// All buckets, by name.
    pub(crate) fn all(&self) -> Result<Vec<BucketInfo>> {
        let listing = |e| failed("listing the buckets", e);
        let mut buckets = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(listing)? {
            let entry = entry.map_err(listing)?;
            match entry.file_name().to_str() {
                Some(name) if self.has(name) => buckets.push(self.get(name)?),
                _ => {}
            }
        }
        buckets.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(buckets)
    }

    /// Removes an empty bucket.
    pub(crate) fn remove(&self, bucket: &str) -> Result<()> {
        self.get(bucket)?;
        let mut sizes = self.lock();
        fs::remove_dir(self.root.join(bucket)).map_err(|e| match e.kind() {
            io::ErrorKind::DirectoryNotEmpty => {
                Error::precondition(format!("the bucket `{bucket}` holds objects; delete them first"))
            }
            _ => failed(format!("deleting the bucket `{bucket}`"), e),
        })?;
        sizes.remove(bucket);
        let _ = fs::remove_file(self.bucket_note(bucket));
        let _ = fs::remove_dir_all(self.notes().join(bucket));
        Ok(())
    }

    /// Bytes of the objects in a bucket: counted the first time, kept account of since. What is put there by hand after
    /// that is not noticed.
    pub(crate) fn bytes(&self, bucket: &str) -> Result<u64> {
        let mut sizes = self.lock();
        if let Some(bytes) = sizes.get(bucket) {
            return Ok(*bytes);
        }
        let counted = bytes_below(&self.root.join(bucket));
        let bytes = counted.map_err(|e| failed(format!("counting what is in the bucket `{bucket}`"), e))?;
        sizes.insert(bucket.to_owned(), bytes);
        Ok(bytes)
    }

    /// The file of an object. `Err(NotFound)` names the bucket where it is the bucket that is missing.
    fn path(&self, bucket: &str, name: &str) -> Result<PathBuf> {
        check_bucket(bucket).map_err(Error::invalid)?;
        check_name(name).map_err(Error::invalid)?;
        let directory = self.root.join(bucket);
        if directory.is_dir() { Ok(directory.join(name)) } else { Err(no_bucket(bucket)) }
    }

    /// What is known of an object.
    pub(crate) fn head(&self, bucket: &str, name: &str) -> Result<ObjectInfo> {
        self.open_object(bucket, name).map(|(_, info)| info)
    }

    /// An object opened for reading. What is read is this object even if it is replaced meanwhile.
    pub(crate) fn open_object(&self, bucket: &str, name: &str) -> Result<(File, ObjectInfo)> {
        let path = self.path(bucket, name)?;
        let missing = || Error::not_found(format!("gs://{bucket}/{name}"));
        let opened = File::open(&path).and_then(|file| file.metadata().map(|metadata| (file, metadata)));
        let (file, metadata) = match opened {
            Ok((_, metadata)) if !metadata.is_file() => return Err(missing()),
            Ok(opened) => opened,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(missing());
            }
            Err(e) => return Err(failed(format!("opening gs://{bucket}/{name}"), e)),
        };
        self.refuse_outside(bucket, &path)?;
        Ok((file, self.info(bucket, name, &metadata)))
    }

    /// A link that leads out of the bucket was made by hand or is an attack: it is not followed.
    fn refuse_outside(&self, bucket: &str, path: &Path) -> Result<()> {
        let canonical = |p: &Path| p.canonicalize().map_err(|e| failed(format!("reading in `{bucket}`"), e));
        if canonical(path)?.starts_with(canonical(&self.root.join(bucket))?) {
            return Ok(());
        }
        let message = format!("an object of the bucket `{bucket}` is a link that leads out of it");
        Err(Error::new(ErrorCode::PermissionDenied, message))
    }

    fn info(&self, bucket: &str, name: &str, metadata: &fs::Metadata) -> ObjectInfo {
        let modified_ns = modified_ns(metadata);
        let note = read_note::<Note>(&self.object_note(bucket, name))
            .filter(|note| note.size == metadata.len() && note.modified_ns == modified_ns);
        let (hashes, content_type, custom) = match note {
            Some(note) => ((note.md5, note.crc32c), note.content_type, note.custom),
            None => ((None, None), None, BTreeMap::new()),
        };
        ObjectInfo {
            bucket: bucket.to_owned(),
            name: name.to_owned(),
            size: metadata.len(),
            md5: hashes.0,
            crc32c: hashes.1,
            etag: format!("{modified_ns:x}-{:x}", metadata.len()),
            generation: modified_ns / 1000,
            content_type: content_type.unwrap_or_else(|| guessed_content_type(name).to_owned()),
            updated: metadata.modified().map_or(Timestamp::UNIX_EPOCH, timestamp),
            custom,
        }
    }

    /// Objects whose names begin with `prefix` and come after `after`, ascending by name, at most `limit`.
    pub(crate) fn list(
        &self,
        bucket: &str,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<ObjectInfo>> {
        self.get(bucket)?;
        let mut walk = Walk { buckets: self, bucket, prefix, after, limit, found: Vec::new() };
        walk.directory(&self.root.join(bucket), "")
            .map_err(|e| failed(format!("listing the bucket `{bucket}`"), e))?;
        Ok(walk.found)
    }

    /// Begins an object. `md5` costs about a second per 600 MB.
    pub(crate) fn stage(&self, md5: bool) -> Result<Staged> {
        let path = self.staging().join(random_name()?);
        let file = fault::step()
            .and_then(|()| File::create_new(&path))
            .map_err(|e| failed("beginning to write an object", e))?;
        Ok(Staged { path, file, hasher: Hasher::new(md5) })
    }

    /// Makes what was staged the object `name`, atomically.
    pub(crate) fn commit(
        &self,
        staged: Staged,
        bucket: &str,
        name: &str,
        options: PutOptions,
    ) -> Result<ObjectInfo> {
        let attempted = |e| failed(format!("writing gs://{bucket}/{name}"), e);
        fault::step().and_then(|()| staged.file.sync_all()).map_err(attempted)?;
        let hashes = staged.hasher.hashes();
        self.publish(&staged.path, bucket, name, options, hashes)
    }

    /// Makes the file at `source` the object `name`, atomically and without a copy where the file
    /// system allows; `source` stays. The caller has synced it and writes to it no more.
    pub(crate) fn link(&self, source: &Path, bucket: &str, name: &str) -> Result<ObjectInfo> {
        let attempted = |e| failed(format!("writing gs://{bucket}/{name}"), e);
        self.path(bucket, name)?;
        let path = self.staging().join(random_name()?);
        let _removed = RemoveOnDrop(&path);
        fault::step().map_err(attempted)?;
        if fs::hard_link(source, &path).is_err() {
            fs::copy(source, &path).and_then(|_| File::open(&path)?.sync_all()).map_err(attempted)?;
        }
        self.publish(&path, bucket, name, PutOptions::default(), Hashes::default())
    }

    fn publish(
        &self,
        staged: &Path,
        bucket: &str,
        name: &str,
        options: PutOptions,
        hashes: Hashes,
    ) -> Result<ObjectInfo> {
        let attempted = |e| failed(format!("writing gs://{bucket}/{name}"), e);
        let path = self.path(bucket, name)?;
        let mut sizes = self.lock();
        self.check(&options.precondition, bucket, name)?;
        let directory = path.parent().unwrap_or(&self.root);
        if let Some(there) = directory.ancestors().find(|ancestor| ancestor.exists()) {
            self.refuse_outside(bucket, there)?;
        }
        fs::create_dir_all(directory).map_err(|e| occupied(bucket, name, e))?;
        if path.is_dir() {
            return Err(occupied(bucket, name, io::Error::from(io::ErrorKind::IsADirectory)));
        }
        let replaced = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        fault::step().and_then(|()| fs::rename(staged, &path)).map_err(attempted)?;
        let metadata = fs::metadata(&path).map_err(attempted)?;
        if let Some(bytes) = sizes.get_mut(bucket) {
            *bytes = bytes.saturating_add(metadata.len()).saturating_sub(replaced);
        }
        sync_directory(directory).map_err(attempted)?;
        let note = Note {
            size: metadata.len(),
            modified_ns: modified_ns(&metadata),
            md5: hashes.md5,
            crc32c: hashes.crc32c,
            content_type: options.content_type,
            custom: options.custom,
        };
        write_note(&self.object_note(bucket, name), &self.staging(), &note).map_err(attempted)?;
        Ok(self.info(bucket, name, &metadata))
    }

    fn check(&self, precondition: &Precondition, bucket: &str, name: &str) -> Result<()> {
        let present = match precondition {
            Precondition::None => return Ok(()),
            _ => self.head(bucket, name).ok().map(|info| info.generation),
        };
        match (precondition, present) {
            (Precondition::Absent, None) => Ok(()),
            (Precondition::Generation(wanted), Some(there)) if *wanted == there => Ok(()),
            _ => Err(Error::precondition(format!(
                "gs://{bucket}/{name} is not in the generation that the request expects"
            ))),
        }
    }

    /// Removes an object.
    pub(crate) fn delete(&self, bucket: &str, name: &str) -> Result<()> {
        self.head(bucket, name)?;
        let path = self.path(bucket, name)?;
        let mut sizes = self.lock();
        let removed = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        fs::remove_file(&path).map_err(|e| failed(format!("deleting gs://{bucket}/{name}"), e))?;
        if let Some(bytes) = sizes.get_mut(bucket) {
            *bytes = bytes.saturating_sub(removed);
        }
        let _ = fs::remove_file(self.object_note(bucket, name));
        let bucket_root = self.root.join(bucket);
        let mut directory = path.parent();
        while let Some(empty) = directory.filter(|d| *d != bucket_root && fs::remove_dir(d).is_ok()) {
            directory = empty.parent();
        }
        Ok(())
    }

    /// Computes and notes the hashes of an object that has none, as one put here by hand.
    pub(crate) fn hash(&self, bucket: &str, name: &str) -> Result<ObjectInfo> {
        let (file, info) = self.open_object(bucket, name)?;
        let attempted = |e| failed(format!("reading gs://{bucket}/{name}"), e);
        if info.md5.is_some() && info.crc32c.is_some() {
            return Ok(info);
        }
        let metadata = file.metadata().map_err(attempted)?;
        let hashes = Hasher::of_file(file).map_err(attempted)?;
        let note = Note {
            size: info.size,
            modified_ns: modified_ns(&metadata),
            md5: hashes.md5,
            crc32c: hashes.crc32c,
            content_type: Some(info.content_type.clone()),
            custom: info.custom.clone(),
        };
        write_note(&self.object_note(bucket, name), &self.staging(), &note).map_err(attempted)?;
        Ok(ObjectInfo { md5: hashes.md5, crc32c: hashes.crc32c, ..info })
    }
}

impl Staged {
    /// Appends `bytes`.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        fault::step().and_then(|()| self.file.write_all(bytes)).map_err(|e| failed("writing an object", e))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After a commit there is nothing left of that name, which is as well.
        let _ = fs::remove_file(&self.path);
    }
}

struct RemoveOnDrop<'a>(&'a Path);

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}

/// Bytes of all files below `directory`.
fn bytes_below(directory: &Path) -> io::Result<u64> {
    let mut bytes: u64 = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            bytes = bytes.saturating_add(bytes_below(&entry.path())?);
        } else if kind.is_file() {
            bytes = bytes.saturating_add(entry.metadata()?.len());
        }
    }
    Ok(bytes)
}

/// A walk over a bucket in the order of object names, which is not that of file names: `a/b` comes
/// after `a-b`, so a directory sorts as its name with a slash.
struct Walk<'a> {
    buckets: &'a LocalBuckets,
    bucket: &'a str,
    prefix: &'a str,
    after: &'a str,
    limit: usize,
    found: Vec<ObjectInfo>,
}

impl Walk<'_> {
    fn directory(&mut self, directory: &Path, base: &str) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let (kind, name) = (entry.file_type()?, entry.file_name());
            let Some(name) = name.to_str() else { continue };
            if kind.is_dir() {
                names.push(format!("{base}{name}/"));
            } else if kind.is_file() && check_name(name).is_ok() {
                names.push(format!("{base}{name}"));
            }
        }
        names.sort();
        names.iter().try_for_each(|name| self.entry(directory, name))
    }

    fn entry(&mut self, directory: &Path, name: &str) -> io::Result<()> {
        let is_directory = name.ends_with('/');
        let leads_there = name.starts_with(self.prefix) || (is_directory && self.prefix.starts_with(name));
        let is_past = name > self.after || (is_directory && self.after.starts_with(name));
        if self.found.len() >= self.limit || !leads_there || !is_past {
            return Ok(());
        }
        let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or(name);
        let path = directory.join(last);
        if is_directory {
            return self.directory(&path, name);
        }
        match fs::metadata(&path) {
            Ok(metadata) => self.found.push(self.buckets.info(self.bucket, name, &metadata)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }
}

/// `NotFound`, with what to do about it.
pub(crate) fn no_bucket(bucket: &str) -> Error {
    Error::new(
        ErrorCode::NotFound,
        format!(
            "the bucket `{bucket}` does not exist; make it with the Cloud Storage client, \
             `Client.create_bucket(\"{bucket}\")`, or as a directory `buckets/{bucket}` in the server's data \
             directory"
        ),
    )
}

/// A file error for the client: a full disk is said to be full, anything else is for the log.
pub(crate) fn failed(attempted: impl std::fmt::Display, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Error::new(
                ErrorCode::ResourceExhausted,
                format!("failed {attempted}: the server's disk is full; free some space and try again"),
            )
            .caused_by(error)
        }
        _ => Error::internal(attempted, error),
    }
}

fn occupied(bucket: &str, name: &str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists | io::ErrorKind::IsADirectory => {
            Error::precondition(format!(
                "gs://{bucket}/{name} cannot be written: in a local bucket one name cannot be both an object \
                 and the beginning of other objects' names, up to a `/`"
            ))
        }
        _ => failed(format!("writing gs://{bucket}/{name}"), error),
    }
}

fn timestamp(time: std::time::SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn modified_ns(metadata: &fs::Metadata) -> i64 {
    let since = metadata.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    since.and_then(|d| i64::try_from(d.as_nanos()).ok()).unwrap_or(0)
}

pub(crate) fn random_name() -> Result<String> {
    let mut bytes = [0u8; 12];
    getrandom::fill(&mut bytes).map_err(|e| Error::internal("naming a temporary file", e))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// Makes a rename in `directory` survive a power cut.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn read_note<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Replaces a note atomically. Not synced: a lost note costs its hashes.
fn write_note<T: Serialize>(path: &Path, staging: &Path, note: &T) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let staged = staging.join(random_name().map_err(io::Error::other)?);
    let _removed = RemoveOnDrop(&staged);
    fs::write(&staged, serde_json::to_vec(note)?)?;
    fs::rename(&staged, path)
}
