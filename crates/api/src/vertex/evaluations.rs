//! Evaluations of model versions, and their slices.

use std::sync::Arc;

use control::{Evaluation, InputFormat, LabelSets, NewEvaluation, NewEvaluationImport, RowFormat, Slice};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::PROTOCOL;
use super::convert::{time, whole_numbers};
use super::datasets::SourceWire;
use super::operations;
use super::rpc::{Rpc, Served, page, procedure, read_value};
use super::schema::{Schema, SchemaError, sendable};
use crate::http::Permission::{Read, Write};
use crate::http::{Access, Call, Route, Takes, Template, handler, json_reply};
use crate::{Fault, shape};

/// The procedures of this file.
pub(super) fn served() -> Vec<Served> {
    vec![
        procedure("ModelService.ImportModelEvaluation", Write, import).takes::<ImportWire>(),
        procedure("ModelService.GetModelEvaluation", Read, get),
        procedure("ModelService.ListModelEvaluations", Read, list).lists(),
        procedure("ModelService.GetModelEvaluationSlice", Read, get_slice),
        procedure("ModelService.ListModelEvaluationSlices", Read, list_slices).lists(),
    ]
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ImportWire {
    parent: String,
    model_evaluation: EvaluationWire,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EvaluationWire {
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    metrics_schema_uri: String,
    #[serde(default)]
    metrics: Value,
    #[serde(default)]
    metadata: Value,
}

async fn import(mut rpc: Rpc) -> Result<Value, Fault> {
    let wire: ImportWire = rpc.read()?;
    if wire.model_evaluation.metrics.is_null() {
        return Err(Fault::invalid("modelEvaluation.metrics is missing: there is nothing to keep"));
    }
    let new = NewEvaluationImport {
        display_name: wire.model_evaluation.display_name,
        metrics_schema_uri: wire.model_evaluation.metrics_schema_uri,
        metrics: whole_numbers(wire.model_evaluation.metrics),
        metadata: whole_numbers(wire.model_evaluation.metadata),
        ..NewEvaluationImport::default()
    };
    Ok(to_wire(&rpc.control().evaluations().import(&wire.parent, new).await?))
}

async fn get(rpc: Rpc) -> Result<Value, Fault> {
    Ok(to_wire(&rpc.control().evaluations().get(rpc.text("name")).await?))
}

async fn list(rpc: Rpc) -> Result<Value, Fault> {
    let evaluations = rpc.control().evaluations().list(rpc.text("parent"), &rpc.list_query()?).await?;
    Ok(page("modelEvaluations", evaluations, |evaluation| to_wire(&evaluation)))
}

async fn get_slice(rpc: Rpc) -> Result<Value, Fault> {
    let name = rpc.text("name");
    let slice = rpc.control().evaluations().get_slice(name).await?;
    let evaluation = name.split("/slices/").next().unwrap_or("");
    let schema_uri = rpc.control().evaluations().get(evaluation).await?.metrics_schema_uri;
    Ok(slice_to_wire(evaluation, &schema_uri, &slice))
}

async fn list_slices(rpc: Rpc) -> Result<Value, Fault> {
    let name = rpc.text("parent");
    let slices = rpc.control().evaluations().list_slices(name, &rpc.list_query()?).await?;
    let schema_uri = rpc.control().evaluations().get(name).await?.metrics_schema_uri;
    Ok(page("modelEvaluationSlices", slices, |slice| slice_to_wire(name, &schema_uri, &slice)))
}

/// `google.cloud.aiplatform.v1.ModelEvaluation`.
pub(super) fn to_wire(evaluation: &Evaluation) -> Value {
    let mut wire = json!({
        "name": evaluation.name,
        "displayName": evaluation.display_name,
        "metricsSchemaUri": evaluation.metrics_schema_uri,
        "metrics": evaluation.metrics,
        "createTime": time(evaluation.create_time),
        "sliceDimensions": dimensions(&evaluation.slices),
    });
    if !evaluation.metadata.is_null() {
        wire["metadata"] = evaluation.metadata.clone();
    }
    wire
}

fn dimensions(slices: &[Slice]) -> Vec<&str> {
    let mut columns: Vec<&str> = slices.iter().map(|slice| slice.column.as_str()).collect();
    columns.dedup();
    columns
}

/// `google.cloud.aiplatform.v1.ModelEvaluationSlice`.
fn slice_to_wire(evaluation: &str, schema_uri: &str, slice: &Slice) -> Value {
    let config = json!({"configs": {&slice.column: {"value": {"stringValue": slice.value}}}});
    json!({
        "name": format!("{evaluation}/slices/{}", slice.id),
        "slice": {"dimension": slice.column, "value": slice.value, "sliceSpec": config},
        "metricsSchemaUri": schema_uri,
        "metrics": slice.metrics,
        "createTime": time(slice.create_time),
    })
}

/// The body of `POST …/models/{model}:evaluate`, which is ours: Vertex leaves evaluations to pipelines.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EvaluateWire {
    /// What to call the evaluation.
    #[serde(default)]
    display_name: String,
    /// The labelled rows.
    gcs_source: SourceWire,
    /// `csv` (the default), `jsonl` or `parquet`.
    #[serde(default = "csv")]
    instances_format: String,
    /// The column with the truth; the training label column when absent.
    #[serde(default)]
    target_column: Option<String>,
    /// Columns to slice by.
    #[serde(default)]
    slice_by: Vec<String>,
    /// How labels are read and predicted, where a row may have any number of them.
    #[serde(default)]
    multi_label: Option<LabelSetsWire>,
    /// The version to compare it with on the same rows, by resource name.
    #[serde(default)]
    against: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LabelSetsWire {
    /// What stands between labels in a cell; `|` when absent. In JSONL they are a list.
    #[serde(default)]
    separator: Option<String>,
    /// A label with a score of at least this is predicted; 0.5 when absent.
    #[serde(default)]
    threshold: Option<f32>,
    /// What the scores are of, in their order, where the model does not say.
    #[serde(default)]
    labels: Vec<String>,
}

impl LabelSetsWire {
    fn sets(self) -> LabelSets {
        LabelSets {
            separator: self.separator.unwrap_or_else(|| "|".to_owned()),
            threshold: self.threshold.unwrap_or(0.5),
            labels: self.labels,
        }
    }
}

fn csv() -> String {
    "csv".to_owned()
}

const EVALUATE: &str = "/v1/{model=projects/*/locations/*/models/*}:evaluate";

/// The route of `:evaluate`: it answers an operation whose response is the `ModelEvaluation`.
pub(super) fn evaluate_route(schema: &Arc<Schema>) -> Result<Route, SchemaError> {
    let lacks = || SchemaError::Lacks(EVALUATE.to_owned());
    let template = Template::parse(EVALUATE).ok_or_else(lacks)?;
    let operation = schema.message("google.longrunning.Operation")?;
    let (schema, variables) = (Arc::clone(schema), template.clone());
    Ok(Route {
        method: Method::POST,
        template,
        pattern: EVALUATE.to_owned(),
        access: Access::Needs(Write),
        protocol: PROTOCOL,
        handler: handler(move |call| {
            let (schema, variables, operation) = (Arc::clone(&schema), variables.clone(), operation.clone());
            async move {
                let reply = evaluate(call, schema, &variables).await?;
                json_reply(StatusCode::OK, &sendable(&operation, &reply)?)
            }
        }),
        takes: Takes { body: Some(shape::of::<EvaluateWire>()), ..Takes::default() },
        served: true,
    })
}

async fn evaluate(call: Call, schema: Arc<Schema>, template: &Template) -> Result<Value, Fault> {
    let model = call.variable(template, 0)?.into_owned();
    let rpc = Rpc::own(&call, schema, serde_json::Map::new());
    let bytes = call.body.read().await?;
    let body: Value = serde_json::from_slice(&bytes)
        .map_err(|e| Fault::invalid(format!("the request's body is not JSON: {e}")))?;
    let wire: EvaluateWire = read_value(body)?;
    let (parent, _) = control::Parent::split(&model)?;
    let new = NewEvaluation {
        display_name: wire.display_name,
        model,
        uris: wire.gcs_source.uris,
        format: input_format("instancesFormat", &wire.instances_format)?,
        target: wire.target_column,
        slice_by: wire.slice_by,
        multi_label: wire.multi_label.map(LabelSetsWire::sets),
        against: wire.against,
        ..NewEvaluation::default()
    };
    let (_, operation) = rpc.control().jobs().create_evaluation(&parent, new).await?;
    operations::to_wire(&rpc, &operation)
}

/// A format of rows to be read, by the name that Vertex gives it.
pub(super) fn input_format(field: &str, name: &str) -> Result<InputFormat, Fault> {
    match name {
        "csv" => Ok(InputFormat::Csv),
        "jsonl" => Ok(InputFormat::Jsonl),
        "parquet" => Ok(InputFormat::Parquet),
        other => Err(Fault::invalid(format!("{field} is {other:?}; it must be csv, jsonl or parquet"))),
    }
}

/// A format of rows to be written, by the name that Vertex gives it.
pub(super) fn row_format(field: &str, name: &str) -> Result<RowFormat, Fault> {
    match name {
        "csv" => Ok(RowFormat::Csv),
        "jsonl" => Ok(RowFormat::Jsonl),
        other => Err(Fault::invalid(format!("{field} is {other:?}; it must be csv or jsonl"))),
    }
}
