//! [`Activation`]: the function that ends a layer.

/// An element-wise function, or a softmax over the last axis. Names and formulas are Keras'.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// `x`
    Linear,
    /// `max(x, 0)`
    Relu,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `tanh(x)`
    Tanh,
    /// `exp(x) / sum(exp(x))` over the last axis (channels, for an image)
    Softmax,
    /// `x * Φ(x)`, or its tanh approximation
    Gelu {
        /// Whether to use the tanh approximation, which is what `keras.activations.gelu(approximate=True)` does.
        approximate: bool,
    },
    /// `x` where positive, else `alpha * (exp(x) - 1)`
    Elu {
        /// Keras' default is 1.
        alpha: f32,
    },
    /// [`Activation::Elu`] with the two constants of Klambauer et al. 2017
    Selu,
    /// `ln(1 + exp(x))`
    Softplus,
    /// `x` where positive, else `negative_slope * x`
    LeakyRelu {
        /// Keras 3's default is 0.2 for the activation and 0.3 for the layer.
        negative_slope: f32,
    },
}
