//! Pipeline jobs, of the one kind that needs no containers: evaluations, as the Python library's `Model.evaluate()` asks for
//! them. It fetches a template from Google's registry, fills it in and has it run; the template here says only what is to be
//! filled in, and what runs is an evaluation job.

use std::collections::BTreeMap;

use control::{EvaluationJob, Job, JobCollection, JobKind, JobState, NewEvaluation, NewPipeline, Parent};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::PROTOCOL;
use super::convert::{self, full_name, overlay, time};
use super::evaluations::input_format;
use super::pipelines::state;
use super::rpc::{Rpc, Served, page, procedure};
use crate::Fault;
use crate::fields::{Fields, invalid};
use crate::http::Permission::{Read, Write};
use crate::http::{Access, Call, Response, Route, Takes, Template, handler, json_reply};

/// The procedures of this file.
pub(super) fn served() -> Vec<Served> {
    vec![
        procedure("PipelineService.CreatePipelineJob", Write, create).takes::<CreateWire>(),
        procedure("PipelineService.GetPipelineJob", Read, get),
        procedure("PipelineService.ListPipelineJobs", Read, list).lists(),
        procedure("PipelineService.CancelPipelineJob", Write, cancel),
        procedure("PipelineService.DeletePipelineJob", Write, delete),
    ]
}

/// Where the library looks for templates, at `us-kfp.pkg.dev`.
const TEMPLATES: &str = "/vertex-evaluation/pipeline-templates/{template}/1.0.0";

/// What is known of a template by its name.
const NAMES: [(&str, &str); 4] = [
    ("evaluation-classification-pipeline", CLASSIFICATION),
    ("evaluation-automl-tabular-classification-pipeline", CLASSIFICATION),
    ("evaluation-regression-pipeline", REGRESSION),
    ("evaluation-automl-tabular-regression-pipeline", REGRESSION),
];
const CLASSIFICATION: &str = "evaluation-classification-pipeline";
const REGRESSION: &str = "evaluation-regression-pipeline";

/// What a template takes, and of which type.
const PARAMETERS: [(&str, &str); 9] = [
    ("project", "STRING"),
    ("location", "STRING"),
    ("model_name", "STRING"),
    ("evaluation_display_name", "STRING"),
    ("evaluation_class_labels", "LIST"),
    ("target_field_name", "STRING"),
    ("batch_predict_instances_format", "STRING"),
    ("batch_predict_gcs_source_uris", "LIST"),
    ("batch_predict_gcs_destination_output_uri", "STRING"),
];

/// Parameters that say where or by whom something is done that is not done here.
const HARMLESS: [&str; 4] =
    ["project", "location", "batch_predict_gcs_destination_output_uri", "dataflow_service_account"];

/// The route on which templates are fetched.
pub(super) fn template_route() -> Option<Route> {
    Some(Route {
        method: Method::GET,
        template: Template::parse(TEMPLATES)?,
        pattern: TEMPLATES.to_owned(),
        access: Access::Needs(Read),
        protocol: PROTOCOL,
        handler: handler(template),
        takes: Takes::default(),
        served: true,
    })
}

