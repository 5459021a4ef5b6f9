//! Online explanation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control::{Amount, ExplanationMethod};
use formats::Value as Row;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use serving::{Attribution, Explain, Explanation, Method, NearAnswer, NearExample};

use super::explain_answer;
use super::explanation::{ParametersWire, method};
use super::predict::{Rows, check_parameters, refused};
use super::rpc::{Served, direct, read_value, to_json};
use super::schema::{Schema, sendable};
use crate::http::Permission::Invoke;
use crate::http::{Call, Handler, Response, Template, handler, json_reply};
use crate::{Fault, metering};

/// The procedures of this file.
pub(super) fn served() -> Vec<Served> {
    vec![direct("PredictionService.Explain", Invoke, explain_handler).takes::<Request>()]
}

/// `ExplainRequest`, as JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Request {
    #[serde(default)]
    instances: Option<Vec<Row>>,
    #[serde(default)]
    parameters: Option<Row>,
    #[serde(default)]
    explanation_spec_override: Option<OverrideWire>,
    #[serde(default)]
    deployed_model_id: Option<String>,
    #[serde(default)]
    #[allow(dead_code, reason = "named so that it is taken")]
    endpoint: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OverrideWire {
    #[serde(default)]
    parameters: Option<ParametersWire>,
    #[serde(default)]
    metadata: Option<MetadataOverrideWire>,
    #[serde(default)]
    examples_override: Option<ExamplesOverrideWire>,
}

