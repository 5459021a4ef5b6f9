//! Reads one layer: its options out of the configuration, its arrays out of the weights.

use super::weights::{Budget, Vars, member};
use super::{Activation, Array, Cells, Kind, Layer, Merge, Recurrent, Window, attention, lookup};
use crate::Value;
use crate::hdf5::Group;
use crate::spec::fields::{Fields, brief, count_of, number_of};
use crate::spec::keras::dtype;
use crate::spec::{Padding, SpecError};

/// The largest count of anything in a configuration.
pub(super) const COUNT_MAX: usize = 1 << 24;
/// What layers that hold code are refused with.
const CODE: &str = "holds Python code, which could do anything on the machine that runs it and is never run here; \
                    write it with Keras' own layers, or export the network with `model.export(\"model.onnx\", \
                    format=\"onnx\")`";

/// Layers that only training sees.
const TRAINING_ONLY: &[&str] = &[
    "Dropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "GaussianDropout",
    "GaussianNoise",
    "AlphaDropout",
    "ActivityRegularization",
    "Identity",
    "RandomFlip",
    "RandomRotation",
    "RandomZoom",
    "RandomTranslation",
    "RandomContrast",
    "RandomBrightness",
];

/// Where a layer's options and weights are.
pub(super) struct Source<'a, 'b> {
    /// For messages: its name and its class.
    pub(super) at: String,
    pub(super) class: &'b str,
    pub(super) config: &'b Value,
    pub(super) group: Option<&'b Group<'a>>,
    /// The file of words that lies beside the layer.
    pub(super) vocabulary: Option<&'b str>,
}