async fn template(call: Call) -> Result<Response, Fault> {
    let segments = call.segments()?;
    let asked = segments.get(2).map_or("", String::as_str);
    let (_, name) = NAMES.iter().find(|(name, _)| *name == asked).ok_or_else(|| {
        let known = NAMES.map(|(name, _)| name).join(", ");
        Fault::not_found(format!(
            "there is no pipeline template {asked} here, only {known}; attributions are what `explain` and batches with \
             `generate_explanation` give"
        ))
    })?;
    let parameters: Map<String, Value> = PARAMETERS
        .iter()
        .map(|(name, kind)| ((*name).to_owned(), json!({"parameterType": kind, "isOptional": true})))
        .collect();
    // JSON, which is YAML as well.
    let template = json!({
        "pipelineInfo": {"name": name},
        "schemaVersion": "2.1.0",
        "root": {"inputDefinitions": {"parameters": parameters}, "dag": {"tasks": {}}},
    });
    json_reply(StatusCode::OK, &template)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateWire {
    parent: String,
    #[serde(default)]
    pipeline_job_id: Option<String>,
    pipeline_job: JobWire,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct JobWire {
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    pipeline_spec: Value,
    runtime_config: RuntimeWire,
    /// Where the template came from; what it is, it says itself.
    #[serde(default)]
    #[allow(dead_code, reason = "named so that it is taken")]
    template_uri: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RuntimeWire {
    #[serde(default)]
    parameter_values: Map<String, Value>,
    /// Where a pipeline of containers would leave files.
    #[serde(default)]
    #[allow(dead_code, reason = "named so that it is taken")]
    gcs_output_directory: String,
}

async fn create(mut rpc: Rpc) -> Result<Value, Fault> {
    let as_written = rpc.request.get("pipelineJob").cloned().unwrap_or_default();
    let wire: CreateWire = rpc.read()?;
    let (parent, job) = (Parent::parse(&wire.parent)?, wire.pipeline_job);
    let name = job.pipeline_spec.pointer("/pipelineInfo/name").and_then(Value::as_str).unwrap_or_default();
    if !NAMES.iter().any(|(known, _)| *known == name) {
        return Err(Fault::unimplemented(format!(
            "pipelineJob.pipelineSpec is of {name:?}: this server runs no containers, and of pipelines only those that \
             evaluate a model ({CLASSIFICATION}, {REGRESSION})"
        )));
    }
    let mut parameters =
        Fields::of(Value::Object(job.runtime_config.parameter_values), "runtimeConfig.parameterValues")?;
    for name in HARMLESS {
        parameters.take(name);
    }
    let model = full_name(&parent, "models", &parameters.needed_text("model_name")?);
    rpc.allow_name(&model)?;
    let format = parameters.text("batch_predict_instances_format")?.unwrap_or_else(|| "jsonl".to_owned());
    let display_name = parameters.text("evaluation_display_name")?.unwrap_or_default();
    let new = NewEvaluation {
        display_name: if display_name.is_empty() { job.display_name } else { display_name },
        model,
        uris: texts(&mut parameters, "batch_predict_gcs_source_uris")?,
        format: input_format("batch_predict_instances_format", &format)?,
        target: parameters.text("target_field_name")?,
        class_labels: texts(&mut parameters, "evaluation_class_labels")?,
        pipeline: Some(NewPipeline {
            id: wire.pipeline_job_id.filter(|id| !id.is_empty()),
            labels: job.labels,
            as_written,
        }),
        ..NewEvaluation::default()
    };
    parameters.finish()?;
    let (job, _) = rpc.control().jobs().create_evaluation(&parent, new).await?;
    to_wire(&job)
}

/// A list of texts; none when it is absent.
fn texts(fields: &mut Fields, name: &str) -> Result<Vec<String>, Fault> {
    let path = fields.path(name);
    let list = Value::Array(fields.list(name)?.unwrap_or_default());
    serde_json::from_value(list).map_err(|_| invalid(path, "must be a list of texts"))
}

async fn get(rpc: Rpc) -> Result<Value, Fault> {
    to_wire(&rpc.control().jobs().get(rpc.text("name")).await?)
}

async fn list(rpc: Rpc) -> Result<Value, Fault> {
    let jobs = rpc.control().jobs().list(&rpc.parent()?, JobCollection::Pipeline, &rpc.list_query()?).await?;
    let items = jobs.items.iter().map(to_wire).collect::<Result<Vec<_>, _>>()?;
    let jobs = control::Page { items, next_page_token: jobs.next_page_token };
    Ok(page("pipelineJobs", jobs, |job| job))
}

async fn cancel(rpc: Rpc) -> Result<Value, Fault> {
    let job = rpc.control().jobs().get(rpc.text("name")).await?;
    evaluation(&job)?;
    rpc.control().jobs().cancel(&job.name).await?;
    Ok(json!({}))
}

async fn delete(rpc: Rpc) -> Result<Value, Fault> {
    let job = rpc.control().jobs().get(rpc.text("name")).await?;
    evaluation(&job)?;
    rpc.control().jobs().delete(&job.name).await?;
    super::operations::deleted(&rpc, &job.name)
}

/// What the job does, and the pipeline as which it was asked for.
fn evaluation(job: &Job) -> Result<(&EvaluationJob, &Value), Fault> {
    match &job.kind {
        JobKind::Evaluation(evaluation @ EvaluationJob { pipeline: Some(written), .. }) => {
            Ok((evaluation, written))
        }
        _ => Err(Fault::not_found(format!("{} is no pipeline job", job.name))),
    }
}

/// `google.cloud.aiplatform.v1.PipelineJob`.
fn to_wire(job: &Job) -> Result<Value, Fault> {
    let (evaluation, written) = evaluation(job)?;
    let mut wire = convert::job(job, state(job));
    let mut set = |name: &str, value: Value| wire.insert(name.to_owned(), value);
    set("jobDetail", json!({"taskDetails": [task(job, evaluation)]}));
    overlay(&mut wire, written);
    Ok(Value::Object(wire))
}

/// The one task, in whose execution the library looks for the evaluation.
fn task(job: &Job, evaluation: &EvaluationJob) -> Value {
    let (task, execution) = match job.state {
        JobState::Pending => ("PENDING", "NEW"),
        JobState::Running => ("RUNNING", "RUNNING"),
        JobState::Succeeded => ("SUCCEEDED", "COMPLETE"),
        JobState::Failed => ("FAILED", "FAILED"),
        JobState::Cancelled => ("CANCELLED", "CANCELLED"),
    };
    let mut metadata = json!({
        "component_type": "fpc-model-evaluation",
        "pipeline_job_resource_name": job.name,
        "rows": evaluation.rows,
    });
    if let Some(result) = &evaluation.result {
        metadata["output:evaluation_resource_name"] = result.clone().into();
    }
    json!({
        "taskId": "1",
        "taskName": job.name.rsplit('/').next().unwrap_or_default(),
        "createTime": time(job.create_time),
        "state": task,
        "execution": {"state": execution, "schemaTitle": "system.DagExecution", "metadata": metadata},
    })
}
