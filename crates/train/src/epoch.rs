//! [`Epoch`]: what one pass over the rows gave.

/// Figures of one finished pass over the training rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Epoch {
    /// Its number, from 1.
    pub epoch: usize,
    /// Mean loss over the pass, as weights changed.
    pub loss: f64,
    /// Share of rows classified rightly over the pass; `None` for a regression.
    pub accuracy: Option<f64>,
    /// Mean absolute error in the label's unit; `None` for a classification.
    pub mean_absolute_error: Option<f64>,
    /// Loss over the validation rows after the pass, where there are any.
    pub validation_loss: Option<f64>,
    /// Accuracy over the validation rows.
    pub validation_accuracy: Option<f64>,
    /// Mean absolute error over the validation rows.
    pub validation_mean_absolute_error: Option<f64>,
    /// Time the pass took.
    pub seconds: f64,
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Train on.
    Continue,
    /// End now, without a result.
    Stop,
}
