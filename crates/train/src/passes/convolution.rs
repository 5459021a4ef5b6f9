//! Two-dimensional convolutions: what each window sees as a row of a matrix, some lines of windows at a time.

use std::ops::Range;

use kernels::OutOfMemory;

use super::dense;
use super::window::Windows;
use crate::products::Products;
use crate::values::Values;

/// Numbers that windows see which are computed together: they stay in the second cache.
const SEEN: usize = 1 << 16;

/// A convolution of images of one size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Convolution {
    pub(crate) windows: Windows,
    pub(crate) channels: usize,
    pub(crate) filters: usize,
}

impl Convolution {
    /// What a window sees: `[height, width, channels]`.
    fn seen(&self) -> usize {
        self.windows.size[0] * self.windows.size[1] * self.channels
    }

    /// Lines of windows, one image's after another's, as many as are computed together.
    fn lines(&self, images: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let [down, across] = self.windows.made;
        let all = images * down;
        let together = (SEEN / (across * self.seen()).max(1)).max(1);
        (0..all).step_by(together).map(move |first| first..(first + together).min(all))
    }

    /// The sums of `x` by a kernel of `[height, width, channels, filters]`.
    pub(crate) fn forward(
        &self,
        x: &Values,
        kernel: &[f32],
        bias: Option<&[f32]>,
        products: &mut Products,
    ) -> Result<Values, OutOfMemory> {
        let [down, across] = self.windows.made;
        let mut sums = vec![0.0; x.rows * down * across * self.filters];
        let mut seen = Vec::new();
        for lines in self.lines(x.rows) {
            self.gather(&x.data, lines.clone(), &mut seen);
            let sums = &mut sums[self.of_lines(&lines)];
            products.plain(&seen, kernel, bias, sums, [across * lines.len(), self.seen(), self.filters])?;
        }
        Ok(x.with(vec![down, across, self.filters], sums))
    }

    /// Adds the gradient by the kernel.
    pub(crate) fn by_kernel(
        &self,
        x: &Values,
        gradient: &[f32],
        kernel: &mut [f32],
        products: &mut Products,
    ) -> Result<(), OutOfMemory> {
        let (mut seen, mut part) = (Vec::new(), vec![0.0; kernel.len()]);
        for lines in self.lines(x.rows) {
            self.gather(&x.data, lines.clone(), &mut seen);
            let of = &gradient[self.of_lines(&lines)];
            dense::by_kernel(&seen, of, &mut part, [self.seen(), self.filters], products)?;
            kernel.iter_mut().zip(&part).for_each(|(sum, part)| *sum += part);
        }
        Ok(())
    }

    /// The gradient by the input.
    pub(crate) fn by_input(
        &self,
        x: &Values,
        gradient: &[f32],
        kernel: &[f32],
        products: &mut Products,
    ) -> Result<Vec<f32>, OutOfMemory> {
        let mut by_input = vec![0.0; x.data.len()];
        for lines in self.lines(x.rows) {
            let of = &gradient[self.of_lines(&lines)];
            let seen = dense::by_input(of, kernel, [self.seen(), self.filters], products)?;
            self.scatter(&seen, lines, &mut by_input);
        }
        Ok(by_input)
    }

    /// Where the numbers of `lines` are in what it gives.
    fn of_lines(&self, lines: &Range<usize>) -> Range<usize> {
        let line = self.windows.made[1] * self.filters;
        lines.start * line..lines.end * line
    }

    /// What the windows of `lines` see of `x`, zeros beyond its edges.
    fn gather(&self, x: &[f32], lines: Range<usize>, seen: &mut Vec<f32>) {
        seen.clear();
        seen.resize(lines.len() * self.windows.made[1] * self.seen(), 0.0);
        self.each_stretch(lines, |at, within| seen[at].copy_from_slice(&x[within]));
    }

    /// Adds to `x` what its numbers have of what the windows of `lines` see.
    fn scatter(&self, seen: &[f32], lines: Range<usize>, x: &mut [f32]) {
        self.each_stretch(lines, |at, within| {
            x[within].iter_mut().zip(&seen[at]).for_each(|(x, seen)| *x += seen);
        });
    }

    /// Says of every stretch of numbers that a window of `lines` sees side by side where it is in what they see, and where
    /// in the images.
    fn each_stretch(&self, lines: Range<usize>, mut hear: impl FnMut(Range<usize>, Range<usize>)) {
        let Windows { image: [height, width], size: [_, wide], made: [down, across], .. } = self.windows;
        let columns: Vec<_> = (0..across).map(|at| self.windows.part(1, at)).collect();
        for (number, line) in lines.enumerate() {
            let (image, part) = (line / down, self.windows.part(0, line % down));
            for (at, column) in columns.iter().enumerate() {
                let window = (number * across + at) * self.seen();
                for (cell, y) in (part.skipped..).zip(part.within.clone()) {
                    let first = window + (cell * wide + column.skipped) * self.channels;
                    let pixel = (image * height + y) * width + column.within.start;
                    let (from, count) = (pixel * self.channels, column.within.len() * self.channels);
                    hear(first..first + count, from..from + count);
                }
            }
        }
    }
}
