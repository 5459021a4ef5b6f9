//! [`Optimizer`]: how a step follows from gradients.

use serde::{Deserialize, Serialize};

use super::SpecError;
use super::fields::{Fields, brief};
use crate::Value;

/// An update rule with its constants; names, formulas and defaults are Keras'.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct Optimizer {
    /// The rule.
    pub rule: Rule,
    /// Step size.
    pub learning_rate: f64,
    /// Share of a weight, times the learning rate, taken off at every step; 0 for none. Decoupled, as
    /// in AdamW; kernels and embeddings, biases and scales alike, as in Keras.
    pub weight_decay: f64,
}

/// See [`Optimizer`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Rule {
    /// Stochastic gradient descent.
    Sgd {
        /// Share of the last step that is repeated.
        momentum: f64,
        /// Whether the gradient is taken ahead of the momentum.
        nesterov: bool,
    },
    /// Adam; with a weight decay, AdamW.
    Adam {
        /// Decay of the first moment.
        beta_1: f64,
        /// Decay of the second moment.
        beta_2: f64,
        /// Added to the root of the second moment.
        epsilon: f64,
    },
}

impl Default for Optimizer {
    /// Adam at 1e-3.
    fn default() -> Self {
        let rule = Rule::Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7 };
        Optimizer { rule, learning_rate: 1e-3, weight_decay: 0.0 }
    }
}

/// Options of Keras' optimisers that we do not have, with the values that mean "not used".
const UNSUPPORTED: [(&str, &[Value]); 9] = [
    ("amsgrad", &[Value::Bool(false)]),
    ("clipnorm", &[]),
    ("clipvalue", &[]),
    ("global_clipnorm", &[]),
    ("use_ema", &[Value::Bool(false)]),
    ("loss_scale_factor", &[]),
    ("gradient_accumulation_steps", &[]),
    ("decay", &[Value::Number(0.0)]),
    ("is_legacy_optimizer", &[Value::Bool(false)]),
];

impl Optimizer {
    /// Reads `adam`, `{adam: {learning_rate: …}}`, `{name: adam, …}` or Keras' `{class_name, config}`.
    pub(crate) fn read(at: &str, value: &Value) -> Result<Self, SpecError> {
        match value {
            Value::Text(name) => Self::named(at, name),
            Value::Record(_) if value.get("class_name").is_some() => {
                let mut object = Fields::new(at, value)?;
                object.ignore(&["module", "registered_name", "build_config", "shared_object_id"]);
                let name = object.text("class_name")?.unwrap_or_default();
                let config = object.take("config");
                object.finish()?;
                match config {
                    None => Self::named(at, name),
                    Some(config) => Self::options(name, Fields::keras(format!("{at}.config"), config)?),
                }
            }
            Value::Record(fields) if fields.len() == 1 && matches!(fields[0].1, Value::Record(_)) => {
                let (name, options) = &fields[0];
                Self::options(name, Fields::new(format!("{at}.{name}"), options)?)
            }
            Value::Record(_) => {
                let mut options = Fields::new(at, value)?;
                let name = options.text("name")?.unwrap_or("adam");
                Self::options(name, options)
            }
            other => Err(SpecError::new(at, format!("expected an optimiser, found {}", brief(other)))),
        }
    }

    fn named(at: &str, name: &str) -> Result<Self, SpecError> {
        match name.to_ascii_lowercase().as_str() {
            "sgd" => Ok(Optimizer {
                rule: Rule::Sgd { momentum: 0.0, nesterov: false },
                learning_rate: 0.01,
                weight_decay: 0.0,
            }),
            "adam" => Ok(Optimizer::default()),
            "adamw" => Ok(Optimizer { weight_decay: 0.004, ..Optimizer::default() }),
            _ => Err(SpecError::new(
                at,
                format!("the optimiser `{name}` is not supported; there are: sgd, adam, adamw"),
            )),
        }
    }

    fn options(name: &str, mut options: Fields<'_>) -> Result<Self, SpecError> {
        let mut optimizer = Self::named(options.path(), name)?;
        options.ignore(&["name", "ema_momentum", "ema_overwrite_frequency", "jit_compile"]);
        for (option, unused) in UNSUPPORTED {
            options.only(option, unused)?;
        }
        optimizer.learning_rate = learning_rate(&mut options)?.unwrap_or(optimizer.learning_rate);
        if let Some(decay) = options.number("weight_decay", 0.0, 1.0)? {
            optimizer.weight_decay = decay;
        }
        optimizer.rule = match optimizer.rule {
            Rule::Sgd { .. } => Rule::Sgd {
                momentum: options.number("momentum", 0.0, 0.999_999)?.unwrap_or(0.0),
                nesterov: options.flag("nesterov")?.unwrap_or(false),
            },
            Rule::Adam { beta_1, beta_2, epsilon } => Rule::Adam {
                beta_1: options.number("beta_1", 0.0, 0.999_999)?.unwrap_or(beta_1),
                beta_2: options.number("beta_2", 0.0, 0.999_999_9)?.unwrap_or(beta_2),
                epsilon: options.number("epsilon", 1e-12, 1.0)?.unwrap_or(epsilon),
            },
        };
        options.finish()?;
        Ok(optimizer)
    }
}

/// A constant learning rate; a schedule is refused by its name.
fn learning_rate(options: &mut Fields<'_>) -> Result<Option<f64>, SpecError> {
    let at = options.at("learning_rate");
    match options.take("learning_rate") {
        Some(schedule @ Value::Record(_)) => Err(SpecError::new(
            at,
            format!("the schedule {} is not supported; give a number", brief(schedule)),
        )),
        Some(value) => read_rate(&at, value).map(Some),
        None => Ok(None),
    }
}

/// A learning rate. Keras keeps f32, so that 0.001 arrives as 0.0010000000474974513.
pub(crate) fn read_rate(at: &str, value: &Value) -> Result<f64, SpecError> {
    super::fields::number_of(at, value, 0.0, 100.0)
}
