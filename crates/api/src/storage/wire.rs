//! Buckets and objects as the JSON API describes them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use control::storage::{BucketInfo, ObjectInfo};
use serde_json::{Value, json};

use crate::ids::project_number;

/// `storage#bucket`.
pub(super) fn bucket(info: &BucketInfo, base: &str) -> Value {
    let created = info.created.to_string();
    json!({
        "kind": "storage#bucket",
        "id": info.name,
        "name": info.name,
        "selfLink": format!("{base}/storage/v1/b/{}", info.name),
        "location": info.location.to_uppercase(),
        "locationType": "region",
        "storageClass": "STANDARD",
        "projectNumber": project_number(&info.project),
        "metageneration": "1",
        "etag": "CAE=",
        "timeCreated": created,
        "updated": created,
    })
}

/// `storage#object`.
pub(super) fn object(info: &ObjectInfo, base: &str) -> Value {
    let (bucket, name) = (&info.bucket, &info.name);
    let encoded = encode(name);
    let updated = info.updated.to_string();
    let mut wire = json!({
        "kind": "storage#object",
        "id": format!("{bucket}/{name}/{}", info.generation),
        "selfLink": format!("{base}/storage/v1/b/{bucket}/o/{encoded}"),
        "mediaLink": format!("{base}/download/storage/v1/b/{bucket}/o/{encoded}?alt=media"),
        "bucket": bucket,
        "name": name,
        "size": info.size.to_string(),
        "generation": info.generation.to_string(),
        "metageneration": "1",
        "contentType": info.content_type,
        "storageClass": "STANDARD",
        "etag": info.etag,
        "timeCreated": updated,
        "updated": updated,
        "timeStorageClassUpdated": updated,
    });
    if let Some(md5) = info.md5 {
        wire["md5Hash"] = STANDARD.encode(md5).into();
    }
    if let Some(crc32c) = info.crc32c {
        wire["crc32c"] = STANDARD.encode(crc32c.to_be_bytes()).into();
    }
    if !info.custom.is_empty() {
        wire["metadata"] = json!(info.custom);
    }
    wire
}

/// `x-goog-hash`: what clients check a download against.
pub(super) fn hashes(info: &ObjectInfo) -> Option<String> {
    let crc32c = info.crc32c.map(|crc| format!("crc32c={}", STANDARD.encode(crc.to_be_bytes())));
    let md5 = info.md5.map(|md5| format!("md5={}", STANDARD.encode(md5)));
    match (crc32c, md5) {
        (Some(crc32c), Some(md5)) => Some(format!("{crc32c},{md5}")),
        (one, other) => one.or(other),
    }
}

/// An object's name as one segment of a path.
pub(super) fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_one_segment() {
        assert_eq!(encode("a/b c.csv"), "a%2Fb%20c.csv");
        assert_eq!(encode("é"), "%C3%A9");
    }
}
