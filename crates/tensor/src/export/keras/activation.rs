//! Keras' activations as ONNX operators.

use formats::keras::{Activation, Array};

use super::super::Activation as Plain;
use super::super::writer::{Step, Writer, float, int, shown};
use crate::Dim;

impl Writer {
    pub(super) fn function(&mut self, activation: Activation) {
        match activation {
            Activation::Linear => {}
            Activation::Relu { max: None } => self.activation(Plain::Relu),
            Activation::Relu { max: Some(max) } => self.clip(0.0, max),
            Activation::LeakyRelu { negative_slope } => self.activation(Plain::LeakyRelu { negative_slope }),
            Activation::Sigmoid => self.activation(Plain::Sigmoid),
            Activation::Tanh => self.activation(Plain::Tanh),
            Activation::Softmax => self.activation(Plain::Softmax),
            Activation::LogSoftmax => {
                let axis = if self.at.channels_first { 1 } else { -1 };
                self.apply("LogSoftmax", &[], vec![int("axis", axis)]);
            }
            Activation::Gelu { approximate } => self.activation(Plain::Gelu { approximate }),
            Activation::Elu { alpha } => self.activation(Plain::Elu { alpha }),
            Activation::Selu => self.activation(Plain::Selu),
            Activation::Softplus => self.activation(Plain::Softplus),
            Activation::Softsign => self.apply("Softsign", &[], vec![]),
            Activation::Silu => self.with_itself("Mul", &["Sigmoid"]),
            Activation::Mish => self.with_itself("Mul", &["Softplus", "Tanh"]),
            Activation::HardSigmoid => {
                self.apply("HardSigmoid", &[], vec![float("alpha", 1.0 / 6.0), float("beta", 0.5)]);
            }
            Activation::HardSilu => self.apply("HardSwish", &[], vec![]),
            Activation::HardTanh => self.clip(-1.0, 1.0),
            Activation::LogSigmoid => {
                for op in ["Neg", "Softplus", "Neg"] {
                    self.apply(op, &[], vec![]);
                }
            }
            Activation::Exponential => self.apply("Exp", &[], vec![]),
            Activation::TanhShrink => self.with_itself("Sub", &["Tanh"]),
        }
    }

    pub(super) fn prelu(&mut self, alpha: &Array) -> Step {
        self.lay_channels_last();
        let fits = |(alpha, row): (&usize, &Dim)| *alpha == 1 || Dim::Fixed(*alpha) == *row;
        if alpha.shape.len() != self.at.shape.len() || !alpha.shape.iter().zip(&self.at.shape).all(fits) {
            return Err(format!(
                "its alpha has shape {:?} for rows of shape {}",
                alpha.shape,
                shown(&self.at.shape)
            ));
        }
        let slope = self.weights("alpha", &alpha.shape, &alpha.values)?;
        self.apply("PRelu", &[&slope], vec![]);
        Ok(())
    }

    fn clip(&mut self, min: f32, max: f32) {
        let (min, max) = (self.scalar("min", min), self.scalar("max", max));
        self.apply("Clip", &[&min, &max], vec![]);
    }

    /// The value, and what `functions` make of it one after the other, through `op`.
    fn with_itself(&mut self, op: &str, functions: &[&str]) {
        let own = self.at.name.clone();
        for function in functions {
            self.apply(function, &[], vec![]);
        }
        let changed = std::mem::replace(&mut self.at.name, own);
        self.apply(op, &[&changed], vec![]);
    }
}
