//! [`Storage`]: objects by address, wherever they lie.
//!
//! `gs://` is a local bucket where one of that name exists, or else Google's, if the operator has given
//! credentials; `s3://` and `az://` are elsewhere; `file://` reaches the directories that the operator
//! has opened, and none by default. A client chooses a bucket's name, never the host that is called.

mod cloud;
mod files;
mod hash;
mod local;
mod object;
mod reader;
mod uri;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::ObjectStoreExt;

pub use cloud::CloudAccess;
pub(crate) use local::{failed, random_name, sync_directory};
pub use object::{BucketInfo, ObjectInfo, Precondition, PutOptions};
pub use reader::{BLOCK_BYTES, Blocks};
pub(crate) use uri::check_name;
pub use uri::{ObjectUri, Scheme};
pub use writer::ObjectWriter;

use crate::room::{Room, Rooms};
use crate::{ALL_PROJECTS, Error, Result};
use cloud::{Cloud, object_info, store_error, store_path};
use files::OpenDirectories;
use local::{LocalBuckets, no_bucket};
use reader::Source;
use writer::Target;

/// Objects that one listing returns at most.
pub const LIST_MAX: usize = 100_000;

/// What the operator decides about storage.
#[derive(Debug, Clone, Default)]
pub struct StorageOptions {
    /// Directories that `file://` reaches; none by default.
    pub file_roots: Vec<PathBuf>,
    /// Whose credentials are used for stores elsewhere.
    pub cloud: CloudAccess,
}

/// Objects by address, as one project sees them: another's bucket is one that does not exist. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Storage {
    stores: Arc<Stores>,
    /// Whose buckets there are, beside those that are everybody's; `None` for all.
    project: Option<Arc<str>>,
}

#[derive(Debug)]
struct Stores {
    buckets: LocalBuckets,
    files: OpenDirectories,
    cloud: Cloud,
    /// What projects may keep in buckets, where anybody says so.
    rooms: Option<Rooms>,
}

/// Which of the stores an address means.
enum Place {
    Bucket,
    File,
    Cloud,
}

impl Storage {
    /// Opens the local buckets below `data_dir` and removes what a crash left half-written.
    ///
    /// # Errors
    /// If the directory cannot be written to, or a directory opened to `file://` does not exist.
    pub fn open(data_dir: &Path, options: &StorageOptions) -> Result<Self> {
        Storage::open_within(None, data_dir, options)
    }

    /// As [`Storage::open`], where projects keep no more than they may.
    pub(crate) fn open_within(
        rooms: Option<Rooms>,
        data_dir: &Path,
        options: &StorageOptions,
    ) -> Result<Self> {
        let stores = Stores {
            buckets: LocalBuckets::open(data_dir.join("buckets"))?,
            files: OpenDirectories::open(&options.file_roots)?,
            cloud: Cloud::new(options.cloud),
            rooms,
        };
        Ok(Storage { stores: Arc::new(stores), project: None })
    }

    /// The same as `project` sees it; [`ALL_PROJECTS`] sees everything.
    pub(crate) fn of(&self, project: &str) -> Storage {
        let project = (project != ALL_PROJECTS).then(|| Arc::from(project));
        Storage { stores: Arc::clone(&self.stores), project }
    }

    fn buckets(&self) -> &LocalBuckets {
        &self.stores.buckets
    }

    pub(crate) fn rooms(&self) -> Option<&Rooms> {
        self.stores.rooms.as_ref()
    }

    /// Bytes in the local buckets that `project` made. Reads files.
    pub(crate) fn bytes_in_buckets(&self, project: &str) -> Result<u64> {
        let buckets = self.buckets().all()?.into_iter().filter(|bucket| bucket.project == project);
        buckets.map(|bucket| self.buckets().bytes(&bucket.name)).sum()
    }

    /// No room yet, for what is about to be written at `uri`: that of the project whose bucket it is.
    pub(crate) fn room_at(&self, uri: &ObjectUri) -> Result<Room> {
        let project = match self.place(uri)? {
            Place::Bucket => self.buckets().get(uri.bucket())?.project,
            Place::File | Place::Cloud => String::new(),
        };
        Ok(self.room(&project))
    }

    /// Whether there is such a local bucket here, as far as the project may know.
    fn has(&self, bucket: &str) -> bool {
        self.buckets().has(bucket)
            && self
                .project
                .as_deref()
                .is_none_or(|own| self.buckets().get(bucket).is_ok_and(|b| b.is_for(own)))
    }

    fn place(&self, uri: &ObjectUri) -> Result<Place> {
        match uri.scheme() {
            Scheme::File => Ok(Place::File),
            Scheme::Gs if self.has(uri.bucket()) => Ok(Place::Bucket),
            Scheme::Gs if !self.stores.cloud.serves(Scheme::Gs) => Err(no_bucket(uri.bucket())),
            _ => Ok(Place::Cloud),
        }
    }

