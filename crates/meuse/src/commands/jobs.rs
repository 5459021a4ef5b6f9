//! `meuse jobs`

use clap::Args;
use serde_json::{Value, json};

use crate::client::Client;
use crate::client::wire::{Job, last_segment};
use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::show::{ByteBar, EpochBar, Output, RowBar, Table, ago, megabytes, thousands};

/// List jobs, or watch or cancel one.
#[derive(Debug, Args)]
pub struct Jobs {
    /// Show only this job: its id, display name or resource name
    pub name: Option<String>,
    /// Follow the job to its end
    #[arg(long, requires = "name")]
    pub watch: bool,
    /// Ask the job to stop
    #[arg(long, requires = "name", conflicts_with = "watch")]
    pub cancel: bool,
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

/// Kinds of jobs: collection, what people call it. Evaluations and pulls are seen as their operations.
const KINDS: [(&str, &str); 3] =
    [("trainingPipelines", "train"), ("batchPredictionJobs", "batch"), ("operations", "evaluate")];
/// The metadata that evaluations' operations carry, and no others.
const EVALUATION_METADATA: &str = "GenericOperationMetadata";
/// What people call a pull. Its operation belongs to no model, since there is none yet.
const PULL: &str = "pull";

impl Jobs {
    /// Prints the list, follows or cancels.
    ///
    /// # Errors
    /// If the server refuses, or the job watched does not succeed.
    pub async fn run(&self, output: &Output) -> Result<()> {
        let client = self.connection.client()?;
        let Some(name) = &self.name else {
            return show(&all(&client).await?, output);
        };
        let found = find(&client, name).await?;
        let resource = found.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if self.cancel {
            client
                .post::<Value>(&format!("/v1/{resource}:cancel"), &json!({}))
                .await
                .map_err(Failure::from)?;
            output.note(format!("Asked {} to stop.", last_segment(&resource)));
            return if output.json { show_one(&client, &resource, output).await } else { Ok(()) };
        }
        if self.watch {
            watch(&client, &resource, output).await?;
            return if output.json { show_one(&client, &resource, output).await } else { Ok(()) };
        }
        show(&[found], output)
    }
}

async fn show_one(client: &Client, resource: &str, output: &Output) -> Result<()> {
    let job: Value = client.get(&format!("/v1/{resource}")).await.map_err(Failure::from)?;
    output.value(&job);
    Ok(())
}

fn show(found: &[Value], output: &Output) -> Result<()> {
    if output.json {
        output.value(&json!({ "jobs": found }));
        return Ok(());
    }
    if found.is_empty() {
        output.note("No jobs yet. `meuse train`, `meuse batch` and `meuse evaluate` start one.");
        return Ok(());
    }
    let mut table = Table::new(&["JOB", "KIND", "NAME", "STATE", "PROGRESS", "CREATED"]);
    let mut reasons = Vec::new();
    for value in found {
        let Ok(job) = serde_json::from_value::<Job>(value.clone()) else { continue };
        let id = last_segment(&job.name).to_owned();
        if job.state() == "failed" {
            reasons.push(format!("{id}: {}", job.reason()));
        }
        let created = ago(&job.create_time);
        table.row([
            id,
            kind(&job.name).to_owned(),
            job.display_name.clone(),
            job.state(),
            progress(&job),
            created,
        ]);
    }
    output.table(&table);
    for reason in reasons {
        output.note(reason);
    }
    Ok(())
}

fn kind(name: &str) -> &'static str {
    if name.contains("/operations/") && !name.contains("/models/") {
        return PULL;
    }
    KINDS
        .iter()
        .find(|(collection, _)| name.contains(&format!("/{collection}/")))
        .map_or("job", |(_, kind)| kind)
}

fn progress(job: &Job) -> String {
    if let Some(training) = &job.training_task_metadata
        && let Some(last) = training.progress.last()
    {
        let accuracy = last.accuracy.map(|a| format!(", accuracy {a:.3}")).unwrap_or_default();
        return format!("epoch {}/{}{accuracy}", last.epoch, training.epochs.max(last.epoch));
    }
    if let Some(pull) = &job.pull {
        return format!("{} of {}", megabytes(pull.bytes_done), megabytes(pull.bytes_total));
    }
    match &job.completion_stats {
        Some(stats) if stats.failed_count > 0 => {
            format!("{} rows, {} failed", thousands(stats.successful_count), thousands(stats.failed_count))
        }
        Some(stats) => format!("{} rows", thousands(stats.successful_count)),
        None => String::new(),
    }
}

/// Every job of the project, newest first.
async fn all(client: &Client) -> Result<Vec<Value>> {
    let mut jobs = Vec::new();
    for (collection, _) in KINDS {
        let path = format!("/v1/{}/{collection}", client.parent());
        let found = client.list(&path, collection, &[]).await.map_err(Failure::from)?;
        jobs.extend(found.into_iter().filter_map(as_job));
    }
    let created = |job: &Value| job.get("createTime").and_then(Value::as_str).unwrap_or_default().to_owned();
    jobs.sort_by_key(|job| std::cmp::Reverse(created(job)));
    Ok(jobs)
}

