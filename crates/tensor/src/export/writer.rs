//! [`Writer`]: an ONNX graph under construction.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use rten_onnx::onnx::{
    AttributeProto, AttributeType, DataType, Dimension, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto, TypeProtoTensor, ValueInfoProto,
};

use crate::{Dim, Sizes};

/// The version of the ONNX operators that the graph is written in; 20 is the first with `Gelu`.
const OPSET: i64 = 20;

/// The version of the file format that belongs to [`OPSET`].
const IR_VERSION: i64 = 9;

/// `ModelProto { graph { name: "main" } }`. The writer omits the name, which the ONNX checker demands;
/// Protocol Buffers merges this message with the one that follows it.
const GRAPH_NAME: [u8; 8] = *b"\x3a\x06\x12\x04main";

/// A graph under construction, and the value that the next operation is applied to.
pub(super) struct Writer {
    graph: GraphProto,
    /// Names of inputs and outputs, which nothing within may have.
    ports: HashSet<String>,
    pub(super) at: Value,
    /// What the last layer gives besides the value.
    pub(super) parts: Vec<Value>,
    /// What the graph holds while it is computed.
    pub(super) sizes: Sizes,
}

/// A value between layers.
#[derive(Debug, Clone)]
pub(super) struct Value {
    pub(super) name: String,
    /// Its shape as the layers see it, without the batch dimension.
    pub(super) shape: Vec<Dim>,
    /// Whether it lies as `[channels, height, width]` where `shape` says `[height, width, channels]`.
    pub(super) channels_first: bool,
    /// What it holds.
    pub(super) element: DataType,
    /// Which steps of it count, `[rows, steps]` truth values, if not all do.
    pub(super) mask: Option<String>,
}

/// What a layer does, or why it cannot.
pub(super) type Step = Result<(), String>;

impl Value {
    /// An input of a network.
    pub(super) fn input(name: &str, shape: Vec<Dim>, element: DataType) -> Value {
        Value { element, ..Value::floats(name.to_owned(), shape) }
    }

    /// A value of floats, laid as the layers see it.
    pub(super) fn floats(name: String, shape: Vec<Dim>) -> Value {
        Value { name, shape, channels_first: false, element: DataType::FLOAT, mask: None }
    }
}

impl Writer {
    /// A graph of `inputs`, beginning at the first, that is to give outputs of these names.
    pub(super) fn new(inputs: &[Value], outputs: &[&str]) -> Result<Writer, String> {
        let mut writer = Writer {
            graph: GraphProto::default(),
            ports: outputs.iter().map(|name| (*name).to_owned()).collect(),
            at: inputs.first().cloned().ok_or("the network has no inputs")?,
            parts: Vec::new(),
            sizes: Sizes::default(),
        };
        for input in inputs {
            row_elements(&input.shape)?;
            writer.sizes.add(&input.shape);
            writer.graph.input.push(value_info(&input.name, &input.shape, input.element));
            if !writer.ports.insert(input.name.clone()) {
                return Err(format!("two of its inputs and outputs are called `{}`", input.name));
            }
        }
        Ok(writer)
    }

    /// The length of the last axis.
    pub(super) fn channels(&self) -> Result<usize, String> {
        match self.at.shape.last() {
            Some(Dim::Fixed(channels)) => Ok(*channels),
            Some(Dim::Any) => Err("takes rows whose last dimension is known".to_owned()),
            None => Err("takes at least one dimension".to_owned()),
        }
    }

    /// The dimensions of steps (`rank` 1) or an image (2), and its channels.
    pub(super) fn extent(&self, rank: usize) -> Result<(Vec<Dim>, usize), String> {
        match self.at.shape.split_last() {
            Some((_, extent)) if extent.len() == rank => Ok((extent.to_vec(), self.channels()?)),
            _ => {
                let wanted = if rank == 1 { "[steps, channels]" } else { "[height, width, channels]" };
                Err(format!("takes {wanted}, not {}", shown(&self.at.shape)))
            }
        }
    }

    /// Lays steps or an image so that the channels are its first dimension.
    pub(super) fn lay_channels_first(&mut self) {
        if !self.at.channels_first {
            let rank = self.at.shape.len() as i64;
            let perm = [0, rank].into_iter().chain(1..rank).collect();
            self.apply("Transpose", &[], vec![ints("perm", perm)]);
            self.at.channels_first = true;
        }
    }

    /// Lays it as the layers see it.
    pub(super) fn lay_channels_last(&mut self) {
        if self.at.channels_first {
            let rank = self.at.shape.len() as i64;
            let perm = std::iter::once(0).chain(2..=rank).chain([1]).collect();
            self.apply("Transpose", &[], vec![ints("perm", perm)]);
            self.at.channels_first = false;
        }
    }

