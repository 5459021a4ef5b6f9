//! [`of_keras`]: an archive's network as a chain of plain layers.

use formats::keras::{self, Elements, Kind, Model, Operation, Window};

use super::Chain;
use crate::export::{Activation, Layer};

/// The chain that `model` is.
///
/// # Errors
/// If it is none: what stands in the way, by name.
pub fn of_keras(model: &Model) -> Result<Chain, String> {
    let ([input], [output]) = (model.inputs.as_slice(), model.outputs.as_slice()) else {
        return Err("it has several inputs or outputs".to_owned());
    };
    let input_shape = input.shape.iter().copied().collect::<Option<Vec<usize>>>();
    let input_shape = input_shape.ok_or("its input has dimensions of any length")?;
    let mut layers = Vec::with_capacity(model.nodes.len());
    let mut last = 0;
    for (i, node) in model.nodes.iter().enumerate() {
        let named = model.layers.get(node.layer).ok_or("it is no whole model")?;
        if is_mask_of_ids(model, i + 1) {
            continue;
        }
        let masks = node.masks.iter().flatten();
        if node.inputs != [last] || masks.into_iter().any(|place| !is_mask_of_ids(model, *place)) {
            return Err(format!("{} does not take what the layer before it gives", named.name));
        }
        last = i + 1;
        let plain = plain(&named.layer).ok_or_else(|| format!("{} is none of them", named.name))?;
        layers.extend(plain);
    }
    if output.place != last {
        return Err("its output is not what its last layer gives".to_owned());
    }
    let integers = input.elements == Elements::Integers;
    if integers && !matches!(layers.first(), Some(Layer::Embedding { .. })) {
        return Err("it takes integers that are not looked up in a table".to_owned());
    }
    Ok(Chain { input_shape, layers })
}

/// Whether what lies at `place` says which of the network's ids are not 0, as an embedding itself says it.
fn is_mask_of_ids(model: &Model, place: usize) -> bool {
    let node = place.checked_sub(1).and_then(|node| model.nodes.get(node));
    let named = node.filter(|node| node.inputs == [0]).and_then(|node| model.layers.get(node.layer));
    let zeros = Operation::NotEqual { number: 0.0 };
    named.is_some_and(|named| named.layer == keras::Layer::Operation(zeros))
}

/// One layer as the plain layers that do the same.
fn plain(layer: &keras::Layer) -> Option<Vec<Layer>> {
    Some(match layer {
        keras::Layer::Identity => vec![],
        keras::Layer::Dense { kernel, bias, activation } => vec![Layer::Dense {
            units: *kernel.shape.last()?,
            kernel: kernel.values.clone(),
            bias: bias.as_ref().map(|bias| bias.values.clone()),
            activation: function(*activation)?,
        }],
        keras::Layer::Activation(activation) => vec![Layer::Activation(function(*activation)?)],
        keras::Layer::Flatten => vec![Layer::Flatten],
        keras::Layer::Conv { kernel, bias, window, groups: 1, activation } => {
            let ([rows, columns], strides) =
                (square(window)?, <[usize; 2]>::try_from(window.strides.as_slice()).ok()?);
            let &[_, _, channels, filters] = kernel.shape.as_slice() else { return None };
            let mut turned = Vec::with_capacity(kernel.values.len());
            for filter in 0..filters {
                for channel in 0..channels {
                    let cell =
                        |at: usize| kernel.values.get((at * channels + channel) * filters + filter).copied();
                    turned.extend((0..rows * columns).map(cell).collect::<Option<Vec<f32>>>()?);
                }
            }
            vec![Layer::Conv2d {
                filters,
                kernel_size: [rows, columns],
                kernel: turned,
                bias: bias.as_ref().map(|bias| bias.values.clone()),
                strides,
                padding: window.padding,
                activation: function(*activation)?,
            }]
        }
        keras::Layer::Pooling { kind: Kind::Max, window } => vec![Layer::MaxPooling2d {
            pool_size: square(window)?,
            strides: <[usize; 2]>::try_from(window.strides.as_slice()).ok()?,
            padding: window.padding,
        }],
        keras::Layer::GlobalPooling { kind: Kind::Average, rank: 1, keep: false } => {
            vec![Layer::GlobalAveragePooling1d]
        }
        keras::Layer::BatchNormalization { gamma, beta, mean, variance, epsilon, axis: _ } => {
            vec![Layer::BatchNormalization {
                gamma: gamma.as_ref().map(|gamma| gamma.values.clone()),
                beta: beta.as_ref().map(|beta| beta.values.clone()),
                mean: mean.values.clone(),
                variance: variance.values.clone(),
                epsilon: *epsilon,
            }]
        }
        keras::Layer::Normalization { mean, variance, invert: false } => {
            vec![Layer::Normalization { mean: mean.clone(), variance: variance.clone() }]
        }
        // `x * s + o` is `(x + o / s) / (1 / s)`.
        keras::Layer::Rescaling { scale, offset } => {
            let (&[scale], &[offset]) = (scale.as_slice(), offset.as_slice()) else { return None };
            if scale.is_nan() || !(1e-6..1e6).contains(&scale) {
                return None;
            }
            let (mean, deviation) = (-offset / scale, scale.recip());
            vec![Layer::Normalization { mean: vec![mean], variance: vec![deviation * deviation] }]
        }
        keras::Layer::Embedding { table, mask_zero } => vec![Layer::Embedding {
            rows: *table.shape.first()?,
            width: *table.shape.last()?,
            table: table.values.clone(),
            mask_zero: *mask_zero,
        }],
        _ => return None,
    })
}

/// The extent of an image's window whose cells lie together.
fn square(window: &Window) -> Option<[usize; 2]> {
    let plain = !window.causal && window.dilation.iter().all(|d| *d == 1);
    <[usize; 2]>::try_from(window.size.as_slice()).ok().filter(|_| plain)
}

fn function(activation: keras::Activation) -> Option<Activation> {
    Some(match activation {
        keras::Activation::Linear => Activation::Linear,
        keras::Activation::Relu { max: None } => Activation::Relu,
        keras::Activation::LeakyRelu { negative_slope } => Activation::LeakyRelu { negative_slope },
        keras::Activation::Sigmoid => Activation::Sigmoid,
        keras::Activation::Tanh => Activation::Tanh,
        keras::Activation::Softmax => Activation::Softmax,
        keras::Activation::Gelu { approximate: false } => Activation::Gelu { approximate: false },
        keras::Activation::Elu { alpha } => Activation::Elu { alpha },
        keras::Activation::Selu => Activation::Selu,
        keras::Activation::Softplus => Activation::Softplus,
        _ => return None,
    })
}
