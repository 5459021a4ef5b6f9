//! [`Net`]: a sequential network with its weights, the way through it, and the way back for the gradients.

use std::ops::Range;

use formats::spec::{Activation, Layer, Padding, SpecError, shapes};
use kernels::OutOfMemory;

use crate::initial::start;
use crate::passes::convolution::Convolution;
use crate::passes::normalization::{self, inverse, statistics};
use crate::passes::window::Windows;
use crate::passes::{activation, dense, embedding, pooling};
use crate::products::Products;
use crate::random::Random;
use crate::values::Values;

/// A weight array.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Param {
    /// Number of its layer.
    pub(crate) layer: usize,
    /// Keras' name for it.
    pub(crate) name: &'static str,
    /// Keras' shape.
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
    /// By their layers.
    pub(crate) params: Vec<Param>,
    /// Whether the loss computes the final softmax or sigmoid, so that training leaves it out.
    pub(crate) headless: bool,
}

/// The most weights of a network: 1 GiB of float32.
const WEIGHTS_MAX: usize = 1 << 28;

/// How a way through the network behaves.
pub(crate) enum Mode<'a> {
    /// For the way back to the weights: batch statistics and dropout; what the loss computes is left out, see
    /// [`Net::headless`].
    Training(&'a mut Random),
    /// Moving statistics; what the loss computes is left out.
    Logits,
    /// As served.
    Inference,
    /// As served, for the way back to the input.
    Derivation,
}

impl Mode<'_> {
    /// Whether there is a way back.
    fn returns(&self) -> bool {
        matches!(self, Mode::Training(_) | Mode::Derivation)
    }

    fn has_no_head(&self) -> bool {
        matches!(self, Mode::Training(_) | Mode::Logits)
    }
}

/// What goes into a network.
pub(crate) enum Batch {
    /// Row-major rows of the network's input shape.
    Numbers(Vec<f32>),
    /// Row-major ids.
    Ids(Vec<i32>),
    /// What an embedding gives: vectors, and where it masks, which of them count.
    Vectors(Vec<f32>, Option<Vec<f32>>),
}

/// Why a batch does not get through.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// There is not the memory for it.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// An id that the embedding has no row for.
    #[error("there is no id {0}")]
    Id(i32),
}

/// What a way back is for.
pub(crate) enum Wanted<'a> {
    /// The gradients by the weights, written to what [`Net::gradients`] has made.
    Weights(&'a mut [Vec<f32>]),
    /// The gradient by the input; where that is ids, by the embedding's vectors.
    Input,
}

/// A way through the network.
pub(crate) struct Pass {
    /// What went into each layer, where there is a way back, and what the last one gave.
    values: Vec<Values>,
    kept: Vec<Kept>,
}

/// What the way back through a layer needs besides what it took and gave.
enum Kept {
    Nothing,
    /// What its activation took.
    Before(Vec<f32>),
    /// What each number was multiplied with.
    Factors(Vec<f32>),
    /// Mean and variance of the batch.
    Statistics(Vec<f32>, Vec<f32>),
    /// Where the largest numbers were.
    Places(Vec<u32>),
    /// What each step counted.
    Shares(Vec<f32>),
    Ids(Vec<i32>),
}

/// A batch at the first layer that has numbers.
struct Entered {
    pass: Pass,
    value: Values,
    /// Which of a sequence's steps count.
    mask: Option<Vec<f32>>,
}

/// The weights of one layer.
#[derive(Clone, Copy)]
struct Own<'n>(&'n [Param]);

impl<'n> Own<'n> {
    fn find(self, name: &str) -> Option<&'n [f32]> {
        self.0.iter().find(|param| param.name == name).map(|param| param.values.as_slice())
    }

    fn get(self, name: &str) -> &'n [f32] {
        self.find(name).unwrap_or_default()
    }

    /// As many numbers as the last axis has, `absent` where the layer has no such weights.
    fn or(self, name: &str, absent: f32, count: usize) -> Vec<f32> {
        self.find(name).map_or_else(|| vec![absent; count], <[f32]>::to_vec)
    }
}

impl Pass {
    /// What the network gave: `[rows, outputs]`.
    pub(crate) fn output(&self) -> &[f32] {
        self.values.last().map_or(&[], |values| &values.data)
    }

