//! [`Source`]: the file that a network is in.

use std::path::{Path, PathBuf};

/// Where a network is.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// In an ONNX file.
    Onnx(PathBuf),
    /// In a Keras archive.
    Keras(PathBuf),
}

impl Source {
    /// The file.
    pub(crate) fn file(&self) -> &Path {
        match self {
            Source::Onnx(path) | Source::Keras(path) => path,
        }
    }
}
