//! [`EarlyStopping`]: when training ends before its last epoch.

use serde::{Deserialize, Serialize};

use super::SpecError;
use super::fields::Fields;
use crate::Value;

/// Training ends when a watched number has not become better for some epochs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// What is watched.
    pub monitor: Monitor,
    /// Epochs without a gain before training ends.
    pub patience: usize,
    /// The least change that counts as a gain.
    pub min_delta: f64,
    /// Whether the weights of the best epoch are kept rather than the last ones.
    pub restore_best: bool,
}

/// A number that each epoch gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Monitor {
    /// Less is better.
    #[serde(rename = "loss")]
    Loss,
    /// More is better.
    #[serde(rename = "accuracy")]
    Accuracy,
    /// Less is better.
    #[serde(rename = "val_loss")]
    ValidationLoss,
    /// More is better.
    #[serde(rename = "val_accuracy")]
    ValidationAccuracy,
}

impl Monitor {
    /// Whether it needs validation rows.
    pub fn validates(self) -> bool {
        matches!(self, Monitor::ValidationLoss | Monitor::ValidationAccuracy)
    }
}

impl EarlyStopping {
    /// Reads `{monitor, patience, min_delta, restore_best}`; a bare number is the patience.
    pub(crate) fn read(value: &Value) -> Result<Self, SpecError> {
        let patience = "patience".to_owned();
        let wrapped;
        let value = match value {
            Value::Number(_) => {
                wrapped = Value::Record(vec![(patience, value.clone())]);
                &wrapped
            }
            other => other,
        };
        let mut fields = Fields::new("early_stopping", value)?;
        let monitor = match fields.text("monitor")? {
            None | Some("val_loss" | "validation_loss") => Monitor::ValidationLoss,
            Some("val_accuracy" | "validation_accuracy") => Monitor::ValidationAccuracy,
            Some("loss") => Monitor::Loss,
            Some("accuracy") => Monitor::Accuracy,
            Some(other) => {
                let known = "there are: loss, accuracy, val_loss, val_accuracy";
                return Err(fields.error("monitor", format!("`{other}` is not known; {known}")));
            }
        };
        let best = fields.flag("restore_best")?;
        let stopping = EarlyStopping {
            monitor,
            patience: fields.count("patience", 0, 1_000_000)?.unwrap_or(0),
            min_delta: fields.number("min_delta", 0.0, 1e9)?.unwrap_or(0.0),
            restore_best: best.or(fields.flag("restore_best_weights")?).unwrap_or(false),
        };
        fields.finish()?;
        Ok(stopping)
    }
}
