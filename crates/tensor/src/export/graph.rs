//! [`sequential`]: layers to an ONNX graph.

use std::cell::RefCell;

use rten_onnx::onnx::{
    AttributeProto, AttributeType, DataType, Dimension, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto, TypeProtoTensor, ValueInfoProto,
};

use super::{Activation, Layer, Padding};

/// The version of the ONNX operators that the graph is written in; 20 is the first with `Gelu`.
const OPSET: i64 = 20;

/// The version of the file format that belongs to [`OPSET`].
const IR_VERSION: i64 = 9;

/// `ModelProto { graph { name: "main" } }`. The writer omits the name, which the ONNX checker demands;
/// Protocol Buffers merges this message with the one that follows it.
const GRAPH_NAME: [u8; 8] = *b"\x3a\x06\x12\x04main";

/// Layers that do not fit together or whose weights have not the size that they claim.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("layer {layer}: {reason}")]
pub struct ExportError {
    /// Which layer, from 0; the number of layers where the whole could not be written.
    pub layer: usize,
    /// What does not fit.
    pub reason: String,
}

/// Writes `layers` over inputs of `input_shape` (without the batch dimension) as an ONNX model with a
/// dynamic batch dimension, an input `input` (float32, or int32 ids before an embedding) and an output
/// `output` (float32). The same layers give the same bytes.
///
/// # Errors
/// If a layer does not take what the one before it gives, or has weights of a wrong size.
pub fn sequential(input_shape: &[usize], layers: &[Layer]) -> Result<Vec<u8>, ExportError> {
    let mut writer = Writer::new(input_shape);
    for (i, layer) in layers.iter().enumerate() {
        writer.layer(layer, i == 0).map_err(|reason| ExportError { layer: i, reason })?;
    }
    let ids = matches!(layers.first(), Some(Layer::Embedding { .. }));
    let input_type = if ids { DataType::INT32 } else { DataType::FLOAT };
    writer.finish(input_shape, input_type).map_err(|reason| ExportError { layer: layers.len(), reason })
}

/// A graph under construction, and the value that the last layer gave.
struct Writer {
    graph: GraphProto,
    /// Name of the value.
    value: String,
    /// Its shape as the layers see it, without the batch dimension.
    shape: Vec<usize>,
    /// Whether it lies as `[channels, height, width]` where `shape` says `[height, width, channels]`.
    channels_first: bool,
    /// Whether zeros among the model's input ids mask steps of the value.
    masked: bool,
}

type Step = Result<(), String>;

impl Writer {
    fn new(input_shape: &[usize]) -> Self {
        Writer {
            graph: GraphProto::default(),
            value: "input".to_owned(),
            shape: input_shape.to_vec(),
            channels_first: false,
            masked: false,
        }
    }

    fn layer(&mut self, layer: &Layer, first: bool) -> Step {
        match layer {
            Layer::Dense { units, kernel, bias, activation } => {
                self.dense(*units, kernel, bias.as_deref())?;
                self.activation(*activation);
            }
            Layer::Conv2d { filters, kernel_size, kernel, bias, strides, padding, activation } => {
                let window = Window { size: *kernel_size, strides: *strides, padding: *padding };
                self.conv2d(*filters, kernel, bias.as_deref(), &window)?;
                self.activation(*activation);
            }
            Layer::MaxPooling2d { pool_size, strides, padding } => {
                self.max_pooling2d(&Window { size: *pool_size, strides: *strides, padding: *padding })?;
            }
            Layer::BatchNormalization { gamma, beta, mean, variance, epsilon } => {
                self.batch_normalization(gamma.as_deref(), beta.as_deref(), mean, variance, *epsilon)?;
            }
            Layer::Normalization { mean, variance } => self.normalization(mean, variance)?,
            Layer::Flatten => self.flatten()?,
            Layer::Embedding { rows, width, table, mask_zero } => {
                if !first {
                    return Err("an embedding must be the first layer".to_owned());
                }
                self.embedding(*rows, *width, table)?;
                self.masked = *mask_zero;
            }
            Layer::GlobalAveragePooling1d => self.global_average_pooling1d()?,
            Layer::Activation(activation) => self.activation(*activation),
            Layer::Reshape { shape } => self.reshape(shape)?,
        }
        Ok(())
    }

