//! `POST …/invocations`.

use std::time::Instant;

use formats::Value;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serving::{Model, Pick, PredictorRoute};

use super::table::{Split, of_csv, of_records};
use crate::Fault;
use crate::http::{App, Call, Response, bytes_reply};
use crate::language::{find_predictor, project_of};
use crate::rows::{of_columns, predict, put_row, tensors, unwrapped, without_tokens};
use crate::tenant::Tenant;

/// What a client sends as JSON: exactly one of the first four.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    #[serde(default)]
    dataframe_split: Option<Split>,
    #[serde(default)]
    dataframe_records: Option<Vec<Value>>,
    #[serde(default)]
    instances: Option<Vec<Value>>,
    #[serde(default)]
    inputs: Option<Value>,
    #[serde(default)]
    params: Option<Value>,
}

pub(super) async fn answer(call: Call) -> Result<Response, Fault> {
    let began = Instant::now();
    let project = project_of(&call, None)?;
    let name = named(&call)?;
    let kind = call.header(CONTENT_TYPE.as_str()).unwrap_or("application/json").to_owned();
    let Call { app, body, .. } = call;
    let body = body.read().await?;
    let route = target(&app, &project, &name, Pick::Split)?;
    let model = &route.deployed.model;
    let rows = match kind.split(';').next().unwrap_or_default().trim() {
        "application/json" => read(model, &body)?,
        "text/csv" => of_csv(model, &body)?,
        other => {
            let other: String = other.chars().take(80).collect();
            let message = format!("`{other}` is not taken: send application/json or text/csv");
            return Err(Fault::invalid(message).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
    };
    drop(body);
    let predictions = predict(&app, &route, rows, began).await?;
    let outputs = tensors(&app, &route, &predictions)?;
    let mut told = b"{\"predictions\":[".to_vec();
    for i in 0..predictions.len() {
        if i > 0 {
            told.push(b',');
        }
        put_row(&outputs, i, &mut told);
    }
    told.extend_from_slice(b"]}");
    app.metrics.predicted(began.elapsed());
    Ok(bytes_reply(StatusCode::OK, "application/json", told))
}

/// Whether the model answers.
pub(super) async fn ping(call: Call) -> Result<Response, Fault> {
    let project = project_of(&call, None)?;
    target(&call.app, &project, &named(&call)?, Pick::Most)?;
    Ok(bytes_reply(StatusCode::OK, "application/json", "\n"))
}

/// The model that the path names; empty where it names none.
fn named(call: &Call) -> Result<String, Fault> {
    let segments = call.segments()?;
    Ok(if segments.len() > 2 { segments.into_iter().nth(1).unwrap_or_default() } else { String::new() })
}

fn target(app: &App, project: &Tenant, name: &str, pick: Pick<'_>) -> Result<PredictorRoute, Fault> {
    if !name.is_empty() {
        return find_predictor(app, project, name, pick);
    }
    let mut served: Vec<String> = app.router.predictors(project).into_iter().map(|m| m.endpoint).collect();
    served.retain(|endpoint| project.knows([endpoint.as_str()]));
    served.sort_unstable();
    served.dedup();
    match served.as_slice() {
        [only] => find_predictor(app, project, only.rsplit('/').next().unwrap_or_default(), pick),
        several => Err(Fault::not_found(format!(
            "project {project} serves {} models that predict: name one, at /mlflow/NAME/invocations",
            several.len()
        ))),
    }
}

fn read(model: &Model, body: &[u8]) -> Result<Vec<Value>, Fault> {
    let request: Request = serde_json::from_slice(&without_tokens(body)).map_err(|error| {
        let what = if error.is_data() { "the request" } else { "the request's body is not JSON" };
        Fault::invalid(format!("{what}: {error}"))
    })?;
    check_params(request.params)?;
    let Request { dataframe_split, dataframe_records, instances, inputs, .. } = request;
    let plain = |rows: Vec<Value>| rows.into_iter().map(|row| unwrapped(model, row)).collect();
    match (dataframe_split, dataframe_records, instances, inputs) {
        (Some(split), None, None, None) => plain(split.rows(model)?),
        (None, Some(records), None, None) => plain(of_records(model, records)?),
        (None, None, Some(rows), None) => plain(rows),
        (None, None, None, Some(columns)) => of_columns(model, columns),
        _ => Err(Fault::invalid(
            "exactly one of `dataframe_split`, `dataframe_records`, `instances` and `inputs` must be there",
        )),
    }
}

/// No model here takes parameters.
fn check_params(params: Option<Value>) -> Result<(), Fault> {
    match params {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Record(fields)) => match fields.first() {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(80).collect();
                Err(crate::fields::unsupported(
                    format!("params.{name}"),
                    "has no effect on this server: leave it out",
                ))
            }
        },
        Some(other) => {
            Err(crate::fields::invalid("params", format!("must be an object, not {}", other.kind())))
        }
    }
}
