//! [`TrainSpec`]: what to train, on which columns and how, in Keras' vocabulary.
//!
//! A short document is enough; everything but `label` has a default:
//!
//! ```yaml
//! label: class
//! features: [{text: definition}]
//! layers:
//!   - {dense: 64, activation: relu}
//!   - {dense: 64, activation: relu}
//!   - {dense: labels, activation: softmax}
//! epochs: 10
//! ```

mod activation;
mod early_stopping;
mod error;
mod feature;
pub(crate) mod fields;
mod initializer;
mod keras;
mod layer;
mod loss;
mod optimizer;
mod read_layer;
mod vectorizer;

pub use activation::Activation;
pub use early_stopping::{EarlyStopping, Monitor};
pub use error::SpecError;
pub use feature::Feature;
pub use initializer::Initializer;
pub use layer::{Layer, Padding, shapes};
pub use loss::{Loss, Metric};
pub use optimizer::{Optimizer, Rule};
pub use vectorizer::{Analyzer, Vectorizer, Weighting};

use crate::Value;
use fields::{Fields, brief};
use read_layer::Item;
use serde::{Deserialize, Serialize};

/// The longest document read, in bytes.
const DOCUMENT_BYTES_MAX: usize = 4 << 20;
/// The most layers of a network.
const LAYERS_MAX: usize = 256;

/// A training, completely described; read it with [`TrainSpec::from_yaml`] or [`TrainSpec::from_json`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSpec {
    /// The column that holds the answer.
    pub label: String,
    /// Classes or numbers; `None` follows from loss and last layer.
    pub task: Option<TaskKind>,
    /// The classes in the order of the outputs; `None` takes those in the rows, sorted.
    pub labels: Option<Vec<String>>,
    /// Inputs; `None` infers them from the columns.
    pub features: Option<Vec<Feature>>,
    /// How the text column becomes numbers, where the network itself began with that step.
    pub vectorizer: Option<Vectorizer>,
    /// The shape of one row of input, where the network states it.
    pub input_shape: Option<Vec<usize>>,
    /// The network, from input to output.
    pub layers: Vec<Layer>,
    /// The update rule.
    pub optimizer: Optimizer,
    /// What training makes small; `None` follows from the task.
    pub loss: Option<Loss>,
    /// Whether the last layer gives logits. The trained network then ends in the missing softmax or
    /// sigmoid, so that it answers probabilities.
    pub from_logits: bool,
    /// What an epoch reports beside its loss.
    pub metrics: Vec<Metric>,
    /// Passes over the rows.
    pub epochs: usize,
    /// Rows per step.
    pub batch_size: usize,
    /// Share of the rows kept aside to validate: drawn by `seed` with `shuffle`, else the last ones.
    pub validation_split: f64,
    /// When to end before the last epoch.
    pub early_stopping: Option<EarlyStopping>,
    /// Weight of each class in the loss, by label; classes not named weigh 1.
    pub class_weight: Vec<(String, f64)>,
    /// Start of every random choice.
    pub seed: u64,
    /// Whether rows are shuffled before every epoch.
    pub shuffle: bool,
    /// Whether a regression trains on standardised labels; its network ends in the inverse, so that it
    /// answers in the label's own unit. Applies where the last layer is a linear `dense`.
    pub scale_label: bool,
}

/// What a network answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// One of several labels, with a score each.
    Classification,
    /// A number.
    Regression,
}

impl TrainSpec {
    /// Reads a YAML document.
    ///
    /// # Errors
    /// What is wrong, and at which field.
    pub fn from_yaml(text: &str) -> Result<Self, SpecError> {
        check_length(text)?;
        // Only `true` and `false` are booleans: a column may be called `y`, a label `no`.
        let options = serde_saphyr::options! { strict_booleans: true };
        let value: Value = serde_saphyr::from_str_with_options(text, options)
            .map_err(|e| SpecError::new("", format!("not YAML: {e}")))?;
        Self::from_value(&value)
    }

    /// Reads a JSON document: the same fields as YAML, or what Keras' `to_json()` prints with such
    /// fields beside.
    ///
    /// # Errors
    /// What is wrong, and at which field.
    pub fn from_json(text: &str) -> Result<Self, SpecError> {
        check_length(text)?;
        let value: Value =
            serde_json::from_str(text).map_err(|e| SpecError::new("", format!("not JSON: {e}")))?;
        Self::from_value(&value)
    }

    /// Reads a document that is already parsed.
    ///
    /// # Errors
    /// What is wrong, and at which field.
    pub fn from_value(value: &Value) -> Result<Self, SpecError> {
        let mut fields = Fields::new("", value)?;
        let (items, compile) = network(&mut fields)?;
        let network = Network::assemble(items)?;
        let spec = read(&mut fields, network, compile)?;
        fields.finish()?;
        spec.check()?;
        Ok(spec)
    }

