//! Training pipelines: a task and rows in, a registered model version out.

use std::collections::BTreeMap;

use control::{Job, JobCollection, JobKind, JobState, NewTraining, Parent, TrainingJob, TrainingTarget};
use serde::Deserialize;
use serde_json::{Value, json};

use super::convert::{self, full_name, overlay};
use super::models::{self, ModelWire};
use super::rpc::{Rpc, Served, page, procedure, to_json};
use super::tasks;
use crate::Fault;
use crate::http::Permission::{Read, Write};

/// The procedures of this file.
pub(super) fn served() -> Vec<Served> {
    vec![
        procedure("PipelineService.CreateTrainingPipeline", Write, create).takes::<CreateWire>(),
        procedure("PipelineService.GetTrainingPipeline", Read, get),
        procedure("PipelineService.ListTrainingPipelines", Read, list).lists(),
        procedure("PipelineService.CancelTrainingPipeline", Write, cancel),
        procedure("PipelineService.DeleteTrainingPipeline", Write, delete),
    ]
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateWire {
    parent: String,
    training_pipeline: PipelineWire,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PipelineWire {
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    input_data_config: Option<InputWire>,
    #[serde(default)]
    training_task_definition: String,
    #[serde(default)]
    training_task_inputs: Value,
    #[serde(default)]
    model_to_upload: Option<ModelWire>,
    #[serde(default)]
    model_id: Option<String>,
    #[serde(default)]
    parent_model: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct InputWire {
    #[serde(default)]
    dataset_id: String,
    #[serde(default)]
    fraction_split: Option<FractionWire>,
    /// Says how Google would read the rows; here their header or their field names do.
    #[serde(default)]
    #[allow(dead_code, reason = "named so that it is taken")]
    annotation_schema_uri: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FractionWire {
    #[serde(default)]
    training_fraction: f64,
    #[serde(default)]
    validation_fraction: f64,
    #[serde(default)]
    test_fraction: f64,
}

impl FractionWire {
    /// The share of rows that are not trained on. Validation and test rows are kept aside together.
    fn aside(&self) -> Result<f64, Fault> {
        let sum = self.training_fraction + self.validation_fraction + self.test_fraction;
        let parts = [self.training_fraction, self.validation_fraction, self.test_fraction];
        if (sum - 1.0).abs() > 1e-6 || parts.iter().any(|part| !(0.0..=1.0).contains(part)) {
            return Err(Fault::invalid(format!("inputDataConfig.fractionSplit must sum to 1, not {sum}")));
        }
        Ok(self.validation_fraction + self.test_fraction)
    }
}

async fn create(mut rpc: Rpc) -> Result<Value, Fault> {
    let as_written = rpc.request.get("trainingPipeline").cloned().unwrap_or_default();
    let wire: CreateWire = rpc.read()?;
    let (parent, pipeline) = (Parent::parse(&wire.parent)?, wire.training_pipeline);
    let input = pipeline.input_data_config;
    let aside =
        input.as_ref().and_then(|i| i.fraction_split.as_ref()).map(FractionWire::aside).transpose()?;
    let task = tasks::read(&pipeline.training_task_definition, pipeline.training_task_inputs, aside)?;
    let dataset = input.map(|i| i.dataset_id).filter(|id| !id.is_empty());
    let dataset = dataset.map(|id| full_name(&parent, "datasets", &id));
    if dataset.is_none() && task.uris.is_empty() {
        return Err(Fault::invalid("there are no rows to train on: give inputDataConfig.datasetId"));
    }
    let parent_model = pipeline.parent_model.filter(|text| !text.is_empty());
    let parent_model = parent_model.map(|text| full_name(&parent, "models", &text));
    for name in dataset.iter().chain(&parent_model) {
        rpc.allow_name(name)?;
    }
    let new = NewTraining {
        target: target(pipeline.model_to_upload, &pipeline.display_name, pipeline.model_id, parent_model),
        display_name: pipeline.display_name,
        labels: pipeline.labels,
        dataset,
        uris: task.uris,
        spec: task.spec,
        as_written,
    };
    let job = rpc.control().jobs().create_training(&parent, new).await?;
    to_wire(&rpc, &job).await
}

fn target(
    model: Option<ModelWire>,
    display_name: &str,
    model_id: Option<String>,
    parent_model: Option<String>,
) -> TrainingTarget {
    let (name, description, labels, aliases) = match model {
        Some(model) => (model.display_name, model.version_description, model.labels, model.version_aliases),
        None => (String::new(), String::new(), BTreeMap::new(), Vec::new()),
    };
    let display_name = if name.is_empty() { display_name.to_owned() } else { name };
    let model_id = model_id.filter(|id| !id.is_empty());
    TrainingTarget { display_name, description, labels, model_id, parent_model, aliases }
}

async fn get(rpc: Rpc) -> Result<Value, Fault> {
    let job = rpc.control().jobs().get(rpc.text("name")).await?;
    to_wire(&rpc, &job).await
}

async fn list(rpc: Rpc) -> Result<Value, Fault> {
    let jobs = rpc.control().jobs().list(&rpc.parent()?, JobCollection::Training, &rpc.list_query()?).await?;
    let mut items = Vec::with_capacity(jobs.items.len());
    for job in &jobs.items {
        items.push(to_wire(&rpc, job).await?);
    }
    let jobs = control::Page { items, next_page_token: jobs.next_page_token };
    Ok(page("trainingPipelines", jobs, |job| job))
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

/// `google.cloud.aiplatform.v1.TrainingPipeline`.
async fn to_wire(rpc: &Rpc, job: &Job) -> Result<Value, Fault> {
    let JobKind::Training(training) = &job.kind else {
        return Err(Fault::not_found(format!("{} is no training pipeline", job.name)));
    };
    let mut wire = convert::job(job, state(job));
    let mut set = |name: &str, value: Value| wire.insert(name.to_owned(), value);
    set("displayName", job.display_name.clone().into());
    set("trainingTaskMetadata", progress(training)?);
    if let Some((name, version)) = &training.result {
        // A model that was deleted since is named all the same.
        let trained = match rpc.control().models().get(&format!("{name}@{version}")).await {
            Ok((model, version)) => models::to_wire(&model, version, &[]),
            Err(_) => json!({"name": name, "versionId": version.to_string()}),
        };
        set("modelToUpload", trained);
    }
    overlay(&mut wire, &training.as_written);
    Ok(Value::Object(wire))
}

/// Our own: one entry per finished epoch, and how many there will be; rows learnt from, and those left out.
fn progress(training: &TrainingJob) -> Result<Value, Fault> {
    Ok(json!({
        "epochs": training.epochs,
        "progress": to_json(&training.progress)?,
        "rows": training.rows,
        "skippedRows": training.skipped,
        "skippedReasons": training.partial_failures,
    }))
}

pub(super) fn state(job: &Job) -> &'static str {
    match job.state {
        JobState::Pending => "PIPELINE_STATE_PENDING",
        JobState::Running if job.cancel_requested => "PIPELINE_STATE_CANCELLING",
        JobState::Running => "PIPELINE_STATE_RUNNING",
        JobState::Succeeded => "PIPELINE_STATE_SUCCEEDED",
        JobState::Failed => "PIPELINE_STATE_FAILED",
        JobState::Cancelled => "PIPELINE_STATE_CANCELLED",
    }
}
