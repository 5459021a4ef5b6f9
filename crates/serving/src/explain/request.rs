//! [`Explain`]: what to explain and how; [`Explanation`]: the answer.

use std::ops::Range;

use formats::Value;

use crate::error::PredictError;

/// Bounds of [`Method::SampledShapley`]'s `path_count`, as Vertex AI has them.
const PATH_COUNT: std::ops::RangeInclusive<u32> = 1..=50;
/// Bounds of [`Method::IntegratedGradients`]'s `step_count`, as Vertex AI has them.
const STEP_COUNT: std::ops::RangeInclusive<u32> = 1..=100;

/// An attribution method with its effort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Sampled Shapley values, for any model. Every column of the instance, every element of a model's own
    /// inputs, every token of a text, and every area of a picture that goes to a model made elsewhere takes part.
    SampledShapley {
        /// Random orders in which the parts join, 1 to 50.
        path_count: u32,
    },
    /// Integrated gradients, for networks trained here and for those made elsewhere of the same layers.
    IntegratedGradients {
        /// Steps from the baseline to the instance, 1 to 100.
        step_count: u32,
    },
}

/// What to explain and how. What is left open is decided by the deployed model's own [`Explain`], then by the
/// defaults named here.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Explain {
    /// The method with its effort. By default sampled Shapley values over ten orders.
    pub method: Option<Method>,
    /// The values that attributions are measured from, by column, or by input of a model made elsewhere. By
    /// default what stands for "nothing known": the empty text, the training rows' mean for numbers, no
    /// category; zeros for models made elsewhere; the mean colour of a picture.
    pub baselines: Vec<(String, Value)>,
    /// The class to explain, by its label; an output element by its index for models made elsewhere. By
    /// default the one with the highest score.
    pub output: Option<String>,
    /// The same seed draws the same orders.
    pub seed: u64,
}

impl Explain {
    /// What is asked for here, and where that is open, what `other` says.
    #[must_use]
    pub(crate) fn or(mut self, other: Option<&Explain>) -> Explain {
        let Some(other) = other else { return self };
        self.method = self.method.or(other.method);
        if self.baselines.is_empty() {
            self.baselines.clone_from(&other.baselines);
        }
        self.output = self.output.or_else(|| other.output.clone());
        self
    }

    /// The method to use, if its effort is within bounds.
    pub(crate) fn method(&self) -> Result<Method, PredictError> {
        let method = self.method.unwrap_or(Method::SampledShapley { path_count: 10 });
        let (name, count, range) = match method {
            Method::SampledShapley { path_count } => ("path count", path_count, PATH_COUNT),
            Method::IntegratedGradients { step_count } => ("step count", step_count, STEP_COUNT),
        };
        if range.contains(&count) {
            return Ok(method);
        }
        let (least, most) = range.into_inner();
        Err(PredictError::BadRequest {
            message: format!("the {name} must be {least} to {most}, not {count}"),
        })
    }

    /// The baseline given for a column or input.
    pub(crate) fn baseline(&self, name: &str) -> Option<&Value> {
        self.baselines.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// Refuses a baseline of something that is not among `names`.
    pub(crate) fn check_baselines(&self, names: &[&str]) -> Result<(), PredictError> {
        match self.baselines.iter().find(|(name, _)| !names.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => {
                let message = format!("a baseline is given for `{name}`, which is not an input of the model");
                Err(PredictError::BadRequest { message })
            }
        }
    }
}

/// Why an output is what it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Which output element is explained: the index of the class.
    pub output_index: usize,
    /// The class, where the model names its classes.
    pub output_name: Option<String>,
    /// The output for the baseline.
    pub baseline_output: f64,
    /// The output for the instance.
    pub instance_output: f64,
    /// What each part contributed. All values together come to `instance_output - baseline_output`, but for
    /// the approximation error.
    pub attributions: Vec<Attribution>,
    /// See [`analysis::completeness_gap`].
    pub approximation_error: f64,
}

/// What one column or input contributed.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribution {
    /// The column, or the input of a model made elsewhere.
    pub feature: String,
    /// The tokens of a text: byte range in the text, and the text of the token.
    pub tokens: Option<Vec<(Range<usize>, String)>>,
    /// One value per token or area of a picture; otherwise one per element, which for a column is one.
    pub values: Vec<f64>,
    /// A PNG file of the picture that the network saw, its areas red where they speak for the output and blue where
    /// they speak against it.
    pub heat_map: Option<Vec<u8>>,
}

/// Tokens with their texts.
pub(super) fn cut(text: &str, ranges: Vec<Range<usize>>) -> Vec<(Range<usize>, String)> {
    let with_text = |range: Range<usize>| (range.clone(), text.get(range).unwrap_or_default().to_owned());
    ranges.into_iter().map(with_text).collect()
}
