//! [`SqliteStore`]: the metadata port on one SQLite file.
//!
//! One thread writes, two read, each with its own connection; they are fed through bounded channels and
//! every wait has a deadline. Commits that wait together share one transaction (and one sync to disk),
//! each within a savepoint of its own.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, ErrorCode as SqliteCode, OpenFlags, OptionalExtension, Row, params};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{Document, Kind, MetadataStore, StoreError, Write};
use crate::Timestamp;

/// Requests that may wait for a thread; more wait outside, until their deadline.
const QUEUE: usize = 256;
/// Commits that share one transaction at most.
const GROUP_MAX: usize = 64;
/// How long a caller waits for an answer.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long SQLite waits for a lock that another process holds (a backup tool, say).
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Reading threads.
const READERS: usize = 2;

/// Steps from an empty file to the present schema. Never edited, only added to.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE documents (
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        parent TEXT NOT NULL,
        etag TEXT NOT NULL,
        created TEXT NOT NULL,
        updated TEXT NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (kind, name)
    ) STRICT;
    CREATE INDEX documents_by_parent ON documents (kind, parent, name);
"];

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

struct Commit {
    writes: Vec<Write>,
    reply: Reply<()>,
}

enum Read {
    Get {
        kind: Kind,
        name: String,
        reply: Reply<Option<Document>>,
    },
    List {
        kind: Kind,
        parent: Option<String>,
        after: Option<String>,
        limit: usize,
        reply: Reply<Vec<Document>>,
    },
}

/// Documents in one SQLite file. Dropping it answers what is queued and closes the file: a copy of the directory
/// taken afterwards is whole.
#[derive(Debug)]
pub struct SqliteStore {
    writer: mpsc::Sender<Commit>,
    readers: mpsc::Sender<Read>,
    // Last, so that the channels are closed before the threads are waited for.
    _threads: Threads,
}

/// Threads that are waited for when this is dropped.
#[derive(Debug, Default)]
struct Threads(Vec<thread::JoinHandle<()>>);

impl Threads {
    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
        let spawned = thread::Builder::new().name(name.to_owned()).spawn(run);
        self.0.push(spawned.map_err(|e| StoreError::Failed(e.into()))?);
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for thread in self.0.drain(..) {
            // One that panicked has answered nobody; its callers were told.
            let _ = thread.join();
        }
    }
}

impl SqliteStore {
    /// Opens the file at `path`, creating it (mode 0600) when absent, checks it and brings its schema up
    /// to date.
    ///
    /// # Errors
    /// If it cannot be opened, is damaged, or was written by a newer version of this program.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        create_private(path).map_err(|e| StoreError::Failed(e.into()))?;
        let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        check(&connection, path)?;
        migrate(&mut connection, path)?;
        let mut threads = Threads::default();
        let (writer, commits) = mpsc::channel(QUEUE);
        threads.spawn("metadata-writer", move || write_loop(connection, commits))?;
        let (readers, reads) = mpsc::channel(QUEUE);
        let reads = Arc::new(Mutex::new(reads));
        for _ in 0..READERS {
            let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            let reads = Arc::clone(&reads);
            threads.spawn("metadata-reader", move || read_loop(&connection, &reads))?;
        }
        Ok(SqliteStore { writer, readers, _threads: threads })
    }
}

#[async_trait]
impl MetadataStore for SqliteStore {
    async fn get(&self, kind: Kind, name: &str) -> Result<Option<Document>, StoreError> {
        ask(&self.readers, |reply| Read::Get { kind, name: name.to_owned(), reply }).await
    }

