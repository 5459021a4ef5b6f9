//! Long-running operations.

use std::time::Duration;

use control::{Operation, OperationKind, OperationResult, Page, Parent};
use prost_reflect::MessageDescriptor;
use serde_json::{Value, json};

use super::convert::{status, time};
use super::rpc::{Rpc, Served, page, procedure};
use super::schema::{Binding, BodyRule, Schema, any};
use super::{datasets, endpoints, evaluations, pull};
use crate::Fault;
use crate::http::Permission::{Read, Write};

/// The procedures of this file.
pub(super) fn served() -> Vec<Served> {
    vec![
        procedure("Operations.ListOperations", Read, list),
        procedure("Operations.GetOperation", Read, get),
        procedure("Operations.WaitOperation", Read, wait),
        procedure("Operations.CancelOperation", Write, cancel),
        procedure("Operations.DeleteOperation", Write, delete),
    ]
}

/// Where an operation may hang: at the location, at a resource, at a resource's part.
const PARENTS: [&str; 3] =
    ["projects/*/locations/*", "projects/*/locations/*/*/*", "projects/*/locations/*/*/*/*/*"];

/// The addresses of operations: the description leaves them to the service's configuration. `/ui` is
/// where the Python library looks.
pub(super) fn more_bindings(procedure: &str) -> Vec<Binding> {
    let (method, verb) = match procedure {
        "Operations.GetOperation" => (http::Method::GET, ""),
        "Operations.DeleteOperation" => (http::Method::DELETE, ""),
        "Operations.CancelOperation" => (http::Method::POST, ":cancel"),
        "Operations.WaitOperation" => (http::Method::POST, ":wait"),
        "Operations.ListOperations" => return list_bindings(),
        _ => return Vec::new(),
    };
    let body = if method == http::Method::POST { BodyRule::Whole } else { BodyRule::None };
    let binding = |prefix: &str, parent: &str| Binding {
        method: method.clone(),
        path: format!("/{prefix}/{{name={parent}/operations/*}}{verb}"),
        body: body.clone(),
    };
    ["v1", "ui"].iter().flat_map(|prefix| PARENTS.map(|parent| binding(prefix, parent))).collect()
}

fn list_bindings() -> Vec<Binding> {
    let binding = |prefix: &str, parent: &str| Binding {
        method: http::Method::GET,
        path: format!("/{prefix}/{{name={parent}}}/operations"),
        body: BodyRule::None,
    };
    ["v1", "ui"].iter().flat_map(|prefix| PARENTS.map(|parent| binding(prefix, parent))).collect()
}

async fn get(rpc: Rpc) -> Result<Value, Fault> {
    let operation = rpc.control().operations().get(rpc.text("name")).await?;
    to_wire(&rpc, &operation)
}

async fn list(rpc: Rpc) -> Result<Value, Fault> {
    let name = rpc.text("name");
    let (parent, target) = Parent::split(name)?;
    let found = rpc.control().operations().list(&parent, &rpc.list_query()?).await?;
    let mut operations = Vec::new();
    for operation in found.items {
        let here =
            operation.target.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if target.is_empty() || here {
            operations.push(to_wire(&rpc, &operation)?);
        }
    }
    let found = Page { items: operations, next_page_token: found.next_page_token };
    Ok(page("operations", found, |operation| operation))
}

async fn wait(rpc: Rpc) -> Result<Value, Fault> {
    let longest = rpc.app.limits.wait_timeout;
    let asked = match rpc.request.get("timeout").and_then(Value::as_str) {
        Some(text) => duration(text)?,
        None => longest,
    };
    let operation = rpc.control().operations().wait(rpc.text("name"), asked.min(longest)).await?;
    to_wire(&rpc, &operation)
}

/// ProtoJSON's `3.5s`.
fn duration(text: &str) -> Result<Duration, Fault> {
    let seconds = text.strip_suffix('s').and_then(|number| number.parse().ok());
    let duration = seconds.and_then(|s: f64| Duration::try_from_secs_f64(s).ok());
    duration.ok_or_else(|| Fault::invalid(format!("timeout must be like `30s`, not {text:?}")))
}

async fn cancel(rpc: Rpc) -> Result<Value, Fault> {
    rpc.control().operations().cancel(rpc.text("name")).await?;
    Ok(json!({}))
}

async fn delete(rpc: Rpc) -> Result<Value, Fault> {
    rpc.control().operations().delete(rpc.text("name")).await?;
    Ok(json!({}))
}

