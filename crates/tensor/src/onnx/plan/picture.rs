//! Convolutions and pools over pictures. What they make lies with all channels of a pixel side by side, whatever the order
//! of its dimensions: so a convolution of one pixel is a product of rows, and one of each channel by itself goes along them.

use std::sync::Arc;

use kernels::{Depthwise, Isa, Panels, Rows, depthwise, product};

use super::step::Function;
use super::view::{Room, View, count};

/// Where a window is put.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    pub(super) size: [usize; 2],
    pub(super) strides: [usize; 2],
    /// How far it begins above and left of the picture, and may end below and right of it.
    pub(super) before: [usize; 2],
    pub(super) after: [usize; 2],
}

/// A convolution, and what is done to each number of it.
#[derive(Debug)]
pub(super) struct Convolution {
    pub(super) window: Window,
    pub(super) weights: Weights,
    pub(super) function: Option<Function>,
}

/// What a convolution multiplies with.
#[derive(Debug)]
pub(super) enum Weights {
    /// All channels of all places of the window, with a column and a bias for each channel of the result.
    All { channels: usize, panels: Panels, bias: Vec<f32> },
    /// Each channel by itself.
    Each(Depthwise),
}

impl Window {
    /// The height and width of what it makes of a picture; `None` if it does not fit in.
    fn made(&self, size: [usize; 2]) -> Option<[usize; 2]> {
        let along = |i: usize| {
            let room =
                size[i].checked_add(self.before[i])?.checked_add(self.after[i])?.checked_sub(self.size[i])?;
            Some(room.checked_div(self.strides[i])? + 1)
        };
        Some([along(0)?, along(1)?])
    }

    /// Whether each number is made of one pixel, and of each pixel one.
    fn is_pixel(&self) -> bool {
        *self == Window { size: [1, 1], strides: [1, 1], before: [0, 0], after: [0, 0] }
    }
}

/// `[pictures, channels, height, width]` of numbers that lie as `[pictures, height, width, channels]`.
fn view(pictures: usize, channels: usize, size: [usize; 2], data: Vec<f32>) -> View {
    let strides = vec![size[0] * size[1] * channels, 1, size[1] * channels, channels];
    View { shape: vec![pictures, channels, size[0], size[1]], strides, start: 0, data: Arc::new(data) }
}

/// The numbers of pictures, all channels of a pixel side by side.
fn side_by_side(x: &View, room: &mut Room) -> Option<View> {
    let turned = |of: &[usize]| [0, 2, 3, 1].iter().map(|&i| of.get(i).copied()).collect::<Option<Vec<_>>>();
    let turned = View { shape: turned(&x.shape)?, strides: turned(&x.strides)?, ..x.clone() };
    (x.shape.len() == 4).then(|| turned.packed(room)).flatten()
}

impl Convolution {
    pub(super) fn run(&self, isa: Isa, x: &View, room: &mut Room) -> Option<View> {
        let x = side_by_side(x, room)?;
        let &[pictures, height, width, channels] = &x.shape[..] else { return None };
        let size = [height, width];
        let made = self.window.made(size)?;
        let filters = match &self.weights {
            Weights::All { panels, .. } => panels.cols(),
            Weights::Each(each) => each.channels,
        };
        let pixels = made[0].checked_mul(made[1])?;
        let length = count(&[pictures, pixels, filters])?;
        let mut out = room.take(length)?;
        let result = &mut out[..length];
        let all = x.slice()?;
        match &self.weights {
            Weights::All { channels: wanted, .. } if *wanted != channels => return None,
            Weights::All { panels, bias, .. } if self.window.is_pixel() => {
                let rows = Rows { data: all, stride: channels };
                product(rows, pictures * pixels, panels, Some(bias), result, filters);
            }
            Weights::All { panels, bias, .. } => {
                let mut rows = room.take(made[1].checked_mul(panels.rows())?)?;
                let pictures = all.chunks_exact((height * width * channels).max(1));
                for (x, out) in pictures.zip(result.chunks_exact_mut((pixels * filters).max(1))) {
                    for (y, out) in out.chunks_exact_mut((made[1] * filters).max(1)).enumerate() {
                        self.windows(x, size, channels, y, &mut rows[..made[1] * panels.rows()]);
                        let rows = Rows { data: &rows, stride: panels.rows() };
                        product(rows, made[1], panels, Some(bias), out, filters);
                    }
                }
                room.give(Arc::new(rows));
            }
            Weights::Each(each) if each.channels != channels => return None,
            Weights::Each(each) => {
                let pictures = all.chunks_exact((height * width * channels).max(1));
                for (x, out) in pictures.zip(result.chunks_exact_mut((pixels * filters).max(1))) {
                    depthwise(isa, each, x, size, out, made);
                }
            }
        }
        if let Some(function) = self.function {
            function.apply(isa, result);
        }
        room.give(x.data);
        Some(view(pictures, filters, made, out))
    }

