//! [`Audit`]: who did what, and who was refused, in a log to which lines are only added.
//!
//! Each line holds the digest of the one before. An act is written, and on disk, before it is done; how it ended is
//! written after it. The last line's number and digest are kept in the metadata store, too, so that a log whose end was
//! cut off is found out as well as one in which a line was altered, removed or moved. Where the beginning was archived
//! and removed, its last number and digest are kept there as well: the rest is verified from these.

mod denied;
mod entry;
mod prune;
mod verify;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, OwnedMutexGuard};

pub use denied::Denial;
use denied::Denials;
pub use entry::{Entry, Event};
pub use verify::{Head, Verdict, verify};

use crate::artifact::Digest;
use crate::control::WeakControl;
use crate::storage::{blocking, failed, sync_directory};
use crate::store::{self, Kind, MetadataStore, Record};
use crate::{ALL_PROJECTS, Error, ErrorCode, Result, Role, Timestamp};

/// Bytes of a line at most.
const LINE_BYTES_MAX: u64 = 8 << 10;
/// Characters of a resource's name that an entry keeps.
const NAME_CHARS_MAX: usize = 512;
/// How often refusals are written.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long an act waits to be written down before it is refused.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that a reader gives at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// An act that somebody is about to do.
#[derive(Debug, Clone)]
pub struct Act {
    /// The key's public part.
    pub key: String,
    /// What the key's holder may do.
    pub role: Role,
    /// The project that is acted in.
    pub project: String,
    /// Where the request came from.
    pub from: Option<std::net::IpAddr>,
    /// The request's id.
    pub request: String,
    /// Which route.
    pub what: String,
    /// To which resource.
    pub resource: Option<String>,
}

/// The audit log. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    path: Arc<Path>,
    store: Arc<dyn MetadataStore>,
    log: Arc<Mutex<Log>>,
    denials: Arc<std::sync::Mutex<Denials>>,
}

/// The file, and where it ends.
struct Log {
    file: Arc<File>,
    bytes: u64,
    head: Head,
    anchor: Anchor,
}

/// The head as the metadata store has it.
#[derive(Clone, Serialize, Deserialize)]
struct Anchor {
    n: u64,
    digest: Digest,
    /// The last entry that was archived, as the log no longer has to hold it.
    #[serde(default)]
    archived: Option<(u64, Digest)>,
    create_time: Timestamp,
    etag: String,
}

impl Anchor {
    /// What the log begins after.
    fn base(&self) -> Head {
        self.archived.map_or_else(Head::empty, |(n, digest)| Head { n, digest })
    }
}

impl Record for Anchor {
    const KIND: Kind = Kind::AuditHead;

    fn name(&self) -> &str {
        "audit"
    }

    fn parent(&self) -> String {
        String::new()
    }

    fn etag(&self) -> &str {
        &self.etag
    }

    fn created(&self) -> Timestamp {
        self.create_time
    }

    fn stamp(&mut self, etag: String, _: Timestamp) {
        self.etag = etag;
    }
}

impl Audit {
    /// Opens the log of a data directory, and notes in it that the server begins.
    pub(crate) async fn open(data_dir: &Path, store: Arc<dyn MetadataStore>) -> Result<Self> {
        let path = log_file(data_dir);
        let anchor = match store::get::<Anchor>(&*store, "audit").await {
            Ok(anchor) => anchor,
            Err(error) if error.code == ErrorCode::NotFound => {
                let Head { n, digest } = Head::empty();
                let (create_time, etag) = (Timestamp::now(), String::new());
                let mut anchor = Anchor { n, digest, archived: None, create_time, etag };
                let write = anchor.insert()?;
                store.commit(vec![write]).await?;
                anchor
            }
            Err(error) => return Err(error),
        };
        let (at, base) = (path.clone(), anchor.base());
        let (file, bytes, last) = blocking(move || {
            let opening = |e| failed("opening the audit log", e);
            prune::complete(&at, base).map_err(opening)?;
            open(&at).map_err(opening)
        })
        .await?;
        let known = Head { n: anchor.n, digest: anchor.digest };
        let head = match last {
            Some(last) if last.n >= known.n => last,
            // What follows is chained to what was lost, so that the gap stays in sight.
            _ => {
                if known != base {
                    tracing::error!(
                        entries = known.n,
                        "the end of the audit log is lost: `meuse audit verify` tells more"
                    );
                }
                known
            }
        };
        let log = Log { file: Arc::new(file), bytes, head, anchor };
        let audit =
            Audit { path: path.into(), store, log: Arc::new(Mutex::new(log)), denials: Arc::default() };
        let start = Entry {
            what: Some(concat!("meuse ", env!("CARGO_PKG_VERSION")).to_owned()),
            ..Entry::new(Event::Start)
        };
        audit.write(vec![start], true).await?;
        Ok(audit)
    }