    fn dense(&mut self, units: usize, kernel: &[f32], bias: Option<&[f32]>) -> Step {
        self.lay_channels_last();
        let inputs = self.channels()?;
        let kernel = self.weights("kernel", &[inputs, units], kernel)?;
        self.apply("MatMul", &[&kernel], vec![]);
        if let Some(bias) = bias {
            let bias = self.weights("bias", &[units], bias)?;
            self.apply("Add", &[&bias], vec![]);
        }
        if let Some(last) = self.shape.last_mut() {
            *last = units;
        }
        Ok(())
    }

    fn conv2d(&mut self, filters: usize, kernel: &[f32], bias: Option<&[f32]>, window: &Window) -> Step {
        let [height, width, channels] = self.image()?;
        let [rows, columns] = window.size;
        let (out, attributes) = window.over([height, width])?;
        self.lay_channels_first();
        let kernel = self.weights("kernel", &[filters, channels, rows, columns], kernel)?;
        let bias = bias.map(|bias| self.weights("bias", &[filters], bias)).transpose()?;
        let mut operands = vec![kernel.as_str()];
        operands.extend(bias.as_deref());
        self.apply("Conv", &operands, attributes);
        self.shape = vec![out[0], out[1], filters];
        Ok(())
    }

    fn max_pooling2d(&mut self, window: &Window) -> Step {
        let [height, width, channels] = self.image()?;
        let (out, attributes) = window.over([height, width])?;
        self.lay_channels_first();
        self.apply("MaxPool", &[], attributes);
        self.shape = vec![out[0], out[1], channels];
        Ok(())
    }

    fn batch_normalization(
        &mut self,
        gamma: Option<&[f32]>,
        beta: Option<&[f32]>,
        mean: &[f32],
        variance: &[f32],
        epsilon: f32,
    ) -> Step {
        let channels = self.channels()?;
        for (what, len) in [
            ("gamma", gamma.map(<[f32]>::len)),
            ("beta", beta.map(<[f32]>::len)),
            ("mean", Some(mean.len())),
            ("variance", Some(variance.len())),
        ] {
            if len.is_some_and(|len| len != channels) {
                return Err(format!("{what} has {} values for {channels} channels", len.unwrap_or_default()));
            }
        }
        let mut scale = Vec::with_capacity(channels);
        let mut shift = Vec::with_capacity(channels);
        for (i, (&mean, &variance)) in mean.iter().zip(variance).enumerate() {
            let gamma = gamma.and_then(|g| g.get(i)).map_or(1.0, |&g| f64::from(g));
            let beta = beta.and_then(|b| b.get(i)).map_or(0.0, |&b| f64::from(b));
            let factor = gamma / (f64::from(variance) + f64::from(epsilon)).sqrt();
            scale.push(factor as f32);
            shift.push((beta - f64::from(mean) * factor) as f32);
        }
        self.per_channel("Mul", "scale", &scale)?;
        self.per_channel("Add", "shift", &shift)
    }

    fn normalization(&mut self, mean: &[f32], variance: &[f32]) -> Step {
        let deviation: Vec<f32> = variance.iter().map(|v| v.sqrt().max(1e-7)).collect();
        self.per_channel("Sub", "mean", mean)?;
        self.per_channel("Div", "deviation", &deviation)
    }

    fn flatten(&mut self) -> Step {
        self.lay_channels_last();
        self.masked = false;
        if self.shape.len() != 1 {
            self.apply("Flatten", &[], vec![int("axis", 1)]);
            self.shape = vec![product(&self.shape)?];
        }
        Ok(())
    }

    fn embedding(&mut self, rows: usize, width: usize, table: &[f32]) -> Step {
        let table = self.weights("table", &[rows, width], table)?;
        let ids = std::mem::take(&mut self.value);
        self.value = self.node("Gather", &[&table, &ids], vec![int("axis", 0)]);
        self.shape.push(width);
        Ok(())
    }

    fn global_average_pooling1d(&mut self) -> Step {
        let &[_, features] = self.shape.as_slice() else {
            return Err(format!("takes [steps, features], not {:?}", self.shape));
        };
        let steps_axis = self.integers("steps_axis", &[1]);
        if self.masked {
            let zero = self.tensor("padding_id", &[], DataType::INT32, 0i32.to_le_bytes().to_vec());
            let one = self.tensor("one", &[], DataType::FLOAT, 1f32.to_le_bytes().to_vec());
            let last_axis = self.integers("last_axis", &[-1]);
            let padding = self.node("Equal", &["input", &zero], vec![]);
            let token = self.node("Not", &[&padding], vec![]);
            let weight = self.node("Cast", &[&token], vec![int("to", i64::from(DataType::FLOAT.0))]);
            let column = self.node("Unsqueeze", &[&weight, &last_axis], vec![]);
            let count = self.node("ReduceSum", &[&weight, &steps_axis], vec![int("keepdims", 1)]);
            let divisor = self.node("Max", &[&count, &one], vec![]);
            self.apply("Mul", &[&column], vec![]);
            self.apply("ReduceSum", &[&steps_axis], vec![int("keepdims", 0)]);
            self.apply("Div", &[&divisor], vec![]);
            self.masked = false;
        } else {
            self.apply("ReduceMean", &[&steps_axis], vec![int("keepdims", 0)]);
        }
        self.shape = vec![features];
        Ok(())
    }

