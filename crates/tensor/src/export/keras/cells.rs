//! Recurrent layers that the runtime has no operator for, or none that leaves out steps: each step written out.

use formats::keras::{Activation, Cells, Recurrent};

use super::super::writer::{Value, Writer, int, ints, row_elements};
use super::recurrent::Steps;

/// The most steps that are written out.
const STEPS_MAX: usize = 1024;

/// A layer's constants, and what it remembers from step to step.
struct Memory {
    recurrent: String,
    /// Added to what is remembered, of a GRU.
    bias: Option<String>,
    /// What was given last.
    given: String,
    /// The state of an LSTM's cells.
    state: String,
}

impl Writer {
    /// What one direction makes of the steps.
    pub(super) fn step_by_step(&mut self, layer: &Recurrent, steps: &Steps) -> Result<Value, String> {
        let &[length, inputs] = steps.value.shape.as_slice() else {
            return Err("takes [steps, features]".to_owned());
        };
        let &[units, wide] = layer.recurrent.shape.as_slice() else { return Err("has no units".to_owned()) };
        if length > STEPS_MAX {
            return Err(format!("takes {length} steps, more than {STEPS_MAX}, the limit"));
        }
        row_elements(&[length, wide])?;
        let kernel = self.weights("kernel", &[inputs, wide], &layer.kernel.values)?;
        let recurrent = self.weights("recurrent", &[units, wide], &layer.recurrent.values)?;
        let mut biases =
            layer.bias.as_ref().map_or(&[][..], |bias| bias.values.as_slice()).chunks(wide.max(1));
        let mut bias = || biases.next().map(<[f32]>::to_vec);
        let (of_inputs, of_memory) = (bias(), bias());
        let mut projected = self.node("MatMul", &[&steps.value.name, &kernel], vec![]);
        if let Some(values) = of_inputs {
            let bias = self.weights("bias", &[wide], &values)?;
            projected = self.node("Add", &[&projected, &bias], vec![]);
        }
        let bias = of_memory.map(|values| self.weights("bias", &[wide], &values)).transpose()?;
        // Zeros, as many rows as there are.
        let first = self.index(0);
        let row = self.node("Gather", &[&steps.value.name, &first], vec![int("axis", 0)]);
        let nothing = self.weights("nothing", &[inputs, units], &vec![0.0; inputs * units])?;
        let zeros = self.node("MatMul", &[&row, &nothing], vec![]);
        let counts = steps.ids.as_ref().map(|ids| self.counting(ids));
        let mut memory = Memory { recurrent, bias, given: zeros.clone(), state: zeros.clone() };
        let (mut all, axis) = (vec![String::new(); length], self.integers("axis", &[1]));
        for step in 0..length {
            let place = if layer.backwards { length - 1 - step } else { step };
            let index = self.index(place);
            let own = self.node("Gather", &[&projected, &index], vec![int("axis", 0)]);
            let (given, state) = self.cells(layer.cells, &own, &memory, units);
            let mut told = given.clone();
            if let Some(counts) = &counts {
                let counts = self.node("Gather", &[counts, &index], vec![int("axis", 0)]);
                memory.given = self.node("Where", &[&counts, &given, &memory.given], vec![]);
                memory.state = self.node("Where", &[&counts, &state, &memory.state], vec![]);
                told = match layer.zero_masked {
                    true => self.node("Where", &[&counts, &given, &zeros], vec![]),
                    false => memory.given.clone(),
                };
            } else {
                (memory.given, memory.state) = (given, state);
            }
            if let Some(own) = all.get_mut(place) {
                *own = told;
            }
        }
        let last = if layer.backwards { all.first() } else { all.last() };
        let last = last.cloned().ok_or("takes at least one step")?;
        let (name, shape) = match layer.sequences {
            false => (last, vec![units]),
            true => {
                let steps: Vec<String> =
                    all.iter().map(|given| self.node("Unsqueeze", &[given, &axis], vec![])).collect();
                let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
                (self.node("Concat", &steps, vec![int("axis", 1)]), vec![length, units])
            }
        };
        self.at = Value { name, shape, channels_first: false, integers: false, ids: None };
        Ok(self.at.clone())
    }

    /// Which steps count, `[steps, rows, 1]`: those whose ids are not 0.
    fn counting(&mut self, ids: &str) -> String {
        let (zero, last) = (self.whole("padding_id", 0), self.integers("axis", &[-1]));
        let padding = self.node("Equal", &[ids, &zero], vec![]);
        let counts = self.node("Not", &[&padding], vec![]);
        let counts = self.node("Transpose", &[&counts], vec![ints("perm", vec![1, 0])]);
        self.node("Unsqueeze", &[&counts, &last], vec![])
    }

    /// What the cells give, and their state, after a step whose inputs, weighted, are `own`.
    fn cells(&mut self, cells: Cells, own: &str, memory: &Memory, units: usize) -> (String, String) {
        let mut remembered = self.node("MatMul", &[&memory.given, &memory.recurrent], vec![]);
        if let Some(bias) = &memory.bias {
            remembered = self.node("Add", &[&remembered, bias], vec![]);
        }
        match cells {
            Cells::Simple { activation } => {
                let sum = self.node("Add", &[own, &remembered], vec![]);
                let given = self.called(activation, sum);
                (given, memory.state.clone())
            }
            Cells::Lstm => {
                let sum = self.node("Add", &[own, &remembered], vec![]);
                let [input, forget, fresh, output] = self.split(&sum, units);
                let kept = self.gated(forget, &memory.state);
                let fresh = self.node("Tanh", &[&fresh], vec![]);
                let taken = self.gated(input, &fresh);
                let state = self.node("Add", &[&kept, &taken], vec![]);
                let bounded = self.node("Tanh", &[&state], vec![]);
                (self.gated(output, &bounded), state)
            }
            Cells::Gru => {
                let [update, reset, fresh] = self.split(own, units);
                let [update_memory, reset_memory, fresh_memory] = self.split(&remembered, units);
                let reset = self.node("Add", &[&reset, &reset_memory], vec![]);
                let let_through = self.gated(reset, &fresh_memory);
                let fresh = self.node("Add", &[&fresh, &let_through], vec![]);
                let fresh = self.node("Tanh", &[&fresh], vec![]);
                let update = self.node("Add", &[&update, &update_memory], vec![]);
                // `u * last + (1 - u) * fresh`
                let change = self.node("Sub", &[&memory.given, &fresh], vec![]);
                let kept = self.gated(update, &change);
                (self.node("Add", &[&fresh, &kept], vec![]), memory.state.clone())
            }
        }
    }

    /// `sigmoid(gate) * value`
    fn gated(&mut self, gate: String, value: &str) -> String {
        let gate = self.node("Sigmoid", &[&gate], vec![]);
        self.node("Mul", &[&gate, value], vec![])
    }

    /// What `activation` makes of the value called `name`.
    fn called(&mut self, activation: Activation, name: String) -> String {
        self.at = Value { name, shape: vec![1], channels_first: false, integers: false, ids: None };
        self.function(activation);
        self.at.name.clone()
    }

    /// The value called `name` in equal parts of its last dimension.
    fn split<const N: usize>(&mut self, name: &str, units: usize) -> [String; N] {
        let lengths = self.integers("lengths", &[units as i64; N]);
        let parts = self.node_of(N, "Split", &[name, &lengths], vec![int("axis", -1)]);
        let mut parts = parts.into_iter();
        std::array::from_fn(|_| parts.next().unwrap_or_default())
    }
}
