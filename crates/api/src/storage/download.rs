//! Reading an object's bytes, all or a range.

use std::ops::Range;

use control::storage::{Blocks, ObjectInfo};
use futures_util::stream;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, RANGE,
};
use http::{HeaderMap, StatusCode};

use super::{Address, objects, stores, wire};
use crate::http::{Call, Response, stream_reply};
use crate::{Code, Fault};

pub(super) async fn media(call: Call) -> Result<Response, Fault> {
    let address = Address::of(&call)?;
    let uri = objects::object(&call, &address).await?;
    let storage = stores(&call);
    let info = storage.head_with_hashes(&uri).await?;
    objects::same_generation(&address, &info)?;
    let range = call.header(RANGE.as_str()).map(|text| range(text, info.size)).transpose()?.flatten();
    let (status, part) = match range {
        Some(part) => (StatusCode::PARTIAL_CONTENT, part),
        None => (StatusCode::OK, 0..info.size),
    };
    let blocks = storage.read(&uri, part.start, Some(part.end)).await?;
    let mut reply = stream_reply(status, "application/octet-stream", stream::try_unfold(blocks, next));
    describe(reply.headers_mut(), &info, &part, status == StatusCode::PARTIAL_CONTENT);
    Ok(reply)
}

async fn next(mut blocks: Blocks) -> std::io::Result<Option<(bytes::Bytes, Blocks)>> {
    let block = blocks.next().await.map_err(std::io::Error::other)?;
    Ok(block.map(|block| (block, blocks)))
}

fn describe(headers: &mut HeaderMap, info: &ObjectInfo, part: &Range<u64>, partial: bool) {
    let mut set = |name: HeaderName, value: String| {
        // A name or type that no header can carry is left out.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    };
    set(CONTENT_TYPE, info.content_type.clone());
    set(CONTENT_LENGTH, (part.end - part.start).to_string());
    set(ETAG, info.etag.clone());
    set(ACCEPT_RANGES, "bytes".to_owned());
    set(HeaderName::from_static("x-goog-generation"), info.generation.to_string());
    set(HeaderName::from_static("x-goog-stored-content-length"), info.size.to_string());
    if let Some(hashes) = wire::hashes(info) {
        set(HeaderName::from_static("x-goog-hash"), hashes);
    }
    if partial {
        set(CONTENT_RANGE, format!("bytes {}-{}/{}", part.start, part.end - 1, info.size));
    }
}

/// The bytes that a `Range` header asks for; `None` for a header that asks for nothing that is served
/// (several ranges, another unit), which HTTP says to ignore.
fn range(text: &str, size: u64) -> Result<Option<Range<u64>>, Fault> {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Ok(None);
    };
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Ok(first), Err(_)) if last.is_empty() => first..size,
        (Err(_), Ok(suffix)) if first.is_empty() => size.saturating_sub(suffix)..size,
        _ => return Ok(None),
    };
    if range.start >= range.end {
        let message = format!("range {text} does not lie in an object of {size} bytes");
        return Err(Fault::new(Code::OutOfRange, message));
    }
    Ok(Some(range))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_object() {
        for (text, expected) in [
            ("bytes=0-3", Some(0..4)),
            ("bytes=2-", Some(2..10)),
            ("bytes=-3", Some(7..10)),
            ("bytes=5-99", Some(5..10)),
            ("bytes=3-1", None),
            ("bytes=0-1,3-4", None),
            ("lines=0-1", None),
        ] {
            assert_eq!(range(text, 10).unwrap(), expected, "{text}");
        }
        assert!(range("bytes=10-", 10).is_err());
        assert!(range("bytes=0-", 0).is_err());
    }
}
