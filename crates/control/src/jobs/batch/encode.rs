//! [`Encoder`]: decoded rows to predictions, and those to the bytes of the output.
//!
//! JSONL has one object a row, `{"instance": …, "prediction": …}`, with `"explanation"` when asked for.
//! CSV has the columns of the input and then, by kind of model, with `label` the training label column:
//!
//! | model | columns |
//! |---|---|
//! | classifier | `predicted_label`, then `label_{class}_score` for each class |
//! | regression | `predicted_label` |
//! | any other, one row of numbers | `prediction_0`, `prediction_1`, … |
//! | any other | `prediction`, as JSON |
//!
//! A column that the input has already gets a `_` at its end. Of JSONL input, the instance is one column,
//! `instance`, as JSON. Where rows have keys, `key` stands in place of the instance or its columns.

use std::borrow::Cow;
use std::collections::HashSet;

use formats::Value;
use formats::rows::{CsvEncoder, RowBlock, RowFault, write_json_line};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serving::Predictions;

use super::explain::Explainer;
use super::select::Selector;
use crate::jobs::context::Context;
use crate::jobs::model::{LoadedModel, Predicted};
use crate::jobs::rows::{Chunk, Place, Rows};
use crate::{BatchJob, Error, InputFormat, Result, RowFormat, Version};

/// Reasons kept of one chunk, for the job's own page.
const REASONS_MAX: usize = 10;

/// What has become of one chunk.
pub(super) struct Encoded {
    /// First line of a part with these rows; empty for JSONL.
    pub(super) header: String,
    /// Predicted rows.
    pub(super) rows: Vec<u8>,
    /// Failed rows: one JSON object a line, with the input's address, the row's number and the reason.
    pub(super) faults: Vec<u8>,
    pub(super) successful: u64,
    pub(super) failed: u64,
    pub(super) reasons: Vec<String>,
    /// Where the input goes on.
    pub(super) after: Place,
}

/// Turns chunks into output. Used by several threads at once.
pub(super) struct Encoder {
    pub(super) model: LoadedModel,
    selector: Selector,
    format: RowFormat,
    /// Where explanations were asked for.
    explainer: Option<Explainer>,
}

/// One failed row.
#[derive(Serialize)]
pub(super) struct FaultLine<'a> {
    pub(super) uri: &'a str,
    pub(super) row: u64,
    pub(super) reason: &'a str,
}

/// The name of a row's key in the output.
const KEY: &str = "key";

/// What stands for a row in the output.
#[derive(Clone)]
enum Row<T> {
    Instance(T),
    Key(T),
}

/// One predicted row.
#[derive(Serialize)]
struct Line<'a, I, P> {
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<I>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<I>,
    prediction: P,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<&'a serde_json::Value>,
}

impl Encoder {
    /// An encoder for `job`, with its model loaded.
    pub(super) fn new(context: &Context, version: &Version, job: &BatchJob) -> Result<Self> {
        let model = LoadedModel::load(context, version)?;
        let explainer = job.explain.then(|| Explainer::new(version)).transpose()?;
        let selector = Selector::new(&job.fields);
        if job.instances_format != InputFormat::Jsonl && !model.takes_table_as(job.fields.kind) {
            return Err(Error::invalid(
                "instanceType is not how the model takes the columns of a table; leave it out",
            ));
        }
        Ok(Encoder { model, selector, format: job.predictions_format, explainer })
    }

    /// Predicts the rows of `chunk` and writes them, and those that failed.
    pub(super) fn encode(&self, uris: &[String], chunk: Chunk) -> Result<Encoded> {
        let uri = uris.get(chunk.input).map_or("", String::as_str);
        let mut faults = chunk.faults;
        let mut encoded = Encoded {
            header: String::new(),
            rows: Vec::new(),
            faults: Vec::new(),
            successful: 0,
            failed: 0,
            reasons: Vec::new(),
            after: Place { input: chunk.input, position: chunk.after, names: None },
        };
        match chunk.rows {
            Rows::Table(block) => {
                encoded.after.names = Some(block.names().to_vec());
                self.table(uri, &block, &mut encoded, &mut faults)?;
            }
            Rows::Values(values) => self.values(uri, &values, &mut encoded, &mut faults)?,
        }
        faults.sort_by_key(|fault| fault.row);
        encoded.fail(uri, &faults)?;
        Ok(encoded)
    }

