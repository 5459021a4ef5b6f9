//! `SimpleRNN`, which the runtime has no operator for: each step written out.

use formats::keras::{Activation, Recurrent};

use super::super::writer::{Value, Writer, int, ints, length, row_elements};
use super::recurrent::{Given, Steps};
use crate::Dim;

/// The most steps that are written out.
const STEPS_MAX: usize = 1024;

impl Writer {
    /// What one direction of a layer with this activation makes of the steps.
    pub(super) fn step_by_step(
        &mut self,
        layer: &Recurrent,
        activation: Activation,
        steps: &Steps,
        initial: &[String],
    ) -> Result<Given, String> {
        let &[steps_dim, Dim::Fixed(inputs)] = steps.value.shape.as_slice() else {
            return Err("takes [steps, features]".to_owned());
        };
        let length = length(steps_dim).filter(|length| *length <= STEPS_MAX);
        let length = length.ok_or_else(|| {
            format!(
                "takes more than {STEPS_MAX} steps, or any number of them; at most {STEPS_MAX} are supported"
            )
        })?;
        let &[units, _] = layer.recurrent.shape.as_slice() else { return Err("has no units".to_owned()) };
        let shape = vec![Dim::Fixed(length), Dim::Fixed(units)];
        row_elements(&shape)?;
        let kernel = self.weights("kernel", &[inputs, units], &layer.kernel.values)?;
        let recurrent = self.weights("recurrent", &[units, units], &layer.recurrent.values)?;
        let mut projected = self.node("MatMul", &[&steps.value.name, &kernel], vec![]);
        if let Some(bias) = &layer.bias {
            let bias = self.weights("bias", &[units], &bias.values)?;
            projected = self.node("Add", &[&projected, &bias], vec![]);
        }
        // Zeros, as many rows as there are.
        let first = self.index(0);
        let row = self.node("Gather", &[&steps.value.name, &first], vec![int("axis", 0)]);
        let nothing = self.weights("nothing", &[inputs, units], &vec![0.0; inputs * units])?;
        let zeros = self.node("MatMul", &[&row, &nothing], vec![]);
        let counts = steps.mask.as_ref().map(|mask| self.by_step(mask));
        let mut last = initial.first().unwrap_or(&zeros).clone();
        let (mut all, axis) = (vec![String::new(); length], self.integers("axis", &[1]));
        for step in 0..length {
            let place = if layer.backwards { length - 1 - step } else { step };
            let index = self.index(place);
            let own = self.node("Gather", &[&projected, &index], vec![int("axis", 0)]);
            let remembered = self.node("MatMul", &[&last, &recurrent], vec![]);
            let sum = self.node("Add", &[&own, &remembered], vec![]);
            let given = self.called(activation, sum);
            let mut told = given.clone();
            last = match &counts {
                None => given,
                Some(counts) => {
                    let counts = self.node("Gather", &[counts, &index], vec![int("axis", 0)]);
                    let kept = self.node("Where", &[&counts, &given, &last], vec![]);
                    told = match layer.zero_masked {
                        true => self.node("Where", &[&counts, &given, &zeros], vec![]),
                        false => kept.clone(),
                    };
                    kept
                }
            };
            if let Some(own) = all.get_mut(place) {
                *own = told;
            }
        }
        let state = Value::floats(last, vec![Dim::Fixed(units)]);
        let states = if layer.states { vec![state.clone()] } else { Vec::new() };
        if !layer.sequences {
            return Ok(Given { value: state, states });
        }
        let steps: Vec<String> =
            all.iter().map(|given| self.node("Unsqueeze", &[given, &axis], vec![])).collect();
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        let value = Value::floats(self.node("Concat", &steps, vec![int("axis", 1)]), shape);
        Ok(Given { value, states })
    }

    /// Which steps count, `[steps, rows, 1]`.
    fn by_step(&mut self, mask: &str) -> String {
        let last = self.integers("axis", &[-1]);
        let counts = self.node("Transpose", &[mask], vec![ints("perm", vec![1, 0])]);
        self.node("Unsqueeze", &[&counts, &last], vec![])
    }

    /// What `activation` makes of the value called `name`.
    fn called(&mut self, activation: Activation, name: String) -> String {
        self.at = Value::floats(name, vec![Dim::Any]);
        self.function(activation);
        self.at.name.clone()
    }
}