    async fn list(
        &self,
        kind: Kind,
        parent: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Document>, StoreError> {
        let (parent, after) = (parent.map(str::to_owned), after.map(str::to_owned));
        ask(&self.readers, |reply| Read::List { kind, parent, after, limit, reply }).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        ask(&self.writer, |reply| Commit { writes, reply }).await
    }
}

/// Sends a request to a thread and waits for its answer, both within [`DEADLINE`].
async fn ask<R, T>(to: &mpsc::Sender<R>, request: impl FnOnce(Reply<T>) -> R) -> Result<T, StoreError> {
    let (reply, answer) = oneshot::channel();
    to.send_timeout(request(reply), DEADLINE).await.map_err(|_| StoreError::Timeout)?;
    match timeout(DEADLINE, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(StoreError::Failed("its thread ended".into())),
        Err(_) => Err(StoreError::Timeout),
    }
}

/// Makes the file private before SQLite opens it: SQLite gives its side files the mode of the main one.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

fn connect(path: &Path, access: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|e| failed(&e))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|e| failed(&e))?;
    if access.contains(OpenFlags::SQLITE_OPEN_READ_WRITE) {
        let mode: String = connection
            .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
            .map_err(|e| opening(&e, path))?;
        if mode != "wal" {
            return Err(StoreError::Failed(
                format!("{} cannot use a write-ahead log; put it on a local disk", path.display()).into(),
            ));
        }
        // FULL: an acknowledged commit survives a power cut, not only the death of the process.
        connection.pragma_update(None, "synchronous", "FULL").map_err(|e| failed(&e))?;
    }
    Ok(connection)
}

fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|e| opening(&e, path))?;
    if verdict == "ok" { Ok(()) } else { Err(damaged(path, &verdict)) }
}

fn damaged(path: &Path, what: &str) -> StoreError {
    StoreError::Damaged(format!(
        "{} is not a sound SQLite database ({what}); restore it with its -wal file from a backup, or move \
         it away to begin empty",
        path.display()
    ))
}

fn opening(error: &rusqlite::Error, path: &Path) -> StoreError {
    match error.sqlite_error_code() {
        Some(SqliteCode::DatabaseCorrupt | SqliteCode::NotADatabase) => damaged(path, &error.to_string()),
        _ => failed(error),
    }
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let transaction = connection.transaction().map_err(|e| failed(&e))?;
    transaction
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS migrations (version INTEGER PRIMARY KEY, applied TEXT NOT NULL) STRICT",
        )
        .map_err(|e| failed(&e))?;
    let present: u32 = transaction
        .query_row("SELECT COALESCE(MAX(version), 0) FROM migrations", [], |row| row.get(0))
        .map_err(|e| failed(&e))?;
    let present = present as usize;
    if present > MIGRATIONS.len() {
        return Err(StoreError::Failed(
            format!(
                "{} was written by a newer version of Meuse (schema {present}, this one knows {}); use that \
                 version",
                path.display(),
                MIGRATIONS.len()
            )
            .into(),
        ));
    }
    for (version, step) in MIGRATIONS.iter().enumerate().skip(present) {
        transaction.execute_batch(step).map_err(|e| failed(&e))?;
        transaction
            .execute(
                "INSERT INTO migrations (version, applied) VALUES (?1, ?2)",
                params![version as i64 + 1, Timestamp::now().to_string()],
            )
            .map_err(|e| failed(&e))?;
    }
    transaction.commit().map_err(|e| failed(&e))
}

fn write_loop(mut connection: Connection, mut commits: mpsc::Receiver<Commit>) {
    let mut group = Vec::with_capacity(GROUP_MAX);
    while commits.blocking_recv_many(&mut group, GROUP_MAX) > 0 {
        // Whoever gave up waiting in the queue is not surprised by a late write.
        group.retain(|commit| !commit.reply.is_closed());
        commit_group(&mut connection, std::mem::take(&mut group));
    }
}

/// Runs each commit in a savepoint of one transaction, then answers all.
fn commit_group(connection: &mut Connection, group: Vec<Commit>) {
    let mut outcomes = Vec::with_capacity(group.len());
    let ended = (|| {
        let mut transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for commit in group {
            let savepoint = transaction.savepoint()?;
            let outcome = commit.writes.iter().try_for_each(|write| apply(&savepoint, write));
            // Dropping a savepoint that was not committed rolls it back.
            if outcome.is_ok() {
                savepoint.commit()?;
            }
            outcomes.push((commit.reply, outcome));
        }
        transaction.commit()
    })();
    for (reply, outcome) in outcomes {
        let outcome = match &ended {
            Ok(()) => outcome,
            Err(error) => Err(failed(error)),
        };
        // A caller that stopped waiting does not want to know.
        let _ = reply.send(outcome);
    }
}

