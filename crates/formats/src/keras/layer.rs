//! [`Layer`]: what one layer of a Keras network computes, with its weights.

use super::{Activation, Attention, Lookup, Operation};
use crate::spec::Padding;

/// Numbers in a shape, the last dimension running first.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Its dimensions, as Keras has them.
    pub shape: Vec<usize>,
    /// Its elements.
    pub values: Vec<f32>,
}

/// One layer, as inference runs it. Channels come last; images are `[height, width, channels]`, but for
/// [`Layer::ChannelsFirst`].
#[derive(Debug, Clone, PartialEq)]
pub enum Layer {
    /// Nothing: what only training does, such as dropout.
    Identity,
    /// The layer within, of steps or images that are `[channels, …]` where it is applied, and stay so.
    ChannelsFirst(Box<Layer>),
    /// `activation(x · kernel + bias)` over the last axis.
    Dense {
        /// `[inputs, units]`
        kernel: Array,
        /// `[units]`
        bias: Option<Array>,
        /// Applied to the sum.
        activation: Activation,
    },
    /// A function of single elements, or over the last axis.
    Activation(Activation),
    /// `x` where positive, else `alpha * x`.
    PRelu {
        /// One number for each element of a row, or 1 long where elements share it.
        alpha: Array,
    },
    /// All dimensions of a row as one.
    Flatten,
    /// The same elements in another shape; at most one dimension is -1, what is left.
    Reshape {
        /// Of one row.
        shape: Vec<i64>,
    },
    /// The dimensions of a row in another order, counted from 1.
    Permute {
        /// Where each comes from.
        dims: Vec<usize>,
    },
    /// A row of features, so often.
    RepeatVector {
        /// How often.
        n: usize,
    },
    /// A convolution over steps or images.
    Conv {
        /// `[…, channels of a group, filters]`
        kernel: Array,
        /// `[filters]`
        bias: Option<Array>,
        /// How it moves.
        window: Window,
        /// Parts of the channels that do not see each other.
        groups: usize,
        /// Applied to the sum.
        activation: Activation,
    },
    /// A convolution turned round: what it gives is larger.
    ConvTranspose {
        /// `[…, filters, channels]`
        kernel: Array,
        /// `[filters]`
        bias: Option<Array>,
        /// How it moves.
        window: Window,
        /// Applied to the sum.
        activation: Activation,
    },
    /// A convolution of each channel by itself.
    DepthwiseConv {
        /// `[…, channels, filters of each]`
        kernel: Array,
        /// `[channels * filters of each]`
        bias: Option<Array>,
        /// How it moves.
        window: Window,
        /// Applied to the sum.
        activation: Activation,
    },
    /// A convolution of each channel by itself, then one over the channels of each cell.
    SeparableConv {
        /// `[…, channels, filters of each]`
        depthwise: Array,
        /// `[1…, channels * filters of each, filters]`
        pointwise: Array,
        /// `[filters]`
        bias: Option<Array>,
        /// How it moves.
        window: Window,
        /// Applied to the sum.
        activation: Activation,
    },
    /// The largest value, or the mean, of each window.
    Pooling {
        /// Which.
        kind: Kind,
        /// How it moves.
        window: Window,
    },
    /// The largest value, or the mean, of each channel.
    GlobalPooling {
        /// Which.
        kind: Kind,
        /// Dimensions of steps or images: 1 or 2.
        rank: usize,
        /// Whether these dimensions stay, each 1 long.
        keep: bool,
    },
    /// Zeros around steps or an image.
    ZeroPadding {
        /// How many.
        sides: Sides,
    },
    /// Steps or an image without its edges.
    Cropping {
        /// How much is cut off.
        sides: Sides,
    },
    /// Each step or cell, several times.
    UpSampling {
        /// How often, along each dimension.
        size: Vec<usize>,
        /// Whether values between two are drawn on the line between these.
        bilinear: bool,
    },
    /// `x * scale + offset`
    Rescaling {
        /// One number, or one for each channel.
        scale: Vec<f32>,
        /// One number, or one for each channel.
        offset: Vec<f32>,
    },
    /// `(x - mean) / max(sqrt(variance), 1e-7)`, or back.
    Normalization {
        /// One number, or one for each channel.
        mean: Vec<f32>,
        /// One number, or one for each channel.
        variance: Vec<f32>,
        /// Whether it goes back: `mean + x * max(sqrt(variance), 1e-7)`.
        invert: bool,
    },
    /// `gamma * (x - mean) / sqrt(variance + epsilon) + beta` over the last axis.
    BatchNormalization {
        /// Scale; absent is 1.
        gamma: Option<Array>,
        /// Shift; absent is 0.
        beta: Option<Array>,
        /// Moving mean.
        mean: Array,
        /// Moving variance.
        variance: Array,
        /// Added to the variance.
        epsilon: f32,
        /// The axis that has statistics; must turn out to be the last.
        axis: i64,
    },
    /// Each cell's channels brought to mean 0 and variance 1, then `gamma * x + beta`.
    LayerNormalization {
        /// Scale; absent is 1.
        gamma: Option<Array>,
        /// Shift; absent is 0.
        beta: Option<Array>,
        /// Added to the variance.
        epsilon: f32,
        /// The axis that is normalised; must turn out to be the last.
        axis: i64,
    },
    /// The channels of each of some groups brought to mean 0 and variance 1 over all cells, then `gamma * x + beta`.
    GroupNormalization {
        /// How many groups.
        groups: usize,
        /// Scale of each channel; absent is 1.
        gamma: Option<Array>,
        /// Shift of each channel; absent is 0.
        beta: Option<Array>,
        /// Added to the variance.
        epsilon: f32,
        /// The axis of the channels: the last, or the first.
        axis: i64,
    },
    /// `gamma * x / sqrt(mean(x * x) + epsilon)` over the last axis.
    RmsNormalization {
        /// Scale of each channel.
        gamma: Array,
        /// Added to the mean.
        epsilon: f32,
        /// The axis that is normalised; must turn out to be the last.
        axis: i64,
    },
    /// Rows along some axes brought to length 1.
    UnitNormalization {
        /// Which, the batch being axis 0.
        axes: Vec<i64>,
    },
    /// Texts or integers to their places in a vocabulary.
    Lookup(Lookup),
    /// Integers to numbers each of which stands for one.
    CategoryEncoding {
        /// How many.
        width: usize,
        /// Whether a row's integers are counted, not only seen; `None` gives those of each apart.
        counted: Option<bool>,
    },
    /// Integers to rows of a table.
    Embedding {
        /// `[rows, width]`
        table: Array,
        /// Whether id 0 marks steps that do not count.
        mask_zero: bool,
    },
    /// Zeros in place of steps that hold nothing but one number; these do not count from here on.
    Masking {
        /// The number.
        value: f32,
    },
    /// Steps that look at others.
    Attention(Attention),
    /// One of `keras.ops`.
    Operation(Operation),
    /// Several values of one shape, or of shapes that can be stretched to one, element by element.
    Merge(Merge),
    /// Several values behind each other.
    Concatenate {
        /// Along which axis, the batch being axis 0.
        axis: i64,
    },
    /// Products of two values, summed along an axis of each.
    Dot {
        /// Which axes, the batch being axis 0.
        axes: [i64; 2],
        /// Whether both are brought to length 1 along these before.
        normalize: bool,
    },
    /// What the layer that gives the value gives besides.
    Part {
        /// Which, the value itself being number 0.
        number: usize,
    },
    /// Steps seen one after the other, perhaps with what is remembered from before them.
    Recurrent(Recurrent),
    /// Steps seen from both ends.
    Bidirectional {
        /// From the first on.
        forward: Recurrent,
        /// From the last on.
        backward: Recurrent,
        /// How the two become one; `None` puts them behind each other.
        merge: Option<Merge>,
    },
}