/// `ExamplesOverride`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExamplesOverrideWire {
    #[serde(default)]
    neighbor_count: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MetadataOverrideWire {
    #[serde(default)]
    inputs: BTreeMap<String, InputOverrideWire>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct InputOverrideWire {
    #[serde(default)]
    input_baselines: Vec<Row>,
}

fn explain_handler(schema: Arc<Schema>, template: Arc<Template>) -> Handler {
    handler(move |call: Call| {
        let (schema, template) = (Arc::clone(&schema), Arc::clone(&template));
        async move { explain(call, &schema, &template).await }
    })
}

async fn explain(call: Call, schema: &Schema, template: &Template) -> Result<Response, Fault> {
    let endpoint = call.variable(template, 0)?.into_owned();
    let app = Arc::clone(&call.app);
    let bytes = call.body.read().await?;
    let body: Value = serde_json::from_slice(&bytes)
        .map_err(|e| Fault::invalid(format!("the request's body is not JSON: {e}")))?;
    let request: Request = read_value(body)?;
    let missing = || Fault::invalid("field `instances` is missing: a list, one item per explanation");
    let instances = request.instances.ok_or_else(missing)?;
    let deployed = request.deployed_model_id.as_deref().filter(|id| !id.is_empty());
    let count = request.explanation_spec_override.as_ref().and_then(|wire| wire.examples_override.as_ref());
    let count = count.map(|examples| neighbors(examples.neighbor_count)).transpose()?;
    let mut wanted = match request.explanation_spec_override {
        Some(wire) => wanted(wire)?,
        None => None,
    };
    let speaks = app.router.language_at(&endpoint, deployed);
    if let Some(route) = speaks.map_err(|e| refused(&app, &endpoint, deployed, e))? {
        let paths = paths(wanted.as_ref())?;
        let parameters = request.parameters.as_ref();
        return explain_answer::explain(&app, schema, &route, &instances, parameters, paths).await;
    }
    let label = label(request.parameters.as_ref())?;
    if label.is_some() {
        wanted.get_or_insert_default().output = label;
    }
    let call = serving::Call { deadline: Instant::now() + app.limits.explain_timeout, deployed };
    if wanted.is_none() {
        let near = app.router.nearest(&endpoint, &instances, count, &call).await;
        match near.map_err(|e| refused(&app, &endpoint, deployed, e))? {
            Some(answer) => {
                let used = Amount { rows: answer.nearest.len() as u64, ..Amount::default() };
                metering::explained(&app, &answer.deployed, used);
                return near_reply(schema, &answer);
            }
            None if count.is_some() => {
                return Err(Fault::invalid(
                    "field `explanationSpecOverride.examplesOverride`: the model was uploaded without examples; give \
                     `explanationSpec.parameters.examples` with a version",
                ));
            }
            None => {}
        }
    }
    let answer = app.router.explain(&endpoint, instances, wanted, &call).await;
    let answer = answer.map_err(|e| refused(&app, &endpoint, deployed, e))?;
    let used = Amount { rows: answer.predictions.len() as u64, ..Amount::default() };
    metering::explained(&app, &answer.deployed, used);
    let reply = json!({
        "explanations": answer.explanations.iter().map(explanation).collect::<Vec<_>>(),
        "deployedModelId": answer.deployed.id,
        "predictions": to_json(&Rows(&answer.predictions))?,
    });
    let message =
        schema.message("ExplainResponse").map_err(|e| Fault::internal("describing the reply", e))?;
    json_reply(StatusCode::OK, &sendable(&message, &reply)?)
}

/// How many examples are wanted.
fn neighbors(count: u32) -> Result<usize, Fault> {
    match count {
        1..=1000 => Ok(count as usize),
        _ => Err(Fault::invalid(format!(
            "explanationSpecOverride.examplesOverride.neighborCount is {count}; it must be 1 to 1000"
        ))),
    }
}

/// `ExplainResponse` with neighbours.
fn near_reply(schema: &Schema, answer: &NearAnswer) -> Result<Response, Fault> {
    let neighbor = |near: &NearExample| json!({"neighborId": near.id, "neighborDistance": near.distance});
    let explanation =
        |near: &Vec<NearExample>| json!({"neighbors": near.iter().map(neighbor).collect::<Vec<_>>()});
    let predictions = answer.predictions.as_ref().map_or(Ok(json!([])), |rows| to_json(&Rows(rows)))?;
    let reply = json!({
        "explanations": answer.nearest.iter().map(explanation).collect::<Vec<_>>(),
        "deployedModelId": answer.deployed.id,
        "predictions": predictions,
    });
    let message =
        schema.message("ExplainResponse").map_err(|e| Fault::internal("describing the reply", e))?;
    json_reply(StatusCode::OK, &sendable(&message, &reply)?)
}

/// `parameters.label`, our own: the class whose score is explained, in place of the one predicted.
fn label(parameters: Option<&Row>) -> Result<Option<String>, Fault> {
    match parameters {
        Some(Row::Record(fields)) if fields.len() == 1 && fields[0].0 == "label" => match &fields[0].1 {
            Row::Text(label) => Ok(Some(label.clone())),
            other => Err(Fault::invalid(format!(
                "field `parameters.label` must be a string, not {}",
                other.kind()
            ))),
        },
        other => check_parameters(other).map(|()| None),
    }
}

/// What the request asks for in place of the deployed model's own specification.
fn wanted(wire: OverrideWire) -> Result<Option<Explain>, Fault> {
    let method = method(&wire.parameters.unwrap_or_default())?.map(to_serving).transpose()?;
    let inputs = wire.metadata.map(|metadata| metadata.inputs).unwrap_or_default();
    let baselines: Vec<(String, Row)> = inputs
        .into_iter()
        .filter_map(|(input, given)| given.input_baselines.into_iter().next().map(|first| (input, first)))
        .collect();
    if method.is_none() && baselines.is_empty() {
        return Ok(None);
    }
    Ok(Some(Explain { method, baselines, ..Explain::default() }))
}

/// The orders that a specification for a language model asks for.
fn paths(wanted: Option<&Explain>) -> Result<Option<u32>, Fault> {
    let Some(wanted) = wanted else { return Ok(None) };
    match wanted.method {
        Some(Method::SampledShapley { path_count }) if wanted.baselines.is_empty() => Ok(Some(path_count)),
        _ => Err(Fault::invalid(
            "field `explanationSpecOverride` of a language model may name sampledShapleyAttribution alone: its answers are \
             measured from an empty prompt, and it has no gradients here",
        )),
    }
}

fn to_serving(method: ExplanationMethod) -> Result<Method, Fault> {
    match method {
        ExplanationMethod::SampledShapley { path_count } => Ok(Method::SampledShapley { path_count }),
        ExplanationMethod::IntegratedGradients { step_count } => {
            Ok(Method::IntegratedGradients { step_count })
        }
        ExplanationMethod::NearestExamples { .. } => Err(Fault::invalid(
            "examples are indexed when a version is uploaded; a request says how many with `examplesOverride`",
        )),
    }
}

/// `google.cloud.aiplatform.v1.Explanation`.
fn explanation(explanation: &Explanation) -> Value {
    let mut features = Map::new();
    for attribution in &explanation.attributions {
        add(&mut features, attribution);
    }
    let mut wire = json!({
        "baselineOutputValue": explanation.baseline_output,
        "instanceOutputValue": explanation.instance_output,
        "featureAttributions": features,
        "outputIndex": [explanation.output_index],
        "approximationError": explanation.approximation_error,
        "outputName": "scores",
    });
    if let Some(name) = &explanation.output_name {
        wire["outputDisplayName"] = name.clone().into();
    }
    json!({"attributions": [wire]})
}

/// A feature's attributions under its name: a number for one, a list for several. For a text, the list
/// has one per token, and the tokens themselves stand under `{name}_tokens` in the same order. For a picture, an object with
/// one per area and the picture that shows them.
fn add(features: &mut Map<String, Value>, attribution: &Attribution) {
    if let Some(drawn) = &attribution.heat_map {
        let picture = json!({ "b64_png": STANDARD.encode(drawn), "values": attribution.values });
        features.insert(attribution.feature.clone(), picture);
        return;
    }
    let values = match (attribution.values.as_slice(), &attribution.tokens) {
        ([one], None) => json!(one),
        (several, _) => json!(several),
    };
    features.insert(attribution.feature.clone(), values);
    if let Some(tokens) = &attribution.tokens {
        let texts: Vec<&str> = tokens.iter().map(|(_, text)| text.as_str()).collect();
        features.insert(format!("{}_tokens", attribution.feature), json!(texts));
    }
}
