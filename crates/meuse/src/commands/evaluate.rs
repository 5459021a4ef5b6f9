//! `meuse evaluate`

use clap::Args;
use serde_json::{Value, json};

use super::batch::InputFormat;
use super::rows;
use crate::client::wire::Model;
use crate::client::{Client, ModelRef};
use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::show::{Output, RowBar, Table, percent, thousands};

/// Measure a version on labelled rows.
#[derive(Debug, Args)]
pub struct Evaluate {
    /// The model; the default version unless one is named (NAME@3)
    pub model: ModelRef,
    /// Labelled rows, CSV, JSONL or Parquet: a file on this machine, its images beside it, or a URI (gs://…)
    #[arg(long, required = true, value_name = "FILE")]
    pub data: Vec<String>,
    /// Column with the truth [default: the one that the model was trained on]
    #[arg(long, visible_alias = "label", value_name = "COL")]
    pub target: Option<String>,
    /// Measure also each part of the rows with one value in this column
    #[arg(long, value_name = "COL")]
    pub slice_by: Vec<String>,
    /// A row may have any number of labels, in the target column with `|` between them
    #[arg(long)]
    pub multi_label: bool,
    /// What stands between labels instead
    #[arg(long, value_name = "TEXT", requires = "multi_label")]
    pub separator: Option<String>,
    /// The score from which on a label is predicted [default: 0.5]
    #[arg(long, value_name = "SCORE", requires = "multi_label")]
    pub threshold: Option<f32>,
    /// What the model's scores are of, in their order, where it does not say
    #[arg(long, value_name = "LABEL,…", value_delimiter = ',', requires = "multi_label")]
    pub labels: Vec<String>,
    /// Compare with this model or version on the same rows
    #[arg(long, value_name = "MODEL")]
    pub against: Option<ModelRef>,
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

impl Evaluate {
    /// Measures and prints the figures.
    ///
    /// # Errors
    /// If the rows do not fit the model, or the server refuses.
    pub async fn run(&self, output: &Output) -> Result<()> {
        let client = self.connection.client()?;
        let model = client.model(&self.model).await?;
        let against = match &self.against {
            Some(against) => Some(client.model(against).await?),
            None => None,
        };
        let mut uris = Vec::new();
        for data in &self.data {
            uris.push(rows::reachable(&client, data).await?);
        }
        let bar = RowBar::new(output, "measuring");
        let truth = Truth { target: self.target.as_deref(), multi_label: self.sets() };
        let made = evaluate(&client, &model, against.as_ref(), &uris, truth, &self.slice_by).await;
        bar.finish();
        let mut evaluation = made?;
        let slices = self.slices(&client, &evaluation).await?;
        if output.json {
            evaluation["slices"] = Value::Array(slices);
            output.value(&evaluation);
            return Ok(());
        }
        let metrics = evaluation.get("metrics").cloned().unwrap_or_default();
        output.line(format!("{} version {}", self.model.name, model.version_id));
        output.table(&summary(&metrics));
        if let Some(table) = per_class(&metrics).or_else(|| per_label(&metrics)) {
            output.line("");
            output.table(&table);
        }
        if !slices.is_empty() {
            output.line("");
            output.table(&slice_table(&slices));
        }
        if let (Some(against), Some(found)) = (&against, evaluation.pointer("/metadata/comparison")) {
            let names = names(&model, against);
            output.line("");
            output.table(&comparison_table(found, &names));
            output.line("");
            output.line(verdict(found, &names));
        }
        Ok(())
    }

    /// `multiLabel`, if rows may have any number of labels.
    fn sets(&self) -> Option<Value> {
        let mut sets = json!({"labels": self.labels});
        if let Some(separator) = &self.separator {
            sets["separator"] = json!(separator);
        }
        if let Some(threshold) = self.threshold {
            sets["threshold"] = json!(threshold);
        }
        self.multi_label.then_some(sets)
    }

