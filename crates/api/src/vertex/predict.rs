//! Online prediction: the hot path, straight from bytes to rows and from rows to bytes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use formats::Value;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde::de::IgnoredAny;
use serde::ser::{Serialize, SerializeSeq, Serializer};
use serde::{Deserialize, Serialize as SerializeDerive};
use serving::{Answer, Deployed, Predictions, ServeError};

use super::embed;
use super::rpc::{Served, direct, streamed};
use super::schema::{Schema, canonical};
use super::tensors::{Tensor, tensor};
use crate::http::Permission::Invoke;
use crate::http::{App, Call, Handler, Response, Template, bytes_reply, handler, stream_reply};
use crate::{Code, Fault, metering};

/// The type of what models without another take and give.
const JSON: &str = "application/json";
/// When to come back for a model that there was not the memory for: others may rest by then.
const MEMORY_PAUSE: Duration = Duration::from_secs(10);
/// Instances predicted between two pieces of a streamed reply.
const STREAM_ROWS: usize = 256;

/// The procedures of this file.
pub(super) fn served() -> Vec<Served> {
    vec![
        direct("PredictionService.Predict", Invoke, predict_handler).takes::<Request>(),
        streamed("PredictionService.ServerStreamingPredict", Invoke, streaming_handler),
    ]
}

/// `PredictRequest`, as JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    #[serde(default)]
    instances: Option<Vec<Value>>,
    #[serde(default)]
    parameters: Option<Value>,
    /// The path says which; clients that send the whole message repeat it.
    #[serde(default)]
    #[allow(dead_code, reason = "named so that it is taken")]
    endpoint: Option<IgnoredAny>,
    /// Labels for Google's bill.
    #[serde(default)]
    #[allow(dead_code, reason = "named so that it is taken")]
    labels: Option<IgnoredAny>,
}

/// `PredictResponse`, as JSON.
#[derive(SerializeDerive)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reply<'a, P> {
    predictions: P,
    deployed_model_id: &'a str,
    model: &'a str,
    model_version_id: Decimal,
    model_display_name: &'a str,
}

/// What a prebuilt serving container answers: the predictions alone.
#[derive(SerializeDerive)]
struct RawReply<'a> {
    predictions: Rows<'a>,
}

/// Predictions as a JSON list.
pub(super) struct Rows<'a>(pub(super) &'a Predictions);

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for i in 0..self.0.len() {
            list.serialize_element(&self.0.row(i))?;
        }
        list.end()
    }
}

/// A number as a JSON string.
struct Decimal(u32);

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

fn predict_handler(_: Arc<Schema>, template: Arc<Template>) -> Handler {
    handler(move |call: Call| {
        let template = Arc::clone(&template);
        async move { predict(call, &template).await }
    })
}

async fn predict(call: Call, template: &Template) -> Result<Response, Fault> {
    let began = Instant::now();
    let endpoint = call.variable(template, 0)?.into_owned();
    let Call { app, head, body, .. } = call;
    // It lies in the room that the connection reads into, which is free again without it.
    drop(head);
    let bytes = body.read().await?;
    let encoder = app.router.embedder_at(&endpoint).map_err(|e| refused(&app, &endpoint, None, e))?;
    if let Some(route) = encoder {
        let metrics = Arc::clone(&app.metrics);
        let reply = Box::pin(embed::answer(app, route, bytes)).await?;
        metrics.predicted(began.elapsed());
        return Ok(reply);
    }
    let instances = read(&bytes)?;
    drop(bytes);
    let answer = ask(&app, &endpoint, None, instances).await?;
    let reply = written(&reply(Rows(&answer.predictions), &answer.deployed), answer.predictions.len())?;
    app.metrics.predicted(began.elapsed());
    Ok(bytes_reply(StatusCode::OK, "application/json", reply))
}

