//! [`Target`]: what each row should give, read from the label column.

use std::collections::BTreeMap;

use formats::manifest::Task;
use formats::rows::{RowFault, parse_number};
use formats::spec::{Activation, Layer, Loss, TaskKind, TrainSpec};

use crate::TrainError;
use crate::dataset::{Dataset, RowRef};
use crate::head::last_activation;

/// The answers of the usable rows.
#[derive(Debug)]
pub(crate) enum Target {
    /// Class numbers and the labels they count.
    Classes { labels: Vec<String>, of: Vec<u32> },
    /// Numbers.
    Numbers(Vec<f32>),
}

/// More different whole numbers than this in a label column are taken for quantities.
const NUMBER_LABELS_MAX: usize = 50;
/// The most classes.
const LABELS_MAX: usize = 65_536;

impl Target {
    /// Reads the label of every row in `rows`, and takes out those without a usable one.
    pub(crate) fn read(
        spec: &TrainSpec,
        dataset: &Dataset,
        rows: &mut Vec<RowRef>,
        faults: &mut Vec<RowFault>,
    ) -> Result<Self, TrainError> {
        let column = dataset.column(&spec.label)?;
        let seen = seen(dataset, rows, column);
        match task(spec, &seen) {
            TaskKind::Regression => Ok(Self::numbers(dataset, rows, column, &spec.label, faults)),
            TaskKind::Classification => {
                let labels = labels(spec, seen)?;
                Self::classes(dataset, rows, column, labels, &spec.label, faults)
            }
        }
    }

    /// What the network answers.
    pub(crate) fn task(&self) -> Task {
        match self {
            Target::Classes { labels, .. } => Task::Classification { labels: labels.clone() },
            Target::Numbers(_) => Task::Regression {},
        }
    }

    fn numbers(
        dataset: &Dataset,
        rows: &mut Vec<RowRef>,
        column: usize,
        name: &str,
        faults: &mut Vec<RowFault>,
    ) -> Self {
        let mut numbers = Vec::with_capacity(rows.len());
        rows.retain(|at| match parse_number(dataset.cell(*at, column)) {
            Ok(number) => {
                numbers.push(number as f32);
                true
            }
            Err(error) => {
                faults.push(dataset.fault(*at, format!("column `{name}`: {error}")));
                false
            }
        });
        Target::Numbers(numbers)
    }

    fn classes(
        dataset: &Dataset,
        rows: &mut Vec<RowRef>,
        column: usize,
        labels: Vec<String>,
        name: &str,
        faults: &mut Vec<RowFault>,
    ) -> Result<Self, TrainError> {
        let index: BTreeMap<&str, u32> = labels.iter().map(String::as_str).zip(0..).collect();
        let mut of = Vec::with_capacity(rows.len());
        rows.retain(|at| {
            let label = dataset.cell(*at, column).trim();
            match index.get(label) {
                Some(class) => of.push(*class),
                None if label.is_empty() => {
                    faults.push(dataset.fault(*at, format!("column `{name}`: the label is empty")));
                    return false;
                }
                None => {
                    let shown: String = label.chars().take(40).collect();
                    faults.push(
                        dataset.fault(*at, format!("column `{name}`: `{shown}` is not one of the labels")),
                    );
                    return false;
                }
            }
            true
        });
        let mut counts = vec![0u64; labels.len()];
        of.iter().for_each(|class| counts[*class as usize] += 1);
        if !of.is_empty()
            && let Some(i) = counts.iter().position(|n| *n == 0)
        {
            return Err(TrainError::Labels {
                column: name.to_owned(),
                message: format!("no usable row has the label `{}`", labels[i]),
            });
        }
        Ok(Target::Classes { labels, of })
    }
}

/// Different labels with a row of each; stops at the most that there may be.
fn seen(dataset: &Dataset, rows: &[RowRef], column: usize) -> BTreeMap<String, RowRef> {
    let mut seen = BTreeMap::new();
    for at in rows {
        let label = dataset.cell(*at, column).trim();
        if !label.is_empty() && !seen.contains_key(label) {
            seen.insert(label.to_owned(), *at);
            if seen.len() > LABELS_MAX {
                break;
            }
        }
    }
    seen
}

/// What was asked for, else what loss and last layer say, else what the labels look like.
fn task(spec: &TrainSpec, seen: &BTreeMap<String, RowRef>) -> TaskKind {
    if let Some(task) = spec.task {
        return task;
    }
    match spec.loss {
        Some(Loss::MeanSquaredError) => return TaskKind::Regression,
        Some(_) => return TaskKind::Classification,
        None => {}
    }
    let ends = matches!(last_activation(&spec.layers), Some(Activation::Softmax | Activation::Sigmoid));
    let wide = matches!(spec.layers.last(), Some(Layer::Dense { units: Some(n), .. }) if *n > 1);
    if spec.labels.is_some() || ends || wide {
        return TaskKind::Classification;
    }
    let numbers: Option<Vec<f64>> = seen.keys().map(|label| parse_number(label).ok()).collect();
    match numbers {
        Some(numbers) if numbers.iter().any(|n| n.fract() != 0.0) || numbers.len() > NUMBER_LABELS_MAX => {
            TaskKind::Regression
        }
        _ => TaskKind::Classification,
    }
}

/// The labels asked for, or those seen: by number if all are numbers, else by text.
fn labels(spec: &TrainSpec, seen: BTreeMap<String, RowRef>) -> Result<Vec<String>, TrainError> {
    let fail = |message: String| Err(TrainError::Labels { column: spec.label.clone(), message });
    if let Some(labels) = &spec.labels {
        return Ok(labels.clone());
    }
    let mut labels: Vec<String> = seen.into_keys().collect();
    if labels.len() > LABELS_MAX {
        return fail(format!("it has more than {LABELS_MAX} different labels"));
    }
    match labels.as_slice() {
        [] => return fail("every label is empty".to_owned()),
        [one] => return fail(format!("every row has the label `{one}`; at least two are needed")),
        _ => {}
    }
    let numbers: Option<Vec<f64>> = labels.iter().map(|label| parse_number(label).ok()).collect();
    if let Some(numbers) = numbers {
        let mut pairs: Vec<(f64, String)> = numbers.into_iter().zip(labels).collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
        labels = pairs.into_iter().map(|(_, label)| label).collect();
    }
    Ok(labels)
}
