//! Buckets.

use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::{Address, allow_bucket, stores, wire};
use crate::Fault;
use crate::http::{Call, Response, bytes_reply, json_reply};

#[derive(Deserialize)]
struct BucketWire {
    name: String,
    #[serde(default)]
    location: Option<String>,
}

pub(super) async fn create(call: Call) -> Result<Response, Fault> {
    let address = Address::of(&call)?;
    let own = call.principal.as_ref().map_or("", |principal| principal.project.as_str());
    let project = match address.parameter("project").filter(|project| !project.is_empty()) {
        Some(project) => project.to_owned(),
        // A key for every project makes buckets that are every project's.
        None if own == "*" => String::new(),
        None => own.to_owned(),
    };
    call.allow_name(&format!("projects/{project}"))?;
    let (storage, base) = (stores(&call), call.base());
    let bytes = call.body.read().await?;
    let bucket: BucketWire = serde_json::from_slice(&bytes)
        .map_err(|e| Fault::invalid(format!("the bucket's description: {e}")))?;
    let location = bucket.location.unwrap_or_else(|| "US".to_owned());
    let made = storage.create_bucket(&bucket.name, &project, &location).await?;
    json_reply(StatusCode::OK, &wire::bucket(&made, &base))
}

pub(super) async fn get(call: Call) -> Result<Response, Fault> {
    let address = Address::of(&call)?;
    allow_bucket(&call, address.bucket()).await?;
    let bucket = stores(&call).get_bucket(address.bucket()).await?;
    json_reply(StatusCode::OK, &wire::bucket(&bucket, &call.base()))
}

pub(super) async fn list(call: Call) -> Result<Response, Fault> {
    let address = Address::of(&call)?;
    let own = call.principal.as_ref().map_or("", |principal| principal.project.as_str());
    let project = address.parameter("project").unwrap_or(own);
    call.allow_name(&format!("projects/{project}"))?;
    let base = call.base();
    let buckets = stores(&call).list_buckets(project).await?;
    let prefix = address.parameter("prefix").unwrap_or("");
    let named = buckets.iter().filter(|bucket| bucket.name.starts_with(prefix));
    let items: Vec<_> = named.map(|bucket| wire::bucket(bucket, &base)).collect();
    json_reply(StatusCode::OK, &json!({"kind": "storage#buckets", "items": items}))
}

pub(super) async fn delete(call: Call) -> Result<Response, Fault> {
    let address = Address::of(&call)?;
    allow_bucket(&call, address.bucket()).await?;
    let deleted = stores(&call).delete_bucket(address.bucket()).await;
    // Google answers 409 where the bucket is not empty.
    deleted.map_err(|e| match Fault::from(e) {
        fault if fault.code == crate::Code::FailedPrecondition => fault.with_status(StatusCode::CONFLICT),
        fault => fault,
    })?;
    Ok(bytes_reply(StatusCode::NO_CONTENT, "application/json", ""))
}
