//! A trained network to the files of an artifact.

use formats::manifest::{MANIFEST_FILE, MODEL_FILE, Manifest, WEIGHTS_FILE, Weights};
use formats::spec::{Activation, Layer};
use tensor::export;

use crate::TrainError;
use crate::network::Net;

/// Writes `manifest`, and the network as ONNX and as weights.
pub(crate) fn files(manifest: &Manifest, net: &Net) -> Result<Vec<(String, Vec<u8>)>, TrainError> {
    let layers = layers(net)?;
    Ok(vec![
        (MANIFEST_FILE.to_owned(), manifest.to_json()?),
        (MODEL_FILE.to_owned(), export::sequential(&net.input_shape, &layers)?),
        (WEIGHTS_FILE.to_owned(), weights(net)?.to_bytes()?),
    ])
}

/// The name of a weight array in the weights file.
pub(crate) fn name(layer: usize, weight: &str) -> String {
    format!("layers.{layer}.{weight}")
}

/// The weights in Keras' layout.
fn weights(net: &Net) -> Result<Weights, TrainError> {
    let mut weights = Weights::default();
    for param in &net.params {
        weights.push(name(param.layer, param.name), param.shape.clone(), param.values.clone())?;
    }
    Ok(weights)
}

/// A kernel `[filters, channels, height, width]` as Keras has it, `[height, width, channels, filters]` of these sizes.
pub(crate) fn filters_last([h, w, c, f]: [usize; 4], values: &[f32]) -> Vec<f32> {
    let at = |[y, x, channel, filter]: [usize; 4]| ((filter * c + channel) * h + y) * w + x;
    turned([h, w, c, f], values, at)
}

/// A kernel `[height, width, channels, filters]` of these sizes as `[filters, channels, height, width]`.
fn filters_first([h, w, c, f]: [usize; 4], values: &[f32]) -> Vec<f32> {
    let at = |[filter, channel, y, x]: [usize; 4]| ((y * w + x) * c + channel) * f + filter;
    turned([f, c, h, w], values, at)
}

/// An array of `sizes` whose numbers are where `at` says.
fn turned([a, b, c, d]: [usize; 4], values: &[f32], at: impl Fn([usize; 4]) -> usize) -> Vec<f32> {
    let place = |n: usize| [n / d / c / b, n / d / c % b, n / d % c, n % d];
    (0..a * b * c * d).filter_map(|n| values.get(at(place(n))).copied()).collect()
}

/// The layers with their weights, as the ONNX writer takes them.
fn layers(net: &Net) -> Result<Vec<export::Layer>, TrainError> {
    let mut layers = Vec::new();
    let mut shape = net.input_shape.clone();
    for (i, layer) in net.layers.iter().enumerate() {
        if let Some(layer) = one(net, i, layer, &shape) {
            layers.push(layer);
        }
        shape = layer.output_shape(&shape).map_err(TrainError::Unwritable)?;
    }
    Ok(layers)
}

/// One layer; `None` for those that do nothing at inference.
fn one(net: &Net, i: usize, layer: &Layer, input: &[usize]) -> Option<export::Layer> {
    let find =
        |name: &str| net.params.iter().find(|p| p.layer == i && p.name == name).map(|p| p.values.clone());
    let all = |name: &str| find(name).unwrap_or_default();
    Some(match layer {
        Layer::Dropout { .. } => return None,
        Layer::Dense { units, activation, .. } => export::Layer::Dense {
            units: units.unwrap_or(0),
            kernel: all("kernel"),
            bias: find("bias"),
            activation: function(*activation),
        },
        Layer::Conv2d { filters, kernel_size, strides, padding, activation, .. } => export::Layer::Conv2d {
            filters: *filters,
            kernel_size: *kernel_size,
            kernel: filters_first(
                [kernel_size[0], kernel_size[1], input.last().copied().unwrap_or(1), *filters],
                &all("kernel"),
            ),
            bias: find("bias"),
            strides: *strides,
            padding: *padding,
            activation: function(*activation),
        },
        Layer::MaxPooling2d { pool_size, strides, padding } => {
            export::Layer::MaxPooling2d { pool_size: *pool_size, strides: *strides, padding: *padding }
        }
        Layer::BatchNormalization { epsilon, .. } => export::Layer::BatchNormalization {
            gamma: find("gamma"),
            beta: find("beta"),
            mean: all("moving_mean"),
            variance: all("moving_variance"),
            epsilon: *epsilon as f32,
        },
        Layer::Embedding { input_dim, output_dim, mask_zero, .. } => export::Layer::Embedding {
            rows: input_dim.unwrap_or(0),
            width: *output_dim,
            table: all("embeddings"),
            mask_zero: *mask_zero,
        },
        Layer::Normalization { mean, variance } => {
            let last = input.last().copied().unwrap_or(1);
            let spread = |v: &[f64]| (0..last).map(|i| v[i % v.len().max(1)] as f32).collect();
            export::Layer::Normalization { mean: spread(mean), variance: spread(variance) }
        }
        Layer::Flatten => export::Layer::Flatten,
        Layer::GlobalAveragePooling1d => export::Layer::GlobalAveragePooling1d,
        Layer::Activation { function: f } => export::Layer::Activation(function(*f)),
    })
}

fn function(activation: Activation) -> export::Activation {
    match activation {
        Activation::Linear => export::Activation::Linear,
        Activation::Relu => export::Activation::Relu,
        Activation::Sigmoid => export::Activation::Sigmoid,
        Activation::Tanh => export::Activation::Tanh,
        Activation::Softmax => export::Activation::Softmax,
        Activation::Gelu => export::Activation::Gelu { approximate: false },
        Activation::Elu => export::Activation::Elu { alpha: 1.0 },
        Activation::Selu => export::Activation::Selu,
        Activation::Softplus => export::Activation::Softplus,
        Activation::LeakyRelu { negative_slope } => export::Activation::LeakyRelu { negative_slope },
    }
}