    /// What does not hang on rows: the rest is checked when they are read.
    fn check(&self) -> Result<(), SpecError> {
        if self.layers.len() > LAYERS_MAX {
            let n = self.layers.len();
            return Err(SpecError::new("layers", format!("{n} layers are beyond the limit of {LAYERS_MAX}")));
        }
        if self.labels.as_ref().is_some_and(|labels| labels.len() < 2) {
            return Err(SpecError::new("labels", "a classification needs at least two"));
        }
        if self.loss == Some(Loss::MeanSquaredError) && self.task == Some(TaskKind::Classification) {
            return Err(SpecError::new(
                "loss",
                "mse is for regression; a classification takes a cross-entropy",
            ));
        }
        let classifies = matches!(self.loss, Some(Loss::CategoricalCrossentropy | Loss::BinaryCrossentropy));
        if classifies && self.task == Some(TaskKind::Regression) {
            return Err(SpecError::new("loss", "a regression takes mse"));
        }
        if let Some(stopping) = &self.early_stopping
            && stopping.monitor.validates()
            && self.validation_split == 0.0
        {
            return Err(SpecError::new(
                "early_stopping.monitor",
                "watches validation rows, but there are none; set `validation_split`",
            ));
        }
        Ok(())
    }
}

/// The layer list, or Keras' model, or neither.
fn network(fields: &mut Fields<'_>) -> Result<(Option<Vec<Item>>, Option<keras::Compile>), SpecError> {
    if fields.has("class_name") {
        let model = keras::take_model(fields)?;
        return Ok((Some(model.items), model.compile));
    }
    match (fields.take("model"), fields.take("layers")) {
        (Some(_), Some(_)) => Err(SpecError::new("model", "stands beside `layers`; give one of them")),
        (Some(Value::Text(json)), None) => {
            check_length(json)?;
            let value: Value = serde_json::from_str(json).map_err(|e| {
                SpecError::new("model", format!("expected what Keras' to_json() prints: {e}"))
            })?;
            keras_model(&value)
        }
        (Some(value), None) => keras_model(value),
        (None, Some(Value::List(list))) => {
            let read = |(i, v): (usize, &Value)| read_layer::read_item(&format!("layers[{i}]"), v);
            Ok((Some(list.iter().enumerate().map(read).collect::<Result<_, _>>()?), None))
        }
        (None, Some(other)) => {
            Err(SpecError::new("layers", format!("expected a list of layers, found {}", brief(other))))
        }
        (None, None) => Ok((None, None)),
    }
}

fn keras_model(value: &Value) -> Result<(Option<Vec<Item>>, Option<keras::Compile>), SpecError> {
    let mut fields = Fields::new("model", value)?;
    let model = keras::take_model(&mut fields)?;
    fields.finish()?;
    Ok((Some(model.items), model.compile))
}

/// A layer list with its leading input steps set apart.
#[derive(Default)]
struct Network {
    input_shape: Option<Vec<usize>>,
    vectorizer: Option<Vectorizer>,
    standardize: bool,
    layers: Vec<Layer>,
}

impl Network {
    fn assemble(items: Option<Vec<Item>>) -> Result<Self, SpecError> {
        let Some(items) = items else {
            return Ok(Network { layers: default_layers(), ..Network::default() });
        };
        let mut network = Network::default();
        for (i, item) in items.into_iter().enumerate() {
            let at = format!("layers[{i}]");
            if !matches!(item, Item::Layer(_)) && !network.layers.is_empty() {
                return Err(SpecError::new(at, "an input step must stand before the network's layers"));
            }
            match item {
                Item::Input(shape) if network.input_shape.is_none() && network.vectorizer.is_none() => {
                    network.input_shape = Some(shape);
                }
                Item::Input(_) => return Err(SpecError::new(at, "a second input")),
                Item::Vectorizer(vectorizer) if network.vectorizer.is_none() => {
                    // The shape before this step is that of a text.
                    network.input_shape = None;
                    network.vectorizer = Some(vectorizer);
                }
                Item::Vectorizer(_) => return Err(SpecError::new(at, "a second text step")),
                Item::Standardize => network.standardize = true,
                Item::Layer(Layer::Embedding { .. }) if !network.layers.is_empty() => {
                    return Err(SpecError::new(at, "an embedding must be the first layer"));
                }
                Item::Layer(layer) => network.layers.push(layer),
            }
        }
        if network.standardize && network.vectorizer.is_some() {
            return Err(SpecError::new("layers", "a normalization cannot follow a text_vectorization"));
        }
        if network.layers.is_empty() {
            return Err(SpecError::new("layers", "there is no layer"));
        }
        Ok(network)
    }
}

