//! The steps of the quickstart, each a call or two over the network.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use super::data::{self, Summary};
use crate::client::wire::{Endpoint, Job, Model};
use crate::client::{Client, ModelRef};
use crate::commands::batch::{InputFormat, Order, RowFormat};
use crate::commands::evaluate::{Truth, evaluate, figure};
use crate::commands::explain::{self, Explained, Method};
use crate::commands::predict::{label, predict};
use crate::commands::train::Training;
use crate::commands::{deploy, jobs};
use crate::failure::{Failure, Result};
use crate::show::{Output, Style, Table, percent, thousands};

/// The model and its endpoint.
pub(super) const NAME: &str = "wordnet";
/// The local bucket.
const BUCKET: &str = "quickstart";
/// A definition that is in neither file.
pub(super) const QUESTION: &str = "a small striped insect that lives in a hive and makes honey";

/// What every step works with.
pub(super) struct Tour<'a> {
    pub(super) client: &'a Client,
    pub(super) output: &'a Output,
    step: u32,
}

/// Shows everything, with `pull` a language model as well; the figures.
///
/// # Errors
/// If a step fails.
pub(super) async fn tour(client: &Client, output: &Output, data_dir: &Path, pull: bool) -> Result<Value> {
    let mut tour = Tour { client, output, step: 0 };
    if !output.json {
        let title = "Meuse quickstart: a text classifier, from a labelled file to explained predictions, and a language model.";
        output.line(output.style(Style::Strong, title));
        output.line("");
    }
    tour.say("server", &format!("{}, data in {}", client.url(), data_dir.display()));
    let heldout = tour.upload().await?;
    let first = tour.train("10 epochs, seed 1", 1, 10).await?;
    let second = tour.train("20 epochs, seed 2", 2, 20).await?;
    let endpoint = tour.deploy(&first, &second).await?;
    let accuracy = tour.evaluate(&[&first, &second], &heldout).await?;
    let batch = tour.batch(&first).await?;
    let prediction = tour.predict(&endpoint).await?;
    let explained = tour.explain(&endpoint).await?;
    let language = if pull { tour.language().await? } else { Value::Null };
    Ok(json!({
        "url": client.url(),
        "model": first.resource(),
        "versions": [first.version_id, second.version_id],
        "endpoint": endpoint.name,
        "trafficSplit": endpoint.traffic_split,
        "accuracy": accuracy,
        "majorityBaseline": heldout.majority_share(),
        "batch": {
            "outputDirectory": batch.output_info.unwrap_or_default().gcs_output_directory,
            "rows": batch.completion_stats.unwrap_or_default().successful_count,
        },
        "prediction": prediction,
        "explanation": {"label": explained.label, "approximationError": explained.approximation_error},
        "language": language,
    }))
}

