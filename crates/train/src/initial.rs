//! How weights start.

use formats::spec::{Initializer, Layer};

use crate::random::Random;

/// First values of a weight array of `shape`.
pub(crate) fn start(
    layer: &Layer,
    name: &str,
    shape: &[usize],
    count: usize,
    random: &mut Random,
) -> Vec<f32> {
    let initializer = match (layer, name) {
        (Layer::Dense { kernel_initializer, .. } | Layer::Conv2d { kernel_initializer, .. }, "kernel") => {
            *kernel_initializer
        }
        (Layer::Dense { bias_initializer, .. } | Layer::Conv2d { bias_initializer, .. }, "bias") => {
            *bias_initializer
        }
        (Layer::Embedding { embeddings_initializer, .. }, _) => *embeddings_initializer,
        (_, "gamma" | "moving_variance") => Initializer::Ones,
        _ => Initializer::Zeros,
    };
    let (inputs, outputs) = fans(shape);
    (0..count).map(|_| draw(initializer, inputs, outputs, random)).collect()
}

/// Inputs and outputs of one unit, as Keras counts them.
fn fans(shape: &[usize]) -> (f64, f64) {
    match shape {
        [n] => (*n as f64, *n as f64),
        [i, o] => (*i as f64, *o as f64),
        [h, w, c, f] => ((h * w * c) as f64, (h * w * f) as f64),
        _ => (1.0, 1.0),
    }
}

fn draw(initializer: Initializer, inputs: f64, outputs: f64, random: &mut Random) -> f32 {
    let mean = (inputs + outputs) / 2.0;
    let mut uniform = |limit: f64| (limit * (2.0 * random.unit() - 1.0)) as f32;
    match initializer {
        Initializer::Zeros => 0.0,
        Initializer::Ones => 1.0,
        Initializer::GlorotUniform => uniform((3.0 / mean).sqrt()),
        Initializer::HeUniform => uniform((6.0 / inputs).sqrt()),
        Initializer::LecunUniform => uniform((3.0 / inputs).sqrt()),
        Initializer::RandomUniform => uniform(0.05),
        Initializer::GlorotNormal => truncated(1.0 / mean, random),
        Initializer::HeNormal => truncated(2.0 / inputs, random),
        Initializer::LecunNormal => truncated(1.0 / inputs, random),
        Initializer::RandomNormal => (random.normal() * 0.05) as f32,
    }
}

/// Normal of this variance after being cut at two deviations.
fn truncated(variance: f64, random: &mut Random) -> f32 {
    // The deviation of a standard normal cut at ±2.
    const CUT: f64 = 0.879_625_661_034_239_8;
    loop {
        let z = random.normal();
        if z.abs() <= 2.0 {
            return (z * variance.sqrt() / CUT) as f32;
        }
    }
}
