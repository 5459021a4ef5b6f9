//! [`TensorView`]: one tensor of a model file.

use crate::Format;

/// One tensor of a model file, as it lies there.
///
/// Whoever gives one out has checked that `bytes` is exactly what `shape` and `format` need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorView<'a> {
    /// Its name in the file.
    pub name: &'a str,
    /// Dimensions, the slowest first: a matrix is `[rows, columns]`, a row's elements lie side by side. None is zero.
    pub shape: &'a [usize],
    /// How its elements are stored.
    pub format: Format,
    /// The elements, row after row.
    pub bytes: &'a [u8],
}

impl TensorView<'_> {
    /// Elements of one row: the last dimension, 1 for a single number.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Rows of [`TensorView::columns`] elements.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape.split_last().map_or(1, |(_, slower)| slower.iter().product())
    }
}
