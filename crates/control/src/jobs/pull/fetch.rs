//! [`Fetch`]: one source's bytes onto the disk, from where an earlier attempt stopped.
//!
//! The bytes lie in `part`; how many there are is how long it is, so that a process that dies loses none.
//! Beside it, `part.json` says which version of them it is: the next attempt asks for the rest of that
//! version, and begins anew where there is another.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE};
use reqwest::{Response, StatusCode, Url};
use serde::{Deserialize, Serialize};

use super::locate::{Located, Place};
use crate::jobs::context::Context;
use crate::name::project_in;
use crate::storage::{Blocks, ObjectUri, failed};
use crate::web::{self, Web, shown};
use crate::{Error, ErrorCode, JobKind, Result, fault};

/// Bytes that a source may have at most.
const BYTES_MAX: u64 = 64 << 30;
/// How often the job's row is told how far it is.
const NOTE_EVERY: Duration = Duration::from_millis(500);
/// How often a signal to stop is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// Attempts in a row that may bring nothing: of a source that never gave a byte, and of one that did.
const TRIES: u32 = 2;
const TRIES_ONCE_BEGUN: u32 = 8;
/// The pause after a failed attempt: doubled each time, up to the last.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(20);

/// One source's bytes on their way.
pub(super) struct Fetch<'a> {
    pub(super) context: &'a Context,
    pub(super) web: &'a Web,
    /// Where they are kept.
    pub(super) directory: PathBuf,
    /// How many they must be, where that is known.
    pub(super) bytes: Option<u64>,
}

/// Which version of the bytes `part` holds the beginning of.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Mark {
    /// What its host calls the version.
    validator: Option<String>,
    /// Bytes in all.
    total: Option<u64>,
}

/// Bytes that are coming.
struct Coming {
    stream: Stream,
    /// The place of the first among all.
    start: u64,
    mark: Mark,
}

enum Stream {
    Web(Url, Response),
    Object(Blocks),
    /// Nothing is left to come.
    Empty,
}

