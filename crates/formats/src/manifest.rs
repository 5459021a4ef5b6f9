//! [`Manifest`]: `meuse.json`, which says what a trained artifact holds and how its inputs are made.

mod evidence;
mod feature;
mod packed;
mod weights;

pub use evidence::Evidence;
pub use feature::FittedFeature;
pub use weights::{Weights, WeightsError};

use serde::{Deserialize, Serialize};

use crate::spec::{Layer, SpecError, TaskKind, TrainSpec, shapes};

/// The file name of a manifest.
pub const MANIFEST_FILE: &str = "meuse.json";
/// The file name of the network as ONNX.
pub const MODEL_FILE: &str = "model.onnx";
/// The file name of the network's weights, for gradients.
pub const WEIGHTS_FILE: &str = "weights.safetensors";

/// The largest manifest read, in bytes.
const MANIFEST_BYTES_MAX: usize = 256 << 20;
/// The most labels of a classification.
const LABELS_MAX: usize = 65_536;
/// The most elements of one row of network input.
const INPUT_ELEMENTS_MAX: usize = 16 << 20;
/// The only form so far.
const FORMAT: u32 = 1;

/// What a trained artifact holds; [`Manifest::parse`] checks that its parts agree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form of this file: 1.
    pub format: u32,
    /// What the network answers.
    pub task: Task,
    /// The column that held the answer.
    pub label: String,
    /// Inputs with what they learnt from the training rows; their columns lie side by side.
    pub features: Vec<FittedFeature>,
    /// The shape of one row of network input.
    pub input_shape: Vec<usize>,
    /// The network, every width decided; its last layer gives one score per label, or one number.
    pub layers: Vec<Layer>,
    /// Training rows used, validation rows included.
    pub rows: u64,
    /// What was asked for, seed included.
    pub spec: TrainSpec,
}

/// What the network answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Task {
    /// One score per label, in this order.
    Classification {
        /// The labels.
        labels: Vec<String>,
    },
    /// One number.
    Regression {},
}

/// A manifest that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not the JSON of a manifest.
    #[error("meuse.json cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// Readable, but its parts contradict each other or pass a limit.
    #[error("meuse.json: {0}")]
    Invalid(String),
}

impl From<SpecError> for ManifestError {
    fn from(error: SpecError) -> Self {
        ManifestError::Invalid(error.to_string())
    }
}

impl Task {
    /// Outputs of the network.
    pub fn outputs(&self) -> usize {
        match self {
            Task::Classification { labels } => labels.len(),
            Task::Regression {} => 1,
        }
    }

    /// Without the labels.
    pub fn kind(&self) -> TaskKind {
        match self {
            Task::Classification { .. } => TaskKind::Classification,
            Task::Regression {} => TaskKind::Regression,
        }
    }
}

impl Manifest {
    /// A manifest in today's form.
    pub fn new(
        task: Task,
        features: Vec<FittedFeature>,
        input_shape: Vec<usize>,
        layers: Vec<Layer>,
        rows: u64,
        spec: TrainSpec,
    ) -> Self {
        Manifest {
            format: FORMAT,
            task,
            label: spec.label.clone(),
            features,
            input_shape,
            layers,
            rows,
            spec,
        }
    }

    /// Reads and checks a manifest: sizes agree, numbers are finite, nothing passes its limit.
    ///
    /// # Errors
    /// If it is not one, or its parts contradict each other.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            let n = bytes.len();
            return Err(ManifestError::Invalid(format!(
                "{n} bytes are beyond the limit of {MANIFEST_BYTES_MAX}"
            )));
        }
        let manifest: Manifest = serde_json::from_slice(bytes)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The JSON text. The same manifest gives the same bytes.
    ///
    /// # Errors
    /// If a number is not finite, which [`Manifest::parse`] would refuse too.
    pub fn to_json(&self) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        Ok(serde_json::to_vec(self)?)
    }

    /// The input columns, in order, without repeats.
    pub fn columns(&self) -> Vec<&str> {
        let mut columns: Vec<&str> = Vec::new();
        for column in self.features.iter().flat_map(FittedFeature::columns) {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        columns
    }

    fn check(&self) -> Result<(), ManifestError> {
        if self.format != FORMAT {
            let n = self.format;
            return invalid(format!("its form is {n}; this program reads {FORMAT}: update it"));
        }
        if let Task::Classification { labels } = &self.task {
            check_labels(labels)?;
        }
        if self.features.is_empty() {
            return invalid("it has no features".to_owned());
        }
        let sequences = self.features.iter().filter(|f| matches!(f, FittedFeature::Sequence { .. })).count();
        if sequences > 0 && self.features.len() > 1 {
            return invalid("a sequence feature stands beside others".to_owned());
        }
        let mut width = 0usize;
        for (i, feature) in self.features.iter().enumerate() {
            feature.check().map_err(|message| ManifestError::Invalid(format!("features[{i}]: {message}")))?;
            width = width.saturating_add(feature.width());
        }
        let elements = self.input_shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if elements != Some(width) || width > INPUT_ELEMENTS_MAX {
            return invalid(format!(
                "its features make {width} numbers, its input shape is {:?}",
                self.input_shape
            ));
        }
        self.check_layers()
    }

    fn check_layers(&self) -> Result<(), ManifestError> {
        let shapes = shapes(&self.input_shape, &self.layers)?;
        let last = shapes.last().map(Vec::as_slice);
        if last != Some(&[self.task.outputs()]) {
            return invalid(format!(
                "its network gives rows of shape {last:?} for {} outputs",
                self.task.outputs()
            ));
        }
        for (i, layer) in self.layers.iter().enumerate() {
            if matches!(layer, Layer::Embedding { .. }) {
                let ids = match self.features.first() {
                    Some(FittedFeature::Sequence { vocabulary, .. }) => vocabulary.len() + 2,
                    _ => return invalid("its embedding does not follow a sequence feature".to_owned()),
                };
                if i != 0 || !matches!(layer, Layer::Embedding { input_dim: Some(n), .. } if *n >= ids) {
                    return invalid(format!("its embedding must be first and hold {ids} ids"));
                }
            }
        }
        Ok(())
    }
}

fn check_labels(labels: &[String]) -> Result<(), ManifestError> {
    let mut sorted: Vec<&String> = labels.iter().collect();
    sorted.sort_unstable();
    sorted.dedup();
    if !(2..=LABELS_MAX).contains(&labels.len()) || sorted.len() != labels.len() {
        return invalid(format!("its {} labels must be 2 to {LABELS_MAX} and differ", labels.len()));
    }
    Ok(())
}

fn invalid<T>(message: String) -> Result<T, ManifestError> {
    Err(ManifestError::Invalid(message))
}

#[cfg(test)]
mod tests;
