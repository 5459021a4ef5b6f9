//! `:predict`: rows (`instances`) to rows, or columns (`inputs`) to columns.

use std::time::Instant;

use formats::Value;
use serde::Deserialize;
use serving::Pick;

use super::{Named, check_signature, reply, unreadable};
use crate::Fault;
use crate::http::{Call, Response};
use crate::language::{find_predictor, project_of};
use crate::rows::{of_columns, predict, put_columns, put_row, tensors, unwrapped, without_tokens};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    #[serde(default)]
    signature_name: Option<String>,
    #[serde(default)]
    instances: Option<Vec<Value>>,
    #[serde(default)]
    inputs: Option<Value>,
}

pub(super) async fn answer(call: Call) -> Result<Response, Fault> {
    let began = Instant::now();
    let project = project_of(&call, None)?;
    let named = Named::of(&call)?;
    let Call { app, body, .. } = call;
    let body = body.read().await?;
    let Request { signature_name, instances, inputs } =
        serde_json::from_slice(&without_tokens(&body)).map_err(|e| unreadable(&e))?;
    drop(body);
    check_signature(signature_name.as_deref())?;
    let route = find_predictor(&app, &project, &named.model, named.pick(Pick::Split))?;
    let model = &route.deployed.model;
    let (instances, in_rows) = match (instances, inputs) {
        (Some(rows), None) => {
            let rows = rows.into_iter().map(|row| unwrapped(model, row));
            (rows.collect::<Result<Vec<_>, Fault>>()?, true)
        }
        (None, Some(columns)) => (of_columns(model, columns)?, false),
        _ => {
            return Err(Fault::invalid(
                "exactly one of `instances` (rows) and `inputs` (columns) must be there",
            ));
        }
    };
    let predictions = predict(&app, &route, instances, began).await?;
    let outputs = tensors(&app, &route, &predictions)?;
    let mut told = Vec::with_capacity(256);
    if in_rows {
        told.extend_from_slice(b"{\"predictions\":[");
        for i in 0..predictions.len() {
            if i > 0 {
                told.push(b',');
            }
            put_row(&outputs, i, &mut told);
        }
        told.extend_from_slice(b"]}");
    } else {
        told.extend_from_slice(b"{\"outputs\":");
        put_columns(&outputs, &mut told);
        told.push(b'}');
    }
    app.metrics.predicted(began.elapsed());
    Ok(reply(told))
}
