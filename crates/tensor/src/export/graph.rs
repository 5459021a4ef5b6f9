//! [`sequential`]: layers to an ONNX graph.

use formats::keras::Window;
use rten_onnx::onnx::{AttributeProto, DataType};

use super::window::over;
use super::writer::{Step, Value, Writer, fixed, float, int, known, product, row_elements, shown, string};
use super::{Activation, Layer, Padding};
use crate::Dim;

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
    let ids = matches!(layers.first(), Some(Layer::Embedding { .. }));
    let whole = |reason| ExportError { layer: layers.len().saturating_sub(1), reason };
    let element = if ids { DataType::INT32 } else { DataType::FLOAT };
    let input = Value::input("input", fixed(input_shape), element);
    let mut writer = Writer::new(&[input], &["output"]).map_err(whole)?;
    for (i, layer) in layers.iter().enumerate() {
        writer.layer(layer, i == 0).map_err(|reason| ExportError { layer: i, reason })?;
    }
    let last = writer.at.clone();
    writer.finish(vec![("output", last)]).map_err(whole)
}

impl Writer {
    fn layer(&mut self, layer: &Layer, first: bool) -> Step {
        match layer {
            Layer::Dense { units, kernel, bias, activation } => {
                self.dense(*units, kernel, bias.as_deref())?;
                self.activation(*activation);
            }
            Layer::Conv2d { filters, kernel_size, kernel, bias, strides, padding, activation } => {
                let window = window(*kernel_size, *strides, *padding);
                self.conv2d(*filters, kernel, bias.as_deref(), &window)?;
                self.activation(*activation);
            }
            Layer::MaxPooling2d { pool_size, strides, padding } => {
                self.pooling("MaxPool", &window(*pool_size, *strides, *padding), vec![])?;
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
                self.embedding(*rows, *width, table, *mask_zero)?;
            }
            Layer::GlobalAveragePooling1d => self.global_average_pooling1d()?,
            Layer::Activation(activation) => self.activation(*activation),
            Layer::Reshape { shape } => self.reshape(shape)?,
        }
        Ok(())
    }

    pub(super) fn dense(&mut self, units: usize, kernel: &[f32], bias: Option<&[f32]>) -> Step {
        self.lay_channels_last();
        let inputs = self.channels()?;
        let kernel = self.weights("kernel", &[inputs, units], kernel)?;
        self.apply("MatMul", &[&kernel], vec![]);
        if let Some(bias) = bias {
            let bias = self.weights("bias", &[units], bias)?;
            self.apply("Add", &[&bias], vec![]);
        }
        if let Some(last) = self.at.shape.last_mut() {
            *last = Dim::Fixed(units);
        }
        row_elements(&self.at.shape)
    }

    fn conv2d(&mut self, filters: usize, kernel: &[f32], bias: Option<&[f32]>, window: &Window) -> Step {
        let (_, channels) = self.extent(2)?;
        let dims = [&[filters, channels], window.size.as_slice()].concat();
        self.convolution("Conv", &dims, kernel, bias, window, vec![])
    }

    /// A convolution with a kernel of shape `dims`, as the operator wants it.
    pub(super) fn convolution(
        &mut self,
        op: &str,
        dims: &[usize],
        kernel: &[f32],
        bias: Option<&[f32]>,
        window: &Window,
        mut attributes: Vec<AttributeProto>,
    ) -> Step {
        let (extent, _) = self.extent(window.size.len())?;
        let (out, own) = over(window, &extent)?;
        attributes.extend(own);
        self.lay_channels_first();
        let filters = dims.first().copied().unwrap_or(0);
        let kernel = self.weights("kernel", dims, kernel)?;
        let bias = bias.map(|bias| self.weights("bias", &[filters], bias)).transpose()?;
        let mut operands = vec![kernel.as_str()];
        operands.extend(bias.as_deref());
        self.apply(op, &operands, attributes);
        self.at.shape = [out, vec![Dim::Fixed(filters)]].concat();
        row_elements(&self.at.shape)
    }

    pub(super) fn pooling(&mut self, op: &str, window: &Window, mut attributes: Vec<AttributeProto>) -> Step {
        let (extent, channels) = self.extent(window.size.len())?;
        let (out, own) = over(window, &extent)?;
        attributes.extend(own);
        self.lay_channels_first();
        self.apply(op, &[], attributes);
        self.at.shape = [out, vec![Dim::Fixed(channels)]].concat();
        Ok(())
    }

