//! Keras archives (`.keras`): a network's configuration and its weights, read into layers and how they hang together.
//!
//! Nothing in an archive is run: a layer that holds Python code is refused, as is every layer and every option that
//! would change the answers and is not known here.

mod activation;
mod archive;
mod attention;
mod call;
mod graph;
mod layer;
mod lookup;
mod operation;
mod read;
mod weights;

use std::path::Path;

pub use activation::Activation;
pub use attention::{Attention, Heads, Projection};
pub use layer::{Array, Cells, Kind, Layer, Merge, Recurrent, Sides, Window};
pub use lookup::{Encoded, Lookup, Split, Words};
pub use operation::{Item, Operation, Sum};

use crate::hdf5::Hdf5Error;
use crate::spec::SpecError;
use crate::zip::ZipError;

/// A network as an archive describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// What it takes, in its order.
    pub inputs: Vec<Input>,
    /// Its layers with their weights. One that is applied several times stands here once.
    pub layers: Vec<Named>,
    /// The layers applied, each after all that it takes.
    pub nodes: Vec<Node>,
    /// What it gives, in its order.
    pub outputs: Vec<Output>,
}

/// An input of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Its name in the archive.
    pub name: String,
    /// One row of it; `None` is a dimension of any length.
    pub shape: Vec<Option<usize>>,
    /// What it holds.
    pub elements: Elements,
}

/// What an input holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elements {
    /// Numbers.
    Floats,
    /// Whole numbers.
    Integers,
    /// Texts.
    Texts,
}

/// A layer and what the archive calls it.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    /// For messages: its name and its class.
    pub name: String,
    /// What it computes.
    pub layer: Layer,
}

/// A value between layers, by its number: first the inputs, then what each node gives.
pub type Place = usize;

/// A layer applied to values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Which of [`Model::layers`].
    pub layer: usize,
    /// What it takes, each from before this node.
    pub inputs: Vec<Place>,
    /// For each input, as far as the archive names some: truth values that say which steps of it count.
    pub masks: Vec<Option<Place>>,
    /// Which steps of an attention's query may look at which of its key, where the archive names that.
    pub allowed: Option<Place>,
    /// Whether no step looks at a later one.
    pub causal: bool,
    /// Whether an attention's scores are given besides.
    pub scores: bool,
}

/// An output of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its name in the archive, or that of the layer that gives it.
    pub name: String,
    /// Where it comes from.
    pub place: Place,
}

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum KerasError {
    /// It is no whole archive.
    #[error(transparent)]
    Archive(#[from] ZipError),
    /// A part of it is too large, or claims to be.
    #[error("`{member}` of the archive has more than {limit} bytes, the limit")]
    TooLarge {
        /// Which part.
        member: &'static str,
        /// The most bytes that are read of it.
        limit: u64,
    },
    /// A part of it cannot be unpacked.
    #[error("`{0}` of the archive cannot be unpacked")]
    Unpack(&'static str),
    /// Its configuration is not JSON.
    #[error("`config.json` of the archive: {0}")]
    Json(#[from] serde_json::Error),
    /// Its configuration says something that is not understood or not supported.
    #[error(transparent)]
    Config(#[from] SpecError),
    /// Its weights are not where they should be.
    #[error("`model.weights.h5` of the archive: {0}")]
    Weights(#[from] Hdf5Error),
}

impl Model {
    /// Reads the archive at `path`, which nobody may change meanwhile.
    ///
    /// # Errors
    /// If it is damaged, passes a limit, or holds a layer or an option that is not known; the text names it.
    pub fn open(path: &Path) -> Result<Model, KerasError> {
        archive::read(&crate::zip::Archive::open(path)?)
    }

    /// Reads the archive that `bytes` are.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Model, KerasError> {
        archive::read(&crate::zip::Archive::from_bytes(bytes))
    }
}

#[cfg(test)]
mod tests;
