//! [`Network`]: a graph that the ONNX runtime computes.
//!
//! Inputs are checked before they run, a panic inside becomes an error, and a row's result does not depend on the
//! rows beside it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rten::{NodeId, RunOptions, ThreadPool, Value, ValueOrView};
use rten_onnx::onnx::DataType as Element;
use rten_tensor::Layout;

use super::bound::{self, Bound, HELD_MAX};
use super::chain::Chain;
use super::contest;
use super::error::{LoadError, RunError};
use super::inspect::Inspection;
use super::lane::{self, Lane};
use super::plan::{Outcome, Plan};
use super::ports::{self, InputPort, OutputPort, Ports};
use super::separate::Operand;
use super::solo::{Products, Solo, Verdict};
use super::{MATRIX_PRODUCTS, failed, file, panic_text, rows};
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
    /// The model as steps of our own, if it can be; the runtime's model is then used where these fail.
    pub(super) plan: Option<Plan>,
    /// What a run of the runtime's model holds, as far as that is known.
    bound: Bound,
    /// Whether the first dimension of every input is a batch of any size.
    batched: bool,
    /// Whether a row's result would depend on the rows beside it, so that rows must run one at a time.
    entangled: bool,
    /// How single rows run.
    solo: Solo,
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
        let plan = match chain {
            Some(_) => None,
            None => plan(&bytes, &external, &ports),
        };
        let values = bound::values(&bytes);
        let (model, operands) = file::parse(bytes, external, inspection, plan.is_none())?;
        let products = match operands {
            _ if !inspection.uses(MATRIX_PRODUCTS) => Products::Safe,
            Some(operands) if operands.is_empty() => Products::Safe,
            Some(operands) => {
                // What the runtime has made one with another is found no more.
                let found = |operand: &Operand| Some((model.find_node(&operand.name)?, operand.axis));
                let found: Option<Vec<_>> = operands.iter().map(found).collect();
                found.map_or(Products::Unknown, Products::Of)
            }
            None => Products::Unknown,
        };
        let inputs = ports.inputs.iter().map(|port| port.spec.name.as_str());
        let bound = Bound::of(&model, inputs, &values);
        let mut loaded = Self::assemble(model, inspection, ports, products)?;
        loaded.bound = bound;
        loaded.chain =
            chain.filter(|_| loaded.outputs.iter().all(|port| port.spec.data_type == DataType::F32));
        loaded.plan = plan;
        Ok(loaded)
    }

    fn assemble(
        model: rten::Model,
        inspection: &Inspection,
        ports: Ports,
        products: Products,
    ) -> Result<Network, LoadError> {
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
            bound: Bound::default(),
            solo: Solo::new(products),
            chain: None,
            plan: None,
            model,
            signature,
            inputs,
            outputs,
            notes: ports.notes,
        })
    }

    /// Whether rows together take as long as each by itself.
    pub(super) fn runs_apart(&self) -> bool {
        self.plan.as_ref().is_some_and(Plan::runs_apart)
    }

    /// Whether it is a chain of simple steps, which is computed here and in little time.
    pub(super) fn is_chain(&self) -> bool {
        self.chain.is_some()
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
        self.run_ordered(&ordered)
    }

    /// Runs the model on inputs that were checked, in its order.
    fn run_ordered(&self, ordered: &[&Tensor]) -> Result<Tensors, RunError> {
        let rows = ordered.first().map_or(1, |tensor| tensor.rows());
        if let (Some(chain), [input], [output]) = (&self.chain, ordered, &self.outputs[..])
            && let Some(values) = input.as_f32()
        {
            let data = Data::F32(chain.run(values));
            let tensor = Tensor::new(vec![rows, chain.outputs()], data).map_err(failed)?;
            return Ok(vec![(output.spec.name.clone(), tensor)]);
        }
        if rows > 0
            && let Some(plan) = &self.plan
        {
            // Checks that values are in the range of narrower types.
            self.values(ordered)?;
            match plan.run(ordered) {
                Outcome::Made(outputs) => {
                    let names = self.outputs.iter().map(|port| port.spec.name.clone());
                    return Ok(names.zip(outputs).collect());
                }
                Outcome::TooLarge => return self.run_apart(ordered, rows),
                Outcome::Unknown => {}
            }
        }
        if !self.bound.admits(ordered) {
            return self.run_apart(ordered, rows);
        }
        if !self.batched {
            return self.run_as_is(ordered);
        }
        match rows {
            0 => rows::none(&self.signature.outputs),
            1 => self.run_one(ordered),
            _ if self.entangled => self.run_each(ordered, rows),
            _ => self.run_as_is(ordered),
        }
    }

    /// Runs rows that together would hold more than a run may one by one; there is no help for a single one.
    fn run_apart(&self, inputs: &[&Tensor], rows: usize) -> Result<Tensors, RunError> {
        match self.batched && rows > 1 {
            true => rows::each(inputs, rows, &self.signature.outputs, |single| self.run_ordered(single)),
            false => Err(RunError::TooLarge { most: HELD_MAX }),
        }
    }

    fn run_as_is(&self, inputs: &[&Tensor]) -> Result<Tensors, RunError> {
        self.tensors(self.run_values(self.values(inputs)?, &self.output_ids)?)
    }

    fn values<'a>(&self, inputs: &[&'a Tensor]) -> Result<Vec<(NodeId, ValueOrView<'a>)>, RunError> {
        let pairs = self.inputs.iter().zip(inputs);
        pairs
            .map(|(port, tensor)| Ok((port.id, port.value(tensor.shape().to_vec(), tensor.data())?)))
            .collect()
    }

    /// Runs a single row, such that it gives what it gives in a batch.
    fn run_one(&self, inputs: &[&Tensor]) -> Result<Tensors, RunError> {
        match self.solo.verdict(inputs) {
            Verdict::Alone => self.run_as_is(inputs),
            Verdict::Pair => self.run_pair(inputs),
            Verdict::Look(operands) => {
                let mut asked = self.output_ids.clone();
                for (id, _) in operands {
                    if !asked.contains(id) {
                        asked.push(*id);
                    }
                }
                // What the runtime computes no more, because it has made two operators one, is an error here alone.
                let mut given = self.run_values(self.values(inputs)?, &asked).unwrap_or_default();
                let rows = |(id, axis): &(NodeId, Option<usize>)| {
                    let value = given.get(asked.iter().position(|other| other == id)?)?;
                    let shape = value.shape();
                    let axis = axis.or(shape.len().checked_sub(2))?;
                    shape.get(axis).copied()
                };
                let seen: Option<Vec<usize>> = operands.iter().map(rows).collect();
                if self.solo.saw(inputs, seen.as_deref()) {
                    given.truncate(self.output_ids.len());
                    self.tensors(given)
                } else {
                    self.run_pair(inputs)
                }
            }
        }
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
        let both = self.run_values(values, &self.output_ids).and_then(|given| self.tensors(given));
        let halves = both.ok().and_then(|both| {
            both.into_iter().zip(&self.outputs).map(|(output, port)| first_half(output, port)).collect()
        });
        match halves {
            Some(outputs) => Ok(outputs),
            None => {
                let outputs = self.run_as_is(inputs)?;
                self.solo.is_no_batch();
                Ok(outputs)
            }
        }
    }

    /// Runs the rows of a batch one at a time.
    fn run_each(&self, inputs: &[&Tensor], rows: usize) -> Result<Tensors, RunError> {
        rows::each(inputs, rows, &self.signature.outputs, |single| self.run_one(single))
    }

    fn run_values(
        &self,
        values: Vec<(NodeId, ValueOrView<'_>)>,
        asked: &[NodeId],
    ) -> Result<Vec<Value>, RunError> {
        match Lane::current() {
            Some(pool) => self.run_on(pool, values, asked),
            None => {
                let lane = lane::Borrowed::any();
                self.run_on(lane.pool(), values, asked)
            }
        }
    }

    fn run_on(
        &self,
        pool: Arc<ThreadPool>,
        values: Vec<(NodeId, ValueOrView<'_>)>,
        asked: &[NodeId],
    ) -> Result<Vec<Value>, RunError> {
        let options = RunOptions::default().with_thread_pool(Some(pool));
        let run = || self.model.run(values, asked, Some(options));
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(outputs)) => Ok(outputs),
            Ok(Err(error)) => Err(failed(error)),
            Err(panic) => Err(RunError::Failed { reason: panic_text(&*panic) }),
        }
    }

    /// What the runtime gave for the outputs.
    fn tensors(&self, outputs: Vec<Value>) -> Result<Tensors, RunError> {
        self.outputs
            .iter()
            .zip(outputs)
            .map(|(port, value)| Ok((port.spec.name.clone(), port.tensor(value)?)))
            .collect()
    }
}

/// The model as steps of our own. All that it takes and gives must be of a kind that these know.
fn plan(bytes: &[u8], external: &[(String, Vec<u8>)], ports: &Ports) -> Option<Plan> {
    if ports.outputs.iter().any(|port| port.element != Element::FLOAT) {
        return None;
    }
    let inputs: Vec<&str> = ports.inputs.iter().map(|port| port.spec.name.as_str()).collect();
    let outputs: Vec<&str> = ports.outputs.iter().map(|port| port.spec.name.as_str()).collect();
    let plan =
        catch_unwind(AssertUnwindSafe(|| Plan::of(bytes, external, &inputs, &outputs))).ok().flatten()?;
    let blank = contest::blank(ports.inputs.iter().map(|port| &port.spec), 1).ok()?;
    plan.tried(&blank.iter().map(|(_, tensor)| tensor).collect::<Vec<_>>())
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
