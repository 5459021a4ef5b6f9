//! Rotary positions (Su et al., 2021, "RoFormer"): which pairs of a head's numbers are turned, and by which angles.

use formats::Format;

use super::Keys;
use crate::load::LoadError;

/// Which numbers of a head make a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pairs {
    /// Neighbours: 0 with 1, 2 with 3.
    Neighbours,
    /// Halves: 0 with `dims / 2`, 1 with `dims / 2 + 1`.
    Halves,
}

/// How positions turn queries and keys.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rope {
    pub(crate) pairs: Pairs,
    /// How many of a head's numbers are turned; the first ones.
    pub(crate) dims: usize,
    /// Pair `i` turns by `base^(-2i / dims)` a position.
    pub(crate) base: f32,
    pub(crate) scaling: RopeScaling,
}

/// How angles are made smaller, for contexts beyond those of the first training.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RopeScaling {
    /// Not at all.
    None,
    /// All by the same factor.
    Linear { factor: f32 },
    /// Each pair's by its own factor; the result is multiplied with `magnitude`.
    Factors { factors: Vec<f32>, magnitude: f32 },
    /// Slow pairs by the factor, fast ones not, those between in proportion (Peng et al., 2023, "YaRN").
    Yarn { factor: f32, original: f32, fast: f32, slow: f32, rounded: bool },
}

impl Rope {
    /// What the metadata says of positions. `head_dim` is what is turned where it does not say.
    pub(super) fn read(keys: &Keys<'_>, pairs: Pairs, head_dim: usize) -> Result<Rope, LoadError> {
        let dims = keys.count_or("rope.dimension_count", 1 << 12, head_dim)?;
        let base = keys.number("rope.freq_base")?.unwrap_or(10_000.0);
        let factor = keys.number("rope.scaling.factor")?;
        let scaling = match (keys.word("rope.scaling.type")?, factor) {
            (Some("linear"), Some(factor)) => RopeScaling::Linear { factor },
            (Some("yarn"), Some(factor)) => yarn(keys, factor)?,
            (None | Some("none" | "linear" | "longrope"), _) => RopeScaling::None,
            (Some(other), _) => {
                let wanted = format!("none, linear, yarn with a factor, or longrope, not {other:?}");
                return Err(keys.refuse("rope.scaling.type", &wanted));
            }
        };
        Ok(Rope { pairs, dims, base, scaling })
    }

    /// Factors from a tensor of the file, one a pair, if it is there.
    pub(super) fn factors(&self, keys: &Keys<'_>, tensor: &str) -> Result<Option<Vec<f32>>, LoadError> {
        let Some(view) = keys.gguf.tensor(tensor) else { return Ok(None) };
        let expected = vec![self.dims / 2];
        if view.shape != expected || view.format != Format::F32 {
            return Err(LoadError::Tensor { name: tensor.to_string(), expected, found: view.shape.to_vec() });
        }
        let numbers = view.bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let factors: Vec<f32> = numbers.collect();
        if factors.iter().all(|factor| factor.is_finite() && *factor > 0.0) {
            return Ok(Some(factors));
        }
        Err(LoadError::Shape(format!("`{tensor}` holds factors that are not above zero")))
    }

    /// The angle of each pair a position, in radians, and what the turned numbers are multiplied with.
    pub(crate) fn angles(&self) -> (Vec<f64>, f32) {
        let angle = |pair: usize| f64::from(self.base).powf(-2.0 * pair as f64 / self.dims as f64);
        let pairs = 0..self.dims / 2;
        match &self.scaling {
            RopeScaling::None => (pairs.map(angle).collect(), 1.0),
            RopeScaling::Linear { factor } => {
                (pairs.map(|pair| angle(pair) / f64::from(*factor)).collect(), 1.0)
            }
            RopeScaling::Factors { factors, magnitude } => {
                (pairs.map(|pair| angle(pair) / f64::from(factors[pair])).collect(), *magnitude)
            }
            RopeScaling::Yarn { factor, original, fast, slow, rounded } => {
                let (mut low, mut high) =
                    (self.pair_turning(*original, *fast), self.pair_turning(*original, *slow));
                if *rounded {
                    (low, high) = (low.floor(), high.ceil());
                }
                let (low, high) = (low.max(0.0), high.min(self.dims as f64 - 1.0));
                let between = |pair: usize| {
                    let slowness = ((pair as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
                    angle(pair) * (1.0 - slowness) + angle(pair) / f64::from(*factor) * slowness
                };
                (pairs.map(between).collect(), 0.1 * factor.ln() + 1.0)
            }
        }
    }

    /// The pair, not whole, that makes `turns` turns over the original context.
    fn pair_turning(&self, original: f32, turns: f32) -> f64 {
        let ratio = f64::from(original) / (f64::from(turns) * std::f64::consts::TAU);
        self.dims as f64 * ratio.ln() / (2.0 * f64::from(self.base).ln())
    }
}

fn yarn(keys: &Keys<'_>, factor: f32) -> Result<RopeScaling, LoadError> {
    Ok(RopeScaling::Yarn {
        factor,
        original: keys.positive("rope.scaling.original_context_length")?,
        fast: keys.number("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
        slow: keys.number("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
        rounded: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yarn_leaves_fast_pairs_and_slows_slow_ones() {
        let scaling =
            RopeScaling::Yarn { factor: 32.0, original: 4096.0, fast: 32.0, slow: 1.0, rounded: false };
        let rope = Rope { pairs: Pairs::Halves, dims: 64, base: 150_000.0, scaling };
        let plain = Rope { scaling: RopeScaling::None, ..rope.clone() }.angles().0;
        let (angles, magnitude) = rope.angles();
        assert_eq!(angles[0], plain[0]);
        assert!((angles[31] - plain[31] / 32.0).abs() < 1e-12);
        assert!(angles[12] < plain[12] && angles[12] > plain[12] / 32.0);
        assert!((magnitude - 1.346_573_6).abs() < 1e-6);
    }
}
