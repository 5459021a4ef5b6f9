//! Reads one layer, in Keras' words or in short ones.

use super::fields::{Fields, brief, numbers_of};
use super::layer::UNITS_MAX;
use super::{Activation, Initializer, Layer, Padding, SpecError, Vectorizer};
use crate::Value;

/// What one item of a layer list says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Item {
    /// A layer of the network.
    Layer(Layer),
    /// The shape of one row of input.
    Input(Vec<usize>),
    /// Keras' `TextVectorization`: a feature step of ours.
    Vectorizer(Vectorizer),
    /// Keras' `Normalization` that learns its statistics from the rows: our numeric features do that.
    Standardize,
}

/// Keras 2 writes the input's shape into the first layer.
pub(crate) fn shape_in_layer(at: &str, value: &Value) -> Result<Option<Vec<usize>>, SpecError> {
    match value.get("config").and_then(|config| config.get("batch_input_shape")) {
        None | Some(Value::Null) => Ok(None),
        Some(shape) => read_shape(&format!("{at}.batch_input_shape"), shape, true).map(Some),
    }
}

/// The layers' names in short form, and the option that `{NAME: VALUE}` sets; "" takes none.
const KINDS: [(&str, &str); 16] = [
    ("dense", "units"),
    ("dropout", "rate"),
    ("flatten", ""),
    ("conv2d", "filters"),
    ("max_pooling2d", "pool_size"),
    ("batch_normalization", ""),
    ("embedding", "output_dim"),
    ("global_average_pooling1d", ""),
    ("text_vectorization", "max_tokens"),
    ("normalization", ""),
    ("input", "shape"),
    ("input_layer", "shape"),
    ("relu", ""),
    ("softmax", ""),
    ("leaky_relu", "negative_slope"),
    ("activation", "activation"),
];

/// Reads one item of `layers`: `flatten`, `{dense: 64, activation: relu}`, `{type: dense, units: 64}`
/// or Keras' `{class_name, config}`.
pub(crate) fn read_item(at: &str, value: &Value) -> Result<Item, SpecError> {
    match value {
        Value::Text(name) => {
            let (kind, _) = kind(at, name)?;
            let empty = Value::Record(Vec::new());
            read(at, kind, Fields::new(format!("{at} ({kind})"), &empty)?)
        }
        Value::Record(_) if value.get("class_name").is_some() => super::keras::read_layer(at, value),
        Value::Record(fields) => {
            if let Some(name) = value.get("type") {
                let Value::Text(name) = name else {
                    return Err(SpecError::new(format!("{at}.type"), "expected the name of a layer"));
                };
                let (kind, _) = kind(at, name)?;
                let mut options = Fields::new(format!("{at} ({kind})"), value)?;
                options.ignore(&["type"]);
                return read(at, kind, options);
            }
            let named = |n: &str| KINDS.iter().any(|(k, _)| *k == n && *k != "activation");
            let name = fields.iter().map(|(n, _)| n.as_str()).find(|n| named(n)).or_else(|| {
                // `activation` is an option of other layers, so it names one only when alone.
                (fields.len() == 1 && fields[0].0 == "activation").then_some("activation")
            });
            let Some(name) = name else {
                let first = fields.first().map_or("", |(n, _)| n.as_str());
                return Err(unknown(at, first));
            };
            short(at, name, fields)
        }
        other => Err(SpecError::new(at, format!("expected a layer, found {}", brief(other)))),
    }
}

/// `{dense: 64, activation: relu}`: the first is the main option under the layer's name.
fn short(at: &str, name: &str, fields: &[(String, Value)]) -> Result<Item, SpecError> {
    let (kind, main) = kind(at, name)?;
    let mut options = Vec::with_capacity(fields.len());
    for (field, value) in fields {
        match (field == name, value) {
            (false, value) => options.push((field.clone(), value.clone())),
            (true, Value::Null) => {}
            (true, Value::Record(inner)) => options.extend(inner.iter().cloned()),
            (true, value) if !main.is_empty() => options.push((main.to_owned(), value.clone())),
            (true, other) => {
                return Err(SpecError::new(at, format!("{kind} takes no value, found {}", brief(other))));
            }
        }
    }
    let record = Value::Record(options);
    read(at, kind, Fields::new(format!("{at} ({kind})"), &record)?)
}

