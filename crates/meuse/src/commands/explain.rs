//! `meuse explain`

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::predict;
use crate::client::Client;
use crate::client::wire::Endpoint;
use crate::connection::Connection;
use crate::failure::{Failure, Result, on_file};
use crate::show::{Output, Style, Table, TokenShare, attribution_lines, percent};

/// Columns named under an explanation without text.
const COLUMNS_SHOWN: usize = 12;

/// See which words or columns a prediction, or a language model's answer, rests on.
#[derive(Debug, Args)]
#[command(
    after_help = "In a terminal the text's words are shaded: red speaks for the label, blue against it.\n\
Attributions add up to the difference between the score of the text and that of an empty one;\n\
the approximation error says how nearly."
)]
pub struct Explain {
    /// Model or endpoint
    pub name: String,
    /// The text
    #[arg(required_unless_present_any = ["instance", "image"])]
    pub text: Option<String>,
    /// An instance as JSON: a list of numbers, or an object by column
    #[arg(long, value_name = "JSON", conflicts_with = "text")]
    pub instance: Option<String>,
    /// Image file, PNG, JPEG or WebP, for a model that takes one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "instance"])]
    pub image: Option<PathBuf>,
    /// Write the image here, its areas shaded red where they speak for the label and blue where against it (PNG)
    #[arg(long, value_name = "FILE")]
    pub heatmap: Option<PathBuf>,
    /// How: Shapley values by sampling (any model); gradients along the way from nothing to the instance
    /// (networks trained here, and others of such layers); leave-one-out, or its fast approximation hidden (language models)
    /// [default: the version's own; leave-one-out for a language model]
    #[arg(long, value_enum)]
    pub method: Option<Method>,
    /// Parts of a language model's prompt that are told apart [default: word]
    #[arg(long, value_enum)]
    pub spans: Option<Spans>,
    /// Explain this answer of a language model [default: the one that it gives]
    #[arg(long, value_name = "TEXT", requires = "text")]
    pub answer: Option<String>,
    /// Permutations (shapley, 1 to 50) or steps (integrated-gradients, 1 to 100): more is more exact
    #[arg(long, value_name = "N", requires = "method")]
    pub effort: Option<u32>,
    /// So many of the examples that were imported with the model, the nearest first
    #[arg(
        long, value_name = "N", num_args = 0..=1, default_missing_value = "10",
        conflicts_with_all = ["method", "label", "spans", "answer"]
    )]
    pub nearest: Option<u32>,
    /// Explain the score of this label [default: the label predicted]
    #[arg(long, value_name = "LABEL")]
    pub label: Option<String>,
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

/// An attribution method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// Sampled Shapley values.
    Shapley,
    /// Integrated gradients.
    IntegratedGradients,
    /// What the answer loses without each part.
    LeaveOneOut,
    /// The same, approximately: the prompt is computed once.
    Hidden,
}

/// Parts of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Spans {
    /// The model's own tokens.
    Token,
    /// Words.
    Word,
    /// Sentences and lines.
    Sentence,
    /// Messages.
    Message,
}

/// What is asked for beside the instance, as the request says it.
#[derive(Debug, Default)]
struct Wanted {
    /// `explanationSpecOverride.parameters`
    specification: Option<Value>,
    /// `parameters`
    parameters: Map<String, Value>,
}

impl Wanted {
    fn by(method: Option<Method>, effort: Option<u32>) -> Self {
        let mut wanted = Wanted::default();
        match method {
            Some(Method::Shapley) => {
                let paths = effort.unwrap_or(20);
                wanted.specification = Some(json!({"sampledShapleyAttribution": {"pathCount": paths}}));
            }
            Some(Method::IntegratedGradients) => {
                let steps = effort.unwrap_or(50);
                wanted.specification = Some(json!({"integratedGradientsAttribution": {"stepCount": steps}}));
            }
            Some(Method::LeaveOneOut) => wanted.set("method", "leave_one_out"),
            Some(Method::Hidden) => wanted.set("method", "hidden"),
            None => {}
        }
        wanted
    }

    fn set(&mut self, name: &str, value: &str) {
        self.parameters.insert(name.to_owned(), value.into());
    }
}