    fn table(
        &self,
        uri: &str,
        block: &RowBlock,
        encoded: &mut Encoded,
        faults: &mut Vec<RowFault>,
    ) -> Result<()> {
        let (seen, key) = self.selector.table(uri, block)?;
        let Predicted { rows, predictions, faults: failed } = self.model.predict_table(uri, &seen)?;
        faults.extend(failed);
        encoded.successful += rows.len() as u64;
        if rows.is_empty() {
            return Ok(());
        }
        match self.format {
            RowFormat::Jsonl => {
                let explanations = self.explanations(uri, || self.model.table_values(&seen, &rows))?;
                for (i, row) in rows.iter().enumerate() {
                    let (row, prediction) = (*row, predictions.row(i));
                    match key {
                        Some(key) => {
                            let key = cell_value(block.cell(row, key));
                            encoded.line(Row::Key(key), prediction, explanations.get(i))?;
                        }
                        None => {
                            let instance = TableRow { block, row };
                            encoded.line(Row::Instance(instance), prediction, explanations.get(i))?;
                        }
                    }
                }
            }
            RowFormat::Csv => {
                let key_alone = [KEY.to_owned()];
                let names = if key.is_some() { &key_alone[..] } else { block.names() };
                let columns = PredictionColumns::of(&self.model, &predictions, names);
                encoded.header = columns.header(names);
                let mut out = CsvEncoder::new();
                for (i, row) in rows.iter().enumerate() {
                    match key {
                        Some(key) => out.text(block.cell(*row, key)),
                        None => (0..block.columns()).for_each(|column| out.text(block.cell(*row, column))),
                    }
                    columns.write(&mut out, &predictions, i)?;
                    out.end_row();
                }
                encoded.rows = out.take();
            }
        }
        Ok(())
    }

    fn values(
        &self,
        uri: &str,
        values: &[(u64, Value)],
        encoded: &mut Encoded,
        faults: &mut Vec<RowFault>,
    ) -> Result<()> {
        let (mut instances, mut numbers, mut written) = (Vec::new(), Vec::new(), Vec::new());
        for (row, value) in values {
            match self.selector.value(value) {
                Ok((instance, key)) => {
                    instances.push(instance);
                    numbers.push(*row);
                    written.push(
                        key.map_or(Row::Instance(Cow::Borrowed(value)), |key| Row::Key(Cow::Owned(key))),
                    );
                }
                Err(reason) => faults.push(RowFault { row: *row, reason }),
            }
        }
        let names = [if self.selector.has_key() { KEY } else { "instance" }.to_owned()];
        let mut out = CsvEncoder::new();
        let (runs, failed) = self.model.predict_values(uri, &instances, &numbers)?;
        faults.extend(failed);
        for (start, predictions) in runs {
            let places = start..start + predictions.len();
            let run = instances.get(places.clone()).unwrap_or_default();
            let written = written.get(places).unwrap_or_default();
            encoded.successful += run.len() as u64;
            match self.format {
                RowFormat::Jsonl => {
                    let explanations = self.explanations(uri, || run.to_vec())?;
                    for (i, row) in written.iter().enumerate() {
                        encoded.line(row.clone(), predictions.row(i), explanations.get(i))?;
                    }
                }
                RowFormat::Csv => {
                    let columns = PredictionColumns::of(&self.model, &predictions, &names);
                    encoded.header = columns.header(&names);
                    for (i, row) in written.iter().enumerate() {
                        match row {
                            Row::Key(key) if let Value::Text(text) = &**key => out.text(text),
                            Row::Key(value) | Row::Instance(value) => out.text(&json(value)?),
                        }
                        columns.write(&mut out, &predictions, i)?;
                        out.end_row();
                    }
                }
            }
        }
        if self.format == RowFormat::Csv {
            encoded.rows = out.take();
        }
        Ok(())
    }

    /// One explanation a row where they were asked for, else none.
    fn explanations(
        &self,
        uri: &str,
        instances: impl FnOnce() -> Vec<Value>,
    ) -> Result<Vec<serde_json::Value>> {
        match &self.explainer {
            None => Ok(Vec::new()),
            Some(explainer) => explainer.explain(&self.model, uri, &instances()),
        }
    }
}

impl Encoded {
    fn line(
        &mut self,
        row: Row<impl Serialize>,
        prediction: impl Serialize,
        explanation: Option<&serde_json::Value>,
    ) -> Result<()> {
        let (instance, key) = match row {
            Row::Instance(instance) => (Some(instance), None),
            Row::Key(key) => (None, Some(key)),
        };
        let line = Line { instance, key, prediction, explanation };
        write_json_line(&mut self.rows, &line).map_err(|e| Error::internal("writing a prediction", e))
    }