    async fn slices(&self, client: &Client, evaluation: &Value) -> Result<Vec<Value>> {
        if self.slice_by.is_empty() {
            return Ok(Vec::new());
        }
        let name = evaluation.get("name").and_then(Value::as_str).unwrap_or_default();
        let mut slices = client.list(&format!("/v1/{name}/slices"), "modelEvaluationSlices", &[]).await?;
        // The server also makes one of each class; the table of classes shows those.
        let text = |slice: &Value, path: &str| {
            slice.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        slices.retain(|slice| self.slice_by.contains(&text(slice, "/slice/dimension")));
        slices.sort_by_key(|slice| (text(slice, "/slice/dimension"), text(slice, "/slice/value")));
        Ok(slices)
    }
}

/// Where the truth about the rows stands.
#[derive(Debug, Default)]
pub(crate) struct Truth<'a> {
    /// The column; the one that the model was trained on where none is named.
    pub(crate) target: Option<&'a str>,
    /// `multiLabel`, where it is a set of labels.
    pub(crate) multi_label: Option<Value>,
}

/// Measures `model` on the rows at `uris`, and compares it with `against`; the evaluation, read again by its
/// name.
///
/// # Errors
/// If the rows do not fit the model, or the server refuses.
pub(crate) async fn evaluate(
    client: &Client,
    model: &Model,
    against: Option<&Model>,
    uris: &[String],
    truth: Truth<'_>,
    slice_by: &[String],
) -> Result<Value> {
    let format = InputFormat::of(uris.first().map_or("", String::as_str));
    let mut body =
        json!({"gcsSource": {"uris": uris}, "sliceBy": slice_by, "instancesFormat": format.name()});
    if let Some(target) = truth.target {
        body["targetColumn"] = json!(target);
    }
    if let Some(sets) = truth.multi_label {
        body["multiLabel"] = sets;
    }
    if let Some(against) = against {
        body["against"] = json!(against.versioned());
    }
    let made = client.operate(&format!("/v1/{}:evaluate", model.versioned()), &body).await?;
    let name = made
        .get("name")
        .and_then(Value::as_str)
        .ok_or_else(|| Failure::new("the server made an evaluation without a name"))?;
    Ok(client.get(&format!("/v1/{name}")).await?)
}

/// Figures to show, by their field, in this order.
const FIGURES: [(&str, &str); 15] = [
    ("accuracy", "accuracy"),
    ("subsetAccuracy", "subset accuracy"),
    ("hammingLoss", "Hamming loss"),
    ("/micro/precision", "micro precision"),
    ("/micro/recall", "micro recall"),
    ("/micro/f1Score", "micro F1"),
    ("/macro/f1Score", "macro F1"),
    ("logLoss", "log loss"),
    ("auRoc", "ROC-AUC"),
    ("auPrc", "PR-AUC"),
    ("rootMeanSquaredError", "RMSE"),
    ("meanAbsoluteError", "MAE"),
    ("meanAbsolutePercentageError", "MAPE"),
    ("rootMeanSquaredLogError", "RMSLE"),
    ("rSquared", "R²"),
];

fn summary(metrics: &Value) -> Table {
    let mut table = Table::new(&["FIGURE", ">VALUE"]);
    // Averages over classes say nothing that accuracy does not where a row has one class.
    let sets = metrics.get("subsetAccuracy").is_some();
    for (field, name) in FIGURES.into_iter().filter(|(field, _)| sets || !field.starts_with('/')) {
        if let Some(value) = figure(metrics, field) {
            table.row([name.to_owned(), format!("{value:.4}")]);
        }
    }
    table
}

/// The number `field` of `metrics`; accuracy also from the confusion matrix.
pub(crate) fn figure(metrics: &Value, field: &str) -> Option<f64> {
    let found = if field.starts_with('/') { metrics.pointer(field) } else { metrics.get(field) };
    let plain = found.and_then(Value::as_f64);
    if plain.is_none() && field == "accuracy" {
        let (_, counts) = confusion(metrics)?;
        let all: f64 = counts.iter().flatten().sum();
        let right: f64 = counts.iter().enumerate().filter_map(|(i, row)| row.get(i)).sum();
        return (all > 0.0).then(|| right / all);
    }
    plain
}

/// The confusion matrix: labels, and rows by truth.
fn confusion(metrics: &Value) -> Option<(Vec<String>, Vec<Vec<f64>>)> {
    let matrix = metrics.get("confusionMatrix")?;
    let label = |spec: &Value| spec.get("displayName").and_then(Value::as_str).map(str::to_owned);
    let labels = matrix.get("annotationSpecs")?.as_array()?.iter().map(label).collect::<Option<Vec<_>>>()?;
    let numbers = |row: &Value| {
        let cells = row.get("row").unwrap_or(row).as_array()?;
        cells.iter().map(Value::as_f64).collect::<Option<Vec<_>>>()
    };
    let counts = matrix.get("rows")?.as_array()?.iter().map(numbers).collect::<Option<Vec<_>>>()?;
    Some((labels, counts))
}

/// Rows, recall and precision of each class, out of the confusion matrix, and its commonest error.
fn per_class(metrics: &Value) -> Option<Table> {
    let (labels, counts) = confusion(metrics)?;
    let mut table = Table::new(&["CLASS", ">ROWS", ">RECALL", ">PRECISION", "TAKEN FOR"]);
    for (i, label) in labels.iter().enumerate() {
        let row = counts.get(i)?;
        let support: f64 = row.iter().sum();
        let predicted: f64 = counts.iter().filter_map(|r| r.get(i)).sum();
        let right = row.get(i).copied().unwrap_or(0.0);
        let share = |of: f64| if of > 0.0 { percent(right / of) } else { "–".to_owned() };
        let worst =
            row.iter().enumerate().filter(|(j, n)| *j != i && **n > 0.0).max_by(|a, b| a.1.total_cmp(b.1));
        let worst = worst.and_then(|(j, n)| Some(format!("{} ({n})", labels.get(j)?))).unwrap_or_default();
        table.row([label.clone(), thousands(support as u64), share(support), share(predicted), worst]);
    }
    Some(table)
}

/// Rows, recall, precision and F1 of each label of a model that gives sets of them.
fn per_label(metrics: &Value) -> Option<Table> {
    let labels = metrics.get("subsetAccuracy").and(metrics.get("perClass"))?.as_array()?;
    let mut table = Table::new(&["LABEL", ">ROWS", ">RECALL", ">PRECISION", ">F1"]);
    for label in labels {
        let name = label.get("displayName").and_then(Value::as_str).unwrap_or_default();
        let number = |field: &str| label.get(field).and_then(Value::as_f64).unwrap_or_default();
        let rows = thousands(number("support") as u64);
        let share = |field: &str| percent(number(field));
        table.row([name.to_owned(), rows, share("recall"), share("precision"), share("f1Score")]);
    }
    Some(table)
}

fn slice_table(slices: &[Value]) -> Table {
    let mut table = Table::new(&["SLICE", ">ROWS", ">ACCURACY", ">LOG LOSS", ">RMSE"]);
    for slice in slices {
        let text = |path: &str| slice.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let metrics = slice.get("metrics").cloned().unwrap_or_default();
        let number = |field| figure(&metrics, field).map(|v| format!("{v:.4}")).unwrap_or_default();
        let rows = figure(&metrics, "rowCount");
        table.row([
            format!("{} = {}", text("/slice/dimension"), text("/slice/value")),
            rows.map(|n| thousands(n as u64)).unwrap_or_default(),
            number("accuracy"),
            number("logLoss"),
            number("rootMeanSquaredError"),
        ]);
    }
    table
}

/// What to call the two: `@2` and `@1`, or with their models' names where these differ.
fn names(model: &Model, against: &Model) -> [String; 2] {
    let same = model.name == against.name;
    [model, against].map(|of| {
        let id = of.name.rsplit('/').next().unwrap_or_default();
        format!("{}@{}", if same { "" } else { id }, of.version_id)
    })
}

/// Figures of two versions on the same rows.
fn comparison_table(comparison: &Value, names: &[String; 2]) -> Table {
    let [first, second] = names;
    let (first, second) = (format!(">{first}"), format!(">{second}"));
    let mut table = Table::new(&["COMPARED", &first, &second, ">DIFFERENCE", "95 % INTERVAL"]);
    for figure in comparison.get("figures").and_then(Value::as_array).into_iter().flatten() {
        let field = figure.get("figure").and_then(Value::as_str).unwrap_or_default();
        let name = FIGURES.iter().find(|(known, _)| *known == field).map_or(field, |(_, name)| name);
        let number = |path: &str| figure.pointer(path).and_then(Value::as_f64).unwrap_or_default();
        table.row([
            name.to_owned(),
            format!("{:.4}", number("/value")),
            format!("{:.4}", number("/against")),
            format!("{:+.4}", number("/difference")),
            format!("{:+.4} to {:+.4}", number("/interval/low"), number("/interval/high")),
        ]);
    }
    table
}

/// Which of the two is better, in a sentence.
fn verdict(comparison: &Value, names: &[String; 2]) -> String {
    let [first, second] = names;
    let better = match comparison.get("verdict").and_then(Value::as_str) {
        Some("better") => first,
        Some("worse") => second,
        _ => {
            let rows = comparison.get("rowCount").and_then(Value::as_f64).unwrap_or_default();
            return format!("no difference can be told from {} rows", thousands(rows as u64));
        }
    };
    let number = |path: &str| comparison.pointer(path).and_then(Value::as_f64).unwrap_or_default();
    // From the better one's side: 95 % of how much better it may be.
    let sign = if better == first { 1.0 } else { -1.0 };
    let difference = sign * number("/figures/0/difference");
    let mut ends =
        [number("/figures/0/interval/low"), number("/figures/0/interval/high")].map(|end| sign * end);
    ends.sort_by(f64::total_cmp);
    let [low, high] = ends;
    if comparison.pointer("/figures/0/figure").and_then(Value::as_str) == Some("accuracy") {
        let [difference, low, high] = [difference, low, high].map(|share| 100.0 * share);
        return format!(
            "{better} is better: accuracy {difference:+.1} points, 95 % interval {low:.1} to {high:.1}"
        );
    }
    format!("{better} is better: RMSE {difference:+.4}, 95 % interval {low:.4} to {high:.4}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(verdict: &str, figure: &str) -> Value {
        json!({"rowCount": 1200, "verdict": verdict, "figures": [{
            "figure": figure, "value": 0.9, "against": 0.887, "difference": 0.013,
            "interval": {"low": 0.004, "high": 0.022},
        }]})
    }

    #[test]
    fn the_verdict_is_the_better_ones() {
        let names = ["@2".to_owned(), "@1".to_owned()];
        let says = |verdict_is, figure| verdict(&compared(verdict_is, figure), &names);
        assert_eq!(
            says("better", "accuracy"),
            "@2 is better: accuracy +1.3 points, 95 % interval 0.4 to 2.2"
        );
        assert_eq!(
            says("worse", "rootMeanSquaredError"),
            "@1 is better: RMSE -0.0130, 95 % interval -0.0220 to -0.0040"
        );
        assert_eq!(says("undecided", "accuracy"), "no difference can be told from 1,200 rows");
        let lines = comparison_table(&compared("better", "accuracy"), &names).lines();
        assert!(lines[1].starts_with("accuracy") && lines[1].ends_with("+0.0040 to +0.0220"), "{lines:?}");
    }

    #[test]
    fn accuracy_follows_from_the_confusion_matrix() {
        let metrics = json!({"confusionMatrix": {
            "annotationSpecs": [{"displayName": "a"}, {"displayName": "b"}],
            "rows": [{"row": [3, 1]}, {"row": [0, 4]}],
        }});
        assert_eq!(figure(&metrics, "accuracy"), Some(0.875));
        let lines = per_class(&metrics).map(|t| t.lines()).unwrap_or_default();
        assert_eq!(lines[1], "a         4   75.0 %    100.0 %  b (1)");
    }
}
