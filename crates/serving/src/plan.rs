//! [`Plan`]: how many instances a model takes at a time, read from its signature.

use tensor::{Data, DataType, Dim, ShapeError, Signature, Sizes, Tensor, TensorSpec, Tensors};

use crate::error::PredictError;
use crate::rows::{byte_count, join, row_count, slice};
use crate::runtime::{Runtime, RuntimeError};

/// Elements of one input that go into one run, so that activations of large inputs stay bounded.
const RUN_BYTES_MAX: usize = 16 << 20;
/// Bytes of the largest value that a run holds, where that is known.
const RUN_HELD_BYTES_MAX: usize = 128 << 20;
/// Rows that go into one run.
const RUN_ROWS_MAX: usize = 4096;

/// How rows become runs of a model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) inputs: Vec<Input>,
    mode: Mode,
    /// What the model holds while it runs, as far as that is known.
    sizes: Sizes,
}

/// One input as a row of it looks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) data_type: DataType,
    /// The shape of one row.
    pub(crate) row: Vec<Dim>,
    /// Whether the model's own first dimension counts rows.
    leading: bool,
    /// Whether values may be missing: these arrive as what is no number.
    pub(crate) missing: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Any number of rows.
    Rows,
    /// Exactly this many; a smaller rest is filled up.
    Blocks(usize),
    /// One instance, in inputs some of which have no dimension for rows.
    Single,
}

impl Plan {
    pub(crate) fn new(signature: &Signature) -> Self {
        let inputs: Vec<Input> = signature
            .inputs
            .iter()
            .map(|spec| {
                // A lone fixed dimension is the instance itself; otherwise the first one counts rows.
                let leading = match spec.shape.as_slice() {
                    [] => false,
                    [Dim::Fixed(n)] => *n == 1,
                    _ => true,
                };
                let row = spec.shape[usize::from(leading)..].to_vec();
                Input { name: spec.name.clone(), data_type: spec.data_type, row, leading, missing: false }
            })
            .collect();
        let fixed = signature.inputs.iter().filter_map(|spec| match spec.shape.first() {
            Some(Dim::Fixed(n)) => Some(*n),
            _ => None,
        });
        let mode = if inputs.iter().all(|i| i.leading) {
            fixed.max().map_or(Mode::Rows, |n| Mode::Blocks(n.max(1)))
        } else {
            Mode::Single
        };
        Plan { inputs, mode, sizes: Sizes::default() }
    }

    /// Lets values be missing in the inputs of which `may` says so.
    pub(crate) fn with_missing(mut self, may: impl Fn(&str) -> bool) -> Self {
        for input in &mut self.inputs {
            input.missing = input.data_type == DataType::F32 && may(&input.name);
        }
        self
    }

    /// For a model that is known to hold values of these sizes.
    pub(crate) fn holding(self, sizes: Sizes) -> Self {
        Plan { sizes, ..self }
    }

    /// `rows`, unless the model would hold too much for one of them.
    pub(crate) fn within(&self, rows: Tensors) -> Result<Tensors, PredictError> {
        let (length, max) = (self.length(&rows), self.sizes.length_max());
        match length <= max {
            true => Ok(rows),
            false => Err(PredictError::BadRequest {
                message: format!("a row is {length} long; this model takes {max} at most: send it in parts"),
            }),
        }
    }

    /// How long the longest dimension of any length is.
    fn length(&self, rows: &Tensors) -> usize {
        let inputs = self.inputs.iter().zip(rows);
        let lengths = inputs.flat_map(|(input, (_, tensor))| tensor.shape().iter().skip(1).zip(&input.row));
        lengths.filter(|(_, dim)| **dim == Dim::Any).map(|(length, _)| *length).max().unwrap_or(0)
    }

    /// What callers may give and are given: the model's own signature, with any number of rows where it counts rows.
    pub(crate) fn ports(&self, signature: &Signature) -> Signature {
        let open = |spec: &TensorSpec| {
            let mut spec = spec.clone();
            if let Some(first) = spec.shape.first_mut() {
                *first = Dim::Any;
            }
            spec
        };
        let inputs = signature.inputs.iter().zip(&self.inputs);
        let inputs = inputs.map(|(spec, input)| if input.leading { open(spec) } else { spec.clone() });
        let outputs = signature.outputs.iter();
        let outputs = outputs.map(|spec| if self.mode == Mode::Single { spec.clone() } else { open(spec) });
        Signature { inputs: inputs.collect(), outputs: outputs.collect() }
    }

