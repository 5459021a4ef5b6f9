//! [`Net`]: a sequential network over burn tensors, with its weights as plain arrays.
//!
//! The weights live outside of burn so that updates, checkpoints and files need no conversion; each step
//! hands them over as tensors, which costs a copy of a few kilobytes.

use burn_tensor::ops::{ConvOptions, MaxPoolOptions};
use burn_tensor::{Device, Int, Tensor, TensorData, activation, module};
use formats::spec::{Activation, Initializer, Layer, Padding, SpecError, shapes};

use crate::random::Random;

/// A weight array.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Param {
    /// Number of its layer.
    pub(crate) layer: usize,
    /// Keras' name for it.
    pub(crate) name: &'static str,
    /// Keras' shape, except that a convolution's kernel is `[filters, channels, height, width]`.
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

impl Param {
    /// Whether gradients change it; the moving statistics follow the batches instead.
    pub(crate) fn learns(&self) -> bool {
        !self.name.starts_with("moving")
    }
}

/// A network, every width decided.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Net {
    pub(crate) input_shape: Vec<usize>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) params: Vec<Param>,
    /// Whether the loss computes the final softmax or sigmoid, so that training leaves it out.
    pub(crate) headless: bool,
}

/// The most weights of a network: 1 GiB of float32.
const WEIGHTS_MAX: usize = 1 << 28;

/// A value between layers. Images lie as `[rows, channels, height, width]`.
#[derive(Clone)]
enum Act {
    Ids(Tensor<2, Int>),
    D2(Tensor<2>),
    D3(Tensor<3>),
    D4(Tensor<4>),
}

/// A weight array as a tensor.
#[derive(Clone)]
pub(crate) enum Bound {
    D1(Tensor<1>),
    D2(Tensor<2>),
    D4(Tensor<4>),
}

/// How a forward pass behaves.
pub(crate) enum Mode<'a> {
    /// Batch statistics and dropout; what the loss computes is left out, see [`Net::headless`].
    Training(&'a mut Random),
    /// Moving statistics; what the loss computes is left out.
    Logits,
    /// As served.
    Inference,
}

/// What a forward pass gives.
pub(crate) struct Forward {
    /// `[rows, outputs]`
    pub(crate) output: Tensor<2>,
    /// Batch mean and variance of each batch normalisation: the layer and both.
    pub(crate) statistics: Vec<(usize, Tensor<1>, Tensor<1>)>,
}

/// A batch of network input.
pub(crate) enum Batch {
    /// Row-major rows of the network's input shape.
    Numbers(Vec<f32>),
    /// Row-major ids.
    Ids(Vec<i32>),
}

impl Net {
    /// A network with fresh weights.
    pub(crate) fn new(
        input_shape: &[usize],
        layers: &[Layer],
        headless: bool,
        seed: u64,
    ) -> Result<Self, SpecError> {
        let shapes = shapes(input_shape, layers)?;
        let mut params = Vec::new();
        let mut total = 0usize;
        let mut random = Random::new(seed, 1);
        for (i, (layer, shape)) in layers.iter().zip(&shapes).enumerate() {
            for (name, keras_shape) in layer.weights(shape) {
                let count = keras_shape.iter().fold(1usize, |n, d| n.saturating_mul(*d));
                total = total.saturating_add(count);
                if total > WEIGHTS_MAX {
                    let at = format!("layers[{i}] ({})", layer.kind());
                    return Err(SpecError::new(
                        at,
                        format!("the network passes the limit of {WEIGHTS_MAX} weights"),
                    ));
                }
                let values = start(layer, name, &keras_shape, count, &mut random);
                let shape = burn_shape(name, &keras_shape);
                params.push(Param { layer: i, name, shape, values });
            }
        }
        Ok(Net { input_shape: input_shape.to_vec(), layers: layers.to_vec(), params, headless })
    }

    /// The weights as tensors; with gradients if `track`.
    pub(crate) fn bind(&self, device: &Device, track: bool) -> Vec<Bound> {
        let bind = |param: &Param| {
            let data = TensorData::new(param.values.clone(), param.shape.clone());
            let track = track && param.learns();
            match param.shape.len() {
                1 => Bound::D1(tracked(Tensor::from_data(data, device), track)),
                4 => Bound::D4(tracked(Tensor::from_data(data, device), track)),
                _ => Bound::D2(tracked(Tensor::from_data(data, device), track)),
            }
        };
        self.params.iter().map(bind).collect()
    }

    /// Rows as a tensor of numbers of the network's input, flat: `[rows, elements]`.
    pub(crate) fn rows(&self, values: Vec<f32>, device: &Device) -> Tensor<2> {
        let width = self.input_shape.iter().product::<usize>().max(1);
        let rows = values.len() / width;
        Tensor::from_data(TensorData::new(values, [rows, width]), device)
    }

