//! `x · kernel + bias` over the last axis.

use kernels::OutOfMemory;

use crate::products::Products;
use crate::values::Values;

/// The sums, `units` for each stretch of `x`.
pub(crate) fn forward(
    x: &Values,
    kernel: &[f32],
    bias: Option<&[f32]>,
    units: usize,
    products: &mut Products,
) -> Result<Values, OutOfMemory> {
    let (count, inputs) = (x.data.len() / x.last(), x.last());
    let mut sums = vec![0.0; count * units];
    products.plain(&x.data, kernel, bias, &mut sums, [count, inputs, units])?;
    let outer = x.shape.split_last().map_or(&[][..], |(_, outer)| outer);
    Ok(x.with([outer, &[units]].concat(), sums))
}

/// The gradient by the kernel: `xᵀ · gradient`.
pub(crate) fn by_kernel(
    x: &[f32],
    gradient: &[f32],
    kernel: &mut [f32],
    [inputs, units]: [usize; 2],
    products: &mut Products,
) -> Result<(), OutOfMemory> {
    products.of_turned(x, gradient, kernel, [inputs, gradient.len() / units.max(1), units])
}

/// Adds the gradient by the bias: the sum of all stretches.
pub(crate) fn by_bias(gradient: &[f32], bias: &mut [f32]) {
    for stretch in gradient.chunks_exact(bias.len().max(1)) {
        bias.iter_mut().zip(stretch).for_each(|(sum, g)| *sum += g);
    }
}

/// The gradient by the input: `gradient · kernelᵀ`.
pub(crate) fn by_input(
    gradient: &[f32],
    kernel: &[f32],
    [inputs, units]: [usize; 2],
    products: &mut Products,
) -> Result<Vec<f32>, OutOfMemory> {
    let count = gradient.len() / units.max(1);
    let mut by_input = vec![0.0; count * inputs];
    products.by_turned(gradient, kernel, &mut by_input, [count, units, inputs])?;
    Ok(by_input)
}
