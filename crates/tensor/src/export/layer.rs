//! [`Layer`]: one layer of a sequential network, with its weights.

use super::{Activation, Padding};

/// One layer, as inference runs it. `Dropout` has no entry: at inference it does nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Layer {
    /// `activation(x · kernel + bias)` over the last axis.
    Dense {
        /// Width of the output.
        units: usize,
        /// `[inputs, units]`, row-major: as Keras keeps it.
        kernel: Vec<f32>,
        /// `[units]`
        bias: Option<Vec<f32>>,
        /// Applied to the sum.
        activation: Activation,
    },
    /// A two-dimensional convolution over `[height, width, channels]`.
    Conv2d {
        /// Channels of the output.
        filters: usize,
        /// Height and width of the kernel.
        kernel_size: [usize; 2],
        /// `[filters, channels, kernel height, kernel width]`, row-major: as PyTorch keeps it.
        /// Keras keeps `[height, width, channels, filters]`.
        kernel: Vec<f32>,
        /// `[filters]`
        bias: Option<Vec<f32>>,
        /// Vertical and horizontal step.
        strides: [usize; 2],
        /// What happens at the edges.
        padding: Padding,
        /// Applied to the sum.
        activation: Activation,
    },
    /// The largest value of each window of `[height, width, channels]`.
    MaxPooling2d {
        /// Height and width of the window.
        pool_size: [usize; 2],
        /// Vertical and horizontal step; Keras' default is `pool_size`.
        strides: [usize; 2],
        /// What happens at the edges; padded cells never win.
        padding: Padding,
    },
    /// `gamma * (x - mean) / sqrt(variance + epsilon) + beta` over the last axis, with the moving
    /// statistics of training. All four are `[channels]`.
    BatchNormalization {
        /// Scale; absent is 1.
        gamma: Option<Vec<f32>>,
        /// Shift; absent is 0.
        beta: Option<Vec<f32>>,
        /// Moving mean.
        mean: Vec<f32>,
        /// Moving variance.
        variance: Vec<f32>,
        /// Keras' default is 1e-3.
        epsilon: f32,
    },
    /// `(x - mean) / max(sqrt(variance), 1e-7)` over the last axis; both are `[channels]`.
    Normalization {
        /// Mean of the training data.
        mean: Vec<f32>,
        /// Variance of the training data.
        variance: Vec<f32>,
    },
    /// All dimensions but the batch as one.
    Flatten,
    /// Integer ids to rows of a table: `[…]` becomes `[…, width]`. Only as the first layer; the model's
    /// input is then int32.
    Embedding {
        /// Number of rows; every id must be less.
        rows: usize,
        /// Length of a row.
        width: usize,
        /// `[rows, width]`
        table: Vec<f32>,
        /// Whether id 0 is padding that a following [`Layer::GlobalAveragePooling1d`] leaves out.
        mask_zero: bool,
    },
    /// The mean over `steps` of `[steps, features]`; over the unmasked steps if the embedding masks. A
    /// row with no unmasked step gives zeros.
    GlobalAveragePooling1d,
    /// An activation on its own.
    Activation(Activation),
    /// The same elements, row-major, under another shape.
    Reshape {
        /// The new shape without the batch dimension.
        shape: Vec<usize>,
    },
}
