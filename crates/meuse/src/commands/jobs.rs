//! `meuse jobs`

use clap::Args;
use serde_json::{Value, json};

use crate::client::wire::{Job, last_segment};
use crate::client::{Client, ClientError};
use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::show::{EpochBar, Output, RowBar, Table, ago, thousands};

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

/// Kinds of jobs: collection, what people call it.
const KINDS: [(&str, &str); 3] =
    [("trainingPipelines", "train"), ("batchPredictionJobs", "batch"), ("evaluationJobs", "evaluate")];

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
        match client.list(&format!("/v1/{}/{collection}", client.parent()), collection, &[]).await {
            Ok(found) => jobs.extend(found),
            // A server without this kind of job has none.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let created = |job: &Value| job.get("createTime").and_then(Value::as_str).unwrap_or_default().to_owned();
    jobs.sort_by_key(|job| std::cmp::Reverse(created(job)));
    Ok(jobs)
}

async fn find(client: &Client, name: &str) -> Result<Value> {
    let candidates: Vec<String> = if name.starts_with("projects/") {
        vec![name.to_owned()]
    } else if crate::client::is_id(name) {
        KINDS.iter().map(|(collection, _)| format!("{}/{collection}/{name}", client.parent())).collect()
    } else {
        Vec::new()
    };
    for candidate in candidates {
        match client.get::<Value>(&format!("/v1/{candidate}")).await {
            Ok(job) => return Ok(job),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let named = |job: &Value| job.get("displayName").and_then(Value::as_str) == Some(name);
    let mut found = all(client).await?.into_iter().filter(named);
    found.next().ok_or_else(|| {
        Failure::new(format!("there is no job {name} in project {}", client.project()))
            .next("`meuse jobs` lists them")
    })
}

/// Follows the job `resource` to its end, showing its progress.
///
/// # Errors
/// If the server refuses, or the job does not succeed.
pub(crate) async fn watch(client: &Client, resource: &str, output: &Output) -> Result<Job> {
    let path = format!("/v1/{resource}");
    let job = if kind(resource) == "train" {
        let mut bar = EpochBar::new(output);
        let watch = |job: &Job| {
            if let Some(progress) = &job.training_task_metadata {
                bar.update(progress);
            }
        };
        let done = client.follow(&path, watch, Job::is_final).await;
        bar.finish();
        done
    } else {
        let bar = RowBar::new(output, "waiting for a worker");
        let watch = |job: &Job| {
            if let Some(stats) = &job.completion_stats {
                bar.update(stats);
            }
        };
        let done = client.follow(&path, watch, Job::is_final).await;
        bar.finish();
        done
    };
    ended(job)
}

fn ended(job: std::result::Result<Job, ClientError>) -> Result<Job> {
    let job = job.map_err(Failure::from)?;
    if job.succeeded() || job.state() == "partially_succeeded" {
        return Ok(job);
    }
    let id = last_segment(&job.name);
    Err(Failure::new(format!("the {} job {id} {}: {}", kind(&job.name), job.state(), job.reason())))
}
