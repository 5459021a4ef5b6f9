//! [`Operation`]: those of `keras.ops` that stand among layers, by themselves or in masks.

use super::call::{is_tensor, text};
use super::read::{COUNT_MAX, flag};
use super::{Activation, Layer, Merge};
use crate::Value;
use crate::spec::SpecError;
use crate::spec::fields::{Fields, number_of};

/// An operation. Values are stretched to each other where a dimension of one is 1.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// What this layer does, but for masks, of which operations know nothing.
    As(Box<Layer>),
    /// The first divided by the second.
    Divide,
    /// One of these, or the first divided by the second, of a value and a number.
    WithNumber {
        /// Which; `None` divides.
        merge: Option<Merge>,
        /// The number.
        number: f32,
        /// Whether the number stands first.
        first: bool,
    },
    /// What is left of some dimensions.
    Reduce {
        /// How.
        sum: Sum,
        /// Which, the batch being axis 0.
        axes: Vec<i64>,
        /// Whether these dimensions stay, each 1 long.
        keep: bool,
    },
    /// Parts of a row: `x[:, …]`.
    Take {
        /// One for each dimension from the first of a row on, as far as these go.
        items: Vec<Item>,
    },
    /// A further dimension, 1 long.
    ExpandDims {
        /// Where, the batch being axis 0.
        axis: i64,
    },
    /// Whether numbers are others than this one.
    NotEqual {
        /// The number.
        number: f32,
    },
    /// Whether both are true.
    And,
    /// Whether one is true.
    Or,
    /// As many times true, or false, as there are elements.
    Like {
        /// Which.
        truth: bool,
    },
}

/// What becomes of a dimension's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sum {
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
    /// The largest.
    Max,
    /// The smallest.
    Min,
    /// Whether one is true.
    Any,
}

/// What is taken of one dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// One element, counted from the end where negative; the dimension goes.
    One(i64),
    /// The elements from one to before another, counted from the end where negative.
    Range {
        /// The first.
        start: i64,
        /// The one behind the last, if it is not all.
        end: Option<i64>,
    },
}

/// Reads the operation `class`, applied as `node` says.
pub(super) fn read(at: &str, class: &str, config: &Value, node: &Value) -> Result<Layer, SpecError> {
    let args = match node.get("args") {
        Some(Value::List(args)) => args.as_slice(),
        _ => return Err(unknown_operation(at, class)),
    };
    let mut options = Fields::keras(at, config)?;
    options.ignore(&["name"]);
    let layer = match class {
        "Add" => binary(at, class, Merge::Add, args)?,
        "Subtract" => binary(at, class, Merge::Subtract, args)?,
        "Multiply" => binary(at, class, Merge::Multiply, args)?,
        "Maximum" => binary(at, class, Merge::Maximum, args)?,
        "Minimum" => binary(at, class, Merge::Minimum, args)?,
        "Divide" | "TrueDivide" => match with_number(at, class, args)? {
            None => Layer::Operation(Operation::Divide),
            Some((number, first)) => Layer::Operation(Operation::WithNumber { merge: None, number, first }),
        },
        "Sum" | "Mean" | "Max" | "Amax" | "Min" | "Amin" | "Any" => {
            let sum = match class {
                "Sum" => Sum::Sum,
                "Mean" => Sum::Mean,
                "Any" => Sum::Any,
                "Max" | "Amax" => Sum::Max,
                _ => Sum::Min,
            };
            options.only("initial", &[])?;
            let axes = axes(&mut options)?;
            Layer::Operation(Operation::Reduce { sum, axes, keep: flag(&mut options, "keepdims", false)? })
        }
        "GetItem" => Layer::Operation(Operation::Take { items: items(at, class, args)? }),
        "ExpandDims" => match axes(&mut options)?.as_slice() {
            &[axis] => Layer::Operation(Operation::ExpandDims { axis }),
            _ => return Err(options.error("axis", "only one is supported")),
        },
        "NotEqual" => match with_number(at, class, args)? {
            Some((number, false)) => Layer::Operation(Operation::NotEqual { number }),
            _ => return Err(unknown_operation(at, class)),
        },
        "LogicalAnd" => Layer::Operation(Operation::And),
        "LogicalOr" => Layer::Operation(Operation::Or),
        "OnesLike" | "ZerosLike" => {
            if options.text("dtype")? != Some("bool") {
                return Err(unknown_operation(at, class));
            }
            Layer::Operation(Operation::Like { truth: class == "OnesLike" })
        }
        "Concatenate" => match axes(&mut options)?.as_slice() {
            &[axis] => Layer::Concatenate { axis },
            _ => return Err(unknown_operation(at, class)),
        },
        "ConvertToTensor" => Layer::Identity,
        "Relu" | "Sigmoid" | "Tanh" | "Silu" | "Softplus" | "Softsign" | "Exp" => {
            let name = if class == "Exp" { "exponential".to_owned() } else { class.to_ascii_lowercase() };
            Layer::Activation(Activation::read(at, &Value::Text(name))?)
        }
        "Softmax" => match axes(&mut options)?.as_slice() {
            [-1] => Layer::Activation(Activation::Softmax),
            _ => return Err(options.error("axis", "only the last axis, -1, is supported")),
        },
        "Gelu" => {
            let approximate = flag(&mut options, "approximate", true)?;
            Layer::Activation(Activation::Gelu { approximate })
        }
        _ => return Err(unknown_operation(at, class)),
    };
    options.finish()?;
    Ok(match layer {
        Layer::Operation(_) => layer,
        other => Layer::Operation(Operation::As(Box::new(other))),
    })
}

