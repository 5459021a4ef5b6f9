//! The part of the Cloud Storage JSON API that Google's clients need for local buckets, so that
//! `gs://my-bucket/…` works with `STORAGE_EMULATOR_HOST` pointing here.
//!
//! A key is needed as everywhere. Give it to the client as
//! `storage.Client(credentials=google.oauth2.credentials.Credentials(token=KEY), project="p")`: by itself
//! the client sends no credentials to an emulator.

mod buckets;
mod download;
mod listing;
mod multipart;
mod objects;
mod resumable;
mod upload;
mod wire;

use std::sync::Arc;

use control::storage::{ObjectUri, Storage};
use http::{Method, StatusCode};
use serde_json::json;

use crate::http::Permission::{Fetch, Read, Store, Write};
use crate::http::{
    Access, Call, Handler, Permission, Protocol, Response, Route, bytes_reply, handler, json_reply,
};
use crate::metering::INSUFFICIENT_QUOTA;
use crate::{Code, Fault};

/// How this protocol says no: `{"error": {code, message, errors: [{domain, reason, message}]}}`.
pub const PROTOCOL: Protocol =
    Protocol { name: "storage", render, timing: None, request_id: None, rates: None };

/// The routes of this protocol.
pub fn routes() -> Vec<Route> {
    let sessions = Arc::new(resumable::Sessions::default());
    let b = "/storage/v1/b/{bucket}";
    let uploads = "/upload/storage/v1/b/{bucket}/o";
    let table: Vec<(Method, String, Permission, Handler)> = vec![
        (Method::GET, "/storage/v1/b".to_owned(), Read, handler(buckets::list)),
        (Method::POST, "/storage/v1/b".to_owned(), Write, handler(buckets::create)),
        (Method::GET, b.to_owned(), Read, handler(buckets::get)),
        (Method::DELETE, b.to_owned(), Write, handler(buckets::delete)),
        (Method::GET, format!("{b}/o"), Read, handler(listing::list)),
        // With `alt=media` it is the content.
        (Method::GET, format!("{b}/o/{{object=**}}"), Fetch, handler(objects::get)),
        (Method::DELETE, format!("{b}/o/{{object=**}}"), Store, handler(objects::delete)),
        (
            Method::GET,
            "/download/storage/v1/b/{bucket}/o/{object=**}".to_owned(),
            Fetch,
            handler(download::media),
        ),
        (
            Method::POST,
            format!("{b}/o/{{object}}/rewriteTo/b/{{to}}/o/{{name}}"),
            Store,
            handler(objects::rewrite),
        ),
        (Method::POST, format!("{b}/o/{{object}}/copyTo/b/{{to}}/o/{{name}}"), Store, handler(objects::copy)),
        (Method::POST, format!("{b}/o/{{object}}/compose"), Store, handler(objects::compose)),
        (Method::POST, uploads.to_owned(), Store, upload::begin(Arc::clone(&sessions))),
        (Method::PUT, uploads.to_owned(), Store, resumable::go_on(Arc::clone(&sessions))),
        (Method::DELETE, uploads.to_owned(), Store, resumable::give_up(sessions)),
    ];
    let route = |(method, pattern, permission, handler): (Method, String, Permission, Handler)| {
        PROTOCOL.route(method, pattern, Access::Needs(permission), handler)
    };
    table.into_iter().filter_map(route).collect()
}

fn render(fault: &Fault, _: &str) -> Response {
    // Clients of this protocol go on asking after 429.
    let is_full = fault.reason == Some(INSUFFICIENT_QUOTA);
    let status = if is_full { StatusCode::FORBIDDEN } else { fault.status() };
    let reason = match fault.code {
        _ if is_full => "quotaExceeded",
        Code::NotFound => "notFound",
        Code::AlreadyExists | Code::Aborted => "conflict",
        Code::Unauthenticated => "required",
        Code::PermissionDenied => "forbidden",
        Code::FailedPrecondition => "conditionNotMet",
        Code::OutOfRange => "requestedRangeNotSatisfiable",
        Code::ResourceExhausted => "rateLimitExceeded",
        Code::Internal | Code::DataLoss | Code::Unavailable => "backendError",
        _ => "invalid",
    };
    let error = json!({"error": {
        "code": status.as_u16(),
        "message": fault.message,
        "errors": [{"domain": "global", "reason": reason, "message": fault.message}],
    }});
    json_reply(status, &error)
        .unwrap_or_else(|_| bytes_reply(StatusCode::INTERNAL_SERVER_ERROR, "application/json", "{}"))
}

/// A storage call's path and query.
struct Address {
    segments: Vec<String>,
    query: Vec<(String, String)>,
}

impl Address {
    /// Reads them once: the path's variables lie between its fixed words.
    fn of(call: &Call) -> Result<Self, Fault> {
        Ok(Address { segments: call.segments()?, query: call.query()? })
    }

    /// What follows the `nth` (from 0) fixed word `b`: a bucket's name.
    fn bucket(&self) -> &str {
        self.after("b", 0)
    }

    fn after(&self, word: &str, nth: usize) -> &str {
        let mut places = self.segments.iter().enumerate().skip(1).filter(|(_, s)| *s == word).map(|(i, _)| i);
        let place = places.nth(nth).map(|i| i + 1);
        place.and_then(|i| self.segments.get(i)).map_or("", String::as_str)
    }

    /// A query parameter.
    fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// A query parameter that is a number.
    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Fault> {
        let wrong = |text| Fault::invalid(format!("{name} must be a number, not {text:?}"));
        self.parameter(name).map(|text| text.parse().map_err(|_| wrong(text))).transpose()
    }
}

/// The buckets and objects that the caller may know of.
fn stores(call: &Call) -> Storage {
    call.app.control.storage(call.principal.as_ref().map_or("", |principal| &principal.project))
}

/// Refuses a bucket that does not exist here, as far as the caller may know.
async fn allow_bucket(call: &Call, bucket: &str) -> Result<(), Fault> {
    Ok(stores(call).get_bucket(bucket).await.map(|_| ())?)
}

fn uri(bucket: &str, name: &str) -> Result<ObjectUri, Fault> {
    Ok(ObjectUri::gs(bucket, name)?)
}

/// A condition that does not hold: 412 here, where other protocols say 400.
fn condition_not_met(fault: Fault) -> Fault {
    if fault.code == Code::FailedPrecondition {
        return fault.with_status(StatusCode::PRECONDITION_FAILED);
    }
    fault
}
