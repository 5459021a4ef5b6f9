//! Keras' recurrent layers: gates in ONNX' order, steps before rows.

use formats::keras::{Array, Cells, Merge, Recurrent};

use super::super::writer::{Step, Value, Writer, int, ints, row_elements, string};
use crate::Dim;

/// What opens or shuts a gate entirely, whatever else it sees.
const SHUT: f32 = 1e4;

/// The steps that a layer sees.
pub(super) struct Steps {
    /// The first dimension before the batch.
    pub(super) value: Value,
    /// The same, the batch first.
    pub(super) rows: String,
    /// Which of them count, if not all do.
    pub(super) mask: Option<String>,
}

/// What one direction makes of steps.
pub(super) struct Given {
    /// Every step, or the last.
    pub(super) value: Value,
    /// What is remembered at the end, if that was wanted.
    pub(super) states: Vec<Value>,
}

impl Writer {
    /// `initial` is what is remembered from before the first step, if anything is.
    pub(super) fn recurrent(&mut self, layer: &Recurrent, initial: Vec<Value>) -> Step {
        let initial = self.remembered(layer, initial)?;
        let steps = self.steps_first()?;
        let Given { value, states } = self.direction(layer, &steps, &initial)?;
        (self.at, self.parts) = (value, states);
        if layer.backwards && layer.sequences {
            let (start, end) = (self.integers("start", &[-1]), self.integers("end", &[i64::MIN]));
            let (axis, step) = (self.integers("axis", &[1]), self.integers("step", &[-1]));
            self.apply("Slice", &[&start, &end, &axis, &step], vec![]);
        }
        self.at.mask = steps.mask.filter(|_| layer.sequences);
        Ok(())
    }

    pub(super) fn bidirectional(
        &mut self,
        forward: &Recurrent,
        backward: &Recurrent,
        merge: Option<Merge>,
        mut initial: Vec<Value>,
    ) -> Step {
        let second = initial.split_off(initial.len() / 2);
        let (first, second) = (self.remembered(forward, initial)?, self.remembered(backward, second)?);
        let steps = self.steps_first()?;
        let (first, second) =
            (self.direction(forward, &steps, &first)?, self.direction(backward, &steps, &second)?);
        let both = vec![first.value, second.value];
        self.parts = first.states.into_iter().chain(second.states).collect();
        match merge {
            None => self.concatenate(-1, both)?,
            Some(merge) => self.merge(merge, both)?,
        }
        self.at.mask = steps.mask.filter(|_| forward.sequences);
        Ok(())
    }

    /// What is remembered from before the first step, which must be nothing or all that the layer remembers.
    fn remembered(&mut self, layer: &Recurrent, initial: Vec<Value>) -> Result<Vec<String>, String> {
        let units = layer.recurrent.shape.first().copied().unwrap_or_default();
        let wanted = if layer.cells == Cells::Lstm { 2 } else { 1 };
        if !initial.is_empty() && initial.len() != wanted
            || initial.iter().any(|state| state.shape != [Dim::Fixed(units)])
        {
            return Err(format!("takes {wanted} states of {units} numbers"));
        }
        let before = self.at.clone();
        let plain = |state| {
            self.at = state;
            self.become_plain();
            self.at.name.clone()
        };
        let names = initial.into_iter().map(plain).collect();
        self.at = before;
        Ok(names)
    }

    fn steps_first(&mut self) -> Result<Steps, String> {
        self.extent(1)?;
        self.lay_channels_last();
        let (mask, rows) = (self.at.mask.take(), self.at.name.clone());
        self.apply("Transpose", &[], vec![ints("perm", vec![1, 0, 2])]);
        Ok(Steps { value: self.at.clone(), rows, mask })
    }