    /// Tensors of the shapes that [`Plan::ports`] says as rows: what has no dimension for these is one.
    pub(crate) fn rows(&self, tensors: Tensors) -> Result<Tensors, PredictError> {
        let misfit = |message| PredictError::BadRequest { message };
        let rows = tensors.into_iter().zip(&self.inputs).map(|((name, tensor), input)| {
            if input.leading {
                return Ok((name, tensor));
            }
            let (mut shape, data) = tensor.into_parts();
            shape.insert(0, 1);
            let tensor = Tensor::new(shape, data).map_err(|e| misfit(format!("input `{name}`: {e}")))?;
            Ok((name, tensor))
        });
        let rows: Tensors = rows.collect::<Result<_, PredictError>>()?;
        match rows.iter().find(|(_, tensor)| self.mode == Mode::Single && tensor.rows() != 1) {
            Some((name, tensor)) => Err(misfit(format!(
                "input `{name}` has {} rows; this model takes one at a time",
                tensor.rows()
            ))),
            None => Ok(rows),
        }
    }

    /// What [`Plan::run`] gives for such rows, in the shapes that [`Plan::ports`] says.
    pub(crate) fn unrowed(&self, ports: &[TensorSpec], outputs: Tensors) -> Result<Tensors, ShapeError> {
        if self.mode != Mode::Single {
            return Ok(outputs);
        }
        let own = outputs.into_iter().map(|(name, tensor)| {
            let declared = ports.iter().find(|spec| spec.name == name).map(|spec| spec.shape.len());
            let (mut shape, data) = tensor.into_parts();
            if declared.is_some_and(|rank| rank + 1 == shape.len()) && shape.first() == Some(&1) {
                shape.remove(0);
            }
            Ok((name, Tensor::new(shape, data)?))
        });
        own.collect()
    }

    /// Predicts all rows of `inputs`, in as many runs as it takes. Every output has as many rows.
    pub(crate) fn run(&self, runtime: &dyn Runtime, inputs: &Tensors) -> Result<Tensors, RuntimeError> {
        let rows = row_count(inputs);
        let step = match self.mode {
            Mode::Rows => {
                let held = self.sizes.elements(self.length(inputs)).saturating_mul(4);
                rows_per_run(inputs, rows).min(RUN_HELD_BYTES_MAX / held.max(1)).max(1)
            }
            Mode::Blocks(n) => n,
            Mode::Single => 1,
        };
        if self.mode == Mode::Rows && step >= rows {
            return runtime.predict(inputs);
        }
        let mut parts = Vec::with_capacity(rows.div_ceil(step));
        for start in (0..rows).step_by(step) {
            let part = slice(inputs, start..start + step).map_err(mismatch)?;
            parts.push(match self.mode {
                Mode::Rows => runtime.predict(&part)?,
                Mode::Blocks(n) => run_block(runtime, part, n)?,
                Mode::Single => self.run_single(runtime, part)?,
            });
        }
        join(&parts.iter().collect::<Vec<_>>()).map_err(mismatch)
    }

    fn run_single(&self, runtime: &dyn Runtime, row: Tensors) -> Result<Tensors, RuntimeError> {
        let own = row.into_iter().zip(&self.inputs).map(|((name, tensor), input)| {
            let (mut shape, data) = tensor.into_parts();
            if !input.leading {
                shape.remove(0);
            }
            Ok((name, Tensor::new(shape, data).map_err(mismatch)?))
        });
        let outputs = runtime.predict(&own.collect::<Result<Tensors, _>>()?)?;
        let mixed = self.inputs.iter().any(|i| i.leading);
        let outputs = outputs.into_iter().map(|(name, tensor)| {
            let (mut shape, data) = tensor.into_parts();
            if !(mixed && shape.first() == Some(&1)) {
                shape.insert(0, 1);
            }
            Ok((name, Tensor::new(shape, data).map_err(mismatch)?))
        });
        outputs.collect()
    }
}

/// Runs at most `n` rows of a model that takes exactly `n`, the last row repeated in free places.
fn run_block(runtime: &dyn Runtime, part: Tensors, n: usize) -> Result<Tensors, RuntimeError> {
    let rows = row_count(&part);
    if rows == n {
        return runtime.predict(&part);
    }
    let last = slice(&part, rows - 1..rows).map_err(mismatch)?;
    let mut all = vec![&part];
    all.extend(std::iter::repeat_n(&last, n - rows));
    let outputs = runtime.predict(&join(&all).map_err(mismatch)?)?;
    slice(&outputs, 0..rows).map_err(mismatch)
}

fn rows_per_run(inputs: &Tensors, rows: usize) -> usize {
    let row_bytes = (byte_count(inputs) / rows.max(1)).max(1);
    (RUN_BYTES_MAX / row_bytes).clamp(1, RUN_ROWS_MAX)
}

fn mismatch(e: ShapeError) -> RuntimeError {
    RuntimeError::new(format!("rows of the model's tensors differ: {e}"))
}

/// An empty tensor's data of type `data_type` with room for `n` elements.
pub(crate) fn empty(data_type: DataType, n: usize) -> Data {
    match data_type {
        DataType::F32 => Data::F32(Vec::with_capacity(n)),
        DataType::I32 => Data::I32(Vec::with_capacity(n)),
        DataType::Text => Data::Text(Vec::with_capacity(n)),
    }
}

#[cfg(test)]
mod tests;
