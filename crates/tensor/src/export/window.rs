//! [`over`]: where a window stands as it moves over steps or an image.

use formats::keras::Window;
use formats::spec::Padding;
use rten_onnx::onnx::AttributeProto;

use super::writer::{ints, shown, string};
use crate::Dim;

/// The dimensions of the result of `window` over `extent`, and the attributes of the ONNX operator.
pub(super) fn over(window: &Window, extent: &[Dim]) -> Result<(Vec<Dim>, Vec<AttributeProto>), String> {
    let (mut out, mut before, mut after) = (Vec::new(), Vec::new(), Vec::new());
    // Whether the operator itself has to see how long a dimension is.
    let mut open = false;
    for (axis, &dim) in extent.iter().enumerate() {
        let (size, stride) = (number(&window.size, axis)?, number(&window.strides, axis)?);
        let size = size.saturating_sub(1).saturating_mul(number(&window.dilation, axis)?).saturating_add(1);
        let overhang = |length: usize| {
            let covered =
                length.div_ceil(stride).saturating_sub(1).saturating_mul(stride).saturating_add(size);
            covered.saturating_sub(length)
        };
        let halves = |overhang: usize| [overhang / 2, overhang - overhang / 2];
        let (cells, pads) = match (window.padding, dim) {
            (Padding::Valid, Dim::Fixed(length)) if window.causal => {
                (Dim::Fixed(length.div_ceil(stride)), [size - 1, 0])
            }
            (Padding::Valid, Dim::Fixed(length)) if length < size => {
                return Err(format!("a window of {:?} does not fit into {}", window.size, shown(extent)));
            }
            (Padding::Valid, Dim::Fixed(length)) => (Dim::Fixed((length - size) / stride + 1), [0, 0]),
            (Padding::Valid, Dim::Any) => (Dim::Any, [if window.causal { size - 1 } else { 0 }, 0]),
            (Padding::Same, Dim::Fixed(length)) => {
                (Dim::Fixed(length.div_ceil(stride)), halves(overhang(length)))
            }
            (Padding::Same, Dim::Any) => {
                open |= stride > 1;
                (Dim::Any, halves(size - 1))
            }
        };
        out.push(cells);
        before.push(pads[0] as i64);
        after.push(pads[1] as i64);
    }
    let whole = |list: &[usize]| list.iter().map(|n| *n as i64).collect::<Vec<_>>();
    let mut attributes =
        vec![ints("kernel_shape", whole(&window.size)), ints("strides", whole(&window.strides))];
    attributes.push(match open {
        true => string("auto_pad", "SAME_UPPER"),
        false => ints("pads", [before, after].concat()),
    });
    if window.dilation.iter().any(|d| *d != 1) {
        attributes.push(ints("dilations", whole(&window.dilation)));
    }
    Ok((out, attributes))
}

/// The number for `axis`, which must be positive.
pub(super) fn number(list: &[usize], axis: usize) -> Result<usize, String> {
    match list.get(axis) {
        Some(n) if *n > 0 => Ok(*n),
        _ => Err(format!("{list:?} must be positive, one for each dimension")),
    }
}
