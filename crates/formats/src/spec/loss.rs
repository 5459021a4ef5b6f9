//! [`Loss`] and [`Metric`]: what training makes small, and what it reports beside it.

use serde::{Deserialize, Serialize};

use super::SpecError;
use super::fields::{Fields, brief};
use crate::Value;

/// What training makes small; the mean over a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// `-ln p` of the right class; Keras' sparse and dense categorical forms, since labels are read from a column.
    CategoricalCrossentropy,
    /// Mean over outputs of `-(y ln p + (1 - y) ln(1 - p))`.
    BinaryCrossentropy,
    /// Mean of squared differences.
    MeanSquaredError,
}

/// What an epoch reports beside its loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of rows whose likeliest class is right.
    Accuracy,
    /// Mean of absolute differences.
    MeanAbsoluteError,
    /// Mean of squared differences.
    MeanSquaredError,
}

impl Loss {
    /// Reads a name or Keras' `{class_name, config}`. The flag says whether the network's last layer
    /// gives logits (`from_logits`).
    pub(crate) fn read(at: &str, value: &Value) -> Result<(Self, bool), SpecError> {
        let (name, config) = name_and_config(at, value)?;
        let loss = match canonical(name).as_str() {
            "sparsecategoricalcrossentropy" | "categoricalcrossentropy" => Loss::CategoricalCrossentropy,
            "binarycrossentropy" => Loss::BinaryCrossentropy,
            "mse" | "meansquarederror" => Loss::MeanSquaredError,
            _ => {
                return Err(SpecError::new(
                    at,
                    format!(
                        "the loss `{name}` is not supported; there are: sparse_categorical_crossentropy, \
                         categorical_crossentropy, binary_crossentropy, mse"
                    ),
                ));
            }
        };
        let Some(config) = config else { return Ok((loss, false)) };
        let mut options = Fields::keras(format!("{at}.config"), config)?;
        options.ignore(&["name", "dtype", "fn"]);
        options.only("reduction", &["sum_over_batch_size", "auto"].map(|v| Value::Text(v.to_owned())))?;
        options.only("label_smoothing", &[Value::Number(0.0)])?;
        options.only("ignore_class", &[])?;
        options.only("axis", &[Value::Number(-1.0)])?;
        let from_logits = options.flag("from_logits")?.unwrap_or(false);
        options.finish()?;
        Ok((loss, from_logits))
    }
}

impl Metric {
    /// Reads a name or Keras' `{class_name, config}`.
    pub(crate) fn read(at: &str, value: &Value) -> Result<Self, SpecError> {
        let (name, config) = name_and_config(at, value)?;
        let metric = match canonical(name).as_str() {
            "acc" | "accuracy" | "sparsecategoricalaccuracy" | "categoricalaccuracy" | "binaryaccuracy" => {
                Metric::Accuracy
            }
            "mae" | "meanabsoluteerror" => Metric::MeanAbsoluteError,
            "mse" | "meansquarederror" => Metric::MeanSquaredError,
            _ => {
                return Err(SpecError::new(
                    at,
                    format!(
                        "the metric `{name}` is not reported while training; there are: accuracy, mae, mse \
                         (an evaluation of the trained model gives the others)"
                    ),
                ));
            }
        };
        if let Some(config) = config {
            let mut options = Fields::keras(format!("{at}.config"), config)?;
            options.ignore(&["name", "dtype"]);
            options.only("threshold", &[Value::Number(0.5)])?;
            options.finish()?;
        }
        Ok(metric)
    }
}

fn canonical(name: &str) -> String {
    name.replace('_', "").to_ascii_lowercase()
}

fn name_and_config<'a>(at: &str, value: &'a Value) -> Result<(&'a str, Option<&'a Value>), SpecError> {
    match value {
        Value::Text(name) => Ok((name, None)),
        Value::Record(_) => {
            let mut fields = Fields::new(at, value)?;
            fields.ignore(&["module", "registered_name", "build_config", "shared_object_id"]);
            let name = fields.text("class_name")?.ok_or_else(|| fields.error("class_name", "is missing"))?;
            let config = fields.take("config");
            fields.finish()?;
            match config {
                Some(Value::Text(function)) => Ok((function, None)),
                config => Ok((name, config)),
            }
        }
        other => Err(SpecError::new(at, format!("expected a name, found {}", brief(other)))),
    }
}
