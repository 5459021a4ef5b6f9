//! [`Control`]: the door to the control plane.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::answerer::{Answerer, Answerers};
use crate::artifact::{Artifacts, Digest};
use crate::audit::{self, Audit};
use crate::jobs::Runner;
use crate::keys::{KeyRing, keep_uses};
use crate::loader::{Loader, Wanted};
use crate::oidc::{self, Oidc};
use crate::operations::Running;
use crate::publisher::Publisher;
use crate::quota::{self, Books, Quotas};
use crate::room::Rooms;
use crate::storage::{Storage, StorageOptions, blocking};
use crate::store::{self, MetadataStore, SqliteStore};
use crate::usage::JobUsage;
use crate::web::SourceOptions;
use crate::{
    Boards, Catalogue, Datasets, Endpoints, Error, ErrorCode, Evaluations, Files, Job, JobKind, JobOptions,
    Jobs, Keys, Model, Models, Notes, Operations, Principal, Result, Timestamp,
};

/// How often idle models are looked for, at most and at least.
const REST_PAUSE_MIN: Duration = Duration::from_millis(250);
const REST_PAUSE_MAX: Duration = Duration::from_secs(30);

/// How to open a data directory.
#[derive(Clone)]
pub struct Options {
    /// Where everything is kept; created when absent. One process at a time may have it open.
    pub data_dir: PathBuf,
    /// Models that are loaded at once.
    pub workers: usize,
    /// What the operator decides about storage.
    pub storage: StorageOptions,
    /// How jobs use the machine.
    pub jobs: JobOptions,
    /// The file that says which identity providers are believed, and what for.
    pub oidc: Option<PathBuf>,
    /// Where models are pulled from.
    pub sources: SourceOptions,
    /// How language models are loaded.
    pub language: serving::LanguageOptions,
    /// What the endpoints are published to.
    pub router: serving::Router,
}

impl Options {
    /// The data directory `data_dir` with a router of its own, and as many workers as the machine has
    /// processors.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let (storage, jobs, sources) = Default::default();
        let (language, router) = (serving::LanguageOptions::default(), serving::Router::new());
        Options { data_dir: data_dir.into(), workers, storage, jobs, oidc: None, sources, language, router }
    }
}

/// The control plane of one data directory: registry, endpoints, jobs, keys. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    inner: Arc<Inner>,
}

/// What all clones share. Services reach it through the accessors of [`Control`].
struct Inner {
    options: Options,
    store: Arc<dyn MetadataStore>,
    storage: Storage,
    artifacts: Artifacts,
    audit: Audit,
    oidc: Arc<Oidc>,
    keys: KeyRing,
    books: Arc<Books>,
    running: Running,
    loader: Loader,
    publisher: Publisher,
    runner: Arc<Runner>,
    answerers: Answerers,
    /// Held, and with it the directory, until the last clone is gone.
    _lock: File,
}

impl Control {
    /// Opens the data directory: creates what is missing, brings the metadata up to date, takes up the
    /// work that a dead process left, and publishes what is deployed.
    ///
    /// # Errors
    /// If the directory cannot be used, another process has it, or its metadata is damaged.
    pub async fn open(options: Options) -> Result<Self> {
        create_private_dir(&options.data_dir)?;
        let lock = lock(&options.data_dir).await?;
        let store = SqliteStore::open(&store::file_in(&options.data_dir)).map_err(unusable)?;
        let store: Arc<dyn MetadataStore> = Arc::new(store);
        let audit = Audit::open(&options.data_dir, Arc::clone(&store)).await?;
        let keys = KeyRing::open(&options.data_dir, &*store).await?;
        let oidc = match &options.oidc {
            Some(path) => Oidc::open(path).await?,
            None => Oidc::default(),
        };
        let (limits, prices) = quota::stored(&*store).await?;
        let jobs = JobUsage::all(&*store).await?;
        let usage = options.data_dir.join("usage");
        let books = blocking(move || Books::open(&usage, limits, prices, &jobs)).await?;
        let (books, artifacts) = (Arc::new(books), Artifacts::open(&options.data_dir)?);
        let rooms = Rooms::new(Arc::clone(&books), Arc::clone(&store), artifacts.clone());
        let inner = Inner {
            storage: Storage::open_within(Some(rooms), &options.data_dir, &options.storage)?,
            artifacts,
            store,
            audit,
            oidc: Arc::new(oidc),
            keys,
            books,
            running: Running::default(),
            loader: Loader::new(options.workers, options.language),
            publisher: Publisher::new(options.router.clone()),
            runner: Arc::new(Runner::new(&options.jobs)),
            answerers: Answerers::default(),
            options,
            _lock: lock,
        };
        let control = Control { inner: Arc::new(inner) };
        control.operations().recover().await?;
        control.sweep().await?;
        control.files().sweep().await?;
        control.inner.publisher.publish_all(&control).await?;
        Runner::start(&control).await?;
        control.let_rest();
        tokio::spawn(keep_uses(control.downgrade()));
        tokio::spawn(audit::keep_writing(control.downgrade()));
        tokio::spawn(oidc::keep_reading(control.downgrade(), Arc::clone(&control.inner.oidc)));
        Ok(control)
    }

