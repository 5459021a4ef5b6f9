//! `meuse train`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value, json};

use crate::client::wire::{Job, last_segment};
use crate::client::{Client, id_from, is_uri};
use crate::commands::batch::InputFormat;
use crate::commands::jobs;
use crate::connection::Connection;
use crate::failure::{Failure, Result, on_file};
use crate::show::{Output, Style};

/// The task that takes a specification in Keras' vocabulary.
const NETWORK_TASK: &str = "gs://meuse/schema/trainingjob/definition/network_1.0.0.yaml";
/// The kind of a dataset whose rows lie in CSV objects.
const TABULAR: &str = "gs://google-cloud-aiplatform/schema/dataset/metadata/tabular_1.0.0.yaml";

/// Train a model on a CSV file and register it as a version.
#[derive(Debug, Args)]
#[command(after_help = "Without --spec: two dense layers of 64 and a softmax over the classes.\n\
Example: meuse train reviews.csv --name sentiment --label stars --text review")]
pub struct Train {
    /// CSV file with a header line, or .jsonl or .parquet, on this machine or by URI (gs://…)
    pub csv: String,
    /// The model to register the result under: a new one, or a new version of the one of this name
    #[arg(long)]
    pub name: String,
    /// Specification: YAML or JSON in Keras' vocabulary, or what Keras' model.to_json() prints
    #[arg(long, value_name = "FILE")]
    pub spec: Option<PathBuf>,
    /// Column that holds the answer
    #[arg(long, value_name = "COL", required_unless_present = "spec")]
    pub label: Option<String>,
    /// Column that holds the text to read [default: found out from the rows]
    #[arg(long, value_name = "COL")]
    pub text: Option<String>,
    /// Passes over the rows
    #[arg(long, value_name = "N")]
    pub epochs: Option<u32>,
    /// Start of every random choice: the same seed and rows give the same model
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Free text about the version
    #[arg(long, default_value = "")]
    pub description: String,
    /// Do not wait for the job to end
    #[arg(long)]
    pub no_wait: bool,
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

/// A training to ask the server for.
pub(crate) struct Training<'a> {
    /// The model's name.
    pub(crate) name: &'a str,
    /// Where the rows lie, readable for the server.
    pub(crate) uri: &'a str,
    /// The specification's document.
    pub(crate) spec: Value,
    /// Free text about the version.
    pub(crate) description: &'a str,
}

impl Train {
    /// Starts the job, follows it, says what was registered.
    ///
    /// # Errors
    /// If the specification is wrong, the server refuses, or the job fails.
    pub async fn run(&self, output: &Output) -> Result<()> {
        let spec = self.document()?;
        let client = self.connection.client()?;
        let uri = client.reachable(&self.csv).await?;
        if !is_uri(&self.csv) {
            put_images(&client, Path::new(&self.csv), &uri, &spec).await?;
        }
        let training = Training { name: &self.name, uri: &uri, spec, description: &self.description };
        let job = training.start(&client).await?;
        if self.no_wait {
            let id = last_segment(&job.name);
            output.note(format!("Started. Follow it with `meuse jobs {id} --watch`."));
        } else {
            let done = jobs::watch(&client, &job.name, output).await?;
            if !output.json {
                self.report(&done, output);
            }
        }
        if output.json {
            output.value(&client.get(&format!("/v1/{}", job.name)).await.map_err(Failure::from)?);
        }
        Ok(())
    }

    fn report(&self, job: &Job, output: &Output) {
        let version = job.model_to_upload.as_ref().map(|m| m.version_id.as_str()).unwrap_or_default();
        let accuracy = job.training_task_metadata.as_ref().and_then(|t| t.progress.last()).map(|last| {
            match last.accuracy {
                Some(accuracy) => format!(", training accuracy {accuracy:.3}"),
                None => format!(", training loss {:.4}", last.loss),
            }
        });
        let what = format!("{} version {version}", self.name);
        output.line(format!(
            "Registered {}{}.",
            output.style(Style::Strong, &what),
            accuracy.unwrap_or_default()
        ));
        if let Some(training) = job.training_task_metadata.as_ref().filter(|t| t.skipped_rows > 0) {
            let first = training.skipped_reasons.first().map_or("", String::as_str);
            output.note(format!("{} rows could not be used; the first: {first}", training.skipped_rows));
        }
        output.note(format!("Serve it with `meuse deploy {}@{version}`.", self.name));
    }

