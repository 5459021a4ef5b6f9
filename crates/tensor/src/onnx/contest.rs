//! [`wins`]: which of two runtimes computes a graph faster on this machine.

use std::time::{Duration, Instant};

use super::RunError;
use super::foreign::Foreign;
use super::network::Network;
use crate::{Data, DataType, Dim, Signature, Tensor, TensorSpec, Tensors};

/// How long one runtime is measured, once it has run.
const MEASURED: Duration = Duration::from_millis(300);
/// Runs measured at most.
const RUNS_MAX: usize = 10;
/// Rows that the built-in runtime computes together, as it does when several ask.
const ROWS: usize = 8;
/// What a dimension that requests choose is measured at.
const SIZE: usize = 64;
/// How many times faster the library must be, so that the two do not take turns by chance.
const MARGIN: f64 = 1.05;

/// Whether `foreign` answers a row so much faster than `own` that it should.
pub(super) fn wins(foreign: &Foreign, own: &Network) -> bool {
    let rows = if own.is_batched() { ROWS } else { 1 };
    let theirs = fastest(|inputs| foreign.run(inputs), foreign.signature(), 1);
    let ours = fastest(|inputs| own.run(inputs), own.signature(), rows);
    match (theirs, ours) {
        (Ok(theirs), Ok(ours)) => theirs.as_secs_f64() * MARGIN < ours.as_secs_f64() / rows as f64,
        (Ok(_), Err(_)) => true,
        (Err(_), _) => false,
    }
}

fn fastest(
    run: impl Fn(&Tensors) -> Result<Tensors, RunError>,
    signature: &Signature,
    rows: usize,
) -> Result<Duration, RunError> {
    let inputs = blank(&signature.inputs, rows)?;
    run(&inputs)?;
    let since = Instant::now();
    let mut least = Duration::MAX;
    for _ in 0..RUNS_MAX {
        let began = Instant::now();
        run(&inputs)?;
        least = least.min(began.elapsed());
        if since.elapsed() > MEASURED {
            break;
        }
    }
    Ok(least)
}

/// Inputs of zeros.
pub(super) fn blank<'a>(
    inputs: impl IntoIterator<Item = &'a TensorSpec>,
    rows: usize,
) -> Result<Tensors, RunError> {
    let one = |spec: &TensorSpec| {
        let size = |(place, dim): (usize, &Dim)| match dim {
            Dim::Fixed(n) => *n,
            Dim::Any if place == 0 => rows,
            Dim::Any => SIZE,
        };
        let shape: Vec<usize> = spec.shape.iter().enumerate().map(size).collect();
        let count = shape.iter().product();
        let data = match spec.data_type {
            DataType::F32 => Data::F32(vec![0.0; count]),
            DataType::I32 => Data::I32(vec![0; count]),
            DataType::Text => Data::Text(vec![String::new(); count]),
        };
        Ok((spec.name.clone(), Tensor::new(shape, data).map_err(super::failed)?))
    };
    inputs.into_iter().map(one).collect()
}
