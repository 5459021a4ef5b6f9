//! Online explanation of a language model's answers.

use std::time::Instant;

use formats::Value as Row;
use http::StatusCode;
use llm::template::Message;
use serde_json::{Map, Value, json};
use serving::{LanguageExplain, LanguageExplanation, LanguageRoute, Said};

use super::predict::refused;
use super::rpc::to_json;
use super::schema::{Schema, sendable};
use crate::http::{App, Response, json_reply};
use crate::language::{How, span_text, summary, used};
use crate::{Fault, metering};

/// Answers explained in one request at most.
const INSTANCES_MAX: usize = 16;

/// Explains each instance: a text to answer or `{prompt | messages, answer}`. `paths` are those of a sampled Shapley
/// specification that the request carries.
pub(super) async fn explain(
    app: &App,
    schema: &Schema,
    route: &LanguageRoute,
    instances: &[Row],
    parameters: Option<&Row>,
    paths: Option<u32>,
) -> Result<Response, Fault> {
    if instances.is_empty() || instances.len() > INSTANCES_MAX {
        let count = instances.len();
        return Err(Fault::invalid(format!(
            "field `instances` has {count} items; it must have 1 to {INSTANCES_MAX}"
        )));
    }
    let how = match parameters {
        None | Some(Row::Null) => How::default(),
        Some(parameters) => How::read(to_json(parameters)?, "parameters")?,
    };
    let how = paths.map_or_else(|| how.clone(), |paths| how.clone().or_shapley(paths));
    let wanted: Vec<LanguageExplain> = instances
        .iter()
        .enumerate()
        .map(|(place, instance)| read(instance, &how, route, &format!("instances[{place}]")))
        .collect::<Result<_, _>>()?;
    // What keeps tenants' prefixes apart: the endpoint's own project.
    let project = route.endpoint.split('/').nth(1).unwrap_or_default();
    let deadline = Instant::now() + app.limits.explain_timeout;
    let (mut explanations, mut predictions) = (Vec::new(), Vec::new());
    for wanted in wanted {
        let found = app.router.explain_answer(route, project, wanted.clone(), deadline).await;
        let found = found.map_err(|error| refused(app, &route.endpoint, None, error))?;
        metering::explained(app, &route.deployed, used(&found));
        explanations.push(explanation(&wanted, &found));
        predictions.push(summary(&wanted, &found));
    }
    let reply = json!({
        "explanations": explanations,
        "deployedModelId": route.deployed.id,
        "predictions": predictions,
    });
    let message =
        schema.message("ExplainResponse").map_err(|e| Fault::internal("describing the reply", e))?;
    json_reply(StatusCode::OK, &sendable(&message, &reply)?)
}

/// One instance.
fn read(instance: &Row, how: &How, route: &LanguageRoute, at: &str) -> Result<LanguageExplain, Fault> {
    let text_of = |value: &Row, field: &str| match value {
        Row::Text(text) => Ok(text.clone()),
        other => Err(Fault::invalid(format!("field `{at}{field}` must be a string, not {}", other.kind()))),
    };
    let fields = match instance {
        Row::Text(prompt) if route.language.takes_chats() => {
            let message =
                Message { role: "user".into(), content: Some(prompt.clone()), ..Message::default() };
            return Ok(how.of(Said::Chat(vec![message]), None));
        }
        Row::Text(prompt) => return Ok(how.of(Said::Text(prompt.clone()), None)),
        Row::Record(fields) => fields,
        other => {
            let kind = other.kind();
            return Err(Fault::invalid(format!("field `{at}` must be a string or an object, not {kind}")));
        }
    };
    let (mut said, mut answer) = (None, None);
    for (name, value) in fields {
        match name.as_str() {
            "prompt" if said.is_none() => said = Some(Said::Text(text_of(value, ".prompt")?)),
            "messages" if said.is_none() => said = Some(Said::Chat(messages(value, at)?)),
            "answer" => answer = Some(text_of(value, ".answer")?),
            "prompt" | "messages" => {
                return Err(Fault::invalid(format!(
                    "field `{at}` has both `prompt` and `messages`: give one"
                )));
            }
            other => return Err(Fault::invalid(format!("field `{at}.{other}` is not known"))),
        }
    }
    let missing = || Fault::invalid(format!("field `{at}` needs a `prompt` or `messages`"));
    Ok(how.of(said.ok_or_else(missing)?, answer))
}

fn messages(value: &Row, at: &str) -> Result<Vec<Message>, Fault> {
    let Row::List(items) = value else {
        return Err(Fault::invalid(format!(
            "field `{at}.messages` must be a list of objects, not {}",
            value.kind()
        )));
    };
    let one = |(place, item): (usize, &Row)| {
        let needed = |field: &str| match item.get(field) {
            Some(Row::Text(text)) => Ok(text.clone()),
            _ => Err(Fault::invalid(format!("field `{at}.messages[{place}].{field}` must be a string"))),
        };
        Ok(Message { role: needed("role")?, content: Some(needed("content")?), ..Message::default() })
    };
    items.iter().enumerate().map(one).collect()
}

/// `google.cloud.aiplatform.v1.Explanation`: the attributions of the prompt's parts, or of each message's, with the parts'
/// texts beside them.
fn explanation(wanted: &LanguageExplain, found: &LanguageExplanation) -> Value {
    let mut features = Map::new();
    for share in &found.spans {
        let name = match wanted.said {
            Said::Text(_) => "prompt".to_owned(),
            Said::Chat(_) => format!("messages[{}]", share.message),
        };
        let text = span_text(&wanted.said, share.message, share.bytes.clone());
        push(&mut features, &format!("{name}_tokens"), text.into());
        push(&mut features, &name, share.value.into());
    }
    json!({"attributions": [{
        "baselineOutputValue": found.baseline_logprob,
        "instanceOutputValue": found.logprob,
        "featureAttributions": features,
        "approximationError": found.approximation_error,
        "outputName": "log_probability",
        "outputDisplayName": found.answer,
    }]})
}

fn push(features: &mut Map<String, Value>, name: &str, value: Value) {
    let list = features.entry(name).or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(list) = list {
        list.push(value);
    }
}
