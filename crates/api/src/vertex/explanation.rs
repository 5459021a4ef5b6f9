//! Explanation specifications: how a model explains when a request does not say.

use control::{ExampleSource, ExplanationMethod, ExplanationSpec};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::rpc::to_json;
use crate::Fault;

/// `ExplanationSpec` as a client writes it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SpecWire {
    #[serde(default)]
    pub(super) parameters: ParametersWire,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<Metadata>,
}

/// `ExplanationParameters`: the method. What is left out here (XRAI, noise, top-k) is refused.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ParametersWire {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sampled_shapley_attribution: Option<ShapleyWire>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    integrated_gradients_attribution: Option<GradientsWire>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    examples: Option<ExamplesWire>,
}

/// `Examples`. The search is exact, whatever precision is asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExamplesWire {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    example_gcs_source: Option<ExampleSourceWire>,
    #[serde(default)]
    neighbor_count: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    presets: Option<PresetsWire>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExampleSourceWire {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data_format: Option<Value>,
    gcs_source: UrisWire,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UrisWire {
    #[serde(default)]
    uris: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PresetsWire {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    query: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    modality: Option<Value>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ShapleyWire {
    #[serde(default)]
    path_count: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GradientsWire {
    #[serde(default)]
    step_count: i64,
}

/// `ExplanationMetadata`. Inputs and outputs are known from the model's signature; clients must write
/// them, so they are kept. Baselines are honoured.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Metadata {
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(super) inputs: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    outputs: Map<String, Value>,
}

/// The specification that `wire` describes.
///
/// # Errors
/// If it names no method, or an effort that cannot be.
pub(super) fn from_wire(wire: SpecWire) -> Result<ExplanationSpec, Fault> {
    let method = method(&wire.parameters)?.ok_or_else(|| {
        Fault::invalid(
            "explanationSpec.parameters names no method: give sampledShapleyAttribution, \
             integratedGradientsAttribution or examples",
        )
    })?;
    let outputs = wire.metadata.iter().flat_map(|metadata| metadata.outputs.values());
    let output = outputs.into_iter().find_map(|output| output.get("outputTensorName")?.as_str());
    let examples = wire.parameters.examples.as_ref().map(|examples| source(examples, output)).transpose()?;
    Ok(ExplanationSpec { method, examples, as_written: to_json(&wire)? })
}

/// The method that `wire` names, if any.
///
/// # Errors
/// If it names two, or an effort that cannot be.
pub(super) fn method(wire: &ParametersWire) -> Result<Option<ExplanationMethod>, Fault> {
    let ParametersWire { sampled_shapley_attribution, integrated_gradients_attribution, examples } = wire;
    match (sampled_shapley_attribution, integrated_gradients_attribution, examples) {
        (None, None, None) => Ok(None),
        (Some(shapley), None, None) => {
            let path_count = effort("sampledShapleyAttribution.pathCount", shapley.path_count, 50)?;
            Ok(Some(ExplanationMethod::SampledShapley { path_count }))
        }
        (None, Some(gradients), None) => {
            let step_count = effort("integratedGradientsAttribution.stepCount", gradients.step_count, 100)?;
            Ok(Some(ExplanationMethod::IntegratedGradients { step_count }))
        }
        (None, None, Some(examples)) => {
            let neighbor_count = effort("examples.neighborCount", examples.neighbor_count, 1000)?;
            Ok(Some(ExplanationMethod::NearestExamples { neighbor_count }))
        }
        _ => Err(Fault::invalid("an explanation has one method, not two")),
    }
}

/// Where the examples lie.
fn source(wire: &ExamplesWire, output: Option<&str>) -> Result<ExampleSource, Fault> {
    const FIELD: &str = "explanationSpec.parameters.examples.exampleGcsSource";
    let missing = || Fault::invalid(format!("{FIELD} is missing: say where the examples lie"));
    let source = wire.example_gcs_source.as_ref().ok_or_else(missing)?;
    let format = source.data_format.as_ref();
    if format.is_some_and(|format| !matches!(format.as_str(), Some("JSONL" | "DATA_FORMAT_UNSPECIFIED"))) {
        return Err(Fault::invalid(format!("{FIELD}.dataFormat must be JSONL")));
    }
    if source.gcs_source.uris.is_empty() {
        return Err(Fault::invalid(format!("{FIELD}.gcsSource.uris is empty")));
    }
    Ok(ExampleSource { uris: source.gcs_source.uris.clone(), output: output.map(str::to_owned), index: None })
}

fn effort(name: &str, value: i64, max: u32) -> Result<u32, Fault> {
    u32::try_from(value)
        .ok()
        .filter(|value| (1..=max).contains(value))
        .ok_or_else(|| Fault::invalid(format!("{name} is {value}; it must be 1 to {max}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn read(json: Value) -> Result<ExplanationSpec, Fault> {
        from_wire(super::super::rpc::read_value(json)?)
    }

    #[test]
    fn methods_are_read_and_kept_as_written() {
        let written = json!({"parameters": {"sampledShapleyAttribution": {"pathCount": 10}}, "metadata": {"inputs": {"x": {}}}});
        let spec = read(written.clone()).unwrap();
        assert_eq!(spec.method, ExplanationMethod::SampledShapley { path_count: 10 });
        assert_eq!(spec.as_written, written);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for (spec, named) in [
            (json!({"parameters": {"xraiAttribution": {"stepCount": 5}}}), "xraiAttribution"),
            (json!({"parameters": {"topK": 5}}), "parameters.topK"),
            (json!({"parameters": {"sampledShapleyAttribution": {"pathCount": 51}}}), "pathCount"),
            (json!({"parameters": {"integratedGradientsAttribution": {}}}), "stepCount"),
            (json!({}), "names no method"),
        ] {
            let fault = read(spec).unwrap_err();
            assert!(fault.message.contains(named), "{}", fault.message);
        }
    }
}
