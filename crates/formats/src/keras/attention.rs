//! [`Attention`]: layers whose steps look at others.

use super::Array;
use super::read::{COUNT_MAX, flag, number, required, shape};
use super::weights::{Budget, Vars, member};
use crate::Value;
use crate::hdf5::Group;
use crate::spec::SpecError;
use crate::spec::fields::Fields;

/// How the steps of a query see those of a key, and what of a value they take. A layer takes the query, the value, and
/// the key where it is another than the value.
#[derive(Debug, Clone, PartialEq)]
pub enum Attention {
    /// `softmax(q · k / sqrt(width)) · v` for each of several heads, whose answers are weighted and added up.
    Heads(Box<Heads>),
    /// `softmax(scale * q · k) · v`
    Dot {
        /// 1 where there is none.
        scale: f32,
    },
    /// `softmax(sum(outer * tanh(inner * (q + k)))) · v`, the sum over the last axis.
    Additive {
        /// One number.
        inner: f32,
        /// One number, or one for each channel.
        outer: Vec<f32>,
    },
}

/// What several heads look through.
#[derive(Debug, Clone, PartialEq)]
pub struct Heads {
    /// `[inputs, heads, width]`
    pub query: Projection,
    /// `[inputs, heads, width]`
    pub key: Projection,
    /// `[inputs, heads, width of values]`
    pub value: Projection,
    /// `[heads, width of values, outputs]`
    pub output: Projection,
    /// Whether a step that may look at nothing takes nothing; else it takes the same of all. Keras has it so in layers
    /// with a dropout.
    pub blank: bool,
}

/// Weights and, where there is one, a bias.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    /// The weights.
    pub kernel: Array,
    /// Of the kernel's last dimensions.
    pub bias: Option<Array>,
}

impl Projection {
    /// The one called `name` among the weights in `group`.
    fn read(
        at: &str,
        group: Option<&Group<'_>>,
        name: &str,
        use_bias: bool,
        budget: &mut Budget,
    ) -> Result<Projection, SpecError> {
        let own = member(at, group, name)?;
        let mut vars = Vars::of(at, own.as_ref(), budget)?;
        let projection = Projection { kernel: vars.take("kernel")?, bias: vars.take_if(use_bias, "bias")? };
        if projection.kernel.shape.len() != 3 {
            return Err(shape(at, &projection.kernel));
        }
        Ok(projection)
    }
}

/// Reads `MultiHeadAttention`.
pub(super) fn heads(
    at: &str,
    options: &mut Fields<'_>,
    group: Option<&Group<'_>>,
    budget: &mut Budget,
) -> Result<Attention, SpecError> {
    options.ignore(&["output_shape", "flash_attention"]);
    let blank = number(options, "dropout", 0.0)? > 0.0;
    options.only("use_gate", &[Value::Bool(false)])?;
    options.only("sliding_window", &[])?;
    options.only("attention_axes", &[Value::Number(1.0), Value::Numbers(vec![1.0])])?;
    let (heads, width) = (required(options, "num_heads")?, required(options, "key_dim")?);
    let value_width = options.count("value_dim", 1, COUNT_MAX)?.unwrap_or(width);
    let use_bias = flag(options, "use_bias", true)?;
    let mut read = |name| Projection::read(at, group, name, use_bias, budget);
    let (query, key) = (read("query_dense")?, read("key_dense")?);
    let (value, output) = (read("value_dense")?, read("output_dense")?);
    for (projection, wanted) in [(&query, width), (&key, width), (&value, value_width)] {
        let bias = projection.bias.as_ref().is_none_or(|bias| bias.shape == [heads, wanted]);
        if projection.kernel.shape.get(1..) != Some(&[heads, wanted]) || !bias {
            return Err(shape(at, &projection.kernel));
        }
    }
    let bias = output.bias.as_ref().is_none_or(|bias| output.kernel.shape.ends_with(&bias.shape));
    if output.kernel.shape.get(..2) != Some(&[heads, value_width]) || !bias {
        return Err(shape(at, &output.kernel));
    }
    Ok(Attention::Heads(Box::new(Heads { query, key, value, output, blank })))
}

/// Reads `Attention`.
pub(super) fn plain(options: &mut Fields<'_>, vars: &mut Vars<'_, '_>) -> Result<Attention, SpecError> {
    options.ignore(&["dropout"]);
    let use_scale = flag(options, "use_scale", false)?;
    let mut number = |present, what| Ok::<_, SpecError>(vars.take_if(present, what)?.map(|a| a.values));
    let one = |values: Option<Vec<f32>>| values.and_then(|values| values.first().copied()).unwrap_or(1.0);
    let scale = one(number(use_scale, "scale")?);
    match options.text("score_mode")? {
        None | Some("dot") => Ok(Attention::Dot { scale }),
        Some("concat") => {
            Ok(Attention::Additive { inner: scale, outer: vec![one(number(true, "score weight")?)] })
        }
        Some(other) => Err(options.error("score_mode", format!("`{other}` is not supported"))),
    }
}

/// Reads `AdditiveAttention`.
pub(super) fn additive(options: &mut Fields<'_>, vars: &mut Vars<'_, '_>) -> Result<Attention, SpecError> {
    options.ignore(&["dropout"]);
    let use_scale = flag(options, "use_scale", true)?;
    let outer = vars.take_if(use_scale, "scale")?.map_or_else(|| vec![1.0], |scale| scale.values);
    Ok(Attention::Additive { inner: 1.0, outer })
}