    /// Runs the network over a batch.
    pub(crate) fn run(&self, params: &[Bound], batch: Batch, mode: Mode<'_>, device: &Device) -> Forward {
        match batch {
            Batch::Numbers(values) => {
                let rows = self.rows(values, device);
                self.forward(params, rows, mode)
            }
            Batch::Ids(ids) => {
                let width = self.input_shape.iter().product::<usize>().max(1);
                let rows = ids.len() / width;
                let ids = Tensor::from_data(TensorData::new(ids, [rows, width]), device);
                self.layers(params, Act::Ids(ids), None, mode)
            }
        }
    }

    /// Runs a network over ids from behind its embedding, given the vectors `[rows, ids, vector]` and, where the
    /// embedding masks, which of them count.
    pub(crate) fn forward_embedded(
        &self,
        params: &[Bound],
        vectors: Tensor<3>,
        mask: Option<Tensor<2>>,
    ) -> Tensor<2> {
        self.layers(params, Act::D3(vectors), mask, Mode::Inference).output
    }

    /// Runs the network over rows of numbers, `[rows, elements]`.
    pub(crate) fn forward(&self, params: &[Bound], rows: Tensor<2>, mode: Mode<'_>) -> Forward {
        let n = rows.dims()[0];
        let value = match *self.input_shape.as_slice() {
            [h, w, c] => Act::D4(rows.reshape([n, h, w, c]).permute([0, 3, 1, 2])),
            [s, f] => Act::D3(rows.reshape([n, s, f])),
            _ => Act::D2(rows),
        };
        self.layers(params, value, None, mode)
    }

    fn layers(
        &self,
        params: &[Bound],
        mut value: Act,
        mut mask: Option<Tensor<2>>,
        mut mode: Mode<'_>,
    ) -> Forward {
        let mut rest = params;
        let mut statistics = Vec::new();
        let last = self.layers.len().saturating_sub(1);
        for (i, layer) in self.layers.iter().enumerate() {
            let count = self.params.iter().filter(|p| p.layer == i).count();
            let (own, after) = rest.split_at(count);
            rest = after;
            let bare = self.headless && i == last && !matches!(mode, Mode::Inference);
            value = match layer {
                Layer::Dense { activation, .. } => {
                    let activation = if bare { without_head(*activation) } else { *activation };
                    activate(dense(value, own), activation)
                }
                Layer::Activation { function } => {
                    activate(value, if bare { without_head(*function) } else { *function })
                }
                Layer::Conv2d { strides, padding, activation, kernel_size, .. } => {
                    activate(convolve(value, own, *kernel_size, *strides, *padding), *activation)
                }
                Layer::MaxPooling2d { pool_size, strides, padding } => {
                    pool(value, *pool_size, *strides, *padding)
                }
                Layer::Dropout { rate } => match &mut mode {
                    Mode::Training(random) => drop_out(value, *rate, random),
                    _ => value,
                },
                Layer::BatchNormalization { epsilon, center, scale, .. } => {
                    let norm = Norm::new(own, *center, *scale);
                    match mode {
                        Mode::Training(_) => {
                            let (value, mean, variance) = norm.train(value, *epsilon);
                            statistics.push((i, mean, variance));
                            value
                        }
                        _ => norm.run(value, *epsilon),
                    }
                }
                Layer::Embedding { mask_zero, .. } => {
                    if let (true, Act::Ids(ids)) = (*mask_zero, &value) {
                        mask = Some(ids.clone().not_equal_elem(0).float());
                    }
                    embed(value, own)
                }
                Layer::GlobalAveragePooling1d => average(value, mask.take()),
                Layer::Flatten => flatten(value),
                Layer::Normalization { mean, variance } => normalize(value, mean, variance),
            };
        }
        Forward { output: flat(value), statistics }
    }
}

fn tracked<const D: usize>(tensor: Tensor<D>, track: bool) -> Tensor<D> {
    if track { tensor.require_grad() } else { tensor }
}

/// The activation without what the loss computes itself.
fn without_head(activation: Activation) -> Activation {
    match activation {
        Activation::Softmax | Activation::Sigmoid => Activation::Linear,
        other => other,
    }
}

/// `[rows, everything]`, height, width, channels in this order.
fn flat(value: Act) -> Tensor<2> {
    match value {
        Act::D2(t) => t,
        Act::D3(t) => {
            let [n, s, f] = t.dims();
            t.reshape([n, s * f])
        }
        Act::D4(t) => {
            let [n, c, h, w] = t.dims();
            t.permute([0, 2, 3, 1]).reshape([n, c * h * w])
        }
        Act::Ids(ids) => ids.float(),
    }
}