    /// What one direction makes of the steps.
    fn direction(&mut self, layer: &Recurrent, steps: &Steps, initial: &[String]) -> Result<Given, String> {
        let &[length, Dim::Fixed(inputs)] = steps.value.shape.as_slice() else {
            return Err("takes [steps, features]".to_owned());
        };
        let &[units, wide] = layer.recurrent.shape.as_slice() else { return Err("has no units".to_owned()) };
        self.fits("kernel", &layer.kernel, &[inputs, wide])?;
        // Where each gate of ONNX is among Keras'.
        let (op, gates): (&str, &[usize]) = match layer.cells {
            Cells::Lstm => ("LSTM", &[0, 3, 1, 2]),
            Cells::Gru => ("GRU", &[0, 1, 2]),
            Cells::Simple { activation } => return self.step_by_step(layer, activation, steps, initial),
        };
        row_elements(&[length, Dim::Fixed(wide)])?;
        let unmasked = steps.mask.as_ref().map(|mask| self.unmasked(&steps.rows, mask, layer.backwards));
        let mut seen = unmasked.as_ref().map_or(&steps.value.name, |unmasked| &unmasked.steps).clone();
        let (mut kernel, mut inputs) = (gate_rows(&layer.kernel, units, gates), inputs);
        if let Some(unmasked) = unmasked.as_ref().filter(|_| layer.states && layer.cells == Cells::Lstm) {
            // What is remembered stays as it is over steps that do not count, which lie behind the others.
            let mut longer = layer.kernel.clone();
            let shut = [-SHUT, SHUT, 0.0, 0.0];
            longer.values.extend(shut.iter().flat_map(|gate| std::iter::repeat_n(*gate, units)));
            kernel = gate_rows(&longer, units, gates);
            inputs += 1;
            let idle = self.idle(unmasked);
            seen = self.node("Concat", &[&seen, &idle], vec![int("axis", 2)]);
        }
        let recurrent = gate_rows(&layer.recurrent, units, gates);
        let kernel = self.weights("kernel", &[1, wide, inputs], &kernel)?;
        let recurrent = self.weights("recurrent", &[1, wide, units], &recurrent)?;
        let mut operands = vec![seen.as_str(), kernel.as_str(), recurrent.as_str()];
        let bias = layer.bias.as_ref();
        let bias = bias.map(|bias| self.weights("bias", &[1, 2 * wide], &biases(bias, units, gates)));
        let bias = bias.transpose()?;
        operands.extend(bias.as_deref());
        let first = self.integers("axis", &[0]);
        let states: Vec<String> =
            initial.iter().map(|state| self.node("Unsqueeze", &[state, &first], vec![])).collect();
        if !states.is_empty() {
            // No lengths of rows stand before these.
            operands.resize(5, "");
            operands.extend(states.iter().map(String::as_str));
        }
        let reverse = layer.backwards && unmasked.is_none();
        let direction = if reverse { "reverse" } else { "forward" };
        let mut attributes = vec![int("hidden_size", units as i64), string("direction", direction)];
        if layer.cells == Cells::Gru {
            attributes.push(int("linear_before_reset", 1));
        }
        let cells = layer.states && layer.cells == Cells::Lstm;
        let mut given = self.node_of(if cells { 3 } else { 2 }, op, &operands, attributes).into_iter();
        let (all, last) = (given.next().unwrap_or_default(), given.next().unwrap_or_default());
        let cell = given.next().map(|cell| self.node("Squeeze", &[&cell, &first], vec![]));
        let shape = if layer.sequences { vec![length, Dim::Fixed(units)] } else { vec![Dim::Fixed(units)] };
        // Of the dimension for directions there is one.
        let steps_wanted = layer.sequences || unmasked.is_some();
        let (name, axis) = match steps_wanted {
            true => (all, self.integers("axis", &[1])),
            false => (last.clone(), first.clone()),
        };
        self.at = Value::floats(name, shape);
        self.apply("Squeeze", &[&axis], vec![]);
        if steps_wanted {
            self.apply("Transpose", &[], vec![ints("perm", vec![1, 0, 2])]);
        }
        let made = self.at.name.clone();
        let mut back = |sequences, zeros| {
            unmasked.as_ref().map(|own| self.put_back(&made, own, initial.first(), sequences, zeros))
        };
        let state = layer.states.then(|| back(false, false));
        if let Some(name) = back(layer.sequences, layer.zero_masked) {
            self.at.name = name;
        }
        let state =
            state.map(|state| state.unwrap_or_else(|| self.node("Squeeze", &[&last, &first], vec![])));
        let states = state.into_iter().chain(cell);
        let states = states.map(|name| Value::floats(name, vec![Dim::Fixed(units)])).collect();
        Ok(Given { value: self.at.clone(), states })
    }
}

/// A kernel `[inputs, gates * units]` as `[gates * units, inputs]`, its gates in another order.
fn gate_rows(kernel: &Array, units: usize, gates: &[usize]) -> Vec<f32> {
    let wide = units * gates.len();
    let column = |gate: usize, unit: usize| gate * units + unit;
    let row = |c: usize| kernel.values.iter().skip(c).step_by(wide.max(1)).copied();
    gates.iter().flat_map(|gate| (0..units).flat_map(move |unit| row(column(*gate, unit)))).collect()
}

/// The biases of the inputs, then those of what is remembered, their gates in another order.
fn biases(bias: &Array, units: usize, gates: &[usize]) -> Vec<f32> {
    let wide = units * gates.len();
    let mut values: Vec<f32> = Vec::with_capacity(2 * wide);
    for own in bias.values.chunks(wide.max(1)) {
        values.extend(gates.iter().flat_map(|gate| own.iter().skip(gate * units).take(units)));
    }
    values.resize(2 * wide, 0.0);
    values
}