fn kind(at: &str, name: &str) -> Result<(&'static str, &'static str), SpecError> {
    KINDS.iter().find(|(k, _)| *k == name).copied().ok_or_else(|| unknown(at, name))
}

pub(crate) fn unknown(at: &str, name: &str) -> SpecError {
    let known: Vec<&str> = KINDS.iter().map(|(k, _)| *k).filter(|k| *k != "input_layer").collect();
    SpecError::new(at, format!("the layer `{name}` is not supported; there are: {}", known.join(", ")))
}

/// Reads the options of a layer of `kind`, in snake case. Refuses every option that would change the
/// network and that we do not have.
pub(crate) fn read(at: &str, kind: &str, mut options: Fields<'_>) -> Result<Item, SpecError> {
    options.ignore(&["name"]);
    let item = match kind {
        "input" | "input_layer" => {
            options.ignore(&["dtype", "optional", "batch_size"]);
            options.only("sparse", &[Value::Bool(false)])?;
            options.only("ragged", &[Value::Bool(false)])?;
            Item::Input(input_shape(&mut options)?)
        }
        "text_vectorization" => return Vectorizer::text_vectorization(options).map(Item::Vectorizer),
        "normalization" => normalization(&mut options)?,
        _ => {
            options.only("trainable", &[Value::Bool(true)])?;
            super::keras::check_dtype(&mut options)?;
            // Keras 2 writes the input's shape into the first layer.
            options.ignore(&["batch_input_shape", "input_shape"]);
            Item::Layer(layer(at, kind, &mut options)?)
        }
    };
    options.finish()?;
    Ok(item)
}

fn layer(at: &str, kind: &str, o: &mut Fields<'_>) -> Result<Layer, SpecError> {
    Ok(match kind {
        "dense" => {
            plain_weights(o)?;
            Layer::Dense {
                units: units(o)?,
                activation: activation(o)?,
                use_bias: o.flag("use_bias")?.unwrap_or(true),
                kernel_initializer: initializer(o, "kernel_initializer", Initializer::GlorotUniform)?,
                bias_initializer: initializer(o, "bias_initializer", Initializer::Zeros)?,
            }
        }
        "conv2d" => conv2d(o)?,
        "max_pooling2d" => {
            channels_last(o)?;
            let pool_size = o.pair("pool_size", 1, 256)?.unwrap_or([2, 2]);
            let strides = o.pair("strides", 1, 256)?.unwrap_or(pool_size);
            Layer::MaxPooling2d { pool_size, strides, padding: padding(o)? }
        }
        "batch_normalization" => batch_normalization(o)?,
        "embedding" => embedding(o)?,
        "dropout" => {
            o.only("seed", &[])?;
            o.only("noise_shape", &[])?;
            let rate = o.number("rate", 0.0, 0.999)?.ok_or_else(|| o.error("rate", "is missing"))?;
            Layer::Dropout { rate }
        }
        "flatten" => {
            channels_last(o)?;
            Layer::Flatten
        }
        "global_average_pooling1d" => {
            channels_last(o)?;
            o.only("keepdims", &[Value::Bool(false)])?;
            Layer::GlobalAveragePooling1d
        }
        "activation" => Layer::Activation { function: activation(o)? },
        "relu" => Layer::Activation { function: Activation::Relu.with_options(o)? },
        "softmax" => Layer::Activation { function: Activation::Softmax.with_options(o)? },
        "leaky_relu" => {
            // The layer's default differs from the function's in Keras.
            let layer = Activation::LeakyRelu { negative_slope: 0.3 };
            Layer::Activation { function: layer.with_options(o)? }
        }
        other => return Err(unknown(at, other)),
    })
}