    /// Writes `act` down, on disk, and gives the entry's number. Only then may it be done.
    ///
    /// # Errors
    /// `Unavailable` if it cannot be written: then nothing may be done.
    pub async fn begin(&self, act: Act) -> Result<u64> {
        let entry = Entry {
            key: Some(act.key),
            role: Some(act.role),
            project: Some(act.project),
            from: act.from,
            request: Some(act.request),
            what: Some(act.what),
            resource: act.resource.map(shortened),
            ..Entry::new(Event::Act)
        };
        let unwritten = |cause: Box<dyn std::error::Error + Send + Sync>| {
            let message = "the act could not be written into the audit log, so it was not done; the server's log has the cause";
            Error::new(ErrorCode::Unavailable, message).caused_by(cause)
        };
        match tokio::time::timeout(PATIENCE, self.write(vec![entry], true)).await {
            Ok(Ok(n)) => Ok(n),
            Ok(Err(error)) => Err(unwritten(error.into())),
            Err(elapsed) => Err(unwritten(elapsed.into())),
        }
    }

    /// Notes how the act `of` ended, of which `resource` tells more. It is on disk some time later.
    pub fn end(&self, of: u64, project: Option<String>, status: u16, resource: Option<String>) {
        let resource = resource.map(shortened);
        let entry =
            Entry { of: Some(of), project, status: Some(status), resource, ..Entry::new(Event::Outcome) };
        let audit = self.clone();
        tokio::spawn(async move { audit.write_or_warn(vec![entry], false).await });
    }

    /// Notes a refused request. Those that are alike become one entry some time later.
    pub fn denied(&self, denial: Denial) {
        self.denials.lock().unwrap_or_else(PoisonError::into_inner).count(denial);
    }

    /// Writes what waits to be written.
    pub async fn flush(&self) {
        let entries = self.denials.lock().unwrap_or_else(PoisonError::into_inner).take(Timestamp::now());
        self.write_or_warn(entries, true).await;
    }

    /// Whether the log is as it was written.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn verify(&self) -> Result<Verdict> {
        let reading = |e| failed("reading the audit log", e);
        self.flush().await;
        let log = self.log.lock().await;
        let (base, known) = (log.anchor.base(), Head { n: log.anchor.n, digest: log.anchor.digest });
        let (path, bytes) = (Arc::clone(&self.path), log.bytes);
        drop(log);
        blocking(move || {
            let file = File::open(path).map_err(reading)?;
            verify(BufReader::new(file.take(bytes)), base, Some(known)).map_err(reading)
        })
        .await
    }

    /// The last entry that was archived and removed, if any was.
    pub async fn archived(&self) -> Option<Head> {
        self.log.lock().await.anchor.archived.map(|(n, digest)| Head { n, digest })
    }

    /// Removes the entries up to `through`, which somebody has an archive of. What is left is verified from there.
    ///
    /// # Errors
    /// `FailedPrecondition` if there is no such entry with this digest, or the log up to there is not as it was written:
    /// nothing is removed then.
    pub async fn prune(&self, through: Head) -> Result<()> {
        let (log, store) = (Arc::clone(&self.log).lock_owned().await, Arc::clone(&self.store));
        // Once begun it is done, whether or not anybody waits for it.
        let pruning = tokio::spawn(prune::prune(log, store, Arc::clone(&self.path), through));
        pruning.await.map_err(|e| Error::internal("removing archived audit entries", e))?
    }

    /// The lines after entry `after`, as they are now: those of `project`, or all.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn read(&self, after: u64, project: &str) -> Result<AuditReader> {
        self.flush().await;
        let bytes = self.log.lock().await.bytes;
        let path = Arc::clone(&self.path);
        let file = blocking(move || File::open(path).map_err(|e| failed("reading the audit log", e))).await?;
        let project = (project != ALL_PROJECTS).then(|| project.to_owned());
        Ok(AuditReader { lines: Some(BufReader::new(file.take(bytes))), after, project })
    }

    async fn write_or_warn(&self, entries: Vec<Entry>, durable: bool) {
        if let Err(error) = self.write(entries, durable).await {
            tracing::error!(%error, cause = ?error.source, "the audit log could not be written");
        }
    }

    /// Adds `entries` and gives the last one's number. Once begun it is done, whether or not anybody waits for it.
    async fn write(&self, entries: Vec<Entry>, durable: bool) -> Result<u64> {
        let (log, store) = (Arc::clone(&self.log).lock_owned().await, Arc::clone(&self.store));
        let writing = tokio::spawn(add(log, store, entries, durable));
        writing.await.map_err(|e| Error::internal("writing the audit log", e))?
    }
}

