//! [`Gradients`]: a network as something that has derivatives, loaded when an explanation first needs it.

use std::path::PathBuf;
use std::sync::OnceLock;

use formats::keras;
use tensor::layers::{of_keras, of_onnx};
use tensor::{Data, Tensor};
use train::Network;

use crate::error::PredictError;
use crate::source::Source;

/// Derivatives of a network's outputs by its inputs.
pub(crate) struct Gradients {
    origin: Origin,
    network: OnceLock<Result<Network, PredictError>>,
}

/// Where a network comes from.
pub(crate) enum Origin {
    /// An artifact directory that training here wrote.
    Trained(PathBuf),
    /// A file made elsewhere.
    Elsewhere(Source),
}

impl Gradients {
    /// Of the network at `origin`. Nothing is read yet.
    pub(crate) fn of(origin: Origin) -> Self {
        Gradients { origin, network: OnceLock::new() }
    }

    /// Where gradients of a row of inputs can be taken; see [`Network::points`].
    pub(crate) fn points(&self, inputs: &Tensor) -> Result<Tensor, PredictError> {
        self.network()?.points(&ids(inputs, self.network()?)?).map_err(|e| failed(e.to_string()))
    }

    /// The derivative of output `output` by every element of `points`, in the same shape. They lie where the points
    /// of `row` lie.
    pub(crate) fn at(&self, row: &Tensor, points: &Tensor, output: usize) -> Result<Tensor, PredictError> {
        let network = self.network()?;
        network.gradients(&ids(row, network)?, points, output).map_err(|e| failed(e.to_string()))
    }

    fn network(&self) -> Result<&Network, PredictError> {
        self.network.get_or_init(|| self.origin.load()).as_ref().map_err(Clone::clone)
    }
}

impl Origin {
    fn load(&self) -> Result<Network, PredictError> {
        let chain = match self {
            Origin::Trained(dir) => {
                return Network::load(dir).map_err(|e| failed(format!("the network's weights: {e}")));
            }
            Origin::Elsewhere(Source::Keras(path)) => {
                let model = keras::Model::open(path).map_err(|e| failed(e.to_string()))?;
                of_keras(&model)
            }
            Origin::Elsewhere(Source::Onnx(path)) => of_onnx(path),
        };
        chain.and_then(|chain| Network::of_chain(chain).map_err(|e| e.to_string())).map_err(|reason| {
            PredictError::BadRequest {
                message: format!(
                    "integrated gradients need a chain of layers such as networks trained here have, and this model \
                     is none: {reason}; use sampled Shapley for it"
                ),
            }
        })
    }
}

/// A row as the network takes it: ids may come as floats, which its file looks up cut to whole numbers.
fn ids(row: &Tensor, network: &Network) -> Result<Tensor, PredictError> {
    match row.data() {
        Data::F32(values) if network.takes_ids() => {
            let ids = Data::I32(values.iter().map(|v| *v as i32).collect());
            Tensor::new(row.shape().to_vec(), ids).map_err(|e| failed(e.to_string()))
        }
        _ => Ok(row.clone()),
    }
}

fn failed(message: String) -> PredictError {
    PredictError::Failed { message }
}