impl Explain {
    /// Explains and draws.
    ///
    /// # Errors
    /// If nothing serves there, the method does not fit the model, or the server refuses.
    pub async fn run(&self, output: &Output) -> Result<()> {
        let instance = match (&self.instance, &self.text) {
            _ if let Some(image) = &self.image => predict::image(image)?,
            (Some(json), _) => serde_json::from_str(json)
                .map_err(|e| Failure::usage(format!("--instance {json} is not JSON: {e}")))?,
            (None, Some(text)) if self.answer.is_some() => {
                json!({"messages": [{"role": "user", "content": text}], "answer": self.answer})
            }
            (None, text) => json!(text),
        };
        let client = self.connection.client()?;
        let endpoint = client.endpoint(&self.name).await?;
        if let Some(count) = self.nearest {
            return nearest(&client, &endpoint, &instance, count, output).await;
        }
        let mut wanted = Wanted::by(self.method, self.effort);
        if let Some(label) = &self.label {
            wanted.set("label", label);
        }
        if let Some(spans) = self.spans.and_then(|spans| spans.to_possible_value()) {
            wanted.set("spans", spans.get_name());
        }
        let explained = ask(&client, &endpoint, &instance, wanted).await?;
        if let Some(path) = &self.heatmap {
            let drawn = explained.heat_map().ok_or_else(|| {
                Failure::new("this model's explanation has no picture").next(
                    "models made elsewhere whose processing declares an image have one; leave --heatmap out",
                )
            })?;
            std::fs::write(path, drawn?).map_err(on_file(path, "writing"))?;
            output.note(format!("Wrote {}.", path.display()));
        }
        if output.json {
            output.value(&explained.reply);
            return Ok(());
        }
        explained.lines(output, &instance).iter().for_each(|line| output.line(line));
        Ok(())
    }
}

/// Shows the examples nearest to an instance.
async fn nearest(
    client: &Client,
    endpoint: &Endpoint,
    instance: &Value,
    count: u32,
    output: &Output,
) -> Result<()> {
    let body = json!({
        "instances": [instance],
        "explanationSpecOverride": {"examplesOverride": {"neighborCount": count}},
    });
    let reply: Value = client.post(&format!("/v1/{}:explain", endpoint.name), &body).await?;
    if output.json {
        output.value(&reply);
        return Ok(());
    }
    let mut table = Table::new(&["EXAMPLE", ">DISTANCE"]);
    for near in reply.pointer("/explanations/0/neighbors").and_then(Value::as_array).into_iter().flatten() {
        let id = near.get("neighborId").and_then(Value::as_str).unwrap_or_default();
        let distance = near.get("neighborDistance").and_then(Value::as_f64).unwrap_or_default();
        table.row([id.to_owned(), format!("{distance:.4}")]);
    }
    output.table(&table);
    Ok(())
}

/// One explained prediction.
#[derive(Debug, Clone)]
pub(crate) struct Explained {
    /// The server's whole answer.
    pub(crate) reply: Value,
    /// The label explained; empty for a model without labels.
    pub(crate) label: String,
    /// Its score, or the number predicted.
    pub(crate) score: f64,
    /// The score of nothing.
    pub(crate) baseline: f64,
    /// What the attributions fail to account for, relative.
    pub(crate) approximation_error: f64,
    /// What a language model's answer loses without the strongest parts, and without random ones.
    deletion: Option<Deletion>,
    /// Whether it is a language model's answer.
    speaks: bool,
    /// Attributions by column.
    columns: Vec<(String, Share)>,
}

/// The deletion test.
#[derive(Debug, Clone)]
struct Deletion {
    removed: u64,
    loss: f64,
    random_loss: f64,
}

/// What one column contributes.
#[derive(Debug, Clone)]
enum Share {
    Number(f64),
    Tokens(Vec<(String, f64)>),
    /// Of an image's areas.
    Areas(Vec<f64>),
}

/// Explains `instance` by `method`, for `label` or else for what is predicted.
///
/// # Errors
/// If the method does not fit the model, or the server refuses.
pub(crate) async fn explain(
    client: &Client,
    endpoint: &Endpoint,
    instance: &Value,
    method: Method,
    label: Option<&str>,
) -> Result<Explained> {
    let mut wanted = Wanted::by(Some(method), None);
    if let Some(label) = label {
        wanted.set("label", label);
    }
    ask(client, endpoint, instance, wanted).await
}

