//! `meuse evaluate`

use clap::Args;
use serde_json::{Value, json};

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
    /// Labelled rows: a CSV file on this machine, or a URI (gs://…)
    #[arg(long, required = true, value_name = "CSV")]
    pub data: Vec<String>,
    /// Column with the truth [default: the one that the model was trained on]
    #[arg(long, value_name = "COL")]
    pub target: Option<String>,
    /// Measure also each part of the rows with one value in this column
    #[arg(long, value_name = "COL")]
    pub slice_by: Vec<String>,
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
        let mut uris = Vec::new();
        for data in &self.data {
            uris.push(client.reachable(data).await?);
        }
        let bar = RowBar::new(output, "measuring");
        let made = evaluate(&client, &model, &uris, self.target.as_deref(), &self.slice_by).await;
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
        if let Some(table) = per_class(&metrics) {
            output.line("");
            output.table(&table);
        }
        if !slices.is_empty() {
            output.line("");
            output.table(&slice_table(&slices));
        }
        Ok(())
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

/// Measures `model` on the rows at `uris`; the evaluation, read again by its name.
///
/// # Errors
/// If the rows do not fit the model, or the server refuses.
pub(crate) async fn evaluate(
    client: &Client,
    model: &Model,
    uris: &[String],
    target: Option<&str>,
    slice_by: &[String],
) -> Result<Value> {
    let mut body = json!({"gcsSource": {"uris": uris}, "sliceBy": slice_by});
    if let Some(target) = target {
        body["targetColumn"] = json!(target);
    }
    let made = client.operate(&format!("/v1/{}:evaluate", model.versioned()), &body).await?;
    let name = made
        .get("name")
        .and_then(Value::as_str)
        .ok_or_else(|| Failure::new("the server made an evaluation without a name"))?;
    Ok(client.get(&format!("/v1/{name}")).await?)
}

/// Figures to show, by their field, in this order.
const FIGURES: [(&str, &str); 8] = [
    ("accuracy", "accuracy"),
    ("logLoss", "log loss"),
    ("auRoc", "ROC-AUC"),
    ("auPrc", "PR-AUC"),
    ("rootMeanSquaredError", "RMSE"),
    ("meanAbsoluteError", "MAE"),
    ("meanAbsolutePercentageError", "MAPE"),
    ("rSquared", "R²"),
];

fn summary(metrics: &Value) -> Table {
    let mut table = Table::new(&["FIGURE", ">VALUE"]);
    for (field, name) in FIGURES {
        if let Some(value) = figure(metrics, field) {
            table.row([name.to_owned(), format!("{value:.4}")]);
        }
    }
    table
}

/// The number `field` of `metrics`; accuracy also from the confusion matrix.
pub(crate) fn figure(metrics: &Value, field: &str) -> Option<f64> {
    let plain = metrics.get(field).and_then(Value::as_f64);
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

fn slice_table(slices: &[Value]) -> Table {
    let mut table = Table::new(&["SLICE", ">ROWS", ">ACCURACY", ">LOG LOSS", ">RMSE"]);
    for slice in slices {
        let text = |path: &str| slice.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let metrics = slice.get("metrics").cloned().unwrap_or_default();
        let number = |field| figure(&metrics, field).map(|v| format!("{v:.4}")).unwrap_or_default();
        let rows = confusion(&metrics).map(|(_, counts)| counts.iter().flatten().sum::<f64>());
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

#[cfg(test)]
mod tests {
    use super::*;

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
