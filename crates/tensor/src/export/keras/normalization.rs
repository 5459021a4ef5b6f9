//! Keras' normalisations of what a row itself holds.

use formats::keras::Array;

use super::super::writer::{Step, Writer, float, int};

impl Writer {
    pub(super) fn layer_normalization(
        &mut self,
        gamma: Option<&Array>,
        beta: Option<&Array>,
        epsilon: f32,
    ) -> Step {
        self.lay_channels_last();
        let channels = self.channels()?;
        let scale = match gamma {
            Some(gamma) => self.weights("gamma", &[channels], &gamma.values)?,
            None => self.weights("gamma", &[channels], &vec![1.0; channels])?,
        };
        let shift = beta.map(|beta| self.weights("beta", &[channels], &beta.values)).transpose()?;
        let mut operands = vec![scale.as_str()];
        operands.extend(shift.as_deref());
        self.apply("LayerNormalization", &operands, vec![int("axis", -1), float("epsilon", epsilon)]);
        Ok(())
    }

    /// `groups` of 0 is one for each channel.
    pub(super) fn group_normalization(
        &mut self,
        groups: usize,
        gamma: Option<&Array>,
        beta: Option<&Array>,
        epsilon: f32,
    ) -> Step {
        let channels = self.channels()?;
        let groups = if groups == 0 { channels } else { groups };
        if !channels.is_multiple_of(groups) {
            return Err(format!("does not divide {channels} channels into {groups} groups"));
        }
        if self.at.shape.len() > 1 {
            self.lay_channels_first();
        }
        let shape = self.node("Shape", &[&self.at.name.clone()], vec![]);
        // A 0 keeps the batch dimension.
        let grouped = self.integers("shape", &[0, groups as i64, -1]);
        self.apply("Reshape", &[&grouped], vec![]);
        let scale = self.weights("scale", &[groups], &vec![1.0; groups])?;
        let shift = self.weights("shift", &[groups], &vec![0.0; groups])?;
        self.apply("InstanceNormalization", &[&scale, &shift], vec![float("epsilon", epsilon)]);
        self.apply("Reshape", &[&shape], vec![]);
        if let Some(gamma) = gamma {
            self.per_channel("Mul", "gamma", &gamma.values)?;
        }
        beta.map_or(Ok(()), |beta| self.per_channel("Add", "beta", &beta.values))
    }

    pub(super) fn rms_normalization(&mut self, gamma: &Array, epsilon: f32) -> Step {
        self.lay_channels_last();
        let own = self.at.name.clone();
        let (last, epsilon) = (self.integers("axis", &[-1]), self.scalar("epsilon", epsilon));
        self.apply("Mul", &[&own], vec![]);
        self.apply("ReduceMean", &[&last], vec![int("keepdims", 1)]);
        self.apply("Add", &[&epsilon], vec![]);
        self.apply("Sqrt", &[], vec![]);
        let size = std::mem::replace(&mut self.at.name, own);
        self.apply("Div", &[&size], vec![]);
        self.per_channel("Mul", "gamma", &gamma.values)
    }

    pub(super) fn unit_normalization(&mut self, axes: &[i64]) -> Step {
        self.lay_channels_last();
        let place = |axis: &i64| self.place(*axis, 0).map(|place| place as i64 + 1);
        let axes = axes.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        self.at.name = self.unit(&self.at.name.clone(), &axes);
        Ok(())
    }

    /// The value called `name`, its batch being axis 0, brought to length 1 along `axes`.
    pub(super) fn unit(&mut self, name: &str, axes: &[i64]) -> String {
        let (axes, least) = (self.integers("axes", axes), self.scalar("least", 1e-12));
        let length = self.node("ReduceL2", &[name, &axes], vec![int("keepdims", 1)]);
        let length = self.node("Max", &[&length, &least], vec![]);
        self.node("Div", &[name, &length], vec![])
    }
}
