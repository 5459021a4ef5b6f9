//! Integrated gradients (Sundararajan, Taly and Yan, 2017): the gradient of an output, averaged on the straight
//! line from a baseline to the instance, times how far each feature moved.

/// How the line is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rule {
    /// Points and weights that integrate polynomials of degree `2 · steps − 1` exactly: the better choice for smooth
    /// outputs. It does not evaluate the ends of the line.
    #[default]
    GaussLegendre,
    /// `steps + 1` equally spaced points, the ends included and counted half.
    Trapezoidal,
}

/// How to integrate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Steps on the line (Vertex AI's step count).
    pub steps: usize,
    /// How the line is sampled.
    pub rule: Rule,
    /// The most points to ask gradients for in one call.
    pub batch_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { steps: 50, rule: Rule::GaussLegendre, batch_max: 256 }
    }
}

/// Points at which the gradient is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Points<'a> {
    features: usize,
    values: &'a [f64],
}

impl Points<'_> {
    /// How many points; never 0.
    pub fn len(&self) -> usize {
        self.values.len() / self.features.max(1)
    }

    /// Never: there is always a point to ask for.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Values of each point.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Row by row, `[len, features]`.
    pub fn values(&self) -> &[f64] {
        self.values
    }
}

/// Why there is no attribution.
#[derive(Debug, thiserror::Error)]
pub enum Error<E> {
    /// The gradients could not be computed.
    #[error("the gradients for an explanation could not be computed")]
    Gradients(#[source] E),
    /// Instance and baseline differ in length.
    #[error("the instance has {instance} values and its baseline {baseline}")]
    Baseline {
        /// Values of the instance.
        instance: usize,
        /// Values of the baseline.
        baseline: usize,
    },
    /// Another number of derivatives came back than was asked for.
    #[error("{asked} derivatives were asked for and {answered} came back")]
    Length {
        /// Points times features.
        asked: usize,
        /// Derivatives received.
        answered: usize,
    },
    /// A gradient was not a number.
    #[error("the gradient of the model's output is not finite between the baseline and the instance")]
    NotFinite,
}

/// The attribution of each value of `instance`, in its order.
///
/// `gradients` answers the derivatives of the output by each feature at each point, row by row. How well the sum of
/// the attributions meets the change of the output is the error: see [`crate::completeness_gap`].
pub fn attributions<E>(
    instance: &[f64],
    baseline: &[f64],
    options: &Options,
    mut gradients: impl FnMut(Points<'_>) -> Result<Vec<f64>, E>,
) -> Result<Vec<f64>, Error<E>> {
    let features = instance.len();
    if baseline.len() != features {
        return Err(Error::Baseline { instance: features, baseline: baseline.len() });
    }
    let mut averages = vec![0.0; features];
    if features == 0 {
        return Ok(averages);
    }
    let nodes = nodes(options.rule, options.steps.max(1));
    for batch in nodes.chunks(options.batch_max.max(1)) {
        let values: Vec<f64> = batch.iter().flat_map(|n| between(baseline, instance, n.position)).collect();
        let answered = gradients(Points { features, values: &values }).map_err(Error::Gradients)?;
        if answered.len() != values.len() {
            return Err(Error::Length { asked: values.len(), answered: answered.len() });
        }
        if answered.iter().any(|d| !d.is_finite()) {
            return Err(Error::NotFinite);
        }
        for (node, gradient) in batch.iter().zip(answered.chunks(features)) {
            averages.iter_mut().zip(gradient).for_each(|(a, g)| *a += node.weight * g);
        }
    }
    let moved = instance.iter().zip(baseline).map(|(x, b)| x - b);
    Ok(averages.iter().zip(moved).map(|(average, moved)| average * moved).collect())
}

fn between<'a>(
    baseline: &'a [f64],
    instance: &'a [f64],
    position: f64,
) -> impl Iterator<Item = f64> + use<'a> {
    baseline.iter().zip(instance).map(move |(b, x)| b + position * (x - b))
}

/// A point of the line, 0 at the baseline and 1 at the instance, and its share of the average.
struct Node {
    position: f64,
    weight: f64,
}

fn nodes(rule: Rule, steps: usize) -> Vec<Node> {
    match rule {
        Rule::Trapezoidal => (0..=steps)
            .map(|i| Node {
                position: i as f64 / steps as f64,
                weight: if i == 0 || i == steps { 0.5 } else { 1.0 } / steps as f64,
            })
            .collect(),
        Rule::GaussLegendre => (0..steps).map(|i| gauss_legendre(i, steps)).collect(),
    }
}

/// Root `i` of the Legendre polynomial of degree `n`, by Newton's method from an estimate that is always near enough.
fn gauss_legendre(i: usize, n: usize) -> Node {
    let mut x = -(std::f64::consts::PI * (i as f64 + 0.75) / (n as f64 + 0.5)).cos();
    let mut slope = 1.0;
    // Convergence is quadratic; the bound only guards against rounding that goes to and fro.
    for _ in 0..20 {
        let (value, derivative) = legendre(n, x);
        slope = derivative;
        let step = value / derivative;
        x -= step;
        if step.abs() < 1e-15 {
            break;
        }
    }
    // From [−1, 1] with weights that sum to 2 to [0, 1] with weights that sum to 1.
    Node { position: (x + 1.0) / 2.0, weight: 1.0 / ((1.0 - x * x) * slope * slope) }
}

