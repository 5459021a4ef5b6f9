//! `meuse predict`

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use clap::Args;
use serde_json::{Value, json};

use super::rows;
use crate::client::Client;
use crate::client::wire::Endpoint;
use crate::connection::Connection;
use crate::failure::{Failure, Result, on_file};
use crate::show::{Output, Table, fit, percent};

/// Instances sent in one request.
const CHUNK: usize = 256;
/// Characters of an instance that the table shows.
const INSTANCE_WIDTH: usize = 60;

/// Ask a deployed model.
#[derive(Debug, Args)]
#[command(
    after_help = "Without text, --instance, --image and --file it reads standard input, one text a line."
)]
pub struct Predict {
    /// Model or endpoint
    pub name: String,
    /// Texts to classify
    pub text: Vec<String>,
    /// An instance as JSON: a string, a list of numbers, or an object by column
    #[arg(long, value_name = "JSON", conflicts_with = "text")]
    pub instance: Vec<String>,
    /// Image file, PNG, JPEG or WebP, for a model that takes one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "instance"])]
    pub image: Vec<PathBuf>,
    /// File of instances: .json a list, .jsonl one a line, .csv one a row, else one text a line
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "instance", "image"])]
    pub file: Option<PathBuf>,
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

impl Predict {
    /// Predicts and prints.
    ///
    /// # Errors
    /// If nothing serves there, an instance does not fit the model, or the server refuses.
    pub async fn run(&self, output: &Output) -> Result<()> {
        let instances = self.instances()?;
        if instances.is_empty() {
            return Err(Failure::usage("there is nothing to predict")
                .next("give a text, --instance, --file or lines"));
        }
        let client = self.connection.client()?;
        let endpoint = client.endpoint(&self.name).await?;
        let reply = predict(&client, &endpoint, &instances).await?;
        if output.json {
            output.value(&reply);
            return Ok(());
        }
        let predictions = reply.get("predictions").and_then(Value::as_array).cloned().unwrap_or_default();
        output.table(&table(&instances, &predictions));
        Ok(())
    }

    fn instances(&self) -> Result<Vec<Value>> {
        if !self.instance.is_empty() {
            let read = |text: &String| {
                serde_json::from_str(text)
                    .map_err(|e| Failure::usage(format!("--instance {text} is not JSON: {e}")))
            };
            return self.instance.iter().map(read).collect();
        }
        if !self.image.is_empty() {
            return self.image.iter().map(|path| image(path)).collect();
        }
        if let Some(path) = &self.file {
            let text = std::fs::read_to_string(path).map_err(on_file(path, "reading"))?;
            let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
            return rows::instances(&text, &extension)
                .map_err(|e| Failure::usage(format!("{}: {}", path.display(), e.what())));
        }
        if !self.text.is_empty() {
            return Ok(self.text.iter().map(|text| json!(text)).collect());
        }
        let mut stdin = std::io::stdin();
        if stdin.is_terminal() {
            return Ok(Vec::new());
        }
        let mut text = String::new();
        stdin
            .read_to_string(&mut text)
            .map_err(|e| Failure::new(format!("standard input could not be read: {e}")))?;
        rows::instances(&text, "txt")
    }
}

/// The image file at `path` as an instance.
pub(crate) fn image(path: &Path) -> Result<Value> {
    let file = std::fs::read(path).map_err(on_file(path, "reading"))?;
    Ok(json!(base64::engine::general_purpose::STANDARD.encode(file)))
}

/// Predicts all instances; the reply of the last request with the predictions of all.
pub(crate) async fn predict(client: &Client, endpoint: &Endpoint, instances: &[Value]) -> Result<Value> {
    let path = format!("/v1/{}:predict", endpoint.name);
    let mut whole = json!({});
    let mut predictions = Vec::with_capacity(instances.len());
    for chunk in instances.chunks(CHUNK) {
        let mut reply: Value =
            client.post(&path, &json!({ "instances": chunk })).await.map_err(Failure::from)?;
        if let Some(Value::Array(part)) = reply.get_mut("predictions").map(Value::take) {
            predictions.extend(part);
        }
        whole = reply;
    }
    whole["predictions"] = Value::Array(predictions);
    Ok(whole)
}

fn table(instances: &[Value], predictions: &[Value]) -> Table {
    let classified = predictions.iter().all(|p| label(p).is_some());
    let mut table = if classified {
        Table::new(&["LABEL", ">SCORE", "INSTANCE"])
    } else {
        Table::new(&[">PREDICTION", "INSTANCE"])
    };
    for (instance, prediction) in instances.iter().zip(predictions) {
        let instance = instance.as_str().map_or_else(|| instance.to_string(), str::to_owned);
        let instance = fit(&instance, INSTANCE_WIDTH);
        match label(prediction) {
            Some((label, score)) if classified => table.row([label.to_owned(), percent(score), instance]),
            _ => table.row([plain(prediction), instance]),
        }
    }
    table
}

/// A classifier's answer: the label and its score.
pub(crate) fn label(prediction: &Value) -> Option<(&str, f64)> {
    if let Some(best) = prediction.pointer("/displayNames/0") {
        return Some((best.as_str()?, prediction.pointer("/confidences/0")?.as_f64()?));
    }
    let label = prediction.get("label")?.as_str()?;
    let classes = prediction.get("classes")?.as_array()?;
    let place = classes.iter().position(|class| class.as_str() == Some(label))?;
    Some((label, prediction.get("scores")?.get(place)?.as_f64()?))
}

/// Any other answer.
fn plain(prediction: &Value) -> String {
    match prediction.get("value").unwrap_or(prediction) {
        Value::String(text) => text.clone(),
        value => fit(&value.to_string(), INSTANCE_WIDTH),
    }
}
