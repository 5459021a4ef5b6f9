//! Uploads over several requests.
//!
//! A session lives in memory: after a restart its address answers 404, and clients begin again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use control::storage::ObjectWriter;
use http::header::{CONTENT_RANGE, HeaderName, HeaderValue, LOCATION, RANGE};
use http::{Response as HttpResponse, StatusCode};
use tokio::sync::Mutex;

use super::upload::{Description, finish, verify};
use super::{Address, allow_bucket, stores, wire};
use crate::http::{Call, Handler, ReplyBody, Response, bytes_reply, handler, json_reply};
use crate::{Code, Fault};

/// Sessions open at once.
const SESSIONS_MAX: usize = 1000;
/// A session that nothing arrives in for so long is given up.
const IDLE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The uploads that are going on.
#[derive(Default)]
pub(super) struct Sessions {
    open: SyncMutex<HashMap<String, Session>>,
    count: AtomicU64,
}

#[derive(Clone)]
struct Session {
    project: String,
    upload: Arc<Mutex<Upload>>,
    touched: Instant,
}

struct Upload {
    description: Description,
    /// Taken when the upload is finished or has failed.
    writer: Option<ObjectWriter>,
}

impl Sessions {
    fn add(&self, project: String, upload: Upload) -> Result<String, Fault> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, session| session.touched.elapsed() < IDLE_MAX);
        if open.len() >= SESSIONS_MAX {
            let message = format!("{SESSIONS_MAX} uploads are going on already; finish or cancel one");
            return Err(Fault::new(Code::ResourceExhausted, message));
        }
        // The key guards a session, not the secrecy of its name.
        let start = std::time::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_nanos());
        let id = format!("{start:x}-{:x}", self.count.fetch_add(1, Ordering::Relaxed));
        let session = Session { project, upload: Arc::new(Mutex::new(upload)), touched: Instant::now() };
        open.insert(id.clone(), session);
        Ok(id)
    }

    fn find(&self, call: &Call, id: &str) -> Result<Arc<Mutex<Upload>>, Fault> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let own = call.principal.as_ref().map_or("", |principal| principal.project.as_str());
        match open.get_mut(id).filter(|session| session.project == own) {
            Some(session) => {
                session.touched = Instant::now();
                Ok(Arc::clone(&session.upload))
            }
            None => Err(Fault::not_found("there is no such upload (any more): begin it again")),
        }
    }

    fn remove(&self, id: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

/// `POST ?uploadType=resumable`: a session, whose address is in `Location`.
pub(super) async fn begin(call: Call, address: &Address, sessions: &Sessions) -> Result<Response, Fault> {
    let content_type = call.header("x-upload-content-type").map(str::to_owned);
    let project = call.principal.as_ref().map_or("", |principal| principal.project.as_str()).to_owned();
    let (storage, base) = (stores(&call), call.base());
    let said = call.header("x-upload-content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let description = Description::read(&call.body.read().await?)?;
    let (uri, options) = description.target(address, content_type)?;
    let mut writer = storage.writer(&uri, options).await?;
    writer.expect(said).await?;
    let id = sessions.add(project, Upload { description, writer: Some(writer) })?;
    let location =
        format!("{base}/upload/storage/v1/b/{}/o?uploadType=resumable&upload_id={id}", address.bucket());
    let mut reply = bytes_reply(StatusCode::OK, "application/json", "");
    let broken = |e| Fault::internal("naming the upload", e);
    reply.headers_mut().insert(LOCATION, HeaderValue::from_str(&location).map_err(broken)?);
    let id = HeaderValue::from_str(&id).map_err(broken)?;
    reply.headers_mut().insert(HeaderName::from_static("x-guploader-uploadid"), id);
    Ok(reply)
}

/// `PUT ?upload_id=`: the next piece, or the question how much is there.
pub(super) fn go_on(sessions: Arc<Sessions>) -> Handler {
    handler(move |call: Call| {
        let sessions = Arc::clone(&sessions);
        async move {
            let address = Address::of(&call)?;
            allow_bucket(&call, address.bucket()).await?;
            let id = address.parameter("upload_id").unwrap_or("").to_owned();
            let upload = sessions.find(&call, &id)?;
            let mut upload = upload.lock().await;
            let outcome = receive(call, &mut upload).await;
            let over =
                upload.writer.is_none() || outcome.as_ref().is_err_and(|f| f.status().is_server_error());
            if over {
                sessions.remove(&id);
            }
            outcome
        }
    })
}

/// `DELETE ?upload_id=`: nothing of it stays. 499 is what Google answers.
pub(super) fn give_up(sessions: Arc<Sessions>) -> Handler {
    handler(move |call: Call| {
        let sessions = Arc::clone(&sessions);
        async move {
            let address = Address::of(&call)?;
            let id = address.parameter("upload_id").unwrap_or("");
            sessions.find(&call, id)?;
            sessions.remove(id);
            Ok(bytes_reply(StatusCode::from_u16(499).unwrap_or(StatusCode::OK), "application/json", ""))
        }
    })
}

/// What a `Content-Range` says: the first byte of this piece and the object's size, each where known.
#[derive(Debug, PartialEq)]
struct Piece {
    first: Option<u64>,
    total: Option<u64>,
}

fn piece(text: Option<&str>) -> Result<Piece, Fault> {
    let Some(text) = text else { return Ok(Piece { first: Some(0), total: None }) };
    let malformed = || Fault::invalid(format!("content-range {text:?} is not like `bytes 0-9/10`"));
    let (range, total) = text.strip_prefix("bytes ").and_then(|t| t.split_once('/')).ok_or_else(malformed)?;
    let total = if total == "*" { None } else { Some(total.parse().map_err(|_| malformed())?) };
    if range == "*" {
        return Ok(Piece { first: None, total });
    }
    let (first, _) = range.split_once('-').ok_or_else(malformed)?;
    Ok(Piece { first: Some(first.parse().map_err(|_| malformed())?), total })
}

async fn receive(mut call: Call, upload: &mut Upload) -> Result<Response, Fault> {
    let header = call.header(CONTENT_RANGE.as_str()).map(str::to_owned);
    let piece = piece(header.as_deref())?;
    let gone = || Fault::not_found("this upload is over: begin it again");
    let writer = upload.writer.as_mut().ok_or_else(gone)?;
    if let Some(first) = piece.first {
        let there = writer.written();
        if first > there {
            return Err(Fault::invalid(format!(
                "this piece begins at {first}, but only {there} bytes are there"
            )));
        }
        // What has arrived before is sent again after a broken connection: skip it.
        let mut skip = there - first;
        while let Some(mut bytes) = call.body.next_piece().await? {
            let old = skip.min(bytes.len() as u64);
            skip -= old;
            let new: Bytes = bytes.split_off(old as usize);
            if !new.is_empty() {
                writer.write(new).await?;
            }
        }
    }
    let there = writer.written();
    // Without a header the piece is the whole; with one, the total says when it is.
    let complete = header.is_none() || piece.total.is_some_and(|total| there >= total);
    if !complete {
        return Ok(incomplete(there));
    }
    let writer = upload.writer.take().ok_or_else(gone)?;
    let info = finish(writer).await?;
    verify(&stores(&call), &info, &upload.description).await?;
    json_reply(StatusCode::OK, &wire::object(&info, &call.base()))
}

/// 308: so much is there, send the rest.
fn incomplete(there: u64) -> Response {
    let mut reply = HttpResponse::new(ReplyBody::Full(Bytes::new()));
    *reply.status_mut() = StatusCode::PERMANENT_REDIRECT;
    if there > 0
        && let Ok(range) = HeaderValue::from_str(&format!("bytes=0-{}", there - 1))
    {
        reply.headers_mut().insert(RANGE, range);
    }
    reply
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn content_ranges_are_read() {
        for (text, first, total) in [
            (None, Some(0), None),
            (Some("bytes 0-9/10"), Some(0), Some(10)),
            (Some("bytes 5-9/*"), Some(5), None),
            (Some("bytes */10"), None, Some(10)),
            (Some("bytes */*"), None, None),
        ] {
            assert_eq!(piece(text).unwrap(), Piece { first, total }, "{text:?}");
        }
        assert!(piece(Some("bytes x-9/10")).is_err());
        assert!(piece(Some("rows 0-9/10")).is_err());
    }
}