/// Reads the layer at `source`.
pub(super) fn read(source: &Source<'_, '_>, budget: &mut Budget) -> Result<Layer, SpecError> {
    let Source { at, class, config, group, vocabulary } = source;
    if *class == "Lambda" || holds_code(config) {
        return Err(SpecError::new(at, CODE));
    }
    if TRAINING_ONLY.contains(class) {
        return Ok(Layer::Identity);
    }
    let mut options = options(at, config)?;
    let channels_first = match options.text("data_format")? {
        None | Some("channels_last") => false,
        Some("channels_first") => true,
        Some(other) => return Err(options.error("data_format", format!("`{other}` is not supported"))),
    };
    let mut vars = Vars::of(at, *group, budget)?;
    let layer = match *class {
        "Dense" => {
            let units = required(&mut options, "units")?;
            let activation = activation(&mut options, "activation")?;
            let (kernel, bias) = kernel_and_bias(&mut options, &mut vars)?;
            ends_in(at, &kernel, &[units])?;
            Layer::Dense { kernel, bias, activation }
        }
        "Activation" => {
            let value = options.require("activation")?;
            Layer::Activation(Activation::read(&options.at("activation"), value)?)
        }
        "ReLU" => {
            options.only("threshold", &[Value::Number(0.0)])?;
            let negative_slope = number(&mut options, "negative_slope", 0.0)?;
            let max = options.number("max_value", 0.0, f64::from(f32::MAX))?.map(|n| n as f32);
            Layer::Activation(match (negative_slope, max) {
                (0.0, max) => Activation::Relu { max },
                (negative_slope, None) => Activation::LeakyRelu { negative_slope },
                _ => return Err(options.error("max_value", "is not supported beside a `negative_slope`")),
            })
        }
        "LeakyReLU" => {
            let alpha = number(&mut options, "alpha", 0.3)?;
            let negative_slope = number(&mut options, "negative_slope", alpha)?;
            Layer::Activation(Activation::LeakyRelu { negative_slope })
        }
        "ELU" => Layer::Activation(Activation::Elu { alpha: number(&mut options, "alpha", 1.0)? }),
        "Softmax" => {
            let axis = axis(&mut options)?;
            if axis != -1 {
                return Err(options.error("axis", "only the last axis, -1, is supported"));
            }
            Layer::Activation(Activation::Softmax)
        }
        "PReLU" => {
            options.ignore(&["shared_axes"]);
            Layer::PRelu { alpha: vars.take("alpha")? }
        }
        "Flatten" => Layer::Flatten,
        "Reshape" => Layer::Reshape { shape: integers(&mut options, "target_shape")? },
        "Permute" => Layer::Permute { dims: counts(&mut options, "dims", None)? },
        "RepeatVector" => Layer::RepeatVector { n: required(&mut options, "n")? },
        "Conv1D" | "Conv2D" => {
            let window = window(&mut options, rank(class), "kernel_size")?;
            let filters = required(&mut options, "filters")?;
            let groups = options.count("groups", 1, COUNT_MAX)?.unwrap_or(1);
            let activation = activation(&mut options, "activation")?;
            let (kernel, bias) = kernel_and_bias(&mut options, &mut vars)?;
            begins_with(at, &kernel, &window.size)?;
            ends_in(at, &kernel, &[filters])?;
            Layer::Conv { kernel, bias, window, groups, activation }
        }
        "Conv1DTranspose" | "Conv2DTranspose" => {
            let window = window(&mut options, rank(class), "kernel_size")?;
            options.ignore(&["filters"]);
            options.only("output_padding", &[])?;
            let activation = activation(&mut options, "activation")?;
            let (kernel, bias) = kernel_and_bias(&mut options, &mut vars)?;
            begins_with(at, &kernel, &window.size)?;
            Layer::ConvTranspose { kernel, bias, window, activation }
        }
        "DepthwiseConv1D" | "DepthwiseConv2D" => {
            let window = window(&mut options, rank(class), "kernel_size")?;
            options.ignore(&["depth_multiplier"]);
            let activation = activation(&mut options, "activation")?;
            let (kernel, bias) = kernel_and_bias(&mut options, &mut vars)?;
            begins_with(at, &kernel, &window.size)?;
            Layer::DepthwiseConv { kernel, bias, window, activation }
        }
        "SeparableConv1D" | "SeparableConv2D" => {
            let window = window(&mut options, rank(class), "kernel_size")?;
            options.ignore(&["depth_multiplier", "filters"]);
            let activation = activation(&mut options, "activation")?;
            let use_bias = flag(&mut options, "use_bias", true)?;
            let (depthwise, pointwise) = (vars.take("depthwise kernel")?, vars.take("pointwise kernel")?);
            begins_with(at, &depthwise, &window.size)?;
            begins_with(at, &pointwise, &vec![1; window.size.len()])?;
            Layer::SeparableConv {
                depthwise,
                pointwise,
                bias: vars.take_if(use_bias, "bias")?,
                window,
                activation,
            }
        }
        "MaxPooling1D" | "MaxPooling2D" | "AveragePooling1D" | "AveragePooling2D" => {
            Layer::Pooling { kind: kind(class), window: window(&mut options, rank(class), "pool_size")? }
        }
        "GlobalMaxPooling1D" | "GlobalMaxPooling2D" | "GlobalAveragePooling1D" | "GlobalAveragePooling2D" => {
            Layer::GlobalPooling {
                kind: kind(class),
                rank: rank(class),
                keep: flag(&mut options, "keepdims", false)?,
            }
        }
        "ZeroPadding1D" | "ZeroPadding2D" => {
            Layer::ZeroPadding { sides: sides(&mut options, "padding", rank(class))? }
        }
        "Cropping1D" | "Cropping2D" => {
            Layer::Cropping { sides: sides(&mut options, "cropping", rank(class))? }
        }
        "UpSampling1D" | "UpSampling2D" => Layer::UpSampling {
            size: counts(&mut options, "size", Some(rank(class)))?,
            bilinear: match options.text("interpolation")? {
                None | Some("nearest") => false,
                Some("bilinear") => true,
                Some(other) => {
                    return Err(options.error("interpolation", format!("`{other}` is not supported")));
                }
            },
        },
        "Rescaling" => Layer::Rescaling {
            scale: numbers(&mut options, "scale")?.unwrap_or_else(|| vec![1.0]),
            offset: numbers(&mut options, "offset")?.unwrap_or_else(|| vec![0.0]),
        },
        "Normalization" => {
            let axes = options.take("axis").map_or(Some(vec![-1.0]), list).unwrap_or_default();
            if axes.iter().any(|axis| *axis != -1.0) {
                return Err(options.error("axis", "only the last axis, -1, is supported"));
            }
            let (mean, variance) = (numbers(&mut options, "mean")?, numbers(&mut options, "variance")?);
            let (mean, variance) = match (mean, variance) {
                (Some(mean), Some(variance)) => (mean, variance),
                _ => (vars.take("mean")?.values, vars.take("variance")?.values),
            };
            Layer::Normalization { mean, variance, invert: flag(&mut options, "invert", false)? }
        }
        "BatchNormalization" => {
            options.ignore(&[
                "momentum",
                "synchronized",
                "renorm_clipping",
                "renorm_momentum",
                "virtual_batch_size",
            ]);
            options.only("renorm", &[Value::Bool(false)])?;
            let (scale, center) = (flag(&mut options, "scale", true)?, flag(&mut options, "center", true)?);
            Layer::BatchNormalization {
                gamma: vars.take_if(scale, "gamma")?,
                beta: vars.take_if(center, "beta")?,
                mean: vars.take("moving mean")?,
                variance: vars.take("moving variance")?,
                epsilon: number(&mut options, "epsilon", 1e-3)?,
                axis: axis(&mut options)?,
            }
        }
        "LayerNormalization" => {
            options.only("rms_scaling", &[Value::Bool(false)])?;
            let (scale, center) = (flag(&mut options, "scale", true)?, flag(&mut options, "center", true)?);
            Layer::LayerNormalization {
                gamma: vars.take_if(scale, "gamma")?,
                beta: vars.take_if(center, "beta")?,
                epsilon: number(&mut options, "epsilon", 1e-3)?,
                axis: axis(&mut options)?,
            }
        }
        "GroupNormalization" => {
            let (scale, center) = (flag(&mut options, "scale", true)?, flag(&mut options, "center", true)?);
            let (gamma, beta) = (vars.take_if(scale, "gamma")?, vars.take_if(center, "beta")?);
            let groups = match options.take("groups") {
                None => 32,
                // Each channel is a group of its own.
                Some(Value::Number(-1.0)) => 0,
                Some(value) => count_of(&options.at("groups"), value, 1, COUNT_MAX)?,
            };
            let epsilon = number(&mut options, "epsilon", 1e-3)?;
            Layer::GroupNormalization { groups, gamma, beta, epsilon, axis: axis(&mut options)? }
        }
        "RMSNormalization" => Layer::RmsNormalization {
            gamma: vars.take("scale")?,
            epsilon: number(&mut options, "epsilon", 1e-6)?,
            axis: axis(&mut options)?,
        },
        "UnitNormalization" => Layer::UnitNormalization { axes: axes(&mut options)? },
        "StringLookup" | "IntegerLookup" | "TextVectorization" => {
            Layer::Lookup(lookup::read(class, &mut options, *vocabulary)?)
        }
        "CategoryEncoding" => {
            let (width, counted) = lookup::encoding(&mut options)?;
            Layer::CategoryEncoding { width, counted }
        }
        "Embedding" => {
            let (rows, width) = (required(&mut options, "input_dim")?, required(&mut options, "output_dim")?);
            options.ignore(&["input_length"]);
            let table = vars.take("table")?;
            if table.shape != [rows, width] {
                return Err(shape(at, &table));
            }
            Layer::Embedding { table, mask_zero: flag(&mut options, "mask_zero", false)? }
        }
        "Masking" => Layer::Masking { value: number(&mut options, "mask_value", 0.0)? },
        "MultiHeadAttention" => Layer::Attention(attention::heads(at, &mut options, *group, vars.budget())?),
        "Attention" => Layer::Attention(attention::plain(&mut options, &mut vars)?),
        "AdditiveAttention" => Layer::Attention(attention::additive(&mut options, &mut vars)?),
        "Add" => Layer::Merge(Merge::Add),
        "Subtract" => Layer::Merge(Merge::Subtract),
        "Multiply" => Layer::Merge(Merge::Multiply),
        "Average" => Layer::Merge(Merge::Average),
        "Maximum" => Layer::Merge(Merge::Maximum),
        "Minimum" => Layer::Merge(Merge::Minimum),
        "Concatenate" => Layer::Concatenate { axis: axis(&mut options)? },
        "Dot" => {
            let normalize = flag(&mut options, "normalize", false)?;
            let axes = match options.take("axes").and_then(list).as_deref() {
                Some(&[one]) => [one, one],
                Some(&[one, other]) => [one, other],
                _ => return Err(options.error("axes", "expected one or two whole numbers")),
            };
            if axes.iter().any(|axis| axis.fract() != 0.0 || axis.abs() >= 64.0) {
                return Err(options.error("axes", "expected one or two whole numbers"));
            }
            Layer::Dot { axes: axes.map(|axis| axis as i64), normalize }
        }
        "TimeDistributed" => {
            let inner = options.require("layer")?;
            let (class, config) = (inner.get("class_name"), inner.get("config"));
            let (Some(Value::Text(class)), Some(config)) = (class, config) else { return Err(unknown(at)) };
            // Of these, each step is computed by itself anyway.
            if !matches!(class.as_str(), "Dense" | "Activation" | "Dropout") {
                return Err(unknown(&format!("{at} of {class}")));
            }
            let own = member(at, *group, "layer")?;
            let at = format!("{at}.layer");
            read(&Source { at, class, config, group: own.as_ref(), vocabulary: None }, vars.budget())?
        }
        "LSTM" | "GRU" | "SimpleRNN" => {
            Layer::Recurrent(recurrent(at, class, &mut options, *group, vars.budget())?)
        }
        "Bidirectional" => bidirectional(at, &mut options, *group, vars.budget())?,
        _ => return Err(unknown(at)),
    };
    options.finish()?;
    Ok(if channels_first { Layer::ChannelsFirst(Box::new(layer)) } else { layer })
}

