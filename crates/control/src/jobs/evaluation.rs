//! Evaluation: labelled rows in, figures of a version out.
//!
//! The figures are accumulators, one set a thread, merged at the end: whatever way the rows are split,
//! the outcome is the same. An evaluation that a crash interrupts begins again; the rows that it took are written
//! down in the commit that ends it.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use analysis::{Regression, RowError, Slices, as_written};
use formats::Value;
use formats::rows::{RowBlock, RowFault, parse_number};
use serving::Predictions;

use super::comparison::{self, Pairs};
use super::context::Context;
use super::figures::Figures;
use super::job_id;
use super::model::{LoadedModel, Predicted};
use super::pipeline::ordered;
use super::rows::{Chunk, Place, RowReader, Rows, resolve};
use super::runner::Done;
use crate::store::Record;
use crate::{
    Error, Evaluation, EvaluationJob, JobKind, JobState, LabelSets, OperationResult, Result, Slice, Timestamp,
};

/// Values of a column that are told apart; a column with more is no category and gives no slices.
const SLICES_MAX: usize = 100;

/// Reasons of rows left out that the evaluation shows.
const REASONS_MAX: usize = 10;

/// Labels that an error shows.
const LABELS_SHOWN: usize = 20;

/// Rows after which progress is noted.
const PROGRESS_ROWS: u64 = 100_000;

/// Measures rows. Used by several threads at once.
struct Evaluator<'a> {
    model: LoadedModel,
    target: String,
    slice_by: &'a [String],
    sets: Option<&'a LabelSets>,
    /// Columns that a model which takes columns in their order is not shown.
    hidden: &'a [String],
    /// What the classes are called, where the client says.
    labels: &'a [String],
    /// Measures that no thread is using.
    idle: Mutex<Vec<Measure>>,
}

/// What one thread has measured.
#[derive(Default)]
struct Measure {
    /// Known once something has been predicted.
    labels: Vec<String>,
    figures: Option<Figures>,
    slices: Vec<Slices<Figures>>,
}

/// Rows measured and left out of one chunk.
struct Counted {
    rows: u64,
    /// Rows that the model has predicted, be their truth of use or not.
    predicted: u64,
    skipped: u64,
    reasons: Vec<String>,
}

/// Rows measured of one chunk: number and error, ascending.
pub(super) type Errors = Vec<(u64, RowError)>;

/// Does the job.
pub(super) fn run(context: &Context, job: &EvaluationJob) -> Result<Done> {
    let version = context.version(&job.model, job.version)?;
    let model = LoadedModel::load(context, &version)?;
    let target = target(&model, job)?;
    let evaluator = Evaluator {
        model,
        target: target.clone(),
        slice_by: &job.slice_by,
        sets: job.multi_label.as_ref(),
        hidden: &job.slice_by,
        labels: &job.class_labels,
        idle: Mutex::default(),
    };
    let other = match &job.against {
        None => None,
        Some(against) => {
            let version = context.version(&against.model, against.version)?;
            let model = LoadedModel::load(context, &version)?;
            let idle = Mutex::default();
            let (sets, hidden) = (job.multi_label.as_ref(), &job.slice_by[..]);
            let labels = &job.class_labels[..];
            Some(Evaluator { model, target, slice_by: &[], sets, hidden, labels, idle })
        }
    };
    let pairs = Pairs::default();
    let chunk_rows = other.iter().map(|other| other.model.chunk_rows()).min().unwrap_or(usize::MAX);
    let inputs = context.runtime.block_on(resolve(&context.storage(), &job.uris))?;
    let uris: Vec<String> = inputs.iter().map(|input| input.uri.clone()).collect();
    let mut reader = RowReader::new(
        context.storage(),
        context.runtime.clone(),
        inputs.into(),
        job.format,
        Place::default(),
    )
    .by(evaluator.model.chunk_rows().min(chunk_rows))
    .hashing();
    let mut total = Counted { rows: 0, predicted: 0, skipped: 0, reasons: Vec::new() };
    let mut noted = 0;
    ordered(
        context.control.options().jobs.threads,
        || {
            let chunk = reader.next()?;
            chunk.iter().try_for_each(|chunk| context.meters.reserve_rows(chunk.rows.count()))?;
            Ok(chunk)
        },
        |chunk| {
            let (counted, errors) = evaluator.measure(&uris, &chunk)?;
            let mut predicted_by_other = 0;
            if let Some(other) = &other {
                let (counted, others) = other.measure(&uris, &chunk)?;
                pairs.observe(chunk.input, &errors, &others)?;
                predicted_by_other = counted.predicted;
            }
            Ok((chunk.rows.count(), counted, predicted_by_other))
        },
        |(reserved, counted, predicted_by_other)| {
            context.check()?;
            context.meters.own.count_rows(reserved, counted.predicted);
            if let Some(against) = &context.meters.against {
                against.count_rows(reserved, predicted_by_other);
            }
            total.add(counted);
            if total.rows >= noted + PROGRESS_ROWS {
                noted = total.rows;
                note(context, noted)?;
            }
            Ok(())
        },
    )?;
    let digest = reader.digest().map(|digest| digest.to_string());
    let mut metadata = serde_json::json!({
        "evaluationJob": context.job.name,
        "uris": job.uris,
        "targetField": evaluator.target,
        "rows": total.rows,
        "skippedRows": total.skipped,
        "skippedReasons": total.reasons,
        "datasetDigest": digest,
    });
    if let Some(against) = &job.against {
        metadata["comparison"] = comparison::json(against, pairs)?;
    }
    let Some(mut measure) = evaluator.merged()?.filter(|_| total.rows > 0) else {
        return Err(nothing_measured(&total));
    };
    let evaluation = measure.evaluation(context, job, metadata)?;
    done(job, evaluation, total.rows)
}

