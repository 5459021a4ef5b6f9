//! `/v1/files`: what batches read, and what they leave.

mod form;

use control::{FileReader, FileWriter, StoredFile};
use futures_util::stream;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, HeaderValue};
use serde_json::{Value, json};

use self::form::{Form, Piece};
use super::listing::Page;
use super::{absent, id_of, named, parent_of};
use crate::fields::{invalid, unsupported};
use crate::http::{Call, Response, json_reply, stream_reply};
use crate::{Code, Fault};

/// What the ids of files begin with.
pub(super) const PREFIX: &str = "file-";

/// The collection in a file's resource name.
pub(super) const COLLECTION: &str = "files";

/// What files can be uploaded for.
pub(super) const BATCH: &str = "batch";

/// Files in one page of a list at most, and where the request does not say.
const PAGE: usize = 10_000;

/// Bytes of a file's name at most.
const NAME_BYTES_MAX: usize = 512;

/// Bytes of a form beside its file, roughly.
const FORM_BYTES_MAX: u64 = 4096;

/// Bytes of a field of the form that is no file.
const FIELD_BYTES_MAX: usize = 1024;

/// Keeps a file.
pub(super) async fn create(mut call: Call) -> Result<Response, Fault> {
    let kept = receive(&mut call).await;
    if kept.is_err() {
        call.body.discard().await;
    }
    json_reply(StatusCode::OK, &described(&kept?))
}

/// What has come of a form.
#[derive(Default)]
struct Upload {
    purpose: Option<String>,
    file: Option<(String, FileWriter)>,
}

async fn receive(call: &mut Call) -> Result<StoredFile, Fault> {
    let mut form = Form::new(call.header("content-type").unwrap_or(""))?;
    let (mut upload, mut field) = (Upload::default(), None);
    while let Some(bytes) = call.body.next_piece().await? {
        form.push(&bytes);
        while let Some(piece) = form.next()? {
            match piece {
                Piece::Part { name, file } => field = upload.begin(call, &name, file).await?,
                Piece::Data(data) => match (&mut field, &mut upload.file) {
                    (Some(text), _) => push(text, &data)?,
                    (None, Some((_, writer))) => writer.write(data).await.map_err(too_large)?,
                    (None, None) => {}
                },
                Piece::End => {
                    if let Some(text) = field.take() {
                        upload.purpose = Some(purpose(&text)?);
                    }
                }
            }
        }
    }
    if !form.is_done() {
        return Err(Fault::invalid("the form ends before its closing boundary"));
    }
    let missing = |name: &str| invalid(name, "is missing").because("missing_required_parameter");
    let (name, writer) = upload.file.ok_or_else(|| missing("file"))?;
    let purpose = upload.purpose.ok_or_else(|| missing("purpose"))?;
    Ok(writer.finish(name, purpose).await?)
}

impl Upload {
    /// Begins a part of the form. Gives the field to be filled, where it is one.
    async fn begin(
        &mut self,
        call: &Call,
        name: &str,
        file: Option<String>,
    ) -> Result<Option<Vec<u8>>, Fault> {
        match (name, file) {
            ("purpose", None) if self.purpose.is_none() => Ok(Some(Vec::new())),
            ("file", Some(file)) if self.file.is_none() => {
                if file.len() > NAME_BYTES_MAX {
                    return Err(invalid("file", format!("has a name of more than {NAME_BYTES_MAX} bytes")));
                }
                let mut writer = call.app.control.files().writer(&parent_of(call)?).await?;
                writer.expect(call.content_length().saturating_sub(FORM_BYTES_MAX)).await?;
                self.file = Some((file, writer));
                Ok(None)
            }
            ("purpose" | "file", _) => {
                Err(invalid(name, "must be given once: `purpose` as a text, `file` as a file with its name"))
            }
            _ => {
                let name: String = name.chars().take(80).collect();
                Err(unsupported(name, "has no effect on this server: leave it out"))
            }
        }
    }
}

fn push(text: &mut Vec<u8>, data: &[u8]) -> Result<(), Fault> {
    if text.len() + data.len() > FIELD_BYTES_MAX {
        return Err(invalid("purpose", format!("is longer than {FIELD_BYTES_MAX} bytes")));
    }
    text.extend_from_slice(data);
    Ok(())
}

fn purpose(text: &[u8]) -> Result<String, Fault> {
    match std::str::from_utf8(text) {
        Ok(BATCH) => Ok(BATCH.to_owned()),
        _ => Err(invalid("purpose", "must be `batch`: files are kept for nothing else here")),
    }
}

fn too_large(error: control::Error) -> Fault {
    let fault = Fault::from(error);
    if fault.code == Code::InvalidArgument {
        return fault.about("file").with_status(StatusCode::PAYLOAD_TOO_LARGE);
    }
    fault
}

/// The project's files.
pub(super) async fn list(call: Call) -> Result<Response, Fault> {
    let mut page = Page::read(&call, PAGE, PAGE)?;
    let purpose = page.take("purpose");
    let mut files = call.app.control.files().list(&parent_of(&call)?).await?;
    files.retain(|file| purpose.as_ref().is_none_or(|purpose| file.purpose == *purpose));
    page.of(files.iter().map(described).collect())
}

/// What is known of a file.
pub(super) async fn get(call: Call) -> Result<Response, Fault> {
    let name = named(&call, COLLECTION, PREFIX)?;
    let file = call.app.control.files().get(&name).await.map_err(|e| unknown(&name, e))?;
    json_reply(StatusCode::OK, &described(&file))
}

/// A file's bytes.
pub(super) async fn content(call: Call) -> Result<Response, Fault> {
    let name = named(&call, COLLECTION, PREFIX)?;
    let reader = call.app.control.files().read(&name).await.map_err(|e| unknown(&name, e))?;
    let length = reader.remaining();
    let mut reply =
        stream_reply(StatusCode::OK, "application/octet-stream", stream::try_unfold(reader, next));
    reply.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    Ok(reply)
}

async fn next(mut reader: FileReader) -> std::io::Result<Option<(bytes::Bytes, FileReader)>> {
    let block = reader.next().await.map_err(std::io::Error::other)?;
    Ok(block.map(|block| (block, reader)))
}

/// Deletes a file, unless a batch reads it.
pub(super) async fn delete(call: Call) -> Result<Response, Fault> {
    let name = named(&call, COLLECTION, PREFIX)?;
    call.app.control.files().delete(&name).await.map_err(|e| unknown(&name, e))?;
    json_reply(StatusCode::OK, &json!({"id": id_of(PREFIX, &name), "object": "file", "deleted": true}))
}

/// What to tell of an error about the file `name`.
fn unknown(name: &str, error: control::Error) -> Fault {
    let fault = Fault::from(error);
    match fault.code {
        Code::NotFound => absent(COLLECTION, &id_of(PREFIX, name)),
        Code::FailedPrecondition => {
            let message = "a batch reads this file: cancel that first, or wait for its end";
            Fault { message: message.to_owned(), ..fault }.with_status(StatusCode::CONFLICT)
        }
        _ => fault,
    }
}

fn described(file: &StoredFile) -> Value {
    json!({
        "id": id_of(PREFIX, &file.name),
        "object": "file",
        "bytes": file.bytes,
        "created_at": file.create_time.as_second(),
        "expires_at": null,
        "filename": file.file_name,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": null,
    })
}
