//! [`Plan`]: transformers and convolutional networks, computed right here.
//!
//! The general runtime computes one operator after another, each into memory of its own. Here a matrix that is constant is
//! laid out once, a product and the function after it are one step, attention is computed head by head without turning
//! anything, and steps share memory. Every number is reduced in an order of its own ([`kernels`]), so that a row gives the
//! same bits in any batch. What a plan cannot do, at the load or in a run, is left to the general runtime.

mod compile;
mod picture;
mod shaping;
mod step;
#[cfg(test)]
mod tests;
mod view;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kernels::Isa;

use crate::{Data, Tensor};
use step::{Memory, Step};
use view::{Room, Value, View, Whole};

/// A network as steps over values that have numbers.
#[derive(Debug)]
pub(super) struct Plan {
    isa: Isa,
    steps: Vec<Step>,
    /// The constants, by their numbers; nothing for values that are computed.
    constants: Vec<Option<Value>>,
    /// The numbers of the inputs, in the order of the network's.
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    /// The memory of runs that are over.
    rooms: Mutex<Vec<Room>>,
    /// How many of these are kept: asking the system each time would take as long as a small network.
    rooms_max: usize,
    /// Whether a row takes so long that it gains nothing by company.
    apart: bool,
}

/// What a run has come to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The outputs.
    Made(Vec<Tensor>),
    /// It would have held more than [`HELD_MAX`] numbers.
    TooLarge,
    /// The general runtime must say.
    Unknown,
}

impl Outcome {
    /// The outputs, if there are any.
    fn made(self) -> Option<Vec<Tensor>> {
        match self {
            Outcome::Made(outputs) => Some(outputs),
            Outcome::TooLarge | Outcome::Unknown => None,
        }
    }
}

/// A row that takes as long gains nothing by company: what is done once a run is little of it.
const APART_MIN: Duration = Duration::from_micros(200);

impl Plan {
    /// Itself, if it can run `inputs`: some things show in a run only.
    pub(super) fn tried(mut self, inputs: &[&Tensor]) -> Option<Plan> {
        self.run(inputs).made()?;
        let began = Instant::now();
        self.run(inputs).made()?;
        self.apart = began.elapsed() >= APART_MIN;
        Some(self)
    }

    /// Whether a row gains nothing by company.
    pub(super) fn runs_apart(&self) -> bool {
        self.apart
    }

    /// The outputs for `inputs`.
    pub(super) fn run(&self, inputs: &[&Tensor]) -> Outcome {
        let mut room = self.rooms().pop().unwrap_or_default();
        room.open();
        // A room that a panic has left is whole, but another is as good.
        let Ok(outputs) = catch_unwind(AssertUnwindSafe(|| self.run_in(&mut room, inputs))) else {
            return Outcome::Unknown;
        };
        let outcome = match outputs {
            Some(outputs) => Outcome::Made(outputs),
            None if room.overdrawn => Outcome::TooLarge,
            None => Outcome::Unknown,
        };
        room.trim();
        let mut rooms = self.rooms();
        if rooms.len() < self.rooms_max {
            rooms.push(room);
        }
        outcome
    }

    fn run_in(&self, room: &mut Room, inputs: &[&Tensor]) -> Option<Vec<Tensor>> {
        let mut memory = Memory { constants: &self.constants, computed: vec![None; self.constants.len()] };
        for (&number, tensor) in self.inputs.iter().zip(inputs) {
            let shape = tensor.shape().to_vec();
            memory.computed[number] = Some(match tensor.data() {
                Data::F32(data) => {
                    let mut block = room.take(data.len())?;
                    block[..data.len()].copy_from_slice(data);
                    Value::Numbers(View::new(shape, Arc::new(block)))
                }
                Data::I32(data) => {
                    let data = data.iter().map(|&x| i64::from(x)).collect();
                    Value::Whole(Whole { shape, data: Arc::new(data) })
                }
                Data::Text(_) => return None,
            });
        }
        for step in &self.steps {
            let made = step.run(self.isa, &memory, room)?;
            memory.computed[step.output] = Some(made);
            for &number in &step.done {
                if let Some(Value::Numbers(view)) = memory.computed[number].take() {
                    room.give(view.data);
                }
            }
        }
        let mut outputs = Vec::with_capacity(self.outputs.len());
        for &number in &self.outputs {
            let view = memory.get(number)?.numbers()?.clone().packed(room)?;
            outputs.push(Tensor::new(view.shape.clone(), Data::F32(view.slice()?.to_vec())).ok()?);
            room.give(view.data);
        }
        for value in memory.computed.into_iter().flatten() {
            if let Value::Numbers(view) = value {
                room.give(view.data);
            }
        }
        Some(outputs)
    }

    fn rooms(&self) -> std::sync::MutexGuard<'_, Vec<Room>> {
        // Nothing is left half-written under the lock.
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
