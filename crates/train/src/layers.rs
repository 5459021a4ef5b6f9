//! Networks made elsewhere, for their gradients.

use formats::spec::{Activation, Initializer, Layer, shapes};
use tensor::export;
use tensor::layers::Chain;

use crate::export::filters_last;
use crate::gradients::{Network, NetworkError};
use crate::network::Net;

/// Arrays of one layer, by Keras' names for them.
type Arrays = Vec<(&'static str, Vec<f32>)>;

impl Network {
    /// The network that is this chain of layers.
    ///
    /// # Errors
    /// If a layer is none of those that networks trained here have, or they do not fit together.
    pub fn of_chain(chain: Chain) -> Result<Self, NetworkError> {
        let (mut layers, mut arrays) = (Vec::new(), Vec::new());
        for layer in chain.layers {
            let (layer, own) = one(layer)?;
            layers.push(layer);
            arrays.push(own);
        }
        let embeds = layers.iter().skip(1).any(|layer| matches!(layer, Layer::Embedding { .. }));
        let ids = matches!(layers.first(), Some(Layer::Embedding { .. }));
        if embeds || chain.input_shape.len() > 3 || ids && chain.input_shape.len() != 1 {
            return Err(NetworkError::Unknown("what it takes"));
        }
        let mut net = Net::new(&chain.input_shape, &layers, false, 0)?;
        for param in &mut net.params {
            let own = arrays.get_mut(param.layer);
            let values = own.and_then(|own| own.iter_mut().find(|(name, _)| *name == param.name));
            let values = values.map(|(_, values)| std::mem::take(values)).unwrap_or_default();
            if values.len() != param.values.len() {
                return Err(NetworkError::Malformed(format!("layer {} has other weights", param.layer)));
            }
            param.values = match *param.shape.as_slice() {
                [h, w, c, f] => filters_last([h, w, c, f], &values),
                _ => values,
            };
        }
        let shapes = shapes(&chain.input_shape, &layers)?;
        let outputs = shapes.last().map_or(0, |shape| shape.iter().product());
        Ok(Network { net, outputs })
    }
}

/// A layer as networks trained here have it, and its arrays as [`Net`] keeps them.
fn one(layer: export::Layer) -> Result<(Layer, Arrays), NetworkError> {
    let zeros = Initializer::Zeros;
    let with_bias = |kernel: Vec<f32>, bias: Option<Vec<f32>>| {
        let arrays = std::iter::once(("kernel", kernel)).chain(bias.map(|bias| ("bias", bias)));
        arrays.collect::<Arrays>()
    };
    Ok(match layer {
        export::Layer::Dense { units, kernel, bias, activation } => (
            Layer::Dense {
                units: Some(units),
                activation: function(activation)?,
                use_bias: bias.is_some(),
                kernel_initializer: zeros,
                bias_initializer: zeros,
            },
            with_bias(kernel, bias),
        ),
        export::Layer::Conv2d { filters, kernel_size, kernel, bias, strides, padding, activation } => (
            Layer::Conv2d {
                filters,
                kernel_size,
                strides,
                padding,
                activation: function(activation)?,
                use_bias: bias.is_some(),
                kernel_initializer: zeros,
                bias_initializer: zeros,
            },
            with_bias(kernel, bias),
        ),
        export::Layer::MaxPooling2d { pool_size, strides, padding } => {
            (Layer::MaxPooling2d { pool_size, strides, padding }, vec![])
        }
        export::Layer::BatchNormalization { gamma, beta, mean, variance, epsilon } => {
            let layer = Layer::BatchNormalization {
                momentum: 0.99,
                epsilon: f64::from(epsilon),
                center: beta.is_some(),
                scale: gamma.is_some(),
            };
            let learnt =
                gamma.map(|gamma| ("gamma", gamma)).into_iter().chain(beta.map(|beta| ("beta", beta)));
            let arrays = learnt.chain([("moving_mean", mean), ("moving_variance", variance)]);
            (layer, arrays.collect())
        }
        export::Layer::Normalization { mean, variance } => {
            let wide = |numbers: Vec<f32>| numbers.into_iter().map(f64::from).collect();
            (Layer::Normalization { mean: wide(mean), variance: wide(variance) }, vec![])
        }
        export::Layer::Flatten => (Layer::Flatten, vec![]),
        export::Layer::Embedding { rows, width, table, mask_zero } => (
            Layer::Embedding {
                input_dim: Some(rows),
                output_dim: width,
                mask_zero,
                embeddings_initializer: zeros,
            },
            vec![("embeddings", table)],
        ),
        export::Layer::GlobalAveragePooling1d => (Layer::GlobalAveragePooling1d, vec![]),
        export::Layer::Activation(activation) => {
            (Layer::Activation { function: function(activation)? }, vec![])
        }
        export::Layer::Reshape { .. } => return Err(NetworkError::Unknown("a layer that reshapes")),
    })
}

fn function(activation: export::Activation) -> Result<Activation, NetworkError> {
    Ok(match activation {
        export::Activation::Linear => Activation::Linear,
        export::Activation::Relu => Activation::Relu,
        export::Activation::Sigmoid => Activation::Sigmoid,
        export::Activation::Tanh => Activation::Tanh,
        export::Activation::Softmax => Activation::Softmax,
        export::Activation::Gelu { approximate: false } => Activation::Gelu,
        export::Activation::Gelu { approximate: true } => {
            return Err(NetworkError::Unknown("an approximate GELU"));
        }
        export::Activation::Elu { alpha: 1.0 } => Activation::Elu,
        export::Activation::Elu { .. } => return Err(NetworkError::Unknown("an ELU of another slope")),
        export::Activation::Selu => Activation::Selu,
        export::Activation::Softplus => Activation::Softplus,
        export::Activation::LeakyRelu { negative_slope } => Activation::LeakyRelu { negative_slope },
    })
}