    /// Has models that nobody asks looked for now and then, for as long as this is open.
    fn let_rest(&self) {
        let idle_max = self.options().language.idle_max;
        if idle_max.is_zero() {
            return;
        }
        let (control, pause) = (self.downgrade(), (idle_max / 4).clamp(REST_PAUSE_MIN, REST_PAUSE_MAX));
        tokio::spawn(async move {
            while let Some(control) = control.upgrade() {
                let router = control.options().router.clone();
                drop(control);
                // Giving memory back may take a while.
                let _ = tokio::task::spawn_blocking(move || router.rest()).await;
                tokio::time::sleep(pause).await;
            }
        });
    }

    /// Removes stored artifacts that no version has any more. Only at the opening, when nothing is being
    /// registered.
    async fn sweep(&self) -> Result<()> {
        let models = store::list_all::<Model>(self.store(), None).await?;
        // Artifacts beside an empty registry are a lost database rather than the deletion of everything.
        if models.is_empty() {
            return Ok(());
        }
        let versions = models.iter().flat_map(|model| &model.versions);
        let mut keep: HashSet<Digest> = versions.flat_map(|version| version.artifacts()).collect();
        let jobs = store::list_all::<Job>(self.store(), None).await?;
        // What a pull was about to register when the process died.
        keep.extend(jobs.iter().filter(|job| !job.state.is_final()).filter_map(|job| match &job.kind {
            JobKind::Pull(pull) => Some(Artifacts::digest_of_file(&pull.file, pull.digest?, pull.bytes?)),
            _ => None,
        }));
        let artifacts = self.artifacts().clone();
        let swept = tokio::task::spawn_blocking(move || artifacts.collect(&keep)).await;
        if let Err(error) = swept.map_err(|e| Error::internal("sweeping artifacts", e)).flatten() {
            tracing::warn!(%error, "artifacts of deleted versions were not removed");
        }
        Ok(())
    }

    /// The registry of models and their versions.
    pub fn models(&self) -> Models {
        Models::new(self.clone())
    }

    /// What serves where.
    pub fn endpoints(&self) -> Endpoints {
        Endpoints::new(self.clone())
    }

    /// Named sets of labelled rows.
    pub fn datasets(&self) -> Datasets {
        Datasets::new(self.clone())
    }

    /// Curves of runs.
    pub fn boards(&self) -> Boards {
        Boards::new(self.clone())
    }

    /// What clients keep of their own work.
    pub fn notes(&self) -> Notes {
        Notes::new(self.clone())
    }

    /// Figures of versions.
    pub fn evaluations(&self) -> Evaluations {
        Evaluations::new(self.clone())
    }

    /// Files of clients, and those that jobs leave.
    pub fn files(&self) -> Files {
        Files::new(self.clone())
    }

    /// Durable jobs.
    pub fn jobs(&self) -> Jobs {
        Jobs::new(self.clone())
    }

    /// The models that can be pulled by a name, as of now.
    ///
    /// # Errors
    /// As [`Catalogue::open`].
    pub async fn catalogue(&self) -> Result<Catalogue> {
        let data_dir = self.options().data_dir.clone();
        blocking(move || Catalogue::open(&data_dir)).await
    }

    /// Work that can be waited on.
    pub fn operations(&self) -> Operations {
        Operations::new(self.clone())
    }

    /// The keys.
    pub fn keys(&self) -> Keys {
        Keys::new(self.clone())
    }

    /// Whose credential this is, coming from `from`: a key, or a token of an identity provider. Touches memory only.
    pub fn authenticate(&self, credential: &str, from: IpAddr) -> Option<Arc<Principal>> {
        let now = Timestamp::now();
        let known = self.inner.keys.holder(credential, from, now);
        known.or_else(|| self.inner.oidc.principal(credential, now).map(Arc::new))
    }

    /// Who did what, and who was refused.
    pub fn audit(&self) -> &Audit {
        &self.inner.audit
    }

    /// Quotas, prices and usage.
    pub fn quotas(&self) -> Quotas {
        Quotas::new(self.clone())
    }

    /// What projects and keys may use and have used.
    pub fn books(&self) -> &Arc<Books> {
        &self.inner.books
    }

    /// Objects by address, as `project` sees them.
    pub fn storage(&self, project: &str) -> Storage {
        self.inner.storage.of(project)
    }

    /// The artifact store.
    pub fn artifacts(&self) -> &Artifacts {
        &self.inner.artifacts
    }

