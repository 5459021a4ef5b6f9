//! Support vector machines (Cortes and Vapnik, 1995), as classifiers and as regressors.

use super::attributes::Attributes;
use super::predictors::{class_labels, classified, table};
use super::transform::{Transform, highest, logistic};
use super::value::{Array, Value, elements};
use super::{Fault, Inputs, Run};

/// How alike two rows are.
#[derive(Debug, Clone, Copy)]
enum Kernel {
    Linear,
    Poly { gamma: f64, coef0: f64, degree: f64 },
    Rbf { gamma: f64 },
    Sigmoid { gamma: f64, coef0: f64 },
}

impl Kernel {
    fn of(attributes: &Attributes<'_>) -> Result<Kernel, Fault> {
        let (gamma, coef0, degree) = match attributes.floats("kernel_params") {
            [] => (0.0, 0.0, 0.0),
            &[gamma, coef0, degree] => (gamma.into(), coef0.into(), degree.into()),
            other => {
                let text = format!("attribute `kernel_params` has {} entries instead of 3", other.len());
                return Err(Fault::new(text));
            }
        };
        match attributes.text("kernel_type")?.unwrap_or("LINEAR") {
            "LINEAR" => Ok(Kernel::Linear),
            "POLY" => Ok(Kernel::Poly { gamma, coef0, degree }),
            "RBF" => Ok(Kernel::Rbf { gamma }),
            "SIGMOID" => Ok(Kernel::Sigmoid { gamma, coef0 }),
            other => Err(Fault::new(format!("attribute `kernel_type` has no `{other}`"))),
        }
    }

    fn of_rows(self, a: &[f64], b: &[f64]) -> f64 {
        let dot = || a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        match self {
            Kernel::Linear => dot(),
            Kernel::Poly { gamma, coef0, degree } => (gamma * dot() + coef0).powf(degree),
            Kernel::Rbf { gamma } => {
                (-gamma * a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>()).exp()
            }
            Kernel::Sigmoid { gamma, coef0 } => (gamma * dot() + coef0).tanh(),
        }
    }
}

/// Rows that new rows are compared with: the support vectors, or of a linear machine its coefficients.
struct Vectors {
    kernel: Kernel,
    rows: Vec<f64>,
    width: usize,
}

impl Vectors {
    fn new(kernel: Kernel, rows: &[f32], count: usize, name: &str) -> Result<Vectors, Fault> {
        if count == 0 || rows.is_empty() || !rows.len().is_multiple_of(count) {
            let text = format!("attribute `{name}` has {} entries for {count} vectors", rows.len());
            return Err(Fault::new(text));
        }
        Ok(Vectors { kernel, rows: wide(rows), width: rows.len() / count })
    }

    fn check(&self, width: usize) -> Result<(), Fault> {
        match width == self.width {
            true => Ok(()),
            false => Err(Fault::new(format!("it takes rows of {} features, not {width}", self.width))),
        }
    }

    /// How alike a row is to each.
    fn compare(&self, row: &[f64]) -> Vec<f64> {
        self.rows.chunks_exact(self.width).map(|vector| self.kernel.of_rows(row, vector)).collect()
    }
}

pub(super) fn regressor(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let kernel = Kernel::of(attributes)?;
    let transform = Transform::of(attributes)?;
    let one_class = attributes.flag("one_class", false)?;
    let coefficients = attributes.floats("coefficients");
    let rho = numbers(attributes.floats("rho"), 1, "rho")?;
    let vectors = attributes.floats("support_vectors");
    let (vectors, weights) = match count(attributes.int("n_supports")?.unwrap_or(0), "n_supports")? {
        0 => (Vectors::new(Kernel::Linear, coefficients, 1, "coefficients")?, vec![1.0]),
        n => {
            let vectors = Vectors::new(kernel, vectors, n, "support_vectors")?;
            (vectors, numbers(coefficients, n, "coefficients")?)
        }
    };
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let (rows, width, x) = table(inputs)?;
        vectors.check(width)?;
        let mut values = Vec::with_capacity(elements(&[rows, 1])?);
        for row in x.chunks_exact(width) {
            let mut value = [sum(&weights, &vectors.compare(row)) + rho[0]];
            transform.apply(&mut value);
            values.push(match one_class {
                true if value[0] > 0.0 => 1.0,
                true => -1.0,
                false => value[0],
            });
        }
        Ok(vec![Value::new(vec![rows, 1], Array::narrow(values))?])
    }))
}