    /// What is known of the object at `uri`.
    ///
    /// # Errors
    /// `NotFound`, naming the object or the bucket, whichever is missing.
    pub async fn head(&self, uri: &ObjectUri) -> Result<ObjectInfo> {
        self.read(uri, 0, None).await.map(|blocks| blocks.info().clone())
    }

    /// As [`Storage::head`], with both checksums for objects in local buckets, computing them where they
    /// are not known yet (a file put there by hand).
    ///
    /// # Errors
    /// As [`Storage::head`].
    pub async fn head_with_hashes(&self, uri: &ObjectUri) -> Result<ObjectInfo> {
        match self.place(uri)? {
            Place::Bucket => {
                let (storage, uri) = (self.clone(), uri.clone());
                blocking(move || storage.buckets().hash(uri.bucket(), uri.name())).await
            }
            Place::File | Place::Cloud => self.head(uri).await,
        }
    }

    /// Bytes `start..end` of the object at `uri`; to its end where `end` is absent or lies beyond.
    ///
    /// # Errors
    /// As [`Storage::head`].
    pub async fn read(&self, uri: &ObjectUri, start: u64, end: Option<u64>) -> Result<Blocks> {
        let (info, source) = match self.place(uri)? {
            Place::Cloud => {
                let store = self.stores.cloud.store(uri)?;
                let meta = store.head(&store_path(uri)?).await.map_err(|e| store_error(uri, e))?;
                (object_info(uri, &meta), Source::Store(store))
            }
            place => {
                let (storage, uri) = (self.clone(), uri.clone());
                let (file, info) = blocking(move || match place {
                    Place::File => storage.stores.files.open_object(&uri),
                    _ => storage.buckets().open_object(uri.bucket(), uri.name()),
                })
                .await?;
                (info, Source::File(Arc::new(file)))
            }
        };
        Ok(Blocks::new(uri.clone(), info, source, start, end))
    }

    /// Objects whose addresses begin with `uri`, by name, at most [`LIST_MAX`].
    ///
    /// # Errors
    /// `NotFound` if the bucket does not exist.
    pub async fn list(&self, uri: &ObjectUri) -> Result<Vec<ObjectInfo>> {
        self.list_page(uri, "", LIST_MAX).await
    }

    /// As [`Storage::list`], only names after `after` and at most `limit`.
    ///
    /// # Errors
    /// As [`Storage::list`].
    pub async fn list_page(&self, uri: &ObjectUri, after: &str, limit: usize) -> Result<Vec<ObjectInfo>> {
        let (storage, address, after) = (self.clone(), uri.clone(), after.to_owned());
        match self.place(uri)? {
            Place::Bucket => {
                blocking(move || storage.buckets().list(address.bucket(), address.name(), &after, limit))
                    .await
            }
            Place::File => {
                let mut found = blocking(move || storage.stores.files.list(&address, LIST_MAX)).await?;
                found.retain(|object| object.name > after);
                found.truncate(limit);
                Ok(found)
            }
            Place::Cloud => self.list_cloud(uri, &after, limit).await,
        }
    }

