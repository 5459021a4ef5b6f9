//! [`of_onnx`]: an ONNX graph as a chain of plain layers, if it is one of dense layers, after an embedding or not.

use std::collections::HashMap;
use std::path::Path;

use rten_onnx::onnx::{AttributeProto, DataType, ModelProto, NodeProto, TensorProto};

use super::Chain;
use crate::export::{Activation, Layer};

/// The largest file that is looked at.
const BYTES_MAX: u64 = 256 << 20;

/// The chain that the file at `path`, which has been loaded as a model before, is.
///
/// # Errors
/// If it is none: what stands in the way.
pub fn of_onnx(path: &Path) -> Result<Chain, String> {
    let size = std::fs::metadata(path).map_err(|e| format!("its file cannot be read: {e}"))?.len();
    if size > BYTES_MAX {
        return Err(format!("its file has more than {BYTES_MAX} bytes"));
    }
    let bytes = std::fs::read(path).map_err(|e| format!("its file cannot be read: {e}"))?;
    let graph = ModelProto::parse_buf(&bytes).ok().and_then(|model| model.graph).ok_or("it is no graph")?;
    let ([input], [output]) = (&graph.input[..], &graph.output[..]) else {
        return Err("it has several inputs or outputs".to_owned());
    };
    let shape = || {
        let dims = &input.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?.dim;
        let row = dims.get(1..)?.iter().map(|dim| usize::try_from(dim.dim_value?).ok());
        row.collect::<Option<Vec<_>>>()
    };
    let input_shape = shape().ok_or("its rows have no fixed shape")?;
    let constants = graph.initializer.iter().filter_map(|t| Some((t.name.as_deref()?, t))).collect();
    let value = input.name.as_deref().unwrap_or_default();
    let mut links = Links { constants, value, rank: input_shape.len(), layers: Vec::new() };
    for node in &graph.node {
        let op = node.op_type.as_deref().unwrap_or_default();
        links.add(node, op).ok_or_else(|| format!("its operator {op} is none of them, as it stands"))?;
    }
    match output.name.as_deref() == Some(links.value) {
        true => Ok(Chain { input_shape, layers: links.layers }),
        false => Err("its output is not what its last operator gives".to_owned()),
    }
}

/// The graph on the way from its input to its output.
struct Links<'a> {
    constants: HashMap<&'a str, &'a TensorProto>,
    /// The value that the layers so far compute.
    value: &'a str,
    /// Dimensions of a row of it.
    rank: usize,
    layers: Vec<Layer>,
}

