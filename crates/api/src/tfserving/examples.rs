//! `:classify` and `:regress`: examples, which are features by name, to classes with scores or to numbers.

use std::time::Instant;

use formats::Value;
use serde::Deserialize;
use serving::{Pick, Predictions};

use super::{Named, check_signature, reply, unreadable};
use crate::Fault;
use crate::http::{Call, Response};
use crate::language::{find_predictor, project_of};
use crate::rows::{predict, put_number, put_text, unwrapped, without_tokens};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    #[serde(default)]
    signature_name: Option<String>,
    /// Features that all examples share.
    #[serde(default)]
    context: Option<Value>,
    examples: Vec<Value>,
}

pub(super) async fn classify(call: Call) -> Result<Response, Fault> {
    answer(call, |predictions, i, told| {
        let no_scores = || Fault::invalid("this model gives no scores of classes: ask it with `:predict`");
        let scores = predictions.scores(i).ok_or_else(no_scores)?;
        told.push(b'[');
        for (class, score) in scores.iter().enumerate() {
            told.extend_from_slice(if class > 0 { b",[" } else { b"[" });
            put_text(
                predictions.labels().and_then(|labels| labels.get(class)).map_or("", String::as_str),
                told,
            );
            told.push(b',');
            put_number(*score, told);
            told.push(b']');
        }
        told.push(b']');
        Ok(())
    })
    .await
}

pub(super) async fn regress(call: Call) -> Result<Response, Fault> {
    answer(call, |predictions, i, told| {
        let no_value = || Fault::invalid("this model gives no single number: ask it with `:predict`");
        put_number(predictions.value(i).ok_or_else(no_value)?, told);
        Ok(())
    })
    .await
}

/// The examples' answers, each appended by `put`.
async fn answer(
    call: Call,
    put: impl Fn(&Predictions, usize, &mut Vec<u8>) -> Result<(), Fault>,
) -> Result<Response, Fault> {
    let began = Instant::now();
    let project = project_of(&call, None)?;
    let named = Named::of(&call)?;
    let Call { app, body, .. } = call;
    let Request { signature_name, context, examples } =
        serde_json::from_slice(&without_tokens(&body.read().await?)).map_err(|e| unreadable(&e))?;
    check_signature(signature_name.as_deref())?;
    let shared = match context {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Record(fields)) => fields,
        Some(other) => {
            return Err(Fault::invalid(format!("`context` must be an object, not {}", other.kind())));
        }
    };
    let route = find_predictor(&app, &project, &named.model, named.pick(Pick::Split))?;
    let model = &route.deployed.model;
    let rows = examples.into_iter().enumerate().map(|(i, example)| match example {
        Value::Record(mut fields) => {
            fields.extend(shared.iter().cloned());
            unwrapped(model, Value::Record(fields))
        }
        other => {
            let kind = other.kind();
            Err(Fault::invalid(format!("example {i} must be an object of features by name, not {kind}")))
        }
    });
    let rows = rows.collect::<Result<Vec<_>, Fault>>()?;
    let predictions = predict(&app, &route, rows, began).await?;
    let mut told = b"{\"result\":[".to_vec();
    for i in 0..predictions.len() {
        if i > 0 {
            told.push(b',');
        }
        put(&predictions, i, &mut told)?;
    }
    told.extend_from_slice(b"]}");
    app.metrics.predicted(began.elapsed());
    Ok(reply(told))
}