    /// Writes what the windows of row `y` of the result see, zeros beyond the picture.
    fn windows(&self, x: &[f32], size: [usize; 2], channels: usize, y: usize, rows: &mut [f32]) {
        let Window { size: [high, wide], strides, before, .. } = self.window;
        for (col, row) in rows.chunks_exact_mut((high * wide * channels).max(1)).enumerate() {
            for (place, cells) in row.chunks_exact_mut(channels.max(1)).enumerate() {
                let down = (y * strides[0] + place / wide).wrapping_sub(before[0]);
                let across = (col * strides[1] + place % wide).wrapping_sub(before[1]);
                if down < size[0] && across < size[1] {
                    cells.copy_from_slice(&x[(down * size[1] + across) * channels..][..channels]);
                } else {
                    cells.fill(0.0);
                }
            }
        }
    }
}

/// The greatest number that each window sees of each channel.
pub(super) fn greatest(window: &Window, x: &View, room: &mut Room) -> Option<View> {
    let x = side_by_side(x, room)?;
    let &[pictures, height, width, channels] = &x.shape[..] else { return None };
    let made = window.made([height, width])?;
    let length = count(&[pictures, made[0], made[1], channels])?;
    let mut out = room.take(length)?;
    let pixels = out[..length].chunks_exact_mut(channels.max(1));
    for (i, cells) in pixels.enumerate() {
        let (picture, y, col) = (i / (made[0] * made[1]), i / made[1] % made[0], i % made[1]);
        cells.fill(f32::NEG_INFINITY);
        for place in 0..window.size[0] * window.size[1] {
            let down = (y * window.strides[0] + place / window.size[1]).wrapping_sub(window.before[0]);
            let across = (col * window.strides[1] + place % window.size[1]).wrapping_sub(window.before[1]);
            if down < height && across < width {
                let seen = &x.slice()?[((picture * height + down) * width + across) * channels..];
                // Where one is no number, so is the greatest.
                cells
                    .iter_mut()
                    .zip(seen)
                    .for_each(|(to, x)| *to = if *x > *to || x.is_nan() { *x } else { *to });
            }
        }
    }
    room.give(x.data);
    Some(view(pictures, channels, made, out))
}

/// The mean of each channel of each picture.
pub(super) fn mean(x: &View, room: &mut Room) -> Option<View> {
    let x = side_by_side(x, room)?;
    let &[pictures, height, width, channels] = &x.shape[..] else { return None };
    let pixels = height.checked_mul(width).filter(|&n| n > 0 && channels > 0)?;
    let mut out = room.take(pictures.checked_mul(channels)?)?;
    for (sums, picture) in out.chunks_exact_mut(channels).zip(x.slice()?.chunks_exact(pixels * channels)) {
        sums.fill(0.0);
        for pixel in picture.chunks_exact(channels) {
            sums.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += x);
        }
        sums.iter_mut().for_each(|sum| *sum /= pixels as f32);
    }
    room.give(x.data);
    Some(view(pictures, channels, [1, 1], out))
}
