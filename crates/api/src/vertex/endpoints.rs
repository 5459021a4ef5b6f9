//! Endpoints and what is deployed to them.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use control::{
    CONCURRENCY_MAX, DeployedModel, DeployedPatch, DraftModel, Endpoint, EndpointPatch, NewDeployedModel,
    NewEndpoint, Parent,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::convert::{full_name, labels, mask, overlay, split, time, unchangeable};
use super::explanation::{self, SpecWire};
use super::models::{take, take_text};
use super::operations;
use super::rpc::{Rpc, Served, page, procedure};
use crate::fields::invalid;
use crate::http::Permission::{Read, Write};
use crate::{Code, Fault};

/// The procedures of this file.
pub(super) fn served() -> Vec<Served> {
    vec![
        procedure("EndpointService.CreateEndpoint", Write, create).takes::<CreateWire>(),
        procedure("EndpointService.GetEndpoint", Read, get),
        procedure("EndpointService.ListEndpoints", Read, list).lists(),
        procedure("EndpointService.UpdateEndpoint", Write, update),
        procedure("EndpointService.DeleteEndpoint", Write, delete),
        procedure("EndpointService.DeployModel", Write, deploy).takes::<DeployWire>(),
        procedure("EndpointService.UndeployModel", Write, undeploy).takes::<UndeployWire>(),
        procedure("EndpointService.MutateDeployedModel", Write, mutate),
    ]
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateWire {
    parent: String,
    #[serde(default)]
    endpoint_id: Option<String>,
    endpoint: EndpointWire,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EndpointWire {
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    dedicated_endpoint_enabled: bool,
}

/// The field of an endpoint whose predictions clients ask for at an address of its own.
const DEDICATED: &str = "dedicatedEndpointEnabled";

async fn create(mut rpc: Rpc) -> Result<Value, Fault> {
    let wire: CreateWire = rpc.read()?;
    let parent = Parent::parse(&wire.parent)?;
    let dedicated = wire.endpoint.dedicated_endpoint_enabled;
    if dedicated && rpc.reached.is_none() {
        return Err(Fault::new(
            Code::FailedPrecondition,
            "a dedicated endpoint is asked over TLS: start the server with --tls-cert, or run `meuse env vertex` beside it",
        ));
    }
    let new = NewEndpoint {
        endpoint_id: wire.endpoint_id,
        display_name: wire.endpoint.display_name,
        description: wire.endpoint.description,
        labels: wire.endpoint.labels,
        as_written: if dedicated { json!({DEDICATED: true}) } else { Value::Null },
    };
    let operation = rpc.control().endpoints().create(&parent, new).await?;
    operations::to_wire(&rpc, &operation)
}

async fn get(rpc: Rpc) -> Result<Value, Fault> {
    Ok(to_wire(&rpc, &rpc.control().endpoints().get(rpc.text("name")).await?))
}

async fn list(rpc: Rpc) -> Result<Value, Fault> {
    let endpoints = rpc.control().endpoints().list(&rpc.parent()?, &rpc.list_query()?).await?;
    Ok(page("endpoints", endpoints, |endpoint| to_wire(&rpc, &endpoint)))
}

async fn update(mut rpc: Rpc) -> Result<Value, Fault> {
    let paths = rpc.text("updateMask").to_owned();
    let mut written = match rpc.request.remove("endpoint") {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let name = take_text(&mut written, "name");
    let etag = Some(take_text(&mut written, "etag")).filter(|etag| !etag.is_empty());
    let patch = patch(&paths, written)?;
    Ok(to_wire(&rpc, &rpc.control().endpoints().update(&name, patch, etag.as_deref()).await?))
}

fn patch(paths: &str, mut written: Map<String, Value>) -> Result<EndpointPatch, Fault> {
    let mut patch = EndpointPatch::default();
    if mask(paths).next().is_none() {
        return Err(Fault::invalid("updateMask is missing: say which fields to change"));
    }
    for path in mask(paths) {
        match path {
            "displayName" => patch.display_name = Some(take_text(&mut written, path)),
            "description" => patch.description = Some(take_text(&mut written, path)),
            "labels" => patch.labels = Some(take(&mut written, path)?.unwrap_or_default()),
            "trafficSplit" => {
                patch.traffic_split = Some(split(take(&mut written, path)?.unwrap_or_default())?);
            }
            other => return Err(unchangeable(other)),
        }
    }
    Ok(patch)
}

async fn delete(rpc: Rpc) -> Result<Value, Fault> {
    let operation = rpc.control().endpoints().delete(rpc.text("name")).await?;
    operations::to_wire(&rpc, &operation)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeployWire {
    endpoint: String,
    deployed_model: DeployedWire,
    #[serde(default)]
    traffic_split: BTreeMap<String, i32>,
}

/// A deployed model as a client describes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeployedWire {
    #[serde(default)]
    id: String,
    #[serde(default)]
    model: String,
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    explanation_spec: Option<SpecWire>,
    #[serde(default)]
    speculative_decoding_spec: Option<SpeculationWire>,
    #[serde(default)]
    system_labels: BTreeMap<String, String>,
    /// What the client would rent; kept, as this machine is what there is.
    #[serde(default)]
    dedicated_resources: Option<Value>,
    #[serde(default)]
    automatic_resources: Option<Value>,
}

/// How what a language model will say is guessed. Looking it up in the text itself is always done, and how many tokens
/// are guessed adapts to how often they are right: neither is to be chosen.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SpeculationWire {
    draft_model_speculation: DraftWire,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DraftWire {
    draft_model: String,
}

/// The system label that says how many batches, or answers of a language model, are computed at once at most.
const CONCURRENCY: &str = "meuse-concurrency";
/// What begins the system labels that mean something here.
const OURS: &str = "meuse-";

impl DeployedWire {
    /// What the system labels say. Google's own are bookkeeping, and mean nothing here.
    fn concurrency(&self) -> Result<Option<NonZeroUsize>, Fault> {
        let place = |label: &str| format!("deployedModel.systemLabels.{label}");
        let ours = self.system_labels.keys().filter(|label| label.starts_with(OURS));
        if let Some(unknown) = ours.into_iter().find(|label| *label != CONCURRENCY) {
            return Err(invalid(place(unknown), format!("is not known; there is `{CONCURRENCY}`")));
        }
        let Some(text) = self.system_labels.get(CONCURRENCY) else { return Ok(None) };
        let most = text.parse().ok().filter(|most: &NonZeroUsize| most.get() <= CONCURRENCY_MAX);
        match most {
            Some(most) => Ok(Some(most)),
            None => Err(invalid(
                place(CONCURRENCY),
                format!("must be a whole number from 1 to {CONCURRENCY_MAX}"),
            )),
        }
    }

    fn resources(&self) -> Value {
        let mut kept = Map::new();
        for (name, value) in [
            ("dedicatedResources", &self.dedicated_resources),
            ("automaticResources", &self.automatic_resources),
        ] {
            if let Some(value) = value {
                kept.insert(name.to_owned(), value.clone());
            }
        }
        Value::Object(kept)
    }
}

async fn deploy(mut rpc: Rpc) -> Result<Value, Fault> {
    let wire: DeployWire = rpc.read()?;
    let (parent, _) = Parent::split(&wire.endpoint)?;
    if wire.deployed_model.model.is_empty() {
        return Err(Fault::invalid("deployedModel.model is missing: say which model to deploy"));
    }
    let model = full_name(&parent, "models", &wire.deployed_model.model);
    rpc.allow_name(&model)?;
    let speculation = wire.deployed_model.speculative_decoding_spec.as_ref();
    let draft =
        speculation.map(|spec| full_name(&parent, "models", &spec.draft_model_speculation.draft_model));
    draft.as_deref().map_or(Ok(()), |draft| rpc.allow_name(draft))?;
    let concurrency = wire.deployed_model.concurrency()?;
    let new = NewDeployedModel {
        model,
        id: Some(wire.deployed_model.id.clone()).filter(|id| !id.is_empty()),
        resources: wire.deployed_model.resources(),
        display_name: wire.deployed_model.display_name,
        explanation: wire.deployed_model.explanation_spec.map(explanation::from_wire).transpose()?,
        draft,
        concurrency,
    };
    let traffic = given_split(wire.traffic_split)?;
    let operation = rpc.control().endpoints().deploy(&wire.endpoint, new, traffic).await?;
    operations::to_wire(&rpc, &operation)
}

/// Clients send an empty map where they mean none.
fn given_split(percents: BTreeMap<String, i32>) -> Result<Option<BTreeMap<String, u32>>, Fault> {
    if percents.is_empty() { Ok(None) } else { split(percents).map(Some) }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UndeployWire {
    endpoint: String,
    #[serde(default)]
    deployed_model_id: String,
    #[serde(default)]
    traffic_split: BTreeMap<String, i32>,
}

async fn undeploy(mut rpc: Rpc) -> Result<Value, Fault> {
    let wire: UndeployWire = rpc.read()?;
    let traffic = given_split(wire.traffic_split)?;
    let endpoints = rpc.control().endpoints();
    let operation = endpoints.undeploy(&wire.endpoint, &wire.deployed_model_id, traffic).await?;
    operations::to_wire(&rpc, &operation)
}

async fn mutate(mut rpc: Rpc) -> Result<Value, Fault> {
    let paths = rpc.text("updateMask").to_owned();
    let endpoint = rpc.text("endpoint").to_owned();
    let mut written = match rpc.request.remove("deployedModel") {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let mut patch = DeployedPatch { id: take_text(&mut written, "id"), ..DeployedPatch::default() };
    let mut resources = Map::new();
    for path in mask(&paths) {
        let (head, _) = path.split_once('.').unwrap_or((path, ""));
        match head {
            "displayName" => patch.display_name = Some(take_text(&mut written, head)),
            "explanationSpec" => {
                let spec: Option<SpecWire> = take(&mut written, head)?;
                patch.explanation = Some(spec.map(explanation::from_wire).transpose()?);
            }
            "dedicatedResources" | "automaticResources" => {
                if let Some(value) = written.remove(head) {
                    resources.insert(head.to_owned(), value);
                }
                patch.resources = Some(Value::Object(resources.clone()));
            }
            _ => return Err(unchangeable(path)),
        }
    }
    let operation = rpc.control().endpoints().mutate(&endpoint, patch).await?;
    operations::to_wire(&rpc, &operation)
}

/// `google.cloud.aiplatform.v1.Endpoint`.
pub(super) fn to_wire(rpc: &Rpc, endpoint: &Endpoint) -> Value {
    let mut wire = json!({
        "name": endpoint.name,
        "displayName": endpoint.display_name,
        "description": endpoint.description,
        "labels": labels(&endpoint.labels),
        "deployedModels": endpoint.deployed_models.iter().map(deployed_to_wire).collect::<Vec<_>>(),
        "trafficSplit": endpoint.traffic_split,
        "etag": endpoint.etag,
        "createTime": time(endpoint.create_time),
        "updateTime": time(endpoint.update_time),
    });
    if endpoint.as_written.get(DEDICATED) == Some(&Value::Bool(true)) {
        wire[DEDICATED] = true.into();
        // Every endpoint has the server's own: the path says which is meant.
        if let Some(reached) = &rpc.reached {
            wire["dedicatedEndpointDns"] = reached.clone().into();
        }
    }
    wire
}

/// `google.cloud.aiplatform.v1.DeployedModel`.
pub(super) fn deployed_to_wire(deployed: &DeployedModel) -> Value {
    let mut wire = Map::new();
    let mut set = |name: &str, value: Value| wire.insert(name.to_owned(), value);
    set("id", deployed.id.clone().into());
    set("model", deployed.model.clone().into());
    set("modelVersionId", deployed.version.to_string().into());
    set("displayName", deployed.display_name.clone().into());
    set("createTime", time(deployed.create_time));
    if let Some(spec) = &deployed.explanation {
        set("explanationSpec", spec.as_written.clone());
    }
    if let Some(DraftModel { model, version }) = &deployed.draft {
        let draft = json!({"draftModel": format!("{model}@{version}")});
        set("speculativeDecodingSpec", json!({"draftModelSpeculation": draft}));
    }
    if let Some(most) = deployed.concurrency {
        set("systemLabels", json!({CONCURRENCY: most.to_string()}));
    }
    overlay(&mut wire, &deployed.resources);
    Value::Object(wire)
}
