//! Online prediction on an encoder: texts as Google's text embedding models take them, and their vectors.

use std::sync::Arc;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serving::{EmbedderRoute, TooLong};

use super::predict::{Reply, reply};
use crate::Fault;
use crate::embedding::{Embedded, Text, Texts, vectors_reply};
use crate::fields::invalid;
use crate::http::{App, Response};
use crate::language::prepared;

/// Texts in one request at most.
const INSTANCES_MAX: usize = 2048;

/// `PredictRequest` of a text embedding model, as JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    instances: Vec<Instance>,
    #[serde(default)]
    parameters: Option<Parameters>,
    /// The path says which; clients that send the whole message repeat it.
    #[serde(default)]
    #[allow(dead_code, reason = "named so that it is taken")]
    endpoint: Option<IgnoredAny>,
    /// Labels for Google's bill.
    #[serde(default)]
    #[allow(dead_code, reason = "named so that it is taken")]
    labels: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Instance {
    Plain(String),
    Object(Content),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    content: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Parameters {
    /// Google's models cut long texts unless told not to; here a request must ask for it.
    auto_truncate: Option<bool>,
    output_dimensionality: Option<usize>,
}

#[derive(Serialize)]
struct Prediction<'a> {
    embeddings: Embeddings<'a>,
}

impl Prediction<'_> {
    fn of(text: &Embedded) -> Prediction<'_> {
        let statistics = Statistics { token_count: text.tokens, truncated: text.cut };
        Prediction { embeddings: Embeddings { statistics, values: &text.vector } }
    }
}

#[derive(Serialize)]
struct Embeddings<'a> {
    statistics: Statistics,
    values: &'a [f32],
}

#[derive(Serialize)]
struct Statistics {
    token_count: usize,
    truncated: bool,
}

/// Embeds the instances of a request.
pub(super) async fn answer(app: Arc<App>, route: EmbedderRoute, bytes: Bytes) -> Result<Response, Fault> {
    let deployed = Arc::clone(&route.deployed);
    let texts = prepared(&app, move |_| start(route, &bytes)).await?;
    let embedded = texts.embed(&app).await?;
    prepared(&app, move |_| {
        let numbers = embedded.iter().map(|text| text.vector.len()).sum();
        let predictions: Vec<Prediction<'_>> = embedded.iter().map(Prediction::of).collect();
        let reply: Reply<'_, _> = reply(predictions, &deployed);
        vectors_reply(&reply, numbers)
    })
    .await
}

fn start(route: EmbedderRoute, bytes: &[u8]) -> Result<Texts, Fault> {
    let read = || {
        let wrong = |error: serde_json::Error| {
            Fault::invalid(format!(
                "the request: {error}; an encoder's instances are texts, or objects with `content` alone; its \
                 parameters are `autoTruncate` and `outputDimensionality`"
            ))
        };
        let request: Request = serde_json::from_slice(bytes).map_err(wrong)?;
        let count = request.instances.len();
        if count == 0 || count > INSTANCES_MAX {
            return Err(invalid(
                "instances",
                format!("has {count} entries; 1 to {INSTANCES_MAX} are possible"),
            ));
        }
        Ok(request)
    };
    let Request { instances, parameters, .. } = read().inspect_err(|_| route.count_bad_request())?;
    let Parameters { auto_truncate, output_dimensionality } = parameters.unwrap_or_default();
    let text = |instance| match instance {
        Instance::Plain(text) | Instance::Object(Content { content: text }) => Text::Plain(text),
    };
    let too_long = if auto_truncate == Some(true) { TooLong::Cut } else { TooLong::Refuse };
    let fields = ["instances", "parameters.outputDimensionality"];
    Texts::of(route, instances.into_iter().map(text).collect(), too_long, output_dimensionality, fields)
}