/// What a pooling keeps of many values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The largest.
    Max,
    /// Their mean.
    Average,
}

/// What becomes of several values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// Their sum.
    Add,
    /// The first less the second.
    Subtract,
    /// Their product.
    Multiply,
    /// Their mean.
    Average,
    /// The largest.
    Maximum,
    /// The smallest.
    Minimum,
}

/// A window that moves over steps or an image; its three lists have one number for each dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Its extent.
    pub size: Vec<usize>,
    /// How far it moves at a time.
    pub strides: Vec<usize>,
    /// How far its cells lie apart.
    pub dilation: Vec<usize>,
    /// What happens at the edges.
    pub padding: Padding,
    /// Whether all that is added at the edges comes before the first step.
    pub causal: bool,
}

/// Cells before and after, along each dimension.
pub type Sides = Vec<[usize; 2]>;

/// A recurrent layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Recurrent {
    /// What it remembers, and how.
    pub cells: Cells,
    /// `[inputs, gates * units]`
    pub kernel: Array,
    /// `[units, gates * units]`
    pub recurrent: Array,
    /// `[gates * units]`, or `[2, gates * units]` of a GRU: of its inputs, and of what it remembers.
    pub bias: Option<Array>,
    /// Whether it gives every step, not only the last.
    pub sequences: bool,
    /// Whether it begins with the last step.
    pub backwards: bool,
    /// Whether it also gives what it remembers at the end.
    pub states: bool,
    /// Whether it gives zeros where a step is masked, instead of what it gave before.
    pub zero_masked: bool,
}

/// What a recurrent layer is made of. Functions that are not named are Keras' own, sigmoid and tanh.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cells {
    /// Long short-term memory.
    Lstm,
    /// Gated recurrent units whose reset gate acts behind the product.
    Gru,
    /// What was given last and what comes, added up.
    Simple {
        /// Applied to the sum.
        activation: Activation,
    },
}
