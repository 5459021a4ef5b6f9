//! Models and their versions.

use std::collections::BTreeMap;

use control::{
    AliasChange, ArtifactSource, ContainerSpec, DeployedAt, Model, ModelPatch, ServingStatus, UploadModel,
    Version,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::convert::{full_name, labels, mask, time, unchangeable};
use super::explanation::{self, SpecWire};
use super::operations;
use super::rpc::{Rpc, Served, page, procedure, read_value};
use crate::Fault;
use crate::http::Permission::{Read, Write};

/// The procedures of this file.
pub(super) fn served() -> Vec<Served> {
    vec![
        procedure("ModelService.UploadModel", Write, upload).takes::<UploadWire>(),
        procedure("ModelService.GetModel", Read, get),
        procedure("ModelService.ListModels", Read, list).lists(),
        procedure("ModelService.ListModelVersions", Read, list_versions).lists(),
        procedure("ModelService.UpdateModel", Write, update),
        procedure("ModelService.MergeVersionAliases", Write, merge_aliases),
        procedure("ModelService.DeleteModelVersion", Write, delete_version),
        procedure("ModelService.DeleteModel", Write, delete),
    ]
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UploadWire {
    parent: String,
    #[serde(default)]
    parent_model: Option<String>,
    #[serde(default)]
    model_id: Option<String>,
    model: ModelWire,
}

/// A model as a client describes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ModelWire {
    /// Read-only where it is not the address: clients send back what they read.
    #[serde(default)]
    #[allow(dead_code, reason = "named so that it is taken")]
    name: Option<String>,
    #[serde(default)]
    #[allow(dead_code, reason = "named so that it is taken; a new version's number is the next one")]
    version_id: Option<String>,
    #[serde(default)]
    pub(super) display_name: String,
    #[serde(default)]
    pub(super) description: String,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) version_aliases: Vec<String>,
    #[serde(default)]
    pub(super) version_description: String,
    #[serde(default)]
    artifact_uri: Option<String>,
    #[serde(default)]
    container_spec: Option<ContainerWire>,
    #[serde(default)]
    explanation_spec: Option<SpecWire>,
    #[serde(default)]
    metadata: Option<MetadataWire>,
    #[serde(default)]
    #[allow(dead_code, reason = "named so that it is taken; a new model has none yet")]
    etag: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerWire {
    image_uri: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// What Vertex leaves to the model's kind holds here whether a version may be deployed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MetadataWire {
    #[serde(default)]
    serving: Option<ServingStatus>,
    #[serde(default)]
    #[allow(dead_code, reason = "named so that it is taken: clients send back what they read")]
    artifact_digest: Option<String>,
    #[serde(default)]
    #[allow(dead_code, reason = "named so that it is taken: clients send back what they read")]
    dataset_digest: Option<String>,
}

async fn upload(mut rpc: Rpc) -> Result<Value, Fault> {
    let wire: UploadWire = rpc.read()?;
    let parent = control::Parent::parse(&wire.parent)?;
    let parent_model = wire.parent_model.map(|text| full_name(&parent, "models", &text));
    if let Some(name) = &parent_model {
        rpc.allow_name(name)?;
    }
    let uri = wire.model.artifact_uri.ok_or_else(|| {
        Fault::invalid(
            "model.artifactUri is missing: say which directory or file holds the model; \
             images are not run, so one that carries its model inside cannot be served",
        )
    })?;
    let explanation = wire.model.explanation_spec.map(explanation::from_wire).transpose()?;
    let upload = UploadModel {
        parent_model,
        model_id: wire.model_id,
        description: wire.model.description,
        labels: wire.model.labels,
        version_aliases: wire.model.version_aliases,
        version_description: wire.model.version_description,
        container: wire.model.container_spec.map(container),
        explanation,
        serving: wire.model.metadata.and_then(|m| m.serving).unwrap_or(ServingStatus::Enabled),
        ..UploadModel::new(wire.model.display_name, ArtifactSource::Uri(uri))
    };
    let operation = rpc.control().models().upload(&parent, upload).await?;
    operations::to_wire(&rpc, &operation)
}

fn container(wire: ContainerWire) -> ContainerSpec {
    ContainerSpec { image_uri: wire.image_uri, rest: Value::Object(wire.rest) }
}

async fn get(rpc: Rpc) -> Result<Value, Fault> {
    let name = rpc.text("name");
    let (model, version) = rpc.control().models().get(name).await?;
    let deployed = rpc.control().models().deployments(&format!("{}@{version}", model.name)).await?;
    Ok(to_wire(&model, version, &deployed))
}

async fn list(rpc: Rpc) -> Result<Value, Fault> {
    let models = rpc.control().models().list(&rpc.parent()?, &rpc.list_query()?).await?;
    Ok(page("models", models, |model| to_wire(&model, default_version(&model), &[])))
}

async fn list_versions(rpc: Rpc) -> Result<Value, Fault> {
    let (model, versions) =
        rpc.control().models().list_versions(rpc.text("name"), &rpc.list_query()?).await?;
    Ok(page("models", versions, |version| to_wire(&model, version.number, &[])))
}

async fn update(mut rpc: Rpc) -> Result<Value, Fault> {
    let paths = rpc.text("updateMask").to_owned();
    let mut written = match rpc.request.remove("model") {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let name = take_text(&mut written, "name");
    let etag = Some(take_text(&mut written, "etag")).filter(|etag| !etag.is_empty());
    let version = take_text(&mut written, "versionId");
    let patch = ModelPatch {
        version: if version.is_empty() { None } else { Some(version_number(&version)?) },
        ..patch(&paths, written)?
    };
    let (model, version) = rpc.control().models().update(&name, patch, etag.as_deref()).await?;
    Ok(to_wire(&model, version, &[]))
}

fn patch(paths: &str, mut written: Map<String, Value>) -> Result<ModelPatch, Fault> {
    let mut patch = ModelPatch::default();
    if mask(paths).next().is_none() {
        return Err(Fault::invalid("updateMask is missing: say which fields to change"));
    }
    for path in mask(paths) {
        match path {
            "displayName" => patch.display_name = Some(take_text(&mut written, path)),
            "description" => patch.description = Some(take_text(&mut written, path)),
            "versionDescription" => patch.version_description = Some(take_text(&mut written, path)),
            "labels" => patch.labels = Some(take(&mut written, path)?.unwrap_or_default()),
            "explanationSpec" => {
                let spec: Option<SpecWire> = take(&mut written, path)?;
                patch.explanation = Some(spec.map(explanation::from_wire).transpose()?);
            }
            "metadata" => {
                let metadata: Option<MetadataWire> = take(&mut written, path)?;
                patch.serving = metadata.and_then(|m| m.serving);
            }
            other => return Err(unchangeable(other)),
        }
    }
    Ok(patch)
}

/// Field `name` of `fields`, taken out; `None` when it is absent.
pub(super) fn take<T: serde::de::DeserializeOwned>(
    fields: &mut Map<String, Value>,
    name: &str,
) -> Result<Option<T>, Fault> {
    fields.remove(name).map(read_value).transpose()
}

/// Text field `name` of `fields`, taken out; empty when it is absent.
pub(super) fn take_text(fields: &mut Map<String, Value>, name: &str) -> String {
    match fields.remove(name) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    }
}

fn version_number(text: &str) -> Result<u32, Fault> {
    text.parse().map_err(|_| Fault::invalid(format!("versionId must be a version's number, not {text:?}")))
}

async fn merge_aliases(rpc: Rpc) -> Result<Value, Fault> {
    let aliases = rpc.request.get("versionAliases").and_then(Value::as_array);
    let texts = aliases.into_iter().flatten().filter_map(Value::as_str);
    let changes: Vec<AliasChange> = texts.map(AliasChange::parse).collect();
    let (model, version) = rpc.control().models().merge_aliases(rpc.text("name"), &changes).await?;
    Ok(to_wire(&model, version, &[]))
}

async fn delete_version(rpc: Rpc) -> Result<Value, Fault> {
    let operation = rpc.control().models().delete_version(rpc.text("name")).await?;
    operations::to_wire(&rpc, &operation)
}

async fn delete(rpc: Rpc) -> Result<Value, Fault> {
    let operation = rpc.control().models().delete(rpc.text("name")).await?;
    operations::to_wire(&rpc, &operation)
}

/// The version that a name without one means.
fn default_version(model: &Model) -> u32 {
    let is_default = |version: &&Version| version.aliases.iter().any(|alias| alias == "default");
    let version = model.versions.iter().find(is_default).or(model.versions.last());
    version.map_or(1, |version| version.number)
}

/// `google.cloud.aiplatform.v1.Model` of one version.
pub(super) fn to_wire(model: &Model, number: u32, deployed: &[DeployedAt]) -> Value {
    let mut wire = json!({
        "name": model.name,
        "displayName": model.display_name,
        "description": model.description,
        "labels": labels(&model.labels),
        "etag": model.etag,
        "createTime": time(model.create_time),
        "updateTime": time(model.update_time),
        "supportedDeploymentResourcesTypes": ["DEDICATED_RESOURCES", "AUTOMATIC_RESOURCES"],
        "supportedInputStorageFormats": ["csv", "jsonl", "parquet"],
        "supportedOutputStorageFormats": ["csv", "jsonl"],
        "deployedModels": deployed.iter().filter(|at| !at.is_draft).map(deployed_at).collect::<Vec<_>>(),
    });
    let version = model.versions.iter().find(|version| version.number == number);
    if let (Some(version), Some(wire)) = (version, wire.as_object_mut()) {
        add_version(wire, version);
    }
    wire
}

fn deployed_at(at: &DeployedAt) -> Value {
    json!({"endpoint": at.endpoint, "deployedModelId": at.id})
}

fn add_version(wire: &mut Map<String, Value>, version: &Version) {
    let source = if version.training_job.is_some() { "AUTOML" } else { "CUSTOM" };
    let mut metadata = Map::new();
    metadata.insert("serving".to_owned(), json!(version.serving));
    metadata.insert("artifactDigest".to_owned(), version.artifact.to_string().into());
    if let Some(digest) = version.dataset_digest {
        metadata.insert("datasetDigest".to_owned(), digest.to_string().into());
    }
    let mut set = |name: &str, value: Value| wire.insert(name.to_owned(), value);
    set("versionId", version.number.to_string().into());
    set("versionAliases", version.aliases.clone().into());
    set("versionDescription", version.description.clone().into());
    set("versionCreateTime", time(version.create_time));
    set("versionUpdateTime", time(version.update_time));
    set("modelSourceInfo", json!({"sourceType": source}));
    set("metadata", metadata.into());
    if let Some(uri) = &version.artifact_uri {
        set("artifactUri", uri.clone().into());
    }
    if let Some(job) = version.training_job.as_ref().filter(|job| job.contains("/trainingPipelines/")) {
        set("trainingPipeline", job.clone().into());
    }
    if let Some(spec) = &version.explanation {
        set("explanationSpec", spec.as_written.clone());
    }
    if let Some(container) = &version.container {
        let mut spec = container.rest.as_object().cloned().unwrap_or_default();
        spec.insert("imageUri".to_owned(), container.image_uri.clone().into());
        set("containerSpec", spec.into());
    }
}