/// The options of a layer, without those that every layer has and those that only training needs.
fn options<'a>(at: &str, config: &'a Value) -> Result<Fields<'a>, SpecError> {
    let mut options = Fields::keras(at, config)?;
    options.ignore(&["name", "trainable", "autocast", "seed", "build_config", "batch_input_shape"]);
    options.ignore_ending(&["_initializer", "_regularizer", "_constraint"]);
    policy(&mut options)?;
    Ok(options)
}

/// Takes the policy of types. Those that are mixed keep weights in float32, and with these everything is computed here:
/// as Keras does on another policy, and closer than it rounds under its own.
fn policy(options: &mut Fields<'_>) -> Result<(), SpecError> {
    match dtype(options) {
        None | Some("float32" | "string" | "mixed_float16" | "mixed_bfloat16") => Ok(()),
        Some(other) => {
            let message = format!(
                "`{other}` is not supported; networks compute in float32, also those of the policies mixed_float16 \
                 and mixed_bfloat16"
            );
            Err(SpecError::new(options.at("dtype"), message))
        }
    }
}

/// Whether a configuration has a lambda of Python's in it. Its depth is limited by whoever read it.
fn holds_code(config: &Value) -> bool {
    match config {
        Value::Record(fields) => {
            let lambda = |(name, value): &(String, Value)| {
                (name == "class_name" && matches!(value, Value::Text(class) if class == "__lambda__"))
                    || holds_code(value)
            };
            fields.iter().any(lambda)
        }
        Value::List(list) => list.iter().any(holds_code),
        _ => false,
    }
}