fn done(job: &EvaluationJob, mut evaluation: Evaluation, rows: u64) -> Result<Done> {
    let kind =
        JobKind::Evaluation(EvaluationJob { rows, result: Some(evaluation.name.clone()), ..job.clone() });
    let writes = vec![evaluation.insert()?];
    let result = Some(OperationResult::Evaluation(evaluation));
    Ok(Done { writes, result, ..Done::new(JobState::Succeeded, kind) })
}

fn nothing_measured(total: &Counted) -> Error {
    match total.reasons.first() {
        None => Error::invalid("the inputs hold no rows"),
        Some(reason) => Error::invalid(format!(
            "none of the {} rows could be measured; the first: {reason}",
            total.skipped
        )),
    }
}

/// The column with the truth.
fn target(model: &LoadedModel, job: &EvaluationJob) -> Result<String> {
    let target = job.target.clone().filter(|target| !target.is_empty());
    target.or_else(|| model.label().map(str::to_owned)).ok_or_else(|| {
        Error::invalid(
            "the model was not trained here, so the evaluation must name the column with the truth",
        )
    })
}

fn note(context: &Context, rows: u64) -> Result<()> {
    context.update(false, |kind| {
        if let JobKind::Evaluation(job) = kind {
            job.rows = rows;
        }
    })
}

impl Counted {
    fn add(&mut self, other: Counted) {
        self.rows += other.rows;
        self.predicted += other.predicted;
        self.skipped += other.skipped;
        let room = REASONS_MAX.saturating_sub(self.reasons.len());
        self.reasons.extend(other.reasons.into_iter().take(room));
    }
}

