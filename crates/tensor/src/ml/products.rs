//! ONNX's own products of matrices.

use super::attributes::Attributes;
use super::layout::{combined, walk};
use super::value::{Value, elements};
use super::{Fault, Inputs, Run};

/// A product of two matrices: `rows` by `middle` and `middle` by `columns`.
fn product(a: &[f64], b: &[f64], [rows, middle, columns]: [usize; 3]) -> Vec<f64> {
    let mut all = vec![0.0; rows * columns];
    if columns == 0 || middle == 0 {
        return all;
    }
    for (row, out) in a.chunks_exact(middle).zip(all.chunks_exact_mut(columns)) {
        for (x, line) in row.iter().zip(b.chunks_exact(columns)) {
            out.iter_mut().zip(line).for_each(|(out, y)| *out += x * y);
        }
    }
    all
}

pub(super) fn mat_mul(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(Box::new(|inputs: &Inputs<'_>| {
        let (a, b) = (inputs.get(0)?, inputs.get(1)?);
        let [middle, columns] = b.shape[..] else {
            return Err(Fault::new(format!(
                "its second operand has shape {:?}, not two dimensions",
                b.shape
            )));
        };
        let Some((&width, before)) = a.shape.split_last() else {
            return Err(Fault::new("its first operand is a single number"));
        };
        if width != middle {
            return Err(Fault::new(format!("shapes {:?} and {:?} do not go together", a.shape, b.shape)));
        }
        let mut shape = before.to_vec();
        shape.push(columns);
        elements(&shape)?;
        let all = product(&a.floats()?, &b.floats()?, [before.iter().product(), middle, columns]);
        Ok(vec![Value::new(shape, a.array.alike(all))?])
    }))
}

pub(super) fn gemm(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let alpha = f64::from(attributes.float("alpha")?.unwrap_or(1.0));
    let beta = f64::from(attributes.float("beta")?.unwrap_or(1.0));
    let (turn_a, turn_b) = (attributes.flag("transA", false)?, attributes.flag("transB", false)?);
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let matrix = |at, turned: bool| -> Result<([usize; 2], Vec<f64>), Fault> {
            let value = inputs.get(at)?;
            let [rows, columns] = value.shape[..] else {
                return Err(Fault::new(format!(
                    "an operand has shape {:?}, not two dimensions",
                    value.shape
                )));
            };
            let numbers = value.floats()?;
            if !turned {
                return Ok(([rows, columns], numbers));
            }
            let places = walk(&[columns, rows], &[1, columns]);
            Ok(([columns, rows], places.iter().filter_map(|&i| numbers.get(i).copied()).collect()))
        };
        let (([rows, middle], a), ([other, columns], b)) = (matrix(0, turn_a)?, matrix(1, turn_b)?);
        if middle != other {
            return Err(Fault::new(format!(
                "matrices of {middle} columns and {other} rows do not go together"
            )));
        }
        let shape = vec![rows, columns];
        elements(&shape)?;
        let mut all = product(&a, &b, [rows, middle, columns]);
        all.iter_mut().for_each(|x| *x *= alpha);
        if let Some(sum) = inputs.maybe(2) {
            let added = sum.floats()?;
            let (together, sums) = combined((&all, &shape), (&added, &sum.shape), |x, y| x + beta * y)?;
            if together != shape {
                return Err(Fault::new(format!("shape {:?} cannot be added to {shape:?}", sum.shape)));
            }
            all = sums;
        }
        Ok(vec![Value::new(shape, inputs.get(0)?.array.alike(all))?])
    }))
}
