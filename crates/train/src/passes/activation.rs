//! Activations and their derivatives, as Keras has them.

use formats::spec::Activation;

/// Of Klambauer and others, "Self-Normalizing Neural Networks" (2017).
const SELU: [f32; 2] = [1.050_701, 1.673_263_2];

/// Applies `function` in place; `width` is the length of the last axis, which a softmax goes over.
pub(crate) fn forward(function: Activation, x: &mut [f32], width: usize) {
    let [scale, alpha] = SELU;
    match function {
        Activation::Linear => {}
        Activation::Relu => each(x, |x| x.max(0.0)),
        Activation::Sigmoid => each(x, sigmoid),
        Activation::Tanh => each(x, f32::tanh),
        Activation::Softmax => x.chunks_exact_mut(width.max(1)).for_each(softmax),
        Activation::Gelu => each(x, |x| x * normal_share(x)),
        Activation::Elu => each(x, |x| if x > 0.0 { x } else { x.exp_m1() }),
        Activation::Selu => each(x, |x| scale * if x > 0.0 { x } else { alpha * x.exp_m1() }),
        // Beyond 20 the logarithm is the number itself.
        Activation::Softplus => each(x, |x| if x > 20.0 { x } else { x.exp().ln_1p() }),
        Activation::LeakyRelu { negative_slope } => {
            each(x, |x| if x >= 0.0 { x } else { negative_slope * x })
        }
    }
}

/// Whether the derivative is known from what went in alone.
pub(crate) fn looks_at_input(function: Activation) -> bool {
    matches!(function, Activation::Gelu | Activation::LeakyRelu { .. })
}

/// Turns the gradient by what `function` gave into that by what it took, in place. `seen` is what it gave, or what it took
/// where [`looks_at_input`] says so.
pub(crate) fn backward(function: Activation, seen: &[f32], gradient: &mut [f32], width: usize) {
    let [scale, alpha] = SELU;
    match function {
        Activation::Linear => {}
        Activation::Relu => by(gradient, seen, |y| if y > 0.0 { 1.0 } else { 0.0 }),
        Activation::Sigmoid => by(gradient, seen, |y| y * (1.0 - y)),
        Activation::Tanh => by(gradient, seen, |y| 1.0 - y * y),
        Activation::Softmax => {
            let rows = gradient.chunks_exact_mut(width.max(1)).zip(seen.chunks_exact(width.max(1)));
            for (gradient, shares) in rows {
                let mean: f32 = gradient.iter().zip(shares).map(|(g, share)| g * share).sum();
                gradient.iter_mut().zip(shares).for_each(|(g, share)| *g = share * (*g - mean));
            }
        }
        Activation::Gelu => {
            by(gradient, seen, |x| normal_share(x) + x * (-0.5 * x * x).exp() * INVERSE_ROOT_2_PI)
        }
        Activation::Elu => by(gradient, seen, |y| if y > 0.0 { 1.0 } else { y + 1.0 }),
        Activation::Selu => by(gradient, seen, |y| if y > 0.0 { scale } else { y + scale * alpha }),
        Activation::Softplus => by(gradient, seen, |y| -(-y).exp_m1()),
        Activation::LeakyRelu { negative_slope } => {
            by(gradient, seen, |x| if x >= 0.0 { 1.0 } else { negative_slope })
        }
    }
}

/// `1 / sqrt(2 π)`
const INVERSE_ROOT_2_PI: f32 = 0.398_942_3;

/// Multiplies each number of the gradient with the slope at what was seen.
fn by(gradient: &mut [f32], seen: &[f32], slope: impl Fn(f32) -> f32) {
    gradient.iter_mut().zip(seen).for_each(|(g, seen)| *g *= slope(*seen));
}

fn each(x: &mut [f32], function: impl Fn(f32) -> f32) {
    x.iter_mut().for_each(|x| *x = function(*x));
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// The share of a standard normal that is below `x`.
fn normal_share(x: f32) -> f32 {
    0.5 * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))
}

fn softmax(row: &mut [f32]) {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    each(row, |x| (x - most).exp());
    let sum: f32 = row.iter().sum();
    each(row, |x| x / sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_are_slopes() {
        let functions = [
            Activation::Linear,
            Activation::Relu,
            Activation::Sigmoid,
            Activation::Tanh,
            Activation::Softmax,
            Activation::Gelu,
            Activation::Elu,
            Activation::Selu,
            Activation::Softplus,
            Activation::LeakyRelu { negative_slope: 0.3 },
            Activation::LeakyRelu { negative_slope: -0.5 },
        ];
        let x = [-3.1f32, -0.7, -0.1, 0.2, 1.3, 25.0];
        for function in functions {
            // Of the sum of what is given, each weighed another way.
            let weighed = |x: &[f32]| -> f64 {
                let mut y = x.to_vec();
                forward(function, &mut y, 3);
                y.iter().enumerate().map(|(at, y)| f64::from(*y) * (at as f64 - 2.2)).sum()
            };
            let mut seen = x.to_vec();
            if !looks_at_input(function) {
                forward(function, &mut seen, 3);
            }
            let mut gradient: Vec<f32> = (0..x.len()).map(|at| at as f32 - 2.2).collect();
            backward(function, &seen, &mut gradient, 3);
            for at in 0..x.len() {
                let moved = |by: f32| {
                    let mut x = x;
                    x[at] += by;
                    weighed(&x)
                };
                let slope = (moved(0.01) - moved(-0.01)) / 0.02;
                assert!(
                    (slope - f64::from(gradient[at])).abs() < 3e-3,
                    "{function:?} at {}: {slope} {gradient:?}",
                    x[at]
                );
            }
        }
    }
}