async fn ask(client: &Client, endpoint: &Endpoint, instance: &Value, wanted: Wanted) -> Result<Explained> {
    let mut body = json!({ "instances": [instance] });
    if !wanted.parameters.is_empty() {
        body["parameters"] = wanted.parameters.into();
    }
    if let Some(specification) = wanted.specification {
        body["explanationSpecOverride"] = json!({ "parameters": specification });
    }
    let reply: Value =
        client.post(&format!("/v1/{}:explain", endpoint.name), &body).await.map_err(Failure::from)?;
    Explained::read(reply).ok_or_else(|| Failure::new("the server's explanation cannot be read"))
}

impl Explained {
    fn read(reply: Value) -> Option<Self> {
        let attribution = reply.pointer("/explanations/0/attributions/0")?;
        let number = |field: &str| attribution.get(field).and_then(Value::as_f64).unwrap_or(0.0);
        let columns = columns(attribution.get("featureAttributions")?.as_object()?)?;
        let label =
            attribution.get("outputDisplayName").and_then(Value::as_str).unwrap_or_default().to_owned();
        let (score, baseline) = (number("instanceOutputValue"), number("baselineOutputValue"));
        let approximation_error = number("approximationError");
        let speaks = attribution.get("outputName").and_then(Value::as_str) == Some("log_probability");
        let deletion = reply.pointer("/predictions/0/deletion_test").and_then(Deletion::read);
        Some(Explained { label, score, baseline, approximation_error, deletion, speaks, columns, reply })
    }

    /// The explanation of `instance`, drawn.
    pub(crate) fn lines(&self, output: &Output, instance: &Value) -> Vec<String> {
        let mut lines = vec![self.headline(output)];
        let mut plain = Vec::new();
        for (name, share) in &self.columns {
            match share {
                Share::Number(value) => plain.push((name.as_str(), *value)),
                Share::Areas(values) => lines.push(areas_line(values)),
                Share::Tokens(tokens) => {
                    let text = text_of(instance, name);
                    let subject = if self.speaks { "the answer" } else { self.subject() };
                    lines.push(String::new());
                    lines.extend(attribution_lines(output, text, &placed(text, tokens), subject));
                }
            }
        }
        plain.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        let width = plain.iter().take(COLUMNS_SHOWN).map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in plain.iter().take(COLUMNS_SHOWN) {
            lines.push(format!("  {name:<width$}  {value:>+8.4}"));
        }
        lines.extend(self.deletion.as_ref().map(|test| format!("\n  {}", test.line())));
        let error = format!("approximation error {:.2} %", self.approximation_error * 100.0);
        lines.push(output.style(Style::Faint, &format!("  {error}")));
        lines
    }

    /// The picture of the first column that has one.
    fn heat_map(&self) -> Option<Result<Vec<u8>>> {
        let features =
            self.reply.pointer("/explanations/0/attributions/0/featureAttributions")?.as_object()?;
        let drawn = features.values().find_map(|share| share.get("b64_png"))?.as_str()?;
        Some(STANDARD.decode(drawn).map_err(|_| Failure::new("the server's picture cannot be read")))
    }

    fn subject(&self) -> &str {
        if self.label.is_empty() { "the prediction" } else { &self.label }
    }

    fn headline(&self, output: &Output) -> String {
        let subject = output.style(Style::Strong, self.subject());
        if self.speaks {
            let (score, baseline) = (self.score, self.baseline);
            return format!("{subject}\n  log-probability {score:.2}, and {baseline:.2} with nothing said");
        }
        if self.label.is_empty() {
            format!("{subject}: {:.4}, and {:.4} for an empty instance", self.score, self.baseline)
        } else {
            let pictured = self.columns.iter().any(|(_, share)| matches!(share, Share::Areas(_)));
            let nothing = if pictured { "its mean colour alone" } else { "an empty text" };
            format!("{subject}: {}, and {} for {nothing}", percent(self.score), percent(self.baseline))
        }
    }
}

impl Deletion {
    fn read(test: &Value) -> Option<Self> {
        let number = |name: &str| test.get(name).and_then(Value::as_f64);
        // Numbers of a protobuf Struct are floats.
        let removed = number("spans_removed")? as u64;
        Some(Deletion { removed, loss: number("loss")?, random_loss: number("random_loss")? })
    }