/// `google.longrunning.Operation`.
///
/// # Errors
/// If the description lacks a type: a defect.
pub(super) fn to_wire(rpc: &Rpc, operation: &Operation) -> Result<Value, Fault> {
    let schema = &rpc.schema;
    let generic =
        json!({"createTime": time(operation.create_time), "updateTime": time(operation.update_time)});
    let metadata = match metadata_type(operation.kind) {
        "google.protobuf.Struct" => pull::metadata(operation),
        "GenericOperationMetadata" => any(&message(schema, "GenericOperationMetadata")?, generic),
        name => any(&message(schema, name)?, json!({"genericMetadata": generic})),
    };
    let mut wire = json!({"name": operation.name, "metadata": metadata, "done": operation.done});
    match &operation.outcome {
        Some(Ok(result)) => {
            let (name, fields) = response(rpc, operation.kind, result);
            wire["response"] = any(&message(schema, name)?, fields);
        }
        Some(Err(error)) => wire["error"] = status(error),
        None => {}
    }
    Ok(wire)
}

fn message(schema: &Schema, name: &str) -> Result<MessageDescriptor, Fault> {
    schema.message(name).map_err(|e| Fault::internal("describing the operation", e))
}

fn metadata_type(kind: OperationKind) -> &'static str {
    match kind {
        OperationKind::UploadModel => "UploadModelOperationMetadata",
        OperationKind::DeleteModel
        | OperationKind::DeleteModelVersion
        | OperationKind::DeleteEndpoint
        | OperationKind::DeleteDataset => "DeleteOperationMetadata",
        OperationKind::CreateEndpoint => "CreateEndpointOperationMetadata",
        OperationKind::DeployModel => "DeployModelOperationMetadata",
        OperationKind::UndeployModel => "UndeployModelOperationMetadata",
        OperationKind::MutateDeployedModel => "MutateDeployedModelOperationMetadata",
        OperationKind::CreateDataset => "CreateDatasetOperationMetadata",
        OperationKind::ImportData => "ImportDataOperationMetadata",
        OperationKind::EvaluateModel => "GenericOperationMetadata",
        OperationKind::PullModel => "google.protobuf.Struct",
    }
}

/// The response's type and its fields.
fn response(rpc: &Rpc, kind: OperationKind, result: &OperationResult) -> (&'static str, Value) {
    match result {
        OperationResult::Deleted => ("google.protobuf.Empty", json!({})),
        OperationResult::Version { model, version } => {
            ("UploadModelResponse", json!({"model": model, "modelVersionId": version.to_string()}))
        }
        OperationResult::Endpoint(endpoint) => ("Endpoint", endpoints::to_wire(rpc, endpoint)),
        OperationResult::Deployed(deployed) => {
            let name = if kind == OperationKind::MutateDeployedModel {
                "MutateDeployedModelResponse"
            } else {
                "DeployModelResponse"
            };
            (name, json!({"deployedModel": endpoints::deployed_to_wire(deployed)}))
        }
        OperationResult::Undeployed => ("UndeployModelResponse", json!({})),
        OperationResult::Dataset(_) if kind == OperationKind::ImportData => ("ImportDataResponse", json!({})),
        OperationResult::Dataset(dataset) => ("Dataset", datasets::to_wire(dataset)),
        OperationResult::Evaluation(evaluation) => ("ModelEvaluation", evaluations::to_wire(evaluation)),
    }
}

/// A finished operation for the deletion of `target`, where the control plane makes none.
///
/// # Errors
/// If the description lacks a type: a defect.
pub(super) fn deleted(rpc: &Rpc, target: &str) -> Result<Value, Fault> {
    done(rpc, target, "DeleteOperationMetadata", "google.protobuf.Empty", json!({}))
}

/// An operation on `target` that is done, with `metadata` of this type and a response of that.
///
/// # Errors
/// If the description lacks a type: a defect.
pub(super) fn done(
    rpc: &Rpc,
    target: &str,
    metadata: &str,
    kind: &str,
    response: Value,
) -> Result<Value, Fault> {
    let metadata = any(&message(&rpc.schema, metadata)?, json!({}));
    let response = any(&message(&rpc.schema, kind)?, response);
    Ok(
        json!({"name": format!("{target}/operations/done"), "metadata": metadata, "done": true, "response": response}),
    )
}
