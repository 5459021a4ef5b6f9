//! Artifacts: immutable, content-addressed sets of files.
//!
//! ```text
//! DATA/artifacts/{hex of digest}/manifest   the artifact's Contents, whose digest is its name
//! DATA/artifacts/{hex of digest}/files/…    the files
//! DATA/artifacts/.staging/{random}/         being put together; emptied at start
//! DATA/artifacts/.quarantine/{hex}-{time}/  found not to be what was stored
//! ```

mod contents;
mod digest;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub use contents::Contents;
pub use digest::{Digest, DigestError};
use sha2::Digest as _;

use crate::room::Room;
use crate::storage::{Blocks, ObjectUri, Storage, blocking, check_name, failed, random_name, sync_directory};
use crate::{Error, ErrorCode, Result, Timestamp, fault};

/// Files that one artifact holds at most.
const FILES_MAX: usize = 10_000;
/// Bytes that an artifact taken from object storage holds at most.
const IMPORT_BYTES_MAX: u64 = 64 << 30;

/// The artifact store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Artifacts {
    root: Arc<PathBuf>,
    /// Bytes of artifacts that were asked for.
    sizes: Arc<Mutex<HashMap<Digest, u64>>>,
}

/// An artifact being put together. Dropped before [`StagedArtifact::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct StagedArtifact {
    artifacts: Artifacts,
    directory: PathBuf,
    contents: Contents,
}

impl Artifacts {
    /// Opens the artifacts below `data_dir` and removes what a crash left half-made.
    ///
    /// # Errors
    /// If the directory cannot be written to.
    pub fn open(data_dir: &Path) -> Result<Self> {
        let artifacts = Artifacts { root: Arc::new(data_dir.join("artifacts")), sizes: Arc::default() };
        let opening = |e| failed("opening the artifact store", e);
        if artifacts.staging().exists() {
            fs::remove_dir_all(artifacts.staging()).map_err(opening)?;
        }
        fs::create_dir_all(artifacts.staging()).map_err(opening)?;
        Ok(artifacts)
    }

    fn staging(&self) -> PathBuf {
        self.root.join(".staging")
    }

    fn directory(&self, digest: &Digest) -> PathBuf {
        self.root.join(digest.hex())
    }

    /// Stores `files`, path and content each. The same files have the same digest, and are kept once.
    ///
    /// # Errors
    /// `InvalidArgument` if a path is no harmless relative path or occurs twice; `ResourceExhausted` on a
    /// full disk. Nothing is kept then.
    pub async fn put(&self, files: Vec<(String, Vec<u8>)>) -> Result<Digest> {
        let artifacts = self.clone();
        blocking(move || {
            let mut staged = artifacts.begin()?;
            for (path, content) in files {
                staged.add(&path, &content)?;
            }
            staged.commit()
        })
        .await
    }

    /// Stores the object at `uri`, or all objects below it taken as a directory, under their names
    /// relative to it.
    ///
    /// # Errors
    /// `NotFound` if there is none, `InvalidArgument` for more than 64 GiB, otherwise as [`Artifacts::put`].
    pub async fn import(&self, storage: &Storage, uri: &str) -> Result<Digest> {
        self.import_into(&mut storage.room(""), storage, uri).await
    }

    /// As [`Artifacts::import`], where there is `room` for it.
    pub(crate) async fn import_into(&self, room: &mut Room, storage: &Storage, uri: &str) -> Result<Digest> {
        let sources = sources(storage, uri).await?;
        room.ensure(sources.iter().map(|(_, _, size)| size).sum()).await?;
        let artifacts = self.clone();
        let mut staged = blocking(move || artifacts.begin()).await?;
        let mut left = IMPORT_BYTES_MAX;
        for (path, source, _) in sources {
            let blocks = storage.read(&source, 0, None).await?;
            left = left.checked_sub(blocks.info().size).ok_or_else(|| {
                let message =
                    format!("what lies at {uri} takes more than {IMPORT_BYTES_MAX} bytes, the limit");
                Error::invalid(message)
            })?;
            staged = staged.add_blocks(path, blocks).await?;
        }
        // What changed since it was listed.
        room.ensure(IMPORT_BYTES_MAX - left).await?;
        blocking(move || staged.commit()).await
    }

    /// Begins an artifact. Synchronous, as is all of [`StagedArtifact`] but [`StagedArtifact::add_blocks`].
    ///
    /// # Errors
    /// `ResourceExhausted` on a full disk.
    pub fn begin(&self) -> Result<StagedArtifact> {
        let directory = self.staging().join(random_name()?);
        fault::step()
            .and_then(|()| fs::create_dir_all(directory.join("files")))
            .map_err(|e| failed("beginning an artifact", e))?;
        Ok(StagedArtifact { artifacts: self.clone(), directory, contents: Contents::default() })
    }

    /// What an artifact is called that has this one file.
    pub(crate) fn digest_of_file(path: &str, digest: Digest, bytes: u64) -> Digest {
        let mut contents = Contents::default();
        contents.insert(path.to_owned(), digest, bytes);
        contents.digest()
    }