fn apply(connection: &Connection, write: &Write) -> Result<(), StoreError> {
    match write {
        Write::Insert(document) => insert(connection, document),
        Write::Update { document, etag } => update(connection, document, etag),
        Write::Delete { kind, name, etag } => {
            let mut delete = connection
                .prepare_cached("DELETE FROM documents WHERE kind = ?1 AND name = ?2 AND etag = ?3")
                .map_err(|e| failed(&e))?;
            let rows = delete.execute(params![kind.as_str(), name, etag]).map_err(|e| failed(&e))?;
            one_row(rows, *kind, name)
        }
        Write::Require { kind, name, etag } => {
            let stored = exists(
                connection,
                "SELECT 1 FROM documents WHERE kind = ?1 AND name = ?2 AND etag = ?3",
                &[kind.as_str(), name, etag],
            )?;
            one_row(usize::from(stored), *kind, name)
        }
        Write::RequireNone { kind, parent } => {
            let sql = "SELECT 1 FROM documents WHERE kind = ?1 AND parent = ?2 LIMIT 1";
            if exists(connection, sql, &[kind.as_str(), parent])? {
                return Err(StoreError::HasChildren { kind: *kind, parent: parent.clone() });
            }
            Ok(())
        }
    }
}

fn insert(connection: &Connection, document: &Document) -> Result<(), StoreError> {
    let mut insert = connection
        .prepare_cached(
            "INSERT INTO documents (kind, name, parent, etag, created, updated, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (kind, name) DO NOTHING",
        )
        .map_err(|e| failed(&e))?;
    let Document { kind, name, parent, etag, created, updated, body } = document;
    let rows = insert
        .execute(params![kind.as_str(), name, parent, etag, created.to_string(), updated.to_string(), body])
        .map_err(|e| failed(&e))?;
    match rows {
        0 => Err(StoreError::Exists { kind: *kind, name: name.clone() }),
        _ => Ok(()),
    }
}

fn update(connection: &Connection, document: &Document, read: &str) -> Result<(), StoreError> {
    let mut update = connection
        .prepare_cached(
            "UPDATE documents SET parent = ?3, etag = ?4, created = ?5, updated = ?6, body = ?7
             WHERE kind = ?1 AND name = ?2 AND etag = ?8",
        )
        .map_err(|e| failed(&e))?;
    let Document { kind, name, parent, etag, created, updated, body } = document;
    let rows = update
        .execute(params![
            kind.as_str(),
            name,
            parent,
            etag,
            created.to_string(),
            updated.to_string(),
            body,
            read
        ])
        .map_err(|e| failed(&e))?;
    one_row(rows, *kind, name)
}

fn one_row(rows: usize, kind: Kind, name: &str) -> Result<(), StoreError> {
    if rows == 1 { Ok(()) } else { Err(StoreError::Stale { kind, name: name.to_owned() }) }
}

fn exists(connection: &Connection, sql: &str, params: &[&str]) -> Result<bool, StoreError> {
    let mut select = connection.prepare_cached(sql).map_err(|e| failed(&e))?;
    select.exists(rusqlite::params_from_iter(params)).map_err(|e| failed(&e))
}

fn read_loop(connection: &Connection, reads: &Mutex<mpsc::Receiver<Read>>) {
    loop {
        // Held while waiting: the other reader waits its turn, and takes over once this one has work.
        let read = reads.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        // Callers that stopped waiting do not want to know.
        match read {
            None => return,
            Some(Read::Get { kind, name, reply }) => drop(reply.send(get(connection, kind, &name))),
            Some(Read::List { kind, parent, after, limit, reply }) => {
                drop(reply.send(list(connection, kind, parent.as_deref(), after.as_deref(), limit)));
            }
        }
    }
}

const COLUMNS: &str = "name, parent, etag, created, updated, body";

fn get(connection: &Connection, kind: Kind, name: &str) -> Result<Option<Document>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM documents WHERE kind = ?1 AND name = ?2");
    let mut select = connection.prepare_cached(&sql).map_err(|e| failed(&e))?;
    let row = select.query_row(params![kind.as_str(), name], |row| raw(row, kind)).optional();
    row.map_err(|e| failed(&e))?.map(parsed).transpose()
}

