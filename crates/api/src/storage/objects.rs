//! Objects: their descriptions, deletion, copies.

use control::storage::{ObjectInfo, ObjectUri, PutOptions};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::{Address, allow_bucket, condition_not_met, download, stores, upload, uri, wire};
use crate::Fault;
use crate::http::{Call, Response, bytes_reply, json_reply};

/// Most objects that one compose joins.
const COMPOSE_MAX: usize = 32;

pub(super) async fn get(call: Call) -> Result<Response, Fault> {
    let address = Address::of(&call)?;
    if address.parameter("alt") == Some("media") {
        return download::media(call).await;
    }
    let uri = object(&call, &address).await?;
    let info = stores(&call).head_with_hashes(&uri).await?;
    same_generation(&address, &info)?;
    json_reply(StatusCode::OK, &wire::object(&info, &call.base()))
}

/// The object that a call is about, in a bucket that the key may use.
pub(super) async fn object(call: &Call, address: &Address) -> Result<ObjectUri, Fault> {
    allow_bucket(call, address.bucket()).await?;
    // Everything behind the word `o` after the bucket: names hold slashes, encoded or not.
    let start = address.segments.iter().position(|s| s == "b").map_or(0, |i| i + 3);
    let name = address.segments.get(start..).unwrap_or_default().join("/");
    uri(address.bucket(), &name)
}

/// Refuses another generation than the one asked for: older ones are not kept.
pub(super) fn same_generation(address: &Address, info: &ObjectInfo) -> Result<(), Fault> {
    match address.number::<i64>("generation")? {
        Some(asked) if asked != info.generation => {
            let message = format!("gs://{}/{} has no generation {asked}", info.bucket, info.name);
            Err(Fault::not_found(message))
        }
        _ => Ok(()),
    }
}

pub(super) async fn delete(call: Call) -> Result<Response, Fault> {
    let address = Address::of(&call)?;
    let uri = object(&call, &address).await?;
    let storage = stores(&call);
    if let Some(wanted) = address.number::<i64>("ifGenerationMatch")? {
        let info = storage.head(&uri).await?;
        if info.generation != wanted {
            return Err(generation_differs(&uri));
        }
    }
    storage.delete(&uri).await?;
    Ok(bytes_reply(StatusCode::NO_CONTENT, "application/json", ""))
}

fn generation_differs(uri: &ObjectUri) -> Fault {
    let message = format!("{uri} has another generation");
    Fault::new(crate::Code::FailedPrecondition, message).with_status(StatusCode::PRECONDITION_FAILED)
}

pub(super) async fn rewrite(call: Call) -> Result<Response, Fault> {
    let base = call.base();
    let info = copied(call).await?;
    let reply = json!({
        "kind": "storage#rewriteResponse",
        "totalBytesRewritten": info.size.to_string(),
        "objectSize": info.size.to_string(),
        "done": true,
        "resource": wire::object(&info, &base),
    });
    json_reply(StatusCode::OK, &reply)
}

pub(super) async fn copy(call: Call) -> Result<Response, Fault> {
    let base = call.base();
    json_reply(StatusCode::OK, &wire::object(&copied(call).await?, &base))
}

/// Copies `b/{bucket}/o/{object}` to `b/{to}/o/{name}`, the second half of the path.
async fn copied(call: Call) -> Result<ObjectInfo, Fault> {
    let address = Address::of(&call)?;
    let n = address.segments.len();
    let segment = |i: usize| address.segments.get(i).map_or("", String::as_str);
    let (bucket, name) = (segment(n - 3), segment(n - 1));
    let from = uri(address.bucket(), segment(n - 6))?;
    let to = uri(bucket, name)?;
    allow_bucket(&call, address.bucket()).await?;
    allow_bucket(&call, bucket).await?;
    let precondition = upload::precondition(&address)?;
    let storage = stores(&call);
    let mut blocks = storage.read(&from, 0, None).await?;
    let options = PutOptions {
        content_type: Some(blocks.info().content_type.clone()),
        custom: blocks.info().custom.clone(),
        precondition,
    };
    let mut writer = storage.writer(&to, options).await?;
    writer.expect(blocks.info().size).await?;
    while let Some(block) = blocks.next().await? {
        writer.write(block).await?;
    }
    writer.finish().await.map_err(|e| condition_not_met(e.into()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ComposeWire {
    source_objects: Vec<SourceObject>,
    #[serde(default)]
    destination: Destination,
}

#[derive(Deserialize)]
struct SourceObject {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Destination {
    #[serde(default)]
    content_type: Option<String>,
}

pub(super) async fn compose(call: Call) -> Result<Response, Fault> {
    let address = Address::of(&call)?;
    let (bucket, base) = (address.bucket().to_owned(), call.base());
    allow_bucket(&call, &bucket).await?;
    let name = address.segments.iter().rev().nth(1).map_or("", String::as_str);
    let to = uri(&bucket, name)?;
    let storage = stores(&call);
    let bytes = call.body.read().await?;
    let wire: ComposeWire =
        serde_json::from_slice(&bytes).map_err(|e| Fault::invalid(format!("what to compose: {e}")))?;
    if wire.source_objects.is_empty() || wire.source_objects.len() > COMPOSE_MAX {
        return Err(Fault::invalid(format!("compose joins 1 to {COMPOSE_MAX} objects")));
    }
    let options = PutOptions {
        content_type: wire.destination.content_type,
        precondition: upload::precondition(&address)?,
        ..PutOptions::default()
    };
    let mut writer = storage.writer(&to, options).await?;
    for source in &wire.source_objects {
        let mut blocks = storage.read(&uri(&bucket, &source.name)?, 0, None).await?;
        while let Some(block) = blocks.next().await? {
            writer.write(block).await?;
        }
    }
    let info = writer.finish().await.map_err(|e| condition_not_met(e.into()))?;
    json_reply(StatusCode::OK, &wire::object(&info, &base))
}