    /// The artifact that has this one file, if it is here.
    pub(crate) fn find_file(&self, path: &str, digest: Digest, bytes: u64) -> Option<Digest> {
        let artifact = Self::digest_of_file(path, digest, bytes);
        self.directory(&artifact).is_dir().then_some(artifact)
    }

    /// Bytes of an artifact's files; 0 where it is not here. Reads a file.
    pub(crate) fn bytes(&self, artifact: &Digest) -> u64 {
        let known = self.sizes.lock().unwrap_or_else(PoisonError::into_inner).get(artifact).copied();
        known.unwrap_or_else(|| {
            let text = fs::read_to_string(self.directory(artifact).join("manifest")).ok();
            let Some(contents) = text.and_then(|text| Contents::from_text(&text)) else { return 0 };
            let bytes = contents.files().map(|(_, _, size)| size).sum();
            self.sizes.lock().unwrap_or_else(PoisonError::into_inner).insert(*artifact, bytes);
            bytes
        })
    }

    /// The directory that holds the files of an artifact, after every one of them has been found to be
    /// what was stored.
    ///
    /// # Errors
    /// `NotFound`; `DataLoss` if a byte differs, and then the artifact is moved aside so that it can be
    /// stored again.
    pub async fn verify_and_open(&self, digest: &Digest) -> Result<PathBuf> {
        let (artifacts, digest) = (self.clone(), *digest);
        blocking(move || artifacts.verify_blocking(&digest)).await
    }

    /// As [`Artifacts::verify_and_open`], on the caller's thread.
    ///
    /// # Errors
    /// As [`Artifacts::verify_and_open`].
    pub fn verify_blocking(&self, digest: &Digest) -> Result<PathBuf> {
        let directory = self.directory(digest);
        if !directory.is_dir() {
            return Err(Error::not_found(format!("the artifact {digest}")));
        }
        match verify(&directory, digest) {
            Ok(None) => Ok(directory.join("files")),
            Ok(Some(fault)) => Err(self.quarantine(digest, &fault)),
            Err(e) => Err(failed(format!("verifying the artifact {digest}"), e)),
        }
    }

    fn quarantine(&self, digest: &Digest, fault: &str) -> Error {
        let aside = self.root.join(".quarantine");
        let target = aside.join(format!("{}-{}", digest.hex(), Timestamp::now().as_millisecond()));
        let moved = fs::create_dir_all(&aside).and_then(|()| fs::rename(self.directory(digest), &target));
        tracing::error!(%digest, fault, moved = moved.is_ok(), "an artifact is damaged");
        let message = format!(
            "the artifact {digest} is damaged: {fault}. It is not served and has been put aside; upload or train \
             the version again"
        );
        Error::new(ErrorCode::DataLoss, message)
    }

    /// Removes artifacts that are not in `keep`. Only for times when none is being registered.
    ///
    /// # Errors
    /// If the store cannot be read or written to.
    pub fn collect(&self, keep: &HashSet<Digest>) -> Result<()> {
        let collecting = |e| failed("collecting artifacts", e);
        for entry in fs::read_dir(&*self.root).map_err(collecting)? {
            let entry = entry.map_err(collecting)?;
            let digest =
                entry.file_name().to_str().and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
            if digest.is_some_and(|digest| !keep.contains(&digest)) {
                fs::remove_dir_all(entry.path()).map_err(collecting)?;
            }
        }
        Ok(())
    }
}