/// The predictions, with who made them.
pub(super) fn reply<P>(predictions: P, deployed: &Deployed) -> Reply<'_, P> {
    Reply {
        predictions,
        deployed_model_id: &deployed.id,
        model: &deployed.model_name,
        model_version_id: Decimal(deployed.version),
        model_display_name: &deployed.display_name,
    }
}

/// The instances of a request, once nothing in it would be left unheeded.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Value>, Fault> {
    let request: Request = serde_json::from_slice(bytes).map_err(|e| unreadable(&e))?;
    check_parameters(request.parameters.as_ref())?;
    request
        .instances
        .ok_or_else(|| Fault::invalid("field `instances` is missing: a list, one item per prediction"))
}

/// No model here takes parameters.
pub(super) fn check_parameters(parameters: Option<&Value>) -> Result<(), Fault> {
    match parameters {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Record(fields)) => match fields.first() {
            None => Ok(()),
            Some((name, _)) => Err(Fault::unimplemented(format!(
                "field `parameters.{name}` has no effect on this server: leave it out"
            ))),
        },
        Some(other) => {
            Err(Fault::invalid(format!("field `parameters` must be an object, not {}", other.kind())))
        }
    }
}

fn unreadable(error: &serde_json::Error) -> Fault {
    let what = if error.is_data() { "the request" } else { "the request's body is not JSON" };
    Fault::invalid(format!("{what}: {error}"))
}

async fn ask(
    app: &App,
    endpoint: &str,
    deployed: Option<&str>,
    instances: Vec<Value>,
) -> Result<Answer, Fault> {
    let deadline = Instant::now() + app.limits.predict_timeout;
    predict_at(app, endpoint, deployed, instances, deadline).await
}

/// Predicts on what answers on an endpoint, or on one of its deployed models.
async fn predict_at(
    app: &App,
    endpoint: &str,
    deployed: Option<&str>,
    instances: Vec<Value>,
    deadline: Instant,
) -> Result<Answer, Fault> {
    let refused = |error| refused(app, endpoint, deployed, error);
    let rows = instances.len();
    let chosen = app.router.choose(endpoint, deployed).map_err(refused)?;
    metering::reserve_rows(app, chosen.deployed(), rows)?;
    let answer = app.router.predict_chosen(&chosen, instances, deadline).await.map_err(refused)?;
    metering::predicted(app, rows).await;
    Ok(answer)
}

/// What to tell a client whom the router refused: where a deployed model cannot be served, why.
pub(super) fn refused(app: &App, endpoint: &str, deployed: Option<&str>, error: ServeError) -> Fault {
    let missing = matches!(error, ServeError::NothingDeployed { .. } | ServeError::UnknownDeployed { .. });
    let known = if missing { app.control.endpoints().fault(endpoint, deployed) } else { None };
    known.map_or_else(|| error.into(), Fault::from)
}

fn written(reply: &impl Serialize, rows: usize) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::with_capacity(256 + rows.min(4096) * 192);
    serde_json::to_writer(&mut bytes, reply).map_err(|e| Fault::internal("writing the reply", e))?;
    Ok(bytes)
}

impl From<ServeError> for Fault {
    fn from(error: ServeError) -> Self {
        let code = match &error {
            ServeError::UnknownEndpoint { .. } | ServeError::UnknownDeployed { .. } => Code::NotFound,
            ServeError::NothingDeployed { .. } => Code::FailedPrecondition,
            ServeError::Overloaded { .. } | ServeError::NoMemory { .. } => Code::ResourceExhausted,
            ServeError::DeadlineExceeded => Code::DeadlineExceeded,
            ServeError::BadInstance { .. } | ServeError::BadRequest { .. } => Code::InvalidArgument,
            ServeError::Failed { .. } => Code::Internal,
        };
        let retry_after = match &error {
            ServeError::Overloaded { retry_after } => Some(*retry_after),
            ServeError::NoMemory { .. } => Some(MEMORY_PAUSE),
            _ => None,
        };
        Fault { retry_after, ..Fault::new(code, error.to_string()) }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wrapped {
    http_body: HttpBody,
    #[serde(default)]
    #[allow(dead_code, reason = "named so that it is taken")]
    endpoint: Option<IgnoredAny>,
}

/// `google.api.HttpBody`, as JSON.
#[derive(Deserialize, SerializeDerive)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct HttpBody {
    #[serde(default)]
    content_type: String,
    #[serde(default)]
    data: String,
    #[serde(default, skip_serializing)]
    #[allow(dead_code, reason = "named so that it is taken")]
    extensions: Option<IgnoredAny>,
}

impl HttpBody {
    /// These bytes, which are of this type.
    pub(super) fn of(content_type: &str, bytes: &[u8]) -> Self {
        let (content_type, data) = (content_type.to_owned(), STANDARD.encode(bytes));
        HttpBody { content_type, data, extensions: None }
    }

