//! Writing an object: in one request, or the beginning of several.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use control::storage::{ObjectInfo, ObjectUri, ObjectWriter, Precondition, PutOptions, Storage};
use http::StatusCode;
use serde::Deserialize;

use super::multipart::Multipart;
use super::resumable::{self, Sessions};
use super::{Address, allow_bucket, condition_not_met, stores, uri, wire};
use crate::http::{Call, Handler, Response, handler, json_reply};
use crate::{Code, Fault};

/// Bytes of a body in two parts beside its object, roughly.
const HEAD_BYTES_MAX: u64 = 64 << 10;

/// An object's description as a client writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Description {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    content_type: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) crc32c: Option<String>,
    #[serde(default)]
    pub(super) md5_hash: Option<String>,
    /// The bucket is in the path.
    #[serde(default)]
    #[allow(dead_code, reason = "named so that it is taken")]
    bucket: Option<String>,
    /// There is one class.
    #[serde(default)]
    #[allow(dead_code, reason = "named so that it is taken")]
    storage_class: Option<String>,
}

impl Description {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Fault> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(bytes).map_err(|e| Fault::invalid(format!("the object's description: {e}")))
    }

    /// Where and how to write what is described.
    pub(super) fn target(
        &self,
        address: &Address,
        content_type: Option<String>,
    ) -> Result<(ObjectUri, PutOptions), Fault> {
        let name = address.parameter("name").or(self.name.as_deref()).unwrap_or("");
        let options = PutOptions {
            content_type: self.content_type.clone().or(content_type),
            custom: self.metadata.clone(),
            precondition: precondition(address)?,
        };
        Ok((uri(address.bucket(), name)?, options))
    }
}

/// `ifGenerationMatch`; other conditions are refused by name.
pub(super) fn precondition(address: &Address) -> Result<Precondition, Fault> {
    for name in ["ifGenerationNotMatch", "ifMetagenerationMatch", "ifMetagenerationNotMatch", "kmsKeyName"] {
        if address.parameter(name).is_some() {
            return Err(Fault::unimplemented(format!("{name} has no effect on this server: leave it out")));
        }
    }
    Ok(match address.number::<i64>("ifGenerationMatch")? {
        None => Precondition::None,
        Some(0) => Precondition::Absent,
        Some(generation) => Precondition::Generation(generation),
    })
}

/// `POST /upload/…`: by `uploadType`.
pub(super) fn begin(sessions: Arc<Sessions>) -> Handler {
    handler(move |call: Call| {
        let sessions = Arc::clone(&sessions);
        async move {
            let address = Address::of(&call)?;
            allow_bucket(&call, address.bucket()).await?;
            match address.parameter("uploadType") {
                Some("multipart") => in_two_parts(call, &address).await,
                Some("media") => in_one_part(call, &address).await,
                Some("resumable") => resumable::begin(call, &address, &sessions).await,
                other => Err(Fault::invalid(format!(
                    "uploadType is {:?}; it must be multipart, media or resumable",
                    other.unwrap_or("")
                ))),
            }
        }
    })
}

async fn in_one_part(mut call: Call, address: &Address) -> Result<Response, Fault> {
    let content_type = call.header("content-type").map(str::to_owned);
    let (uri, options) = Description::default().target(address, content_type)?;
    let mut writer = stores(&call).writer(&uri, options).await?;
    writer.expect(call.content_length()).await?;
    while let Some(piece) = call.body.next_piece().await? {
        writer.write(piece).await?;
    }
    let info = finish(writer).await?;
    json_reply(StatusCode::OK, &wire::object(&info, &call.base()))
}

async fn in_two_parts(mut call: Call, address: &Address) -> Result<Response, Fault> {
    let mut multipart = Multipart::new(call.header("content-type").unwrap_or(""))?;
    let storage = stores(&call);
    let mut open: Option<(Description, ObjectWriter)> = None;
    while let Some(piece) = call.body.next_piece().await? {
        multipart.push(&piece);
        if open.is_none()
            && let Some(head) = multipart.head()?
        {
            let description = Description::read(&head.description)?;
            let (uri, options) = description.target(address, head.content_type)?;
            let mut writer = storage.writer(&uri, options).await?;
            writer.expect(call.content_length().saturating_sub(HEAD_BYTES_MAX)).await?;
            open = Some((description, writer));
        }
        if let Some((_, writer)) = &mut open {
            let content = multipart.content();
            if !content.is_empty() {
                writer.write(content).await?;
            }
        }
    }
    match open {
        Some((description, writer)) if multipart.is_done() => {
            let info = finish(writer).await?;
            verify(&storage, &info, &description).await?;
            json_reply(StatusCode::OK, &wire::object(&info, &call.base()))
        }
        _ => Err(Fault::invalid("the multipart body ends before its closing boundary")),
    }
}

/// Makes the object appear.
pub(super) async fn finish(writer: ObjectWriter) -> Result<ObjectInfo, Fault> {
    writer.finish().await.map_err(|e| condition_not_met(e.into()))
}

/// Compares what has arrived with what the client said it would be; what differs does not stay.
pub(super) async fn verify(storage: &Storage, info: &ObjectInfo, said: &Description) -> Result<(), Fault> {
    let crc32c = info.crc32c.map(|crc| STANDARD.encode(crc.to_be_bytes()));
    let md5 = info.md5.map(|md5| STANDARD.encode(md5));
    let differs =
        |said: &Option<String>, is: &Option<String>| matches!((said, is), (Some(a), Some(b)) if a != b);
    if differs(&said.crc32c, &crc32c) || differs(&said.md5_hash, &md5) {
        storage.delete(&uri(&info.bucket, &info.name)?).await?;
        let message =
            format!("what arrived for gs://{}/{} has another checksum than stated", info.bucket, info.name);
        return Err(Fault::new(Code::InvalidArgument, message));
    }
    Ok(())
}
