//! [`LoadedModel`]: a version ready to predict the rows of a job.

use formats::Value;
use formats::manifest::{MANIFEST_FILE, Manifest};
use formats::rows::{RowBlock, RowFault};
use serving::{Explain, Explanation, Predictions, PredictError};

use super::context::Context;
use crate::{Error, ErrorCode, Result, Version};

/// A version ready to predict the rows of a job.
pub(super) struct LoadedModel {
    model: serving::Model,
    /// Of models trained here.
    manifest: Option<Manifest>,
}

/// What has become of the rows of a block.
pub(super) struct Predicted {
    /// Rows of the block that have a prediction, ascending.
    pub(super) rows: Vec<usize>,
    /// Theirs.
    pub(super) predictions: Predictions,
    /// The other rows.
    pub(super) faults: Vec<RowFault>,
}

/// Predictions of consecutive instances: the place of the first one, and the predictions.
type Run = (usize, Predictions);

impl LoadedModel {
    /// Loads a version, having verified every byte of its artifact.
    pub(super) fn load(context: &Context, version: &Version) -> Result<Self> {
        let directory = context.control.artifacts().verify_blocking(&version.artifact)?;
        let model = serving::Model::load(&directory)
            .map_err(|e| Error::precondition(format!("the model cannot be loaded: {e}")))?;
        let manifest = match std::fs::read(directory.join(MANIFEST_FILE)) {
            Ok(bytes) => Some(Manifest::parse(&bytes).map_err(|e| Error::precondition(e.to_string()))?),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(Error::internal("reading the model's manifest", e)),
        };
        Ok(LoadedModel { model, manifest })
    }

    /// The column that the model was trained to tell, if it was trained here.
    pub(super) fn label(&self) -> Option<&str> {
        self.manifest.as_ref().map(|manifest| manifest.label.as_str())
    }

    /// Predicts a block of a table.
    pub(super) fn predict_table(&self, block: &RowBlock) -> Result<Predicted> {
        let (predictions, faults) = self.model.predict_rows(block).map_err(refused)?;
        let mut failed = faults.iter().map(|fault| fault.row).peekable();
        let good = |row: &usize| failed.next_if_eq(&block.row_number(*row)).is_none();
        let rows: Vec<usize> = (0..block.rows()).filter(good).collect();
        if rows.len() != predictions.len() {
            return Err(Error::new(ErrorCode::Internal, "the model gave another number of predictions than rows"));
        }
        Ok(Predicted { rows, predictions, faults })
    }

    /// Predicts instances, the good ones in as few runs as the bad ones between them allow. `numbers` are
    /// the instances' row numbers.
    pub(super) fn predict_values(&self, instances: &[Value], numbers: &[u64]) -> Result<(Vec<Run>, Vec<RowFault>)> {
        let (mut runs, mut faults) = (Vec::new(), Vec::new());
        let mut start = 0;
        while start < instances.len() {
            let mut end = instances.len();
            let mut reason = None;
            // Ends before the first bad instance, whichever bad one the model finds first.
            while end > start {
                match self.model.predict(&instances[start..end]) {
                    Ok(predictions) => {
                        runs.push((start, predictions));
                        break;
                    }
                    Err(PredictError::BadInstance { index, message }) => {
                        end = start + index.min(end - start - 1);
                        reason = Some(message);
                    }
                    Err(error) => return Err(refused(error)),
                }
            }
            if let Some(reason) = reason {
                faults.push(RowFault { row: numbers.get(end).copied().unwrap_or_default(), reason });
            }
            start = end + 1;
        }
        Ok((runs, faults))
    }
}

/// An error of the model that concerns all rows.
pub(super) fn refused(error: PredictError) -> Error {
    match error {
        PredictError::BadInstance { .. } | PredictError::BadRequest { .. } => Error::invalid(error.to_string()),
        PredictError::Failed { message } => Error::new(ErrorCode::Internal, message),
        PredictError::Stopped => Error::new(ErrorCode::Cancelled, "cancelled on request"),
    }
}