impl Evaluator<'_> {
    fn measure(&self, uris: &[String], chunk: &Chunk) -> Result<(Counted, Errors)> {
        let uri = uris.get(chunk.input).map_or("", String::as_str);
        let mut measure = self.idle().pop().unwrap_or_default();
        let mut faults = chunk.faults.clone();
        let (predicted, errors) = match &chunk.rows {
            Rows::Table(block) => {
                let Some(target) = block.column(&self.target) else {
                    return Err(self.no_target(uri, block.names()));
                };
                let slices: Vec<_> = self.slice_by.iter().map(|name| block.column(name)).collect();
                if let Some(missing) =
                    self.slice_by.iter().zip(&slices).find_map(|(name, at)| at.is_none().then_some(name))
                {
                    return Err(Error::invalid(format!("{uri} has no column `{missing}` to slice by")));
                }
                let Predicted { rows, predictions, faults: failed } = self.predict(uri, block)?;
                faults.extend(failed);
                let seen = rows.iter().map(|row| Seen {
                    number: block.row_number(*row),
                    truth: self.split(block.cell(*row, target)),
                    slices: slices
                        .iter()
                        .map(|column| block.cell(*row, column.unwrap_or(usize::MAX)).to_owned())
                        .collect(),
                });
                (rows.len() as u64, measure.observe(self, &predictions, seen, &mut faults)?)
            }
            Rows::Values(values) => self.measure_values(uri, values, &mut measure, &mut faults)?,
        };
        self.idle().push(measure);
        faults.sort_by_key(|fault| fault.row);
        let reasons = faults.iter().take(REASONS_MAX).map(|f| format!("{uri} row {}: {}", f.row, f.reason));
        let rows = errors.len() as u64;
        let skipped = faults.len() as u64;
        Ok((Counted { rows, predicted, skipped, reasons: reasons.collect() }, errors))
    }

    /// Predicts a block. A model that takes columns in their order is shown neither the truth nor the hidden
    /// ones.
    fn predict(&self, uri: &str, block: &RowBlock) -> Result<Predicted> {
        if self.model.takes_columns_by_name() {
            return self.model.predict_table(uri, block);
        }
        let hidden = |name: &String| *name == self.target || self.hidden.contains(name);
        let shown: Vec<usize> =
            (0..block.columns()).filter(|column| !hidden(&block.names()[*column])).collect();
        let names = shown.iter().map(|column| block.names()[*column].clone()).collect();
        let rows: Vec<Vec<&str>> = (0..block.rows())
            .map(|row| shown.iter().map(|column| block.cell(row, *column)).collect())
            .collect();
        let inputs = RowBlock::new(names, 0, &rows).map_err(|fault| Error::invalid(fault.reason))?;
        let mut predicted = self.model.predict_table(uri, &inputs)?;
        for fault in &mut predicted.faults {
            fault.row = block.row_number(usize::try_from(fault.row).unwrap_or(usize::MAX));
        }
        Ok(predicted)
    }

    fn measure_values(
        &self,
        uri: &str,
        values: &[(u64, Value)],
        measure: &mut Measure,
        faults: &mut Vec<RowFault>,
    ) -> Result<(u64, Errors)> {
        let (mut instances, mut seen) = (Vec::new(), Vec::new());
        for (number, value) in values {
            let Some(truth) = value.get(&self.target).and_then(|value| self.truth(value)) else {
                let what = if self.sets.is_some() { "no list of labels" } else { "no single value" };
                let reason = format!("the field `{}` is missing or {what}", self.target);
                faults.push(RowFault { row: *number, reason });
                continue;
            };
            let slices = self.slice_by.iter().map(|name| value.get(name).and_then(text).unwrap_or_default());
            seen.push(Seen { number: *number, truth, slices: slices.collect() });
            let other = |name: &str| self.slice_by.iter().any(|own| own == name) && !self.model.takes(name);
            instances.push(without(value, &self.target, other));
        }
        let numbers: Vec<u64> = seen.iter().map(|seen| seen.number).collect();
        let (runs, failed) = self.model.predict_values(uri, &instances, &numbers)?;
        faults.extend(failed);
        let (mut predicted, mut errors) = (0, Vec::new());
        for (start, predictions) in runs {
            predicted += predictions.len() as u64;
            let run = seen.get(start..start + predictions.len()).unwrap_or_default();
            errors.extend(measure.observe(self, &predictions, run.iter().cloned(), faults)?);
        }
        Ok((predicted, errors))
    }

    /// The labels, or the one value, in a cell.
    fn split(&self, cell: &str) -> Vec<String> {
        match self.sets {
            None => vec![cell.to_owned()],
            Some(sets) => {
                let labels = cell.split(sets.separator.as_str()).map(str::trim);
                labels.filter(|label| !label.is_empty()).map(str::to_owned).collect()
            }
        }
    }

    /// The same of a field: a list where there may be several labels, or what a cell would hold.
    fn truth(&self, value: &Value) -> Option<Vec<String>> {
        match (value, self.sets) {
            (Value::List(labels), Some(_)) => labels.iter().map(text).collect(),
            (Value::Numbers(labels), Some(_)) => {
                labels.iter().map(|label| text(&Value::Number(*label))).collect()
            }
            (value, _) => text(value).map(|text| self.split(&text)),
        }
    }

    fn no_target(&self, uri: &str, names: &[String]) -> Error {
        let first: Vec<&str> = names.iter().take(20).map(String::as_str).collect();
        Error::invalid(format!(
            "{uri} has no column `{}` with the truth; it has {}",
            self.target,
            first.join(", ")
        ))
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Measure>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What all threads have measured together.
    fn merged(&self) -> Result<Option<Measure>> {
        let mut measures = std::mem::take(&mut *self.idle()).into_iter().filter(|m| m.figures.is_some());
        let Some(mut all) = measures.next() else { return Ok(None) };
        measures.try_for_each(|measure| all.merge(measure))?;
        Ok(Some(all))
    }
}