impl Tour<'_> {
    /// A step's first line.
    pub(super) fn say(&mut self, what: &str, how: &str) {
        self.step += 1;
        if !self.output.json {
            let head = self.output.style(Style::Strong, &format!("{} {what:<9}", self.step));
            self.output.line(format!("{head} {how}"));
        }
    }

    /// A further line of a step.
    pub(super) fn add(&self, how: &str) {
        if !self.output.json {
            self.output.line(format!("            {how}"));
        }
    }

    async fn upload(&mut self) -> Result<Summary> {
        let (train, heldout) = (Summary::of(data::TRAIN)?, Summary::of(data::HELDOUT)?);
        let (rows, apart) = (thousands(train.rows), thousands(heldout.rows));
        let classes = train.classes.len();
        self.say(
            "data",
            &format!("WordNet definitions in {classes} classes: {rows} to learn from, {apart} held out"),
        );
        self.client.ensure_bucket(BUCKET).await?;
        self.client.put_object(&uri("train.csv"), data::TRAIN).await?;
        self.client.put_object(&uri("heldout.csv"), data::HELDOUT).await?;
        self.client.put_object(&uri("texts.csv"), data::texts()?).await?;
        self.add(&format!("in the local bucket gs://{BUCKET}"));
        Ok(heldout)
    }

    async fn train(&mut self, how: &str, seed: u64, epochs: u32) -> Result<Model> {
        self.say("train", &format!("text → dense 64 relu → dense 64 relu → dense 10 softmax; Adam, {how}"));
        let begun = Instant::now();
        let training =
            Training { name: NAME, uri: &uri("train.csv"), spec: spec(seed, epochs), description: how };
        let job = training.start(self.client).await?;
        let done = jobs::watch(self.client, &job.name, self.output).await?;
        let made =
            done.model_to_upload.ok_or_else(|| Failure::new("the training job registered no model"))?;
        let reference = ModelRef { name: made.resource().to_owned(), version: Some(made.version_id.clone()) };
        let model = self.client.model(&reference).await?;
        let version = format!("{NAME} version {}", model.version_id);
        self.add(&format!("registered {version} after {:.1} s", begun.elapsed().as_secs_f64()));
        Ok(model)
    }

    /// The first version takes 90 %, the second 10 %; what an earlier run deployed goes.
    async fn deploy(&mut self, first: &Model, second: &Model) -> Result<Endpoint> {
        self.say(
            "deploy",
            &format!(
                "version {} takes 90 % of the traffic, version {} 10 %",
                first.version_id, second.version_id
            ),
        );
        deploy::deploy(self.client, first, NAME, deploy::How::default()).await?;
        let endpoint = deploy::deploy(
            self.client,
            second,
            NAME,
            deploy::How { traffic: Some(10), ..deploy::How::default() },
        )
        .await?;
        let path = format!("/v1/{}", endpoint.name);
        for old in endpoint.deployed_models.iter().filter(|d| !d.is(first) && !d.is(second)) {
            let body = json!({"deployedModelId": old.id});
            self.client.operate(&format!("{path}:undeployModel"), &body).await?;
        }
        Ok(self.client.get(&path).await?)
    }

    async fn evaluate(&mut self, models: &[&Model], heldout: &Summary) -> Result<Value> {
        self.say("evaluate", &format!("on the {} held-out rows", thousands(heldout.rows)));
        let mut table = Table::new(&["", ">ACCURACY", ">LOG LOSS"]);
        let mut accuracies = serde_json::Map::new();
        for model in models {
            let truth = Truth { target: Some(data::LABEL), ..Truth::default() };
            let made = evaluate(self.client, model, None, &[uri("heldout.csv")], truth, &[]).await?;
            let metrics = made.get("metrics").cloned().unwrap_or_default();
            let accuracy = figure(&metrics, "accuracy")
                .ok_or_else(|| Failure::new("the evaluation gives no accuracy"))?;
            let loss = figure(&metrics, "logLoss").map(|v| format!("{v:.3}")).unwrap_or_default();
            table.row([format!("version {}", model.version_id), percent(accuracy), loss]);
            accuracies.insert(model.version_id.clone(), json!(accuracy));
        }
        let guess = "always the commonest class".to_owned();
        table.row([guess, percent(heldout.majority_share()), String::new()]);
        table.lines().iter().for_each(|line| self.add(line));
        Ok(Value::Object(accuracies))
    }

    async fn batch(&mut self, model: &Model) -> Result<Job> {
        self.say("batch", &format!("every row of {}", uri("texts.csv")));
        let begun = Instant::now();
        let order = Order {
            name: "quickstart",
            model,
            uris: &[uri("texts.csv")],
            input_format: InputFormat::Csv,
            output_prefix: &uri("predictions"),
            output_format: RowFormat::Csv,
            explain: false,
            instance: None,
        };
        let job = order.start(self.client).await?;
        let done = jobs::watch(self.client, &job.name, self.output).await?;
        let rows = done.completion_stats.clone().unwrap_or_default().successful_count;
        let place = done.output_info.clone().unwrap_or_default().gcs_output_directory;
        self.add(&format!(
            "{} predictions in {:.1} s: {place}",
            thousands(rows),
            begun.elapsed().as_secs_f64()
        ));
        Ok(done)
    }

    async fn predict(&mut self, endpoint: &Endpoint) -> Result<Value> {
        self.say("predict", &format!("“{QUESTION}”"));
        let reply = predict(self.client, endpoint, &[json!(QUESTION)]).await?;
        let prediction = reply.pointer("/predictions/0").cloned().unwrap_or_default();
        let (class, score) = label(&prediction).ok_or_else(|| Failure::new("the prediction has no label"))?;
        let deployed = reply.get("deployedModelId").and_then(Value::as_str).unwrap_or_default();
        let version = endpoint.deployed_models.iter().find(|d| d.id == deployed).map(|d| d.version());
        let by = version.map(|v| format!(", says version {v}")).unwrap_or_default();
        self.add(&format!("{} ({}{by})", self.output.style(Style::Strong, class), percent(score)));
        Ok(prediction)
    }

    async fn explain(&mut self, endpoint: &Endpoint) -> Result<Explained> {
        self.say("explain", "which words that rests on (integrated gradients)");
        let instance = json!(QUESTION);
        let method = Method::IntegratedGradients;
        let explained = explain::explain(self.client, endpoint, &instance, method, None).await?;
        explained.lines(self.output, &instance).iter().for_each(|line| self.add(line));
        Ok(explained)
    }
}

fn uri(object: &str) -> String {
    format!("gs://{BUCKET}/{object}")
}

/// The network of the tour, as a person would write it in a file.
fn spec(seed: u64, epochs: u32) -> Value {
    json!({
        "label": data::LABEL,
        "features": [{"text": data::TEXT, "width": 100}],
        "layers": [
            {"dense": 64, "activation": "relu"},
            {"dense": 64, "activation": "relu"},
            {"dense": "labels", "activation": "softmax"},
        ],
        "optimizer": "adam",
        "loss": "sparse_categorical_crossentropy",
        "metrics": ["accuracy"],
        "epochs": epochs,
        "seed": seed,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn the_specification_is_one() {
        formats::spec::TrainSpec::from_json(&super::spec(1, 10).to_string()).unwrap();
    }
}