async fn add(
    mut log: OwnedMutexGuard<Log>,
    store: Arc<dyn MetadataStore>,
    entries: Vec<Entry>,
    durable: bool,
) -> Result<u64> {
    if entries.is_empty() && log.anchor.n == log.head.n {
        return Ok(log.head.n);
    }
    let (mut head, mut lines) = (log.head, Vec::new());
    for entry in entries {
        let entry = Entry { n: head.n + 1, previous: head.digest, ..entry };
        let (line, digest) = entry.line()?;
        lines.extend_from_slice(&line);
        lines.push(b'\n');
        head = Head { n: entry.n, digest };
    }
    let (file, bytes) = (Arc::clone(&log.file), log.bytes);
    let written = lines.len() as u64;
    blocking(move || {
        let added = append(&file, bytes, &lines, durable);
        added.map_err(|e| failed("writing the audit log", e))
    })
    .await?;
    log.bytes += written;
    log.head = head;
    if durable && log.anchor.n != head.n {
        let mut anchor = Anchor { n: head.n, digest: head.digest, ..log.anchor.clone() };
        let write = store::update(&mut anchor)?;
        store.commit(vec![write]).await?;
        log.anchor = anchor;
    }
    Ok(head.n)
}

/// Adds `lines` at the end, or leaves the file as it was.
fn append(mut file: &File, bytes: u64, lines: &[u8], durable: bool) -> io::Result<()> {
    let mut write = || {
        crate::fault::step()?;
        file.seek(SeekFrom::Start(bytes))?;
        file.write_all(lines)?;
        if durable { file.sync_data() } else { Ok(()) }
    };
    write().inspect_err(|_| {
        // A line that cannot be taken back is overwritten by the next one.
        let _ = file.set_len(bytes);
    })
}

/// The file, made where it is not there; its length in whole lines; and its last entry, if that can be read.
fn open(path: &Path) -> io::Result<(File, u64, Option<Head>)> {
    let directory = path.parent().unwrap_or(path);
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    sync_directory(directory)?;
    let length = file.metadata()?.len();
    let start = length.saturating_sub(2 * LINE_BYTES_MAX);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    (&file).take(2 * LINE_BYTES_MAX).read_to_end(&mut tail)?;
    // A line without an end was being written when the process died: nobody was told of it.
    let kept = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    tail.truncate(kept);
    let bytes = start + kept as u64;
    file.set_len(bytes)?;
    let last =
        tail.strip_suffix(b"\n").and_then(|lines| Entry::read(lines.rsplit(|byte| *byte == b'\n').next()?));
    Ok((file, bytes, last.map(|(entry, digest)| Head { n: entry.n, digest })))
}

fn shortened(name: String) -> String {
    match name.char_indices().nth(NAME_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name,
    }
}

/// Writes refusals now and then, as long as the control plane is there.
pub(crate) async fn keep_writing(control: WeakControl) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(audit) = control.upgrade().map(|control| control.audit().clone()) else { return };
        audit.flush().await;
    }
}

/// Lines of the log, in pieces.
pub struct AuditReader {
    /// `None` while they are being read.
    lines: Option<BufReader<io::Take<File>>>,
    after: u64,
    project: Option<String>,
}

impl AuditReader {
    /// Some more whole lines; `None` after the last.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(mut lines) = self.lines.take() else { return Ok(None) };
        let (after, project) = (self.after, self.project.clone());
        let (lines, chunk) = blocking(move || {
            let mut chunk = Vec::new();
            let more = fill(&mut lines, after, project.as_deref(), &mut chunk);
            let more = more.map_err(|e| failed("reading the audit log", e))?;
            Ok((more.then_some(lines), chunk))
        })
        .await?;
        self.lines = lines;
        Ok(if chunk.is_empty() && self.lines.is_none() { None } else { Some(chunk) })
    }
}

/// Reads until a chunk is full, and tells whether there may be more. Lines that cannot be read are everybody's.
fn fill(
    lines: &mut impl BufRead,
    after: u64,
    project: Option<&str>,
    chunk: &mut Vec<u8>,
) -> io::Result<bool> {
    let mut line = Vec::new();
    while chunk.len() < CHUNK_BYTES {
        line.clear();
        if lines.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(false);
        }
        let entry = line.strip_suffix(b"\n").and_then(Entry::read).map(|(entry, _)| entry);
        let wanted = match (&entry, project) {
            (Some(entry), None) => entry.n > after,
            (Some(entry), Some(project)) => entry.n > after && entry.project.as_deref() == Some(project),
            (None, project) => project.is_none(),
        };
        if wanted {
            chunk.extend_from_slice(&line);
        }
    }
    Ok(true)
}

