//! [`TrainError`]: why a training gave no model.

use formats::manifest::{ManifestError, WeightsError};
use formats::spec::SpecError;
use tensor::export::ExportError;

use crate::RowSourceError;
use crate::network::PassError;

/// Why a training gave no model.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The specification does not fit itself or the rows.
    #[error("the training specification: {0}")]
    Spec(#[from] SpecError),
    /// The rows could not be read.
    #[error("reading the rows failed: {0}")]
    Source(#[source] RowSourceError),
    /// A column that the specification names is not there.
    #[error("the rows have no column `{column}`; they have: {present}")]
    MissingColumn {
        /// The column asked for.
        column: String,
        /// The columns there are.
        present: String,
    },
    /// More rows than are held in memory.
    #[error(
        "{what} would take {bytes} bytes in memory, beyond the limit of {limit}; train on fewer rows or columns"
    )]
    TooLarge {
        /// What would be held.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// No row can be used.
    #[error("none of the {rows} rows can be used{}{}", if .first.is_empty() { "" } else { "; the first fault: " }, .first)]
    NoRows {
        /// Rows read.
        rows: u64,
        /// The first fault, if there was one.
        first: String,
    },
    /// The labels cannot be learnt.
    #[error("column `{column}`: {message}")]
    Labels {
        /// The label column.
        column: String,
        /// What is wrong.
        message: String,
    },
    /// The loss is not a number any more.
    #[error(
        "the loss became {loss} in epoch {epoch}; a smaller learning rate than {learning_rate} may help, or check the rows for extreme numbers"
    )]
    NotFinite {
        /// The epoch, from 1.
        epoch: usize,
        /// NaN or infinity.
        loss: f64,
        /// As asked for.
        learning_rate: f64,
    },
    /// A batch did not get through the network.
    #[error("a batch did not get through the network: {0}")]
    Pass(#[from] PassError),
    /// The caller asked to end.
    #[error("the training was stopped")]
    Stopped,
    /// The result does not pass its own checks; nothing a specification or row should cause.
    #[error("the trained model cannot be written: {0}")]
    Unwritable(String),
}

impl From<ManifestError> for TrainError {
    fn from(error: ManifestError) -> Self {
        TrainError::Unwritable(error.to_string())
    }
}

impl From<WeightsError> for TrainError {
    fn from(error: WeightsError) -> Self {
        TrainError::Unwritable(error.to_string())
    }
}

impl From<ExportError> for TrainError {
    fn from(error: ExportError) -> Self {
        TrainError::Unwritable(error.to_string())
    }
}