    /// What serves the endpoints.
    pub fn router(&self) -> &serving::Router {
        &self.inner.options.router
    }

    /// What it was opened with.
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// Has `answerer` answer the lines of batches in `protocol`, from now on. It must not keep this control plane.
    pub fn answer_with(&self, protocol: &str, answerer: Arc<dyn Answerer>) {
        self.inner.answerers.add(protocol, answerer);
    }

    pub(crate) fn answerers(&self) -> &Answerers {
        &self.inner.answerers
    }

    /// The metadata.
    pub(crate) fn store(&self) -> &dyn MetadataStore {
        &*self.inner.store
    }

    pub(crate) fn key_ring(&self) -> &KeyRing {
        &self.inner.keys
    }

    pub(crate) fn running(&self) -> &Running {
        &self.inner.running
    }

    pub(crate) fn runner(&self) -> &Arc<Runner> {
        &self.inner.runner
    }

    /// The same, without keeping the directory open.
    pub(crate) fn downgrade(&self) -> WeakControl {
        WeakControl(Arc::downgrade(&self.inner))
    }

    /// The model of `parts`, often an artifact's digest alone, shared by all who use it.
    ///
    /// # Errors
    /// `NotFound` or `DataLoss` of an artifact; `InvalidArgument` if it is no model that can be served.
    pub(crate) async fn load_model(&self, wanted: impl Into<Wanted>) -> Result<Arc<serving::Model>> {
        self.inner.loader.load(self.artifacts(), wanted.into()).await
    }

    /// Has the router serve the endpoint `name` as it is now stored.
    pub(crate) async fn publish(&self, name: &str) -> Result<()> {
        self.inner.publisher.publish(self, name).await
    }

    pub(crate) fn publisher(&self) -> &Publisher {
        &self.inner.publisher
    }
}

/// A [`Control`] that does not keep the directory open.
#[derive(Clone)]
pub(crate) struct WeakControl(Weak<Inner>);

impl WeakControl {
    /// The control plane, if someone still has it open.
    pub(crate) fn upgrade(&self) -> Option<Control> {
        self.0.upgrade().map(|inner| Control { inner })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.runner.close();
    }
}

fn create_private_dir(directory: &Path) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory).map_err(|e| {
        Error::precondition(format!("the data directory {} cannot be created: {e}", directory.display()))
            .caused_by(e)
    })
}

/// How long a directory that another has open is waited for: a program that was told to end may still be
/// writing its last page, and a child that is just being started has its parent's files for a moment.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

const LOCK_RETRY: Duration = Duration::from_millis(20);

/// Takes the data directory for this process. The lock goes with the process, however it ends.
async fn lock(data_dir: &Path) -> Result<File> {
    let path = data_dir.join("lock");
    let failed = |e: std::io::Error| {
        Error::precondition(format!("the data directory {} cannot be used: {e}", data_dir.display()))
            .caused_by(e)
    };
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) if Instant::now() < until => tokio::time::sleep(LOCK_RETRY).await,
            Err(TryLockError::WouldBlock) => return Err(in_use(data_dir, file)),
        }
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

/// What to say when another holds the lock `file` of `data_dir`.
fn in_use(data_dir: &Path, file: File) -> Error {
    let mut holder = String::new();
    // Only for the message: the file says it or it does not.
    let _ = file.take(32).read_to_string(&mut holder);
    let holder = match holder.trim() {
        "" => String::new(),
        process => format!(" (process {process})"),
    };
    Error::precondition(format!(
        "the data directory {} is in use by another Meuse{holder}; stop that one, use its address, or choose \
         another directory",
        data_dir.display()
    ))
}

/// The store's own words, for the operator who starts the program.
fn unusable(error: store::StoreError) -> Error {
    Error::new(ErrorCode::FailedPrecondition, error.to_string()).caused_by(error)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    /// Opens `data_dir` with nothing behind it.
    pub(crate) async fn open(data_dir: &Path) -> Control {
        Control::open(Options::new(data_dir)).await.unwrap()
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_used_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = Control::open(Options::new(&file)).await.err().expect("it is a file");
        assert!(error.message.contains("data directory"), "{}", error.message);

        std::fs::write(directory.path().join("meuse.db"), "no database, but long enough to be taken for one")
            .unwrap();
        let error = Control::open(Options::new(directory.path())).await.err().expect("it is damaged");
        assert!(error.message.contains("backup"), "{}", error.message);
    }

    #[tokio::test]
    async fn keys_without_their_pepper_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        drop(open(directory.path()).await);
        std::fs::remove_file(directory.path().join("pepper")).unwrap();
        let error = Control::open(Options::new(directory.path())).await.err().expect("it is lost");
        assert_eq!(error.code, ErrorCode::DataLoss);
    }
}
