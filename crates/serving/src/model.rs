//! [`Model`]: a loaded version, from instances or rows to predictions.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use formats::Value;
use formats::manifest::{FittedFeature, Manifest, Task};
use formats::processing::Processing;
use formats::rows::{RowBlock, RowFault};
use tensor::features::{ColumnKind, FeatureStep};
use tensor::{Data, Dim, OnnxModel, ShapeError, Signature, Tensors};

use crate::admission;
use crate::artifact::{self, Artifact, LoadError};
use crate::batcher::{Rows, Run};
use crate::bind;
use crate::declared::Declared;
use crate::dormant::Dormant;
use crate::embedder::{Embedder, Encodes};
use crate::error::PredictError;
use crate::gradients::{Gradients, Origin};
use crate::language::{Files, Language, LanguageOptions};
use crate::plan::Plan;
use crate::ports;
use crate::predictions::{Form, Predictions};
use crate::runtime::{self, Runtime, RuntimeError};
use crate::scores::Scores;
use crate::source::Source;

/// A loaded model version: what turns instances into tensors, the runtime, and how its outputs read.
/// Shared by all requests; every method takes `&self` from any thread.
pub struct Model {
    runtime: Box<dyn Runtime>,
    plan: Plan,
    /// What it takes and gives by name.
    ports: Signature,
    form: Arc<Form>,
    pub(crate) trained: Option<Trained>,
    /// Loaded when first asked for: plain serving does without.
    pub(crate) gradients: Option<Gradients>,
    /// Of a model made elsewhere, what its artifact says is done to inputs.
    pub(crate) declared: Option<Declared>,
    /// And to outputs.
    scores: Option<Scores>,
    language: Option<Arc<Language>>,
    embedder: Option<Arc<Embedder>>,
    is_keras: bool,
}

/// What a model trained here has beyond a runtime.
pub(crate) struct Trained {
    pub(crate) features: FeatureStep,
    /// Whether any column holds image files.
    pictures: bool,
    /// Of the training rows, by numeric column.
    pub(crate) means: HashMap<String, f64>,
    /// Without the features: their tables are in the feature step.
    manifest: Manifest,
    /// The one input of the network.
    input: String,
}

impl Model {
    /// Loads an artifact: a directory with `meuse.json` and what goes with it, as training here writes it, or
    /// with exactly one `.onnx`, `.keras` or `.gguf` file made elsewhere, or with an encoder's safetensors. A graph with
    /// a tokenizer beside it may be an encoder, too.
    ///
    /// # Errors
    /// If there is no such model, or it is of a format that is not served; the text says what to do instead.
    pub fn load(dir: &Path) -> Result<Model, LoadError> {
        Model::load_with(dir, None, "local", &LanguageOptions::default())
    }

    /// As [`Model::load`]; a language model within `options`, and with `identity`, such as the artifact's digest,
    /// in its fingerprint. The artifact in `draft` is a small language model that guesses what it will say.
    ///
    /// # Errors
    /// As [`Model::load`]; [`LoadError::is_out_of_memory`] tells whether another machine could serve it.
    pub fn load_with(
        dir: &Path,
        draft: Option<&Path>,
        identity: &str,
        options: &LanguageOptions,
    ) -> Result<Model, LoadError> {
        let draft = match draft.map(artifact::find).transpose()? {
            None => None,
            Some(Artifact::Language(file)) => Some(file),
            Some(_) => return Err(LoadError::NoDraft("the draft model")),
        };
        match artifact::find(dir)? {
            Artifact::Trained { .. } | Artifact::Onnx(_) | Artifact::Keras(_) | Artifact::Encoder(_)
                if draft.is_some() =>
            {
                Err(LoadError::NoDraft("the model"))
            }
            Artifact::Trained { manifest, onnx } => {
                let network = network(dir, &onnx, options)?;
                Model::trained(runtime(network, &Source::Onnx(onnx), options)?, *manifest, dir)
            }
            Artifact::Onnx(onnx) => {
                let network = network(dir, &onnx, options)?;
                let processing = artifact::processing(dir, &onnx)?;
                // What says what its instances are says also that it is no encoder.
                if processing.as_ref().is_none_or(|(processing, _)| processing.input.is_none())
                    && let Some(encodes) = Encodes::read(dir, &onnx, network.signature())?
                {
                    let (dir, file, again) = (dir.to_owned(), onnx.clone(), *options);
                    let load = move || self::network(&dir, &file, &again);
                    let embedder = Embedder::of_graph(network, encodes, &onnx, options, load)?;
                    return Ok(Model::of_encoder(embedder));
                }
                let model = Model::made_elsewhere(network, Source::Onnx(onnx), options)?;
                match processing {
                    Some((processing, place)) => model.with(processing, &place),
                    None => Ok(model),
                }
            }
            Artifact::Keras(archive) => {
                let admitted = admit(dir, &archive, options)?;
                let network = crate::keras::load(&archive)
                    .map_err(|source| LoadError::Keras { file: admitted, source })?;
                network.warm_up();
                let model = Model::made_elsewhere(network, Source::Keras(archive), options)?;
                Ok(Model { is_keras: true, ..model })
            }
            Artifact::Language(file) => {
                let language = Language::load(dir, Files { model: file, draft }, identity, options)?;
                let model = Model::from_runtime(Box::new(NotTensors::new(SPEAKS)));
                Ok(Model { language: Some(Arc::new(language)), ..model })
            }
            Artifact::Encoder(path) => Ok(Model::of_encoder(Embedder::load(dir, &path, options)?)),
        }
    }

