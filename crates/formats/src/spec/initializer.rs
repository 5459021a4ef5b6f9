//! [`Initializer`]: how weights start.

use serde::{Deserialize, Serialize};

use super::SpecError;
use super::fields::{Fields, brief};
use crate::Value;

/// The distribution from which weights start; names and formulas are Keras'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Initializer {
    /// Uniform within `sqrt(6 / (inputs + outputs))`.
    GlorotUniform,
    /// Normal, cut at two deviations, variance `2 / (inputs + outputs)`.
    GlorotNormal,
    /// Uniform within `sqrt(6 / inputs)`.
    HeUniform,
    /// Normal, cut at two deviations, variance `2 / inputs`.
    HeNormal,
    /// Uniform within `sqrt(3 / inputs)`.
    LecunUniform,
    /// Normal, cut at two deviations, variance `1 / inputs`.
    LecunNormal,
    /// Uniform within 0.05.
    RandomUniform,
    /// Normal with deviation 0.05.
    RandomNormal,
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
}

/// Names as Keras writes them, in snake case; class names are the same without underscores.
const NAMES: [(&str, Initializer); 10] = [
    ("glorot_uniform", Initializer::GlorotUniform),
    ("glorot_normal", Initializer::GlorotNormal),
    ("he_uniform", Initializer::HeUniform),
    ("he_normal", Initializer::HeNormal),
    ("lecun_uniform", Initializer::LecunUniform),
    ("lecun_normal", Initializer::LecunNormal),
    ("random_uniform", Initializer::RandomUniform),
    ("random_normal", Initializer::RandomNormal),
    ("zeros", Initializer::Zeros),
    ("ones", Initializer::Ones),
];

impl Initializer {
    /// Reads a name, or Keras' `{class_name, config}`.
    pub(crate) fn read(at: &str, value: &Value) -> Result<Self, SpecError> {
        let (name, config) = match value {
            Value::Text(name) => (name.as_str(), None),
            Value::Record(_) => {
                let mut fields = Fields::new(at, value)?;
                fields.ignore(&["module", "registered_name", "build_config", "shared_object_id"]);
                let name =
                    fields.text("class_name")?.ok_or_else(|| fields.error("class_name", "is missing"))?;
                let config = fields.take("config");
                fields.finish()?;
                (name, config)
            }
            other => {
                return Err(SpecError::new(at, format!("expected an initialiser, found {}", brief(other))));
            }
        };
        let initializer = named(at, name)?;
        if let Some(config) = config {
            let mut options = Fields::keras(format!("{at}.config"), config)?;
            initializer.check(&mut options)?;
            options.finish()?;
        }
        Ok(initializer)
    }

    /// Accepts the options of Keras' constructor at their default values only.
    fn check(self, options: &mut Fields<'_>) -> Result<(), SpecError> {
        options.ignore(&["name", "dtype"]);
        if let Some(seed) = options.take("seed") {
            return Err(options
                .error("seed", format!("{} is not supported; set `seed` of the training", brief(seed))));
        }
        match self {
            Initializer::RandomUniform => {
                options.only("minval", &[Value::Number(-0.05)])?;
                options.only("maxval", &[Value::Number(0.05)])
            }
            Initializer::RandomNormal => {
                options.only("mean", &[Value::Number(0.0)])?;
                options.only("stddev", &[Value::Number(0.05)])
            }
            _ => Ok(()),
        }
    }
}

fn named(at: &str, name: &str) -> Result<Initializer, SpecError> {
    let same = |known: &str| known.replace('_', "").eq_ignore_ascii_case(&name.replace('_', ""));
    NAMES.iter().find(|(known, _)| same(known)).map(|(_, i)| *i).ok_or_else(|| {
        let known: Vec<&str> = NAMES.iter().map(|(known, _)| *known).collect();
        SpecError::new(
            at,
            format!("the initialiser `{name}` is not supported; there are: {}", known.join(", ")),
        )
    })
}