fn binary(at: &str, class: &str, merge: Merge, args: &[Value]) -> Result<Layer, SpecError> {
    Ok(match with_number(at, class, args)? {
        None => Layer::Merge(merge),
        Some((number, first)) => {
            Layer::Operation(Operation::WithNumber { merge: Some(merge), number, first })
        }
    })
}

/// The number among two arguments, and whether it is the first.
fn with_number(at: &str, class: &str, args: &[Value]) -> Result<Option<(f32, bool)>, SpecError> {
    let number = |value| {
        let max = f64::from(f32::MAX);
        number_of(at, value, -max, max).map(|number| number as f32)
    };
    match args {
        [a, b] if is_tensor(a) && is_tensor(b) => Ok(None),
        [a, b] if is_tensor(a) => Ok(Some((number(b)?, false))),
        [a, b] if is_tensor(b) => Ok(Some((number(a)?, true))),
        _ => Err(unknown_operation(at, class)),
    }
}

/// The axes of the option `axis`.
fn axes(options: &mut Fields<'_>) -> Result<Vec<i64>, SpecError> {
    let at = options.at("axis");
    let wrong = || SpecError::new(&at, "expected one or more whole numbers");
    let list = match options.require("axis")? {
        Value::Number(axis) => vec![*axis],
        Value::Numbers(list) => list.clone(),
        _ => return Err(wrong()),
    };
    let whole = |axis: &f64| (axis.fract() == 0.0 && axis.abs() < 64.0).then_some(*axis as i64);
    list.iter().map(whole).collect::<Option<Vec<_>>>().ok_or_else(wrong)
}

/// What `x[…]` takes of a row; the whole batch must be among it.
fn items(at: &str, class: &str, args: &[Value]) -> Result<Vec<Item>, SpecError> {
    let wrong = || unknown_operation(at, class);
    let [_, key] = args else { return Err(wrong()) };
    let keys = match key {
        Value::List(keys) => keys.as_slice(),
        one => std::slice::from_ref(one),
    };
    let whole = |value: &Value| match value {
        Value::Number(n) if n.fract() == 0.0 && n.abs() <= COUNT_MAX as f64 => Some(*n as i64),
        _ => None,
    };
    let item = |key: &Value| match key {
        Value::Number(_) => whole(key).map(Item::One),
        _ if text(key, "class_name") == Some("__slice__") => {
            let config = key.get("config")?;
            let bound = |name: &str| match config.get(name) {
                None | Some(Value::Null) => Some(None),
                Some(value) => whole(value).map(Some),
            };
            let step = bound("step")?.unwrap_or(1);
            let (start, end) = (bound("start")?.unwrap_or(0), bound("stop")?);
            (step == 1).then_some(Item::Range { start, end })
        }
        _ => None,
    };
    let items = keys.iter().map(item).collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
    match items.split_first() {
        Some((Item::Range { start: 0, end: None }, rest)) => Ok(rest.to_vec()),
        _ => Err(wrong()),
    }
}

/// The error for an operation that is not known, or not in this form.
fn unknown_operation(at: &str, class: &str) -> SpecError {
    let message = format!(
        "the plain operation `{class}` is not supported here; use a layer for it, or export the network with \
         `model.export(\"model.onnx\", format=\"onnx\")`"
    );
    SpecError::new(at, message)
}
