//! [`Network`]: a trained network, for the gradients of its answers by its inputs.

use std::path::Path;

use burn::tensor::Device;
use formats::manifest::{MANIFEST_FILE, Manifest, ManifestError, WEIGHTS_FILE, Weights, WeightsError};
use formats::spec::{Layer, SpecError, shapes};
use tensor::{Data, DataType, ShapeError, Tensor};

use crate::export::{burn_layout, name};
use crate::network::{Batch, Mode, Net};

/// A trained network. Read-only: calls from several threads do not disturb each other.
#[derive(Debug)]
pub struct Network {
    net: Net,
    outputs: usize,
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
    #[error("the network takes float32 rows of shape {expected:?}, not {found_type} of shape {found:?}")]
    Inputs {
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
    /// The network begins with an embedding.
    #[error("a network over token ids has no gradient by its input; explain it with sampled Shapley values")]
    Ids,
    /// The result has not the shape it should have, which does not happen.
    #[error("the gradients are malformed: {0}")]
    Malformed(String),
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
            param.values = burn_layout(&shape, weights.get(&name(param.layer, param.name), &shape)?);
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
        let device = Device::flex();
        let batch = match inputs.data() {
            Data::F32(values) if !self.takes_ids() => Batch::Numbers(values.clone()),
            Data::I32(ids) if self.takes_ids() => Batch::Ids(ids.clone()),
            _ => return Err(self.refuse(inputs)),
        };
        if inputs.shape().get(1..) != Some(self.net.input_shape.as_slice()) {
            return Err(self.refuse(inputs));
        }
        if inputs.rows() == 0 {
            return Ok(Tensor::new(vec![0, self.outputs], Data::F32(Vec::new()))?);
        }
        let params = self.net.bind(&device, false);
        let output = self.net.run(&params, batch, Mode::Inference, &device).output;
        Ok(Tensor::new(vec![inputs.rows(), self.outputs], Data::F32(numbers(output)?))?)
    }

    /// The derivative of output number `output` by every number of `inputs`, row by row: the shape of
    /// `inputs`.
    ///
    /// # Errors
    /// If the inputs have another type or shape, there is no such output, or the network takes ids.
    pub fn gradients(&self, inputs: &Tensor, output: usize) -> Result<Tensor, NetworkError> {
        if self.takes_ids() {
            return Err(NetworkError::Ids);
        }
        if output >= self.outputs {
            return Err(NetworkError::Output { output, outputs: self.outputs });
        }
        let values = match inputs.as_f32() {
            Some(values) if inputs.shape().get(1..) == Some(self.net.input_shape.as_slice()) => values,
            _ => return Err(self.refuse(inputs)),
        };
        if inputs.rows() == 0 {
            return Ok(inputs.clone());
        }
        let device = Device::flex().autodiff();
        let params = self.net.bind(&device, false);
        let rows = self.net.rows(values.to_vec(), &device).require_grad();
        let answers = self.net.forward(&params, rows.clone(), Mode::Inference).output;
        // Rows do not influence each other, so the gradient of the sum holds each row's own.
        let mut gradients = answers.narrow(1, output, 1).sum().backward();
        let gradients = match rows.grad_remove(&mut gradients) {
            Some(gradients) => numbers(gradients)?,
            // A network that ignores its input.
            None => vec![0.0; values.len()],
        };
        Ok(Tensor::new(inputs.shape().to_vec(), Data::F32(gradients))?)
    }

    fn takes_ids(&self) -> bool {
        matches!(self.net.layers.first(), Some(Layer::Embedding { .. }))
    }

    fn refuse(&self, inputs: &Tensor) -> NetworkError {
        NetworkError::Inputs {
            expected: self.net.input_shape.clone(),
            found_type: inputs.data().data_type(),
            found: inputs.shape().to_vec(),
        }
    }
}

fn numbers<const D: usize>(tensor: burn::tensor::Tensor<D>) -> Result<Vec<f32>, NetworkError> {
    tensor.try_into_vec_as::<f32>().map_err(|e| NetworkError::Malformed(e.to_string()))
}