fn conv2d(o: &mut Fields<'_>) -> Result<Layer, SpecError> {
    plain_weights(o)?;
    channels_last(o)?;
    o.only("dilation_rate", &[Value::Number(1.0), Value::Numbers(vec![1.0, 1.0])])?;
    o.only("groups", &[Value::Number(1.0)])?;
    let filters = o.count("filters", 1, UNITS_MAX)?.ok_or_else(|| o.error("filters", "is missing"))?;
    Ok(Layer::Conv2d {
        filters,
        kernel_size: o.pair("kernel_size", 1, 64)?.unwrap_or([3, 3]),
        strides: o.pair("strides", 1, 64)?.unwrap_or([1, 1]),
        padding: padding(o)?,
        activation: activation(o)?,
        use_bias: o.flag("use_bias")?.unwrap_or(true),
        kernel_initializer: initializer(o, "kernel_initializer", Initializer::GlorotUniform)?,
        bias_initializer: initializer(o, "bias_initializer", Initializer::Zeros)?,
    })
}

fn batch_normalization(o: &mut Fields<'_>) -> Result<Layer, SpecError> {
    // Keras writes the last axis as its number once it knows the rank; rows have at most three.
    let last: Vec<Value> =
        [-1.0, 1.0, 2.0, 3.0].iter().flat_map(|&n| [Value::Number(n), Value::Numbers(vec![n])]).collect();
    o.only("axis", &last)?;
    for name in ["beta_regularizer", "gamma_regularizer", "beta_constraint", "gamma_constraint"] {
        o.only(name, &[])?;
    }
    o.only("synchronized", &[Value::Bool(false)])?;
    o.only("renorm", &[Value::Bool(false)])?;
    o.ignore(&["renorm_momentum"]);
    for (name, start) in [
        ("beta_initializer", Initializer::Zeros),
        ("gamma_initializer", Initializer::Ones),
        ("moving_mean_initializer", Initializer::Zeros),
        ("moving_variance_initializer", Initializer::Ones),
    ] {
        if initializer(o, name, start)? != start {
            return Err(o.error(name, "only Keras' default is supported"));
        }
    }
    Ok(Layer::BatchNormalization {
        momentum: o.number("momentum", 0.0, 1.0)?.unwrap_or(0.99),
        epsilon: o.number("epsilon", 1e-12, 1.0)?.unwrap_or(1e-3),
        center: o.flag("center")?.unwrap_or(true),
        scale: o.flag("scale")?.unwrap_or(true),
    })
}

fn embedding(o: &mut Fields<'_>) -> Result<Layer, SpecError> {
    for name in
        ["embeddings_regularizer", "activity_regularizer", "embeddings_constraint", "lora_rank", "weights"]
    {
        o.only(name, &[])?;
    }
    o.only("sparse", &[Value::Bool(false)])?;
    o.ignore(&["input_length", "quantization_config"]);
    let output_dim =
        o.count("output_dim", 1, UNITS_MAX)?.ok_or_else(|| o.error("output_dim", "is missing"))?;
    Ok(Layer::Embedding {
        input_dim: o.count("input_dim", 1, 1 << 20)?,
        output_dim,
        mask_zero: o.flag("mask_zero")?.unwrap_or(false),
        embeddings_initializer: initializer(o, "embeddings_initializer", Initializer::RandomUniform)?,
    })
}

