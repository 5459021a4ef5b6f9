//! [`ObjectWriter`]: an object in the making, seen by nobody until it is whole.

use bytes::{Bytes, BytesMut};
use object_store::{ObjectStore, WriteMultipart};
use std::sync::Arc;

use super::cloud::{object_info, store_error, store_path};
use super::files::StagedFile;
use super::local::Staged;
use super::object::{ObjectInfo, PutOptions};
use super::{ObjectUri, Storage, blocking};
use crate::room::Room;
use crate::{Error, Result};

/// Bytes gathered before a local file is written to.
const LOCAL_BUFFER_BYTES: usize = 1 << 20;

/// Bytes of one part of an upload elsewhere.
const PART_BYTES: usize = 8 << 20;

/// Parts of an upload on their way at once.
const PARTS_IN_FLIGHT: usize = 4;

/// An object in the making. It appears, whole, when [`ObjectWriter::finish`] succeeds; dropped before,
/// it leaves nothing behind.
pub struct ObjectWriter {
    storage: Storage,
    uri: ObjectUri,
    options: PutOptions,
    target: Target,
    buffer: BytesMut,
    written: u64,
    room: Room,
}

pub(super) enum Target {
    Bucket(Box<Staged>),
    File(StagedFile),
    Store {
        store: Arc<dyn ObjectStore>,
        upload: WriteMultipart,
    },
    /// A write failed: nothing more can be done.
    Broken,
}

impl ObjectWriter {
    pub(super) fn new(
        room: Room,
        storage: Storage,
        uri: ObjectUri,
        options: PutOptions,
        target: Target,
    ) -> Self {
        ObjectWriter { storage, uri, options, target, buffer: BytesMut::new(), written: 0, room }
    }

    /// How an upload elsewhere is cut into parts.
    pub(super) fn multipart(upload: Box<dyn object_store::MultipartUpload>) -> WriteMultipart {
        WriteMultipart::new_with_chunk_size(upload, PART_BYTES)
    }

    /// Bytes taken so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The address that the object will have.
    pub fn uri(&self) -> &ObjectUri {
        &self.uri
    }

    /// Makes sure of room for an object of at least `bytes`, before any of them are there.
    ///
    /// # Errors
    /// `ResourceExhausted` if the project may not keep so much.
    pub async fn expect(&mut self, bytes: u64) -> Result<()> {
        self.room.ensure(bytes).await
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// `ResourceExhausted` on a full disk, or if the project may not keep so much. After an error the object cannot be finished.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.written += bytes.len() as u64;
        if let Err(error) = self.room.ensure(self.written).await {
            // Nothing of it is kept any longer.
            self.target = Target::Broken;
            return Err(error);
        }
        if let Target::Store { upload, .. } = &mut self.target {
            upload.wait_for_capacity(PARTS_IN_FLIGHT).await.map_err(|e| store_error(&self.uri, e))?;
            upload.put(bytes);
            return Ok(());
        }
        self.buffer.extend_from_slice(&bytes);
        if self.buffer.len() >= LOCAL_BUFFER_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<()> {
        let buffer = self.buffer.split().freeze();
        if buffer.is_empty() {
            return Ok(());
        }
        self.target = match std::mem::replace(&mut self.target, Target::Broken) {
            Target::Bucket(mut staged) => {
                blocking(move || staged.write(&buffer).map(|()| Target::Bucket(staged))).await?
            }
            Target::File(mut staged) => {
                blocking(move || staged.write(&buffer).map(|()| Target::File(staged))).await?
            }
            other => other,
        };
        Ok(())
    }

    /// Makes the object appear, whole, in place of any of that name.
    ///
    /// # Errors
    /// `ResourceExhausted` on a full disk, `FailedPrecondition` if a condition of [`PutOptions`] does not
    /// hold. Nothing is visible then.
    pub async fn finish(mut self) -> Result<ObjectInfo> {
        self.flush().await?;
        // The room is held until the object counts itself.
        let (uri, options, storage, _room) = (self.uri, self.options, self.storage, self.room);
        match self.target {
            Target::Bucket(staged) => {
                blocking(move || storage.buckets().commit(*staged, uri.bucket(), uri.name(), options)).await
            }
            Target::File(staged) => blocking(move || staged.commit(&uri)).await,
            Target::Store { store, upload } => {
                upload.finish().await.map_err(|e| store_error(&uri, e))?;
                let meta = object_store::ObjectStoreExt::head(&*store, &store_path(&uri)?).await;
                meta.map(|meta| object_info(&uri, &meta)).map_err(|e| store_error(&uri, e))
            }
            Target::Broken => Err(Error::precondition(format!("writing {uri} has failed before"))),
        }
    }
}
