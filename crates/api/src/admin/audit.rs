//! The audit log.

use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use serde_json::json;

use crate::Fault;
use crate::http::{Call, Response, json_reply, stream_reply};

/// Its lines after entry `after`, as they are in the file: those of the key's project.
pub(super) async fn export(call: Call) -> Result<Response, Fault> {
    let mut after = 0;
    for (name, value) in call.query()? {
        match name.as_str() {
            "after" => {
                after = value.parse().map_err(|_| Fault::invalid("`after` must be an entry's number"))?;
            }
            _ => return Err(Fault::invalid(format!("the query parameter `{name}` has no meaning here"))),
        }
    }
    let project = call.principal.as_ref().map_or("", |principal| principal.project.as_str());
    let reader = call.app.control.audit().read(after, project).await?;
    let lines = stream::try_unfold(reader, |mut reader| async move {
        let chunk = reader.next().await.map_err(std::io::Error::other)?;
        Ok(chunk.map(|chunk| (Bytes::from(chunk), reader)))
    });
    Ok(stream_reply(StatusCode::OK, "application/x-ndjson", lines))
}

/// Whether it is as it was written: of all projects at once, which tells of others only how many entries there are.
pub(super) async fn verify(call: Call) -> Result<Response, Fault> {
    let verdict = call.app.control.audit().verify().await?;
    json_reply(
        StatusCode::OK,
        &json!({
            "entries": verdict.head.n,
            "digest": verdict.head.digest.to_string(),
            "fault": verdict.fault,
        }),
    )
}
