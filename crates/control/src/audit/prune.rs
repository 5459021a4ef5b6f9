//! Removing what was archived: noted first, so that the log can be verified whatever a crash leaves of it.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use super::{Anchor, Entry, Head, LINE_BYTES_MAX, Log, open, verify};
use crate::storage::{blocking, failed, sync_directory};
use crate::store::{self, MetadataStore};
use crate::{Error, Result, fault};

/// See [`super::Audit::prune`].
pub(super) async fn prune(
    mut log: OwnedMutexGuard<Log>,
    store: Arc<dyn MetadataStore>,
    path: Arc<Path>,
    through: Head,
) -> Result<()> {
    let base = log.anchor.base();
    if through.n <= base.n || through.n > log.anchor.n {
        return Err(Error::precondition(format!(
            "the log holds the entries {} to {} for good, and entry {} is none of them: nothing was removed",
            base.n + 1,
            log.anchor.n,
            through.n
        )));
    }
    let (at, bytes) = (Arc::clone(&path), log.bytes);
    blocking(move || check(&at, bytes, base, through)).await?;
    let archived = Some((through.n, through.digest));
    let mut anchor = Anchor { archived, ..log.anchor.clone() };
    let write = store::update(&mut anchor)?;
    store.commit(vec![write]).await?;
    log.anchor = anchor;
    let removing = |e| failed("removing archived audit entries", e);
    let (file, bytes, _) = blocking(move || {
        complete(&path, through).map_err(removing)?;
        open(&path).map_err(removing)
    })
    .await?;
    (log.file, log.bytes) = (Arc::new(file), bytes);
    Ok(())
}

/// Refuses an entry that is not in the log as it was written.
fn check(path: &Path, bytes: u64, base: Head, through: Head) -> Result<()> {
    let reading = |e| failed("reading the audit log", e);
    let file = File::open(path).map_err(reading)?;
    let verdict = verify(BufReader::new(file.take(bytes)), base, Some(through)).map_err(reading)?;
    match verdict.fault {
        None => Ok(()),
        Some(fault) => Err(Error::precondition(format!(
            "the audit log is not what was archived: {fault}. Nothing was removed"
        ))),
    }
}

/// Removes the entries up to `base` that are still in the log at `path`, if any are.
pub(super) fn complete(path: &Path, base: Head) -> io::Result<()> {
    let mut log = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let (mut archived, mut line) = (0, Vec::new());
    loop {
        line.clear();
        let read = Read::take(&mut log, LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\n").and_then(Entry::read) {
            Some((entry, _)) if entry.n <= base.n => archived += read as u64,
            // A line that cannot be read stays for those who verify.
            _ => break,
        }
    }
    if archived == 0 {
        return Ok(());
    }
    let mut rest = File::open(path)?;
    io::Seek::seek(&mut rest, io::SeekFrom::Start(archived))?;
    let staged = path.with_extension("new");
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut kept = options.open(&staged)?;
    fault::step()?;
    io::copy(&mut rest, &mut kept)?;
    kept.sync_all()?;
    fs::rename(&staged, path)?;
    sync_directory(path.parent().unwrap_or(path))
}