/// Two hidden layers of 64 and one output per label.
fn default_layers() -> Vec<Layer> {
    let dense = |units, activation| Layer::Dense {
        units,
        activation,
        use_bias: true,
        kernel_initializer: Initializer::GlorotUniform,
        bias_initializer: Initializer::Zeros,
    };
    vec![
        dense(Some(64), Activation::Relu),
        dense(Some(64), Activation::Relu),
        dense(None, Activation::Linear),
    ]
}

/// Everything but the network.
fn read(
    fields: &mut Fields<'_>,
    network: Network,
    compile: Option<keras::Compile>,
) -> Result<TrainSpec, SpecError> {
    let compile = compile.unwrap_or(keras::Compile { optimizer: None, loss: None, metrics: None });
    let optimizer = match fields.take("optimizer") {
        Some(value) => Some(Optimizer::read("optimizer", value)?),
        None => compile.optimizer,
    };
    let mut optimizer = optimizer.unwrap_or_default();
    if let Some(value) = fields.take("learning_rate") {
        optimizer.learning_rate = optimizer::read_rate("learning_rate", value)?;
    }
    let loss = match fields.take("loss") {
        Some(value) => Some(Loss::read("loss", value)?),
        None => compile.loss,
    };
    let metrics = match fields.take("metrics") {
        Some(value) => keras::metrics("metrics", value)?,
        None => compile.metrics.unwrap_or_default(),
    };
    Ok(TrainSpec {
        label: fields.text("label")?.unwrap_or("label").to_owned(),
        task: task(fields)?,
        labels: fields.texts("labels")?,
        features: features(fields, &network)?,
        vectorizer: network.vectorizer,
        input_shape: network.input_shape,
        layers: network.layers,
        optimizer,
        loss: loss.map(|(loss, _)| loss),
        from_logits: loss.is_some_and(|(_, logits)| logits),
        metrics,
        epochs: fields.count("epochs", 1, 1_000_000)?.unwrap_or(10),
        batch_size: fields.count("batch_size", 1, 65_536)?.unwrap_or(32),
        validation_split: fields.number("validation_split", 0.0, 0.95)?.unwrap_or(0.0),
        early_stopping: fields.take("early_stopping").map(EarlyStopping::read).transpose()?,
        class_weight: class_weight(fields)?,
        seed: fields.count("seed", 0, 1 << 53)?.unwrap_or(0) as u64,
        shuffle: fields.flag("shuffle")?.unwrap_or(true),
        scale_label: fields.flag("scale_label")?.unwrap_or(true),
    })
}

fn features(fields: &mut Fields<'_>, network: &Network) -> Result<Option<Vec<Feature>>, SpecError> {
    let mut features: Vec<Feature> = match fields.take("features") {
        None => return Ok(None),
        Some(Value::List(list)) if !list.is_empty() => list
            .iter()
            .enumerate()
            .map(|(i, v)| Feature::read(&format!("features[{i}]"), v))
            .collect::<Result<_, _>>()?,
        Some(record @ Value::Record(_)) => vec![Feature::read("features", record)?],
        Some(other) => {
            return Err(SpecError::new(
                "features",
                format!("expected a list of features, found {}", brief(other)),
            ));
        }
    };
    if network.vectorizer.is_some() && !matches!(features.as_slice(), [Feature::Text { .. }]) {
        return Err(SpecError::new(
            "features",
            "the network begins with a text step: one text feature is needed",
        ));
    }
    if network.standardize {
        for feature in &mut features {
            if let Feature::Numeric { standardize, .. } = feature {
                *standardize = true;
            }
        }
    }
    Ok(Some(features))
}

fn task(fields: &mut Fields<'_>) -> Result<Option<TaskKind>, SpecError> {
    match fields.text("task")? {
        None => Ok(None),
        Some("classification") => Ok(Some(TaskKind::Classification)),
        Some("regression") => Ok(Some(TaskKind::Regression)),
        Some(other) => {
            let known = "there are: classification, regression";
            Err(fields.error("task", format!("`{other}` is not known; {known}")))
        }
    }
}

/// `{label: weight, …}`.
fn class_weight(fields: &mut Fields<'_>) -> Result<Vec<(String, f64)>, SpecError> {
    match fields.take("class_weight") {
        None => Ok(Vec::new()),
        Some(Value::Record(weights)) => weights
            .iter()
            .map(|(label, w)| {
                Ok((label.clone(), fields::number_of(&format!("class_weight.{label}"), w, 0.0, 1e6)?))
            })
            .collect(),
        Some(other) => {
            Err(SpecError::new("class_weight", format!("expected a weight by label, found {}", brief(other))))
        }
    }
}

fn check_length(text: &str) -> Result<(), SpecError> {
    if text.len() > DOCUMENT_BYTES_MAX {
        let n = text.len();
        return Err(SpecError::new("", format!("{n} bytes are beyond the limit of {DOCUMENT_BYTES_MAX}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