/// Where the log of a data directory lies.
fn log_file(data_dir: &Path) -> PathBuf {
    data_dir.join("audit").join("log.jsonl")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::control::tests::open as open_control;

    fn act(what: &str) -> Act {
        Act {
            key: "0123456789abcdef".to_owned(),
            role: Role::Admin,
            project: "p".to_owned(),
            from: None,
            request: "r".to_owned(),
            what: what.to_owned(),
            resource: None,
        }
    }

    #[tokio::test]
    async fn an_act_is_on_disk_before_it_may_be_done_and_a_lost_end_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let log = log_file(directory.path());
        let control = open_control(directory.path()).await;
        control.audit().begin(act("POST /first")).await.unwrap();
        let n = control.audit().begin(act("POST /second")).await.unwrap();
        assert!(fs::read_to_string(&log).unwrap().contains("POST /second"));
        control.audit().end(n, None, 200, Some("x".repeat(10_000)));
        assert_eq!(control.audit().verify().await.unwrap().fault, None);
        drop(control);

        // A line that was being written when the process died is nothing; the chain goes on.
        let whole = fs::read(&log).unwrap();
        fs::write(&log, [&whole[..], b"{\"n\":9,\"ti"].concat()).unwrap();
        let control = open_control(directory.path()).await;
        assert_eq!(control.audit().verify().await.unwrap().fault, None);
        control.audit().begin(act("POST /third")).await.unwrap();
        drop(control);

        // The last line is taken away, the log is opened, and more is written: the gap stays.
        let whole = fs::read_to_string(&log).unwrap();
        let end = whole.trim_end().rfind('\n').unwrap() + 1;
        fs::write(&log, &whole[..end]).unwrap();
        let control = open_control(directory.path()).await;
        assert!(control.audit().verify().await.unwrap().fault.is_some());
        control.audit().begin(act("POST /fourth")).await.unwrap();
        assert!(control.audit().verify().await.unwrap().fault.unwrap().contains("missing"));
    }

    #[tokio::test]
    async fn what_is_archived_is_removed_and_the_rest_is_verified_from_there() {
        let directory = tempfile::tempdir().unwrap();
        let log = log_file(directory.path());
        let control = open_control(directory.path()).await;
        for n in 0..5 {
            control.audit().begin(act(&format!("POST /{n}"))).await.unwrap();
        }
        let whole = fs::read(&log).unwrap();
        let third = whole.split(|byte| *byte == b'\n').nth(2).and_then(Entry::read).unwrap();
        let through = Head { n: third.0.n, digest: third.1 };
        let refused = control.audit().prune(Head { digest: Digest::of(b""), ..through }).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::FailedPrecondition);
        assert!(control.audit().prune(Head { n: 1000, ..through }).await.is_err());
        assert_eq!(fs::read(&log).unwrap(), whole);
        control.audit().prune(through).await.unwrap();
        assert!(whole.ends_with(&fs::read(&log).unwrap()) && fs::read(&log).unwrap().len() < whole.len());
        assert!(control.audit().prune(through).await.is_err());
        control.audit().begin(act("POST /later")).await.unwrap();
        let verdict = control.audit().verify().await.unwrap();
        assert_eq!((verdict.fault, verdict.head.n), (None, 7));
        drop(control);

        // It was noted that they are archived, and the process died before they were removed.
        let rest = fs::read(&log).unwrap();
        let early: Vec<u8> =
            whole.split_inclusive(|byte| *byte == b'\n').take(3).flatten().copied().collect();
        fs::write(&log, [early, rest.clone()].concat()).unwrap();
        let control = open_control(directory.path()).await;
        assert!(fs::read(&log).unwrap().starts_with(&rest));
        assert_eq!(control.audit().verify().await.unwrap().fault, None);
        drop(control);

        // One entry less is found as ever, and so is a log that is gone.
        let rest = fs::read(&log).unwrap();
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for less in [&rest[end..], &[]] {
            fs::write(&log, less).unwrap();
            let control = open_control(directory.path()).await;
            assert!(control.audit().verify().await.unwrap().fault.is_some());
        }
    }

    #[tokio::test]
    async fn a_project_reads_its_own_entries() {
        let directory = tempfile::tempdir().unwrap();
        let control = open_control(directory.path()).await;
        control.audit().begin(act("POST /mine")).await.unwrap();
        control.audit().begin(Act { project: "q".to_owned(), ..act("POST /theirs") }).await.unwrap();
        let all = |project: &'static str| {
            let audit = control.audit().clone();
            async move {
                let mut reader = audit.read(0, project).await.unwrap();
                let mut text = Vec::new();
                while let Some(chunk) = reader.next().await.unwrap() {
                    text.extend(chunk);
                }
                String::from_utf8(text).unwrap()
            }
        };
        let mine = all("p").await;
        assert!(mine.contains("/mine") && !mine.contains("/theirs") && mine.lines().count() == 1, "{mine}");
        assert!(all("*").await.contains("/theirs"));
    }
}
