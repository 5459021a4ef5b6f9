//! `meuse batch`

use std::path::Path;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::client::wire::{Job, Model, last_segment};
use crate::client::{Client, ModelRef, is_uri, split_gs};
use crate::commands::{jobs, rows};
use crate::connection::Connection;
use crate::failure::{Failure, Result, on_file};
use crate::show::{Output, Style, thousands};

/// The local bucket for predictions on their way to a directory of this machine.
const RESULTS: &str = "meuse-results";

/// Predict every row of a file or of objects in a bucket.
#[derive(Debug, Args)]
#[command(after_help = "The job goes on if this command is interrupted: `meuse jobs` lists it.")]
pub struct Batch {
    /// The model; the default version unless one is named (NAME@3)
    pub model: ModelRef,
    /// CSV, JSONL or Parquet: a file on this machine, the images that it names beside it, or URIs (gs://…, also with * at
    /// the end); or a folder of images, whose URI ends in /
    #[arg(long, required = true, value_name = "URI|PATH")]
    pub input: Vec<String>,
    /// Where predictions go: a URI (gs://…), or a directory on this machine
    #[arg(long, value_name = "URI|DIR")]
    pub output: String,
    /// How the input is written [default: by its extension, else csv]
    #[arg(long, value_enum)]
    pub input_format: Option<InputFormat>,
    /// How to write predictions [default: as the input, csv for parquet]
    #[arg(long, value_enum)]
    pub output_format: Option<RowFormat>,
    /// The column that names a row: written beside its prediction in place of the row, and not shown to the model
    #[arg(long, value_name = "COLUMN")]
    pub key_column: Option<String>,
    /// The columns that the model sees, in its order [default: all]
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',', conflicts_with = "exclude")]
    pub columns: Vec<String>,
    /// Columns that the model does not see
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',')]
    pub exclude: Vec<String>,
    /// Attributions beside each prediction (jsonl only)
    #[arg(long)]
    pub explain: bool,
    /// Do not wait for the job to end
    #[arg(long)]
    pub no_wait: bool,
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

/// How rows to be read are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InputFormat {
    /// Comma-separated, with a header line.
    Csv,
    /// One JSON value a line.
    Jsonl,
    /// Flat columns of Apache Parquet.
    Parquet,
}

impl InputFormat {
    /// Its name in requests.
    pub fn name(self) -> &'static str {
        match self {
            InputFormat::Csv => "csv",
            InputFormat::Jsonl => "jsonl",
            InputFormat::Parquet => "parquet",
        }
    }

    /// By the end of an address. A folder's images are as JSONL.
    pub(crate) fn of(name: &str) -> Self {
        let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        match name {
            _ if ends(&[".jsonl", ".ndjson", "/"]) => InputFormat::Jsonl,
            _ if ends(&[".parquet"]) => InputFormat::Parquet,
            _ => InputFormat::Csv,
        }
    }
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RowFormat {
    /// Comma-separated, with a header line.
    Csv,
    /// One JSON value a line.
    Jsonl,
}

impl RowFormat {
    /// Its name in requests.
    pub fn name(self) -> &'static str {
        match self {
            RowFormat::Csv => "csv",
            RowFormat::Jsonl => "jsonl",
        }
    }

    /// What predictions for such rows are written as unless somebody says otherwise.
    fn beside(input: InputFormat) -> Self {
        match input {
            InputFormat::Jsonl => RowFormat::Jsonl,
            InputFormat::Csv | InputFormat::Parquet => RowFormat::Csv,
        }
    }
}

/// A batch job to ask the server for.
pub(crate) struct Order<'a> {
    pub(crate) name: &'a str,
    pub(crate) model: &'a Model,
    pub(crate) uris: &'a [String],
    pub(crate) input_format: InputFormat,
    pub(crate) output_prefix: &'a str,
    pub(crate) output_format: RowFormat,
    pub(crate) explain: bool,
    /// `instanceConfig`, where fields of the rows are chosen.
    pub(crate) instance: Option<Value>,
}

