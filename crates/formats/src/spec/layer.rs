//! [`Layer`]: one layer of a sequential network, as a specification names it.

use serde::{Deserialize, Serialize};

use super::{Activation, Initializer, SpecError};

/// One layer with its options; defaults are Keras'. Images are `[height, width, channels]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Layer {
    /// `activation(x · kernel + bias)` over the last axis.
    Dense {
        /// Width of the output; `None` stands for `labels`: as many as the task asks for.
        units: Option<usize>,
        /// Applied to the sum.
        activation: Activation,
        /// Whether there is a bias.
        use_bias: bool,
        /// How the kernel starts.
        kernel_initializer: Initializer,
        /// How the bias starts.
        bias_initializer: Initializer,
    },
    /// Zeroes a share of its input while training and scales up the rest.
    Dropout {
        /// The share, from 0 to below 1.
        rate: f64,
    },
    /// An activation on its own.
    Activation {
        /// Which.
        function: Activation,
    },
    /// All dimensions but the batch as one.
    Flatten,
    /// A two-dimensional convolution.
    #[serde(rename = "conv2d")]
    Conv2d {
        /// Channels of the output.
        filters: usize,
        /// Height and width of the kernel.
        kernel_size: [usize; 2],
        /// Vertical and horizontal step.
        strides: [usize; 2],
        /// What happens at the edges.
        padding: Padding,
        /// Applied to the sum.
        activation: Activation,
        /// Whether there is a bias.
        use_bias: bool,
        /// How the kernel starts.
        kernel_initializer: Initializer,
        /// How the bias starts.
        bias_initializer: Initializer,
    },
    /// The largest value of each window.
    #[serde(rename = "max_pooling2d")]
    MaxPooling2d {
        /// Height and width of the window.
        pool_size: [usize; 2],
        /// Vertical and horizontal step.
        strides: [usize; 2],
        /// What happens at the edges.
        padding: Padding,
    },
    /// Normalises over the batch while training, with the moving statistics afterwards; last axis.
    BatchNormalization {
        /// Share of the old moving statistics kept at every step.
        momentum: f64,
        /// Added to the variance.
        epsilon: f64,
        /// Whether a learnt shift is added.
        center: bool,
        /// Whether a learnt scale is applied.
        scale: bool,
    },
    /// Integer ids to rows of a learnt table. First layer only; its input is a `sequence` feature.
    Embedding {
        /// Number of ids; `None` takes it from the sequence feature.
        input_dim: Option<usize>,
        /// Width of a row.
        output_dim: usize,
        /// Whether id 0 is padding that the average leaves out.
        mask_zero: bool,
        /// How the table starts.
        embeddings_initializer: Initializer,
    },
    /// The mean over the steps of `[steps, features]`.
    #[serde(rename = "global_average_pooling1d")]
    GlobalAveragePooling1d,
    /// `(x - mean) / sqrt(variance)` over the last axis, with fixed statistics.
    Normalization {
        /// One per feature, or one for all.
        mean: Vec<f64>,
        /// One per feature, or one for all.
        variance: Vec<f64>,
    },
}

/// What a window that overhangs the edge of an image means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// Only whole windows: the output shrinks.
    Valid,
    /// The output has `ceil(size / stride)` cells; where the padding is odd, the extra cell is after.
    Same,
}

/// The largest count of units, filters and the like.
pub(crate) const UNITS_MAX: usize = 65_536;
/// The most elements one row may have anywhere in a network.
const ROW_ELEMENTS_MAX: usize = 16 << 20;

