//! `meuse import`

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use clap::Args;
use formats::processing::{Input, PROCESSING_FILE, Processing};
use formats::spec::SpecError;
use serde_json::{Value, json};

use crate::client::wire::last_segment;
use crate::client::{Client, ModelRef, id_from, is_uri};
use crate::connection::Connection;
use crate::failure::{Failure, Result, on_file};
use crate::show::{Output, Style};

/// Examples that an explanation has when nothing else is said.
const NEIGHBORS: u32 = 10;

/// Register a model that was made elsewhere (ONNX, Keras, GGUF, an encoder's safetensors) as a version.
#[derive(Debug, Args)]
#[command(
    after_help = "Takes an .onnx, .keras or .gguf file, a directory that holds one, or an encoder's directory (config.json,\n\
tokenizer.json, model.safetensors). Pickles, joblib files and others that run code when opened are refused:\n\
export to ONNX first."
)]
pub struct Import {
    /// File or directory on this machine, or URI (gs://…)
    pub artifact: String,
    /// The model to register it under: a new one, or a new version of the one of this name
    #[arg(long)]
    pub name: String,
    /// What is done to inputs and outputs: a YAML document (image, text or table; output), with the files that it names
    /// beside it. One that is called processing.yaml in the artifact's directory needs no option
    #[arg(long, value_name = "FILE")]
    pub processing: Option<PathBuf>,
    /// Free text about the version
    #[arg(long, default_value = "")]
    pub description: String,
    /// Instances to explain others by: a JSONL file on this machine, or a URI, with the name of each as `id`
    #[arg(long, value_name = "JSONL")]
    pub examples: Option<String>,
    /// Aliases of the version
    #[arg(long = "alias", value_name = "ALIAS")]
    pub aliases: Vec<String>,
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

impl Import {
    /// Copies the artifact into the server and registers it.
    ///
    /// # Errors
    /// If the artifact cannot be read or served, or the server refuses.
    pub async fn run(&self, output: &Output) -> Result<()> {
        let client = self.connection.client()?;
        let uri = match &self.processing {
            None => client.reachable(&self.artifact).await?,
            Some(document) => self.with_processing(&client, document).await?,
        };
        let examples = match &self.examples {
            Some(examples) => Some(client.reachable(examples).await?),
            None => None,
        };
        let made = self.upload(&client, &uri, examples.as_deref()).await?;
        let text = |field: &str| made.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let reference = ModelRef { name: text("model"), version: Some(text("modelVersionId")) };
        let model = client.model(&reference).await?;
        if output.json {
            let path = format!("/v1/{}", model.versioned());
            output.value(&client.get(&path).await.map_err(Failure::from)?);
            return Ok(());
        }
        let what = format!("{} version {}", self.name, model.version_id);
        output.line(format!(
            "Registered {} from {}.",
            output.style(Style::Strong, &what),
            last_segment(&self.artifact)
        ));
        output.note(format!("Serve it with `meuse deploy {}@{}`.", self.name, model.version_id));
        Ok(())
    }

    /// Copies the artifact into the server with the document and what it names.
    async fn with_processing(&self, client: &Client, document: &Path) -> Result<String> {
        if is_uri(&self.artifact) {
            return Err(Failure::usage("--processing goes with a file or directory on this machine")
                .next(format!("put the document beside the model as {PROCESSING_FILE}")));
        }
        let files = named(document)?;
        let uri = client.reachable(&self.artifact).await?;
        // A file is joined by what lies beside it; the directory of both is the artifact.
        let uri = match Path::new(&self.artifact).is_dir() {
            true => uri,
            false => uri.rsplit_once('/').map_or(uri.clone(), |(directory, _)| directory.to_owned()),
        };
        client.put_beside(&format!("{uri}/"), PROCESSING_FILE, document).await?;
        for file in files {
            client.put_beside(&format!("{uri}/"), &file, &document.with_file_name(&file)).await?;
        }
        Ok(uri)
    }

    async fn upload(&self, client: &Client, uri: &str, examples: Option<&str>) -> Result<Value> {
        let mut body = json!({"model": {
            "displayName": self.name,
            "artifactUri": uri,
            "versionDescription": self.description,
            "versionAliases": self.aliases,
        }});
        if let Some(examples) = examples {
            let source = json!({"dataFormat": "JSONL", "gcsSource": {"uris": [examples]}});
            let parameters = json!({"examples": {"exampleGcsSource": source, "neighborCount": NEIGHBORS}});
            body["model"]["explanationSpec"] = json!({"parameters": parameters});
        }
        match client.find_model(&self.name).await? {
            Some(model) => body["parentModel"] = json!(model.resource()),
            None => {
                if let Some(id) = id_from(&self.name) {
                    body["modelId"] = json!(id);
                }
            }
        }
        client.operate(&format!("/v1/{}/models:upload", client.parent()), &body).await
    }
}

/// The files beside a document about inputs and outputs that it names. A mistake in it is found before anything is sent.
fn named(document: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(document).map_err(on_file(document, "reading"))?;
    let files = RefCell::new(Vec::new());
    let read = |file: &str| {
        files.borrow_mut().push(file.to_owned());
        std::fs::read(document.with_file_name(file))
            .map_err(|e| SpecError::new("output.labels", e.to_string()))
    };
    let read = Processing::from_yaml(&text, read)
        .map_err(|e| Failure::usage(format!("{}: {e}", document.display())))?;
    let mut files = files.into_inner();
    if let Some(Input::Text(text)) = read.input
        && document.with_file_name(&text.tokenizer).is_file()
    {
        files.push(text.tokenizer);
    }
    Ok(files)
}
