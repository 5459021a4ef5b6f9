//! The largest value of each window, and the mean over steps.

use super::window::Windows;
use crate::values::Values;

/// The largest number of each window and channel, and which of its image's numbers that is.
pub(crate) fn largest(x: &Values, windows: &Windows) -> (Values, Vec<u32>) {
    let ([_, width], [down, across], channels) = (windows.image, windows.made, x.last());
    let count = x.rows * down * across * channels;
    let (mut largest, mut places) = (vec![f32::NEG_INFINITY; count], vec![0; count]);
    let cells = largest.chunks_exact_mut(channels).zip(places.chunks_exact_mut(channels));
    for (number, (largest, places)) in cells.enumerate() {
        let (image, line, column) = (number / (down * across), number / across % down, number % across);
        let image = image_of(&x.data, x, image);
        let across = windows.part(1, column).within;
        for y in windows.part(0, line).within {
            for pixel in y * width + across.start..y * width + across.end {
                let from = pixel * channels;
                let seen = largest.iter_mut().zip(places.iter_mut()).zip(&image[from..from + channels]);
                for (channel, ((largest, place), x)) in seen.enumerate() {
                    if *x > *largest || x.is_nan() {
                        // A row has no more than 16,777,216 numbers.
                        (*largest, *place) = (*x, (from + channel) as u32);
                    }
                }
            }
        }
    }
    (x.with(vec![down, across, channels], largest), places)
}

/// The gradient by the input: each number's goes to where it came from.
pub(crate) fn largest_back(x: &Values, gradient: &[f32], places: &[u32]) -> Vec<f32> {
    let mut by_input = vec![0.0; x.data.len()];
    let each = gradient.len() / x.rows.max(1);
    let images = gradient.chunks_exact(each.max(1)).zip(places.chunks_exact(each.max(1)));
    for (image, (gradient, places)) in by_input.chunks_exact_mut(width_of(x)).zip(images) {
        for (g, place) in gradient.iter().zip(places) {
            image[*place as usize] += g;
        }
    }
    by_input
}

/// What each step counts in a mean over steps: alike, or those that the `mask` leaves.
pub(crate) fn shares(x: &Values, mask: Option<Vec<f32>>) -> Vec<f32> {
    let steps = x.shape.first().copied().unwrap_or(1).max(1);
    let mut shares = mask.unwrap_or_else(|| vec![1.0; x.rows * steps]);
    for row in shares.chunks_exact_mut(steps) {
        let count = row.iter().sum::<f32>().max(1.0);
        row.iter_mut().for_each(|share| *share /= count);
    }
    shares
}

/// The mean over the steps of `[steps, features]`, of which each counts its share.
pub(crate) fn mean(x: &Values, shares: &[f32]) -> Values {
    let features = x.last();
    let mut means = vec![0.0; x.rows * features];
    let steps = shares.len() / x.rows.max(1);
    for ((at, share), step) in shares.iter().enumerate().zip(x.data.chunks_exact(features)) {
        let mean = &mut means[at / steps * features..][..features];
        mean.iter_mut().zip(step).for_each(|(mean, x)| *mean += share * x);
    }
    x.with(vec![features], means)
}

/// The gradient by the input of a mean.
pub(crate) fn mean_back(x: &Values, gradient: &[f32], shares: &[f32]) -> Vec<f32> {
    let features = x.last();
    let steps = shares.len() / x.rows.max(1);
    let row = |at: usize| &gradient[at / steps * features..][..features];
    shares.iter().enumerate().flat_map(|(at, share)| row(at).iter().map(move |g| share * g)).collect()
}

fn width_of(x: &Values) -> usize {
    (x.data.len() / x.rows.max(1)).max(1)
}

fn image_of<'v>(data: &'v [f32], x: &Values, image: usize) -> &'v [f32] {
    &data[image * width_of(x)..][..width_of(x)]
}
