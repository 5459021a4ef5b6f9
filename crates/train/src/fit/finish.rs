//! Turns the network as trained into the network as served.

use formats::spec::{Activation, Initializer, Layer};

use super::plan::Plan;
use crate::head::Head;
use crate::network::{Net, Param};

/// The network that answers probabilities, or numbers in the label's unit: its last layer gets the
/// softmax or sigmoid that the loss computed, or the inverse of the label's standardisation.
pub(super) fn finish(mut net: Net, plan: &Plan) -> Net {
    match plan.head {
        Head::SingleSigmoid => two_outputs(&mut net),
        Head::Softmax | Head::Sigmoid => end_in(&mut net, plan.head.activation()),
        Head::Number if plan.scale != (0.0, 1.0) => rescale(&mut net, plan.scale),
        Head::Number => {}
    }
    net.headless = false;
    net
}

/// The dense layer whose one output a binary classification answers: only its activation follows.
pub(super) fn single_dense(layers: &[Layer]) -> Option<usize> {
    let i = layers.iter().rposition(|layer| matches!(layer, Layer::Dense { .. }))?;
    let plain = |layer: &Layer| match layer {
        Layer::Activation { function } => matches!(function, Activation::Sigmoid | Activation::Linear),
        Layer::Dropout { .. } => true,
        _ => false,
    };
    let ends = matches!(
        layers.get(i),
        Some(Layer::Dense { units: Some(1), activation: Activation::Sigmoid | Activation::Linear, .. })
    );
    (ends && layers.iter().skip(i + 1).all(plain)).then_some(i)
}

/// Makes `activation` the last thing the network does.
fn end_in(net: &mut Net, activation: Activation) {
    match net.layers.last_mut() {
        Some(Layer::Dense { activation: own, .. }) => *own = activation,
        Some(Layer::Activation { function }) => *function = activation,
        _ => net.layers.push(Layer::Activation { function: activation }),
    }
}

/// A sigmoid over one logit `z` is the second value of a softmax over `0, z`, which gives both labels a
/// score like any other classification.
fn two_outputs(net: &mut Net) {
    let Some(i) = single_dense(&net.layers) else { return };
    net.layers.truncate(i + 1);
    if let Some(Layer::Dense { units, activation, .. }) = net.layers.last_mut() {
        *units = Some(2);
        *activation = Activation::Softmax;
    }
    for param in net.params.iter_mut().filter(|param| param.layer == i) {
        param.values = param.values.iter().flat_map(|v| [0.0, *v]).collect();
        if let Some(last) = param.shape.last_mut() {
            *last = 2;
        }
    }
}

/// Multiplies the last layer by the label's deviation and adds its mean.
fn rescale(net: &mut Net, (mean, deviation): (f64, f64)) {
    let last = net.layers.len().saturating_sub(1);
    let Some(Layer::Dense { use_bias, bias_initializer, .. }) = net.layers.last_mut() else { return };
    if !*use_bias {
        *use_bias = true;
        *bias_initializer = Initializer::Zeros;
        net.params.push(Param { layer: last, name: "bias", shape: vec![1], values: vec![0.0] });
    }
    for param in net.params.iter_mut().filter(|param| param.layer == last) {
        let shift = if param.name == "bias" { mean } else { 0.0 };
        param.values.iter_mut().for_each(|v| *v = (f64::from(*v) * deviation + shift) as f32);
    }
}