    fn reshape(&mut self, shape: &[usize]) -> Step {
        self.lay_channels_last();
        self.masked = false;
        if product(shape)? != product(&self.shape)? || shape.contains(&0) {
            return Err(format!("{:?} cannot become {shape:?}", self.shape));
        }
        // A 0 keeps the batch dimension.
        let dims: Vec<i64> = std::iter::once(0).chain(shape.iter().map(|&d| d as i64)).collect();
        let dims = self.integers("shape", &dims);
        self.apply("Reshape", &[&dims], vec![]);
        self.shape = shape.to_vec();
        Ok(())
    }

    fn activation(&mut self, activation: Activation) {
        match activation {
            Activation::Linear => {}
            Activation::Relu => self.apply("Relu", &[], vec![]),
            Activation::Sigmoid => self.apply("Sigmoid", &[], vec![]),
            Activation::Tanh => self.apply("Tanh", &[], vec![]),
            Activation::Softmax => {
                let axis = if self.channels_first { 1 } else { -1 };
                self.apply("Softmax", &[], vec![int("axis", axis)]);
            }
            Activation::Gelu { approximate } => {
                let how = if approximate { "tanh" } else { "none" };
                self.apply("Gelu", &[], vec![string("approximate", how)]);
            }
            Activation::Elu { alpha } => self.apply("Elu", &[], vec![float("alpha", alpha)]),
            Activation::Selu => {
                self.apply("Elu", &[], vec![float("alpha", 1.673_263_2)]);
                let scale =
                    self.tensor("selu_scale", &[], DataType::FLOAT, 1.050_701_f32.to_le_bytes().to_vec());
                self.apply("Mul", &[&scale], vec![]);
            }
            Activation::Softplus => self.apply("Softplus", &[], vec![]),
            Activation::LeakyRelu { negative_slope } => {
                self.apply("LeakyRelu", &[], vec![float("alpha", negative_slope)]);
            }
        }
    }

    /// The length of the last axis.
    fn channels(&self) -> Result<usize, String> {
        self.shape.last().copied().ok_or_else(|| "takes at least one dimension".to_owned())
    }

    fn image(&self) -> Result<[usize; 3], String> {
        let shape = self.shape.as_slice();
        shape.try_into().map_err(|_| format!("takes [height, width, channels], not {shape:?}"))
    }

    fn lay_channels_first(&mut self) {
        if !self.channels_first {
            self.apply("Transpose", &[], vec![ints("perm", vec![0, 3, 1, 2])]);
            self.channels_first = true;
        }
    }

    fn lay_channels_last(&mut self) {
        if self.channels_first {
            self.apply("Transpose", &[], vec![ints("perm", vec![0, 2, 3, 1])]);
            self.channels_first = false;
        }
    }

    /// Applies `op` to the value and to one number for each channel.
    fn per_channel(&mut self, op: &str, name: &str, numbers: &[f32]) -> Step {
        let channels = self.channels()?;
        let dims = if self.channels_first { vec![channels, 1, 1] } else { vec![channels] };
        let operand = self.weights(name, &dims, numbers)?;
        self.apply(op, &[&operand], vec![]);
        Ok(())
    }

    /// Makes the value the result of `op` over it and `operands`.
    fn apply(&mut self, op: &str, operands: &[&str], attributes: Vec<AttributeProto>) {
        let value = std::mem::take(&mut self.value);
        let inputs: Vec<&str> = std::iter::once(value.as_str()).chain(operands.iter().copied()).collect();
        self.value = self.node(op, &inputs, attributes);
    }

    /// Adds an operation; returns the name of its result.
    fn node(&mut self, op: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        let name = format!("{op}_{}", self.graph.node.len());
        self.graph.node.push(NodeProto {
            name: Some(name.clone()),
            op_type: Some(op.to_owned()),
            input: inputs.iter().map(|&i| i.to_owned()).collect(),
            output: vec![name.clone()],
            attribute,
            domain: None,
        });
        name
    }

