//! [`Network`]: a trained network, for the gradients of its answers by its inputs.

use std::path::Path;

use formats::manifest::{MANIFEST_FILE, Manifest, ManifestError, WEIGHTS_FILE, Weights, WeightsError};
use formats::spec::{Layer, SpecError, shapes};
use tensor::{Data, DataType, ShapeError, Tensor};

use kernels::OutOfMemory;

use crate::export::name;
use crate::network::{Batch, Mode, Net, PassError, Wanted};
use crate::passes::embedding;
use crate::products::Products;

/// A trained network. Read-only: calls from several threads do not disturb each other.
#[derive(Debug)]
pub struct Network {
    pub(crate) net: Net,
    pub(crate) outputs: usize,
}

/// A network that cannot be loaded, or inputs that it cannot take.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A file of the artifact could not be read.
    #[error("failed reading `{file}`")]
    Read {
        /// Its name.
        file: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The weights are wrong.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The layers do not fit together.
    #[error(transparent)]
    Layers(#[from] SpecError),
    /// Inputs of another type or shape.
    #[error(
        "the network takes {expected_type} rows of shape {expected:?}, not {found_type} of shape {found:?}"
    )]
    Inputs {
        /// Numbers, or ids.
        expected_type: DataType,
        /// One row.
        expected: Vec<usize>,
        /// What came.
        found_type: DataType,
        /// What came, the row count first.
        found: Vec<usize>,
    },
    /// An output that the network does not have.
    #[error("the network has {outputs} outputs, no number {output} (from 0)")]
    Output {
        /// Asked for.
        output: usize,
        /// Present.
        outputs: usize,
    },
    /// A network made elsewhere has something that networks trained here have not.
    #[error("{0} is not what networks trained here have")]
    Unknown(&'static str),
    /// The inputs did not get through the network.
    #[error("the inputs did not get through the network: {0}")]
    Pass(#[from] PassError),
    /// The result has not the shape it should have, which does not happen.
    #[error("the gradients are malformed: {0}")]
    Malformed(String),
}

impl From<OutOfMemory> for NetworkError {
    fn from(error: OutOfMemory) -> Self {
        NetworkError::Pass(error.into())
    }
}

impl From<ShapeError> for NetworkError {
    fn from(error: ShapeError) -> Self {
        NetworkError::Malformed(error.to_string())
    }
}

impl Network {
    /// Reads manifest and weights of the artifact in `dir`.
    ///
    /// # Errors
    /// If a file is missing, or they do not fit together.
    pub fn load(dir: &Path) -> Result<Self, NetworkError> {
        let read = |file: &'static str| {
            std::fs::read(dir.join(file)).map_err(|source| NetworkError::Read { file, source })
        };
        let manifest = Manifest::parse(&read(MANIFEST_FILE)?)?;
        let weights = Weights::parse(&read(WEIGHTS_FILE)?)?;
        Self::new(&manifest, &weights)
    }

    /// The network of a manifest, with its weights.
    ///
    /// # Errors
    /// If they do not fit together.
    pub fn new(manifest: &Manifest, weights: &Weights) -> Result<Self, NetworkError> {
        let mut net = Net::new(&manifest.input_shape, &manifest.layers, false, 0)?;
        let shapes = shapes(&manifest.input_shape, &manifest.layers)?;
        for param in &mut net.params {
            let declared = manifest.layers[param.layer].weights(&shapes[param.layer]);
            let shape = declared.into_iter().find(|(name, _)| *name == param.name).map(|(_, shape)| shape);
            let shape = shape.unwrap_or_default();
            param.values = weights.get(&name(param.layer, param.name), &shape)?.to_vec();
        }
        Ok(Network { net, outputs: manifest.task.outputs() })
    }

    /// Outputs per row.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// The answers for `inputs` (`[rows, …]`): `[rows, outputs]`.
    ///
    /// # Errors
    /// If the inputs have another type or shape.
    pub fn predict(&self, inputs: &Tensor) -> Result<Tensor, NetworkError> {
        self.check(inputs)?;
        let batch = match inputs.data() {
            Data::F32(values) => Batch::Numbers(values.clone()),
            Data::I32(ids) => Batch::Ids(ids.clone()),
            Data::Text(_) => return Err(self.refuse(inputs)),
        };
        if inputs.rows() == 0 {
            return Ok(Tensor::new(vec![0, self.outputs], Data::F32(Vec::new()))?);
        }
        let pass = self.net.run(batch, Mode::Inference, &mut Products::new()?)?;
        Ok(Tensor::new(vec![inputs.rows(), self.outputs], Data::F32(pass.output().to_vec()))?)
    }

    /// Where on the way of a row gradients can be taken: the row itself where it holds numbers, and the vectors of
    /// the embedding, `[rows, ids, vector]`, where it holds ids. An id that the network masks is the zero vector,
    /// which adds as little to a mean as an id left out.
    ///
    /// # Errors
    /// If the inputs have another type or shape.
    pub fn points(&self, inputs: &Tensor) -> Result<Tensor, NetworkError> {
        self.check(inputs)?;
        let Data::I32(ids) = inputs.data() else { return Ok(inputs.clone()) };
        let table = self.net.params.iter().find(|param| param.layer == 0);
        let table = table.ok_or_else(|| NetworkError::Malformed("there is no embedding".into()))?;
        let width = table.shape.last().copied().unwrap_or(0);
        let mut vectors = embedding::look_up(&table.values, width, ids).map_err(PassError::Id)?;
        if self.masks() {
            let padding = vectors.chunks_mut(width.max(1)).zip(ids).filter(|(_, id)| **id == 0);
            padding.for_each(|(vector, _)| vector.fill(0.0));
        }
        let shape = [inputs.shape(), &[width]].concat();
        Ok(Tensor::new(shape, Data::F32(vectors))?)
    }

    /// The derivative of output number `output` by every number of `points`, row by row: the shape of `points`.
    /// They lie where [`Network::points`] of `row` (one row) lies; the ids that a network masks are those of `row`.
    ///
    /// # Errors
    /// If `row` or `points` have another type or shape, or there is no such output.
    pub fn gradients(&self, row: &Tensor, points: &Tensor, output: usize) -> Result<Tensor, NetworkError> {
        self.check(row)?;
        if output >= self.outputs {
            return Err(NetworkError::Output { output, outputs: self.outputs });
        }
        let values = points.as_f32().ok_or_else(|| self.refuse(points))?.to_vec();
        if points.rows() == 0 {
            return Ok(points.clone());
        }
        let batch = match (row.data(), points.shape()) {
            (Data::I32(ids), &[rows, length, _]) if length == ids.len() => {
                Batch::Vectors(values, self.masks().then(|| embedding::mask(ids).repeat(rows)))
            }
            (Data::F32(_), shape) if shape.get(1..) == row.shape().get(1..) => Batch::Numbers(values),
            _ => return Err(self.refuse(points)),
        };
        let mut products = Products::new()?;
        let pass = self.net.run(batch, Mode::Derivation, &mut products)?;
        // Rows do not influence each other: each has the gradient of its own answer.
        let mut gradient = vec![0.0; pass.output().len()];
        gradient.iter_mut().skip(output).step_by(self.outputs).for_each(|g| *g = 1.0);
        let gradients = self.net.back(&pass, gradient, Wanted::Input, &mut products)?;
        Ok(Tensor::new(points.shape().to_vec(), Data::F32(gradients))?)
    }

    /// Whether ids of 0 count as absent: an embedding that says so, under an average.
    fn masks(&self) -> bool {
        matches!(self.net.layers.first(), Some(Layer::Embedding { mask_zero: true, .. }))
            && self.net.layers.iter().any(|layer| matches!(layer, Layer::GlobalAveragePooling1d))
    }

    fn check(&self, inputs: &Tensor) -> Result<(), NetworkError> {
        let type_fits = match inputs.data() {
            Data::F32(_) => !self.takes_ids(),
            Data::I32(_) => self.takes_ids(),
            Data::Text(_) => false,
        };
        if !type_fits || inputs.shape().get(1..) != Some(self.net.input_shape.as_slice()) {
            return Err(self.refuse(inputs));
        }
        Ok(())
    }

    /// Whether its rows are ids, which an embedding looks up.
    pub fn takes_ids(&self) -> bool {
        matches!(self.net.layers.first(), Some(Layer::Embedding { .. }))
    }

    fn refuse(&self, inputs: &Tensor) -> NetworkError {
        NetworkError::Inputs {
            expected_type: if self.takes_ids() { DataType::I32 } else { DataType::F32 },
            expected: self.net.input_shape.clone(),
            found_type: inputs.data().data_type(),
            found: inputs.shape().to_vec(),
        }
    }
}
