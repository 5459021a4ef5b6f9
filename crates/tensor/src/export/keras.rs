//! [`keras()`]: the network of a Keras archive to an ONNX graph.

mod activation;
mod attention;
mod convolution;
mod dot;
mod front;
mod merge;
mod normalization;
mod operation;
mod recurrent;
mod shape;
mod simple;
mod unmasked;

use std::collections::HashMap;

use formats::keras::{Activation, Array, Attention, Kind, Layer, Model, Place};

use rten_onnx::onnx::DataType;

use attention::Looks;
use front::Inputs;

use super::writer::{Step, Value, Writer, int};
use crate::{Front, Sizes};

/// A network whose layers and weights do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {reason}")]
pub struct KerasExportError {
    /// Which layer, or the model.
    pub at: String,
    /// What does not fit.
    pub reason: String,
}

/// A network as an ONNX file.
#[derive(Debug, Clone, PartialEq)]
pub struct KerasGraph {
    /// The file.
    pub bytes: Vec<u8>,
    /// What it holds while it is computed.
    pub sizes: Sizes,
    /// What comes before it, where texts or integers are looked up in vocabularies.
    pub front: Option<Front>,
}

/// The most bytes of weights that layers applied several times may add up to.
const WEIGHTS_BYTES_MAX: usize = 8 << 30;

/// Writes `model` as an ONNX model whose batch may have any size, as may dimensions that the archive leaves open; its inputs and outputs have their names in the
/// archive, integers are int32, all else float32. The same network gives the same bytes.
///
/// # Errors
/// If a layer does not take what those before it give, or has weights of a wrong size.
pub fn keras(model: &Model) -> Result<KerasGraph, KerasExportError> {
    let whole = |reason: String| KerasExportError { at: "the model".to_owned(), reason };
    let Inputs { given, mut read, front } = front::inputs(model)?;
    let names: Vec<&str> = model.outputs.iter().map(|output| output.name.as_str()).collect();
    let mut writer = Writer::new(&given, &names).map_err(whole)?;
    let mut values: Vec<Value> = model.inputs.iter().map(front::value).collect();
    let mut parts: HashMap<Place, Vec<Value>> = HashMap::new();
    let mut bytes = 0usize;
    for node in &model.nodes {
        let missing = || whole("a node of it stands before what it takes".to_owned());
        let named = model.layers.get(node.layer).ok_or_else(missing)?;
        let of = |place: &usize| values.get(*place).cloned();
        let taken = node.inputs.iter().map(of).collect::<Option<Vec<_>>>().ok_or_else(missing)?;
        let mask = |mask: &Option<Place>| mask.map(|place| of(&place).ok_or_else(missing)).transpose();
        let masks = node.masks.iter().map(mask).collect::<Result<Vec<_>, _>>()?;
        let call =
            Call { taken, masks, allowed: mask(&node.allowed)?, causal: node.causal, scores: node.scores };
        let wrong = |reason| KerasExportError { at: named.name.clone(), reason };
        match (&named.layer, node.inputs.as_slice()) {
            (Layer::Lookup(_), _) => {
                let looked_up = read.remove(&values.len());
                writer.at = looked_up
                    .ok_or_else(|| wrong("looks up what another layer gives, not an input".to_owned()))?;
            }
            _ if call.taken.iter().any(|value| value.element == DataType::STRING) => {
                return Err(wrong("takes numbers, not texts".to_owned()));
            }
            (Layer::Part { number }, [place]) => {
                let part = number.checked_sub(1).and_then(|part| parts.get(place)?.get(part)).cloned();
                writer.at = part.ok_or_else(|| wrong(format!("gives no value number {number}")))?;
            }
            (layer, _) => writer.keras_layer(layer, call).map_err(wrong)?,
        }
        if !writer.parts.is_empty() {
            parts.insert(values.len(), std::mem::take(&mut writer.parts));
        }
        bytes = bytes.saturating_add(weight_bytes(&named.layer));
        if bytes > WEIGHTS_BYTES_MAX {
            return Err(wrong(format!(
                "the weights of all layers pass {WEIGHTS_BYTES_MAX} bytes, the limit"
            )));
        }
        if matches!(&named.layer, Layer::Attention(Attention::Heads(_))) {
            // Keras takes the masks off what such a layer has seen, for all that is computed after it.
            for place in &node.inputs {
                if let Some(value) = values.get_mut(*place) {
                    value.mask = None;
                }
            }
        }
        writer.sizes.add(&writer.at.shape);
        values.push(writer.at.clone());
    }
    let sizes = std::mem::take(&mut writer.sizes);
    let outputs = names.into_iter().zip(&model.outputs);
    let outputs = outputs.map(|(name, output)| Some((name, values.get(output.place)?.clone())));
    let outputs = outputs.collect::<Option<Vec<_>>>();
    let outputs = outputs.ok_or_else(|| whole("an output of it comes from nowhere".to_owned()))?;
    let bytes = writer.finish(outputs).map_err(whole)?;
    Ok(KerasGraph { bytes, sizes, front })
}

