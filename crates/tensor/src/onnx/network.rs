//! [`Network`]: a graph that the ONNX runtime computes.
//!
//! Inputs are checked before they run, a panic inside becomes an error, and a row's result does not depend on the
//! rows beside it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rten::{NodeId, RunOptions, ThreadPool, ValueOrView};

use super::chain::Chain;
use super::error::{LoadError, RunError};
use super::inspect::Inspection;
use super::lane::{self, Lane};
use super::ports::{self, InputPort, OutputPort, Ports};
use super::{MATRIX_PRODUCTS, failed, file, panic_text};
use crate::{Data, DataType, Dim, Signature, Tensor, Tensors};

/// A loaded graph. Each run is on one thread, see [`Lane`].
///
/// Element types that the runtime does not have are carried by others: int64 and bool by int32, float64
/// and float16 by float32, int8 and uint8 inputs take int32 values in their range.
#[derive(Debug)]
pub(super) struct Network {
    model: rten::Model,
    signature: Signature,
    inputs: Vec<InputPort>,
    outputs: Vec<OutputPort>,
    output_ids: Vec<NodeId>,
    notes: Vec<String>,
    /// The model as a chain of simple steps, if it is one; the runtime's model is then not used.
    pub(super) chain: Option<Chain>,
    /// Whether the first dimension of every input is a batch of any size.
    batched: bool,
    /// Whether a row's result would depend on the rows beside it, so that rows must run one at a time.
    entangled: bool,
    /// Whether a single row must run as a pair; see [`Network::run_pair`].
    pairs: AtomicBool,
}

impl Network {
    /// The graph of a file that was inspected. `external` are the files that weights are kept in, by name.
    pub(super) fn of(
        bytes: Vec<u8>,
        external: Vec<(String, Vec<u8>)>,
        inspection: &Inspection,
        ports: Ports,
    ) -> Result<Network, LoadError> {
        let chain = catch_unwind(AssertUnwindSafe(|| Chain::of(&bytes))).ok().flatten();
        let (model, separated) = file::parse(bytes, external, inspection)?;
        let mut loaded = Self::assemble(model, inspection, ports)?;
        loaded.chain =
            chain.filter(|_| loaded.outputs.iter().all(|port| port.spec.data_type == DataType::F32));
        loaded.pairs = AtomicBool::new(!separated && inspection.uses(MATRIX_PRODUCTS));
        Ok(loaded)
    }

    fn assemble(model: rten::Model, inspection: &Inspection, ports: Ports) -> Result<Network, LoadError> {
        let bind_input = |port| InputPort::bind(port, &model);
        let inputs = ports.inputs.into_iter().map(bind_input).collect::<Result<Vec<_>, _>>()?;
        let bind_output = |port| OutputPort::bind(port, &model);
        let outputs = ports.outputs.into_iter().map(bind_output).collect::<Result<Vec<_>, _>>()?;
        let signature = Signature {
            inputs: inputs.iter().map(|port| port.spec.clone()).collect(),
            outputs: outputs.iter().map(|port| port.spec.clone()).collect(),
        };
        let batched = ports::share_a_batch(&signature, |name| inspection.batch_name(name));
        Ok(Network {
            output_ids: outputs.iter().map(|port| port.id).collect(),
            batched,
            entangled: inspection.uses(&["DynamicQuantizeLinear"]),
            pairs: AtomicBool::new(true),
            chain: None,
            model,
            signature,
            inputs,
            outputs,
            notes: ports.notes,
        })
    }

    /// What the model takes and gives.
    pub(super) fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Where the computation differs from the letter of the file, for the model's owner.
    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether the first dimension of every input is a batch of any size, so that rows of several
    /// requests can run together. A row then gives the same bits whatever rows run with it.
    pub(super) fn is_batched(&self) -> bool {
        self.batched
    }

    /// Runs the model. Inputs may come in any order; outputs come in the signature's.
    ///
    /// # Errors
    /// If the inputs are not those of the signature, or the model fails on them.
    pub(super) fn run(&self, inputs: &[(String, Tensor)]) -> Result<Tensors, RunError> {
        let specs: Vec<_> = self.inputs.iter().map(|port| &port.spec).collect();
        let ordered = ports::check(&specs, inputs, self.batched)?;
        let rows = ordered.first().map_or(1, |tensor| tensor.rows());
        if let (Some(chain), [input], [output]) = (&self.chain, &ordered[..], &self.outputs[..])
            && let Some(values) = input.as_f32()
        {
            let data = Data::F32(chain.run(values));
            let tensor = Tensor::new(vec![rows, chain.outputs()], data).map_err(failed)?;
            return Ok(vec![(output.spec.name.clone(), tensor)]);
        }
        if !self.batched {
            return self.run_as_is(&ordered);
        }
        match rows {
            0 => self.run_none(),
            1 if self.pairs.load(Ordering::Relaxed) => self.run_pair(&ordered),
            1 => self.run_as_is(&ordered),
            _ if self.entangled => self.run_each(&ordered, rows),
            _ => self.run_as_is(&ordered),
        }
    }

    /// Runs a row as it is, for those who never run it with others.
    pub(super) fn run_alone(&self, inputs: &[(String, Tensor)]) -> Result<Tensors, RunError> {
        let specs: Vec<_> = self.inputs.iter().map(|port| &port.spec).collect();
        self.run_as_is(&ports::check(&specs, inputs, self.batched)?)
    }