pub(super) fn unknown(at: &str) -> SpecError {
    let message = "this layer is not supported; export the network with `model.export(\"model.onnx\", \
                   format=\"onnx\")` and import that file";
    SpecError::new(at, message)
}

fn recurrent(
    at: &str,
    class: &str,
    options: &mut Fields<'_>,
    group: Option<&Group<'_>>,
    budget: &mut Budget,
) -> Result<Recurrent, SpecError> {
    options.ignore(&[
        "dropout",
        "recurrent_dropout",
        "unit_forget_bias",
        "unroll",
        "implementation",
        "time_major",
    ]);
    options.ignore(&["use_cudnn"]);
    options.only("stateful", &[Value::Bool(false)])?;
    let activation = match class {
        "SimpleRNN" => activation(options, "activation")?,
        _ => Activation::Tanh,
    };
    options.only("activation", &[Value::Text("tanh".to_owned())])?;
    options.only("recurrent_activation", &[Value::Text("sigmoid".to_owned())])?;
    let units = required(options, "units")?;
    let use_bias = flag(options, "use_bias", true)?;
    let (cells, gates) = match class {
        "GRU" => {
            options.only("reset_after", &[Value::Bool(true)])?;
            (Cells::Gru, 3)
        }
        "SimpleRNN" => (Cells::Simple { activation }, 1),
        _ => (Cells::Lstm, 4),
    };
    let cell = member(at, group, "cell")?;
    let mut vars = Vars::of(at, cell.as_ref(), budget)?;
    let (kernel, recurrent) = (vars.take("kernel")?, vars.take("recurrent kernel")?);
    let bias = vars.take_if(use_bias, "bias")?;
    let wide = units.saturating_mul(gates);
    ends_in(at, &kernel, &[wide])?;
    if recurrent.shape != [units, wide] {
        return Err(shape(at, &recurrent));
    }
    let biases: &[usize] = if cells == Cells::Gru { &[2, wide] } else { &[wide] };
    if let Some(bias) = bias.as_ref().filter(|bias| bias.shape != biases) {
        return Err(shape(at, bias));
    }
    Ok(Recurrent {
        cells,
        kernel,
        recurrent,
        bias,
        sequences: flag(options, "return_sequences", false)?,
        backwards: flag(options, "go_backwards", false)?,
        states: flag(options, "return_state", false)?,
        zero_masked: flag(options, "zero_output_for_mask", false)?,
    })
}