pub(super) fn classifier(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let labels = class_labels(attributes, "classlabels_strings", "classlabels_ints")?;
    let classes = labels.len();
    let transform = Transform::of(attributes)?;
    let machine = Machine::read(attributes, classes)?;
    if machine.columns() == 1 && transform != Transform::None {
        return Err(Fault::new("attribute `post_transform` of a machine with one score must be `NONE`"));
    }
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let (rows, width, x) = table(inputs)?;
        machine.vectors.check(width)?;
        // One score is given with its opposite.
        let columns = machine.columns().max(2);
        let mut chosen = Vec::with_capacity(rows);
        let mut scores = Vec::with_capacity(elements(&[rows, columns])?);
        for row in x.chunks_exact(width) {
            let (best, mut row) = machine.judge(row);
            chosen.push(best);
            match row[..] {
                [score] => scores.extend([-score, score]),
                _ => {
                    transform.apply(&mut row);
                    scores.extend(row);
                }
            }
        }
        classified(rows, &chosen, &labels, scores, columns)
    }))
}

/// A classifier's machine, which judges between two classes at a time, or each class by itself.
struct Machine {
    vectors: Vectors,
    rho: Vec<f64>,
    classes: usize,
    /// None where each class is judged by itself.
    pairs: Option<Pairs>,
}

struct Pairs {
    /// Where each class' vectors begin; and the end of the last.
    begin: Vec<usize>,
    /// For each vector, against each other class: class after class.
    coefficients: Vec<f64>,
    /// Slope and offset of the logarithm of the odds, for each pair.
    odds: Vec<(f64, f64)>,
}

impl Machine {
    fn read(attributes: &Attributes<'_>, classes: usize) -> Result<Machine, Fault> {
        let kernel = Kernel::of(attributes)?;
        let coefficients = attributes.floats("coefficients");
        let (slopes, offsets) = (attributes.floats("prob_a"), attributes.floats("prob_b"));
        let vectors = attributes.floats("support_vectors");
        let rho = attributes.floats("rho");
        let mut begin = vec![0];
        for &of_class in attributes.ints("vectors_per_class") {
            let end = begin.last().copied().unwrap_or(0_usize);
            begin.push(end.saturating_add(count(of_class, "vectors_per_class")?));
        }
        let total = begin.last().copied().unwrap_or(0);
        if total == 0 {
            let vectors = Vectors::new(Kernel::Linear, coefficients, classes, "coefficients")?;
            return Ok(Machine { vectors, rho: numbers(rho, 1, "rho")?, classes, pairs: None });
        }
        if classes < 2 || begin.len() != classes + 1 {
            let found = begin.len() - 1;
            let text = format!("attribute `vectors_per_class` has {found} entries for {classes} classes");
            return Err(Fault::new(text));
        }
        let pairs = classes * (classes - 1) / 2;
        let odds = match slopes.is_empty() && offsets.is_empty() {
            true => Vec::new(),
            false => {
                let slopes = numbers(slopes, pairs, "prob_a")?;
                slopes.into_iter().zip(numbers(offsets, pairs, "prob_b")?).collect()
            }
        };
        Ok(Machine {
            vectors: Vectors::new(kernel, vectors, total, "support_vectors")?,
            rho: numbers(rho, pairs, "rho")?,
            classes,
            pairs: Some(Pairs {
                begin,
                coefficients: numbers(coefficients, total.saturating_mul(classes - 1), "coefficients")?,
                odds,
            }),
        })
    }