    /// As JSON.
    pub(super) fn written(&self) -> Result<Vec<u8>, Fault> {
        written(self, 0)
    }
}

/// The body of a raw request, which comes in either of two shapes: the bytes themselves, or in `google.api.HttpBody`,
/// as the generated REST client sends it. Says whether it was wrapped so.
pub(super) fn opened(body: Bytes, headers: &HeaderMap) -> Result<(Bytes, bool), Fault> {
    // Only the first field's name is looked at: the body may be large.
    let start = body.trim_ascii_start().strip_prefix(b"{").map(<[u8]>::trim_ascii_start).unwrap_or_default();
    let wrapped =
        [&b"\"httpBody\""[..], b"\"http_body\"", b"\"endpoint\""].iter().any(|f| start.starts_with(f));
    if !wrapped || !body.windows(10).take(4096).any(|w| w == b"\"httpBody\"") {
        check_content_type(content_type(headers))?;
        return Ok((body, false));
    }
    let inner = serde_json::from_slice::<Wrapped>(&body).map_err(|e| unreadable(&e))?.http_body;
    check_content_type(Some(&inner.content_type).filter(|t| !t.is_empty()).map(String::as_str))?;
    let broken = |e| Fault::invalid(format!("field `httpBody.data` is not base64: {e}"));
    Ok((STANDARD.decode(&inner.data).map_err(broken)?.into(), true))
}

fn check_content_type(content_type: Option<&str>) -> Result<(), Fault> {
    let kind = content_type.unwrap_or("application/json").split(';').next().unwrap_or("").trim();
    let known =
        ["application/json", "application/octet-stream", "application/x-www-form-urlencoded", "text/plain"];
    if known.iter().any(|known| kind.eq_ignore_ascii_case(known)) {
        return Ok(());
    }
    let message = format!("a raw prediction takes JSON, `{{\"instances\": […]}}`, not {kind}");
    Err(Fault::invalid(message).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE))
}

/// A raw prediction, by the deployed model that is named or by the split.
pub(super) async fn raw(call: Call, endpoint: String, deployed: Option<String>) -> Result<Response, Fault> {
    let Call { app, head, body, .. } = call;
    let (bytes, wrapped) = opened(body.read().await?, &head.headers)?;
    let answer = ask(&app, &endpoint, deployed.as_deref(), read(&bytes)?).await?;
    let mut bytes = written(&RawReply { predictions: Rows(&answer.predictions) }, answer.predictions.len())?;
    if wrapped {
        bytes = written(&HttpBody::of(JSON, &bytes), 0)?;
    }
    let mut reply = bytes_reply(StatusCode::OK, "application/json", bytes);
    name_deployed(reply.headers_mut(), &answer.deployed);
    Ok(reply)
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok())
}

