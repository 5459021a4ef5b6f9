//! [`Activation`]: the function that ends a layer.

use serde::{Deserialize, Serialize};

use super::SpecError;
use super::fields::{Fields, brief};
use crate::Value;

/// An element-wise function, or a softmax over the last axis. Names and formulas are Keras'.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Activation {
    /// `x`
    Linear,
    /// `max(x, 0)`
    Relu,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `tanh(x)`
    Tanh,
    /// `exp(x) / sum(exp(x))` over the last axis
    Softmax,
    /// `x * Φ(x)`
    Gelu,
    /// `x` where positive, else `exp(x) - 1`
    Elu,
    /// [`Activation::Elu`] with the two constants of Klambauer et al. 2017
    Selu,
    /// `ln(1 + exp(x))`
    Softplus,
    /// `x` where positive, else `negative_slope * x`
    LeakyRelu {
        /// Slope below zero; Keras' default is 0.2.
        negative_slope: f32,
    },
}

/// Every name with what it means.
const NAMES: [(&str, Activation); 10] = [
    ("linear", Activation::Linear),
    ("relu", Activation::Relu),
    ("sigmoid", Activation::Sigmoid),
    ("tanh", Activation::Tanh),
    ("softmax", Activation::Softmax),
    ("gelu", Activation::Gelu),
    ("elu", Activation::Elu),
    ("selu", Activation::Selu),
    ("softplus", Activation::Softplus),
    ("leaky_relu", Activation::LeakyRelu { negative_slope: 0.2 }),
];

impl Activation {
    /// Reads a name, or Keras' `{class_name, config}`.
    pub(crate) fn read(at: &str, value: &Value) -> Result<Self, SpecError> {
        match value {
            Value::Text(name) => Self::named(at, name),
            Value::Record(_) => Self::object(at, value),
            other => {
                Err(SpecError::new(at, format!("expected the name of an activation, found {}", brief(other))))
            }
        }
    }

    /// The activation called `name`, by Keras' snake case or class name.
    fn named(at: &str, name: &str) -> Result<Self, SpecError> {
        let same = |known: &str| known.replace('_', "").eq_ignore_ascii_case(&name.replace('_', ""));
        match NAMES.iter().find(|(known, _)| same(known)) {
            Some((_, activation)) => Ok(*activation),
            None => {
                let known: Vec<&str> = NAMES.iter().map(|(known, _)| *known).collect();
                Err(SpecError::new(
                    at,
                    format!("the activation `{name}` is not supported; there are: {}", known.join(", ")),
                ))
            }
        }
    }

    fn object(at: &str, value: &Value) -> Result<Self, SpecError> {
        let mut fields = Fields::new(at, value)?;
        fields.ignore(&["module", "registered_name", "build_config", "shared_object_id"]);
        let class = fields.text("class_name")?.ok_or_else(|| fields.error("class_name", "is missing"))?;
        let config = fields.take("config");
        fields.finish()?;
        match config {
            // Keras 3 writes a plain function as {class_name: function, config: NAME}.
            Some(Value::Text(name)) if class == "function" => Self::named(at, name),
            None => Self::named(at, class),
            Some(config) => {
                let mut options = Fields::keras(format!("{at}.config"), config)?;
                options.ignore(&["name", "dtype", "trainable"]);
                let activation = Self::named(at, class)?.with_options(&mut options)?;
                options.finish()?;
                Ok(activation)
            }
        }
    }

    /// Applies the options that this activation has.
    pub(crate) fn with_options(self, options: &mut Fields<'_>) -> Result<Self, SpecError> {
        match self {
            Activation::LeakyRelu { negative_slope } => {
                let slope = options.number("negative_slope", 0.0, 100.0)?;
                let alpha = options.number("alpha", 0.0, 100.0)?;
                let negative_slope = slope.or(alpha).map_or(negative_slope, |v| v as f32);
                Ok(Activation::LeakyRelu { negative_slope })
            }
            Activation::Relu => {
                options.only("max_value", &[])?;
                options.only("negative_slope", &[Value::Number(0.0)])?;
                options.only("threshold", &[Value::Number(0.0)])?;
                Ok(self)
            }
            Activation::Elu => {
                options.only("alpha", &[Value::Number(1.0)])?;
                Ok(self)
            }
            Activation::Softmax => {
                options.only("axis", &[Value::Number(-1.0), Value::Numbers(vec![-1.0])])?;
                Ok(self)
            }
            other => Ok(other),
        }
    }
}