impl<'a> Links<'a> {
    /// Adds what `node` does to the value; `None` if it is no link of a chain.
    fn add(&mut self, node: &'a NodeProto, op: &str) -> Option<()> {
        if !matches!(node.domain.as_deref(), None | Some("" | "ai.onnx")) {
            return None;
        }
        let output = node.output.first()?;
        if op == "Constant" {
            let [AttributeProto { t: Some(tensor), .. }] = &node.attribute[..] else { return None };
            self.constants.insert(output, tensor);
            return Some(());
        }
        let inputs: Vec<&str> = node.input.iter().map(String::as_str).collect();
        match (op, &inputs[..]) {
            ("Gather", &[table, ids]) if ids == self.value && self.layers.is_empty() && self.rank == 1 => {
                let (dims, table) = self.floats(table)?;
                let (&[rows, width], 0) = (&dims[..], int(node, "axis", 0)?) else { return None };
                self.layers.push(Layer::Embedding { rows, width, table, mask_zero: false });
                self.rank = 2;
            }
            // Of ids before they are looked up.
            ("Cast", &[x]) if x == self.value && self.layers.is_empty() && self.rank == 1 => {
                let to = int(node, "to", 0)?;
                [DataType::INT32, DataType::INT64].iter().any(|t| i64::from(t.0) == to).then_some(())?;
            }
            ("MatMul", &[x, matrix]) if x == self.value => self.dense(matrix, false)?,
            ("Gemm", &[x, matrix, ref bias @ ..]) if x == self.value && self.rank == 1 => {
                let one = |name: &str| attribute(node, name).map_or(Some(1.0), |a| a.f) == Some(1.0);
                if !one("alpha") || !one("beta") || int(node, "transA", 0)? != 0 {
                    return None;
                }
                self.dense(matrix, int(node, "transB", 0)? != 0)?;
                match bias {
                    [] | [""] => {}
                    [bias] => self.shift(bias, 1.0)?,
                    _ => return None,
                }
            }
            ("Add", &[x, y]) if y == self.value && x != y => self.shift(x, 1.0)?,
            ("Add", &[x, y]) if x == self.value => self.shift(y, 1.0)?,
            ("Sub", &[x, y]) if x == self.value => self.shift(y, -1.0)?,
            ("Mul", &[x, y]) if y == self.value && x != y => self.scale(x, |n| n)?,
            ("Mul", &[x, y]) if x == self.value => self.scale(y, |n| n)?,
            ("Div", &[x, y]) if x == self.value => self.scale(y, f32::recip)?,
            ("BatchNormalization", &[x, ref statistics @ ..]) if x == self.value && self.rank == 1 => {
                self.normalize(statistics.try_into().ok()?, node)?;
            }
            ("ReduceMean", &[x, ref axes @ ..]) if x == self.value && self.rank == 2 => {
                let axes = match axes {
                    [] => attribute(node, "axes")?.ints.clone(),
                    [axes] => self.integers(axes)?,
                    _ => return None,
                };
                if axes != [1] || int(node, "keepdims", 1)? != 0 {
                    return None;
                }
                self.layers.push(Layer::GlobalAveragePooling1d);
                self.rank = 1;
            }
            ("Flatten", &[x]) if x == self.value && int(node, "axis", 1)? == 1 => {
                self.layers.push(Layer::Flatten);
                self.rank = 1;
            }
            ("Identity", &[x]) if x == self.value => {}
            (_, &[x]) if x == self.value => {
                let function = function(node, op, self.rank)?;
                self.layers.push(Layer::Activation(function));
            }
            _ => return None,
        }
        self.value = output;
        Some(())
    }

    fn dense(&mut self, matrix: &str, transposed: bool) -> Option<()> {
        let (dims, values) = self.floats(matrix)?;
        let &[a, b] = &dims[..] else { return None };
        let kernel = match transposed {
            false => values,
            true => (0..b).flat_map(|input| values.iter().skip(input).step_by(b.max(1))).copied().collect(),
        };
        let units = if transposed { a } else { b };
        self.layers.push(Layer::Dense { units, kernel, bias: None, activation: Activation::Linear });
        Some(())
    }

    /// Adds a constant, `sign` times.
    fn shift(&mut self, constant: &str, sign: f32) -> Option<()> {
        let values: Vec<f32> = self.of_columns(constant)?.iter().map(|n| sign * n).collect();
        if let Some(Layer::Dense { units, bias: bias @ None, .. }) = self.layers.last_mut()
            && values.len() == *units
        {
            *bias = Some(values);
            return Some(());
        }
        let (mean, variance) = (values.iter().map(|n| -n).collect(), vec![1.0; values.len()]);
        self.layers.push(Layer::Normalization { mean, variance });
        Some(())
    }

    /// Multiplies by what `factor` makes of a constant.
    fn scale(&mut self, constant: &str, factor: fn(f32) -> f32) -> Option<()> {
        let factors: Vec<f32> = self.of_columns(constant)?.iter().map(|n| factor(*n)).collect();
        self.layers.push(match factors.as_slice() {
            // The layer divides by the root of a variance, which must be positive and not tiny.
            &[one] if (1e-6..1e6).contains(&one) => {
                Layer::Normalization { mean: vec![0.0], variance: vec![one.recip().powi(2)] }
            }
            [_] => return None,
            _ => scaled(factors)?,
        });
        Some(())
    }

