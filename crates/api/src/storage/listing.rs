//! Listing a bucket's objects, folded at a delimiter.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::storage::{ObjectInfo, ObjectUri, Storage};
use http::StatusCode;
use serde_json::{Value, json};

use super::{Address, allow_bucket, stores, wire};
use crate::Fault;
use crate::http::{Call, Response, json_reply};

/// Most entries of one page.
const PAGE_MAX: usize = 1000;
/// Sorts after every name that continues what precedes it.
const LAST: char = char::MAX;

/// One page: objects, and what stands for those behind a delimiter.
#[derive(Default)]
struct Page {
    items: Vec<ObjectInfo>,
    prefixes: Vec<String>,
    next: Option<String>,
}

pub(super) async fn list(call: Call) -> Result<Response, Fault> {
    let address = Address::of(&call)?;
    let bucket = address.bucket();
    allow_bucket(&call, bucket).await?;
    let wanted = address.number::<usize>("maxResults")?.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
    let prefix = address.parameter("prefix").unwrap_or("");
    let delimiter = address.parameter("delimiter").unwrap_or("");
    let start = start(&address)?;
    let end = address.parameter("endOffset").filter(|end| !end.is_empty());
    let storage = stores(&call);
    let page = collect(&storage, bucket, prefix, delimiter, start, end, wanted).await?;
    let base = call.base();
    let mut reply = json!({
        "kind": "storage#objects",
        "items": page.items.iter().map(|info| wire::object(info, &base)).collect::<Vec<_>>(),
    });
    if !page.prefixes.is_empty() {
        reply["prefixes"] = page.prefixes.into();
    }
    if let Some(next) = page.next {
        reply["nextPageToken"] = Value::String(URL_SAFE_NO_PAD.encode(next));
    }
    json_reply(StatusCode::OK, &reply)
}

/// The name after which the page begins.
fn start(address: &Address) -> Result<String, Fault> {
    let broken = || Fault::invalid("pageToken is not one that this server gave");
    match address.parameter("pageToken").filter(|token| !token.is_empty()) {
        Some(token) => {
            let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| broken())?;
            String::from_utf8(bytes).map_err(|_| broken())
        }
        None => {
            // The offset itself belongs to the page: begin just before it.
            let offset = address.parameter("startOffset").unwrap_or("");
            let mut before = offset.to_owned();
            if let Some(last) = before.pop() {
                let previous = (u32::from(last)).checked_sub(1).and_then(char::from_u32);
                previous.inspect(|c| before.extend([*c, LAST]));
            }
            Ok(before)
        }
    }
}

async fn collect(
    storage: &Storage,
    bucket: &str,
    prefix: &str,
    delimiter: &str,
    mut after: String,
    end: Option<&str>,
    wanted: usize,
) -> Result<Page, Fault> {
    let uri = ObjectUri::parse_prefix(&format!("gs://{bucket}/{prefix}"))?;
    let mut page = Page::default();
    loop {
        let left = wanted - page.items.len() - page.prefixes.len();
        let found = storage.list_page(&uri, &after, left + 1).await?;
        let more = found.len() > left;
        for info in found {
            if end.is_some_and(|end| info.name.as_str() >= end) {
                return Ok(page);
            }
            if page.items.len() + page.prefixes.len() == wanted {
                page.next = Some(after);
                return Ok(page);
            }
            match folded(&info.name, prefix, delimiter) {
                // Those behind the same delimiter are one entry: already there, or skipped over below.
                Some(fold) if page.prefixes.last().map(String::as_str) == Some(fold) => {
                    after = format!("{fold}{LAST}");
                }
                Some(fold) => {
                    page.prefixes.push(fold.to_owned());
                    after = format!("{fold}{LAST}");
                }
                None => {
                    after.clone_from(&info.name);
                    page.items.push(info);
                }
            }
        }
        if !more {
            return Ok(page);
        }
    }
}

/// The part of `name` up to the delimiter behind `prefix`, where there is one.
fn folded<'a>(name: &'a str, prefix: &str, delimiter: &str) -> Option<&'a str> {
    if delimiter.is_empty() {
        return None;
    }
    let rest = name.strip_prefix(prefix)?;
    rest.find(delimiter).map(|at| &name[..prefix.len() + at + delimiter.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fold_at_the_delimiter_behind_the_prefix() {
        assert_eq!(folded("a/b/c", "a/", "/"), Some("a/b/"));
        assert_eq!(folded("a/b", "a/", "/"), None);
        assert_eq!(folded("a/b/c", "", "/"), Some("a/"));
        assert_eq!(folded("a/b/c", "", ""), None);
    }
}