    pub(super) fn batch_normalization(
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

    pub(super) fn flatten(&mut self) -> Step {
        self.lay_channels_last();
        self.at.mask = None;
        if self.at.shape.len() != 1 {
            let open = self.at.shape.contains(&Dim::Any);
            let elements = known(&self.at.shape)?;
            self.apply("Flatten", &[], vec![int("axis", 1)]);
            self.at.shape = vec![if open { Dim::Any } else { Dim::Fixed(elements) }];
        }
        Ok(())
    }

    pub(super) fn embedding(&mut self, rows: usize, width: usize, table: &[f32], mask_zero: bool) -> Step {
        let table = self.weights("table", &[rows, width], table)?;
        let ids = std::mem::take(&mut self.at.name);
        self.at.name = self.node("Gather", &[&table, &ids], vec![int("axis", 0)]);
        self.at.shape.push(Dim::Fixed(width));
        self.at.element = DataType::FLOAT;
        if mask_zero {
            let zero = self.whole("padding_id", 0);
            let padding = self.node("Equal", &[&ids, &zero], vec![]);
            self.at.mask = Some(self.node("Not", &[&padding], vec![]));
        }
        row_elements(&self.at.shape)
    }

    pub(super) fn global_average_pooling1d(&mut self) -> Step {
        let &[_, features] = self.at.shape.as_slice() else {
            return Err(format!("takes [steps, features], not {}", shown(&self.at.shape)));
        };
        let steps_axis = self.integers("steps_axis", &[1]);
        if let Some(mask) = self.at.mask.take() {
            let one = self.scalar("one", 1.0);
            let last_axis = self.integers("last_axis", &[-1]);
            let weight = self.node("Cast", &[&mask], vec![int("to", i64::from(DataType::FLOAT.0))]);
            let column = self.node("Unsqueeze", &[&weight, &last_axis], vec![]);
            let count = self.node("ReduceSum", &[&weight, &steps_axis], vec![int("keepdims", 1)]);
            let divisor = self.node("Max", &[&count, &one], vec![]);
            self.apply("Mul", &[&column], vec![]);
            self.apply("ReduceSum", &[&steps_axis], vec![int("keepdims", 0)]);
            self.apply("Div", &[&divisor], vec![]);
        } else {
            self.apply("ReduceMean", &[&steps_axis], vec![int("keepdims", 0)]);
        }
        self.at.shape = vec![features];
        Ok(())
    }

    pub(super) fn reshape(&mut self, shape: &[usize]) -> Step {
        if product(shape)? != known(&self.at.shape)?
            || shape.contains(&0)
            || self.at.shape.contains(&Dim::Any)
        {
            return Err(format!("{} cannot become {shape:?}", shown(&self.at.shape)));
        }
        let dims: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        self.shape_as(&dims, fixed(shape));
        Ok(())
    }

    /// The same elements in rows of these dimensions, one of which may be -1, what is left.
    pub(super) fn shape_as(&mut self, dims: &[i64], shape: Vec<Dim>) {
        self.lay_channels_last();
        self.at.mask = None;
        // A 0 keeps the batch dimension.
        let dims = self.integers("shape", &[&[0], dims].concat());
        self.apply("Reshape", &[&dims], vec![]);
        self.at.shape = shape;
    }

    pub(super) fn activation(&mut self, activation: Activation) {
        match activation {
            Activation::Linear => {}
            Activation::Relu => self.apply("Relu", &[], vec![]),
            Activation::Sigmoid => self.apply("Sigmoid", &[], vec![]),
            Activation::Tanh => self.apply("Tanh", &[], vec![]),
            Activation::Softmax => {
                let axis = if self.at.channels_first { 1 } else { -1 };
                self.apply("Softmax", &[], vec![int("axis", axis)]);
            }
            Activation::Gelu { approximate } => {
                let how = if approximate { "tanh" } else { "none" };
                self.apply("Gelu", &[], vec![string("approximate", how)]);
            }
            Activation::Elu { alpha } => self.apply("Elu", &[], vec![float("alpha", alpha)]),
            Activation::Selu => {
                self.apply("Elu", &[], vec![float("alpha", 1.673_263_2)]);
                let scale = self.scalar("selu_scale", 1.050_701);
                self.apply("Mul", &[&scale], vec![]);
            }
            Activation::Softplus => self.apply("Softplus", &[], vec![]),
            Activation::LeakyRelu { negative_slope } => {
                self.apply("LeakyRelu", &[], vec![float("alpha", negative_slope)]);
            }
        }
    }
}

fn window(size: [usize; 2], strides: [usize; 2], padding: Padding) -> Window {
    let (size, strides, dilation) = (size.to_vec(), strides.to_vec(), vec![1; 2]);
    Window { size, strides, dilation, padding, causal: false }
}
