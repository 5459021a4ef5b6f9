//! Examples of a version: what its model makes of the rows of a training set, taken when it is registered and kept as an
//! artifact of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use formats::Value;
use formats::safetensors::Safetensors;
use serde_json::json;
use serving::Examples;
use tokio::runtime::Handle;

use crate::artifact::Digest;
use crate::jobs::rows::{Place, RowReader, Rows, resolve};
use crate::storage::blocking;
use crate::{Control, Error, ErrorCode, ExampleSource, InputFormat, Result};

const VECTORS_FILE: &str = "vectors.safetensors";
const IDS_FILE: &str = "ids.json";
/// The tensor in [`VECTORS_FILE`].
const VECTORS: &str = "vectors";
/// The field that names an example.
const ID_FIELD: &str = "id";

/// Examples that one version has at most, and the bytes of their vectors and of a name.
const EXAMPLES_MAX: usize = 1_000_000;
const VECTORS_BYTES_MAX: usize = 1 << 30;
const ID_BYTES_MAX: usize = 256;
/// Rows that the model is given at a time, and how long it may take for them.
const CHUNK_ROWS: usize = 256;
const CHUNK_TIME: Duration = Duration::from_secs(600);

/// Has `model` make vectors of the rows that `source` names, as `project` sees them, and stores these.
///
/// # Errors
/// `NotFound` or `InvalidArgument` for what cannot be read, a row that does not fit the model, and too many of them.
pub(crate) async fn index(
    control: &Control,
    project: &str,
    model: &Arc<serving::Model>,
    source: &ExampleSource,
) -> Result<Digest> {
    let storage = control.storage(project);
    let inputs = resolve(&storage, &source.uris).await?;
    let uris: Vec<String> = inputs.iter().map(|input| input.uri.clone()).collect();
    let mut reader =
        RowReader::new(storage, Handle::current(), inputs.into(), InputFormat::Jsonl, Place::default())
            .by(CHUNK_ROWS);
    let label = model.manifest().map(|manifest| manifest.label.clone());
    let (mut ids, mut vectors, mut width) = (Vec::new(), Vec::new(), 0);
    loop {
        let read;
        (reader, read) = blocking(move || reader.next().map(|chunk| (reader, chunk))).await?;
        let Some(chunk) = read else { break };
        let uri = uris.get(chunk.input).map_or("", String::as_str);
        let wrong =
            |row: u64, reason: &str| Error::invalid(format!("the example in {uri}, row {row}: {reason}"));
        if let Some(fault) = chunk.faults.first() {
            return Err(wrong(fault.row, &fault.reason));
        }
        let Rows::Values(values) = chunk.rows else { return Err(Error::invalid("examples are JSON Lines")) };
        let rows: Vec<u64> = values.iter().map(|(row, _)| *row).collect();
        let mut instances = Vec::with_capacity(values.len());
        for (row, value) in values {
            let (id, instance) =
                example(value, row, label.as_deref()).map_err(|reason| wrong(row, &reason))?;
            ids.push(id);
            instances.push(instance);
        }
        let until = Instant::now() + CHUNK_TIME;
        let made = model.vectors(project, instances, source.output.as_deref(), until).await;
        let made = made.map_err(|error| match error {
            serving::ServeError::BadInstance { index, message } => {
                wrong(rows.get(index).copied().unwrap_or_default(), &message)
            }
            other => Error::invalid(format!("the model makes no vectors of the examples: {other}")),
        })?;
        for vector in made.vectors {
            width = vector.len();
            vectors.extend(vector);
        }
        if ids.len() > EXAMPLES_MAX || vectors.len() * size_of::<f32>() > VECTORS_BYTES_MAX {
            return Err(Error::invalid(format!(
                "a version has at most {EXAMPLES_MAX} examples, and {} MiB of their vectors",
                VECTORS_BYTES_MAX >> 20
            )));
        }
    }
    if ids.is_empty() || width == 0 || vectors.len() != width * ids.len() {
        return Err(Error::invalid("there are no examples, or no vectors of one length of them"));
    }
    store(control, &ids, width, &vectors).await
}

/// What an example is called, and the instance that it is.
fn example(value: Value, row: u64, label: Option<&str>) -> std::result::Result<(String, Value), String> {
    let Value::Record(fields) = value else { return Ok((row.to_string(), value)) };
    let (mut id, mut rest) = (row.to_string(), Vec::with_capacity(fields.len()));
    for (name, value) in fields {
        match (name.as_str(), value) {
            (ID_FIELD, Value::Text(text)) => id = text,
            (ID_FIELD, Value::Number(number)) => id = number.to_string(),
            (ID_FIELD, other) => return Err(format!("its `{ID_FIELD}` is {}", other.kind())),
            (name, _) if Some(name) == label => {}
            (_, value) => rest.push((name, value)),
        }
    }
    if id.len() > ID_BYTES_MAX {
        return Err(format!("its `{ID_FIELD}` has more than {ID_BYTES_MAX} bytes"));
    }
    Ok((
        id,
        match rest.as_mut_slice() {
            [(name, instance)] if name == "instance" => std::mem::replace(instance, Value::Null),
            _ => Value::Record(rest),
        },
    ))
}

async fn store(control: &Control, ids: &[String], width: usize, vectors: &[f32]) -> Result<Digest> {
    let writing = |e| Error::internal("writing the examples", e);
    let bytes = size_of_val(vectors);
    let header = json!({VECTORS: {"dtype": "F32", "shape": [ids.len(), width], "data_offsets": [0, bytes]}});
    let header = serde_json::to_vec(&header).map_err(writing)?;
    let mut file = Vec::with_capacity(8 + header.len() + bytes);
    file.extend_from_slice(&(header.len() as u64).to_le_bytes());
    file.extend_from_slice(&header);
    vectors.iter().for_each(|x| file.extend_from_slice(&x.to_le_bytes()));
    let ids = serde_json::to_vec(ids).map_err(writing)?;
    control.artifacts().put(vec![(VECTORS_FILE.to_owned(), file), (IDS_FILE.to_owned(), ids)]).await
}

/// The examples that were stored as `digest`.
///
/// # Errors
/// `NotFound` or `DataLoss` of the artifact.
pub(crate) async fn open(control: &Control, digest: Digest, output: Option<String>) -> Result<Examples> {
    let directory = control.artifacts().verify_and_open(&digest).await?;
    blocking(move || {
        let damaged =
            || Error::new(ErrorCode::DataLoss, "the version's examples cannot be read; register it again");
        let read = std::fs::read(directory.join(IDS_FILE)).map_err(|_| damaged())?;
        let ids: Vec<String> = serde_json::from_slice(&read).map_err(|_| damaged())?;
        let tensors = Safetensors::open(directory.join(VECTORS_FILE)).map_err(|_| damaged())?;
        let tensor = tensors.tensor(VECTORS).ok_or_else(damaged)?;
        let width = tensor.shape.get(1).copied().unwrap_or_default();
        let vectors = tensor.bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Examples::new(ids, width, vectors, output).ok_or_else(damaged)
    })
    .await
}
