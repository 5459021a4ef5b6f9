//! [`Rooms`]: how much projects keep here, against how much they may.
//!
//! What is kept is counted where it lies, whenever somebody asks for room: files and models by their rows, objects by
//! their buckets. Beside that, [`Room`] is held for bytes that are on their way.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::artifact::Artifacts;
use crate::quota::{Allowance, Books};
use crate::storage::{Storage, blocking};
use crate::store::{self, MetadataStore};
use crate::{Error, ErrorCode, Model, Result, StoredFile};

/// How often what is kept is counted anew while others finish.
const ATTEMPTS_MAX: usize = 32;

/// Where to look up what projects keep, and may.
pub(crate) struct Rooms {
    books: Arc<Books>,
    store: Arc<dyn MetadataStore>,
    artifacts: Artifacts,
}

/// Room that is held for bytes on their way. It is given back when this is dropped: by then they are counted where they
/// lie, or gone.
#[derive(Debug)]
pub(crate) struct Room {
    storage: Storage,
    project: String,
    held: u64,
    allowance: Option<Arc<Allowance>>,
}

impl Rooms {
    pub(crate) fn new(books: Arc<Books>, store: Arc<dyn MetadataStore>, artifacts: Artifacts) -> Self {
        Rooms { books, store, artifacts }
    }

    fn allowance(&self, project: &str) -> Option<Arc<Allowance>> {
        self.books.of_project(project)
    }

    /// Bytes of the files and models of `project`. A model's artifact counts once, however many versions have it.
    async fn in_rows(&self, project: &str) -> Result<u64> {
        let files = store::list_of_project::<StoredFile>(&*self.store, project).await?;
        let models = store::list_of_project::<Model>(&*self.store, project).await?;
        let versions = models.iter().flat_map(|model| &model.versions);
        let kept: BTreeSet<_> = versions.flat_map(|version| version.artifacts()).collect();
        let artifacts = self.artifacts.clone();
        let of_models: u64 =
            blocking(move || Ok(kept.iter().map(|artifact| artifacts.bytes(artifact)).sum())).await?;
        Ok(files.iter().map(|file| file.bytes).sum::<u64>().saturating_add(of_models))
    }
}

impl fmt::Debug for Rooms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rooms").finish_non_exhaustive()
    }
}

impl Room {
    /// No room yet, for what `project` is about to keep.
    pub(crate) fn new(storage: Storage, project: &str) -> Room {
        Room { storage, project: project.to_owned(), held: 0, allowance: None }
    }

    /// Sees to it that there is room for `total` bytes, those included that it has room for already.
    ///
    /// # Errors
    /// `ResourceExhausted` if the project may not keep so much.
    pub(crate) async fn ensure(&mut self, total: u64) -> Result<()> {
        let need = total.saturating_sub(self.held);
        let Some(rooms) = self.storage.rooms().filter(|_| need > 0) else { return Ok(()) };
        let Some(allowance) = rooms.allowance(&self.project) else { return Ok(()) };
        // The longer it grows, the longer the steps, as far as there is room for them.
        let step = need.max(self.held / 4);
        for _ in 0..ATTEMPTS_MAX {
            let (Some(_), as_of) = allowance.stored_limit() else { return Ok(()) };
            let kept = self.storage.kept(&self.project).await?;
            let (mut more, mut outcome) = (step, allowance.reserve_stored(step, kept, as_of));
            if matches!(outcome, Some(Err(_))) {
                (more, outcome) = (need, allowance.reserve_stored(need, kept, as_of));
            }
            match outcome {
                // What was on its way has arrived meanwhile.
                None => {}
                Some(Ok(())) => {
                    self.held += more;
                    self.allowance = Some(allowance);
                    return Ok(());
                }
                Some(Err(exceeded)) => return Err(exceeded.into()),
            }
        }
        let message = format!("too many write to project {} at once; try again", self.project);
        Err(Error::new(ErrorCode::Aborted, message))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(allowance) = &self.allowance {
            allowance.release_stored(self.held);
        }
    }
}

impl Storage {
    /// No room yet, for what `project` is about to keep.
    pub(crate) fn room(&self, project: &str) -> Room {
        Room::new(self.clone(), project)
    }

    /// Bytes that `project` keeps here.
    ///
    /// # Errors
    /// If they cannot be counted.
    pub(crate) async fn kept(&self, project: &str) -> Result<u64> {
        let in_rows = match self.rooms() {
            Some(rooms) => rooms.in_rows(project).await?,
            None => 0,
        };
        let (storage, project) = (self.clone(), project.to_owned());
        let in_buckets = blocking(move || storage.bytes_in_buckets(&project)).await?;
        Ok(in_rows.saturating_add(in_buckets))
    }
}
