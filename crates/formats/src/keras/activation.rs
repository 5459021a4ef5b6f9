//! [`Activation`]: the functions that Keras names.

use crate::Value;
use crate::spec::SpecError;
use crate::spec::fields::brief;

/// A function of single elements, or one over the last axis. Formulas are Keras'.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// `x`
    Linear,
    /// `max(x, 0)`, and no more than a bound where there is one.
    Relu {
        /// The bound.
        max: Option<f32>,
    },
    /// `x` where positive, else `negative_slope * x`.
    LeakyRelu {
        /// Keras' default is 0.2 for the activation and 0.3 for the layer.
        negative_slope: f32,
    },
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `tanh(x)`
    Tanh,
    /// `exp(x) / sum(exp(x))` over the last axis.
    Softmax,
    /// The logarithm of [`Activation::Softmax`].
    LogSoftmax,
    /// `x * Φ(x)`, or its tanh approximation.
    Gelu {
        /// Whether to approximate.
        approximate: bool,
    },
    /// `x` where positive, else `alpha * (exp(x) - 1)`.
    Elu {
        /// Keras' default is 1.
        alpha: f32,
    },
    /// [`Activation::Elu`] with the two constants of Klambauer et al. 2017.
    Selu,
    /// `ln(1 + exp(x))`
    Softplus,
    /// `x / (1 + |x|)`
    Softsign,
    /// `x * sigmoid(x)`
    Silu,
    /// `x * tanh(softplus(x))`
    Mish,
    /// `x / 6 + 0.5` between 0 and 1.
    HardSigmoid,
    /// `x * hard_sigmoid(x)`
    HardSilu,
    /// `x` between -1 and 1.
    HardTanh,
    /// `ln(sigmoid(x))`
    LogSigmoid,
    /// `exp(x)`
    Exponential,
    /// `x - tanh(x)`
    TanhShrink,
}

/// Every name with what it means.
const NAMES: &[(&str, Activation)] = &[
    ("linear", Activation::Linear),
    ("relu", Activation::Relu { max: None }),
    ("relu6", Activation::Relu { max: Some(6.0) }),
    ("leaky_relu", Activation::LeakyRelu { negative_slope: 0.2 }),
    ("sigmoid", Activation::Sigmoid),
    ("tanh", Activation::Tanh),
    ("softmax", Activation::Softmax),
    ("log_softmax", Activation::LogSoftmax),
    ("gelu", Activation::Gelu { approximate: false }),
    ("elu", Activation::Elu { alpha: 1.0 }),
    ("celu", Activation::Elu { alpha: 1.0 }),
    ("selu", Activation::Selu),
    ("softplus", Activation::Softplus),
    ("softsign", Activation::Softsign),
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("mish", Activation::Mish),
    ("hard_sigmoid", Activation::HardSigmoid),
    ("hard_silu", Activation::HardSilu),
    ("hard_swish", Activation::HardSilu),
    ("hard_tanh", Activation::HardTanh),
    ("log_sigmoid", Activation::LogSigmoid),
    ("exponential", Activation::Exponential),
    ("tanh_shrink", Activation::TanhShrink),
];

impl Activation {
    /// Reads a name, or what Keras writes for a function of its own.
    pub(super) fn read(at: &str, value: &Value) -> Result<Activation, SpecError> {
        let name = match value {
            Value::Text(name) => name,
            Value::Record(_) => {
                match (value.get("class_name"), value.get("registered_name"), value.get("config")) {
                    (Some(Value::Text(class)), registered, Some(Value::Text(name)))
                        if class == "function" && registered.is_none_or(|r| is_own(r, name)) =>
                    {
                        name
                    }
                    _ => return Err(unknown(at, &brief(value))),
                }
            }
            other => return Err(unknown(at, &brief(other))),
        };
        let known = NAMES.iter().find(|(known, _)| known == name);
        known.map(|(_, activation)| *activation).ok_or_else(|| unknown(at, &format!("`{name}`")))
    }
}

/// Whether a function is registered as Keras registers its own.
fn is_own(registered: &Value, name: &str) -> bool {
    match registered {
        Value::Null => true,
        Value::Text(registered) => registered == name || registered == "function",
        _ => false,
    }
}

fn unknown(at: &str, what: &str) -> SpecError {
    let known: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
    SpecError::new(at, format!("the activation {what} is not supported; there are: {}", known.join(", ")))
}
