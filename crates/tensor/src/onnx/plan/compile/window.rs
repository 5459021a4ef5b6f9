//! [`window`]: the window that a convolution or a pool moves over pictures.

use rten_onnx::onnx::NodeProto;

use super::attribute::attribute;
use crate::onnx::plan::picture::Window;

/// The greatest height and width of a window that steps compute.
const WINDOW_MAX: usize = 256;

/// The window of a convolution or pool over pictures, if it is one that steps know.
pub(super) fn window(node: &NodeProto, of_weights: Option<[usize; 2]>) -> Option<Window> {
    let list = |name: &str| match attribute(node, name) {
        Some(held) => held.ints.iter().map(|&n| usize::try_from(n).ok()).collect::<Option<Vec<_>>>(),
        None => Some(vec![]),
    };
    let pair = |name: &str| match list(name)?[..] {
        [] => Some([1, 1]),
        [a, b] => Some([a, b]),
        _ => None,
    };
    let automatic = attribute(node, "auto_pad").is_some_and(|a| !matches!(a.s.as_deref(), Some("NOTSET")));
    let size = match of_weights {
        Some(size) => size,
        None => attribute(node, "kernel_shape").and_then(|_| pair("kernel_shape"))?,
    };
    let pads = match list("pads")?[..] {
        [] => [0; 4],
        [top, left, bottom, right] => [top, left, bottom, right],
        _ => return None,
    };
    let strides = pair("strides")?;
    let plain = !automatic && pair("dilations")? == [1, 1] && !strides.contains(&0) && !size.contains(&0);
    // A window that lies beyond the picture altogether is for the general runtime.
    let small = size.iter().all(|&n| n <= WINDOW_MAX);
    let near = small && pads[0] < size[0] && pads[2] < size[0] && pads[1] < size[1] && pads[3] < size[1];
    let [top, left, bottom, right] = pads;
    (plain && near).then_some(Window { size, strides, before: [top, left], after: [bottom, right] })
}