    fn of_encoder(embedder: Embedder) -> Model {
        let model = Model::from_runtime(Box::new(NotTensors::new(EMBEDS)));
        Model { embedder: Some(Arc::new(embedder)), ..model }
    }

    /// A model of `runtime` alone: instances bind to its signature, outputs read as they are.
    pub fn from_runtime(runtime: Box<dyn Runtime>) -> Model {
        let plan = Plan::new(runtime.signature());
        let (ports, form) = (plan.ports(runtime.signature()), Arc::new(Form::Tensors));
        Model {
            runtime,
            plan,
            ports,
            form,
            trained: None,
            gradients: None,
            declared: None,
            scores: None,
            language: None,
            embedder: None,
            is_keras: false,
        }
    }

    /// A model of a graph, whose outputs read as a classifier's if it says that it is one.
    fn made_elsewhere(
        network: OnnxModel,
        source: Source,
        options: &LanguageOptions,
    ) -> Result<Model, LoadError> {
        let form = network.classes().map_or(Form::Tensors, |labels| Form::Classes(labels.to_vec()));
        let plan = Plan::new(network.signature()).with_missing(|input| network.takes_missing(input));
        let plan = plan.holding(network.sizes().clone());
        let model = Model::from_runtime(runtime(network, &source, options)?);
        Ok(Model {
            plan,
            form: Arc::new(form),
            gradients: Some(Gradients::of(Origin::Elsewhere(source))),
            ..model
        })
    }

    /// The model with what its artifact says, whose files lie in `directory`, done to its inputs and outputs.
    fn with(mut self, processing: Processing, directory: &Path) -> Result<Model, LoadError> {
        let inconsistent = |reason| LoadError::Inconsistent { reason };
        // What gradients are of is what the network takes, not what it is made from.
        self.gradients = None;
        let signature = self.runtime.signature();
        let scores = Scores::new(processing.output, signature).map_err(inconsistent)?;
        let input = processing.input.map(|input| Declared::new(input, directory, signature));
        self.declared = input.transpose().map_err(inconsistent)?;
        if let Some((scores, form)) = scores {
            self.ports.outputs.retain(|spec| spec.name == scores.name());
            (self.scores, self.form) = (Some(scores), Arc::new(form));
        }
        let columns = self.declared.as_ref().map(Declared::columns);
        let told = ports::of_columns(columns.unwrap_or_default(), &self.form);
        if columns.is_some() {
            self.ports.inputs = told.inputs;
        }
        if self.scores.is_some() && !told.outputs.is_empty() {
            self.ports.outputs = told.outputs;
        }
        Ok(self)
    }