/// What a layer is applied to.
pub(super) struct Call {
    taken: Vec<Value>,
    /// For each value taken, as far as there are any: which steps of it count.
    masks: Vec<Option<Value>>,
    /// Which steps of an attention's query may look at which of its key.
    allowed: Option<Value>,
    /// Whether none looks at a later one.
    causal: bool,
    /// Whether an attention's scores are wanted besides.
    scores: bool,
}

impl Call {
    fn of(taken: Vec<Value>) -> Call {
        Call { taken, masks: Vec::new(), allowed: None, causal: false, scores: false }
    }
}

impl Writer {
    /// Applies `layer`.
    fn keras_layer(&mut self, layer: &Layer, call: Call) -> Step {
        let Call { mut taken, masks, allowed, causal, scores } = call;
        let masked = masks.first().is_some_and(Option::is_some);
        for (place, mask) in masks.into_iter().enumerate() {
            let Some(mask) = mask else { continue };
            let steps = mask.shape.len() == 1;
            let value = taken.get_mut(place).filter(|_| steps).ok_or("takes no such mask")?;
            value.mask = Some(self.truths(mask).name);
        }
        match layer {
            Layer::Attention(attention) => {
                let looks = Looks { allowed, causal, scores };
                return self.attention(attention, taken, looks);
            }
            _ if causal => return Err("takes no `use_causal_mask`".to_owned()),
            _ if allowed.is_some() => return Err("takes no `attention_mask`".to_owned()),
            _ if scores => return Err("takes no `return_attention_scores`".to_owned()),
            Layer::Merge(merge) => return self.merge(*merge, taken),
            Layer::Dot { axes, normalize } => return self.dot(*axes, *normalize, taken),
            Layer::Concatenate { axis } => return self.concatenate(*axis, taken),
            Layer::Operation(operation) => return self.operation(operation, taken),
            Layer::Recurrent(_) | Layer::Bidirectional { .. } => {
                let states = taken.split_off(taken.len().min(1));
                self.at = taken.pop().ok_or("takes steps")?;
                self.become_of(DataType::FLOAT);
                let own = self.at.mask.clone();
                if !states.is_empty() && !masked {
                    // Keras gives the mask of a value to a layer that takes that alone.
                    self.at.mask = None;
                }
                let sequences = match layer {
                    Layer::Bidirectional { forward, backward, merge } => {
                        self.bidirectional(forward, backward, *merge, states)?;
                        forward.sequences
                    }
                    Layer::Recurrent(recurrent) => {
                        self.recurrent(recurrent, states)?;
                        recurrent.sequences
                    }
                    _ => false,
                };
                self.at.mask = own.filter(|_| sequences);
                return Ok(());
            }
            _ => {}
        }
        let several = taken.len();
        let [only] = <[Value; 1]>::try_from(taken).map_err(|_| format!("takes one value, not {several}"))?;
        self.at = only;
        self.single(layer)
    }

