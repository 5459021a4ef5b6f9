//! [`Values`]: what lies between two layers.

/// Rows of numbers, row by row. Of an image, the channels of a pixel lie side by side.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Values {
    pub(crate) rows: usize,
    /// Of one row.
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<f32>,
}

impl Values {
    /// Rows of `shape`, as many as `data` has.
    pub(crate) fn new(shape: &[usize], data: Vec<f32>) -> Values {
        let width = shape.iter().product::<usize>().max(1);
        Values { rows: data.len() / width, shape: shape.to_vec(), data }
    }

    /// As many rows of another shape.
    pub(crate) fn with(&self, shape: Vec<usize>, data: Vec<f32>) -> Values {
        Values { rows: self.rows, shape, data }
    }

    /// The length of the last axis, which is that of a row's stretches.
    pub(crate) fn last(&self) -> usize {
        self.shape.last().copied().unwrap_or(1).max(1)
    }
}