    /// The specification with what the options say laid over it.
    fn document(&self) -> Result<Value> {
        let mut document = match &self.spec {
            Some(path) => read_document(path)?,
            None => Map::new(),
        };
        if let Some(label) = &self.label {
            document.insert("label".to_owned(), json!(label));
        }
        if let Some(text) = &self.text {
            document.insert("features".to_owned(), json!([{ "text": text }]));
        }
        if let Some(epochs) = self.epochs {
            document.insert("epochs".to_owned(), json!(epochs));
        }
        if let Some(seed) = self.seed {
            document.insert("seed".to_owned(), json!(seed));
        }
        check(&document, self.spec.as_deref())?;
        if !is_uri(&self.csv) {
            check_columns(Path::new(&self.csv), &document)?;
        }
        Ok(Value::Object(document))
    }
}

impl Training<'_> {
    /// Registers the rows as a dataset and starts the job.
    pub(crate) async fn start(self, client: &Client) -> Result<Job> {
        let existing = client.find_model(self.name).await?;
        let dataset = self.dataset(client).await?;
        let mut body = json!({
            "displayName": self.name,
            "trainingTaskDefinition": NETWORK_TASK,
            "trainingTaskInputs": self.spec,
            "inputDataConfig": {"datasetId": last_segment(&dataset)},
            "modelToUpload": {"displayName": self.name, "versionDescription": self.description},
        });
        match existing {
            Some(model) => body["parentModel"] = json!(model.resource()),
            None => {
                if let Some(id) = id_from(self.name) {
                    body["modelId"] = json!(id);
                }
            }
        }
        let path = format!("/v1/{}/trainingPipelines", client.parent());
        Ok(client.post(&path, &body).await?)
    }

    async fn dataset(&self, client: &Client) -> Result<String> {
        let body = json!({
            "displayName": last_segment(self.uri),
            "metadataSchemaUri": TABULAR,
            "metadata": {"inputConfig": {"gcsSource": {"uri": [self.uri]}}},
        });
        let made = client.operate(&format!("/v1/{}/datasets", client.parent()), &body).await?;
        made.get("name")
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| Failure::new("the server made a dataset without a name"))
    }
}

/// Puts the image files that the rows of a table name beside the rows.
async fn put_images(client: &Client, table: &Path, uri: &str, spec: &Value) -> Result<()> {
    let features = spec.get("features").map(|features| match features {
        Value::Array(list) => list.iter().collect(),
        one => vec![one],
    });
    let columns = features.into_iter().flatten().filter_map(|f| f.get("image").and_then(Value::as_str));
    let directory = table.parent().unwrap_or(Path::new(""));
    for column in columns {
        for name in super::rows::files_named(table, column)? {
            client.put_beside(uri, &name, &directory.join(&name)).await?;
        }
    }
    Ok(())
}

/// Reads YAML or JSON into a JSON object.
fn read_document(path: &Path) -> Result<Map<String, Value>> {
    let text = std::fs::read_to_string(path).map_err(on_file(path, "reading"))?;
    let wrong = |why: String| Failure::usage(format!("{}: {why}", path.display()));
    let value: Value = match serde_json::from_str(&text) {
        Ok(value) => value,
        Err(_) => serde_saphyr::from_str(&text).map_err(|e| wrong(format!("neither JSON nor YAML: {e}")))?,
    };
    match value {
        Value::Object(document) => Ok(document),
        _ => Err(wrong("a specification has named fields, such as `label:` and `layers:`".to_owned())),
    }
}

/// Finds a mistake before anything is sent.
fn check(document: &Map<String, Value>, path: Option<&Path>) -> Result<()> {
    let text = serde_json::to_string(document).unwrap_or_default();
    formats::spec::TrainSpec::from_json(&text).map(|_| ()).map_err(|error| match path {
        Some(path) => Failure::usage(format!("{}: {error}", path.display())),
        None => Failure::usage(error.to_string()),
    })
}

fn is_csv(path: &Path) -> bool {
    InputFormat::of(&path.to_string_lossy()) == InputFormat::Csv
}

/// Finds a label column that is not there, the commonest mistake, before the file is sent.
fn check_columns(csv: &Path, document: &Map<String, Value>) -> Result<()> {
    let Some(label) = document.get("label").and_then(Value::as_str) else { return Ok(()) };
    if !is_csv(csv) {
        return Ok(());
    }
    let Ok(names) = super::rows::header(csv) else { return Ok(()) };
    if names.iter().any(|name| name == label) {
        return Ok(());
    }
    Err(Failure::usage(format!("{} has no column `{label}`", csv.display()))
        .next(format!("its columns are: {}", names.join(", "))))
}