    /// Stores list by whole path segments; the rest of the prefix is compared here.
    async fn list_cloud(&self, uri: &ObjectUri, after: &str, limit: usize) -> Result<Vec<ObjectInfo>> {
        let store = self.stores.cloud.store(uri)?;
        let directory = uri.name().rsplit_once('/').map_or("", |(directory, _)| directory);
        let directory = object_store::path::Path::parse(directory)
            .map_err(|e| Error::invalid(format!("`{uri}` cannot be listed")).caused_by(e))?;
        let mut found = Vec::new();
        let mut listing = store.list(Some(&directory));
        while let Some(meta) = listing.try_next().await.map_err(|e| store_error(uri, e))? {
            let name = meta.location.as_ref();
            if name.starts_with(uri.name()) && name > after && found.len() < LIST_MAX {
                found.push(object_info(uri, &meta));
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found.truncate(limit);
        Ok(found)
    }

    /// Begins the object at `uri`.
    ///
    /// # Errors
    /// `NotFound` if the bucket does not exist, `ResourceExhausted` on a full disk, or where its project may keep no
    /// more.
    pub async fn writer(&self, uri: &ObjectUri, options: PutOptions) -> Result<ObjectWriter> {
        let target = match self.place(uri)? {
            Place::Cloud => {
                let store = self.stores.cloud.store(uri)?;
                let upload = store.put_multipart(&store_path(uri)?).await.map_err(|e| store_error(uri, e))?;
                Target::Store { store, upload: ObjectWriter::multipart(upload) }
            }
            place => {
                let (storage, uri) = (self.clone(), uri.clone());
                blocking(move || match place {
                    Place::File => storage.stores.files.stage(&uri).map(Target::File),
                    _ => storage.buckets().stage(true).map(Box::new).map(Target::Bucket),
                })
                .await?
            }
        };
        Ok(ObjectWriter::new(self.room_at(uri)?, self.clone(), uri.clone(), options, target))
    }

    /// Puts a small object at `uri`, whole or not at all.
    ///
    /// # Errors
    /// As [`Storage::writer`] and [`ObjectWriter::finish`].
    pub async fn put(&self, uri: &ObjectUri, bytes: Bytes, options: PutOptions) -> Result<ObjectInfo> {
        let mut writer = self.writer(uri, options).await?;
        writer.write(bytes).await?;
        writer.finish().await
    }

    /// Puts the file at `source`, synced and no longer written to, at `uri`. In a local bucket that costs
    /// no copy. `source` stays.
    ///
    /// # Errors
    /// As [`Storage::put`].
    pub async fn put_file(&self, uri: &ObjectUri, source: &Path) -> Result<ObjectInfo> {
        let source = source.to_owned();
        if matches!(self.place(uri)?, Place::Bucket) {
            let attempted = format!("writing {uri}");
            let from = source.clone();
            let bytes =
                blocking(move || std::fs::metadata(&from).map_err(|e| failed(attempted, e))).await?.len();
            let mut room = self.room_at(uri)?;
            room.ensure(bytes).await?;
            let (storage, uri) = (self.clone(), uri.clone());
            return blocking(move || storage.buckets().link(&source, uri.bucket(), uri.name())).await;
        }
        let mut writer = self.writer(uri, PutOptions::default()).await?;
        let attempted = format!("writing {uri}");
        let file = blocking(move || std::fs::File::open(source).map_err(|e| failed(attempted, e))).await?;
        let file = Arc::new(file);
        let mut offset = 0;
        loop {
            let reader = file.clone();
            let block = blocking(move || read_some(&reader, offset)).await?;
            if block.is_empty() {
                return writer.finish().await;
            }
            offset += block.len() as u64;
            writer.write(block).await?;
        }
    }

    /// Removes the object at `uri`.
    ///
    /// # Errors
    /// `NotFound`, naming the object or the bucket.
    pub async fn delete(&self, uri: &ObjectUri) -> Result<()> {
        match self.place(uri)? {
            Place::Cloud => {
                let store = self.stores.cloud.store(uri)?;
                store.delete(&store_path(uri)?).await.map_err(|e| store_error(uri, e))
            }
            place => {
                let (storage, uri) = (self.clone(), uri.clone());
                blocking(move || match place {
                    Place::File => storage.stores.files.delete(&uri),
                    _ => storage.buckets().delete(uri.bucket(), uri.name()),
                })
                .await
            }
        }
    }

    /// Finds out whether objects can be written below `uri`, before work is done for them.
    ///
    /// # Errors
    /// `NotFound` if the bucket does not exist, `PermissionDenied` or `FailedPrecondition` if it is out
    /// of reach.
    pub fn check_reachable(&self, uri: &ObjectUri) -> Result<()> {
        match self.place(uri)? {
            Place::Bucket => Ok(()),
            Place::File => self.stores.files.check(uri),
            Place::Cloud => self.stores.cloud.store(uri).map(|_| ()),
        }
    }

    /// Makes a local bucket.
    ///
    /// # Errors
    /// `InvalidArgument` if the name breaks Google's rules, `AlreadyExists`.
    pub async fn create_bucket(&self, bucket: &str, project: &str, location: &str) -> Result<BucketInfo> {
        let (storage, bucket) = (self.clone(), bucket.to_owned());
        let (project, location) = (project.to_owned(), location.to_owned());
        blocking(move || storage.buckets().create(&bucket, &project, &location)).await
    }

    /// What is known of a local bucket.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_bucket(&self, bucket: &str) -> Result<BucketInfo> {
        let (storage, bucket) = (self.clone(), bucket.to_owned());
        blocking(move || {
            let info = storage.buckets().get(&bucket)?;
            match &storage.project {
                Some(own) if !info.is_for(own) => Err(no_bucket(&bucket)),
                _ => Ok(info),
            }
        })
        .await
    }

    /// All local buckets that `project` made or that were made by hand, by name.
    ///
    /// # Errors
    /// If the data directory cannot be read.
    pub async fn list_buckets(&self, project: &str) -> Result<Vec<BucketInfo>> {
        let storage = self.clone();
        let mut buckets = blocking(move || storage.buckets().all()).await?;
        buckets.retain(|bucket| bucket.is_for(project));
        Ok(buckets)
    }

    /// Removes an empty local bucket.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` if it holds objects.
    pub async fn delete_bucket(&self, bucket: &str) -> Result<()> {
        self.get_bucket(bucket).await?;
        let (storage, bucket) = (self.clone(), bucket.to_owned());
        blocking(move || storage.buckets().remove(&bucket)).await
    }
}

fn read_some(file: &std::fs::File, offset: u64) -> Result<Bytes> {
    let mut block = vec![0; 1 << 20];
    let n = std::os::unix::fs::FileExt::read_at(file, &mut block, offset)
        .map_err(|e| failed("reading a finished part", e))?;
    block.truncate(n);
    Ok(Bytes::from(block))
}

/// Runs what may block on a thread made for it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::internal("running a file operation", e))?
}
