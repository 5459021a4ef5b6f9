//! Normalisation over the last axis: by fixed figures, and by those of the batch.

use crate::values::Values;

/// `x · scale + shift`, a number of each for each of the last axis' places.
pub(crate) fn scale_and_shift(x: &Values, scale: &[f32], shift: &[f32]) -> Values {
    let mut data = x.data.clone();
    for stretch in data.chunks_exact_mut(x.last()) {
        stretch
            .iter_mut()
            .zip(scale.iter().zip(shift))
            .for_each(|(x, (scale, shift))| *x = *x * scale + shift);
    }
    x.with(x.shape.clone(), data)
}

/// The gradient by its input, in place.
pub(crate) fn scale_back(gradient: &mut [f32], scale: &[f32]) {
    for stretch in gradient.chunks_exact_mut(scale.len().max(1)) {
        stretch.iter_mut().zip(scale).for_each(|(g, scale)| *g *= scale);
    }
}

/// The figures of a normalisation whose mean and variance are given, as [`scale_and_shift`] takes them.
pub(crate) fn figures(gamma: &[f32], beta: &[f32], mean: &[f32], inverse: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let scale: Vec<f32> = gamma.iter().zip(inverse).map(|(gamma, inverse)| gamma * inverse).collect();
    let shift = beta.iter().zip(mean.iter().zip(&scale)).map(|(beta, (mean, scale))| beta - mean * scale);
    let shift = shift.collect();
    (scale, shift)
}

/// `1 / sqrt(variance + epsilon)`.
pub(crate) fn inverse(variance: &[f32], epsilon: f64) -> Vec<f32> {
    variance.iter().map(|variance| (1.0 / (f64::from(*variance) + epsilon).sqrt()) as f32).collect()
}

/// Mean and variance of each place of the last axis, of the batch as it is.
pub(crate) fn statistics(x: &Values) -> (Vec<f32>, Vec<f32>) {
    let channels = x.last();
    let count = (x.data.len() / channels).max(1) as f64;
    let mean = summed(channels, x.data.chunks_exact(channels), |sum, _, x| *sum += f64::from(x));
    let mean: Vec<f64> = mean.iter().map(|sum| sum / count).collect();
    let squares = summed(channels, x.data.chunks_exact(channels), |sum, channel, x| {
        let apart = f64::from(x) - mean[channel];
        *sum += apart * apart;
    });
    let narrow = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x as f32).collect();
    (narrow(&mut mean.iter().copied()), narrow(&mut squares.iter().map(|sum| sum / count)))
}

/// What the way back through a normalisation by the batch's figures gives.
pub(crate) struct Back {
    pub(crate) by_gamma: Vec<f32>,
    pub(crate) by_beta: Vec<f32>,
    pub(crate) by_input: Vec<f32>,
}

/// The way back through a normalisation by the batch's own mean and variance, which depend on the input, too
/// (Ioffe and Szegedy, "Batch Normalization", 2015, section 3).
pub(crate) fn back(x: &Values, gradient: &[f32], gamma: &[f32], mean: &[f32], inverse: &[f32]) -> Back {
    let channels = x.last();
    let count = (x.data.len() / channels).max(1) as f64;
    let by_beta = summed(channels, gradient.chunks_exact(channels), |sum, _, g| *sum += f64::from(g));
    let mut by_gamma = vec![0.0f64; channels];
    for (x, g) in x.data.chunks_exact(channels).zip(gradient.chunks_exact(channels)) {
        for (channel, (x, g)) in x.iter().zip(g).enumerate() {
            by_gamma[channel] += f64::from((x - mean[channel]) * inverse[channel]) * f64::from(*g);
        }
    }
    let mut by_input = Vec::with_capacity(gradient.len());
    let shares: Vec<[f32; 2]> =
        by_beta.iter().zip(&by_gamma).map(|(b, g)| [b, g].map(|sum| (sum / count) as f32)).collect();
    for (x, g) in x.data.chunks_exact(channels).zip(gradient.chunks_exact(channels)) {
        for (channel, (x, g)) in x.iter().zip(g).enumerate() {
            let (inverse, [of_mean, of_variance]) = (inverse[channel], shares[channel]);
            let normal = (x - mean[channel]) * inverse;
            by_input.push(gamma[channel] * inverse * (g - of_mean - normal * of_variance));
        }
    }
    let narrow = |numbers: Vec<f64>| numbers.into_iter().map(|x| x as f32).collect();
    Back { by_gamma: narrow(by_gamma), by_beta: narrow(by_beta), by_input }
}

/// A sum for each place of stretches.
fn summed<'x>(
    channels: usize,
    stretches: impl Iterator<Item = &'x [f32]>,
    mut add: impl FnMut(&mut f64, usize, f32),
) -> Vec<f64> {
    let mut sums = vec![0.0; channels];
    for stretch in stretches {
        for (channel, (sum, x)) in sums.iter_mut().zip(stretch).enumerate() {
            add(sum, channel, *x);
        }
    }
    sums
}
