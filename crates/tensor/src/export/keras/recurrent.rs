//! Keras' recurrent layers: gates in ONNX' order, steps before rows.

use formats::keras::{Activation, Array, Cells, Merge, Recurrent};

use super::super::writer::{Step, Value, Writer, int, ints, row_elements, string};

/// The most steps that are written out.
const STEPS_MAX: usize = 1024;

impl Writer {
    pub(super) fn recurrent(&mut self, layer: &Recurrent) -> Step {
        if layer.backwards && layer.sequences {
            return Err("gives steps from the last to the first, which is not supported".to_owned());
        }
        let steps = self.steps_first()?;
        self.at = self.direction(layer, &steps)?;
        Ok(())
    }

    pub(super) fn bidirectional(
        &mut self,
        forward: &Recurrent,
        backward: &Recurrent,
        merge: Option<Merge>,
    ) -> Step {
        let steps = self.steps_first()?;
        let both = vec![self.direction(forward, &steps)?, self.direction(backward, &steps)?];
        match merge {
            None => self.concatenate(-1, both),
            Some(merge) => self.merge(merge, both),
        }
    }

    /// The value with its steps as the first dimension, before the batch.
    fn steps_first(&mut self) -> Result<Value, String> {
        if self.at.ids.is_some() {
            return Err(
                "steps that are masked (`mask_zero`) are not supported before a recurrent layer".to_owned()
            );
        }
        self.extent(1)?;
        self.lay_channels_last();
        self.apply("Transpose", &[], vec![ints("perm", vec![1, 0, 2])]);
        Ok(self.at.clone())
    }

    /// What one direction makes of the steps.
    fn direction(&mut self, layer: &Recurrent, steps: &Value) -> Result<Value, String> {
        let &[length, inputs] = steps.shape.as_slice() else {
            return Err("takes [steps, features]".to_owned());
        };
        let &[units, wide] = layer.recurrent.shape.as_slice() else { return Err("has no units".to_owned()) };
        self.fits("kernel", &layer.kernel, &[inputs, wide])?;
        // Where each gate of ONNX is among Keras'.
        let (op, gates): (&str, &[usize]) = match layer.cells {
            Cells::Lstm => ("LSTM", &[0, 3, 1, 2]),
            Cells::Gru => ("GRU", &[0, 1, 2]),
            Cells::Simple { activation } => return self.step_by_step(layer, activation, steps),
        };
        let kernel = gate_rows(&layer.kernel, units, gates);
        let recurrent = gate_rows(&layer.recurrent, units, gates);
        let kernel = self.weights("kernel", &[1, wide, inputs], &kernel)?;
        let recurrent = self.weights("recurrent", &[1, wide, units], &recurrent)?;
        let mut operands = vec![steps.name.as_str(), kernel.as_str(), recurrent.as_str()];
        let bias =
            layer.bias.as_ref().map(|bias| self.weights("bias", &[1, 2 * wide], &biases(bias, units, gates)));
        let bias = bias.transpose()?;
        operands.extend(bias.as_deref());
        let direction = if layer.backwards { "reverse" } else { "forward" };
        let mut attributes = vec![int("hidden_size", units as i64), string("direction", direction)];
        if layer.cells == Cells::Gru {
            attributes.push(int("linear_before_reset", 1));
        }
        let [all, last] = self.node_of_two(op, &operands, attributes);
        // Of the dimension for directions there is one.
        let (name, axis, shape) = match layer.sequences {
            true => (all, self.integers("axis", &[1]), vec![length, units]),
            false => (last, self.integers("axis", &[0]), vec![units]),
        };
        row_elements(&shape)?;
        self.at = Value { name, shape, channels_first: false, integers: false, ids: None };
        self.apply("Squeeze", &[&axis], vec![]);
        if layer.sequences {
            self.apply("Transpose", &[], vec![ints("perm", vec![1, 0, 2])]);
        }
        Ok(self.at.clone())
    }

    /// What simple cells make of the steps, each written out: the runtime has no operator for them.
    fn step_by_step(
        &mut self,
        layer: &Recurrent,
        activation: Activation,
        steps: &Value,
    ) -> Result<Value, String> {
        let &[length, inputs] = steps.shape.as_slice() else {
            return Err("takes [steps, features]".to_owned());
        };
        let &[units, _] = layer.recurrent.shape.as_slice() else { return Err("has no units".to_owned()) };
        if length > STEPS_MAX {
            return Err(format!("takes {length} steps, more than {STEPS_MAX}, the limit"));
        }
        row_elements(&[length, units])?;
        let kernel = self.weights("kernel", &[inputs, units], &layer.kernel.values)?;
        let recurrent = self.weights("recurrent", &[units, units], &layer.recurrent.values)?;
        self.at = steps.clone();
        self.apply("MatMul", &[&kernel], vec![]);
        if let Some(bias) = &layer.bias {
            let bias = self.weights("bias", &[units], &bias.values)?;
            self.apply("Add", &[&bias], vec![]);
        }
        let (given, axis) = (self.at.name.clone(), self.integers("axis", &[1]));
        let mut remembered: Option<String> = None;
        let mut all = vec![String::new(); if layer.sequences { length } else { 0 }];
        for step in 0..length {
            let place = if layer.backwards { length - 1 - step } else { step };
            let index = self.index(place);
            self.at.name = self.node("Gather", &[&given, &index], vec![int("axis", 0)]);
            self.at.shape = vec![units];
            if let Some(last) = remembered {
                let sum = self.node("MatMul", &[&last, &recurrent], vec![]);
                self.apply("Add", &[&sum], vec![]);
            }
            self.function(activation);
            remembered = Some(self.at.name.clone());
            if let Some(own) = all.get_mut(place) {
                let given = self.at.name.clone();
                *own = self.node("Unsqueeze", &[&given, &axis], vec![]);
            }
        }
        if layer.sequences {
            let names: Vec<&str> = all.iter().map(String::as_str).collect();
            self.at.name = self.node("Concat", &names, vec![int("axis", 1)]);
            self.at.shape = vec![length, units];
        }
        Ok(self.at.clone())
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
