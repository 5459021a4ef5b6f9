//! Keras' recurrent layers: gates in ONNX' order, steps before rows.

use formats::keras::{Array, Cells, Merge, Recurrent};

use super::super::writer::{Step, Value, Writer, int, ints, row_elements, string};
use crate::Dim;

/// The steps that a layer sees.
pub(super) struct Steps {
    /// The first dimension before the batch.
    pub(super) value: Value,
    /// The same, the batch first.
    pub(super) rows: String,
    /// Which of them count, if not all do.
    pub(super) mask: Option<String>,
}

impl Writer {
    pub(super) fn recurrent(&mut self, layer: &Recurrent) -> Step {
        if layer.backwards && layer.sequences {
            return Err("gives steps from the last to the first, which is not supported".to_owned());
        }
        let steps = self.steps_first()?;
        self.at = self.direction(layer, &steps)?;
        self.at.mask = steps.mask.filter(|_| layer.sequences);
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
            None => self.concatenate(-1, both)?,
            Some(merge) => self.merge(merge, both)?,
        }
        self.at.mask = steps.mask.filter(|_| forward.sequences);
        Ok(())
    }

    fn steps_first(&mut self) -> Result<Steps, String> {
        self.extent(1)?;
        self.lay_channels_last();
        let (mask, rows) = (self.at.mask.take(), self.at.name.clone());
        self.apply("Transpose", &[], vec![ints("perm", vec![1, 0, 2])]);
        Ok(Steps { value: self.at.clone(), rows, mask })
    }

    /// What one direction makes of the steps.
    fn direction(&mut self, layer: &Recurrent, steps: &Steps) -> Result<Value, String> {
        let &[length, Dim::Fixed(inputs)] = steps.value.shape.as_slice() else {
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
        row_elements(&[length, Dim::Fixed(wide)])?;
        let unmasked = steps.mask.as_ref().map(|mask| self.unmasked(&steps.rows, mask, layer.backwards));
        let seen = unmasked.as_ref().map_or(steps.value.name.as_str(), |unmasked| unmasked.steps.as_str());
        let kernel = gate_rows(&layer.kernel, units, gates);
        let recurrent = gate_rows(&layer.recurrent, units, gates);
        let kernel = self.weights("kernel", &[1, wide, inputs], &kernel)?;
        let recurrent = self.weights("recurrent", &[1, wide, units], &recurrent)?;
        let mut operands = vec![seen, kernel.as_str(), recurrent.as_str()];
        let bias = layer.bias.as_ref();
        let bias = bias.map(|bias| self.weights("bias", &[1, 2 * wide], &biases(bias, units, gates)));
        let bias = bias.transpose()?;
        operands.extend(bias.as_deref());
        let reverse = layer.backwards && unmasked.is_none();
        let direction = if reverse { "reverse" } else { "forward" };
        let mut attributes = vec![int("hidden_size", units as i64), string("direction", direction)];
        if layer.cells == Cells::Gru {
            attributes.push(int("linear_before_reset", 1));
        }
        let mut given = self.node_of(2, op, &operands, attributes).into_iter();
        let (all, last) = (given.next().unwrap_or_default(), given.next().unwrap_or_default());
        let shape = if layer.sequences { vec![length, Dim::Fixed(units)] } else { vec![Dim::Fixed(units)] };
        // Of the dimension for directions there is one.
        let steps_wanted = layer.sequences || unmasked.is_some();
        let (name, axis) = match steps_wanted {
            true => (all, self.integers("axis", &[1])),
            false => (last, self.integers("axis", &[0])),
        };
        self.at = Value::floats(name, shape);
        self.apply("Squeeze", &[&axis], vec![]);
        if steps_wanted {
            self.apply("Transpose", &[], vec![ints("perm", vec![1, 0, 2])]);
        }
        if let Some(unmasked) = &unmasked {
            let made = std::mem::take(&mut self.at.name);
            self.at.name = self.put_back(&made, unmasked, layer.sequences, layer.zero_masked);
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