impl Layer {
    /// The name a message gives this layer.
    pub fn kind(&self) -> &'static str {
        match self {
            Layer::Dense { .. } => "dense",
            Layer::Dropout { .. } => "dropout",
            Layer::Activation { .. } => "activation",
            Layer::Flatten => "flatten",
            Layer::Conv2d { .. } => "conv2d",
            Layer::MaxPooling2d { .. } => "max_pooling2d",
            Layer::BatchNormalization { .. } => "batch_normalization",
            Layer::Embedding { .. } => "embedding",
            Layer::GlobalAveragePooling1d => "global_average_pooling1d",
            Layer::Normalization { .. } => "normalization",
        }
    }

    /// The shape of one row of output, given one row of input; both without the batch dimension.
    ///
    /// # Errors
    /// If the layer cannot take this input; the text names neither place nor layer, the caller does.
    pub fn output_shape(&self, input: &[usize]) -> Result<Vec<usize>, String> {
        let shape = match self {
            Layer::Dense { units, .. } => {
                let units = units.ok_or("its width is not decided yet")?;
                let (_, outer) = input.split_last().ok_or("needs an input of at least one dimension")?;
                [outer, &[units]].concat()
            }
            Layer::Flatten => vec![input.iter().product()],
            Layer::Conv2d { filters, kernel_size, strides, padding, .. } => {
                let [h, w, _] = image(input)?;
                let [h, w] = windows([h, w], *kernel_size, *strides, *padding)?;
                vec![h, w, *filters]
            }
            Layer::MaxPooling2d { pool_size, strides, padding } => {
                let [h, w, c] = image(input)?;
                let [h, w] = windows([h, w], *pool_size, *strides, *padding)?;
                vec![h, w, c]
            }
            Layer::Embedding { output_dim, .. } => match input {
                [steps] => vec![*steps, *output_dim],
                _ => return Err(format!("needs a sequence of ids, not rows of shape {input:?}")),
            },
            Layer::GlobalAveragePooling1d => match input {
                [_, features] => vec![*features],
                _ => return Err(format!("needs rows of shape [steps, features], not {input:?}")),
            },
            Layer::Normalization { mean, variance } => {
                let last = input.last().copied().unwrap_or(1);
                if [mean.len(), variance.len()].iter().any(|&n| n != 1 && n != last) {
                    return Err(format!(
                        "has {} means and {} variances for {last} features",
                        mean.len(),
                        variance.len()
                    ));
                }
                input.to_vec()
            }
            Layer::Dropout { .. } | Layer::Activation { .. } | Layer::BatchNormalization { .. } => {
                input.to_vec()
            }
        };
        match shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) {
            Some(n) if n <= ROW_ELEMENTS_MAX => Ok(shape),
            _ => {
                Err(format!("gives rows of shape {shape:?}, beyond the limit of {ROW_ELEMENTS_MAX} elements"))
            }
        }
    }

    /// Names and shapes of this layer's weights in Keras' order and layout, for rows of shape `input`.
    pub fn weights(&self, input: &[usize]) -> Vec<(&'static str, Vec<usize>)> {
        let last = input.last().copied().unwrap_or(1);
        match self {
            Layer::Dense { units, use_bias, .. } => {
                let units = units.unwrap_or(0);
                with_bias(*use_bias, units, vec![last, units])
            }
            Layer::Conv2d { filters, kernel_size, use_bias, .. } => {
                with_bias(*use_bias, *filters, vec![kernel_size[0], kernel_size[1], last, *filters])
            }
            Layer::BatchNormalization { center, scale, .. } => {
                let mut weights = Vec::new();
                if *scale {
                    weights.push(("gamma", vec![last]));
                }
                if *center {
                    weights.push(("beta", vec![last]));
                }
                weights.push(("moving_mean", vec![last]));
                weights.push(("moving_variance", vec![last]));
                weights
            }
            Layer::Embedding { input_dim, output_dim, .. } => {
                vec![("embeddings", vec![input_dim.unwrap_or(0), *output_dim])]
            }
            _ => Vec::new(),
        }
    }
}

/// The row shapes before the first layer, between layers and after the last.
///
/// # Errors
/// The first layer that cannot take its input, by number (from 0) and kind.
pub fn shapes(input: &[usize], layers: &[Layer]) -> Result<Vec<Vec<usize>>, SpecError> {
    let mut shapes = vec![input.to_vec()];
    let mut current = input.to_vec();
    for (i, layer) in layers.iter().enumerate() {
        current = layer
            .output_shape(&current)
            .map_err(|message| SpecError::new(format!("layers[{i}] ({})", layer.kind()), message))?;
        shapes.push(current.clone());
    }
    Ok(shapes)
}

fn with_bias(use_bias: bool, width: usize, kernel: Vec<usize>) -> Vec<(&'static str, Vec<usize>)> {
    let mut weights = vec![("kernel", kernel)];
    if use_bias {
        weights.push(("bias", vec![width]));
    }
    weights
}

fn image(input: &[usize]) -> Result<[usize; 3], String> {
    <[usize; 3]>::try_from(input)
        .map_err(|_| format!("needs images of shape [height, width, channels], not rows of shape {input:?}"))
}

fn windows(
    size: [usize; 2],
    window: [usize; 2],
    strides: [usize; 2],
    padding: Padding,
) -> Result<[usize; 2], String> {
    let mut out = [0; 2];
    for axis in 0..2 {
        out[axis] = match padding {
            Padding::Same => size[axis].div_ceil(strides[axis]),
            Padding::Valid if window[axis] > size[axis] => {
                return Err(format!("has a window of {window:?}, larger than its input of {size:?}"));
            }
            Padding::Valid => (size[axis] - window[axis]) / strides[axis] + 1,
        };
    }
    Ok(out)
}