/// A job as it is, the operation of an evaluation or a pull in the shape of a job, nothing for other operations.
fn as_job(value: Value) -> Option<Value> {
    let name = value.get("name").and_then(Value::as_str).unwrap_or_default();
    if !name.contains("/operations/") {
        return Some(value);
    }
    let metadata = value.get("metadata")?;
    let pull = metadata.get("value").filter(|metadata| metadata["kind"] == PULL);
    if pull.is_none() && !metadata.get("@type")?.as_str()?.ends_with(EVALUATION_METADATA) {
        return None;
    }
    let (created, called) = match pull {
        Some(pull) => (&pull["createTime"], pull["source"].as_str().map(last_segment)),
        None => {
            let model = name.split("/models/").nth(1).and_then(|rest| rest.split('/').next());
            (&metadata["createTime"], model)
        }
    };
    let error = value.get("error");
    let state = match (value.get("done").and_then(Value::as_bool).unwrap_or(false), error) {
        (false, _) => "JOB_STATE_RUNNING",
        (true, None) => "JOB_STATE_SUCCEEDED",
        // 1 is CANCELLED in google.rpc.Code.
        (true, Some(e)) if e.get("code").and_then(Value::as_i64) == Some(1) => "JOB_STATE_CANCELLED",
        (true, Some(_)) => "JOB_STATE_FAILED",
    };
    let called = called.unwrap_or_default();
    let mut job = json!({"name": name, "displayName": called, "state": state, "createTime": created});
    if let Some(pull) = pull {
        job["pull"] = pull.clone();
    }
    for field in ["error", "response"] {
        if let Some(found) = value.get(field) {
            job[field] = found.clone();
        }
    }
    Some(job)
}

async fn find(client: &Client, name: &str) -> Result<Value> {
    if name.starts_with("projects/") {
        let found = client.get::<Value>(&format!("/v1/{name}")).await.map_err(Failure::from)?;
        return as_job(found).ok_or_else(|| Failure::new(format!("{name} is not a job")));
    }
    let is_it = |job: &Value| {
        let text = |field: &str| job.get(field).and_then(Value::as_str).unwrap_or_default();
        last_segment(text("name")) == name || text("displayName") == name
    };
    all(client).await?.into_iter().find(is_it).ok_or_else(|| {
        Failure::new(format!("there is no job {name} in project {}", client.project()))
            .next("`meuse jobs` lists them")
    })
}

/// Follows the job `resource` to its end, showing its progress.
///
/// # Errors
/// If the server refuses, or the job does not succeed.
pub(crate) async fn watch(client: &Client, resource: &str, output: &Output) -> Result<Job> {
    let mut epochs = (kind(resource) == "train").then(|| EpochBar::new(output));
    let mut bytes = (kind(resource) == PULL).then(|| ByteBar::new(output));
    let rows = (epochs.is_none() && bytes.is_none()).then(|| RowBar::new(output, "waiting for a worker"));
    let show = |value: &Value| {
        let job = read(value);
        if let (Some(bar), Some(progress)) = (&mut epochs, &job.training_task_metadata) {
            bar.update(progress);
        }
        if let (Some(bar), Some(progress)) = (&mut bytes, &job.pull) {
            bar.update(progress);
        }
        if let (Some(bar), Some(stats)) = (&rows, &job.completion_stats) {
            bar.update(stats);
        }
    };
    let done = client.follow(&format!("/v1/{resource}"), show, |value| read(value).is_final()).await;
    if let Some(bar) = epochs {
        bar.finish();
    }
    if let Some(bar) = bytes {
        bar.finish();
    }
    if let Some(bar) = rows {
        bar.finish();
    }
    let job = read(&done.map_err(Failure::from)?);
    if job.succeeded() || job.state() == "partially_succeeded" {
        return Ok(job);
    }
    let id = last_segment(&job.name);
    Err(Failure::new(format!("the {} job {id} {}: {}", kind(&job.name), job.state(), job.reason())))
}

/// What commands show of a job; nothing of what is none.
fn read(value: &Value) -> Job {
    as_job(value.clone()).and_then(|job| serde_json::from_value(job).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn evaluations_are_seen_as_jobs() {
        let operation = |kind: &str, done: bool| {
            json!({
                "name": "projects/p/locations/l/models/m/operations/1",
                "metadata": {"@type": format!("type.googleapis.com/google.cloud.aiplatform.v1.{kind}"), "createTime": "t"},
                "done": done,
            })
        };
        let job = read(&operation(EVALUATION_METADATA, true));
        assert_eq!(
            (job.state().as_str(), job.display_name.as_str(), kind(&job.name)),
            ("succeeded", "m", "evaluate")
        );
        assert_eq!(read(&operation(EVALUATION_METADATA, false)).state(), "running");
        assert!(as_job(operation("DeployModelOperationMetadata", true)).is_none());
    }

    #[test]
    fn pulls_are_seen_as_jobs() {
        let job = read(&json!({
            "name": "projects/p/locations/l/operations/1",
            "metadata": {
                "@type": "type.googleapis.com/google.protobuf.Struct",
                "value": {"kind": "pull", "source": "hf:a/b/m.gguf", "bytesDone": "7", "createTime": "t"},
            },
            "done": false,
        }));
        assert_eq!(
            (job.state().as_str(), job.display_name.as_str(), kind(&job.name)),
            ("running", "m.gguf", PULL)
        );
        assert_eq!(job.pull.map(|pull| pull.bytes_done), Some(7));
    }
}
