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

    /// Where gradients of a row of inputs can be taken; see [`Network::points`].
    pub(crate) fn points(&self, inputs: &Tensor) -> Result<Tensor, PredictError> {
        self.network()?.points(inputs).map_err(|e| failed(e.to_string()))
    }

    /// The derivative of output `output` by every element of `points`, in the same shape. They lie where the points
    /// of `row` lie.
    pub(crate) fn at(&self, row: &Tensor, points: &Tensor, output: usize) -> Result<Tensor, PredictError> {
        self.network()?.gradients(row, points, output).map_err(|e| failed(e.to_string()))
    }

    fn network(&self) -> Result<&Network, PredictError> {
        let network = self.network.get_or_init(|| Network::load(&self.dir).map_err(|e| e.to_string()));
        network.as_ref().map_err(|e| failed(format!("the network's weights: {e}")))
    }
}

fn failed(message: String) -> PredictError {
    PredictError::Failed { message }
}