impl Fetch<'_> {
    /// Where the bytes are once they are all here.
    pub(super) fn part(&self) -> PathBuf {
        self.directory.join("part")
    }

    fn mark_path(&self) -> PathBuf {
        self.directory.join("part.json")
    }

    /// Gets all bytes. Says whether some of them were here before, which may have been another version's.
    ///
    /// # Errors
    /// `Unavailable` if the source does not give them even after waiting; others at once. What is here
    /// stays.
    pub(super) async fn fetch(&self, from: &Located) -> Result<bool> {
        fs::create_dir_all(&self.directory).map_err(|e| failed("keeping what is pulled", e))?;
        let mut resumed = false;
        let mut failures = 0;
        loop {
            let before = self.here()?;
            resumed |= before > 0;
            let error = match self.attempt(from, before).await {
                Ok(()) => return Ok(resumed),
                Err(error) => error,
            };
            self.context.check()?;
            if error.code != ErrorCode::Unavailable {
                return Err(error);
            }
            let here = self.here()?;
            failures = if here > before { 1 } else { failures + 1 };
            if failures >= if here > 0 { TRIES_ONCE_BEGUN } else { TRIES } {
                return Err(error);
            }
            tracing::info!(%error, cause = ?error.source, here, "a pull was interrupted; it is tried again");
            let pause = PAUSE.saturating_mul(1 << failures.min(10)).min(PAUSE_MAX);
            stoppable(self.context, tokio::time::sleep(pause)).await?;
        }
    }

    fn here(&self) -> Result<u64> {
        match fs::metadata(self.part()) {
            Ok(about) => Ok(about.len()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(e) => Err(failed("keeping what is pulled", e)),
        }
    }

    /// Gets what is missing, in one request.
    async fn attempt(&self, from: &Located, here: u64) -> Result<()> {
        let mark = self.mark();
        if here > 0 && mark.total == Some(here) {
            return Ok(());
        }
        let opening = async {
            match &from.place {
                Place::Web(url) => self.open_web(url, here, &mark).await,
                Place::Object(uri) => self.open_object(uri, here, &mark).await,
            }
        };
        let mut coming = stoppable(self.context, opening).await??;
        self.check_total(from, coming.mark.total)?;
        let mut room = self.context.storage().room(project_in(&self.context.job.name));
        room.ensure(coming.mark.total.unwrap_or_default()).await?;
        let mut file = self.append_at(coming.start)?;
        write_mark(&self.mark_path(), &coming.mark)?;
        let limit = coming.mark.total.unwrap_or(BYTES_MAX);
        let mut done = coming.start;
        let mut noted = Instant::now();
        self.note(done, coming.mark.total).await?;
        while let Some(block) = stoppable(self.context, coming.stream.next()).await?? {
            done += block.len() as u64;
            if done > limit {
                return Err(Error::precondition(format!("the source gives more than {limit} bytes")));
            }
            room.ensure(done).await?;
            fault::step()
                .and_then(|()| file.write_all(&block))
                .map_err(|e| failed("keeping what is pulled", e))?;
            if noted.elapsed() >= NOTE_EVERY {
                self.note(done, coming.mark.total).await?;
                noted = Instant::now();
            }
        }
        file.sync_all().map_err(|e| failed("keeping what is pulled", e))?;
        if coming.mark.total.is_some_and(|total| done < total) {
            return Err(Error::new(ErrorCode::Unavailable, "the connection ended before all bytes had come"));
        }
        coming.mark.total = Some(done);
        write_mark(&self.mark_path(), &coming.mark)?;
        self.note(done, Some(done)).await
    }

    fn check_total(&self, from: &Located, total: Option<u64>) -> Result<()> {
        let expected = if from.member.is_some() { None } else { self.bytes.or(from.bytes) };
        match (expected, total) {
            (Some(expected), Some(total)) if expected != total => Err(Error::precondition(format!(
                "the source has {total} bytes, and the file that is wanted has {expected}"
            ))),
            (_, Some(total)) if total > BYTES_MAX => {
                Err(Error::invalid(format!("the source has {total} bytes; at most {BYTES_MAX} are pulled")))
            }
            _ => Ok(()),
        }
    }

    /// `part`, cut to `length` bytes, to be written on from there.
    fn append_at(&self, length: u64) -> Result<File> {
        let open = File::options().append(true).create(true).open(self.part());
        let cut = open.and_then(|file| file.set_len(length).map(|()| file));
        cut.map_err(|e| failed("keeping what is pulled", e))
    }

    async fn open_web(&self, url: &Url, here: u64, mark: &Mark) -> Result<Coming> {
        let mut headers = HeaderMap::new();
        if here > 0 {
            insert(&mut headers, RANGE, &format!("bytes={here}-"));
            if let Some(validator) = &mark.validator {
                insert(&mut headers, IF_RANGE, validator);
            }
        }
        let response = self.web.get(url, &headers).await?;
        let (start, total) = match response.status() {
            StatusCode::PARTIAL_CONTENT => range(&response)?,
            StatusCode::RANGE_NOT_SATISFIABLE => return self.nothing_left(url, here, &response),
            _ => (0, response.content_length()),
        };
        if start != 0 && start != here {
            return Err(Error::precondition(format!(
                "{} answers with another part than asked for",
                shown(url)
            )));
        }
        let mark = Mark { validator: validator(&response), total };
        Ok(Coming { stream: Stream::Web(url.clone(), response), start, mark })
    }

    /// The host has no byte beyond those that are here: then they are all, or they are another version's.
    fn nothing_left(&self, url: &Url, here: u64, response: &Response) -> Result<Coming> {
        let told = header(response, CONTENT_RANGE).and_then(|text| text.strip_prefix("bytes */"));
        if here > 0 && told.and_then(|total| total.parse().ok()) == Some(here) {
            let mark = Mark { validator: validator(response), total: Some(here) };
            return Ok(Coming { stream: Stream::Empty, start: here, mark });
        }
        drop(self.append_at(0)?);
        Err(Error::new(ErrorCode::Unavailable, format!("{} has another version by now", shown(url))))
    }

    async fn open_object(&self, uri: &ObjectUri, here: u64, mark: &Mark) -> Result<Coming> {
        let storage = self.context.storage();
        let mut blocks = storage.read(uri, here, None).await?;
        let (etag, size) = (blocks.info().etag.clone(), blocks.info().size);
        let is_same = here <= size && mark.validator.as_ref() == Some(&etag);
        let start = if is_same { here } else { 0 };
        if start != here {
            blocks = storage.read(uri, 0, None).await?;
        }
        Ok(Coming {
            stream: Stream::Object(blocks),
            start,
            mark: Mark { validator: Some(etag), total: Some(size) },
        })
    }

    /// Tells those who watch the job. A job that gets on is not one that takes the process down.
    async fn note(&self, done: u64, total: Option<u64>) -> Result<()> {
        self.context
            .note(|job| {
                if let JobKind::Pull(pull) = &mut job.kind {
                    let gets_on = done > pull.transfer.done;
                    (pull.transfer.done, pull.transfer.total) = (done, total);
                    if gets_on {
                        job.crashes = 0;
                    }
                }
            })
            .await
    }

    fn mark(&self) -> Mark {
        let text = fs::read(self.mark_path()).unwrap_or_default();
        // One that cannot be read is none: then the bytes are checked by their digest alone.
        serde_json::from_slice(&text).unwrap_or_default()
    }
}

