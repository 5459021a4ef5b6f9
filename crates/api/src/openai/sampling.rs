//! How tokens are chosen: the fields that chat completions, completions and responses share.

use llm::SamplingParams;
use serde_json::Value;

use crate::Fault;
use crate::fields::{Fields, invalid};

/// Reads `temperature` and the other fields that change how tokens are chosen. `top_k`, `min_p`, `typical_p` and
/// `repetition_penalty` are not OpenAI's; other servers have them under these names.
pub(super) fn read(fields: &mut Fields) -> Result<SamplingParams, Fault> {
    let usual = SamplingParams::default();
    Ok(SamplingParams {
        temperature: fields.number("temperature", 0.0..=2.0)?.unwrap_or(usual.temperature),
        top_p: fields.number("top_p", 0.0..=1.0)?.unwrap_or(usual.top_p),
        top_k: fields.whole("top_k", 0..=i64::from(u32::MAX))?.map_or(usual.top_k, |k| k as u32),
        min_p: fields.number("min_p", 0.0..=1.0)?.unwrap_or(usual.min_p),
        typical_p: fields.number("typical_p", 0.0..=1.0)?.unwrap_or(usual.typical_p),
        repetition_penalty: fields
            .number("repetition_penalty", 0.01..=100.0)?
            .unwrap_or(usual.repetition_penalty),
        presence_penalty: fields.number("presence_penalty", -2.0..=2.0)?.unwrap_or(usual.presence_penalty),
        frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0)?.unwrap_or(usual.frequency_penalty),
        logit_bias: biases(fields)?,
        seed: fields.whole("seed", i64::MIN..=i64::MAX)?.map(i64::cast_unsigned),
    })
}

/// `{"50256": -100}`
fn biases(fields: &mut Fields) -> Result<Vec<(u32, f32)>, Fault> {
    let path = fields.path("logit_bias");
    let Some(value) = fields.take("logit_bias") else { return Ok(Vec::new()) };
    let Value::Object(map) = value else {
        return Err(invalid(path, "must be an object of numbers by token"));
    };
    let bias = |(token, bias): (String, Value)| {
        let token = token.parse().ok();
        let bias = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias));
        let wrong = || invalid(path.clone(), "must give token numbers each a number between -100 and 100");
        token.zip(bias).map(|(token, bias)| (token, bias as f32)).ok_or_else(wrong)
    };
    map.into_iter().map(bias).collect()
}
