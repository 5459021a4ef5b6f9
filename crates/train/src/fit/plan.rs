//! [`Plan`]: everything decided before the first step.

use formats::spec::{Activation, Layer, Metric, SpecError, TaskKind, TrainSpec, shapes};

use crate::TrainError;
use crate::features::{Input, decide};
use crate::head::{Answers, Head, last_activation};
use crate::random::Random;
use crate::target::Target;

/// What is trained, every width decided.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) layers: Vec<Layer>,
    pub(super) head: Head,
    /// Outputs of the network in training.
    pub(super) width: usize,
    /// Answers of all usable rows; numbers are standardised by `scale`.
    answers: Owned,
    /// Mean and deviation of a regression's label.
    pub(super) scale: (f64, f64),
    /// Weight of each class; empty means 1.
    pub(super) weights: Vec<f32>,
}

#[derive(Debug)]
enum Owned {
    Classes(Vec<u32>),
    Numbers(Vec<f32>),
}

impl Plan {
    pub(super) fn new(
        spec: &TrainSpec,
        input: &Input,
        target: &Target,
        training: &[usize],
    ) -> Result<Self, TrainError> {
        let task = target.task();
        let layers = decide(&spec.layers, task.outputs(), &input.features)?;
        let width = width(spec, &layers, &input.shape, task.outputs())?;
        let head = Head::new(spec, task.kind(), &layers, width)?;
        check_metrics(spec, task.kind())?;
        check_head(spec, &layers, head, width, task.outputs(), task.kind())?;
        let linear = matches!(layers.last(), Some(Layer::Dense { activation: Activation::Linear, .. }));
        let (answers, scale) = match target {
            Target::Classes { of, .. } => (Owned::Classes(of.clone()), (0.0, 1.0)),
            Target::Numbers(numbers) if spec.scale_label && linear => {
                let scale = moments(numbers, training);
                let standard = |n: &f32| ((f64::from(*n) - scale.0) / scale.1) as f32;
                (Owned::Numbers(numbers.iter().map(standard).collect()), scale)
            }
            Target::Numbers(numbers) => (Owned::Numbers(numbers.clone()), (0.0, 1.0)),
        };
        Ok(Plan { layers, head, width, answers, scale, weights: weights(spec, target)? })
    }

    /// The answers of the given rows, gathered into the buffers.
    pub(super) fn gather<'b>(&self, rows: &[usize], buffers: &'b mut (Vec<u32>, Vec<f32>)) -> Answers<'b> {
        match &self.answers {
            Owned::Classes(of) => {
                buffers.0.clear();
                buffers.0.extend(rows.iter().map(|i| of.get(*i).copied().unwrap_or(0)));
                Answers::Classes(&buffers.0)
            }
            Owned::Numbers(numbers) => {
                buffers.1.clear();
                buffers.1.extend(rows.iter().map(|i| numbers.get(*i).copied().unwrap_or(0.0)));
                Answers::Numbers(&buffers.1)
            }
        }
    }

    /// Whether rows are classified.
    pub(super) fn classifies(&self) -> bool {
        matches!(self.answers, Owned::Classes(_))
    }
}

/// Training and validation rows, both ascending.
pub(super) fn split(spec: &TrainSpec, rows: usize) -> (Vec<usize>, Vec<usize>) {
    let kept = rows - ((rows as f64 * spec.validation_split) as usize).min(rows.saturating_sub(1));
    let mut order: Vec<usize> = (0..rows).collect();
    if spec.shuffle && kept < rows {
        Random::new(spec.seed, 2).shuffle(&mut order);
    }
    let mut validation = order.split_off(kept);
    order.sort_unstable();
    validation.sort_unstable();
    (order, validation)
}

/// Outputs of the network, which must be those of the task.
fn width(spec: &TrainSpec, layers: &[Layer], input: &[usize], outputs: usize) -> Result<usize, SpecError> {
    let shapes = shapes(input, layers)?;
    let kind = layers.last().map_or("", Layer::kind);
    let at = format!("layers[{}] ({kind})", layers.len().saturating_sub(1));
    let last = shapes.last().map(Vec::as_slice).unwrap_or_default();
    let single = last == [1] && outputs == 2;
    match last {
        [width] if *width == outputs || single => Ok(*width),
        [width] if outputs == 1 => Err(SpecError::new(
            at,
            format!("gives {width} outputs, but a regression needs 1; write `dense: labels`"),
        )),
        [width] => Err(SpecError::new(
            at,
            format!(
                "gives {width} outputs, but column `{}` has {outputs} labels; write `dense: labels` to follow the rows",
                spec.label
            ),
        )),
        shape => Err(SpecError::new(
            at,
            format!("gives rows of shape {shape:?}; a flatten or a pooling is missing"),
        )),
    }
}

fn check_head(
    spec: &TrainSpec,
    layers: &[Layer],
    head: Head,
    width: usize,
    outputs: usize,
    task: TaskKind,
) -> Result<(), SpecError> {
    if task == TaskKind::Classification && width < outputs && head != Head::SingleSigmoid {
        let message =
            "one output for two labels needs `binary_crossentropy`, with a last activation of sigmoid";
        return Err(SpecError::new("loss", message));
    }
    if head == Head::SingleSigmoid && super::finish::single_dense(layers).is_none() {
        return Err(SpecError::new(
            "layers",
            "the one output of a binary classification must come from a dense layer",
        ));
    }
    let ends = matches!(last_activation(layers), Some(Activation::Softmax | Activation::Sigmoid));
    if spec.from_logits && ends {
        let message = "from_logits says that the network gives logits, but it ends in a softmax or sigmoid";
        return Err(SpecError::new("loss", message));
    }
    Ok(())
}

/// Every metric asked for must be one that the task has.
fn check_metrics(spec: &TrainSpec, task: TaskKind) -> Result<(), SpecError> {
    let fits = |metric: &Metric| match task {
        TaskKind::Classification => *metric == Metric::Accuracy,
        TaskKind::Regression => *metric != Metric::Accuracy,
    };
    match spec.metrics.iter().position(|metric| !fits(metric)) {
        None => Ok(()),
        Some(i) => {
            let message = "accuracy is for classifications, mae and mse are for regressions";
            Err(SpecError::new(format!("metrics[{i}]"), message))
        }
    }
}

fn weights(spec: &TrainSpec, target: &Target) -> Result<Vec<f32>, SpecError> {
    if spec.class_weight.is_empty() {
        return Ok(Vec::new());
    }
    let Target::Classes { labels, .. } = target else {
        return Err(SpecError::new("class_weight", "is for classifications"));
    };
    let mut weights = vec![1.0; labels.len()];
    for (label, weight) in &spec.class_weight {
        match labels.iter().position(|l| l == label) {
            Some(i) => weights[i] = *weight as f32,
            None => {
                return Err(SpecError::new(format!("class_weight.{label}"), "is not one of the labels"));
            }
        }
    }
    Ok(weights)
}

/// Mean and deviation over the training rows; a constant label has deviation 1.
fn moments(numbers: &[f32], training: &[usize]) -> (f64, f64) {
    let own = |i: &usize| f64::from(numbers.get(*i).copied().unwrap_or(0.0));
    let count = training.len().max(1) as f64;
    let mean = training.iter().map(own).sum::<f64>() / count;
    let variance = training.iter().map(|i| (own(i) - mean).powi(2)).sum::<f64>() / count;
    (mean, if variance > 0.0 { variance.sqrt() } else { 1.0 })
}
