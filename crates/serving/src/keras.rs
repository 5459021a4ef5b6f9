//! [`load`]: the network of a Keras archive, as the graph that the runtime runs.

use std::path::Path;

use formats::keras::{KerasError, Model};
use tensor::OnnxModel;
use tensor::export::{KerasExportError, keras};

/// Why an archive cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum KerasLoadError {
    /// It cannot be read.
    #[error(transparent)]
    Archive(#[from] KerasError),
    /// Its layers do not fit together.
    #[error(transparent)]
    Layers(#[from] KerasExportError),
    /// The runtime does not take them.
    #[error(transparent)]
    Graph(#[from] tensor::LoadError),
}

/// Loads the archive at `path`.
pub(crate) fn load(path: &Path) -> Result<OnnxModel, KerasLoadError> {
    let graph = keras(&Model::open(path)?)?;
    let model = OnnxModel::from_bytes(graph.bytes)?.holding(graph.sizes);
    Ok(match graph.front {
        Some(front) => model.reading(front),
        None => model,
    })
}
