//! Rows of a batch, one at a time.

use super::RunError;
use super::failed;
use crate::{Data, DataType, Dim, Tensor, TensorSpec, Tensors};

/// What `run` gives for each of the `rows` of `inputs` by itself, put together.
pub(super) fn each(
    inputs: &[&Tensor],
    rows: usize,
    outputs: &[TensorSpec],
    mut run: impl FnMut(&[&Tensor]) -> Result<Tensors, RunError>,
) -> Result<Tensors, RunError> {
    let mut whole: Option<Tensors> = None;
    for row in 0..rows {
        let single = inputs.iter().map(|tensor| row_of(tensor, row)).collect::<Result<Vec<_>, RunError>>()?;
        let given = run(&single.iter().collect::<Vec<_>>())?;
        whole = Some(match whole {
            None => given,
            Some(whole) => append(whole, given)?,
        });
    }
    whole.map_or_else(|| none(outputs), Ok)
}

/// What no rows give: outputs of no rows.
pub(super) fn none(outputs: &[TensorSpec]) -> Result<Tensors, RunError> {
    let size = |dim: &Dim| match dim {
        Dim::Any => 0,
        Dim::Fixed(n) => *n,
    };
    let empty = |spec: &TensorSpec| {
        let shape = std::iter::once(0).chain(spec.shape.iter().skip(1).map(size)).collect();
        let data = match spec.data_type {
            DataType::F32 => Data::F32(Vec::new()),
            DataType::I32 => Data::I32(Vec::new()),
            DataType::Text => Data::Text(Vec::new()),
        };
        Ok((spec.name.clone(), Tensor::new(shape, data).map_err(failed)?))
    };
    outputs.iter().map(empty).collect()
}

/// Row `row` of a batch, as a batch of one.
fn row_of(tensor: &Tensor, row: usize) -> Result<Tensor, RunError> {
    let mut shape = tensor.shape().to_vec();
    if let Some(rows) = shape.first_mut() {
        *rows = 1;
    }
    let span = row * tensor.row_len()..(row + 1) * tensor.row_len();
    let data = match tensor.data() {
        Data::F32(v) => Data::F32(v.get(span).unwrap_or_default().to_vec()),
        Data::I32(v) => Data::I32(v.get(span).unwrap_or_default().to_vec()),
        Data::Text(v) => Data::Text(v.get(span).unwrap_or_default().to_vec()),
    };
    Tensor::new(shape, data).map_err(failed)
}

/// Puts the rows of `next` after those of `whole`.
fn append(whole: Tensors, next: Tensors) -> Result<Tensors, RunError> {
    whole
        .into_iter()
        .zip(next)
        .map(|((name, whole), (_, next))| {
            if whole.shape().get(1..) != next.shape().get(1..) {
                let reason = format!("output `{name}` has another shape from row to row");
                return Err(RunError::Failed { reason });
            }
            let rows = whole.rows() + next.rows();
            let (mut shape, mut data) = whole.into_parts();
            match (&mut data, next.into_parts().1) {
                (Data::F32(v), Data::F32(more)) => v.extend(more),
                (Data::I32(v), Data::I32(more)) => v.extend(more),
                _ => return Err(failed(format!("output `{name}` has another type from row to row"))),
            }
            if let Some(first) = shape.first_mut() {
                *first = rows;
            }
            Ok((name, Tensor::new(shape, data).map_err(failed)?))
        })
        .collect()
}
