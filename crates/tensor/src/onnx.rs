//! [`OnnxModel`]: an ONNX file, loaded and run.
//!
//! The arithmetic is `rten`'s, or, for graphs with `ai.onnx.ml` nodes or with texts, that of [`crate::ml`], or where the
//! operator has brought ONNX Runtime's library and that is faster ([`contest`]) or the only one, the library's. This module decides
//! what reaches them: a file is walked over before it is parsed ([`inspect`]).

mod bound;
mod chain;
mod contest;
mod error;
mod file;
mod foreign;
mod inspect;
mod lane;
mod network;
mod plan;
mod ports;
mod recognise;
mod rewrite;
mod rows;
mod separate;
mod solo;
mod wire;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rten_onnx::onnx::DataType as Element;

use crate::ml::{self, Evaluator};
use crate::{Front, Signature, Sizes, Tensor, Tensors};
use foreign::{Foreign, Source};
use network::Network;

pub(crate) use inspect::{Extent, Inspection, Port as InspectedPort, initializer_texts};

pub(crate) use ports::check as check_inputs;

pub use error::{LoadError, RunError};
pub use foreign::{LibraryError, open_onnxruntime};
pub use lane::Lane;

/// What a load may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadLimits {
    /// Most bytes of the model file and the weight files beside it together.
    pub bytes_max: u64,
}

impl Default for LoadLimits {
    fn default() -> Self {
        LoadLimits { bytes_max: 8 << 30 }
    }
}

/// A loaded ONNX model. Runs from several threads at once are independent; each runs on one thread, see
/// [`Lane`].
///
/// Element types that tensors do not have are carried by others: int64 and bool by int32, float64 and float16 by
/// float32. [`OnnxModel::notes`] says where that happens.
#[derive(Debug)]
pub struct OnnxModel {
    engine: Engine,
    sizes: Sizes,
    /// What comes before the graph, and what the two together take and give.
    front: Option<(Front, Signature)>,
}

/// What computes a graph.
#[derive(Debug)]
enum Engine {
    /// The built-in runtime.
    Network(Box<Network>),
    /// ONNX Runtime's library.
    Foreign(Box<Foreign>),
    /// Our own evaluator, and whether rows of several requests can run together.
    Evaluator { evaluator: Box<Evaluator>, batched: bool },
}

impl OnnxModel {
    /// Loads a model file within [`LoadLimits::default`].
    ///
    /// # Errors
    /// If the file is not an ONNX model that this runtime can serve; the error says why.
    pub fn load(path: &Path) -> Result<OnnxModel, LoadError> {
        Self::load_within(path, &LoadLimits::default())
    }

    /// Loads a model file, and the weights that it keeps in files beside it.
    ///
    /// # Errors
    /// See [`OnnxModel::load`]; also if the files are larger than `limits` allow.
    pub fn load_within(path: &Path, limits: &LoadLimits) -> Result<OnnxModel, LoadError> {
        let bytes = file::read(path, limits.bytes_max)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        recognise::recognise(&bytes, &name)?;
        let budget = limits.bytes_max.saturating_sub(bytes.len() as u64);
        let directory =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self::load_parts(bytes, Some(path), |external| file::read_external(directory, external, budget))
    }

