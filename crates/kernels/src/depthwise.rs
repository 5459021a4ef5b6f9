//! Convolutions of each channel by itself, over pictures whose pixels hold all channels side by side.
//!
//! Each number of a result starts with its bias and adds its products in the order of the window, every multiplication and
//! addition rounded once; what of the window lies beyond the picture takes no part.

use std::ops::Range;

use crate::lanes::{LANES, Lanes, lanes_fn};

/// A convolution of each channel by itself.
#[derive(Debug)]
pub struct Depthwise {
    /// Channels, a multiple of eight.
    pub channels: usize,
    /// Height and width of the window.
    pub window: [usize; 2],
    /// How far the window moves down and to the right.
    pub strides: [usize; 2],
    /// How far it begins above and left of the picture.
    pub before: [usize; 2],
    /// For each place of the window, a number for each channel.
    pub weights: Vec<f32>,
    /// A number for each channel.
    pub bias: Vec<f32>,
}

lanes_fn! {
    /// Writes to `out`, of this height and width, the convolution of `x`, of its own.
    ///
    /// # Panics
    /// When sizes disagree, or the channels are no multiple of eight.
    pub fn depthwise<L>(of: &Depthwise, x: &[f32], size: [usize; 2], out: &mut [f32], made: [usize; 2]) {
        let channels = of.channels;
        assert!(channels.is_multiple_of(LANES) && of.bias.len() == channels, "{channels} channels in eights");
        assert_eq!(of.weights.len(), of.window[0] * of.window[1] * channels, "weights of a window");
        assert!(x.len() == size[0] * size[1] * channels, "a picture of {size:?}");
        assert!(out.len() == made[0] * made[1] * channels, "a result of {made:?}");
        for y in 0..made[0] {
            let rows = there(y * of.strides[0], of.before[0], of.window[0], size[0]);
            let mut left = 0;
            while left < made[1] {
                let first = there(left * of.strides[1], of.before[1], of.window[1], size[1]);
                // As many pixels at once as see all of the window's width.
                let whole = |n: usize| {
                    let last = (left + n - 1) * of.strides[1];
                    left + n <= made[1] && first == (0..of.window[1]) && there(last, of.before[1], of.window[1], size[1]) == first
                };
                let at = Place { y, left, rows: rows.clone(), cols: first.clone() };
                left += if whole(8) {
                    at.pixels::<L, 8>(of, x, size[1], out, made[1]);
                    8
                } else if whole(4) {
                    at.pixels::<L, 4>(of, x, size[1], out, made[1]);
                    4
                } else {
                    at.pixels::<L, 1>(of, x, size[1], out, made[1]);
                    1
                };
            }
        }
    }
}

/// Which places of a window that begins at `start - before` lie within `size`.
fn there(start: usize, before: usize, window: usize, size: usize) -> Range<usize> {
    let end = (size + before).saturating_sub(start).min(window);
    before.saturating_sub(start).min(end)..end
}

/// Pixels of a result that see the same part of the window.
struct Place {
    y: usize,
    left: usize,
    rows: Range<usize>,
    cols: Range<usize>,
}

impl Place {
    /// Computes `N` pixels side by side.
    ///
    /// # Safety
    /// The CPU must have the lanes' instructions; these pixels, and what they see of the picture, must be there.
    #[inline(always)]
    unsafe fn pixels<L: Lanes, const N: usize>(
        &self,
        of: &Depthwise,
        x: &[f32],
        width: usize,
        out: &mut [f32],
        out_width: usize,
    ) {
        let channels = of.channels;
        for channel in (0..channels).step_by(LANES) {
            // SAFETY: eight channels of each array from `channel` on; the caller's promise.
            unsafe {
                let mut sums = [L::load(of.bias.as_ptr().add(channel)); N];
                for row in self.rows.clone() {
                    let y = self.y * of.strides[0] + row - of.before[0];
                    for col in self.cols.clone() {
                        let weight =
                            L::load(of.weights.as_ptr().add((row * of.window[1] + col) * channels + channel));
                        let first = self.left * of.strides[1] + col - of.before[1];
                        let from = x.as_ptr().add((y * width + first) * channels + channel);
                        for (n, sum) in sums.iter_mut().enumerate() {
                            *sum = L::load(from.add(n * of.strides[1] * channels)).fma(weight, *sum);
                        }
                    }
                }
                let to = out.as_mut_ptr().add((self.y * out_width + self.left) * channels + channel);
                for (n, sum) in sums.into_iter().enumerate() {
                    sum.store(to.add(n * channels));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::random::Random;

    fn numbers(len: usize, seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed);
        (0..len).map(|_| random.normal()).collect()
    }

    #[test]
    fn convolutions_are_close_to_exact_and_alike_on_every_isa() {
        for (size, window, strides, before) in [
            ([5, 30], [3, 3], [1, 1], [1, 1]),
            ([6, 25], [5, 5], [2, 1], [2, 2]),
            ([4, 9], [1, 3], [2, 2], [0, 0]),
            ([1, 1], [5, 5], [1, 1], [2, 2]),
        ] {
            let channels = 24;
            let of = Depthwise {
                channels,
                window,
                strides,
                before,
                weights: numbers(window[0] * window[1] * channels, 1),
                bias: numbers(channels, 2),
            };
            let x = numbers(size[0] * size[1] * channels, 3);
            let made = [0, 1].map(|i: usize| (size[i] + 2 * before[i] - window[i]) / strides[i] + 1);
            let run = |isa| {
                let mut out = vec![9.0; made[0] * made[1] * channels];
                depthwise(isa, &of, &x, size, &mut out, made);
                out
            };
            let expected = run(Isa::SCALAR);
            for (i, found) in expected.iter().enumerate() {
                let (channel, col, row) = (i % channels, i / channels % made[1], i / channels / made[1]);
                let mut exact = f64::from(of.bias[channel]);
                for place in 0..window[0] * window[1] {
                    let y = (row * strides[0] + place / window[1]).wrapping_sub(before[0]);
                    let across = (col * strides[1] + place % window[1]).wrapping_sub(before[1]);
                    if y < size[0] && across < size[1] {
                        let weight = f64::from(of.weights[place * channels + channel]);
                        exact += weight * f64::from(x[(y * size[1] + across) * channels + channel]);
                    }
                }
                assert!(
                    (f64::from(*found) - exact).abs() < 1e-5,
                    "{size:?} {window:?}: {found}, not {exact}"
                );
            }
            for isa in Isa::available() {
                assert_eq!(run(isa), expected, "{size:?} {window:?} on {isa:?}");
            }
        }
    }
}