/// What is known of a row beside its prediction.
#[derive(Clone)]
struct Seen {
    number: u64,
    /// One value, or the labels where there may be any number.
    truth: Vec<String>,
    slices: Vec<String>,
}

impl Measure {
    /// Counts rows with their predictions; gives their errors. Rows whose truth cannot be used are faults.
    fn observe(
        &mut self,
        evaluator: &Evaluator<'_>,
        predictions: &Predictions,
        seen: impl Iterator<Item = Seen>,
        faults: &mut Vec<RowFault>,
    ) -> Result<Errors> {
        if predictions.is_empty() {
            return Ok(Vec::new());
        }
        self.begin(evaluator, predictions)?;
        let places: HashMap<&str, usize> =
            self.labels.iter().enumerate().map(|(place, label)| (label.as_str(), place)).collect();
        let mut errors = Vec::new();
        for (i, seen) in seen.enumerate() {
            let figures = self.figures.iter_mut();
            let slices =
                self.slices.iter_mut().zip(&seen.slices).filter_map(|(slices, value)| slices.of(value));
            match observe_row(figures.chain(slices), predictions, i, &seen.truth, &places) {
                Ok(error) => errors.extend(error.map(|error| (seen.number, error))),
                Err(reason) => faults.push(RowFault { row: seen.number, reason }),
            }
        }
        Ok(errors)
    }

    /// Decides, from the first predictions, what is measured.
    fn begin(&mut self, evaluator: &Evaluator<'_>, predictions: &Predictions) -> Result<()> {
        if self.figures.is_some() {
            return Ok(());
        }
        let given = evaluator.labels;
        let figures = match (predictions.scores(0), predictions.value(0)) {
            (Some(scores), _) if let Some(sets) = evaluator.sets => {
                self.labels = sets.of(predictions.labels(), scores.len())?;
                Figures::labels(self.labels.len(), sets.threshold, analysis::Options::default())?
            }
            (None, Some(_)) if !given.is_empty() => {
                return Err(Error::invalid("the model answers a number, and class labels are given for it"));
            }
            (None, Some(_)) => Figures::Value(Regression::new()),
            (Some(scores), _) => {
                self.labels = labels(predictions.labels(), given, scores.len())?;
                Figures::classes(self.labels.len(), analysis::Options::default())?
            }
            (None, None) => {
                return Err(Error::invalid(
                    "the model answers neither one number nor one score a class, so it cannot be measured",
                ));
            }
        };
        for column in evaluator.slice_by {
            self.slices.push(Slices::new(column, SLICES_MAX, figures.for_slice(self.labels.len())?));
        }
        self.figures = Some(figures);
        Ok(())
    }

    fn merge(&mut self, other: Measure) -> Result<()> {
        if let (Some(ours), Some(theirs)) = (&mut self.figures, other.figures) {
            ours.merge(theirs)?;
        }
        for (ours, theirs) in self.slices.iter_mut().zip(other.slices) {
            ours.merge(theirs, Figures::merge)?;
        }
        Ok(())
    }

    fn evaluation(
        &mut self,
        context: &Context,
        job: &EvaluationJob,
        metadata: serde_json::Value,
    ) -> Result<Evaluation> {
        let Some(figures) = &mut self.figures else { return Err(Error::invalid("the inputs hold no rows")) };
        let now = Timestamp::now();
        let schema = figures.schema();
        let (metrics, classes) = figures.json(&self.labels);
        let mut parts: Vec<(String, String, serde_json::Value)> = classes
            .into_iter()
            .map(|(class, metrics)| ("annotationSpec".to_owned(), class, metrics))
            .collect();
        for slices in &mut self.slices {
            let column = slices.column().to_owned();
            let Some(values) = slices.values() else { continue };
            for (value, figures) in values {
                if figures.rows() > 0 {
                    parts.push((column.clone(), value.to_owned(), figures.json(&self.labels).0));
                }
            }
        }
        let slices = parts.into_iter().enumerate().map(|(i, (column, value, metrics))| Slice {
            id: (i + 1).to_string(),
            column,
            value,
            metrics,
            create_time: now,
        });
        Ok(Evaluation {
            name: format!("{}/evaluations/{}", job.model, job_id(&context.job.name)),
            display_name: context.job.display_name.clone(),
            version: job.version,
            metrics_schema_uri: schema.to_owned(),
            metrics,
            slices: slices.collect(),
            metadata,
            create_time: now,
            etag: String::new(),
        })
    }
}

