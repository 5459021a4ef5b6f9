//! [`Head`]: the loss of a batch and its gradient, from the network's raw outputs.
//!
//! Computing both here, rather than in the graph, costs one pass over a few hundred numbers, is exact for
//! large logits, and gives the accuracy besides.

use formats::spec::{Activation, Layer, Loss, SpecError, TaskKind, TrainSpec};

/// What turns raw outputs into an answer, and its loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    /// Softmax with cross-entropy.
    Softmax,
    /// Sigmoid with binary cross-entropy, one output per label.
    Sigmoid,
    /// One sigmoid, the score of the second of two labels.
    SingleSigmoid,
    /// The output itself with squared error.
    Number,
}

/// What a row should give.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answers<'a> {
    /// Class numbers.
    Classes(&'a [u32]),
    /// Numbers.
    Numbers(&'a [f32]),
}

/// Sums over rows.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Sums {
    pub(crate) rows: usize,
    pub(crate) loss: f64,
    pub(crate) correct: usize,
    pub(crate) absolute_error: f64,
}

impl Sums {
    pub(crate) fn add(&mut self, other: Sums) {
        self.rows += other.rows;
        self.loss += other.loss;
        self.correct += other.correct;
        self.absolute_error += other.absolute_error;
    }
}

impl Head {
    /// The head of a specification whose last layer is decided.
    pub(crate) fn new(
        spec: &TrainSpec,
        task: TaskKind,
        layers: &[Layer],
        outputs: usize,
    ) -> Result<Self, SpecError> {
        let last = last_activation(layers);
        let loss = spec.loss.unwrap_or(match (task, last) {
            (TaskKind::Regression, _) => Loss::MeanSquaredError,
            (_, Some(Activation::Sigmoid)) => Loss::BinaryCrossentropy,
            _ => Loss::CategoricalCrossentropy,
        });
        let at = format!("layers[{}]", layers.len().saturating_sub(1));
        match (task, loss, last) {
            (TaskKind::Regression, Loss::MeanSquaredError, _) => Ok(Head::Number),
            (TaskKind::Regression, ..) => Err(SpecError::new("loss", "a regression takes mse")),
            (_, Loss::MeanSquaredError, _) => {
                Err(SpecError::new("loss", "mse is for regression; a classification takes a cross-entropy"))
            }
            (
                _,
                Loss::CategoricalCrossentropy,
                Some(Activation::Softmax) | Some(Activation::Linear) | None,
            ) => Ok(Head::Softmax),
            (_, Loss::CategoricalCrossentropy, Some(_)) => Err(SpecError::new(
                at,
                "a categorical cross-entropy needs a last activation of softmax, or none",
            )),
            (_, Loss::BinaryCrossentropy, Some(Activation::Sigmoid) | Some(Activation::Linear) | None) => {
                Ok(if outputs == 1 { Head::SingleSigmoid } else { Head::Sigmoid })
            }
            (_, Loss::BinaryCrossentropy, Some(_)) => {
                Err(SpecError::new(at, "a binary cross-entropy needs a last activation of sigmoid, or none"))
            }
        }
    }

    /// What the network ends in when it is served.
    pub(crate) fn activation(self) -> Activation {
        match self {
            Head::Softmax => Activation::Softmax,
            Head::Sigmoid | Head::SingleSigmoid => Activation::Sigmoid,
            Head::Number => Activation::Linear,
        }
    }

    /// Sums over the rows of raw `outputs` (`[rows, width]`), and the gradient of their mean loss into
    /// `gradient`. `weights` is by class; empty means 1.
    pub(crate) fn measure(
        self,
        outputs: &[f32],
        width: usize,
        answers: Answers<'_>,
        weights: &[f32],
        gradient: &mut Vec<f32>,
    ) -> Sums {
        gradient.clear();
        let rows = outputs.len() / width.max(1);
        let mut sums = Sums { rows, ..Sums::default() };
        let share = 1.0 / rows.max(1) as f32;
        for (i, row) in outputs.chunks(width.max(1)).enumerate() {
            match answers {
                Answers::Numbers(numbers) => {
                    let error = row.first().copied().unwrap_or(0.0) - numbers.get(i).copied().unwrap_or(0.0);
                    sums.loss += f64::from(error) * f64::from(error);
                    sums.absolute_error += f64::from(error.abs());
                    gradient.push(2.0 * error * share);
                }
                Answers::Classes(classes) => {
                    let class = classes.get(i).copied().unwrap_or(0) as usize;
                    let weight = weights.get(class).copied().unwrap_or(1.0);
                    let (loss, correct) = self.classify(row, class, weight * share, gradient);
                    sums.loss += f64::from(weight) * loss;
                    sums.correct += usize::from(correct);
                }
            }
        }
        sums
    }

    /// Loss of one row and whether its likeliest class is right; appends its gradient times `scale`.
    fn classify(self, row: &[f32], class: usize, scale: f32, gradient: &mut Vec<f32>) -> (f64, bool) {
        let (best, max) = row
            .iter()
            .enumerate()
            .fold((0, f32::NEG_INFINITY), |best, (i, &z)| if z > best.1 { (i, z) } else { best });
        match self {
            Head::Softmax => {
                let begin = gradient.len();
                gradient.extend(row.iter().map(|z| (z - max).exp()));
                let own = gradient.get_mut(begin..).unwrap_or_default();
                let sum: f32 = own.iter().sum();
                own.iter_mut().for_each(|p| *p = *p / sum * scale);
                if let Some(p) = own.get_mut(class) {
                    *p -= scale;
                }
                let z = row.get(class).copied().unwrap_or(f32::NAN);
                (f64::from(sum).ln() - f64::from(z - max), best == class)
            }
            _ => {
                let mut loss = 0.0;
                for (i, &z) in row.iter().enumerate() {
                    let target = match self {
                        Head::SingleSigmoid => class == 1,
                        _ => class == i,
                    };
                    let t = if target { 1.0 } else { 0.0 };
                    loss += f64::from(z.max(0.0) - z * t + (-z.abs()).exp().ln_1p());
                    gradient.push((1.0 / (1.0 + (-z).exp()) - t) * scale / row.len() as f32);
                }
                let right = match self {
                    Head::SingleSigmoid => usize::from(row.first().is_some_and(|z| *z > 0.0)) == class,
                    _ => best == class,
                };
                (loss / row.len().max(1) as f64, right)
            }
        }
    }
}

/// The activation that ends a network; `None` if its last layer has none of its own.
pub(crate) fn last_activation(layers: &[Layer]) -> Option<Activation> {
    match layers.last() {
        Some(Layer::Dense { activation, .. } | Layer::Conv2d { activation, .. }) => Some(*activation),
        Some(Layer::Activation { function }) => Some(*function),
        _ => None,
    }
}
