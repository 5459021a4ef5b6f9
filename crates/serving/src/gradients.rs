//! [`Gradients`]: the network of a model trained here, loaded when an explanation first needs it.

use std::path::PathBuf;
use std::sync::OnceLock;

use tensor::Tensor;
use train::Network;

use crate::error::PredictError;

/// Derivatives of a trained network's outputs by its inputs.
pub(crate) struct Gradients {
    dir: PathBuf,
    network: OnceLock<Result<Network, String>>,
}

impl Gradients {
    /// Of the network in the artifact directory `dir`. Nothing is read yet.
    pub(crate) fn of(dir: PathBuf) -> Self {
        Gradients { dir, network: OnceLock::new() }
    }

    /// The derivative of output `output` by every element of `inputs`, in the same shape.
    pub(crate) fn at(&self, inputs: &Tensor, output: usize) -> Result<Tensor, PredictError> {
        let network = self.network.get_or_init(|| Network::load(&self.dir).map_err(|e| e.to_string()));
        let failed = |message: String| PredictError::Failed { message };
        let network = network.as_ref().map_err(|e| failed(format!("the network's weights: {e}")))?;
        network.gradients(inputs, output).map_err(|e| failed(e.to_string()))
    }
}