/// What the classes of a model are called: as it says itself, and the client must agree; else as `given`, or by their
/// numbers.
fn labels(own: Option<&[String]>, given: &[String], classes: usize) -> Result<Vec<String>> {
    let list = |labels: &[String]| labels.iter().take(LABELS_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match own {
        Some(own) => {
            let known: HashSet<&String> = own.iter().collect();
            if given.is_empty() || given.len() == own.len() && given.iter().all(|label| known.contains(label))
            {
                return Ok(own.to_vec());
            }
            let message =
                format!("the class labels given are {}; the model's are {}", list(given), list(own));
            Err(Error::invalid(message))
        }
        None if given.is_empty() => Ok((0..classes).map(|class| class.to_string()).collect()),
        None if given.len() == classes => Ok(given.to_vec()),
        None => {
            let message =
                format!("{} class labels are given, and the model has {classes} classes", given.len());
            Err(Error::invalid(message))
        }
    }
}

/// Counts one row in all `figures`, and gives its error, or says why its truth cannot be used.
fn observe_row<'a>(
    figures: impl Iterator<Item = &'a mut Figures>,
    predictions: &Predictions,
    row: usize,
    truth: &[String],
    places: &HashMap<&str, usize>,
) -> std::result::Result<Option<RowError>, String> {
    let place = |truth: &String| {
        let place = places.get(truth.as_str()).copied();
        place.ok_or_else(|| format!("`{}` is none of the model's classes", short(truth)))
    };
    let single = || truth.first().ok_or_else(|| "the truth is missing".to_owned());
    let mut error = None;
    for figures in figures {
        error = Some(match figures {
            Figures::Classes(classes) => {
                let place = place(single()?)?;
                let scores = predictions.scores(row).unwrap_or_default();
                classes.observe(place, scores).map_err(|e| e.to_string())?;
                RowError::of_scores(place, scores).map_err(|e| e.to_string())?
            }
            Figures::Labels(labels, threshold) => {
                let mut right = vec![false; places.len()];
                for label in truth {
                    right[place(label)?] = true;
                }
                let scores = predictions.scores(row).unwrap_or_default();
                labels.observe(&right, scores).map_err(|e| e.to_string())?;
                RowError::of_labels(&right, scores, *threshold).map_err(|e| e.to_string())?
            }
            Figures::Value(values) => {
                let truth = parse_number(single()?).map_err(|e| format!("the truth: {e}"))?;
                let value = as_written(predictions.value(row).unwrap_or(f32::NAN));
                values.observe(truth, value).map_err(|e| e.to_string())?;
                RowError::of_value(truth, value).map_err(|e| e.to_string())?
            }
        });
    }
    Ok(error)
}

impl LabelSets {
    /// What the scores are of: as the job says, or the model, or numbers.
    fn of(&self, known: Option<&[String]>, scores: usize) -> Result<Vec<String>> {
        match (self.labels.as_slice(), known) {
            ([], Some(known)) => Ok(known.to_vec()),
            ([], None) => Ok((0..scores).map(|label| label.to_string()).collect()),
            (labels, _) if labels.len() == scores => Ok(labels.to_vec()),
            (labels, _) => {
                let labels = labels.len();
                Err(Error::invalid(format!(
                    "multiLabel.labels names {labels} labels; the model gives {scores} scores"
                )))
            }
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

/// A single value as the text that a CSV would hold.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => serde_json::to_string(value).ok(),
        _ => None,
    }
}

/// The instance that remains of a record without the truth, and without what only tells its slices. An instance that was
/// wrapped to carry a truth beside it, `{"instance": …, "label": …}`, is unwrapped.
fn without(value: &Value, target: &str, other: impl Fn(&str) -> bool) -> Value {
    match value {
        Value::Record(fields) => {
            let stays = |(name, _): &&(String, Value)| name != target && !other(name);
            let mut rest: Vec<_> = fields.iter().filter(stays).cloned().collect();
            match rest.as_mut_slice() {
                [(name, instance)] if name == "instance" => std::mem::replace(instance, Value::Null),
                _ => Value::Record(rest),
            }
        }
        other => other.clone(),
    }
}
