//! [`FeatureStep`]: raw cells of a row to the numbers that a network takes.
//!
//! The same text gives the same bits, alone or in any batch and on any thread: every sum runs in the
//! order of the text. Nothing is allocated per token.

mod bind;
mod categorical;
mod cell;
mod evidence;
mod hash;
mod image;
mod share;
mod step;
mod terms;
pub mod tokens;

pub use bind::BindError;
pub use cell::Cell;
pub use evidence::for_each_part;
pub use image::check as check_image;
pub use share::ColumnShare;
pub use terms::for_each_term;

use std::ops::Range;

use formats::Value;
use formats::manifest::{FittedFeature, Manifest};
use formats::rows::{RowBlock, RowFault};

use crate::{Data, Tensor};
use bind::Instance;
use step::Step;
use tokens::{Scratch, Tokenizer};

/// A column that the model reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputColumn {
    /// Its name in a file's header or an instance's fields.
    pub name: String,
    /// What its cells are.
    pub kind: ColumnKind,
}

/// What the cells of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// Free text.
    Text,
    /// A number.
    Number,
    /// One of a few texts.
    Category,
    /// An image file in base64.
    Image,
}

/// A feature step that cannot be built from its manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the feature step cannot be built: {0}")]
pub struct LoadError(pub(crate) String);

/// The fitted feature step of a trained model. Cheap to share: everything is read-only.
#[derive(Debug)]
pub struct FeatureStep {
    columns: Vec<InputColumn>,
    label: String,
    input_shape: Vec<usize>,
    width: usize,
    steps: Vec<Step>,
}

impl FeatureStep {
    /// Builds the lookup tables of a manifest, which [`Manifest::parse`] has checked.
    ///
    /// # Errors
    /// If one column is used as two kinds.
    pub fn new(manifest: &Manifest) -> Result<Self, LoadError> {
        Self::from_features(&manifest.features, &manifest.input_shape, &manifest.label)
    }

    /// The same from the parts of a manifest: `input_shape` holds as many elements as the features make;
    /// a field called `label` is allowed in an instance, and unused.
    ///
    /// # Errors
    /// If one column is used as two kinds, or the shape is another size.
    pub fn from_features(
        features: &[FittedFeature],
        input_shape: &[usize],
        label: &str,
    ) -> Result<Self, LoadError> {
        let mut columns = Vec::new();
        let mut steps = Vec::with_capacity(features.len());
        for feature in features {
            steps.push(Step::new(feature, &mut columns)?);
        }
        let width = input_shape.iter().product();
        if steps.iter().map(Step::width).sum::<usize>() != width {
            return Err(LoadError(format!("its features do not make rows of shape {input_shape:?}")));
        }
        Ok(FeatureStep { columns, label: label.to_owned(), input_shape: input_shape.to_vec(), width, steps })
    }

    /// The columns it reads, in the order of a list instance.
    pub fn columns(&self) -> &[InputColumn] {
        &self.columns
    }

    /// The shape of one row of its output.
    pub fn row_shape(&self) -> &[usize] {
        &self.input_shape
    }

    /// Rows from instances: a text where there is one text column; a list in column order; or an object
    /// by column name. Pixels may be nested lists; an image file is its base64 text.
    ///
    /// # Errors
    /// The first instance that cannot be read, by number, and the field to blame.
    pub fn from_values(&self, instances: &[Value]) -> Result<Tensor, BindError> {
        let mut rows = Rows::new(self, instances.len());
        for (i, value) in instances.iter().enumerate() {
            let fail = |message| BindError { instance: i, message };
            let instance = Instance::new(self, value).map_err(fail)?;
            rows.push(|column| instance.cell(column)).map_err(fail)?;
        }
        rows.finish()
    }