    /// Applies `layer` to the value.
    fn single(&mut self, layer: &Layer) -> Step {
        match layer {
            // Of truth values, too.
            Layer::Identity => return Ok(()),
            Layer::Embedding { .. } | Layer::CategoryEncoding { .. } => self.become_of(DataType::INT32),
            _ => self.become_of(DataType::FLOAT),
        }
        match layer {
            Layer::Identity => Ok(()),
            Layer::ChannelsFirst(inner) => self.channels_first(inner),
            Layer::Masking { value } => self.masking(*value),
            Layer::Dense { kernel, bias, activation } => {
                let &[_, units] = kernel.shape.as_slice() else { return Err(misshapen("kernel", kernel)) };
                self.fits("kernel", kernel, &[self.channels()?, units])?;
                self.dense(units, &kernel.values, values(bias.as_ref()))?;
                self.function(*activation);
                Ok(())
            }
            Layer::Activation(activation) => {
                if matches!(activation, Activation::Softmax) && self.at.mask.is_some() {
                    return Err("a softmax over masked steps is not supported".to_owned());
                }
                self.function(*activation);
                Ok(())
            }
            Layer::PRelu { alpha } => self.prelu(alpha),
            Layer::Flatten => self.flatten(),
            Layer::Reshape { shape } => self.reshape_to(shape),
            Layer::Permute { dims } => self.permute(dims),
            Layer::RepeatVector { n } => self.repeat(*n),
            Layer::Conv { .. }
            | Layer::ConvTranspose { .. }
            | Layer::DepthwiseConv { .. }
            | Layer::SeparableConv { .. } => {
                self.at.mask = None;
                self.any_convolution(layer)
            }
            Layer::Pooling { kind, window } => {
                self.at.mask = None;
                match kind {
                    Kind::Max => self.pooling("MaxPool", window, vec![]),
                    Kind::Average => self.pooling("AveragePool", window, vec![int("count_include_pad", 0)]),
                }
            }
            Layer::GlobalPooling { kind, rank, keep } => self.global_pooling(*kind, *rank, *keep),
            Layer::ZeroPadding { sides } => self.zero_padding(sides),
            Layer::Cropping { sides } => self.cropping(sides),
            Layer::UpSampling { size, bilinear } => self.up_sampling(size, *bilinear),
            Layer::Rescaling { scale, offset } => {
                self.with_channels("Mul", "scale", scale)?;
                if offset.iter().any(|offset| *offset != 0.0) {
                    self.with_channels("Add", "offset", offset)?;
                }
                Ok(())
            }
            Layer::Normalization { mean, variance, invert } => {
                let deviation: Vec<f32> = variance.iter().map(|v| v.sqrt().max(1e-7)).collect();
                if *invert {
                    self.with_channels("Mul", "deviation", &deviation)?;
                    return self.with_channels("Add", "mean", mean);
                }
                self.with_channels("Sub", "mean", mean)?;
                self.with_channels("Div", "deviation", &deviation)
            }
            Layer::BatchNormalization { axis: 1, .. } if self.at.shape.len() > 1 => {
                self.channels_first(&on_the_last_axis(layer))
            }
            Layer::BatchNormalization { gamma, beta, mean, variance, epsilon, axis } => {
                self.last(*axis)?;
                let (gamma, beta) = (values(gamma.as_ref()), values(beta.as_ref()));
                self.batch_normalization(gamma, beta, &mean.values, &variance.values, *epsilon)
            }
            Layer::LayerNormalization { gamma, beta, epsilon, axis } => {
                self.last(*axis)?;
                self.layer_normalization(gamma.as_ref(), beta.as_ref(), *epsilon)
            }
            Layer::CategoryEncoding { width, counted } => self.category_encoding(*width, *counted),
            Layer::Embedding { table, mask_zero } => {
                let &[rows, width] = table.shape.as_slice() else { return Err(misshapen("table", table)) };
                self.embedding(rows, width, &table.values, *mask_zero)
            }
            Layer::GroupNormalization { axis: 1, .. } if self.at.shape.len() > 1 => {
                self.channels_first(&on_the_last_axis(layer))
            }
            Layer::GroupNormalization { groups, gamma, beta, epsilon, axis } => {
                self.last(*axis)?;
                self.group_normalization(*groups, gamma.as_ref(), beta.as_ref(), *epsilon)
            }
            Layer::RmsNormalization { gamma, epsilon, axis } => {
                self.last(*axis)?;
                self.rms_normalization(gamma, *epsilon)
            }
            Layer::UnitNormalization { axes } => self.unit_normalization(axes),
            Layer::Merge(_)
            | Layer::Dot { .. }
            | Layer::Concatenate { .. }
            | Layer::Attention(_)
            | Layer::Operation(_)
            | Layer::Recurrent(_)
            | Layer::Bidirectional { .. }
            | Layer::Lookup(_)
            | Layer::Part { .. } => Err("does not stand within another layer".to_owned()),
        }
    }