/// Raw replies say in headers what the others say in fields.
pub(super) fn name_deployed(headers: &mut HeaderMap, deployed: &Deployed) {
    for (name, value) in [
        ("x-vertex-ai-deployed-model-id", deployed.id.clone()),
        ("x-vertex-ai-model", deployed.model_name.clone()),
        ("x-vertex-ai-model-version-id", deployed.version.to_string()),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// What is left of a streamed prediction.
struct Streaming {
    app: Arc<App>,
    endpoint: String,
    deployed: String,
    ready: Option<Predictions>,
    left: std::vec::IntoIter<Value>,
    form: Form,
    /// Pieces written; the closing bracket of a list counts.
    pieces: usize,
    ended: bool,
}

/// How predictions are written as they are made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One JSON value a line.
    Lines,
    /// A JSON list of `HttpBody` holding such lines.
    Bodies,
    /// A JSON list of `StreamingPredictResponse`, with a tensor for each instance.
    Tensors,
}

/// `StreamingPredictRequest`, as canonical JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TensorsRequest {
    #[serde(default)]
    inputs: Vec<Tensor>,
    #[serde(default)]
    parameters: Option<Tensor>,
    #[serde(default)]
    #[allow(dead_code, reason = "named so that it is taken")]
    endpoint: Option<IgnoredAny>,
}

fn streaming_handler(schema: Arc<Schema>, template: Arc<Template>) -> Handler {
    handler(move |call: Call| {
        let (schema, template) = (Arc::clone(&schema), Arc::clone(&template));
        async move { stream_tensors(call, &schema, &template).await }
    })
}

/// Predictions as they are made, of tensors that are instances.
async fn stream_tensors(call: Call, schema: &Schema, template: &Template) -> Result<Response, Fault> {
    let endpoint = call.variable(template, 0)?.into_owned();
    if call.app.router.speaks(&endpoint) {
        return Err(Fault::unimplemented(
            "a language model answers piece by piece through streamGenerateContent and streamRawPredict",
        ));
    }
    let Call { app, body, .. } = call;
    let json = serde_json::from_slice(&body.read().await?).map_err(|e| unreadable(&e))?;
    let message =
        schema.message("StreamingPredictRequest").map_err(|e| Fault::internal("reading tensors", e))?;
    let request = serde_json::Value::Object(canonical(&message, &json)?);
    let request: TensorsRequest = serde_json::from_value(request).map_err(|e| unreadable(&e))?;
    if request.parameters.is_some_and(|parameters| !parameters.is_empty()) {
        return Err(Fault::unimplemented("field `parameters` has no effect on this server: leave it out"));
    }
    if request.inputs.is_empty() {
        return Err(Fault::invalid("field `inputs` is missing: a list, one tensor per prediction"));
    }
    let instances = request.inputs.into_iter().map(Tensor::instance).collect::<Result<_, Fault>>()?;
    stream(app, endpoint, instances, Form::Tensors).await
}

/// Predictions as they are made, of a raw request.
pub(super) async fn stream_raw(call: Call, endpoint: String) -> Result<Response, Fault> {
    let Call { app, head, body, .. } = call;
    let (bytes, wrapped) = opened(body.read().await?, &head.headers)?;
    let form = if wrapped { Form::Bodies } else { Form::Lines };
    stream(app, endpoint, read(&bytes)?, form).await
}

async fn stream(
    app: Arc<App>,
    endpoint: String,
    instances: Vec<Value>,
    form: Form,
) -> Result<Response, Fault> {
    let mut left = instances.into_iter();
    // The first piece is made before the reply begins, so that its faults have a status of their own.
    let answer = ask(&app, &endpoint, None, left.by_ref().take(STREAM_ROWS).collect()).await?;
    let deployed = Arc::clone(&answer.deployed);
    let streaming = Streaming {
        app,
        endpoint,
        deployed: deployed.id.clone(),
        ready: Some(answer.predictions),
        left,
        form,
        pieces: 0,
        ended: false,
    };
    let content_type = if form == Form::Lines { "application/x-ndjson" } else { "application/json" };
    let pieces = futures_util::stream::try_unfold(streaming, next_piece);
    let mut reply = stream_reply(StatusCode::OK, content_type, pieces);
    name_deployed(reply.headers_mut(), &deployed);
    Ok(reply)
}