    fn run_as_is(&self, inputs: &[&Tensor]) -> Result<Tensors, RunError> {
        let values = self
            .inputs
            .iter()
            .zip(inputs)
            .map(|(port, tensor)| Ok((port.id, port.value(tensor.shape().to_vec(), tensor.data())?)))
            .collect::<Result<Vec<_>, RunError>>()?;
        self.run_values(values)
    }

    /// Runs a single row as two equal rows.
    ///
    /// The runtime multiplies a matrix of one row by another algorithm than one of several, which adds in
    /// another order, so that a row on its own would differ in the last bits from the same row in a
    /// batch. If the two results differ, the first dimension is not a batch after all: the row then runs
    /// as it is, now and later.
    fn run_pair(&self, inputs: &[&Tensor]) -> Result<Tensors, RunError> {
        let doubled: Vec<Data> = inputs.iter().map(|tensor| twice(tensor.data())).collect();
        let mut values = Vec::with_capacity(inputs.len());
        for ((port, tensor), data) in self.inputs.iter().zip(inputs).zip(&doubled) {
            let mut shape = tensor.shape().to_vec();
            if let Some(rows) = shape.first_mut() {
                *rows = 2;
            }
            values.push((port.id, port.value(shape, data)?));
        }
        let both = self.run_values(values);
        let halves = both.ok().and_then(|both| {
            both.into_iter().zip(&self.outputs).map(|(output, port)| first_half(output, port)).collect()
        });
        match halves {
            Some(outputs) => Ok(outputs),
            None => {
                let outputs = self.run_as_is(inputs)?;
                self.pairs.store(false, Ordering::Relaxed);
                Ok(outputs)
            }
        }
    }

    /// Runs the rows of a batch one at a time.
    fn run_each(&self, inputs: &[&Tensor], rows: usize) -> Result<Tensors, RunError> {
        let mut whole: Option<Tensors> = None;
        for row in 0..rows {
            let single =
                inputs.iter().map(|tensor| row_of(tensor, row)).collect::<Result<Vec<_>, RunError>>()?;
            let single: Vec<&Tensor> = single.iter().collect();
            let outputs = match self.pairs.load(Ordering::Relaxed) {
                true => self.run_pair(&single)?,
                false => self.run_as_is(&single)?,
            };
            whole = Some(match whole {
                None => outputs,
                Some(whole) => append(whole, outputs)?,
            });
        }
        whole.map_or_else(|| self.run_none(), Ok)
    }

    /// What no rows give: outputs of no rows.
    fn run_none(&self) -> Result<Tensors, RunError> {
        let size = |dim: &Dim| match dim {
            Dim::Any => 0,
            Dim::Fixed(n) => *n,
        };
        let empty = |port: &OutputPort| {
            let shape = std::iter::once(0).chain(port.spec.shape.iter().skip(1).map(size)).collect();
            let data = match port.spec.data_type {
                DataType::F32 => Data::F32(Vec::new()),
                DataType::I32 => Data::I32(Vec::new()),
                DataType::Text => Data::Text(Vec::new()),
            };
            Ok((port.spec.name.clone(), Tensor::new(shape, data).map_err(failed)?))
        };
        self.outputs.iter().map(empty).collect()
    }

    fn run_values(&self, values: Vec<(NodeId, ValueOrView<'_>)>) -> Result<Tensors, RunError> {
        match Lane::current() {
            Some(pool) => self.run_on(pool, values),
            None => {
                let lane = lane::Borrowed::any();
                self.run_on(lane.pool(), values)
            }
        }
    }

    fn run_on(
        &self,
        pool: Arc<ThreadPool>,
        values: Vec<(NodeId, ValueOrView<'_>)>,
    ) -> Result<Tensors, RunError> {
        let options = RunOptions::default().with_thread_pool(Some(pool));
        let run = || self.model.run(values, &self.output_ids, Some(options));
        let outputs = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(outputs)) => outputs,
            Ok(Err(error)) => return Err(failed(error)),
            Err(panic) => return Err(RunError::Failed { reason: panic_text(&*panic) }),
        };
        self.outputs
            .iter()
            .zip(outputs)
            .map(|(port, value)| Ok((port.spec.name.clone(), port.tensor(value)?)))
            .collect()
    }
}

fn twice(data: &Data) -> Data {
    match data {
        Data::F32(v) => Data::F32(v.repeat(2)),
        Data::I32(v) => Data::I32(v.repeat(2)),
        Data::Text(v) => Data::Text([v.as_slice(), v.as_slice()].concat()),
    }
}

/// The first of two equal rows; `None` if they differ. An output of a fixed first dimension is no batch
/// and stays as it is.
fn first_half((name, tensor): (String, Tensor), port: &OutputPort) -> Option<(String, Tensor)> {
    if matches!(port.spec.shape.first(), None | Some(Dim::Fixed(_))) {
        return Some((name, tensor));
    }
    let (mut shape, mut data) = tensor.into_parts();
    match shape.first_mut() {
        Some(rows) if *rows == 2 => *rows = 1,
        _ => return None,
    }
    let half = data.len() / 2;
    let same = match &mut data {
        Data::F32(v) => {
            let (first, second) = v.split_at(half);
            let same = first.iter().zip(second).all(|(a, b)| a.to_bits() == b.to_bits());
            v.truncate(half);
            same
        }
        Data::I32(v) => {
            let same = v.iter().take(half).eq(v.iter().skip(half));
            v.truncate(half);
            same
        }
        Data::Text(_) => false,
    };
    if !same {
        return None;
    }
    Some((name, Tensor::new(shape, data).ok()?))
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