    /// How many scores a row has.
    fn columns(&self) -> usize {
        match &self.pairs {
            Some(pairs) if pairs.odds.is_empty() => self.rho.len(),
            _ => self.classes,
        }
    }

    /// The class that a row is of, and its scores: probabilities of classes where the machine has them.
    fn judge(&self, row: &[f64]) -> (usize, Vec<f64>) {
        let alike = self.vectors.compare(row);
        let Some(pairs) = &self.pairs else {
            let scores: Vec<f64> = alike.iter().map(|score| score + self.rho[0]).collect();
            return (highest(&scores), scores);
        };
        let mut votes = vec![0.0; self.classes];
        let mut scores = Vec::with_capacity(self.rho.len());
        for (i, j) in both(self.classes) {
            let score = pairs.of(&alike, i, j - 1) + pairs.of(&alike, j, i) + self.rho[scores.len()];
            votes[if score > 0.0 { i } else { j }] += 1.0;
            scores.push(score);
        }
        let best = highest(&votes);
        match pairs.odds.is_empty() {
            true => (best, scores),
            false => (best, probabilities(self.classes, &scores, &pairs.odds)),
        }
    }
}

impl Pairs {
    /// What the vectors of a class say, with their coefficients against another.
    fn of(&self, alike: &[f64], class: usize, against: usize) -> f64 {
        let vectors = self.begin[class]..self.begin[class + 1];
        let coefficients = &self.coefficients[against * alike.len()..][..alike.len()];
        sum(&coefficients[vectors.clone()], &alike[vectors])
    }
}

/// The pairs of classes, in the order of their scores.
fn both(classes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..classes).flat_map(move |i| (i + 1..classes).map(move |j| (i, j)))
}

/// Probabilities of classes from those of pairs: the second method of Wu, Lin and Weng (2004), as LIBSVM does it.
fn probabilities(classes: usize, scores: &[f64], odds: &[(f64, f64)]) -> Vec<f64> {
    const LEAST: f64 = 1e-7;
    let mut of_pair = vec![vec![0.0; classes]; classes];
    for ((i, j), (score, (slope, offset))) in both(classes).zip(scores.iter().zip(odds)) {
        let first = (1.0 - logistic(score * slope + offset)).clamp(LEAST, 1.0 - LEAST);
        (of_pair[i][j], of_pair[j][i]) = (first, 1.0 - first);
    }
    let entry = |i: usize, j: usize| match i == j {
        true => (0..classes).filter(|&k| k != i).map(|k| of_pair[k][i] * of_pair[k][i]).sum::<f64>(),
        false => -of_pair[j][i] * of_pair[i][j],
    };
    let q: Vec<Vec<f64>> = (0..classes).map(|i| (0..classes).map(|j| entry(i, j)).collect()).collect();
    let mut p = vec![1.0 / classes as f64; classes];
    for _ in 0..classes.max(100) {
        let mut qp: Vec<f64> = q.iter().map(|row| sum(row, &p)).collect();
        let mut pqp = sum(&p, &qp);
        if qp.iter().all(|value| (value - pqp).abs() < 0.005 / classes as f64) {
            break;
        }
        for t in 0..classes {
            let step = (pqp - qp[t]) / q[t][t];
            p[t] += step;
            pqp = (pqp + step * (step * q[t][t] + 2.0 * qp[t])) / (1.0 + step) / (1.0 + step);
            for (j, value) in qp.iter_mut().enumerate() {
                *value = (*value + step * q[t][j]) / (1.0 + step);
                p[j] /= 1.0 + step;
            }
        }
    }
    p
}

fn sum(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

/// Exactly `wanted` numbers.
fn numbers(found: &[f32], wanted: usize, name: &str) -> Result<Vec<f64>, Fault> {
    match found.len() == wanted {
        true => Ok(wide(found)),
        false => Err(Fault::new(format!("attribute `{name}` has {} entries, not {wanted}", found.len()))),
    }
}

fn count(found: i64, name: &str) -> Result<usize, Fault> {
    usize::try_from(found).map_err(|_| Fault::new(format!("attribute `{name}`: {found} is no count")))
}