fn normalization(o: &mut Fields<'_>) -> Result<Item, SpecError> {
    o.only(
        "axis",
        &[Value::Number(-1.0), Value::Numbers(vec![-1.0]), Value::Numbers(vec![1.0]), Value::Number(1.0)],
    )?;
    o.only("invert", &[Value::Bool(false)])?;
    o.only("input_mean", &[])?;
    o.only("input_variance", &[])?;
    o.ignore(&["trainable", "batch_input_shape", "input_shape"]);
    super::keras::check_dtype(o)?;
    let read = |o: &mut Fields<'_>, name: &'static str| {
        let at = o.at(name);
        o.take(name).map(|v| numbers_of(&at, v)).transpose()
    };
    match (read(o, "mean")?, read(o, "variance")?) {
        (None, None) => Ok(Item::Standardize),
        (Some(mean), Some(variance)) if variance.iter().all(|v| *v >= 0.0) => {
            Ok(Item::Layer(Layer::Normalization { mean, variance }))
        }
        (Some(_), Some(_)) => Err(o.error("variance", "must not be negative")),
        (Some(_), None) => Err(o.error("variance", "is missing beside `mean`")),
        (None, Some(_)) => Err(o.error("mean", "is missing beside `variance`")),
    }
}

/// The shape of one row. Keras writes `batch_shape: [null, 100]`, Keras 2 `batch_input_shape`.
fn input_shape(o: &mut Fields<'_>) -> Result<Vec<usize>, SpecError> {
    for name in ["batch_shape", "batch_input_shape"] {
        let at = o.at(name);
        if let Some(value) = o.take(name) {
            return read_shape(&at, value, true);
        }
    }
    let at = o.at("shape");
    let value = o.require("shape")?;
    read_shape(&at, value, false)
}

/// Options of weights that we do not have, at the value that means "not used".
fn plain_weights(o: &mut Fields<'_>) -> Result<(), SpecError> {
    for name in [
        "kernel_regularizer",
        "bias_regularizer",
        "activity_regularizer",
        "kernel_constraint",
        "bias_constraint",
        "lora_rank",
        "lora_alpha",
        "quantization_config",
    ] {
        o.only(name, &[])?;
    }
    Ok(())
}

fn channels_last(o: &mut Fields<'_>) -> Result<(), SpecError> {
    o.only("data_format", &[Value::Text("channels_last".to_owned())])
}

/// `units: 10`, or `units: labels`.
fn units(o: &mut Fields<'_>) -> Result<Option<usize>, SpecError> {
    let at = o.at("units");
    match o.require("units")? {
        Value::Text(name) if name == "labels" => Ok(None),
        value => super::fields::count_of(&at, value, 1, UNITS_MAX).map(Some),
    }
}

fn activation(o: &mut Fields<'_>) -> Result<Activation, SpecError> {
    let at = o.at("activation");
    o.take("activation").map_or(Ok(Activation::Linear), |value| Activation::read(&at, value))
}

fn initializer(
    o: &mut Fields<'_>,
    name: &'static str,
    default: Initializer,
) -> Result<Initializer, SpecError> {
    let at = o.at(name);
    o.take(name).map_or(Ok(default), |value| Initializer::read(&at, value))
}

fn padding(o: &mut Fields<'_>) -> Result<Padding, SpecError> {
    match o.text("padding")? {
        None | Some("valid") => Ok(Padding::Valid),
        Some("same") => Ok(Padding::Same),
        Some(other) => Err(o.error("padding", format!("`{other}` is not supported; there are: valid, same"))),
    }
}

/// A shape as a list; with `batch`, the first entry is the batch and may be null.
fn read_shape(at: &str, value: &Value, batch: bool) -> Result<Vec<usize>, SpecError> {
    let wrong = || SpecError::new(at, format!("expected a list of sizes, found {}", brief(value)));
    let items: Vec<Value> = match value {
        Value::Numbers(list) => list.iter().map(|n| Value::Number(*n)).collect(),
        Value::List(list) => list.clone(),
        Value::Number(_) if !batch => vec![value.clone()],
        _ => return Err(wrong()),
    };
    let sizes = if batch { items.get(1..).ok_or_else(wrong)? } else { &items };
    sizes.iter().map(|v| super::fields::count_of(at, v, 1, 1 << 24)).collect()
}
