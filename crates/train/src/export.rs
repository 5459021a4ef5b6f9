//! A trained network to the files of an artifact.

use formats::manifest::{MANIFEST_FILE, MODEL_FILE, Manifest, WEIGHTS_FILE, Weights};
use formats::spec::{Activation, Layer};
use tensor::export;

use crate::TrainError;
use crate::network::{Net, Param};

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
        let (shape, values) = keras_layout(param);
        weights.push(name(param.layer, param.name), shape, values)?;
    }
    Ok(weights)
}

/// A kernel `[filters, channels, height, width]` as `[height, width, channels, filters]`.
fn keras_layout(param: &Param) -> (Vec<usize>, Vec<f32>) {
    let [f, c, h, w] = match *param.shape.as_slice() {
        [f, c, h, w] => [f, c, h, w],
        _ => return (param.shape.clone(), param.values.clone()),
    };
    let mut values = Vec::with_capacity(param.values.len());
    for y in 0..h {
        for x in 0..w {
            for channel in 0..c {
                values.extend((0..f).map(|filter| param.values[((filter * c + channel) * h + y) * w + x]));
            }
        }
    }
    (vec![h, w, c, f], values)
}

/// A kernel in Keras' layout as `[filters, channels, height, width]`.
pub(crate) fn burn_layout(shape: &[usize], values: &[f32]) -> Vec<f32> {
    let [h, w, c, f] = match *shape {
        [h, w, c, f] => [h, w, c, f],
        _ => return values.to_vec(),
    };
    let mut turned = Vec::with_capacity(values.len());
    for filter in 0..f {
        for channel in 0..c {
            for y in 0..h {
                turned.extend((0..w).map(|x| values[((y * w + x) * c + channel) * f + filter]));
            }
        }
    }
    turned
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
            kernel: all("kernel"),
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
