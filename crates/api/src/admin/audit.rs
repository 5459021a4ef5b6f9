//! The audit log.

use bytes::Bytes;
use control::audit::Head;
use futures_util::stream;
use http::StatusCode;
use serde_json::{Value, json};

use crate::Fault;
use crate::fields::{Fields, invalid};
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

/// Removes the entries up to the one in `through`, of which the caller says that it has an archive.
pub(super) async fn prune(mut call: Call) -> Result<Response, Fault> {
    let mut fields = Fields::of_body(&call.take_body().read().await?)?;
    let mut through = Fields::of(fields.take("through").unwrap_or_default(), "through")?;
    let n = through.take("entries").and_then(|n| n.as_u64());
    let n = n.ok_or_else(|| invalid("through.entries", "must be the number of an entry"))?;
    let digest = through.take("digest").and_then(|digest| digest.as_str()?.parse().ok());
    let digest = digest.ok_or_else(|| invalid("through.digest", "must be that entry's digest: sha256:…"))?;
    through.finish()?;
    fields.finish()?;
    let through = Head { n, digest };
    // In the log itself stands what was taken out of it.
    call.about(format!("entries to {n}, {digest}"));
    call.app.control.audit().prune(through).await?;
    json_reply(StatusCode::OK, &json!({"archived": in_json(through)}))
}

fn in_json(head: Head) -> Value {
    json!({"entries": head.n, "digest": head.digest.to_string()})
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
            "archived": call.app.control.audit().archived().await.map(in_json),
        }),
    )
}