    fn trained(runtime: Box<dyn Runtime>, mut manifest: Manifest, dir: &Path) -> Result<Model, LoadError> {
        let features = FeatureStep::new(&manifest)?;
        let signature = runtime.signature();
        let input = match signature.inputs.as_slice() {
            [only] if signature.outputs.len() == 1 && admits(&only.shape, features.row_shape()) => {
                only.name.clone()
            }
            _ => {
                let shape = features.row_shape();
                let reason =
                    format!("its features have rows of shape {shape:?}, which its network does not take");
                return Err(LoadError::Inconsistent { reason });
            }
        };
        let form = match &manifest.task {
            Task::Classification { labels } => Form::Classes(labels.clone()),
            Task::Regression {} => Form::Value,
        };
        let mut model = Model::from_runtime(runtime);
        model.ports = ports::of_columns(features.columns(), &form);
        model.form = Arc::new(form);
        let means = means(&std::mem::take(&mut manifest.features));
        let pictures = features.columns().iter().any(|column| column.kind == ColumnKind::Image);
        model.trained = Some(Trained { features, pictures, means, manifest, input });
        model.gradients = Some(Gradients::of(Origin::Trained(dir.to_owned())));
        Ok(model)
    }

    /// What the runtime takes and gives. For a model with columns, what instances hold is
    /// [`columns`](Self::columns) instead.
    pub fn signature(&self) -> &Signature {
        self.runtime.signature()
    }

    /// The tensors that it takes and gives by name: those of its network, or of a model with columns a tensor for
    /// each column, and the label and the scores, or the value. A first dimension that is open counts rows.
    pub fn ports(&self) -> &Signature {
        &self.ports
    }

    /// The language model that this is, if it is one. Such a model predicts nothing.
    pub fn language(&self) -> Option<&Arc<Language>> {
        self.language.as_ref()
    }

    /// The encoder that this is, if it is one. Such a model predicts nothing.
    pub fn embedder(&self) -> Option<&Arc<Embedder>> {
        self.embedder.as_ref()
    }