    /// Applies `layer` to a value that is `[channels, …]`, as what it gives is.
    fn channels_first(&mut self, layer: &Layer) -> Step {
        if self.at.mask.take().is_some() && matches!(layer, Layer::GlobalPooling { .. }) {
            return Err("a mask of steps that come after the channels is not supported".to_owned());
        }
        if over_the_last_axis(layer) {
            return Err(
                "a softmax over the last axis, where channels are the first, is not supported".to_owned()
            );
        }
        self.lay_channels_last();
        if self.at.shape.len() < 2 {
            return self.single(layer);
        }
        // It lies as the runtime wants images anyway.
        self.at.shape.rotate_left(1);
        self.at.channels_first = true;
        self.single(layer)?;
        if self.at.shape.len() > 1 {
            self.lay_channels_first();
            self.at.shape.rotate_right(1);
            self.at.channels_first = false;
        }
        Ok(())
    }

    /// Applies `op` to the value and to one number, or to one for each channel.
    fn with_channels(&mut self, op: &str, name: &str, numbers: &[f32]) -> Step {
        match numbers {
            [one] => {
                let channels = self.channels()?;
                self.per_channel(op, name, &vec![*one; channels])
            }
            numbers => self.per_channel(op, name, numbers),
        }
    }

    /// `value` as truth values: whether its elements are not 0.
    fn truths(&mut self, value: Value) -> Value {
        let before = std::mem::replace(&mut self.at, value);
        self.lay_channels_last();
        if self.at.element != DataType::BOOL {
            self.differs(0.0);
        }
        std::mem::replace(&mut self.at, before)
    }

    /// Refuses an axis, the batch being axis 0, that is not the last.
    fn last(&self, axis: i64) -> Step {
        match axis == -1 || axis == self.at.shape.len() as i64 {
            true => Ok(()),
            false => Err(format!("works along axis {axis}; only the last axis is supported")),
        }
    }

    fn fits(&self, what: &str, array: &Array, shape: &[usize]) -> Step {
        match array.shape == shape {
            true => Ok(()),
            false => Err(format!("its {what} has shape {:?} where {shape:?} is needed", array.shape)),
        }
    }
}

/// Whether the function of a layer is one over the last axis.
fn over_the_last_axis(layer: &Layer) -> bool {
    match layer {
        Layer::Conv { activation, .. }
        | Layer::ConvTranspose { activation, .. }
        | Layer::DepthwiseConv { activation, .. }
        | Layer::SeparableConv { activation, .. } => {
            matches!(activation, Activation::Softmax | Activation::LogSoftmax)
        }
        _ => false,
    }
}

/// The same normalisation along the last axis.
fn on_the_last_axis(layer: &Layer) -> Layer {
    let mut layer = layer.clone();
    if let Layer::BatchNormalization { axis, .. } | Layer::GroupNormalization { axis, .. } = &mut layer {
        *axis = -1;
    }
    layer
}

fn misshapen(what: &str, array: &Array) -> String {
    format!("its {what} has the shape {:?}", array.shape)
}

fn values(array: Option<&Array>) -> Option<&[f32]> {
    array.map(|array| array.values.as_slice())
}

/// Bytes that a layer's weights take in the graph.
fn weight_bytes(layer: &Layer) -> usize {
    let arrays: Vec<&Array> = match layer {
        Layer::Dense { kernel, .. }
        | Layer::Conv { kernel, .. }
        | Layer::ConvTranspose { kernel, .. }
        | Layer::DepthwiseConv { kernel, .. } => vec![kernel],
        Layer::SeparableConv { depthwise, pointwise, .. } => vec![depthwise, pointwise],
        Layer::Embedding { table, .. } => vec![table],
        Layer::ChannelsFirst(inner) => return weight_bytes(inner),
        Layer::Attention(attention) => attention::kernels(attention),
        Layer::Recurrent(one) => vec![&one.kernel, &one.recurrent],
        Layer::Bidirectional { forward, backward, .. } => {
            vec![&forward.kernel, &forward.recurrent, &backward.kernel, &backward.recurrent]
        }
        _ => Vec::new(),
    };
    arrays.iter().fold(0, |bytes, array| bytes.saturating_add(array.values.len().saturating_mul(4)))
}