    /// Mean and variance of the batch at each batch normalisation, with the layer's number.
    pub(crate) fn statistics(&self) -> impl Iterator<Item = (usize, &[f32], &[f32])> {
        self.kept.iter().enumerate().filter_map(|(layer, kept)| match kept {
            Kept::Statistics(mean, variance) => Some((layer, mean.as_slice(), variance.as_slice())),
            _ => None,
        })
    }
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
        for (i, (layer, input)) in layers.iter().zip(&shapes).enumerate() {
            for (name, shape) in layer.weights(input) {
                let count = shape.iter().fold(1usize, |n, d| n.saturating_mul(*d));
                total = total.saturating_add(count);
                if total > WEIGHTS_MAX {
                    let at = format!("layers[{i}] ({})", layer.kind());
                    return Err(SpecError::new(
                        at,
                        format!("the network passes the limit of {WEIGHTS_MAX} weights"),
                    ));
                }
                let values = start(layer, name, &shape, count, &mut random);
                params.push(Param { layer: i, name, shape, values });
            }
        }
        Ok(Net { input_shape: input_shape.to_vec(), layers: layers.to_vec(), params, headless })
    }

    /// Room for the gradient by each weight array.
    pub(crate) fn gradients(&self) -> Vec<Vec<f32>> {
        self.params
            .iter()
            .map(|param| if param.learns() { vec![0.0; param.values.len()] } else { vec![] })
            .collect()
    }

    /// Takes a batch through the network.
    ///
    /// # Errors
    /// See [`PassError`].
    pub(crate) fn run(
        &self,
        batch: Batch,
        mut mode: Mode<'_>,
        products: &mut Products,
    ) -> Result<Pass, PassError> {
        let Entered { mut pass, mut value, mut mask } = self.enter(batch)?;
        for (number, layer) in self.layers.iter().enumerate().skip(pass.kept.len()) {
            let own = Own(&self.params[self.own(number)]);
            let (mut given, mut kept) = forward(layer, own, &value, (&mut mode, &mut mask), products)?;
            if let Some(function) = self.function(number, mode.has_no_head()) {
                if activation::looks_at_input(function) && mode.returns() {
                    kept = Kept::Before(given.data.clone());
                }
                let width = given.last();
                activation::forward(function, &mut given.data, width);
            }
            let taken = std::mem::replace(&mut value, given);
            if mode.returns() {
                pass.values.push(taken);
                pass.kept.push(kept);
            }
        }
        pass.values.push(value);
        Ok(pass)
    }

    /// A batch as the first layer takes it that has numbers; of an embedding, behind it.
    fn enter(&self, batch: Batch) -> Result<Entered, PassError> {
        let mut entered = Entered {
            pass: Pass { values: Vec::new(), kept: Vec::new() },
            value: Values::new(&self.input_shape, Vec::new()),
            mask: None,
        };
        let (data, kept) = match batch {
            Batch::Numbers(data) => {
                entered.value = Values::new(&self.input_shape, data);
                return Ok(entered);
            }
            Batch::Vectors(data, mask) => {
                entered.mask = mask;
                (data, Kept::Nothing)
            }
            Batch::Ids(ids) => {
                let Some(Layer::Embedding { output_dim, mask_zero, .. }) = self.layers.first() else {
                    let numbers = ids.into_iter().map(|id| id as f32).collect();
                    return self.enter(Batch::Numbers(numbers));
                };
                let table = Own(&self.params[self.own(0)]).get("embeddings");
                let vectors = embedding::look_up(table, *output_dim, &ids).map_err(PassError::Id)?;
                entered.mask = mask_zero.then(|| embedding::mask(&ids));
                (vectors, Kept::Ids(ids))
            }
        };
        let shape = self.layers.first().and_then(|layer| layer.output_shape(&self.input_shape).ok());
        let before = std::mem::replace(&mut entered.value, Values::new(&shape.unwrap_or_default(), data));
        entered.pass.values.push(before);
        entered.pass.kept.push(kept);
        Ok(entered)
    }

    /// Takes the gradient by what the network gave back to what is wanted; to the input, it is what is returned.
    ///
    /// # Errors
    /// If there is not the memory for it.
    pub(crate) fn back(
        &self,
        pass: &Pass,
        mut gradient: Vec<f32>,
        mut wanted: Wanted<'_>,
        products: &mut Products,
    ) -> Result<Vec<f32>, OutOfMemory> {
        let first = match &wanted {
            Wanted::Weights(_) => {
                self.params.iter().find(|param| param.learns()).map_or(0, |param| param.layer)
            }
            Wanted::Input => usize::from(matches!(self.layers.first(), Some(Layer::Embedding { .. }))),
        };
        if let Wanted::Weights(all) = &mut wanted {
            all.iter_mut().for_each(|sums| sums.fill(0.0));
        }
        for (number, layer) in self.layers.iter().enumerate().skip(first).rev() {
            let (taken, given) = (&pass.values[number], &pass.values[number + 1]);
            let (own, kept) = (self.own(number), &pass.kept[number]);
            if let Some(function) = self.function(number, matches!(wanted, Wanted::Weights(_))) {
                let seen = if let Kept::Before(before) = kept { before } else { &given.data };
                activation::backward(function, seen, &mut gradient, given.last());
            }
            let weights = match &mut wanted {
                Wanted::Weights(all) => Some(&mut all[own.clone()]),
                Wanted::Input => None,
            };
            let goes_on = weights.is_none() || number > first;
            gradient = backward(
                layer,
                Own(&self.params[own]),
                (taken, kept),
                gradient,
                (weights, goes_on),
                products,
            )?;
        }
        Ok(gradient)
    }

    /// Where the weights of a layer are.
    fn own(&self, layer: usize) -> Range<usize> {
        let before = |end: usize| self.params.partition_point(|param| param.layer < end);
        before(layer)..before(layer + 1)
    }

    /// What a layer ends in, if that is anything; `headless` where the loss may compute it.
    fn function(&self, layer: usize, headless: bool) -> Option<Activation> {
        let function = match self.layers.get(layer)? {
            Layer::Dense { activation, .. } | Layer::Activation { function: activation } => {
                let is_head = matches!(activation, Activation::Softmax | Activation::Sigmoid);
                let left_out = headless && self.headless && layer + 1 == self.layers.len() && is_head;
                if left_out { Activation::Linear } else { *activation }
            }
            Layer::Conv2d { activation, .. } => *activation,
            _ => Activation::Linear,
        };
        (function != Activation::Linear).then_some(function)
    }
}