    /// Rows from a block of a file. A row with a bad cell becomes a fault; the tensor holds the others,
    /// in order.
    ///
    /// # Errors
    /// If the block lacks a column.
    pub fn from_rows(&self, block: &RowBlock) -> Result<(Tensor, Vec<RowFault>), BindError> {
        let mut places = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let place = block.column(&column.name).ok_or_else(|| BindError {
                instance: 0,
                message: format!("the rows have no column `{}`, which the model reads", column.name),
            })?;
            places.push(place);
        }
        let mut rows = Rows::new(self, block.rows());
        let mut faults = Vec::new();
        for row in 0..block.rows() {
            let cell = |column: usize| {
                Cell::Text(block.cell(row, places.get(column).copied().unwrap_or(usize::MAX)))
            };
            if let Err(reason) = rows.push(cell) {
                faults.push(RowFault { row: block.row_number(row), reason });
            }
        }
        Ok((rows.finish()?, faults))
    }

    /// One row that stands for "nothing known": empty texts, average numbers, no category, black pixels.
    ///
    /// # Errors
    /// Never in practice: the shape is the step's own.
    pub fn baseline(&self) -> Result<Tensor, BindError> {
        let mut row = vec![0.0; self.width];
        let mut rest = row.as_mut_slice();
        for step in &self.steps {
            let (own, after) = rest.split_at_mut(step.width());
            step.baseline(own);
            rest = after;
        }
        self.tensor(1, row)
    }

    /// The tokens of a text as byte ranges, by the first text column's rules; none if there is no text.
    pub fn text_tokens(&self, text: &str) -> Vec<Range<usize>> {
        match self.tokenizer() {
            Some(tokenizer) => tokenizer.spans(text).collect(),
            None => Vec::new(),
        }
    }

    /// The text without the tokens whose entry in `keep` is false; what lies between tokens stays.
    /// Tokens beyond the end of `keep` stay.
    pub fn text_from_mask(&self, text: &str, keep: &[bool]) -> String {
        let mut kept = String::with_capacity(text.len());
        let mut from = 0;
        for (token, keep) in self.text_tokens(text).into_iter().zip(keep) {
            if !keep {
                kept.push_str(text.get(from..token.start).unwrap_or_default());
                from = token.end;
            }
        }
        kept.push_str(text.get(from..).unwrap_or_default());
        kept
    }

    /// Gives the attributions of the network's inputs (one per number of a row) back to the columns of
    /// an instance, and within a text to its tokens. The sum is kept. For texts the shares are exact with
    /// respect to [`FeatureStep::baseline`].
    ///
    /// # Errors
    /// If the instance cannot be read, or the number of attributions is not the row's.
    pub fn share(&self, value: &Value, attributions: &[f64]) -> Result<Vec<ColumnShare>, BindError> {
        let fail = |message| BindError { instance: 0, message };
        let instance = Instance::new(self, value).map_err(fail)?;
        share::columns(self, &instance, attributions).map_err(fail)
    }

    fn tokenizer(&self) -> Option<Tokenizer> {
        self.steps.iter().find_map(Step::tokenizer)
    }

    /// `rows` of finished numbers as a tensor: ids are int32.
    fn tensor(&self, rows: usize, values: Vec<f32>) -> Result<Tensor, BindError> {
        let shape = [&[rows], self.input_shape.as_slice()].concat();
        let ids = self.steps.iter().any(|step| matches!(step, Step::Sequence { .. }));
        let data = match ids {
            true => Data::I32(values.into_iter().map(|id| id as i32).collect()),
            false => Data::F32(values),
        };
        Tensor::new(shape, data).map_err(|e| BindError { instance: 0, message: e.to_string() })
    }
}

/// Rows under construction.
struct Rows<'a> {
    step: &'a FeatureStep,
    values: Vec<f32>,
    count: usize,
    scratch: Scratch,
}

impl<'a> Rows<'a> {
    fn new(step: &'a FeatureStep, capacity: usize) -> Self {
        let values = Vec::with_capacity(capacity.saturating_mul(step.width).min(1 << 26));
        Rows { step, values, count: 0, scratch: Scratch::default() }
    }

    /// Appends the row of the given cells, or nothing.
    fn push<'c>(&mut self, cell: impl Fn(usize) -> Cell<'c>) -> Result<(), String> {
        let kept = self.values.len();
        self.values.resize(kept + self.step.width, 0.0);
        let mut rest = self.values.get_mut(kept..).unwrap_or_default();
        let mut result = Ok(());
        for step in &self.step.steps {
            let (own, after) = rest.split_at_mut(step.width());
            result = step.write(&self.step.columns, &cell, own, &mut self.scratch);
            if result.is_err() {
                break;
            }
            rest = after;
        }
        match &result {
            Ok(()) => self.count += 1,
            Err(_) => self.values.truncate(kept),
        }
        result
    }

    fn finish(self) -> Result<Tensor, BindError> {
        self.step.tensor(self.count, self.values)
    }
}

#[cfg(test)]
mod tests;