    /// `gamma * (x - mean) / sqrt(variance + epsilon) + beta`
    fn normalize(&mut self, [gamma, beta, mean, variance]: [&str; 4], node: &NodeProto) -> Option<()> {
        if int(node, "training_mode", 0)? != 0 {
            return None;
        }
        let epsilon = attribute(node, "epsilon").map_or(Some(1e-5), |a| a.f)?;
        let of = |name: &str| self.floats(name).map(|(_, values)| values);
        let (gamma, beta) = (Some(of(gamma)?), Some(of(beta)?));
        let (mean, variance) = (of(mean)?, of(variance)?);
        self.layers.push(Layer::BatchNormalization { gamma, beta, mean, variance, epsilon });
        Some(())
    }

    /// A constant that is one number, or one for each of the last dimension.
    fn of_columns(&self, name: &str) -> Option<Vec<f32>> {
        let (dims, values) = self.floats(name)?;
        let lone = dims.split_last().is_none_or(|(_, others)| others.iter().all(|d| *d == 1));
        (lone && dims.len() <= self.rank + 1 && !values.is_empty()).then_some(values)
    }

    /// The shape and the elements of a float constant.
    fn floats(&self, name: &str) -> Option<(Vec<usize>, Vec<f32>)> {
        let tensor = self.own(name, DataType::FLOAT)?;
        let dims: Vec<usize> =
            tensor.dims.iter().map(|&d| usize::try_from(d)).collect::<Result<_, _>>().ok()?;
        let data = match &tensor.raw_data {
            Some(raw) => raw.borrow().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            None => tensor.float_data.clone(),
        };
        let elements = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        (elements == data.len()).then_some((dims, data))
    }

    fn integers(&self, name: &str) -> Option<Vec<i64>> {
        let tensor = self.own(name, DataType::INT64)?;
        Some(match &tensor.raw_data {
            Some(raw) => raw.borrow().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
            None => tensor.int64_data.clone(),
        })
    }

    /// The constant called `name`, if it is of this type and in the file itself.
    fn own(&self, name: &str, data_type: DataType) -> Option<&'a TensorProto> {
        let tensor = *self.constants.get(name)?;
        (tensor.data_type == Some(data_type) && tensor.external_data.is_empty()).then_some(tensor)
    }
}

/// A layer that multiplies each of the last dimension by its own factor.
fn scaled(factors: Vec<f32>) -> Option<Layer> {
    let channels = factors.len();
    let finite = factors.iter().all(|factor| factor.is_finite());
    finite.then(|| Layer::BatchNormalization {
        gamma: Some(factors),
        beta: None,
        mean: vec![0.0; channels],
        variance: vec![1.0; channels],
        epsilon: 0.0,
    })
}

fn function(node: &NodeProto, op: &str, rank: usize) -> Option<Activation> {
    Some(match op {
        "Relu" => Activation::Relu,
        "Sigmoid" => Activation::Sigmoid,
        "Tanh" => Activation::Tanh,
        "Softplus" => Activation::Softplus,
        "Elu" => Activation::Elu { alpha: attribute(node, "alpha").map_or(Some(1.0), |a| a.f)? },
        "LeakyRelu" => {
            Activation::LeakyRelu { negative_slope: attribute(node, "alpha").map_or(Some(0.01), |a| a.f)? }
        }
        "Gelu" if attribute(node, "approximate").is_none_or(|a| a.s.as_deref() == Some("none")) => {
            Activation::Gelu { approximate: false }
        }
        // Over rows of one dimension, all defaults of all versions mean the last.
        "Softmax" if rank == 1 && matches!(int(node, "axis", -1)?, -1 | 1) => Activation::Softmax,
        _ => return None,
    })
}

fn attribute<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name.as_deref() == Some(name))
}

/// An integer among the attributes; `None` if it is something else.
fn int(node: &NodeProto, name: &str, default: i64) -> Option<i64> {
    attribute(node, name).map_or(Some(default), |attribute| attribute.i)
}