fn bidirectional(
    at: &str,
    options: &mut Fields<'_>,
    group: Option<&Group<'_>>,
    budget: &mut Budget,
) -> Result<Layer, SpecError> {
    let merge = match options.text("merge_mode")? {
        Some("concat") => None,
        Some("sum") => Some(Merge::Add),
        Some("mul") => Some(Merge::Multiply),
        Some("ave") => Some(Merge::Average),
        _ => return Err(options.error("merge_mode", "is none of concat, sum, mul, ave")),
    };
    let mut side = |option: &'static str, group_name: &str| {
        let value = options.require(option)?;
        let at = format!("{at}.{option}");
        let Some(Value::Text(class)) = value.get("class_name") else { return Err(unknown(&at)) };
        let config = value.get("config").ok_or_else(|| unknown(&at))?;
        if !matches!(class.as_str(), "LSTM" | "GRU" | "SimpleRNN") {
            return Err(unknown(&at));
        }
        let own = member(&at, group, group_name)?;
        let mut options = self::options(&at, config)?;
        let recurrent = recurrent(&at, class, &mut options, own.as_ref(), budget)?;
        options.finish()?;
        Ok(recurrent)
    };
    let (forward, backward) = (side("layer", "forward_layer")?, side("backward_layer", "backward_layer")?);
    let alike = forward.sequences == backward.sequences && forward.states == backward.states;
    if forward.backwards || !backward.backwards || !alike {
        return Err(SpecError::new(at, "its two layers do not mirror each other"));
    }
    Ok(Layer::Bidirectional { forward, backward, merge })
}

/// The dimensions of steps or images that a class is for.
fn rank(class: &str) -> usize {
    if class.contains("1D") { 1 } else { 2 }
}