    /// Adds a constant of floats; returns its name.
    fn weights(&mut self, name: &str, dims: &[usize], data: &[f32]) -> Result<String, String> {
        if product(dims)? != data.len() {
            return Err(format!("{name} has {} values where {dims:?} is expected", data.len()));
        }
        let dims: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
        Ok(self.tensor(name, &dims, DataType::FLOAT, data.iter().flat_map(|x| x.to_le_bytes()).collect()))
    }

    /// Adds a constant list of integers; returns its name.
    fn integers(&mut self, name: &str, data: &[i64]) -> String {
        let bytes = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.tensor(name, &[data.len() as i64], DataType::INT64, bytes)
    }

    fn tensor(&mut self, name: &str, dims: &[i64], data_type: DataType, bytes: Vec<u8>) -> String {
        let name = format!("{name}_{}", self.graph.initializer.len());
        self.graph.initializer.push(TensorProto {
            name: Some(name.clone()),
            dims: dims.to_vec(),
            data_type: Some(data_type),
            raw_data: Some(RefCell::new(bytes)),
            ..TensorProto::default()
        });
        name
    }

    fn finish(mut self, input_shape: &[usize], input_type: DataType) -> Result<Vec<u8>, String> {
        self.lay_channels_last();
        if self.value == "input" {
            self.apply("Identity", &[], vec![]);
        }
        let last = std::mem::take(&mut self.value);
        for node in &mut self.graph.node {
            for output in node.output.iter_mut().filter(|output| **output == last) {
                *output = "output".to_owned();
            }
        }
        self.graph.input.push(value_info("input", input_shape, input_type));
        self.graph.output.push(value_info("output", &self.shape, DataType::FLOAT));
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
}

/// A window that moves over an image.
struct Window {
    size: [usize; 2],
    strides: [usize; 2],
    padding: Padding,
}

impl Window {
    /// Height and width of the result over an image of `extent`, and the attributes of the ONNX operator.
    fn over(&self, extent: [usize; 2]) -> Result<([usize; 2], Vec<AttributeProto>), String> {
        let mut out = [0; 2];
        let mut before = [0; 2];
        let mut after = [0; 2];
        for axis in 0..2 {
            let (length, size, stride) = (extent[axis], self.size[axis], self.strides[axis]);
            if size == 0 || stride == 0 {
                return Err(format!(
                    "window {:?} and strides {:?} must be positive",
                    self.size, self.strides
                ));
            }
            match self.padding {
                Padding::Valid if length < size => {
                    return Err(format!("a window of {:?} does not fit into {extent:?}", self.size));
                }
                Padding::Valid => out[axis] = (length - size) / stride + 1,
                Padding::Same => {
                    out[axis] = length.div_ceil(stride);
                    let covered = out[axis].saturating_sub(1).saturating_mul(stride).saturating_add(size);
                    let overhang = covered.saturating_sub(length);
                    before[axis] = overhang / 2;
                    after[axis] = overhang - before[axis];
                }
            }
        }
        let pads = [before[0], before[1], after[0], after[1]];
        let attributes = vec![
            ints("kernel_shape", self.size.map(|x| x as i64).to_vec()),
            ints("strides", self.strides.map(|x| x as i64).to_vec()),
            ints("pads", pads.map(|x| x as i64).to_vec()),
        ];
        Ok((out, attributes))
    }
}

fn product(dims: &[usize]) -> Result<usize, String> {
    dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(|| format!("{dims:?} is too large"))
}

fn value_info(name: &str, shape: &[usize], elem_type: DataType) -> ValueInfoProto {
    let batch = Dimension { dim_value: None, dim_param: Some("batch".to_owned()) };
    let fixed = shape.iter().map(|&d| Dimension { dim_value: Some(d as i64), dim_param: None });
    let shape = TensorShapeProto { dim: std::iter::once(batch).chain(fixed).collect() };
    let tensor_type = TypeProtoTensor { elem_type: Some(elem_type), shape: Some(shape) };
    let r#type = TypeProto { tensor_type: Some(tensor_type), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(r#type) }
}

fn attribute(name: &str, r#type: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(r#type), ..AttributeProto::default() }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i: Some(i), ..attribute(name, AttributeType::INT) }
}

fn ints(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto { ints, ..attribute(name, AttributeType::INTS) }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { f: Some(f), ..attribute(name, AttributeType::FLOAT) }
}

fn string(name: &str, s: &str) -> AttributeProto {
    AttributeProto { s: Some(s.to_owned()), ..attribute(name, AttributeType::STRING) }
}
