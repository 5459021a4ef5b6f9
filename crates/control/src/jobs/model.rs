//! [`LoadedModel`]: a version ready to predict the rows of a job.

use std::borrow::Cow;
use std::sync::Arc;

use formats::Value;
use formats::rows::{RowBlock, RowFault, parse_number};
use serving::{Explain, Explanation, PredictError, Predictions};
use tensor::features::{ColumnKind, InputColumn};

use super::context::Context;
use super::images::{self, Images};
use crate::{Error, ErrorCode, InstanceType, Result, Version};

/// A version ready to predict the rows of a job.
pub(super) struct LoadedModel {
    model: Arc<serving::Model>,
    images: Option<Images>,
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
        let model = context.runtime.block_on(context.control.load_model(version.artifact))?;
        if model.language().is_some() {
            let message = "the model is a language model: deploy this version to an endpoint of its own, where a batch asks it";
            return Err(Error::precondition(message));
        }
        let images = Images::of_model(context, model.columns().unwrap_or_default());
        Ok(LoadedModel { model, images })
    }

    /// How many rows to take at a time.
    pub(super) fn chunk_rows(&self) -> usize {
        let files = if self.images.is_some() { images::CHUNK_ROWS } else { usize::MAX };
        files.min(self.model.rows_max())
    }

    /// The column that the model was trained to tell, if it was trained here.
    pub(super) fn label(&self) -> Option<&str> {
        self.model.manifest().map(|manifest| manifest.label.as_str())
    }

    /// Whether it takes columns by name, so that others in the table do not matter.
    pub(super) fn takes_columns_by_name(&self) -> bool {
        self.model.columns().is_some()
    }

    /// Whether it takes something of this name.
    pub(super) fn takes(&self, name: &str) -> bool {
        match self.model.columns() {
            Some(columns) => columns.iter().any(|column| column.name == name),
            None => self.model.ports().inputs.iter().any(|input| input.name == name),
        }
    }

    /// Whether the columns of a table are taken in this form.
    pub(super) fn takes_table_as(&self, kind: InstanceType) -> bool {
        let by_name = self.takes_columns_by_name() || self.model.signature().inputs.len() > 1;
        match kind {
            InstanceType::AsWritten => true,
            InstanceType::Object => by_name,
            InstanceType::Array => !by_name,
        }
    }

    /// Rows of a table as instances.
    pub(super) fn table_values(&self, block: &RowBlock, rows: &[usize]) -> Vec<Value> {
        let numeric =
            |cell: &str| parse_number(cell).map_or_else(|_| Value::Text(cell.to_owned()), Value::Number);
        let Some(columns) = self.model.columns() else {
            let number = |row: usize, column| parse_number(block.cell(row, column)).unwrap_or_default();
            let list = |row: &usize| (0..block.columns()).map(|column| number(*row, column)).collect();
            return rows.iter().map(|row| Value::Numbers(list(row))).collect();
        };
        let places: Vec<_> =
            columns.iter().map(|column| (column, block.column(&column.name).unwrap_or(usize::MAX))).collect();
        let record = |row: &usize| {
            let field = |(column, place): &(&InputColumn, usize)| {
                let cell = block.cell(*row, *place);
                let value = match column.kind {
                    ColumnKind::Number => numeric(cell),
                    _ => Value::Text(cell.to_owned()),
                };
                (column.name.clone(), value)
            };
            Value::Record(places.iter().map(field).collect())
        };
        rows.iter().map(record).collect()
    }

    /// Explains instances from the object `uri` that can be predicted.
    pub(super) fn explain(
        &self,
        uri: &str,
        instances: &[Value],
        explain: &Explain,
    ) -> Result<Vec<Explanation>> {
        self.model.explain(&self.with_images(uri, instances), explain).map_err(refused)
    }

    /// Predicts a block of a table, which comes from the object `uri`.
    pub(super) fn predict_table(&self, uri: &str, block: &RowBlock) -> Result<Predicted> {
        let (predictions, faults) = match &self.images {
            None => self.model.predict_rows(block).map_err(refused)?,
            Some(images) => {
                let (with_files, mut unread) = images.table(uri, block);
                let (predictions, faults) = self.model.predict_rows(&with_files).map_err(refused)?;
                unread.extend(faults);
                unread.sort_by_key(|fault| fault.row);
                (predictions, unread)
            }
        };
        let mut failed = faults.iter().map(|fault| fault.row).peekable();
        let good = |row: &usize| failed.next_if_eq(&block.row_number(*row)).is_none();
        let rows: Vec<usize> = (0..block.rows()).filter(good).collect();
        if rows.len() != predictions.len() {
            return Err(Error::new(
                ErrorCode::Internal,
                "the model gave another number of predictions than rows",
            ));
        }
        Ok(Predicted { rows, predictions, faults })
    }

    fn with_images<'a>(&self, uri: &str, instances: &'a [Value]) -> Cow<'a, [Value]> {
        match &self.images {
            None => Cow::Borrowed(instances),
            Some(images) => Cow::Owned(images.instances(uri, instances)),
        }
    }

    /// Predicts instances from the object `uri`, the good ones in as few runs as the bad ones between them allow.
    /// `numbers` are the instances' row numbers.
    pub(super) fn predict_values(
        &self,
        uri: &str,
        instances: &[Value],
        numbers: &[u64],
    ) -> Result<(Vec<Run>, Vec<RowFault>)> {
        let instances = self.with_images(uri, instances);
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
        PredictError::BadInstance { .. } | PredictError::BadRequest { .. } => {
            Error::invalid(error.to_string())
        }
        PredictError::Failed { message } => Error::new(ErrorCode::Internal, message),
        PredictError::NoMemory { message } => Error::new(ErrorCode::ResourceExhausted, message),
        PredictError::Stopped => Error::new(ErrorCode::Cancelled, "cancelled on request"),
    }
}