fn kind(class: &str) -> Kind {
    if class.contains("Max") { Kind::Max } else { Kind::Average }
}

fn kernel_and_bias(
    options: &mut Fields<'_>,
    vars: &mut Vars<'_, '_>,
) -> Result<(Array, Option<Array>), SpecError> {
    let use_bias = flag(options, "use_bias", true)?;
    Ok((vars.take("kernel")?, vars.take_if(use_bias, "bias")?))
}

fn window(options: &mut Fields<'_>, rank: usize, extent: &'static str) -> Result<Window, SpecError> {
    let size = counts(options, extent, Some(rank))?;
    let stride_default = if extent == "pool_size" { size.clone() } else { vec![1; rank] };
    let strides =
        if options.has("strides") { counts(options, "strides", Some(rank))? } else { stride_default };
    let dilation = match options.has("dilation_rate") {
        true => counts(options, "dilation_rate", Some(rank))?,
        false => vec![1; rank],
    };
    let (padding, causal) = match options.text("padding")? {
        None | Some("valid") => (Padding::Valid, false),
        Some("same") => (Padding::Same, false),
        Some("causal") if rank == 1 => (Padding::Valid, true),
        Some(other) => return Err(options.error("padding", format!("`{other}` is not supported"))),
    };
    Ok(Window { size, strides, dilation, padding, causal })
}

/// Cells before and after: a list of pairs, or for one dimension a pair, or one number for all.
fn sides(options: &mut Fields<'_>, name: &'static str, rank: usize) -> Result<Vec<[usize; 2]>, SpecError> {
    let at = options.at(name);
    let value = options.require(name)?;
    let count = |n: f64| count_of(&at, &Value::Number(n), 0, COUNT_MAX);
    let pair = |list: &[f64]| match list {
        [a, b] => Ok([count(*a)?, count(*b)?]),
        _ => Err(SpecError::new(&at, "expected pairs of whole numbers")),
    };
    let sides = match value {
        Value::Number(n) => vec![[count(*n)?; 2]; rank],
        Value::Numbers(list) if rank == 1 => vec![pair(list)?],
        Value::Numbers(list) => list.iter().map(|n| Ok([count(*n)?; 2])).collect::<Result<_, SpecError>>()?,
        Value::List(lists) => {
            let of = |value: &Value| match value {
                Value::Numbers(list) => pair(list),
                other => Err(SpecError::new(
                    &at,
                    format!("expected pairs of whole numbers, found {}", brief(other)),
                )),
            };
            lists.iter().map(of).collect::<Result<_, _>>()?
        }
        other => {
            return Err(SpecError::new(
                &at,
                format!("expected pairs of whole numbers, found {}", brief(other)),
            ));
        }
    };
    match sides.len() == rank {
        true => Ok(sides),
        false => Err(SpecError::new(at, format!("expected {rank} pairs of whole numbers"))),
    }
}

fn activation(options: &mut Fields<'_>, name: &'static str) -> Result<Activation, SpecError> {
    let at = options.at(name);
    options.take(name).map_or(Ok(Activation::Linear), |value| Activation::read(&at, value))
}

pub(super) fn required(options: &mut Fields<'_>, name: &'static str) -> Result<usize, SpecError> {
    options.count(name, 1, COUNT_MAX)?.ok_or_else(|| options.error(name, "is missing"))
}

pub(super) fn flag(options: &mut Fields<'_>, name: &'static str, default: bool) -> Result<bool, SpecError> {
    Ok(options.flag(name)?.unwrap_or(default))
}

pub(super) fn number(options: &mut Fields<'_>, name: &'static str, default: f32) -> Result<f32, SpecError> {
    let max = f64::from(f32::MAX);
    Ok(options.number(name, -max, max)?.map_or(default, |n| n as f32))
}

