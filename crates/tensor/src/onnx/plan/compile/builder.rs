//! [`Builder`]: steps as they are put together, with the constants laid out.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use kernels::{Arena, Depthwise, Isa, Panels};
use rten_onnx::onnx::NodeProto;

use super::attribute::{attribute, whole_attribute};
use super::constant::constant;
use super::group::{Draft, Group};
use super::window::window;
use super::{Compiler, own};
use crate::onnx::plan::Plan;
use crate::onnx::plan::picture::{Convolution, Weights, Window};
use crate::onnx::plan::shaping::{Cast, Shaping};
use crate::onnx::plan::step::{Function, Op, Operation, Step};
use crate::onnx::plan::view::{Value, View};

/// Steps as they are put together.
pub(super) struct Builder<'a, 'c> {
    compiler: &'c Compiler<'a>,
    isa: Isa,
    numbers: HashMap<String, usize>,
    constants: Vec<Option<Value>>,
    inputs: Vec<usize>,
    steps: Vec<Step>,
    arena: Arena,
}

impl<'a, 'c> Builder<'a, 'c> {
    pub(super) fn new(compiler: &'c Compiler<'a>, inputs: &[&'a str]) -> Option<Self> {
        let isa = Isa::best();
        let matrices =
            compiler.constants.values().filter_map(Value::numbers).filter(|view| view.shape.len() == 2);
        let bytes = |view: &View| Panels::bytes(isa, view.shape[0], view.shape[1]);
        // Room for all, of which what is not used costs nothing.
        let arena = Arena::new(matrices.map(bytes).fold(0, usize::saturating_add)).ok()?;
        let (numbers, constants) = (HashMap::new(), Vec::new());
        let mut builder = Builder { compiler, isa, numbers, constants, inputs: vec![], steps: vec![], arena };
        builder.inputs = inputs.iter().map(|name| builder.define(name)).collect();
        Some(builder)
    }

    /// A new number for a value.
    fn define(&mut self, name: &str) -> usize {
        let number = self.constants.len();
        self.numbers.insert(name.to_owned(), number);
        self.constants.push(None);
        number
    }

    /// The number of a value that is there.
    fn number(&mut self, name: &str) -> Option<usize> {
        if let Some(&number) = self.numbers.get(name) {
            return Some(number);
        }
        let constant = self.compiler.constants.get(name)?.clone();
        let number = self.define(name);
        self.constants[number] = Some(constant);
        Some(number)
    }

    fn add(&mut self, op: Op, inputs: &[&str], output: &str) -> Option<()> {
        let optional = |name: &&str| if name.is_empty() { Some(None) } else { self.number(name).map(Some) };
        let inputs = inputs.iter().map(optional).collect::<Option<Vec<_>>>()?;
        let output = self.define(output);
        self.steps.push(Step { op, inputs, output, done: vec![] });
        Some(())
    }

    pub(super) fn add_group(&mut self, group: Group<'a>, output: &str) -> Option<()> {
        let op = match group.op {
            Draft::Ready(op) => op,
            Draft::Dense { matrix, turned, bias, function } => {
                let view = self.compiler.numbers(&matrix)?;
                let (&[first, second], data) = (&view.shape[..], view.slice()?) else { return None };
                let (rows, cols) = if turned { (second, first) } else { (first, second) };
                let mut weights = Panels::new(self.isa, rows, cols, &self.arena).ok()?;
                weights.fill(data, if turned { [1, rows] } else { [cols, 1] });
                Op::Dense { weights, bias, function }
            }
            Draft::Convolution { shape: [filters, channels, ..], kernel, bias, window, each, function } => {
                let places = window.size[0] * window.size[1];
                let weights = if each {
                    let at = |i: usize| kernel.get(i % filters * places + i / filters).copied();
                    let weights = (0..places * filters).map(at).collect::<Option<Vec<_>>>()?;
                    let Window { size: window, strides, before, .. } = window;
                    Weights::Each(Depthwise { channels: filters, window, strides, before, weights, bias })
                } else {
                    // By place, then by channel.
                    let depth = places * channels;
                    let at = |i: usize| {
                        kernel.get(i / depth * depth + i % channels * places + i % depth / channels).copied()
                    };
                    let rows = (0..filters * depth).map(at).collect::<Option<Vec<_>>>()?;
                    let mut panels = Panels::new(self.isa, depth, filters, &self.arena).ok()?;
                    panels.fill(&rows, [1, depth]);
                    Weights::All { channels, panels, bias }
                };
                Op::Convolution(Box::new(Convolution { window, weights, function }))
            }
        };
        self.add(op, &group.inputs, output)
    }

    /// A node that is a step by itself.
    pub(super) fn add_node(&mut self, node: &'a NodeProto) -> Option<()> {
        if !own(node.domain.as_deref()) {
            return None;
        }
        let whole = |name: &str| whole_attribute(node, name);
        let list = |name: &str| attribute(node, name).map(|a| a.ints.clone());
        let mut inputs: Vec<&str> = node.input.iter().map(String::as_str).collect();
        let op = match node.op_type.as_deref()? {
            "Add" => Op::Pairs(Operation::Add),
            "Sub" => Op::Pairs(Operation::Subtract),
            "Mul" => Op::Pairs(Operation::Multiply),
            "Div" => Op::Pairs(Operation::Divide),
            "Exp" => Op::Each(Function::Exp),
            "Clip" | "HardSigmoid" | "HardSwish" | "Relu" => {
                let function =
                    self.compiler.function(*self.compiler.sources.get(node.output.first()?.as_str())?)?;
                inputs.truncate(1);
                Op::Each(function)
            }
            "GlobalAveragePool" => Op::Pixels,
            "MaxPool" if whole("ceil_mode").unwrap_or(0) == 0 => Op::Greatest(window(node, None)?),
            "Flatten" if whole("axis").unwrap_or(1) == 1 => Op::Shaping(Shaping::Flatten),
            "Gelu" if attribute(node, "approximate").is_none_or(|a| a.s.as_deref() == Some("none")) => {
                Op::Each(Function::Gelu)
            }
            "Neg" => Op::Each(Function::Neg),
            "Sigmoid" => Op::Each(Function::Sigmoid),
            "Sqrt" => Op::Each(Function::Sqrt),
            "Tanh" => Op::Each(Function::Tanh),
            "Softmax" => {
                let default = if self.compiler.opset < 13 { 1 } else { -1 };
                Op::Softmax { axis: whole("axis").unwrap_or(default) }
            }
            "ReduceMean" => {
                let axes = match inputs.get(1) {
                    Some(name) => self.compiler.constants.get(name)?.whole()?.data.to_vec(),
                    None => list("axes")?,
                };
                inputs.truncate(1);
                let &[axis] = &axes[..] else { return None };
                Op::Mean { axis, keep: whole("keepdims").unwrap_or(1) != 0 }
            }
            "MatMul" => Op::Product,
            "LayerNormalization" if node.output.len() == 1 && whole("axis").unwrap_or(-1) == -1 => {
                let row = |i: usize| {
                    let view = self.compiler.numbers(inputs.get(i).copied()?)?;
                    (view.shape.len() == 1).then(|| view.slice().map(<[f32]>::to_vec)).flatten()
                };
                let weight = row(1)?;
                let bias = if inputs.len() > 2 { row(2)? } else { vec![0.0; weight.len()] };
                let epsilon = attribute(node, "epsilon").map_or(Some(1e-5), |a| a.f)?;
                if bias.len() != weight.len() {
                    return None;
                }
                inputs.truncate(1);
                Op::Normalize { weight, bias, epsilon }
            }
            "Gather" => Op::Gather { axis: whole("axis").unwrap_or(0) },
            "Identity" => Op::Shaping(Shaping::Same),
            "Cast" => Op::Shaping(Shaping::Cast(match whole("to")? {
                1 => Cast::Numbers,
                6 | 7 => Cast::Whole,
                9 => Cast::Truth,
                _ => return None,
            })),
            "Concat" => Op::Shaping(Shaping::Concat { axis: whole("axis")? }),
            "ConstantOfShape" => {
                let zero = Value::Numbers(View::new(vec![1], Arc::new(vec![0.0])));
                let filler = match attribute(node, "value") {
                    Some(held) => constant(held.t.as_ref()?, &[])?,
                    None => zero,
                };
                Op::Shaping(Shaping::ConstantOfShape(filler))
            }
            "Expand" => Op::Shaping(Shaping::Expand),
            "Reshape" if whole("allowzero").unwrap_or(0) == 0 => Op::Shaping(Shaping::Reshape),
            "Shape" => Op::Shaping(Shaping::Shape { start: whole("start").unwrap_or(0), end: whole("end") }),
            "Slice" if self.compiler.opset >= 10 => Op::Shaping(Shaping::Slice),
            "Squeeze" => Op::Shaping(Shaping::Squeeze(list("axes"))),
            "Unsqueeze" => Op::Shaping(Shaping::Unsqueeze(list("axes"))),
            "Transpose" => Op::Shaping(Shaping::Transpose(list("perm"))),
            _ => return None,
        };
        let [output] = &node.output[..] else { return None };
        self.add(op, &inputs, output)
    }

    pub(super) fn finish(mut self, outputs: &[&str]) -> Option<Plan> {
        let outputs =
            outputs.iter().map(|name| self.numbers.get(*name).copied()).collect::<Option<Vec<_>>>()?;
        let mut needed: HashSet<usize> = outputs.iter().copied().collect();
        for step in self.steps.iter_mut().rev() {
            let taken = step.inputs.iter().flatten().chain([&step.output]);
            step.done = taken.copied().filter(|&number| needed.insert(number)).collect();
        }
        Some(Plan {
            isa: self.isa,
            steps: self.steps,
            constants: self.constants,
            inputs: self.inputs,
            outputs,
            rooms: Mutex::default(),
            rooms_max: std::thread::available_parallelism().map_or(1, usize::from),
            apart: false,
        })
    }
}