/// The objects that make up the artifact at `uri`, each with its path in the artifact and its bytes.
async fn sources(storage: &Storage, uri: &str) -> Result<Vec<(String, ObjectUri, u64)>> {
    let address = ObjectUri::parse_prefix(uri)?;
    if let Ok(object) = ObjectUri::parse(uri) {
        match storage.head(&object).await {
            Ok(info) => {
                let last = object.name().rsplit('/').next().unwrap_or_default().to_owned();
                return Ok(vec![(last, object, info.size)]);
            }
            Err(e) if e.code == ErrorCode::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    let below = format!("{}/", uri.trim_end_matches('/'));
    let directory = if address.name().is_empty() { address } else { ObjectUri::parse_prefix(&below)? };
    let mut sources = Vec::new();
    for object in storage.list(&directory).await? {
        let path = object.name.strip_prefix(directory.name()).unwrap_or(&object.name);
        if !path.is_empty() {
            sources.push((path.to_owned(), directory.sibling(&object.name)?, object.size));
        }
    }
    if sources.is_empty() {
        return Err(Error::new(
            ErrorCode::NotFound,
            format!("there is no object at {uri} and none below it; give the directory that holds the model"),
        ));
    }
    Ok(sources)
}

impl StagedArtifact {
    /// Adds a file.
    ///
    /// # Errors
    /// As [`Artifacts::put`].
    pub fn add(&mut self, path: &str, content: &[u8]) -> Result<()> {
        let mut file = self.create(path)?;
        fault::step()
            .and_then(|()| file.write_all(content))
            .and_then(|()| file.sync_all())
            .map_err(|e| failed(format!("storing the artifact's `{path}`"), e))?;
        self.contents.insert(path.to_owned(), Digest::of(content), content.len() as u64);
        Ok(())
    }

    /// Adds the file `from` of the data directory, which is known to have this content: under another
    /// name, without a copy. Whoever owns it must not write to it any more.
    ///
    /// # Errors
    /// As [`Artifacts::put`].
    pub fn link(&mut self, path: &str, from: &Path, digest: Digest, bytes: u64) -> Result<()> {
        let target = self.target(path)?;
        fault::step()
            .and_then(|()| fs::hard_link(from, &target))
            .map_err(|e| failed(format!("storing the artifact's `{path}`"), e))?;
        self.contents.insert(path.to_owned(), digest, bytes);
        Ok(())
    }

    /// Adds a file whose content comes in blocks; gives the artifact back.
    ///
    /// # Errors
    /// As [`Artifacts::put`] and [`Blocks::next`].
    pub async fn add_blocks(mut self, path: String, mut blocks: Blocks) -> Result<Self> {
        let mut file = self.create(&path)?;
        let (mut hasher, mut size) = (sha2::Sha256::new(), 0);
        let storing = format!("storing the artifact's `{path}`");
        while let Some(block) = blocks.next().await? {
            size += block.len() as u64;
            let attempted = storing.clone();
            (file, hasher) = blocking(move || {
                hasher.update(&block);
                fault::step().and_then(|()| file.write_all(&block)).map_err(|e| failed(attempted, e))?;
                Ok((file, hasher))
            })
            .await?;
        }
        blocking(move || file.sync_all().map_err(|e| failed(storing, e))).await?;
        self.contents.insert(path, Digest::from_bytes(hasher.finalize().into()), size);
        Ok(self)
    }

    fn create(&self, path: &str) -> Result<File> {
        let target = self.target(path)?;
        File::create_new(&target).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => twice(path),
            _ => failed(format!("storing the artifact's `{path}`"), e),
        })
    }

    /// Where the file `path` is to lie, its directory made.
    fn target(&self, path: &str) -> Result<PathBuf> {
        check_name(path).map_err(|why| Error::invalid(format!("a file of the artifact: {why}")))?;
        if self.contents.files().count() >= FILES_MAX {
            return Err(Error::invalid(format!("an artifact has at most {FILES_MAX} files")));
        }
        let target = self.directory.join("files").join(path);
        let made = target.parent().map_or(Ok(()), fs::create_dir_all);
        made.map(|()| target).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => twice(path),
            _ => failed(format!("storing the artifact's `{path}`"), e),
        })
    }

    /// Makes the artifact appear, whole, under the digest of its contents.
    ///
    /// # Errors
    /// `ResourceExhausted` on a full disk; nothing has appeared then.
    pub fn commit(self) -> Result<Digest> {
        let digest = self.contents.digest();
        let committing = |e| failed(format!("storing the artifact {digest}"), e);
        if self.artifacts.verify_blocking(&digest).is_ok() {
            return Ok(digest);
        }
        let manifest = self.directory.join("manifest");
        fault::step()
            .and_then(|()| fs::write(&manifest, self.contents.to_text()))
            .and_then(|()| File::open(&manifest)?.sync_all())
            .and_then(|()| sync_directory(&self.directory))
            .map_err(committing)?;
        let renamed =
            fault::step().and_then(|()| fs::rename(&self.directory, self.artifacts.directory(&digest)));
        match renamed {
            // Someone else stored the same files meanwhile.
            Err(_) if self.artifacts.directory(&digest).is_dir() => Ok(digest),
            Err(e) => Err(committing(e)),
            Ok(()) => sync_directory(&self.artifacts.root).map(|()| digest).map_err(committing),
        }
    }
}

impl Drop for StagedArtifact {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn twice(path: &str) -> Error {
    Error::invalid(format!("`{path}` occurs twice in the artifact, or once as a directory"))
}

/// What is wrong with the artifact in `directory`, if anything is.
fn verify(directory: &Path, digest: &Digest) -> io::Result<Option<String>> {
    let manifest = match fs::read(directory.join("manifest")) {
        Ok(manifest) => manifest,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Ok(Some("its manifest is missing".to_owned()));
        }
        Err(e) => return Err(e),
    };
    let text = String::from_utf8(manifest).ok().filter(|text| Digest::of(text.as_bytes()) == *digest);
    let Some(contents) = text.and_then(|text| Contents::from_text(&text)) else {
        return Ok(Some("its manifest has changed".to_owned()));
    };
    let files = directory.join("files");
    for (path, expected, size) in contents.files() {
        let file = match File::open(files.join(path)) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Some(format!("`{path}` is missing"))),
            Err(e) => return Err(e),
        };
        if Digest::of_reader(file)? != (expected, size) {
            return Ok(Some(format!("`{path}` has changed")));
        }
    }
    let present = count_files(&files)?;
    Ok((present != contents.files().count()).then(|| "it has a file too many".to_owned()))
}

fn count_files(directory: &Path) -> io::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { count_files(&entry.path())? } else { 1 };
    }
    Ok(count)
}