/// Whole numbers from 1 on; `len` of them, or one for all of these.
fn counts(options: &mut Fields<'_>, name: &'static str, len: Option<usize>) -> Result<Vec<usize>, SpecError> {
    let at = options.at(name);
    let wrong = || SpecError::new(&at, "expected a list of whole numbers");
    let list = list(options.require(name)?).ok_or_else(wrong)?;
    let count = |n: &f64| count_of(&at, &Value::Number(*n), 1, COUNT_MAX);
    let counts = list.iter().map(count).collect::<Result<Vec<_>, _>>()?;
    match (counts.as_slice(), len) {
        (_, None) => Ok(counts),
        (counts, Some(len)) if counts.len() == len => Ok(counts.to_vec()),
        (&[one], Some(len)) => Ok(vec![one; len]),
        (_, Some(len)) => Err(SpecError::new(at, format!("expected {len} whole numbers"))),
    }
}

fn integers(options: &mut Fields<'_>, name: &'static str) -> Result<Vec<i64>, SpecError> {
    let at = options.at(name);
    let list = list(options.require(name)?)
        .ok_or_else(|| SpecError::new(&at, "expected a list of whole numbers"))?;
    let max = COUNT_MAX as f64;
    let integer = |n: &f64| match number_of(&at, &Value::Number(*n), -1.0, max) {
        Ok(n) if n.fract() == 0.0 => Ok(n as i64),
        _ => Err(SpecError::new(&at, format!("expected whole numbers from -1 to {max}"))),
    };
    list.iter().map(integer).collect()
}

/// The axis option: one whole number, by default the last axis.
fn axis(options: &mut Fields<'_>) -> Result<i64, SpecError> {
    match axes(options)?.as_slice() {
        &[axis] => Ok(axis),
        _ => Err(options.error("axis", "expected one whole number")),
    }
}

/// The axis option: whole numbers, by default the last axis alone.
fn axes(options: &mut Fields<'_>) -> Result<Vec<i64>, SpecError> {
    let Some(value) = options.take("axis") else { return Ok(vec![-1]) };
    let whole = |n: &f64| (n.fract() == 0.0 && n.abs() < 64.0).then_some(*n as i64);
    let axes = list(value).and_then(|list| list.iter().map(whole).collect::<Option<Vec<_>>>());
    axes.ok_or_else(|| options.error("axis", "expected whole numbers"))
}

/// The numbers of an option, absent or not: one, a list, or an array as Keras writes it.
fn numbers(options: &mut Fields<'_>, name: &'static str) -> Result<Option<Vec<f32>>, SpecError> {
    let at = options.at(name);
    let wrong = || SpecError::new(&at, "expected numbers");
    let Some(value) = options.take(name) else { return Ok(None) };
    let value = match value {
        Value::Record(_) => value.get("config").and_then(|config| config.get("value")).ok_or_else(wrong)?,
        plain => plain,
    };
    let list = list(value).ok_or_else(wrong)?;
    Ok(Some(list.iter().map(|n| *n as f32).collect()))
}

/// One number or several. Keras wraps the statistics of its rows in further lists.
fn list(value: &Value) -> Option<Vec<f64>> {
    match value {
        Value::Number(n) => Some(vec![*n]),
        Value::Numbers(list) => Some(list.clone()),
        Value::List(lists) => match lists.as_slice() {
            [] => Some(Vec::new()),
            [only] => list(only),
            _ => None,
        },
        _ => None,
    }
}

fn begins_with(at: &str, array: &Array, dims: &[usize]) -> Result<(), SpecError> {
    let fits = array.shape.len() == dims.len() + 2 && array.shape.starts_with(dims);
    if fits { Ok(()) } else { Err(shape(at, array)) }
}

fn ends_in(at: &str, array: &Array, dims: &[usize]) -> Result<(), SpecError> {
    let fits = array.shape.len() > dims.len() && array.shape.ends_with(dims);
    if fits { Ok(()) } else { Err(shape(at, array)) }
}

pub(super) fn shape(at: &str, array: &Array) -> SpecError {
    let message = format!("its configuration and its weights, of shape {:?}, do not agree", array.shape);
    SpecError::new(at, message)
}
