//! [`OpenDirectories`]: `file://`, confined to the directories that the operator has opened.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::local::{failed, random_name, sync_directory};
use super::object::{ObjectInfo, guessed_content_type};
use super::uri::ObjectUri;
use crate::{Error, ErrorCode, Result, Timestamp, fault};

/// Where a file is written before it gets its name; emptied at start.
const STAGING: &str = ".meuse-staging";

/// The directories that `file://` reaches. Synchronous, like [`super::local::LocalBuckets`].
#[derive(Debug)]
pub(crate) struct OpenDirectories(Vec<PathBuf>);

/// A file being written: nobody sees it yet, and it is removed when dropped.
#[derive(Debug)]
pub(crate) struct StagedFile {
    staged: PathBuf,
    target: PathBuf,
    file: File,
}

impl OpenDirectories {
    /// Opens `directories`, which must exist, and removes what a crash left half-written there.
    pub(crate) fn open(directories: &[PathBuf]) -> Result<Self> {
        let mut roots = Vec::new();
        for directory in directories {
            let root = directory.canonicalize().map_err(|e| {
                Error::invalid(format!(
                    "the directory {} opened to file:// cannot be read: {e}",
                    directory.display()
                ))
            })?;
            let _ = fs::remove_dir_all(root.join(STAGING));
            roots.push(root);
        }
        Ok(OpenDirectories(roots))
    }

    /// The open directory that holds `path`, all links followed.
    fn root_of(&self, path: &Path) -> Option<&PathBuf> {
        self.0.iter().find(|root| path.starts_with(root))
    }

    fn refuse(&self, uri: &ObjectUri) -> Error {
        let message = if self.0.is_empty() {
            format!("{uri}: file:// is off; the operator opens directories to it with --file-root DIR")
        } else {
            format!("{uri} lies outside the directories that the operator has opened to file://")
        };
        Error::new(ErrorCode::PermissionDenied, message)
    }

    /// The file, all links followed, if it lies in an open directory. A file outside is refused before
    /// it is looked for, so that nobody learns what exists there.
    fn resolve(&self, uri: &ObjectUri) -> Result<PathBuf> {
        let path = Path::new("/").join(uri.name());
        if self.root_of(&existing_ancestor(&path)).is_none() {
            return Err(self.refuse(uri));
        }
        match path.canonicalize() {
            Ok(path) if self.root_of(&path).is_some() => Ok(path),
            Ok(_) => Err(self.refuse(uri)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Error::not_found(uri)),
            Err(e) => Err(failed(format!("opening {uri}"), e)),
        }
    }

    /// A file opened for reading.
    pub(crate) fn open_object(&self, uri: &ObjectUri) -> Result<(File, ObjectInfo)> {
        let path = self.resolve(uri)?;
        let attempted = |e| failed(format!("opening {uri}"), e);
        let metadata = fs::metadata(&path).map_err(attempted)?;
        if !metadata.is_file() {
            return Err(Error::not_found(uri));
        }
        Ok((File::open(&path).map_err(attempted)?, info(uri.name(), &metadata)))
    }

    /// Files whose names begin with that of `uri`, by name, at most `limit`.
    pub(crate) fn list(&self, uri: &ObjectUri, limit: usize) -> Result<Vec<ObjectInfo>> {
        let prefix = uri.name();
        let directory = prefix.rsplit_once('/').map_or("", |(directory, _)| directory);
        let root = self.resolve(&ObjectUri::parse_prefix(&format!("file:///{directory}"))?)?;
        let mut found = Vec::new();
        let mut pending = vec![(root, directory.to_owned())];
        while let Some((path, name)) = pending.pop() {
            let listing = |e| failed(format!("listing {uri}"), e);
            for entry in fs::read_dir(path).map_err(listing)? {
                let entry = entry.map_err(listing)?;
                let kind = entry.file_type().map_err(listing)?;
                let Some(last) = entry.file_name().to_str().map(str::to_owned) else { continue };
                let name = if name.is_empty() { last.clone() } else { format!("{name}/{last}") };
                if kind.is_dir() && last != STAGING {
                    if name.starts_with(prefix) || prefix.starts_with(&name) {
                        pending.push((entry.path(), name));
                    }
                } else if kind.is_file() && name.starts_with(prefix) {
                    found.push(info(&name, &entry.metadata().map_err(listing)?));
                }
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found.truncate(limit);
        Ok(found)
    }

    /// Whether `uri` lies in an open directory, existing or not.
    pub(crate) fn check(&self, uri: &ObjectUri) -> Result<()> {
        let path = Path::new("/").join(uri.name());
        self.root_of(&existing_ancestor(&path)).map(|_| ()).ok_or_else(|| self.refuse(uri))
    }

    /// Begins a file. Directories on its way are made.
    pub(crate) fn stage(&self, uri: &ObjectUri) -> Result<StagedFile> {
        let attempted = |e| failed(format!("writing {uri}"), e);
        let path = Path::new("/").join(uri.name());
        let Some(root) = self.root_of(&existing_ancestor(&path)) else { return Err(self.refuse(uri)) };
        if path.is_symlink() && path.canonicalize().map_or(true, |p| self.root_of(&p).is_none()) {
            return Err(self.refuse(uri));
        }
        let staging = root.join(STAGING);
        fs::create_dir_all(&staging).map_err(attempted)?;
        let staged = staging.join(random_name()?);
        let file = fault::step().and_then(|()| File::create_new(&staged)).map_err(attempted)?;
        Ok(StagedFile { staged, target: path, file })
    }

    /// Removes a file.
    pub(crate) fn delete(&self, uri: &ObjectUri) -> Result<()> {
        fs::remove_file(self.resolve(uri)?).map_err(|e| failed(format!("deleting {uri}"), e))
    }
}

impl StagedFile {
    /// Appends `bytes`.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        fault::step()
            .and_then(|()| io::Write::write_all(&mut self.file, bytes))
            .map_err(|e| failed("writing a file", e))
    }

    /// Gives the file its name, atomically.
    pub(crate) fn commit(self, uri: &ObjectUri) -> Result<ObjectInfo> {
        let attempted = |e| failed(format!("writing {uri}"), e);
        fault::step().and_then(|()| self.file.sync_all()).map_err(attempted)?;
        let directory = self.target.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(directory).map_err(attempted)?;
        fault::step().and_then(|()| fs::rename(&self.staged, &self.target)).map_err(attempted)?;
        sync_directory(directory).map_err(attempted)?;
        Ok(info(uri.name(), &fs::metadata(&self.target).map_err(attempted)?))
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.staged);
        if let Some(staging) = self.staged.parent() {
            // Fails, as it should, while other files are being written.
            let _ = fs::remove_dir(staging);
        }
    }
}

/// The nearest ancestor of `path` (or itself) that exists, all links followed.
fn existing_ancestor(path: &Path) -> PathBuf {
    path.ancestors().find_map(|p| p.canonicalize().ok()).unwrap_or_else(|| PathBuf::from("/"))
}

fn info(name: &str, metadata: &fs::Metadata) -> ObjectInfo {
    let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
    let micros = modified.duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(0));
    ObjectInfo {
        bucket: String::new(),
        name: name.to_owned(),
        size: metadata.len(),
        md5: None,
        crc32c: None,
        etag: format!("{micros:x}-{:x}", metadata.len()),
        generation: micros,
        content_type: guessed_content_type(name).to_owned(),
        updated: Timestamp::try_from(modified).unwrap_or(Timestamp::UNIX_EPOCH),
        custom: Default::default(),
    }
}
