//! What Keras' `Sequential.to_json()` prints, of Keras 3 and 2, to the same items as a short list.

use super::fields::{Fields, brief};
use super::read_layer::{Item, read, shape_in_layer, unknown};
use super::{Loss, Metric, Optimizer, SpecError};
use crate::Value;

/// A Sequential model: its layers and, where it was compiled, how it is trained.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) items: Vec<Item>,
    pub(crate) compile: Option<Compile>,
}

/// `compile_config`.
#[derive(Debug)]
pub(crate) struct Compile {
    pub(crate) optimizer: Option<Optimizer>,
    pub(crate) loss: Option<(Loss, bool)>,
    pub(crate) metrics: Option<Vec<Metric>>,
}

/// Takes the fields of a model out of `fields`; the caller finishes them, so that options of the
/// training may stand beside.
pub(crate) fn take_model(fields: &mut Fields<'_>) -> Result<Model, SpecError> {
    fields.ignore(&[
        "module",
        "registered_name",
        "build_config",
        "keras_version",
        "backend",
        "shared_object_id",
    ]);
    match fields.text("class_name")? {
        Some("Sequential") => {}
        Some(other) => {
            return Err(
                fields.error("class_name", format!("`{other}` is not supported; only Sequential models are"))
            );
        }
        None => return Err(fields.error("class_name", "is missing; expected what Keras' to_json() prints")),
    }
    let compile = match fields.take("compile_config") {
        Some(value) => Some(compile(fields.at("compile_config"), value)?),
        None => None,
    };
    let at = fields.at("config");
    let config = fields.require("config")?;
    // The oldest Keras 2 files hold the list of layers itself.
    let layers = match config {
        Value::Record(_) => {
            let mut config = Fields::keras(at.clone(), config)?;
            config.ignore(&["name", "build_input_shape"]);
            config.only("trainable", &[Value::Bool(true)])?;
            check_dtype(&mut config)?;
            let layers = config.require("layers")?;
            config.finish()?;
            layers
        }
        list => list,
    };
    let Value::List(layers) = layers else {
        return Err(SpecError::new(at, format!("expected a list of layers, found {}", brief(layers))));
    };
    let read = |(i, layer): (usize, &Value)| read_layer(&format!("layers[{i}]"), layer);
    let mut items = layers.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    if let (Some(Item::Layer(_)), Some(first)) = (items.first(), layers.first())
        && let Some(shape) = shape_in_layer("layers[0]", first)?
    {
        items.insert(0, Item::Input(shape));
    }
    Ok(Model { items, compile })
}

/// Reads `{class_name, config}`.
pub(crate) fn read_layer(at: &str, value: &Value) -> Result<Item, SpecError> {
    let mut fields = Fields::new(at, value)?;
    fields.ignore(&[
        "module",
        "registered_name",
        "build_config",
        "shared_object_id",
        "name",
        "inbound_nodes",
    ]);
    let class = fields.text("class_name")?.ok_or_else(|| fields.error("class_name", "is missing"))?;
    let empty = Value::Record(Vec::new());
    let config = fields.take("config").unwrap_or(&empty);
    fields.finish()?;
    let Some(kind) = snake(class) else { return Err(unknown(at, class)) };
    read(at, kind, Fields::keras(format!("{at} ({class})"), config)?)
}

/// The short name of a layer class.
fn snake(class: &str) -> Option<&'static str> {
    Some(match class {
        "Dense" => "dense",
        "Dropout" => "dropout",
        "Activation" => "activation",
        "Flatten" => "flatten",
        "Conv2D" | "Convolution2D" => "conv2d",
        "MaxPooling2D" | "MaxPool2D" => "max_pooling2d",
        "BatchNormalization" => "batch_normalization",
        "Embedding" => "embedding",
        "GlobalAveragePooling1D" | "GlobalAvgPool1D" => "global_average_pooling1d",
        "TextVectorization" => "text_vectorization",
        "Normalization" => "normalization",
        "InputLayer" | "Input" => "input_layer",
        "ReLU" => "relu",
        "Softmax" => "softmax",
        "LeakyReLU" => "leaky_relu",
        _ => return None,
    })
}

/// Networks compute in float32: any other policy is refused. A string input belongs to a text step.
pub(crate) fn check_dtype(config: &mut Fields<'_>) -> Result<(), SpecError> {
    match dtype(config) {
        None | Some("float32" | "string") => Ok(()),
        Some(other) => {
            let message = format!("`{other}` is not supported; networks compute in float32");
            Err(SpecError::new(config.at("dtype"), message))
        }
    }
}

/// Takes the policy of types that a configuration names, if it does; one that has no name is called nothing.
pub(crate) fn dtype<'v>(config: &mut Fields<'v>) -> Option<&'v str> {
    config.take("dtype").map(|value| match value {
        Value::Text(name) => name.as_str(),
        policy => match policy.get("config").and_then(|c| c.get("name")) {
            Some(Value::Text(name)) => name.as_str(),
            _ => "",
        },
    })
}

fn compile(at: String, value: &Value) -> Result<Compile, SpecError> {
    let mut fields = Fields::keras(at.clone(), value)?;
    fields.ignore(&["run_eagerly", "steps_per_execution", "jit_compile", "auto_scale_loss"]);
    fields.only("loss_weights", &[])?;
    fields.only("weighted_metrics", &[])?;
    let optimizer =
        fields.take("optimizer").map(|v| Optimizer::read(&format!("{at}.optimizer"), v)).transpose()?;
    let loss = fields.take("loss").map(|v| Loss::read(&format!("{at}.loss"), v)).transpose()?;
    let metrics = fields.take("metrics").map(|v| metrics(&format!("{at}.metrics"), v)).transpose()?;
    fields.finish()?;
    Ok(Compile { optimizer, loss, metrics })
}

/// A list of metrics; Keras also writes a list in a list.
pub(crate) fn metrics(at: &str, value: &Value) -> Result<Vec<Metric>, SpecError> {
    match value {
        Value::List(list) if list.len() == 1 && matches!(list[0], Value::List(_)) => metrics(at, &list[0]),
        Value::List(list) => {
            list.iter().enumerate().map(|(i, v)| Metric::read(&format!("{at}[{i}]"), v)).collect()
        }
        one => Metric::read(at, one).map(|m| vec![m]),
    }
}