    /// Loads a model from memory. Its weights must all be in `bytes`.
    ///
    /// # Errors
    /// See [`OnnxModel::load`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<OnnxModel, LoadError> {
        recognise::recognise(&bytes, "")?;
        Self::load_parts(bytes, None, |external| match external.first() {
            None => Ok(Vec::new()),
            Some(location) => Err(LoadError::ExternalData {
                location: location.clone(),
                reason: "a model in memory must hold its weights itself".to_owned(),
            }),
        })
    }

    fn load_parts(
        bytes: Vec<u8>,
        path: Option<&Path>,
        read_external: impl FnOnce(&[String]) -> Result<Vec<Vec<u8>>, LoadError>,
    ) -> Result<OnnxModel, LoadError> {
        let inspection =
            Inspection::of(&bytes).map_err(|refused| LoadError::NotOnnx { reason: refused.0 })?;
        let locations: Vec<String> = inspection.external.iter().cloned().collect();
        let takes_text = inspection.inputs.iter().any(|port| port.element == Some(Element::STRING));
        if takes_text || inspection.operators.iter().any(|(domain, name)| ml::is_for(domain, name)) {
            let external: Vec<_> = locations.iter().cloned().zip(read_external(&locations)?).collect();
            let evaluator = Box::new(file::guarded(|| Evaluator::of(&bytes, &inspection, &external))?);
            let signature = evaluator.signature();
            let batched = ports::share_a_batch(signature, |name| inspection.batch_name(name));
            return Ok(OnnxModel::of(Engine::Evaluator { evaluator, batched }));
        }
        file::check_operators(&inspection)?;
        let ports = ports::declared(&inspection)?;
        let external: Vec<_> = locations.iter().cloned().zip(read_external(&locations)?).collect();
        let size = bytes.len() + external.iter().map(|(_, content)| content.len()).sum::<usize>();
        let copy = foreign::is_open().then(|| bytes.clone());
        let own = Network::of(bytes, external, &inspection, ports.clone());
        let foreign = match (&copy, path) {
            _ if own.as_ref().is_ok_and(Network::is_chain) => None,
            (None, _) => None,
            (Some(_), Some(path)) if !locations.is_empty() => Some(Source::File(path)),
            (Some(bytes), _) => Some(Source::Bytes(bytes)),
        };
        let foreign = foreign.map(|source| Foreign::of(&source, size, &inspection, ports));
        let engine = match (own, foreign) {
            (Ok(own), Some(Ok(foreign))) if contest::wins(&foreign, &own) => {
                Engine::Foreign(Box::new(foreign))
            }
            (Ok(own), _) => Engine::Network(Box::new(own)),
            (Err(_), Some(Ok(foreign))) => Engine::Foreign(Box::new(foreign)),
            (Err(error), _) => return Err(error),
        };
        Ok(OnnxModel::of(engine))
    }

    fn of(engine: Engine) -> OnnxModel {
        OnnxModel { engine, sizes: Sizes::default(), front: None }
    }

    /// The model, known to hold values of these sizes. Who runs it sees to it that they do not become too large.
    #[must_use]
    pub fn holding(self, sizes: Sizes) -> OnnxModel {
        OnnxModel { sizes, ..self }
    }

    /// The model, of which some inputs are looked up in vocabularies before the graph takes them.
    #[must_use]
    pub fn reading(self, front: Front) -> OnnxModel {
        let signature = Signature { inputs: front.inputs.clone(), outputs: self.signature().outputs.clone() };
        OnnxModel { front: Some((front, signature)), ..self }
    }

    /// The values that it is known to hold.
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// Bytes that the model in the file `path` takes once it is loaded, rather too many than too few.
    ///
    /// # Errors
    /// If the file, or those beside it that its weights may lie in, cannot be looked at.
    pub fn memory_needed(path: &Path) -> std::io::Result<u64> {
        file::memory_needed(path)
    }

    /// Runs the model once on nothing, so that the first to ask does not wait for what is made ready then.
    pub fn warm_up(&self) {
        // A graph that cannot run on zeros says so to those who ask for it.
        let _ = contest::blank(&self.signature().inputs, 1).and_then(|inputs| self.run(&inputs));
    }

    /// What the model takes and gives.
    pub fn signature(&self) -> &Signature {
        if let Some((_, signature)) = &self.front {
            return signature;
        }
        match &self.engine {
            Engine::Network(network) => network.signature(),
            Engine::Foreign(foreign) => foreign.signature(),
            Engine::Evaluator { evaluator, .. } => evaluator.signature(),
        }
    }

    /// Where the computation differs from the letter of the file, for the model's owner.
    pub fn notes(&self) -> &[String] {
        match &self.engine {
            Engine::Network(network) => network.notes(),
            Engine::Foreign(foreign) => foreign.notes(),
            Engine::Evaluator { evaluator, .. } => evaluator.notes(),
        }
    }

    /// The labels of the classes, if the graph is a classifier that gives a label and a score for each class.
    pub fn classes(&self) -> Option<&[String]> {
        match &self.engine {
            Engine::Network(_) | Engine::Foreign(_) => None,
            Engine::Evaluator { evaluator, .. } => evaluator.classes(),
        }
    }

    /// Whether values of an input may be missing, which is to say no numbers: whether the graph fills them in, or decides
    /// by trees, which have a branch for them.
    pub fn takes_missing(&self, input: &str) -> bool {
        match &self.engine {
            Engine::Network(_) | Engine::Foreign(_) => false,
            Engine::Evaluator { evaluator, .. } => evaluator.takes_missing(input),
        }
    }

    /// Whether the first dimension of every input is a batch of any size, so that rows of several
    /// requests can run together. A row then gives the same bits whatever rows run with it.
    pub fn is_batched(&self) -> bool {
        match &self.engine {
            Engine::Network(network) => network.is_batched(),
            Engine::Foreign(foreign) => foreign.is_batched(),
            Engine::Evaluator { batched, .. } => *batched,
        }
    }

    /// Whether ONNX Runtime's library computes it.
    pub fn is_foreign(&self) -> bool {
        matches!(self.engine, Engine::Foreign(_))
    }

    /// Whether rows together take as long as each by itself.
    pub fn runs_apart(&self) -> bool {
        match &self.engine {
            Engine::Network(network) => network.runs_apart(),
            Engine::Foreign(_) => true,
            Engine::Evaluator { .. } => false,
        }
    }

    /// Runs the model. Inputs may come in any order; outputs come in the signature's.
    ///
    /// # Errors
    /// If the inputs are not those of the signature, or the model fails on them.
    pub fn run(&self, inputs: &[(String, Tensor)]) -> Result<Tensors, RunError> {
        match &self.front {
            Some((front, _)) => self.compute(&front.read(inputs, self.is_batched())?),
            None => self.compute(inputs),
        }
    }

    /// Runs the graph.
    fn compute(&self, inputs: &[(String, Tensor)]) -> Result<Tensors, RunError> {
        match &self.engine {
            Engine::Network(network) => network.run(inputs),
            Engine::Foreign(foreign) => foreign.run(inputs),
            Engine::Evaluator { evaluator, batched } => {
                let specs: Vec<_> = evaluator.signature().inputs.iter().collect();
                let ordered = ports::check(&specs, inputs, *batched)?;
                catch_unwind(AssertUnwindSafe(|| evaluator.run(&ordered)))
                    .unwrap_or_else(|panic| Err(RunError::Failed { reason: panic_text(&*panic) }))
            }
        }
    }
}

/// Operators whose result for one row may depend on whether there are others; see `Network::run_pair`.
const MATRIX_PRODUCTS: &[&str] = &[
    "Attention",
    "Einsum",
    "FusedMatMul",
    "GRU",
    "Gemm",
    "GroupQueryAttention",
    "LSTM",
    "MatMul",
    "MatMulInteger",
    "MatMulNBits",
    "MultiHeadAttention",
    "QLinearMatMul",
    "RNN",
];

fn failed(error: impl std::fmt::Display) -> RunError {
    RunError::Failed { reason: error.to_string() }
}

/// The message of a panic.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    format!("the runtime failed: {}", text.unwrap_or("no message"))
}
