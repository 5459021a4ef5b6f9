//! Pure functions over predictions: metrics and attributions.
//!
//! Nothing here reads a file, waits or knows a protocol. There are two halves.
//!
//! **Metrics** are accumulators: they see one prediction at a time, take memory that does not grow with the
//! number of rows, and [merge](Classification::merge), so that parts of a file can be measured apart. What they
//! answer equals scikit-learn's to 1e-9 on the same predictions.
//!
//! - [`Classification`]: accuracy, log loss, precision, recall, F1, areas under the ROC and precision-recall
//!   curves, confusion matrix, confidence curve.
//! - [`MultiLabel`]: the same of any number of labels a row: precision, recall and F1 by label, micro and macro,
//!   subset accuracy.
//! - [`Regression`]: RMSE, MAE, MAPE, RMSLE, R².
//! - [`Comparison`]: two models on the same rows, with intervals by resampling and McNemar's test.
//! - [`Slices`]: one accumulator for each value of a column.
//!
//! **Attributions** say how much each part of an input contributed to an output.
//!
//! - [`shapley`]: for anything that can be evaluated with parts of its input left out.
//! - [`removal`]: the same, one part at a time, and a test of how far any attributions can be trusted.
//! - [`integrated_gradients`]: for what has gradients.
//! - [`superpixels`]: the parts of a picture.
//! - [`completeness_gap`]: the error both report.
//! - [`Neighbours`]: which examples lie nearest.

mod areas;
mod classification;
mod comparison;
mod completeness;
mod confidence;
mod confusion;
mod decimal;
pub mod integrated_gradients;
mod multilabel;
mod neighbours;
mod random;
mod regression;
pub mod removal;
mod scores;
pub mod shapley;
mod slices;
mod sum;
mod superpixels;

pub use areas::Area;
pub use classification::{
    Averages, CLASSES_MAX, ClassMetrics, Classification, ClassificationMetrics, MergeError, ObservationError,
    Options,
};
pub use comparison::{
    Comparison, ComparisonMetrics, Difference, Figure, McNemar, REPLICATES, RowError, Verdict,
};
pub use completeness::completeness_gap;
pub use confidence::{CONFIDENCE_THRESHOLDS, ConfidencePoint};
pub use confusion::Confusion;
pub use decimal::as_written;
pub use multilabel::{MultiLabel, MultiLabelMetrics};
pub use neighbours::{Neighbour, Neighbours};
pub use regression::{Regression, RegressionMetrics};
pub use slices::{SLICE_VALUE_BYTES_MAX, Slices};
pub use superpixels::superpixels;
