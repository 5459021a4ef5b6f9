//! Keras' convolutions: kernels turned as ONNX wants them.

use formats::keras::{Array, Layer, Window};
use formats::spec::Padding;

use super::super::window::number;
use super::super::writer::{Step, Writer, int, ints, length, row_elements};
use super::{misshapen, values};
use crate::Dim;

impl Writer {
    pub(super) fn any_convolution(&mut self, layer: &Layer) -> Step {
        match layer {
            Layer::Conv { kernel, bias, window, groups, activation } => {
                self.conv(kernel, bias.as_ref(), window, *groups)?;
                self.function(*activation);
            }
            Layer::ConvTranspose { kernel, bias, window, activation } => {
                self.conv_transpose(kernel, bias.as_ref(), window)?;
                self.function(*activation);
            }
            Layer::DepthwiseConv { kernel, bias, window, activation } => {
                self.depthwise(kernel, bias.as_ref(), window)?;
                self.function(*activation);
            }
            Layer::SeparableConv { depthwise, pointwise, bias, window, activation } => {
                self.depthwise(depthwise, None, window)?;
                let ones = vec![1; window.size.len()];
                let cell = Window {
                    size: ones.clone(),
                    strides: ones.clone(),
                    dilation: ones,
                    padding: Padding::Valid,
                    causal: false,
                };
                self.conv(pointwise, bias.as_ref(), &cell, 1)?;
                self.function(*activation);
            }
            _ => return Err("is no convolution".to_owned()),
        }
        Ok(())
    }

    fn conv(&mut self, kernel: &Array, bias: Option<&Array>, window: &Window, groups: usize) -> Step {
        let (_, channels) = self.extent(window.size.len())?;
        let [.., own, filters] = kernel.shape.as_slice() else { return Err(misshapen("kernel", kernel)) };
        if own.checked_mul(groups) != Some(channels) || !filters.is_multiple_of(groups) {
            let shape = &kernel.shape;
            return Err(format!(
                "its kernel of shape {shape:?} does not take {channels} channels in {groups} groups"
            ));
        }
        let rank = window.size.len();
        let order: Vec<usize> = [rank + 1, rank].into_iter().chain(0..rank).collect();
        let turned = turned(kernel, &order)?;
        let attributes = if groups == 1 { vec![] } else { vec![int("group", groups as i64)] };
        self.convolution("Conv", &turned.shape, &turned.values, values(bias), window, attributes)
    }

    fn depthwise(&mut self, kernel: &Array, bias: Option<&Array>, window: &Window) -> Step {
        let rank = window.size.len();
        let (_, channels) = self.extent(rank)?;
        let [.., own, each] = kernel.shape.as_slice() else { return Err(misshapen("kernel", kernel)) };
        let filters = own.checked_mul(*each).filter(|_| *own == channels);
        let filters = filters.ok_or_else(|| {
            format!("its kernel of shape {:?} does not take {channels} channels", kernel.shape)
        })?;
        let order: Vec<usize> = [rank, rank + 1].into_iter().chain(0..rank).collect();
        let turned = turned(kernel, &order)?;
        let dims = [&[filters, 1], window.size.as_slice()].concat();
        let attributes = vec![int("group", channels as i64)];
        self.convolution("Conv", &dims, &turned.values, values(bias), window, attributes)
    }

    /// Every cell spreads over a window; where windows overlap, they add up.
    fn conv_transpose(&mut self, kernel: &Array, bias: Option<&Array>, window: &Window) -> Step {
        let rank = window.size.len();
        let (extent, channels) = self.extent(rank)?;
        let [.., filters, own] = kernel.shape.as_slice() else { return Err(misshapen("kernel", kernel)) };
        if *own != channels || window.dilation.iter().any(|d| *d != 1) || window.causal {
            let shape = &kernel.shape;
            return Err(format!(
                "its kernel of shape {shape:?}, dilated or not, does not take {channels} channels"
            ));
        }
        let (mut out, mut before, mut after, mut beyond) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (axis, dim) in extent.iter().enumerate() {
            let (size, stride) = (number(&window.size, axis)?, number(&window.strides, axis)?);
            let overhang = size.saturating_sub(stride);
            let cut = if window.padding == Padding::Same { overhang } else { 0 };
            let covered = |length: usize| length.checked_mul(stride)?.checked_add(overhang - cut);
            out.push(match length(*dim) {
                Some(length) => Dim::Fixed(covered(length).ok_or("is too large")?),
                None => Dim::Any,
            });
            before.push((cut / 2) as i64);
            after.push((cut - cut / 2) as i64);
            beyond.push(stride.saturating_sub(size) as i64);
        }
        let order: Vec<usize> = [rank + 1, rank].into_iter().chain(0..rank).collect();
        let turned = turned(kernel, &order)?;
        self.lay_channels_first();
        self.at.shape = [out, vec![Dim::Fixed(*filters)]].concat();
        row_elements(&self.at.shape)?;
        let whole = |list: &[usize]| list.iter().map(|n| *n as i64).collect::<Vec<_>>();
        let mut attributes = vec![
            ints("kernel_shape", whole(&window.size)),
            ints("strides", whole(&window.strides)),
            ints("pads", [before, after].concat()),
        ];
        if beyond.iter().any(|cells| *cells != 0) {
            attributes.push(ints("output_padding", beyond));
        }
        let kernel = self.weights("kernel", &turned.shape, &turned.values)?;
        let bias = bias.map(|bias| self.weights("bias", &[*filters], &bias.values)).transpose()?;
        let mut operands = vec![kernel.as_str()];
        operands.extend(bias.as_deref());
        self.apply("ConvTranspose", &operands, attributes);
        Ok(())
    }
}

/// `array` with its dimensions in another order: the first of the result is number `order[0]`.
fn turned(array: &Array, order: &[usize]) -> Result<Array, String> {
    let wrong = || misshapen("kernel", array);
    let shape = order.iter().map(|axis| array.shape.get(*axis).copied()).collect::<Option<Vec<_>>>();
    let shape = shape.filter(|_| order.len() == array.shape.len()).ok_or_else(wrong)?;
    let stride = |axis: usize| array.shape[axis + 1..].iter().product::<usize>();
    let strides: Vec<usize> = order.iter().map(|axis| stride(*axis)).collect();
    let mut values = Vec::with_capacity(array.values.len());
    let mut index = vec![0usize; shape.len()];
    for _ in 0..array.values.len() {
        let at: usize = index.iter().zip(&strides).map(|(i, stride)| i * stride).sum();
        values.push(*array.values.get(at).ok_or_else(wrong)?);
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    Ok(Array { shape, values })
}
