//! Metadata: what clients note of their own work, in the one store of a project and location: artifacts, executions,
//! contexts, and how these hang together.

use std::collections::BTreeMap;

use control::{Lineage, Note, NoteEvent, NoteKind, Parent, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::convert::{mask, time};
use super::models::take_text;
use super::rpc::{Rpc, Served, page, procedure, read_value};
use super::words::{self, with};
use crate::http::Permission::{Read, Write};
use crate::{Code, Fault};

/// The store that every project has.
const STORE: &str = "metadataStores/default";

type Words = words::Words<NoteKind>;

const ARTIFACT: Words =
    Words { kind: NoteKind::Artifact, field: "artifact", id: "artifactId", list: "artifacts" };
const EXECUTION: Words =
    Words { kind: NoteKind::Execution, field: "execution", id: "executionId", list: "executions" };
const CONTEXT: Words = Words { kind: NoteKind::Context, field: "context", id: "contextId", list: "contexts" };

/// The procedures of this file.
pub(super) fn served() -> Vec<Served> {
    let of = |words: Words, names: [&'static str; 5]| {
        let [created, got, listed, updated, deleted] = names;
        [
            procedure(created, Write, with(words, create)),
            procedure(got, Read, with(words, get)),
            procedure(listed, Read, with(words, list)),
            procedure(updated, Write, with(words, update)),
            procedure(deleted, Write, with(words, delete)),
        ]
    };
    let artifacts = [
        "MetadataService.CreateArtifact",
        "MetadataService.GetArtifact",
        "MetadataService.ListArtifacts",
        "MetadataService.UpdateArtifact",
        "MetadataService.DeleteArtifact",
    ];
    let executions = [
        "MetadataService.CreateExecution",
        "MetadataService.GetExecution",
        "MetadataService.ListExecutions",
        "MetadataService.UpdateExecution",
        "MetadataService.DeleteExecution",
    ];
    let contexts = [
        "MetadataService.CreateContext",
        "MetadataService.GetContext",
        "MetadataService.ListContexts",
        "MetadataService.UpdateContext",
        "MetadataService.DeleteContext",
    ];
    let stores = [
        procedure("MetadataService.CreateMetadataStore", Write, create_store),
        procedure("MetadataService.GetMetadataStore", Read, get_store),
        procedure("MetadataService.ListMetadataStores", Read, list_stores),
    ];
    let together = [
        procedure("MetadataService.AddContextChildren", Write, add_children),
        procedure("MetadataService.RemoveContextChildren", Write, remove_children),
        procedure("MetadataService.AddContextArtifactsAndExecutions", Write, add_members),
        procedure("MetadataService.AddExecutionEvents", Write, add_events),
        procedure("MetadataService.QueryContextLineageSubgraph", Read, context_lineage),
        procedure("MetadataService.QueryExecutionInputsAndOutputs", Read, execution_lineage),
        procedure("MetadataService.QueryArtifactLineageSubgraph", Read, artifact_lineage),
    ];
    let notes = [of(ARTIFACT, artifacts), of(EXECUTION, executions), of(CONTEXT, contexts)];
    stores.into_iter().chain(notes.into_iter().flatten()).chain(together).collect()
}

/// The project and location whose store `name` is.
fn home(name: &str) -> Result<Parent, Fault> {
    let (parent, rest) = Parent::split(name)?;
    if rest == STORE {
        return Ok(parent);
    }
    Err(Fault::not_found(format!("{name}: a project has one metadata store here, {parent}/{STORE}")))
}

async fn create_store(rpc: Rpc) -> Result<Value, Fault> {
    let parent = rpc.parent()?;
    let message =
        format!("{parent}/{STORE} is there already, and a project has no other metadata store here");
    Err(Fault::new(Code::AlreadyExists, message))
}

async fn get_store(rpc: Rpc) -> Result<Value, Fault> {
    let parent = home(rpc.text("name"))?;
    Ok(json!({"name": format!("{parent}/{STORE}")}))
}

async fn list_stores(rpc: Rpc) -> Result<Value, Fault> {
    Ok(json!({"metadataStores": [{"name": format!("{}/{STORE}", rpc.parent()?)}]}))
}

async fn create(mut rpc: Rpc, words: Words) -> Result<Value, Fault> {
    let parent = home(rpc.text("parent"))?;
    let id = Some(rpc.text(words.id).to_owned()).filter(|id| !id.is_empty());
    let content = object(rpc.request.remove(words.field));
    Ok(to_wire(words.kind, rpc.control().notes().create(&parent, words.kind, id, known(content)).await?))
}

async fn get(rpc: Rpc, words: Words) -> Result<Value, Fault> {
    Ok(to_wire(words.kind, rpc.control().notes().get(words.kind, rpc.text("name")).await?))
}

async fn list(rpc: Rpc, words: Words) -> Result<Value, Fault> {
    let parent = home(rpc.text("parent"))?;
    let notes = rpc.control().notes().list(&parent, words.kind, &rpc.list_query()?).await?;
    Ok(page(words.list, notes, |note| to_wire(words.kind, note)))
}

async fn update(mut rpc: Rpc, words: Words) -> Result<Value, Fault> {
    if rpc.request.get("allowMissing") == Some(&Value::Bool(true)) {
        return Err(Fault::unimplemented("field `allowMissing` has no effect on this server: leave it out"));
    }
    let paths = rpc.text("updateMask").to_owned();
    let mut written = object(rpc.request.remove(words.field));
    let name = take_text(&mut written, "name");
    let etag = Some(take_text(&mut written, "etag")).filter(|etag| !etag.is_empty());
    let patch = patch(&paths, known(written));
    Ok(to_wire(words.kind, rpc.control().notes().update(words.kind, &name, patch, etag.as_deref()).await?))
}

/// What changes by a mask and what is written. Without a mask, as the library has it: what is written.
pub(super) fn patch(paths: &str, mut written: Map<String, Value>) -> BTreeMap<String, Option<Value>> {
    match mask(paths).next() {
        None => written.into_iter().map(|(field, value)| (field, Some(value))).collect(),
        Some(_) => mask(paths)
            .map(|path| {
                let (field, _) = path.split_once('.').unwrap_or((path, ""));
                (field.to_owned(), written.shift_remove(field))
            })
            .collect(),
    }
}

async fn delete(rpc: Rpc, words: Words) -> Result<Value, Fault> {
    let etag = Some(rpc.text("etag")).filter(|etag| !etag.is_empty());
    rpc.control().notes().delete(words.kind, rpc.text("name"), etag).await?;
    super::operations::deleted(&rpc, rpc.text("name"))
}

async fn add_children(mut rpc: Rpc) -> Result<Value, Fault> {
    let children = names(&mut rpc, "childContexts")?;
    rpc.control().notes().add_children(rpc.text("context"), &children).await?;
    Ok(json!({}))
}

async fn remove_children(mut rpc: Rpc) -> Result<Value, Fault> {
    let children = names(&mut rpc, "childContexts")?;
    rpc.control().notes().remove_children(rpc.text("context"), &children).await?;
    Ok(json!({}))
}

async fn add_members(mut rpc: Rpc) -> Result<Value, Fault> {
    let (artifacts, executions) = (names(&mut rpc, "artifacts")?, names(&mut rpc, "executions")?);
    rpc.control().notes().add_members(rpc.text("context"), &artifacts, &executions).await?;
    Ok(json!({}))
}

async fn add_events(mut rpc: Rpc) -> Result<Value, Fault> {
    let given: Vec<Event> = read_value(rpc.request.remove("events").unwrap_or_else(|| json!([])))?;
    let now = Timestamp::now();
    let event = |event: Event| {
        let output = match event.kind.as_str() {
            "INPUT" => false,
            "OUTPUT" => true,
            _ => return Err(Fault::invalid("field `events.type` must be INPUT or OUTPUT")),
        };
        Ok(NoteEvent { artifact: event.artifact, output, labels: event.labels, time: now })
    };
    let events = given.into_iter().map(event).collect::<Result<Vec<_>, Fault>>()?;
    rpc.control().notes().add_events(rpc.text("execution"), &events).await?;
    Ok(json!({}))
}

async fn context_lineage(rpc: Rpc) -> Result<Value, Fault> {
    Ok(lineage(rpc.control().notes().context_lineage(rpc.text("context")).await?))
}

async fn execution_lineage(rpc: Rpc) -> Result<Value, Fault> {
    Ok(lineage(rpc.control().notes().execution_lineage(rpc.text("execution")).await?))
}

async fn artifact_lineage(rpc: Rpc) -> Result<Value, Fault> {
    let hops = rpc.request.get("maxHops").and_then(Value::as_i64).map(usize::try_from).transpose();
    let hops = hops.map_err(|_| Fault::invalid("field `maxHops` must not be negative"))?;
    let notes = rpc.control().notes();
    Ok(lineage(notes.artifact_lineage(rpc.text("artifact"), hops, rpc.text("filter")).await?))
}

/// `google.cloud.aiplatform.v1.Event`, as it is asked for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Event {
    artifact: String,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// A list of names in the request.
fn names(rpc: &mut Rpc, field: &str) -> Result<Vec<String>, Fault> {
    read_value(rpc.request.remove(field).unwrap_or_else(|| json!([])))
}

/// `google.cloud.aiplatform.v1.LineageSubgraph`.
fn lineage(lineage: Lineage) -> Value {
    let event = |(execution, event): (String, NoteEvent)| {
        json!({
            "artifact": event.artifact,
            "execution": execution,
            "type": if event.output { "OUTPUT" } else { "INPUT" },
            "labels": event.labels,
            "eventTime": time(event.time),
        })
    };
    let notes = |kind, notes: Vec<Note>| notes.into_iter().map(|note| to_wire(kind, note)).collect::<Value>();
    json!({
        "artifacts": notes(NoteKind::Artifact, lineage.artifacts),
        "executions": notes(NoteKind::Execution, lineage.executions),
        "events": lineage.events.into_iter().map(event).collect::<Value>(),
    })
}

pub(super) fn object(value: Option<Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// What the client says, without what the server does.
fn known(mut content: Map<String, Value>) -> Map<String, Value> {
    for own in ["name", "etag", "createTime", "updateTime", "parentContexts"] {
        content.shift_remove(own);
    }
    content
}

/// `google.cloud.aiplatform.v1.Artifact`, `Execution` or `Context`.
fn to_wire(kind: NoteKind, note: Note) -> Value {
    let mut wire = note.content;
    if kind == NoteKind::Context {
        wire.insert("parentContexts".to_owned(), note.contexts.into());
    }
    let own = [
        ("name", note.name.into()),
        ("etag", note.content_etag.into()),
        ("createTime", time(note.create_time)),
        ("updateTime", time(note.update_time)),
    ];
    wire.extend(own.map(|(name, value): (&str, Value)| (name.to_owned(), value)));
    Value::Object(wire)
}