/// What `layer` makes of `x`, without its activation, and what the way back needs.
fn forward(
    layer: &Layer,
    own: Own<'_>,
    x: &Values,
    (mode, mask): (&mut Mode<'_>, &mut Option<Vec<f32>>),
    products: &mut Products,
) -> Result<(Values, Kept), OutOfMemory> {
    let plain = |values| Ok((values, Kept::Nothing));
    match layer {
        Layer::Dense { units, .. } => {
            plain(dense::forward(x, own.get("kernel"), own.find("bias"), units.unwrap_or(0), products)?)
        }
        Layer::Conv2d { filters, kernel_size, strides, padding, .. } => {
            let convolution = convolution(x, *filters, windows(x, *kernel_size, *strides, *padding));
            plain(convolution.forward(x, own.get("kernel"), own.find("bias"), products)?)
        }
        Layer::MaxPooling2d { pool_size, strides, padding } => {
            let (largest, places) = pooling::largest(x, &windows(x, *pool_size, *strides, *padding));
            Ok((largest, Kept::Places(places)))
        }
        Layer::Dropout { rate } => {
            let Mode::Training(random) = mode else { return plain(x.clone()) };
            let kept = (1.0 / (1.0 - rate)) as f32;
            let factor = |_: &f32| if random.unit() < *rate { 0.0 } else { kept };
            let factors: Vec<f32> = x.data.iter().map(factor).collect();
            let data = x.data.iter().zip(&factors).map(|(x, factor)| x * factor).collect();
            Ok((x.with(x.shape.clone(), data), Kept::Factors(factors)))
        }
        Layer::BatchNormalization { epsilon, .. } => {
            let (gamma, beta) = (own.or("gamma", 1.0, x.last()), own.or("beta", 0.0, x.last()));
            let (mean, variance, kept) = match mode {
                Mode::Training(_) => {
                    let (mean, variance) = statistics(x);
                    (mean.clone(), variance.clone(), Kept::Statistics(mean, variance))
                }
                _ => (own.get("moving_mean").to_vec(), own.get("moving_variance").to_vec(), Kept::Nothing),
            };
            let (scale, shift) = normalization::figures(&gamma, &beta, &mean, &inverse(&variance, *epsilon));
            Ok((normalization::scale_and_shift(x, &scale, &shift), kept))
        }
        Layer::GlobalAveragePooling1d => {
            let shares = pooling::shares(x, mask.take());
            Ok((pooling::mean(x, &shares), Kept::Shares(shares)))
        }
        Layer::Normalization { mean, variance } => {
            let scale = fixed_scale(variance, x.last());
            let mean = spread(mean, x.last());
            let shift: Vec<f32> = mean.zip(&scale).map(|(mean, scale)| -(mean as f32) * scale).collect();
            plain(normalization::scale_and_shift(x, &scale, &shift))
        }
        Layer::Flatten => plain(x.with(vec![x.shape.iter().product()], x.data.clone())),
        // A network enters behind its embedding.
        Layer::Activation { .. } | Layer::Embedding { .. } => plain(x.clone()),
    }
}

/// Takes the gradient by what `layer` gave, before its activation, to its weights, where these are wanted, and where it
/// `goes_on` to what it took.
fn backward(
    layer: &Layer,
    own: Own<'_>,
    (x, kept): (&Values, &Kept),
    mut gradient: Vec<f32>,
    (weights, goes_on): (Option<&mut [Vec<f32>]>, bool),
    products: &mut Products,
) -> Result<Vec<f32>, OutOfMemory> {
    Ok(match (layer, kept) {
        (Layer::Dense { units, .. }, _) => {
            let sizes = [x.last(), units.unwrap_or(0)];
            if let Some([kernel, bias @ ..]) = weights {
                dense::by_kernel(&x.data, &gradient, kernel, sizes, products)?;
                bias.iter_mut().for_each(|bias| dense::by_bias(&gradient, bias));
            }
            match goes_on {
                true => dense::by_input(&gradient, own.get("kernel"), sizes, products)?,
                false => Vec::new(),
            }
        }
        (Layer::Conv2d { filters, kernel_size, strides, padding, .. }, _) => {
            let convolution = convolution(x, *filters, windows(x, *kernel_size, *strides, *padding));
            if let Some([kernel, bias @ ..]) = weights {
                convolution.by_kernel(x, &gradient, kernel, products)?;
                bias.iter_mut().for_each(|bias| dense::by_bias(&gradient, bias));
            }
            match goes_on {
                true => convolution.by_input(x, &gradient, own.get("kernel"), products)?,
                false => Vec::new(),
            }
        }
        (Layer::BatchNormalization { epsilon, .. }, Kept::Statistics(mean, variance)) => {
            let gamma = own.or("gamma", 1.0, x.last());
            let back = normalization::back(x, &gradient, &gamma, mean, &inverse(variance, *epsilon));
            for (weights, param) in weights.into_iter().flatten().zip(own.0) {
                match param.name {
                    "gamma" => weights.copy_from_slice(&back.by_gamma),
                    "beta" => weights.copy_from_slice(&back.by_beta),
                    _ => {}
                }
            }
            back.by_input
        }
        (Layer::BatchNormalization { epsilon, .. }, _) => {
            let inverse = inverse(own.get("moving_variance"), *epsilon);
            let gamma = own.or("gamma", 1.0, x.last());
            let scale: Vec<f32> =
                gamma.iter().zip(&inverse).map(|(gamma, inverse)| gamma * inverse).collect();
            normalization::scale_back(&mut gradient, &scale);
            gradient
        }
        (Layer::Normalization { variance, .. }, _) => {
            normalization::scale_back(&mut gradient, &fixed_scale(variance, x.last()));
            gradient
        }
        (Layer::Embedding { output_dim, .. }, Kept::Ids(ids)) => {
            if let Some([table, ..]) = weights {
                embedding::by_table(ids, &gradient, *output_dim, table);
            }
            Vec::new()
        }
        (_, Kept::Places(places)) => pooling::largest_back(x, &gradient, places),
        (_, Kept::Shares(shares)) => pooling::mean_back(x, &gradient, shares),
        (_, Kept::Factors(factors)) => {
            gradient.iter_mut().zip(factors).for_each(|(g, factor)| *g *= factor);
            gradient
        }
        _ => gradient,
    })
}

fn convolution(x: &Values, filters: usize, windows: Windows) -> Convolution {
    Convolution { windows, channels: x.last(), filters }
}

fn windows(x: &Values, size: [usize; 2], strides: [usize; 2], padding: Padding) -> Windows {
    let side = |axis: usize| x.shape.get(axis).copied().unwrap_or(1);
    Windows::new([side(0), side(1)], size, strides, padding)
}

/// `1 / max(sqrt(variance), 1e-7)`, as Keras has it, for each of `count` features.
fn fixed_scale(variance: &[f64], count: usize) -> Vec<f32> {
    spread(variance, count).map(|variance| (1.0 / variance.sqrt().max(1e-7)) as f32).collect()
}

/// One number for each of `count` features, of as many or of one for all.
fn spread(numbers: &[f64], count: usize) -> impl Iterator<Item = f64> {
    numbers.iter().copied().cycle().take(if numbers.is_empty() { 0 } else { count })
}

#[cfg(test)]
mod tests;