fn flatten(value: Act) -> Act {
    Act::D2(flat(value))
}

fn dense(value: Act, own: &[Bound]) -> Act {
    let Some(Bound::D2(kernel)) = own.first() else { return value };
    let bias = match own.get(1) {
        Some(Bound::D1(bias)) => Some(bias.clone()),
        _ => None,
    };
    match value {
        Act::D2(t) => Act::D2(module::linear(t, kernel.clone(), bias)),
        Act::D3(t) => Act::D3(module::linear(t, kernel.clone(), bias)),
        Act::D4(t) => {
            let t = module::linear(t.permute([0, 2, 3, 1]), kernel.clone(), bias);
            Act::D4(t.permute([0, 3, 1, 2]))
        }
        Act::Ids(ids) => Act::D2(module::linear(ids.float(), kernel.clone(), bias)),
    }
}

/// Cells added before and after an axis, as TensorFlow does for `same`: an odd one comes after.
fn around(size: usize, window: usize, stride: usize, padding: Padding) -> (usize, usize) {
    match padding {
        Padding::Valid => (0, 0),
        Padding::Same => {
            let total = ((size.div_ceil(stride) - 1) * stride + window).saturating_sub(size);
            (total / 2, total - total / 2)
        }
    }
}

fn convolve(
    value: Act,
    own: &[Bound],
    kernel_size: [usize; 2],
    strides: [usize; 2],
    padding: Padding,
) -> Act {
    let (Act::D4(t), Some(Bound::D4(kernel))) = (&value, own.first()) else { return value };
    let bias = match own.get(1) {
        Some(Bound::D1(bias)) => Some(bias.clone()),
        _ => None,
    };
    let [_, _, h, w] = t.dims();
    let pads =
        [around(h, kernel_size[0], strides[0], padding), around(w, kernel_size[1], strides[1], padding)];
    let options = ConvOptions::new_with_padding(strides, pads, [1, 1], 1);
    Act::D4(module::conv2d(t.clone(), kernel.clone(), bias, options))
}

fn pool(value: Act, size: [usize; 2], strides: [usize; 2], padding: Padding) -> Act {
    let Act::D4(t) = value else { return value };
    let [_, _, h, w] = t.dims();
    let pads = [around(h, size[0], strides[0], padding), around(w, size[1], strides[1], padding)];
    let options = MaxPoolOptions::new(size).with_stride(strides).with_padding_pairs(pads);
    Act::D4(module::max_pool2d(t, options))
}

fn embed(value: Act, own: &[Bound]) -> Act {
    match (value, own.first()) {
        (Act::Ids(ids), Some(Bound::D2(table))) => Act::D3(module::embedding(table.clone(), ids)),
        (value, _) => value,
    }
}

fn average(value: Act, mask: Option<Tensor<2>>) -> Act {
    let Act::D3(t) = value else { return value };
    let [n, s, f] = t.dims();
    let mean = match mask {
        None => t.mean_dim(1),
        Some(mask) => {
            let mask = mask.reshape([n, s, 1]);
            let count = mask.clone().sum_dim(1).clamp_min(1.0);
            (t * mask).sum_dim(1) / count
        }
    };
    Act::D2(mean.reshape([n, f]))
}

fn drop_out(value: Act, rate: f64, random: &mut Random) -> Act {
    fn apply<const D: usize>(t: Tensor<D>, rate: f64, random: &mut Random) -> Tensor<D> {
        let shape = t.dims();
        let kept = (1.0 / (1.0 - rate)) as f32;
        let count = shape.iter().product();
        let mask: Vec<f32> = (0..count).map(|_| if random.unit() < rate { 0.0 } else { kept }).collect();
        let mask = Tensor::<D>::from_data(TensorData::new(mask, shape), &t.device());
        t * mask
    }
    match value {
        Act::D2(t) => Act::D2(apply(t, rate, random)),
        Act::D3(t) => Act::D3(apply(t, rate, random)),
        Act::D4(t) => Act::D4(apply(t, rate, random)),
        Act::Ids(ids) => Act::Ids(ids),
    }
}