    /// Makes the elements of the value of this type.
    pub(super) fn become_of(&mut self, element: DataType) {
        if self.at.element != element {
            self.apply("Cast", &[], vec![int("to", i64::from(element.0))]);
            self.at.element = element;
        }
    }

    /// Makes the value, as the layers see it, floats.
    pub(super) fn become_plain(&mut self) {
        self.become_of(DataType::FLOAT);
        self.lay_channels_last();
    }

    /// Applies `op` to the value and to one number for each channel.
    pub(super) fn per_channel(&mut self, op: &str, name: &str, numbers: &[f32]) -> Step {
        let channels = self.channels()?;
        let mut dims = vec![channels];
        if self.at.channels_first {
            dims.resize(self.at.shape.len(), 1);
        }
        let operand = self.weights(name, &dims, numbers)?;
        self.apply(op, &[&operand], vec![]);
        Ok(())
    }

    /// Makes the value the result of `op` over it and `operands`.
    pub(super) fn apply(&mut self, op: &str, operands: &[&str], attributes: Vec<AttributeProto>) {
        let value = std::mem::take(&mut self.at.name);
        let inputs: Vec<&str> = std::iter::once(value.as_str()).chain(operands.iter().copied()).collect();
        self.at.name = self.node(op, &inputs, attributes);
    }

    /// Adds an operation; returns the name of its result.
    pub(super) fn node(&mut self, op: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        let name = self.free(format!("{op}_{}", self.graph.node.len()));
        self.push(op, inputs, vec![name.clone()], attribute);
        name
    }

    /// Adds an operation with several results; returns their names.
    pub(super) fn node_of(
        &mut self,
        count: usize,
        op: &str,
        inputs: &[&str],
        attribute: Vec<AttributeProto>,
    ) -> Vec<String> {
        let place = self.graph.node.len();
        let names: Vec<String> = (0..count).map(|i| self.free(format!("{op}_{place}_{i}"))).collect();
        self.push(op, inputs, names.clone(), attribute);
        names
    }

    fn push(&mut self, op: &str, inputs: &[&str], output: Vec<String>, attribute: Vec<AttributeProto>) {
        self.graph.node.push(NodeProto {
            name: output.first().cloned(),
            op_type: Some(op.to_owned()),
            input: inputs.iter().map(|&i| i.to_owned()).collect(),
            output,
            attribute,
            domain: None,
        });
    }

    /// `name`, or something like it that no input or output is called.
    fn free(&self, mut name: String) -> String {
        while self.ports.contains(&name) {
            name.push('_');
        }
        name
    }

    /// Adds a constant of floats; returns its name.
    pub(super) fn weights(&mut self, name: &str, dims: &[usize], data: &[f32]) -> Result<String, String> {
        if product(dims)? != data.len() {
            return Err(format!("{name} has {} values where {dims:?} is expected", data.len()));
        }
        let dims: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
        Ok(self.tensor(name, &dims, DataType::FLOAT, data.iter().flat_map(|x| x.to_le_bytes()).collect()))
    }

    /// Adds a constant list of integers; returns its name.
    pub(super) fn integers(&mut self, name: &str, data: &[i64]) -> String {
        let bytes = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.tensor(name, &[data.len() as i64], DataType::INT64, bytes)
    }

    /// Adds a constant integer as ids are; returns its name.
    pub(super) fn whole(&mut self, name: &str, value: i32) -> String {
        self.tensor(name, &[], DataType::INT32, value.to_le_bytes().to_vec())
    }

    /// Adds a constant truth value; returns its name.
    pub(super) fn truth(&mut self, truth: bool) -> String {
        self.tensor("truth", &[], DataType::BOOL, vec![u8::from(truth)])
    }

    /// Adds a constant integer as places are; returns its name.
    pub(super) fn index(&mut self, value: usize) -> String {
        self.tensor("index", &[], DataType::INT64, (value as i64).to_le_bytes().to_vec())
    }

    /// Adds a constant float; returns its name.
    pub(super) fn scalar(&mut self, name: &str, value: f32) -> String {
        self.tensor(name, &[], DataType::FLOAT, value.to_le_bytes().to_vec())
    }

    pub(super) fn tensor(&mut self, name: &str, dims: &[i64], data_type: DataType, bytes: Vec<u8>) -> String {
        let name = self.free(format!("{name}_{}", self.graph.initializer.len()));
        self.graph.initializer.push(TensorProto {
            name: Some(name.clone()),
            dims: dims.to_vec(),
            data_type: Some(data_type),
            raw_data: Some(RefCell::new(bytes)),
            ..TensorProto::default()
        });
        name
    }