    /// What to tell those who want predictions of a language model or an encoder; `None` of any other.
    pub fn not_predictor(&self) -> Option<&'static str> {
        match (&self.language, &self.embedder) {
            (None, None) => None,
            (Some(_), _) => Some(SPEAKS),
            (None, Some(_)) => Some(EMBEDS),
        }
    }

    /// See [`Runtime::is_loaded`].
    pub fn is_loaded(&self) -> bool {
        match (&self.language, &self.embedder) {
            (Some(language), _) => language.is_loaded(),
            (None, Some(embedder)) => embedder.is_loaded(),
            (None, None) => self.runtime.is_loaded(),
        }
    }

    /// See [`Runtime::rest`].
    pub(crate) fn rest(&self) {
        self.runtime.rest();
    }

    /// Whether it is a Keras archive.
    pub fn is_keras(&self) -> bool {
        self.is_keras
    }

    /// See [`Runtime::is_foreign`].
    pub fn is_foreign(&self) -> bool {
        self.runtime.is_foreign()
    }

    /// See [`Runtime::runs_apart`].
    pub(crate) fn runs_apart(&self) -> bool {
        self.runtime.runs_apart()
    }

    fn predicts(&self) -> Result<(), PredictError> {
        match self.not_predictor() {
            None => Ok(()),
            Some(says) => Err(PredictError::BadRequest { message: says.to_owned() }),
        }
    }

    /// The columns that instances and rows have of a model trained here, or of one whose artifact declares them.
    pub fn columns(&self) -> Option<&[tensor::features::InputColumn]> {
        let trained = self.trained.as_ref().map(|trained| trained.features.columns());
        trained.or_else(|| self.declared.as_ref().map(Declared::columns))
    }

    /// The most rows that may be predicted at a time: what an artifact declares may make large tensors of small files.
    pub fn rows_max(&self) -> usize {
        self.declared.as_ref().map_or(usize::MAX, Declared::rows_max)
    }

    /// Whether instances become tensors in time that grows with their bytes. A small image file may hold a large
    /// picture.
    pub(crate) fn binds_quickly(&self) -> bool {
        let pictures = self.trained.as_ref().is_some_and(|trained| trained.pictures);
        !pictures && self.declared.as_ref().is_none_or(|declared| declared.image().is_none())
    }

    /// The labels that a classifier chooses from, if it was trained here or says what it chooses from.
    pub fn labels(&self) -> Option<&[String]> {
        self.form.labels()
    }

    /// The manifest of a model trained here. Its list of features is empty, as their tables would take the memory
    /// twice; see [`columns`](Self::columns).
    pub fn manifest(&self) -> Option<&Manifest> {
        self.trained.as_ref().map(|t| &t.manifest)
    }

    /// Predicts instances. The same instance gives the same bits whatever the others are.
    ///
    /// # Errors
    /// The first instance that does not fit, by its index; or the model's failure.
    pub fn predict(&self, instances: &[Value]) -> Result<Predictions, PredictError> {
        self.predict_tensors(&self.bind(instances)?)
    }

    /// Predicts the rows of a table: its columns by name, or for a model made elsewhere with one input, in
    /// their order. Rows that cannot be read are left out of the predictions and listed.
    ///
    /// # Errors
    /// If a column is missing, or the model fails.
    pub fn predict_rows(&self, block: &RowBlock) -> Result<(Predictions, Vec<RowFault>), PredictError> {
        self.predicts()?;
        let (inputs, faults) = match (&self.trained, &self.declared) {
            (Some(trained), _) => {
                let (tensor, faults) = trained
                    .features
                    .from_rows(block)
                    .map_err(|e| PredictError::BadRequest { message: e.message })?;
                (vec![(trained.input.clone(), tensor)], faults)
            }
            (None, Some(declared)) => declared.table(block)?,
            (None, None) => bind::table(&self.plan.inputs, block)?,
        };
        Ok((self.predict_tensors(&inputs)?, faults))
    }

    /// The tensors of instances, one row each.
    pub(crate) fn bind(&self, instances: &[Value]) -> Result<Tensors, PredictError> {
        self.predicts()?;
        match (&self.trained, &self.declared) {
            (Some(trained), _) => trained.tensors(instances),
            (None, Some(declared)) => declared.tensors(instances),
            (None, None) => self.plan.within(bind::instances(&self.plan.inputs, instances)?),
        }
    }

    /// The tensors of the network for tensors by name, one row each, if nothing else is to be done for that: those of a
    /// model with columns come as instances to what makes tensors of these.
    pub(crate) fn bind_tensors(&self, given: Tensors) -> Result<Bound, PredictError> {
        self.predicts()?;
        let ordered = ports::ordered(&self.ports, given)?;
        Ok(match self.columns() {
            Some(_) => Bound::Instances(ports::instances(&ordered)),
            None => Bound::Tensors(self.plan.within(self.plan.rows(ordered)?)?),
        })
    }

    /// The elements that `value` gives the input number `place` of a model made elsewhere.
    pub(crate) fn bind_input(&self, place: usize, value: &Value) -> Result<Data, PredictError> {
        let input = self.plan.inputs.get(place..place + 1).unwrap_or_default();
        let bound = bind::instances(input, std::slice::from_ref(value))?;
        Ok(bound.into_iter().next().map_or(Data::F32(Vec::new()), |(_, tensor)| tensor.into_parts().1))
    }

    pub(crate) fn predict_tensors(&self, inputs: &Tensors) -> Result<Predictions, PredictError> {
        let rows = crate::rows::row_count(inputs);
        let outputs = if rows == 0 { Tensors::new() } else { self.run(inputs)? };
        Ok(self.read(Arc::new(outputs), 0..rows))
    }

    pub(crate) fn read(&self, outputs: Arc<Tensors>, range: Range<usize>) -> Predictions {
        Predictions::new(outputs, range, self.form.clone())
    }

    /// The answers as tensors by name, as [`Model::ports`] has them.
    pub(crate) fn outputs(&self, predictions: &Predictions) -> Result<Tensors, ShapeError> {
        let own = self.trained.is_none() && self.scores.is_none();
        let told = if own { predictions.given()? } else { predictions.tensors()? };
        self.plan.unrowed(&self.ports.outputs, told)
    }

    /// Whether the one output that is told is that which holds the scores.
    pub(crate) fn tells_scores(&self) -> bool {
        self.scores.is_some()
    }

    pub(crate) fn form(&self) -> &Form {
        &self.form
    }

    pub(crate) fn read_rows(&self, rows: Rows) -> Predictions {
        self.read(rows.outputs, rows.range)
    }
}

/// Tensors by name on their way to a network.
pub(crate) enum Bound {
    Tensors(Tensors),
    Instances(Vec<Value>),
}