async fn next_piece(mut streaming: Streaming) -> std::io::Result<Option<(Bytes, Streaming)>> {
    if streaming.ended {
        return Ok(None);
    }
    let predictions = match streaming.ready.take() {
        Some(ready) => ready,
        None => {
            let rows: Vec<Value> = streaming.left.by_ref().take(STREAM_ROWS).collect();
            if rows.is_empty() {
                streaming.ended = true;
                let close = if streaming.form == Form::Lines { &b""[..] } else { b"]" };
                return Ok(
                    Some((Bytes::from_static(close), streaming)).filter(|(piece, _)| !piece.is_empty())
                );
            }
            let deadline = Instant::now() + streaming.app.limits.predict_timeout;
            let deployed = Some(streaming.deployed.as_str());
            let answer = predict_at(&streaming.app, &streaming.endpoint, deployed, rows, deadline).await;
            // The status is sent: all that is left is to break off.
            answer.map_err(std::io::Error::other)?.predictions
        }
    };
    let piece = piece(&predictions, streaming.form, streaming.pieces == 0)?;
    streaming.pieces += 1;
    Ok(Some((piece, streaming)))
}

fn piece(predictions: &Predictions, form: Form, first: bool) -> std::io::Result<Bytes> {
    if form == Form::Tensors {
        let rows = (0..predictions.len()).map(|i| serde_json::to_value(predictions.row(i)).map(tensor));
        let outputs = rows.collect::<Result<Vec<_>, _>>()?;
        return listed(&serde_json::json!({"outputs": outputs}), first);
    }
    let mut lines = Vec::with_capacity(predictions.len() * 192);
    for i in 0..predictions.len() {
        serde_json::to_writer(&mut lines, &predictions.row(i))?;
        lines.push(b'\n');
    }
    if form == Form::Lines {
        return Ok(lines.into());
    }
    listed(&HttpBody::of(JSON, &lines), first)
}

/// An item of a list that is written piece by piece.
fn listed(item: &impl Serialize, first: bool) -> std::io::Result<Bytes> {
    let mut piece = vec![if first { b'[' } else { b',' }];
    serde_json::to_writer(&mut piece, item)?;
    Ok(piece.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn requests_are_read_and_what_has_no_effect_is_named() {
        assert_eq!(
            read(br#"{"instances":[[1,2.5]],"parameters":null}"#).unwrap(),
            [Value::Numbers(vec![1.0, 2.5])]
        );
        assert_eq!(
            read(br#"{"instances":["a"],"parameters":{},"labels":{}}"#).unwrap(),
            [Value::Text("a".into())]
        );
        for (body, named) in [
            (&br#"{"instances":[1],"paramters":{}}"#[..], "paramters"),
            (br#"{"instances":[1],"parameters":{"topK":1}}"#, "parameters.topK"),
            (br#"{}"#, "instances"),
            (br#"{"instances":[NaN]}"#, "not JSON"),
            (br#"{"instances":[1"#, "not JSON"),
            (b"", "not JSON"),
            (br#"{"instances":[{"a":1,"a":2}]}"#, "occurs twice"),
        ] {
            let fault = read(body).unwrap_err();
            assert!(fault.message.contains(named), "{}", fault.message);
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let body = format!("{{\"instances\":[{}{}]}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(read(body.as_bytes()).is_err());
    }

    #[test]
    fn raw_requests_come_in_two_shapes() {
        let open = |body: &str, kind: &'static str| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
            opened(Bytes::from(body.to_owned()), &headers)
        };
        let plain = r#"{"instances":[1]}"#;
        assert_eq!(open(plain, JSON).unwrap(), (plain.into(), false));
        let body = format!(
            r#"{{"httpBody":{{"contentType":"application/json","data":"{}"}}}}"#,
            STANDARD.encode(r#"{"instances":[1,2]}"#)
        );
        assert_eq!(open(&body, JSON).unwrap(), (r#"{"instances":[1,2]}"#.into(), true));
        assert!(open("a,b", "text/csv").is_err());
    }
}
