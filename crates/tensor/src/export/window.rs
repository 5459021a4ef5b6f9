//! [`over`]: where a window stands as it moves over steps or an image.

use formats::keras::Window;
use formats::spec::Padding;
use rten_onnx::onnx::AttributeProto;

use super::writer::ints;

/// The dimensions of the result of `window` over `extent`, and the attributes of the ONNX operator.
pub(super) fn over(window: &Window, extent: &[usize]) -> Result<(Vec<usize>, Vec<AttributeProto>), String> {
    let (mut out, mut before, mut after) = (Vec::new(), Vec::new(), Vec::new());
    for (axis, &length) in extent.iter().enumerate() {
        let (size, stride) = (number(&window.size, axis)?, number(&window.strides, axis)?);
        let size = size.saturating_sub(1).saturating_mul(number(&window.dilation, axis)?).saturating_add(1);
        let (cells, pads) = match window.padding {
            Padding::Valid if window.causal => (length.div_ceil(stride), [size - 1, 0]),
            Padding::Valid if length < size => {
                return Err(format!("a window of {:?} does not fit into {extent:?}", window.size));
            }
            Padding::Valid => ((length - size) / stride + 1, [0, 0]),
            Padding::Same => {
                let cells = length.div_ceil(stride);
                let covered = cells.saturating_sub(1).saturating_mul(stride).saturating_add(size);
                let overhang = covered.saturating_sub(length);
                (cells, [overhang / 2, overhang - overhang / 2])
            }
        };
        out.push(cells);
        before.push(pads[0] as i64);
        after.push(pads[1] as i64);
    }
    let whole = |list: &[usize]| list.iter().map(|n| *n as i64).collect::<Vec<_>>();
    let mut attributes = vec![
        ints("kernel_shape", whole(&window.size)),
        ints("strides", whole(&window.strides)),
        ints("pads", [before, after].concat()),
    ];
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