    fn fail(&mut self, uri: &str, faults: &[RowFault]) -> Result<()> {
        self.failed = faults.len() as u64;
        for fault in faults {
            let line = FaultLine { uri, row: fault.row, reason: &fault.reason };
            write_json_line(&mut self.faults, &line)
                .map_err(|e| Error::internal("writing a failed row", e))?;
        }
        let shown = |fault: &RowFault| format!("{uri} row {}: {}", fault.row, fault.reason);
        self.reasons = faults.iter().take(REASONS_MAX).map(shown).collect();
        Ok(())
    }
}

/// The columns that predictions add to a CSV.
enum PredictionColumns {
    /// The label, then a score for each class.
    Classes(Vec<String>),
    /// One number.
    Value(String),
    /// A row of numbers of unchanging length.
    Numbers(Vec<String>),
    /// Anything else, as JSON.
    Json(String),
}

impl PredictionColumns {
    fn of(model: &LoadedModel, predictions: &Predictions, input: &[String]) -> Self {
        let taken: HashSet<&str> = input.iter().map(String::as_str).collect();
        let free = |mut name: String| {
            while taken.contains(name.as_str()) {
                name.push('_');
            }
            name
        };
        let label = model.label().unwrap_or("class");
        match (predictions.labels(), predictions.scores(0), predictions.value(0)) {
            (Some(labels), Some(_), _) => {
                let scores = labels.iter().map(|class| free(format!("{label}_{class}_score")));
                Self::Classes(std::iter::once(free(format!("predicted_{label}"))).chain(scores).collect())
            }
            (_, _, Some(_)) => Self::Value(free(
                model.label().map_or("prediction".to_owned(), |label| format!("predicted_{label}")),
            )),
            (None, Some(scores), _) if predictions.outputs().count() == 1 => {
                Self::Numbers((0..scores.len()).map(|i| free(format!("prediction_{i}"))).collect())
            }
            _ => Self::Json(free("prediction".to_owned())),
        }
    }

    fn header(&self, input: &[String]) -> String {
        let mut out = CsvEncoder::new();
        let added = match self {
            Self::Classes(names) | Self::Numbers(names) => names.as_slice(),
            Self::Value(name) | Self::Json(name) => std::slice::from_ref(name),
        };
        out.text_row(input.iter().chain(added));
        String::from_utf8_lossy(out.as_bytes()).into_owned()
    }

    fn write(&self, out: &mut CsvEncoder, predictions: &Predictions, i: usize) -> Result<()> {
        let scores = predictions.scores(i).unwrap_or_default();
        match self {
            Self::Classes(_) => {
                out.text(predictions.label(i).map_or("", |(_, label)| label));
                scores.iter().for_each(|score| out.float32(*score));
            }
            Self::Numbers(_) => scores.iter().for_each(|score| out.float32(*score)),
            Self::Value(_) => out.float32(predictions.value(i).unwrap_or(f32::NAN)),
            Self::Json(_) => out.text(&json(&predictions.row(i))?),
        }
        Ok(())
    }
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::internal("writing a prediction", e))
}

/// A row of a table as an instance: an object by column, with numbers as numbers.
struct TableRow<'a> {
    block: &'a RowBlock,
    row: usize,
}

impl Serialize for TableRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.block.columns()))?;
        for (column, name) in self.block.names().iter().enumerate() {
            map.serialize_entry(name, &cell_value(self.block.cell(self.row, column)))?;
        }
        map.end()
    }
}

/// A cell as JSON has it.
fn cell_value(cell: &str) -> Value {
    json_number(cell).map_or_else(|| Value::Text(cell.to_owned()), Value::Number)
}

/// The number that `cell` is in JSON, if it is one. `007` and `1_000` stay texts, as do integers that an
/// `f64` does not carry exactly.
fn json_number(cell: &str) -> Option<f64> {
    let digits = cell.strip_prefix('-').unwrap_or(cell);
    let leading_zero = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    if !digits.starts_with(|c: char| c.is_ascii_digit()) || leading_zero || digits.ends_with('.') {
        return None;
    }
    let number: f64 = cell.parse().ok().filter(|n: &f64| n.is_finite())?;
    // The next integer after 2^53 is read as 2^53.
    (number.abs() < 9_007_199_254_740_992.0 || cell.contains(['.', 'e', 'E'])).then_some(number)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn cells_are_numbers_only_where_json_agrees() {
        for (cell, number) in [
            ("1", Some(1.0)),
            ("-0.5", Some(-0.5)),
            ("0", Some(0.0)),
            ("1e3", Some(1000.0)),
            ("9007199254740993", None),
            ("007", None),
            ("", None),
            (" 1", None),
            ("+1", None),
            (".5", None),
            ("1.", None),
            ("NaN", None),
            ("inf", None),
            ("1e999", None),
            ("1_000", None),
        ] {
            assert_eq!(json_number(cell), number, "{cell:?}");
        }
    }
}