/// The Legendre polynomial of degree `n ≥ 1` and its derivative at `x`, inside (−1, 1).
fn legendre(n: usize, x: f64) -> (f64, f64) {
    let (mut previous, mut value) = (1.0, x);
    for k in 2..=n {
        let k = k as f64;
        (previous, value) = (value, ((2.0 * k - 1.0) * x * value - (k - 1.0) * previous) / k);
    }
    (value, n as f64 * (x * value - previous) / (x * x - 1.0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::completeness_gap;
    use std::convert::Infallible;

    /// A function of a feature vector by its gradient at one point.
    fn gradient(
        of_point: impl Fn(&[f64]) -> Vec<f64>,
    ) -> impl FnMut(Points<'_>) -> Result<Vec<f64>, Infallible> {
        move |points| Ok(points.values().chunks(points.features()).flat_map(&of_point).collect())
    }

    fn options(rule: Rule, steps: usize) -> Options {
        Options { steps, rule, batch_max: 7 }
    }

    #[test]
    fn weights_sum_to_one_and_are_symmetric() {
        for steps in 1..=100 {
            for rule in [Rule::GaussLegendre, Rule::Trapezoidal] {
                let nodes = nodes(rule, steps);
                let total: f64 = nodes.iter().map(|n| n.weight).sum();
                assert!((total - 1.0).abs() < 1e-13, "{rule:?} {steps}: {total}");
                for (a, b) in nodes.iter().zip(nodes.iter().rev()) {
                    assert!((a.position + b.position - 1.0).abs() < 1e-13);
                    assert!((a.weight - b.weight).abs() < 1e-13);
                }
                assert!(nodes.windows(2).all(|w| w[0].position < w[1].position));
            }
        }
    }

    #[test]
    fn quadratics_are_exact_with_either_rule() {
        // f(x) = Σ a_i x_i² + x_0 x_1; its attribution from 0 is a_i x_i² plus half the product to either.
        let (a, x) = ([1.5, -2.0, 0.25], [2.0, 3.0, -4.0]);
        let gradient_of =
            |p: &[f64]| vec![2.0 * a[0] * p[0] + p[1], 2.0 * a[1] * p[1] + p[0], 2.0 * a[2] * p[2]];
        let output = a.iter().zip(&x).map(|(a, x)| a * x * x).sum::<f64>() + x[0] * x[1];
        let expected = [a[0] * 4.0 + 3.0, a[1] * 9.0 + 3.0, a[2] * 16.0];
        for rule in [Rule::GaussLegendre, Rule::Trapezoidal] {
            for steps in [1, 2, 50] {
                let found =
                    attributions(&x, &[0.0; 3], &options(rule, steps), gradient(gradient_of)).unwrap();
                for (f, e) in found.iter().zip(&expected) {
                    assert!((f - e).abs() < 1e-12, "{rule:?} {steps}: {found:?}");
                }
                assert!(completeness_gap(&found, output, 0.0) < 1e-13);
            }
        }
    }

    #[test]
    fn high_degree_needs_gauss_legendre() {
        // f(x) = x⁹ from −1 to 2.
        let output = 512.0_f64;
        let error = |rule| {
            let found =
                attributions(&[2.0], &[-1.0], &options(rule, 5), gradient(|p| vec![9.0 * p[0].powi(8)]));
            completeness_gap(&found.unwrap(), output, -1.0)
        };
        assert!(error(Rule::GaussLegendre) < 1e-13);
        assert!(error(Rule::Trapezoidal) > 1e-2);
    }

    #[test]
    fn error_falls_with_the_steps_on_a_softmax() {
        let softmax = |p: &[f64]| {
            let exps: Vec<f64> = p.iter().map(|v| v.exp()).collect();
            let total: f64 = exps.iter().sum();
            exps.iter().map(|e| e / total).collect::<Vec<_>>()
        };
        let gradient_of = |p: &[f64]| {
            let s = softmax(p);
            s.iter().enumerate().map(|(i, v)| s[0] * (f64::from(i == 0) - v)).collect()
        };
        let (x, b) = ([3.0, -1.0, 2.0], [0.0, 0.5, -2.0]);
        let error = |rule, steps| {
            let found = attributions(&x, &b, &options(rule, steps), gradient(gradient_of)).unwrap();
            completeness_gap(&found, softmax(&x)[0], softmax(&b)[0])
        };
        assert!(error(Rule::Trapezoidal, 100) < error(Rule::Trapezoidal, 10) / 50.0);
        assert!(error(Rule::GaussLegendre, 20) < 1e-9);
    }

    #[test]
    fn batches_are_bounded_and_do_not_matter() {
        let run = |batch_max| {
            let mut largest = 0;
            let options = Options { steps: 20, rule: Rule::Trapezoidal, batch_max };
            let found = attributions(&[1.0, 2.0], &[0.0, 0.0], &options, |p: Points<'_>| {
                largest = largest.max(p.len());
                Ok::<_, Infallible>(p.values().iter().map(|v| v * v).collect())
            });
            (found.unwrap(), largest)
        };
        let ((one, one_largest), (all, all_largest)) = (run(1), run(100));
        assert_eq!((one, one_largest, all_largest), (all, 1, 21));
    }

    #[test]
    fn faults_are_named() {
        let options = Options::default();
        let lengths = attributions(&[1.0], &[], &options, gradient(|_| vec![0.0]));
        assert!(matches!(lengths, Err(Error::Baseline { instance: 1, baseline: 0 })));
        let short = attributions(&[1.0], &[0.0], &options, |_| Ok::<_, Infallible>(Vec::new()));
        assert!(matches!(short, Err(Error::Length { asked: 50, answered: 0 })));
        let nan = attributions(&[1.0], &[0.0], &options, gradient(|_| vec![f64::NAN]));
        assert!(matches!(nan, Err(Error::NotFinite)));
        assert_eq!(attributions(&[], &[], &options, gradient(|_| vec![])).unwrap(), Vec::<f64>::new());
    }
}