    /// The model that gives these values under these names.
    pub(super) fn finish(mut self, outputs: Vec<(&str, Value)>) -> Result<Vec<u8>, String> {
        let mut told: HashMap<String, &str> = HashMap::new();
        for (name, value) in outputs {
            self.at = value;
            // One value may be several outputs.
            if let Some(other) = told.get(&self.at.name) {
                self.at.name = (*other).to_owned();
            }
            let value = self.at.name.clone();
            self.lay_channels_last();
            if self.at.element == DataType::BOOL {
                self.become_of(DataType::INT32);
            }
            let own = self.graph.node.iter().any(|node| node.output.contains(&self.at.name));
            if !own || self.ports.contains(&self.at.name) {
                self.apply("Identity", &[], vec![]);
            }
            if self.at.name == value {
                told.insert(value, name);
            }
            self.rename(name);
            self.graph.output.push(value_info(name, &self.at.shape, self.at.element));
        }
        let model = ModelProto {
            ir_version: Some(IR_VERSION),
            opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }],
            producer_name: Some("meuse".to_owned()),
            graph: Some(self.graph),
            ..ModelProto::default()
        };
        let body = model.write_buf().map_err(|error| format!("the model cannot be written: {error}"))?;
        Ok([&GRAPH_NAME, body.as_slice()].concat())
    }

    /// Calls the value `name`, wherever it occurs.
    fn rename(&mut self, name: &str) {
        let last = std::mem::replace(&mut self.at.name, name.to_owned());
        for node in &mut self.graph.node {
            for port in node.input.iter_mut().chain(&mut node.output).filter(|port| **port == last) {
                *port = name.to_owned();
            }
        }
    }
}

/// Refuses rows of this shape that have too many elements, dimensions of any length left out of account.
pub(super) fn row_elements(shape: &[Dim]) -> Step {
    match known(shape)? <= Sizes::ELEMENTS_MAX {
        true => Ok(()),
        false => Err(format!(
            "a row of shape {} has more than {} elements, the limit",
            shown(shape),
            Sizes::ELEMENTS_MAX
        )),
    }
}

/// The product of the known dimensions.
pub(super) fn known(shape: &[Dim]) -> Result<usize, String> {
    let fixed: Vec<usize> = shape.iter().filter_map(|dim| length(*dim)).collect();
    product(&fixed)
}

pub(super) fn product(dims: &[usize]) -> Result<usize, String> {
    dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(|| format!("{dims:?} is too large"))
}

/// How long a dimension is, if that is known.
pub(super) fn length(dim: Dim) -> Option<usize> {
    match dim {
        Dim::Fixed(length) => Some(length),
        Dim::Any => None,
    }
}

/// Dimensions of known lengths.
pub(super) fn fixed(dims: &[usize]) -> Vec<Dim> {
    dims.iter().map(|length| Dim::Fixed(*length)).collect()
}

/// A shape for messages: `[?, 4]`.
pub(super) fn shown(shape: &[Dim]) -> String {
    let dims: Vec<String> =
        shape.iter().map(|dim| length(*dim).map_or_else(|| "?".to_owned(), |n| n.to_string())).collect();
    format!("[{}]", dims.join(", "))
}

fn value_info(name: &str, shape: &[Dim], elem_type: DataType) -> ValueInfoProto {
    let batch = Dimension { dim_value: None, dim_param: Some("batch".to_owned()) };
    let dim = |(i, dim): (usize, &Dim)| match dim {
        Dim::Fixed(length) => Dimension { dim_value: Some(*length as i64), dim_param: None },
        Dim::Any => Dimension { dim_value: None, dim_param: Some(format!("{name}.{i}")) },
    };
    let shape =
        TensorShapeProto { dim: std::iter::once(batch).chain(shape.iter().enumerate().map(dim)).collect() };
    let tensor_type = TypeProtoTensor { elem_type: Some(elem_type), shape: Some(shape) };
    let r#type = TypeProto { tensor_type: Some(tensor_type), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(r#type) }
}

fn attribute(name: &str, r#type: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(r#type), ..AttributeProto::default() }
}

pub(super) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i: Some(i), ..attribute(name, AttributeType::INT) }
}

pub(super) fn ints(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto { ints, ..attribute(name, AttributeType::INTS) }
}

pub(super) fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { f: Some(f), ..attribute(name, AttributeType::FLOAT) }
}

pub(super) fn string(name: &str, s: &str) -> AttributeProto {
    AttributeProto { s: Some(s.to_owned()), ..attribute(name, AttributeType::STRING) }
}
