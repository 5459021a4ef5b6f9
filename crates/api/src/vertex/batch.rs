//! Batch prediction jobs.

mod requests;

use std::collections::BTreeMap;

use control::{
    BatchJob, InstanceFields, InstanceType, Job, JobCollection, JobKind, JobState, NewBatch, Parent,
};
use serde::Deserialize;
use serde_json::{Value, json};

pub(crate) use self::requests::answerer;
use super::convert::{self, full_name, overlay};
use super::datasets::SourceWire;
use super::evaluations::{input_format, row_format};
use super::explanation::SpecWire;
use super::rpc::{Rpc, Served, page, procedure, read_value};
use crate::Fault;
use crate::http::Permission::{Read, Write};

/// The procedures of this file.
pub(super) fn served() -> Vec<Served> {
    vec![
        procedure("JobService.CreateBatchPredictionJob", Write, create).takes::<CreateWire>(),
        procedure("JobService.GetBatchPredictionJob", Read, get),
        procedure("JobService.ListBatchPredictionJobs", Read, list).lists(),
        procedure("JobService.CancelBatchPredictionJob", Write, cancel),
        procedure("JobService.DeleteBatchPredictionJob", Write, delete),
    ]
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateWire {
    parent: String,
    batch_prediction_job: JobWire,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct JobWire {
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    model: String,
    input_config: InputWire,
    #[serde(default)]
    instance_config: Option<InstanceWire>,
    output_config: OutputWire,
    #[serde(default)]
    model_parameters: Option<Value>,
    #[serde(default)]
    generate_explanation: bool,
    #[serde(default)]
    explanation_spec: Option<SpecWire>,
    /// What the client would rent; kept, as this machine is what there is.
    #[serde(default)]
    #[allow(dead_code, reason = "named so that it is taken")]
    dedicated_resources: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct InputWire {
    #[serde(default)]
    instances_format: String,
    gcs_source: SourceWire,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct InstanceWire {
    #[serde(default)]
    instance_type: String,
    #[serde(default)]
    key_field: String,
    #[serde(default)]
    included_fields: Vec<String>,
    #[serde(default)]
    excluded_fields: Vec<String>,
}

impl InstanceWire {
    fn fields(self) -> Result<InstanceFields, Fault> {
        let kind = match self.instance_type.as_str() {
            "" => InstanceType::AsWritten,
            "object" => InstanceType::Object,
            "array" => InstanceType::Array,
            other => {
                return Err(Fault::invalid(format!(
                    "batchPredictionJob.instanceConfig.instanceType is `{other}`; `object` and `array` are supported"
                )));
            }
        };
        let key = (!self.key_field.is_empty()).then_some(self.key_field);
        Ok(InstanceFields { included: self.included_fields, excluded: self.excluded_fields, key, kind })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OutputWire {
    #[serde(default)]
    predictions_format: String,
    gcs_destination: DestinationWire,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DestinationWire {
    #[serde(default)]
    output_uri_prefix: String,
}

async fn create(mut rpc: Rpc) -> Result<Value, Fault> {
    let as_written = rpc.request.get("batchPredictionJob").cloned().unwrap_or_default();
    let wire: CreateWire = rpc.read()?;
    let (parent, job) = (Parent::parse(&wire.parent)?, wire.batch_prediction_job);
    check_parameters(job.model_parameters.as_ref())?;
    if job.model.is_empty() {
        return Err(Fault::invalid("batchPredictionJob.model is missing: say which model predicts"));
    }
    if job.explanation_spec.is_some() {
        return Err(Fault::unimplemented(
            "field `batchPredictionJob.explanationSpec` has no effect on this server: \
             the model's own explanationSpec is used with generateExplanation",
        ));
    }
    let model = full_name(&parent, "models", &job.model);
    rpc.allow_name(&model)?;
    let new = NewBatch {
        display_name: job.display_name,
        labels: job.labels,
        model,
        instances_format: input_format("inputConfig.instancesFormat", &job.input_config.instances_format)?,
        input_uris: job.input_config.gcs_source.uris,
        predictions_format: row_format(
            "outputConfig.predictionsFormat",
            &job.output_config.predictions_format,
        )?,
        output_uri_prefix: job.output_config.gcs_destination.output_uri_prefix,
        fields: job.instance_config.map(InstanceWire::fields).transpose()?.unwrap_or_default(),
        explain: job.generate_explanation,
        protocol: super::PROTOCOL.name.to_owned(),
        as_written,
    };
    let job = rpc.control().jobs().create_batch(&parent, new).await?;
    to_wire(&job)
}

fn check_parameters(parameters: Option<&Value>) -> Result<(), Fault> {
    let parameters: Option<formats::Value> = parameters.cloned().map(read_value).transpose()?;
    super::predict::check_parameters(parameters.as_ref()).map_err(|fault| Fault {
        message: fault.message.replace("`parameters", "`batchPredictionJob.modelParameters"),
        ..fault
    })
}

async fn get(rpc: Rpc) -> Result<Value, Fault> {
    to_wire(&rpc.control().jobs().get(rpc.text("name")).await?)
}

async fn list(rpc: Rpc) -> Result<Value, Fault> {
    let jobs = rpc.control().jobs().list(&rpc.parent()?, JobCollection::Batch, &rpc.list_query()?).await?;
    let mut failed = None;
    let reply = page("batchPredictionJobs", jobs, |job| {
        to_wire(&job).unwrap_or_else(|fault| {
            failed = Some(fault);
            Value::Null
        })
    });
    failed.map_or(Ok(reply), Err)
}

async fn cancel(rpc: Rpc) -> Result<Value, Fault> {
    rpc.control().jobs().cancel(rpc.text("name")).await?;
    Ok(json!({}))
}

async fn delete(rpc: Rpc) -> Result<Value, Fault> {
    let name = rpc.text("name");
    rpc.control().jobs().delete(name).await?;
    super::operations::deleted(&rpc, name)
}

/// `google.cloud.aiplatform.v1.BatchPredictionJob`.
fn to_wire(job: &Job) -> Result<Value, Fault> {
    let JobKind::Batch(batch) = &job.kind else {
        return Err(Fault::not_found(format!("{} is no batch prediction job", job.name)));
    };
    let mut wire = convert::job(job, state(job));
    let mut set = |name: &str, value: Value| wire.insert(name.to_owned(), value);
    set("displayName", job.display_name.clone().into());
    set("model", batch.model.clone().into());
    set("modelVersionId", batch.version.to_string().into());
    if let Some(directory) = &batch.output_directory {
        set("outputInfo", json!({"gcsOutputDirectory": directory}));
    }
    set("completionStats", stats(batch));
    set("partialFailures", batch.partial_failures.iter().map(|message| failure(message)).collect());
    overlay(&mut wire, &batch.as_written);
    Ok(Value::Object(wire))
}

fn stats(batch: &BatchJob) -> Value {
    json!({"successfulCount": batch.successful.to_string(), "failedCount": batch.failed.to_string()})
}

/// `google.rpc.Status` of a row that could not be predicted.
fn failure(message: &str) -> Value {
    json!({"code": crate::Code::InvalidArgument.number(), "message": message})
}

fn state(job: &Job) -> &'static str {
    match job.state {
        JobState::Pending => "JOB_STATE_PENDING",
        JobState::Running if job.cancel_requested => "JOB_STATE_CANCELLING",
        JobState::Running => "JOB_STATE_RUNNING",
        JobState::Succeeded => "JOB_STATE_SUCCEEDED",
        JobState::Failed => "JOB_STATE_FAILED",
        JobState::Cancelled => "JOB_STATE_CANCELLED",
    }
}