/// What a language model says when it is asked for predictions.
const SPEAKS: &str = "this is a language model, which predicts no instances: ask it by its name through a protocol \
                      for language models, or with `meuse chat`";

/// What an encoder says when it is asked for predictions.
const EMBEDS: &str = "this model makes vectors or scores of texts, and predicts no instances: ask it through \
                      `/v1/embeddings` or `/v1/rerank`";

/// Stands where a language model or an encoder has no runtime for tensors, with what it says of that.
struct NotTensors {
    signature: Signature,
    says: &'static str,
}

impl NotTensors {
    fn new(says: &'static str) -> NotTensors {
        NotTensors { signature: Signature { inputs: Vec::new(), outputs: Vec::new() }, says }
    }
}

impl Runtime for NotTensors {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn predict(&self, _: &Tensors) -> Result<Tensors, RuntimeError> {
        Err(RuntimeError::new(self.says))
    }
}

/// The network in the file `onnx` of the artifact in `dir`, if there is the memory for it, and warm.
fn network(dir: &Path, onnx: &Path, options: &LanguageOptions) -> Result<OnnxModel, LoadError> {
    let file = admit(dir, onnx, options)?;
    let network = OnnxModel::load(onnx).map_err(|source| LoadError::Onnx { file, source })?;
    network.warm_up();
    Ok(network)
}

/// The name within the artifact in `dir` of the network's file `path`, if there is the memory for it.
fn admit(dir: &Path, path: &Path, options: &LanguageOptions) -> Result<String, LoadError> {
    let file = path.strip_prefix(dir).unwrap_or(path).display().to_string();
    match admission::admit(path, options.memory_max) {
        Ok(()) => Ok(file),
        Err(shortage) => Err(LoadError::Memory { file, shortage }),
    }
}

/// What runs `network`, which was loaded from `source`.
fn runtime(
    network: OnnxModel,
    source: &Source,
    options: &LanguageOptions,
) -> Result<Box<dyn Runtime>, LoadError> {
    if options.idle_max.is_zero() {
        return Ok(Box::new(network));
    }
    let file = source.file().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let dormant = Dormant::new(network, source.clone(), options);
    Ok(Box::new(dormant.map_err(|source| LoadError::Unreadable { file, source })?))
}

impl Trained {
    pub(crate) fn tensors(&self, instances: &[Value]) -> Result<Tensors, PredictError> {
        let tensor = self
            .features
            .from_values(instances)
            .map_err(|e| PredictError::BadInstance { index: e.instance, message: e.message })?;
        Ok(vec![(self.input.clone(), tensor)])
    }
}

impl Run for Model {
    fn run(&self, inputs: &Tensors) -> Result<Tensors, RuntimeError> {
        let outputs = self.plan.run(&*self.runtime, inputs)?;
        match &self.scores {
            Some(scores) => scores.of(outputs),
            None => Ok(outputs),
        }
    }

    fn is_ready(&self) -> bool {
        self.runtime.is_loaded()
    }
}

impl Runtime for OnnxModel {
    fn signature(&self) -> &Signature {
        OnnxModel::signature(self)
    }

    fn predict(&self, inputs: &Tensors) -> Result<Tensors, RuntimeError> {
        self.run(inputs).map_err(runtime::of_run)
    }

    fn is_foreign(&self) -> bool {
        OnnxModel::is_foreign(self)
    }

    fn runs_apart(&self) -> bool {
        OnnxModel::runs_apart(self)
    }
}

/// The training rows' means by numeric column.
fn means(features: &[FittedFeature]) -> HashMap<String, f64> {
    let of = |feature: &FittedFeature| match feature {
        FittedFeature::Numeric { columns, mean, .. } => {
            columns.iter().cloned().zip(mean.iter().map(|m| f64::from(*m))).collect()
        }
        _ => Vec::new(),
    };
    features.iter().flat_map(of).collect()
}

/// Whether a network input of `shape`, rows first, takes rows of shape `row`.
fn admits(shape: &[Dim], row: &[usize]) -> bool {
    shape.len() == row.len() + 1
        && shape[1..].iter().zip(row).all(|(dim, n)| matches!(dim, Dim::Any) || *dim == Dim::Fixed(*n))
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("signature", self.signature()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