impl Stream {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        match self {
            Stream::Web(url, response) => web::next(url, response).await,
            Stream::Object(blocks) => blocks.next().await,
            Stream::Empty => Ok(None),
        }
    }
}

/// `work`, or the reason why the job is to stop.
pub(super) async fn stoppable<T>(context: &Context, work: impl Future<Output = T>) -> Result<T> {
    let stopped = async {
        loop {
            if let Err(error) = context.check() {
                return error;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        biased;
        done = work => Ok(done),
        error = stopped => Err(error),
    }
}

/// Written aside and moved in whole: a process that dies leaves the old one or the new one.
fn write_mark(path: &Path, mark: &Mark) -> Result<()> {
    let text = serde_json::to_vec(mark).map_err(|e| Error::internal("noting what is pulled", e))?;
    let aside = path.with_extension("new");
    let written = fs::write(&aside, text).and_then(|()| fs::rename(&aside, path));
    written.map_err(|e| failed("noting what is pulled", e))
}

fn insert(headers: &mut HeaderMap, name: reqwest::header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn header(response: &Response, name: reqwest::header::HeaderName) -> Option<&str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

/// What names the version in a later request: a strong tag, or the time of the last change.
fn validator(response: &Response) -> Option<String> {
    let tag = header(response, ETAG).filter(|tag| !tag.starts_with("W/"));
    tag.or_else(|| header(response, LAST_MODIFIED)).map(str::to_owned)
}

/// The first byte's place and the whole length, as `Content-Range: bytes 5-9/10` says.
fn range(response: &Response) -> Result<(u64, Option<u64>)> {
    let text = header(response, CONTENT_RANGE).unwrap_or_default();
    read_range(text).ok_or_else(|| {
        let message = format!("{} answers with a part and does not say which", shown(response.url()));
        Error::precondition(message)
    })
}

fn read_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((start.parse().ok()?, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(read_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(read_range("bytes 0-9/*"), Some((0, None)));
        for wrong in ["", "bytes", "bytes */10", "bytes -1-9/10", "items 5-9/10", "bytes 5-9/x"] {
            assert_eq!(read_range(wrong), None, "{wrong}");
        }
    }
}
