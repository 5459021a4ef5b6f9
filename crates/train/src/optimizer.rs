//! [`Stepper`]: Keras' update rules over flat arrays.

use formats::spec::{Optimizer, Rule};

/// An optimiser with its moments.
pub(crate) struct Stepper {
    optimizer: Optimizer,
    /// Steps done.
    steps: i32,
    /// Per parameter array: first moment, second moment (empty where the rule has none).
    moments: Vec<[Vec<f32>; 2]>,
}

impl Stepper {
    /// For arrays of these lengths.
    pub(crate) fn new(optimizer: Optimizer, lengths: impl Iterator<Item = usize>) -> Self {
        let moments = lengths.map(|n| match optimizer.rule {
            Rule::Sgd { momentum: 0.0, .. } => [Vec::new(), Vec::new()],
            Rule::Sgd { .. } => [vec![0.0; n], Vec::new()],
            Rule::Adam { .. } => [vec![0.0; n], vec![0.0; n]],
        });
        Stepper { optimizer, steps: 0, moments: moments.collect() }
    }

    /// Begins a step; then [`Stepper::update`] each array.
    pub(crate) fn begin(&mut self) {
        self.steps = self.steps.saturating_add(1);
    }

    /// Moves array number `index` against its gradient.
    pub(crate) fn update(&mut self, index: usize, values: &mut [f32], gradient: &[f32]) {
        let Optimizer { rule, learning_rate: rate, weight_decay } = self.optimizer;
        if weight_decay > 0.0 {
            let keep = (1.0 - weight_decay * rate) as f32;
            values.iter_mut().for_each(|v| *v *= keep);
        }
        let Some([first, second]) = self.moments.get_mut(index) else { return };
        match rule {
            Rule::Sgd { momentum: 0.0, .. } => {
                let rate = rate as f32;
                values.iter_mut().zip(gradient).for_each(|(v, g)| *v -= rate * g);
            }
            Rule::Sgd { momentum, nesterov } => {
                momentum_step(values, gradient, first, rate as f32, momentum as f32, nesterov);
            }
            Rule::Adam { beta_1, beta_2, epsilon } => {
                let correction = (1.0 - beta_2.powi(self.steps)).sqrt() / (1.0 - beta_1.powi(self.steps));
                let rate = (rate * correction) as f32;
                let betas = [1.0 - beta_1 as f32, 1.0 - beta_2 as f32];
                adam_step(values, gradient, first, second, rate, betas, epsilon as f32);
            }
        }
    }
}

fn momentum_step(
    values: &mut [f32],
    gradient: &[f32],
    moment: &mut [f32],
    rate: f32,
    momentum: f32,
    nesterov: bool,
) {
    for ((v, g), m) in values.iter_mut().zip(gradient).zip(moment) {
        *m = momentum * *m - rate * g;
        *v += if nesterov { momentum * *m - rate * g } else { *m };
    }
}

/// `rate` holds the bias corrections; `gains` are one minus the decays.
fn adam_step(
    values: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    rate: f32,
    gains: [f32; 2],
    epsilon: f32,
) {
    for (((v, g), m), s) in values.iter_mut().zip(gradient).zip(first).zip(second) {
        *m += (g - *m) * gains[0];
        *s += (g * g - *s) * gains[1];
        *v -= rate * *m / (s.sqrt() + epsilon);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn adam_follows_its_formula() {
        let optimizer = Optimizer { learning_rate: 0.1, ..Optimizer::default() };
        let mut stepper = Stepper::new(optimizer, [1].into_iter());
        let mut x = [1.0f32];
        for _ in 0..3 {
            let gradient = [2.0 * x[0]];
            stepper.begin();
            stepper.update(0, &mut x, &gradient);
        }
        // By hand: m̂/√v̂ of gradients 2, 1.8, 1.60041…
        assert!((x[0] - 0.701_67).abs() < 2e-4, "{}", x[0]);
    }

    #[test]
    fn momentum_repeats_the_last_step() {
        let rule = Rule::Sgd { momentum: 0.9, nesterov: false };
        let mut stepper =
            Stepper::new(Optimizer { rule, learning_rate: 0.1, weight_decay: 0.0 }, [1].into_iter());
        let mut x = [0.0f32];
        for _ in 0..2 {
            stepper.begin();
            stepper.update(0, &mut x, &[1.0]);
        }
        assert!((x[0] + 0.29).abs() < 1e-6, "{}", x[0]);
    }
}