fn list(
    connection: &Connection,
    kind: Kind,
    parent: Option<&str>,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Document>, StoreError> {
    let of_parent = if parent.is_some() { "AND parent = ?4" } else { "AND ?4 IS NULL" };
    let sql = format!(
        "SELECT {COLUMNS} FROM documents WHERE kind = ?1 AND name > ?2 {of_parent} ORDER BY name LIMIT ?3"
    );
    let mut select = connection.prepare_cached(&sql).map_err(|e| failed(&e))?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = select
        .query_map(params![kind.as_str(), after.unwrap_or(""), limit, parent], |row| raw(row, kind))
        .map_err(|e| failed(&e))?;
    rows.map(|row| parsed(row.map_err(|e| failed(&e))?)).collect()
}

/// A row whose times are still text.
type RawRow = (Document, String, String);

fn raw(row: &Row<'_>, kind: Kind) -> rusqlite::Result<RawRow> {
    let document = Document {
        kind,
        name: row.get(0)?,
        parent: row.get(1)?,
        etag: row.get(2)?,
        created: Timestamp::UNIX_EPOCH,
        updated: Timestamp::UNIX_EPOCH,
        body: row.get(5)?,
    };
    Ok((document, row.get(3)?, row.get(4)?))
}

fn parsed((mut document, created, updated): RawRow) -> Result<Document, StoreError> {
    let time = |text: &str| {
        text.parse().map_err(|_| StoreError::Damaged(format!("{} has no time: {text:?}", document.name)))
    };
    (document.created, document.updated) = (time(&created)?, time(&updated)?);
    Ok(document)
}

fn failed(error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(SqliteCode::DiskFull) => StoreError::Full,
        Some(SqliteCode::DatabaseBusy | SqliteCode::DatabaseLocked) => StoreError::Timeout,
        Some(SqliteCode::DatabaseCorrupt | SqliteCode::NotADatabase) => {
            StoreError::Damaged(error.to_string())
        }
        // The borrowed error cannot be kept; its words can.
        _ => StoreError::Failed(error.to_string().into()),
    }
}

/// Where the metadata of a data directory lies.
pub(crate) fn file_in(data_dir: &Path) -> PathBuf {
    data_dir.join("meuse.db")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    fn document(name: &str) -> Document {
        let now = Timestamp::now();
        Document {
            kind: Kind::Model,
            name: name.to_owned(),
            parent: "p".to_owned(),
            etag: "e".to_owned(),
            created: now,
            updated: now,
            body: "{}".to_owned(),
        }
    }

    #[tokio::test]
    async fn what_was_committed_is_there_after_reopening() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("meuse.db");
        let written = document("m");
        SqliteStore::open(&path).unwrap().commit(vec![Write::Insert(written.clone())]).await.unwrap();
        let store = SqliteStore::open(&path).unwrap();
        assert_eq!(store.get(Kind::Model, "m").await.unwrap(), Some(written));
    }

    #[tokio::test]
    async fn a_dropped_store_has_closed_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("meuse.db");
        for n in 0..20 {
            let store = SqliteStore::open(&path).unwrap();
            store.commit(vec![Write::Insert(document(&format!("m{n}")))]).await.unwrap();
            drop(store);
            // SQLite leaves the write-ahead log only for the sole connection.
            let alone = Connection::open(&path).unwrap();
            alone.busy_timeout(Duration::ZERO).unwrap();
            let mode: String = alone.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0)).unwrap();
            assert_eq!(mode, "delete");
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn its_files_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("meuse.db")).unwrap();
        store.commit(vec![Write::Insert(document("m"))]).await.unwrap();
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        }
    }

    #[test]
    fn a_damaged_file_is_refused_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("meuse.db");
        std::fs::write(&path, b"this is not a database at all, whatever its name says").unwrap();
        let error = SqliteStore::open(&path).unwrap_err();
        assert!(matches!(&error, StoreError::Damaged(what) if what.contains("backup")), "{error}");
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("meuse.db");
        drop(SqliteStore::open(&path).unwrap());
        let connection = Connection::open(&path).unwrap();
        connection.execute("INSERT INTO migrations (version, applied) VALUES (99, 'then')", []).unwrap();
        drop(connection);
        let error = SqliteStore::open(&path).unwrap_err().to_string();
        assert!(error.contains("newer version"), "{error}");
    }

    #[test]
    fn every_migration_runs_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("meuse.db");
        for _ in 0..3 {
            drop(SqliteStore::open(&path).unwrap());
        }
        let connection = Connection::open(&path).unwrap();
        let rows: u32 =
            connection.query_row("SELECT COUNT(*) FROM migrations", [], |row| row.get(0)).unwrap();
        assert_eq!(rows as usize, MIGRATIONS.len());
    }
}