impl Order<'_> {
    /// Starts the job.
    pub(crate) async fn start(&self, client: &Client) -> Result<Job> {
        let mut body = json!({
            "displayName": self.name,
            "model": self.model.versioned(),
            "inputConfig": {"instancesFormat": self.input_format.name(), "gcsSource": {"uris": self.uris}},
            "outputConfig": {
                "predictionsFormat": self.output_format.name(),
                "gcsDestination": {"outputUriPrefix": self.output_prefix},
            },
        });
        if self.explain {
            body["generateExplanation"] = json!(true);
        }
        if let Some(instance) = &self.instance {
            body["instanceConfig"] = instance.clone();
        }
        let path = format!("/v1/{}/batchPredictionJobs", client.parent());
        Ok(client.post(&path, &body).await?)
    }
}

impl Batch {
    /// Starts the job, follows it, brings the predictions here if a directory was named.
    ///
    /// # Errors
    /// If a file cannot be read or written, the server refuses, or the job fails.
    pub async fn run(&self, output: &Output) -> Result<()> {
        let to_uri = is_uri(&self.output);
        if self.no_wait && !to_uri {
            return Err(Failure::usage("--no-wait cannot bring the predictions to a directory")
                .next("give --output as gs://BUCKET/FOLDER, or wait"));
        }
        let client = self.connection.client()?;
        let model = client.model(&self.model).await?;
        let mut uris = Vec::new();
        for input in &self.input {
            uris.push(rows::reachable(&client, input).await?);
        }
        let input_format = self.input_format.unwrap_or_else(|| InputFormat::of(&uris[0]));
        let prefix = if to_uri {
            self.output.clone()
        } else {
            let bucket = client.own_bucket(RESULTS);
            client.ensure_bucket(&bucket).await?;
            format!("gs://{bucket}/{}", self.model.name)
        };
        let order = Order {
            name: &format!("{}-batch", self.model.name),
            model: &model,
            uris: &uris,
            input_format,
            output_prefix: &prefix,
            output_format: self.output_format.unwrap_or_else(|| RowFormat::beside(input_format)),
            explain: self.explain,
            instance: self.instance(),
        };
        let job = order.start(&client).await?;
        if !self.no_wait {
            let done = jobs::watch(&client, &job.name, output).await?;
            let place = if to_uri { directory(&done) } else { self.fetch(&client, &done).await? };
            report(&done, &place, output);
        } else {
            output.note(format!("Started. Follow it with `meuse jobs {} --watch`.", last_segment(&job.name)));
        }
        if output.json {
            output.value(&client.get(&format!("/v1/{}", job.name)).await.map_err(Failure::from)?);
        }
        Ok(())
    }

    /// What is chosen of the rows, if anything is.
    fn instance(&self) -> Option<Value> {
        let chosen = self.key_column.is_some() || !self.columns.is_empty() || !self.exclude.is_empty();
        let key = self.key_column.as_deref().unwrap_or_default();
        chosen
            .then(|| json!({"keyField": key, "includedFields": self.columns, "excludedFields": self.exclude}))
    }

    /// Copies the job's output into the directory.
    async fn fetch(&self, client: &Client, job: &Job) -> Result<String> {
        let target = Path::new(&self.output);
        std::fs::create_dir_all(target).map_err(on_file(target, "creating"))?;
        let place = directory(job);
        let Some((bucket, folder)) = split_gs(&place) else {
            return Err(Failure::new(format!("the job wrote to {place}, which cannot be brought here")));
        };
        let prefix = format!("{}/", folder.trim_end_matches('/'));
        for object in client.object_names(bucket, &prefix).await? {
            client.download(bucket, &object, &target.join(last_segment(&object))).await?;
        }
        Ok(self.output.clone())
    }
}

fn directory(job: &Job) -> String {
    job.output_info.as_ref().map(|info| info.gcs_output_directory.clone()).unwrap_or_default()
}

fn report(job: &Job, place: &str, output: &Output) {
    if output.json {
        return;
    }
    let stats = job.completion_stats.clone().unwrap_or_default();
    let rows = format!("{} rows", thousands(stats.successful_count));
    output.line(format!("Predicted {} into {place}", output.style(Style::Strong, &rows)));
    if stats.failed_count > 0 {
        let failed = format!(
            "{} rows could not be predicted; they are listed there with reasons.",
            thousands(stats.failed_count)
        );
        output.note(output.style(Style::Warn, &failed));
        for failure in job.partial_failures.iter().take(5) {
            output.note(format!("  {}", failure.message));
        }
    }
}
