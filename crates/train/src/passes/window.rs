//! [`Windows`]: where windows that move over an image lie.

use std::ops::Range;

use formats::spec::Padding;

/// Windows over images of one size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Windows {
    /// Height and width of the images.
    pub(crate) image: [usize; 2],
    /// Height and width of a window.
    pub(crate) size: [usize; 2],
    strides: [usize; 2],
    /// How far the first one hangs over.
    before: [usize; 2],
    /// How many there are, down and across.
    pub(crate) made: [usize; 2],
}

/// What of a window lies in the image, along one axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// The first of the window's cells that does.
    pub(crate) skipped: usize,
    /// Where its cells are in the image.
    pub(crate) within: Range<usize>,
}

impl Windows {
    pub(crate) fn new(image: [usize; 2], size: [usize; 2], strides: [usize; 2], padding: Padding) -> Windows {
        let along = |axis: usize| {
            let (cells, window, stride) = (image[axis], size[axis], strides[axis]);
            match padding {
                Padding::Valid => (0, cells.saturating_sub(window) / stride + 1),
                // As TensorFlow does it: an odd cell comes after.
                Padding::Same => {
                    let made = cells.div_ceil(stride);
                    let total = (made.saturating_sub(1) * stride + window).saturating_sub(cells);
                    (total / 2, made)
                }
            }
        };
        let [(top, down), (left, across)] = [along(0), along(1)];
        Windows { image, size, strides, before: [top, left], made: [down, across] }
    }

    /// What lies in the image of window number `at` along `axis`.
    pub(crate) fn part(&self, axis: usize, at: usize) -> Part {
        let start = at * self.strides[axis];
        let end = (start + self.size[axis]).saturating_sub(self.before[axis]).min(self.image[axis]);
        let skipped = self.before[axis].saturating_sub(start);
        Part { skipped, within: (start + skipped - self.before[axis]).min(end)..end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_lie_as_keras_has_them() {
        let along = |cells, size, stride, padding| -> Vec<(usize, Range<usize>)> {
            let windows = Windows::new([cells, 1], [size, 1], [stride, 1], padding);
            let parts = (0..windows.made[0]).map(|at| windows.part(0, at));
            parts.map(|part| (part.skipped, part.within)).collect()
        };
        assert_eq!(along(5, 3, 2, Padding::Valid), [(0, 0..3), (0, 2..5)]);
        assert_eq!(along(6, 3, 2, Padding::Valid), [(0, 0..3), (0, 2..5)]);
        assert_eq!(along(5, 3, 2, Padding::Same), [(1, 0..2), (0, 1..4), (0, 3..5)]);
        assert_eq!(along(6, 3, 2, Padding::Same), [(0, 0..3), (0, 2..5), (0, 4..6)]);
        assert_eq!(along(2, 5, 1, Padding::Same), [(2, 0..2), (1, 0..2)]);
    }
}