fn activate(value: Act, function: Activation) -> Act {
    fn apply<const D: usize>(t: Tensor<D>, function: Activation, axis: usize) -> Tensor<D> {
        match function {
            Activation::Linear => t,
            Activation::Relu => activation::relu(t),
            Activation::Sigmoid => activation::sigmoid(t),
            Activation::Tanh => t.tanh(),
            Activation::Softmax => activation::softmax(t, axis),
            Activation::Gelu => activation::gelu(t),
            Activation::Elu => activation::elu(t, 1.0),
            Activation::Selu => activation::selu(t),
            Activation::Softplus => activation::softplus_with_threshold(t, 1.0, 20.0),
            Activation::LeakyRelu { negative_slope } => activation::leaky_relu(t, f64::from(negative_slope)),
        }
    }
    match value {
        Act::D2(t) => Act::D2(apply(t, function, 1)),
        Act::D3(t) => Act::D3(apply(t, function, 2)),
        Act::D4(t) => Act::D4(apply(t, function, 1)),
        Act::Ids(ids) => Act::Ids(ids),
    }
}

/// `(x - mean) / max(sqrt(variance), 1e-7)` over the last axis, as Keras does.
fn normalize(value: Act, mean: &[f64], variance: &[f64]) -> Act {
    fn apply<const D: usize>(t: Tensor<D>, axis: usize, mean: &[f64], variance: &[f64]) -> Tensor<D> {
        let mut shape = [1; D];
        shape[axis] = mean.len();
        let mean: Vec<f32> = mean.iter().map(|v| *v as f32).collect();
        let mean = Tensor::<D>::from_data(TensorData::new(mean, shape), &t.device());
        shape[axis] = variance.len();
        let root: Vec<f32> = variance.iter().map(|v| v.sqrt().max(1e-7) as f32).collect();
        let root = Tensor::<D>::from_data(TensorData::new(root, shape), &t.device());
        (t - mean) / root
    }
    match value {
        Act::D2(t) => Act::D2(apply(t, 1, mean, variance)),
        Act::D3(t) => Act::D3(apply(t, 2, mean, variance)),
        Act::D4(t) => Act::D4(apply(t, 1, mean, variance)),
        Act::Ids(ids) => Act::Ids(ids),
    }
}

/// The weights of a batch normalisation.
struct Norm {
    gamma: Tensor<1>,
    beta: Tensor<1>,
    mean: Tensor<1>,
    variance: Tensor<1>,
}

impl Norm {
    fn new(own: &[Bound], center: bool, scale: bool) -> Self {
        let mut arrays = own.iter().filter_map(|b| if let Bound::D1(t) = b { Some(t.clone()) } else { None });
        let gamma = if scale { arrays.next() } else { None };
        let beta = if center { arrays.next() } else { None };
        let device = Device::flex();
        let mean = arrays.next().unwrap_or_else(|| Tensor::zeros([1], &device));
        let variance = arrays.next().unwrap_or_else(|| Tensor::ones([1], &device));
        Norm {
            gamma: gamma.unwrap_or_else(|| mean.ones_like()),
            beta: beta.unwrap_or_else(|| mean.zeros_like()),
            mean,
            variance,
        }
    }

    fn train(self, value: Act, epsilon: f64) -> (Act, Tensor<1>, Tensor<1>) {
        let Norm { gamma, beta, mean, variance } = self;
        match value {
            Act::D2(t) => {
                let out = module::batch_norm_train(t, gamma, beta, epsilon);
                (Act::D2(out.output), out.mean, out.variance)
            }
            Act::D3(t) => {
                let out = module::batch_norm_train(t.swap_dims(1, 2), gamma, beta, epsilon);
                (Act::D3(out.output.swap_dims(1, 2)), out.mean, out.variance)
            }
            Act::D4(t) => {
                let out = module::batch_norm_train(t, gamma, beta, epsilon);
                (Act::D4(out.output), out.mean, out.variance)
            }
            Act::Ids(ids) => (Act::Ids(ids), mean, variance),
        }
    }

    fn run(self, value: Act, epsilon: f64) -> Act {
        let Norm { gamma, beta, mean, variance } = self;
        match value {
            Act::D2(t) => Act::D2(module::batch_norm(t, gamma, beta, mean, variance, epsilon)),
            Act::D3(t) => {
                let t = module::batch_norm(t.swap_dims(1, 2), gamma, beta, mean, variance, epsilon);
                Act::D3(t.swap_dims(1, 2))
            }
            Act::D4(t) => Act::D4(module::batch_norm(t, gamma, beta, mean, variance, epsilon)),
            Act::Ids(ids) => Act::Ids(ids),
        }
    }
}

/// Keras' shape of a weight array as burn wants it.
fn burn_shape(name: &str, keras: &[usize]) -> Vec<usize> {
    match (name, keras) {
        ("kernel", [h, w, c, f]) => vec![*f, *c, *h, *w],
        _ => keras.to_vec(),
    }
}

/// First values of a weight array of Keras' shape, in burn's order.
fn start(layer: &Layer, name: &str, shape: &[usize], count: usize, random: &mut Random) -> Vec<f32> {
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