    fn line(&self) -> String {
        let Deletion { removed, loss, random_loss } = self;
        let parts = if *removed == 1 { "part" } else { "parts" };
        format!(
            "deletion test: without the {removed} strongest {parts} the log-probability falls by {loss:.2}, without \
             random ones by {random_loss:.2}"
        )
    }
}

/// What the instance says in column `name`, or in the message of that name.
fn text_of<'a>(instance: &'a Value, name: &str) -> &'a str {
    let message = || {
        let place: usize = name.strip_prefix("messages[")?.strip_suffix(']')?.parse().ok()?;
        instance.get("messages")?.get(place)?.get("content")
    };
    let text = instance.as_str().or_else(|| instance.get(name).or_else(message)?.as_str());
    text.unwrap_or_default()
}

/// Attributions by column. A text's tokens stand beside its attributions, under `{column}_tokens`.
fn columns(features: &Map<String, Value>) -> Option<Vec<(String, Share)>> {
    let is_tokens =
        |name: &str| name.strip_suffix("_tokens").is_some_and(|column| features.contains_key(column));
    let named = features.iter().filter(|(name, _)| !is_tokens(name));
    named
        .map(|(name, value)| Some((name.clone(), share(value, features.get(&format!("{name}_tokens")))?)))
        .collect()
}

/// How many areas of an image speak for what is explained, and how much.
fn areas_line(values: &[f64]) -> String {
    let (speaks, against): (Vec<f64>, Vec<f64>) = values.iter().partition(|value| **value >= 0.0);
    let (up, down): (f64, f64) = (speaks.iter().sum(), against.iter().sum());
    format!(
        "  {} areas: {} speak for it ({up:+.4}), {} against it ({down:+.4}); see them with --heatmap FILE",
        values.len(),
        speaks.len(),
        against.len()
    )
}

fn share(value: &Value, tokens: Option<&Value>) -> Option<Share> {
    if let Some(areas) = value.get("values") {
        return areas.as_array()?.iter().map(Value::as_f64).collect::<Option<_>>().map(Share::Areas);
    }
    let Value::Array(values) = value else { return value.as_f64().map(Share::Number) };
    match tokens {
        None => Some(Share::Number(values.iter().filter_map(Value::as_f64).sum())),
        Some(tokens) => {
            let pairs = tokens.as_array()?.iter().zip(values);
            let pair = |(t, v): (&Value, &Value)| Some((t.as_str()?.to_owned(), v.as_f64()?));
            pairs.map(pair).collect::<Option<Vec<_>>>().map(Share::Tokens)
        }
    }
}

/// Finds each token in the text, one after the other.
fn placed(text: &str, tokens: &[(String, f64)]) -> Vec<TokenShare> {
    let mut at = 0;
    let mut shares = Vec::with_capacity(tokens.len());
    for (token, value) in tokens {
        let Some(found) = text.get(at..).and_then(|rest| rest.find(token.as_str())) else { continue };
        let span = at + found..at + found + token.len();
        at = span.end;
        shares.push(TokenShare { span, value: *value });
    }
    shares
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn tokens_stand_beside_their_attributions() {
        let features = json!({"t": [0.5, -0.25], "t_tokens": ["a", "b"], "n": 0.125, "list": [1, 2]});
        let read = columns(features.as_object().unwrap()).unwrap();
        assert_eq!(read.len(), 3);
        for (name, share) in read {
            match (name.as_str(), share) {
                ("t", Share::Tokens(tokens)) => assert_eq!(tokens, [("a".into(), 0.5), ("b".into(), -0.25)]),
                ("n", Share::Number(n)) => assert_eq!(n, 0.125),
                ("list", Share::Number(n)) => assert_eq!(n, 3.0),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn tokens_are_found_in_order() {
        let tokens = [("a".to_owned(), 0.1), ("cat".to_owned(), 0.2), ("a".to_owned(), -0.3)];
        let spans: Vec<_> = placed("a cat, a dog", &tokens).into_iter().map(|s| s.span).collect();
        assert_eq!(spans, [0..1, 2..5, 7..8]);
    }
}
