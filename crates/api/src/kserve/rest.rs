//! The protocol over HTTP: tensors in JSON, or beside it in the binary form.

use std::time::Instant;

use http::header::{CONTENT_ENCODING, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use serving::Pick;

use super::infer::infer;
use super::json::{Request, written};
use super::models::{Port, describe, is_ready};
use super::{EXTENSIONS, SERVER, parent, pick, repository, unserved};
use crate::fields::{Fields, invalid};
use crate::http::Access::{Needs, Public};
use crate::http::Permission::{Invoke, Look, Read, Write};
use crate::http::{Call, Handler, Protocol, Response, Route, bytes_reply, handler, json_reply};
use crate::language::{find_predictor, project_of};
use crate::{Code, Fault};

/// How this protocol says no: `{"error": "…"}`.
const PROTOCOL: Protocol = Protocol { name: "kserve", render, timing: None, request_id: None, rates: None };

/// Says how much of a body is JSON, where tensors follow it.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Parts of the protocol, and of Triton's extensions of it, that are known and not served.
const UNSERVED: [(Method, &str); 22] = [
    (Method::GET, "/v2/systemsharedmemory/status"),
    (Method::POST, "/v2/systemsharedmemory/unregister"),
    (Method::GET, "/v2/systemsharedmemory/region/{region}/status"),
    (Method::POST, "/v2/systemsharedmemory/region/{region}/register"),
    (Method::POST, "/v2/systemsharedmemory/region/{region}/unregister"),
    (Method::GET, "/v2/cudasharedmemory/status"),
    (Method::POST, "/v2/cudasharedmemory/unregister"),
    (Method::GET, "/v2/cudasharedmemory/region/{region}/status"),
    (Method::POST, "/v2/cudasharedmemory/region/{region}/register"),
    (Method::POST, "/v2/cudasharedmemory/region/{region}/unregister"),
    (Method::GET, "/v2/models/stats"),
    (Method::GET, "/v2/models/{model}/stats"),
    (Method::GET, "/v2/models/{model}/versions/{version}/stats"),
    (Method::GET, "/v2/models/{model}/config"),
    (Method::GET, "/v2/models/{model}/versions/{version}/config"),
    (Method::POST, "/v2/models/{model}/generate"),
    (Method::POST, "/v2/models/{model}/generate_stream"),
    (Method::GET, "/v2/trace/setting"),
    (Method::POST, "/v2/trace/setting"),
    (Method::GET, "/v2/logging"),
    (Method::POST, "/v2/logging"),
    (Method::POST, "/v2/repository/{repository}/index"),
];

/// The routes of this file.
pub(super) fn routes() -> Vec<Route> {
    let served = [
        PROTOCOL.route(Method::GET, "/v2", Needs(Look), handler(server)),
        PROTOCOL.route(Method::GET, "/v2/health/live", Public, handler(live)),
        // Requests are taken only once everything has been opened.
        PROTOCOL.route(Method::GET, "/v2/health/ready", Public, handler(ready)),
        PROTOCOL.route(Method::GET, "/v2/models/{model}", Needs(Look), handler(metadata)),
        PROTOCOL.route(Method::GET, "/v2/models/{model}/versions/{version}", Needs(Look), handler(metadata)),
        PROTOCOL.route(Method::GET, "/v2/models/{model}/ready", Needs(Look), handler(model_ready)),
        PROTOCOL.route(
            Method::GET,
            "/v2/models/{model}/versions/{version}/ready",
            Needs(Look),
            handler(model_ready),
        ),
        PROTOCOL
            .route(Method::POST, "/v2/models/{model}/infer", Needs(Invoke), handler(answer))
            .map(super::json::described),
        PROTOCOL
            .route(
                Method::POST,
                "/v2/models/{model}/versions/{version}/infer",
                Needs(Invoke),
                handler(answer),
            )
            .map(super::json::described),
        PROTOCOL.route(Method::POST, "/v2/repository/index", Needs(Read), handler(index)),
        PROTOCOL.route(Method::POST, "/v2/repository/models/{model}/load", Needs(Write), handler(load)),
        PROTOCOL.route(Method::POST, "/v2/repository/models/{model}/unload", Needs(Write), handler(unload)),
    ];
    let unserved = UNSERVED.into_iter().map(|(method, path)| {
        let access = if method == Method::GET { Needs(Look) } else { Needs(Write) };
        PROTOCOL.route(method, path, access, refused(path))
    });
    served.into_iter().flatten().chain(unserved.flatten().map(Route::not_served)).collect()
}

fn refused(path: &'static str) -> Handler {
    handler(move |call: Call| async move {
        call.body.discard().await;
        Err(unserved(path))
    })
}

fn render(fault: &Fault, _: &str) -> Response {
    json_reply(fault.status(), &json!({"error": fault.message}))
        .unwrap_or_else(|_| bytes_reply(StatusCode::INTERNAL_SERVER_ERROR, "application/json", "{}"))
}

async fn server(_: Call) -> Result<Response, Fault> {
    let version = env!("CARGO_PKG_VERSION");
    json_reply(StatusCode::OK, &json!({"name": SERVER, "version": version, "extensions": EXTENSIONS}))
}

async fn live(_: Call) -> Result<Response, Fault> {
    json_reply(StatusCode::OK, &json!({"live": true}))
}

async fn ready(_: Call) -> Result<Response, Fault> {
    json_reply(StatusCode::OK, &json!({"ready": true}))
}

/// The model that the path names, and its version: empty where there is none.
fn named(call: &Call) -> Result<(String, String), Fault> {
    let mut segments = call.segments()?.into_iter().skip(2);
    let name = segments.next().unwrap_or_default();
    let version = match segments.next() {
        Some(word) if word == "versions" => segments.next().unwrap_or_default(),
        _ => String::new(),
    };
    Ok((name, version))
}

async fn metadata(call: Call) -> Result<Response, Fault> {
    let project = project_of(&call, None)?;
    let (name, version) = named(&call)?;
    let model = describe(&call.app, &project, &name, pick(&version, Pick::Most)?)?;
    let port = |port: &Port| {
        let mut written = json!({"name": port.name, "datatype": port.datatype, "shape": port.shape});
        if let Some(labels) = &port.labels {
            written["parameters"] = json!({"labels": labels});
        }
        written
    };
    let (inputs, outputs): (Vec<Value>, Vec<Value>) =
        (model.inputs.iter().map(port).collect(), model.outputs.iter().map(port).collect());
    json_reply(
        StatusCode::OK,
        &json!({
            "name": model.name,
            "versions": model.versions,
            "platform": model.platform,
            "inputs": inputs,
            "outputs": outputs,
        }),
    )
}

async fn model_ready(call: Call) -> Result<Response, Fault> {
    let project = project_of(&call, None)?;
    let (name, version) = named(&call)?;
    match is_ready(&call.app, &project, &name, pick(&version, Pick::Most)?)? {
        true => json_reply(StatusCode::OK, &json!({"name": name, "ready": true})),
        false => Err(Fault::not_found(format!("the model `{name}` is not served"))),
    }
}

async fn answer(call: Call) -> Result<Response, Fault> {
    let began = Instant::now();
    let project = project_of(&call, None)?;
    let (name, version) = named(&call)?;
    if let Some(coding) = call.head.headers.get(CONTENT_ENCODING).filter(|coding| *coding != "identity") {
        let message = format!("a body in the coding {coding:?} is not taken: send it as it is");
        call.body.discard().await;
        return Err(
            Fault::new(Code::InvalidArgument, message).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
        );
    }
    let json_bytes = match call.head.headers.get(&JSON_LENGTH) {
        None => None,
        Some(value) => {
            let length = value.to_str().ok().and_then(|text| text.parse().ok());
            Some(length.ok_or_else(|| invalid(JSON_LENGTH.as_str(), "must be a number of bytes"))?)
        }
    };
    let Call { app, body, .. } = call;
    let request = Request::read(&body.read().await?, json_bytes)?;
    let route = find_predictor(&app, &project, &name, pick(&version, Pick::Split)?)?;
    let limit = app.limits.predict_timeout;
    let deadline = began + request.timeout.map_or(limit, |timeout| timeout.min(limit));
    let answers = infer(&app, &route, request.inputs, request.outputs, request.binary, deadline).await?;
    let (body, json_bytes) = written(&name, route.deployed.version, request.id.as_deref(), &answers)?;
    app.metrics.predicted(began.elapsed());
    let kind = if json_bytes.is_some() { "application/octet-stream" } else { "application/json" };
    let mut reply = bytes_reply(StatusCode::OK, kind, body);
    if let Some(length) = json_bytes {
        reply.headers_mut().insert(JSON_LENGTH, HeaderValue::from(length));
    }
    Ok(reply)
}

/// An object that may be left out.
async fn fields(call: &mut Call) -> Result<Fields, Fault> {
    let bytes = call.take_body().read().await?;
    Fields::of_body(if bytes.trim_ascii().is_empty() { b"{}" } else { &bytes })
}

async fn index(mut call: Call) -> Result<Response, Fault> {
    let mut fields = fields(&mut call).await?;
    let ready = fields.flag("ready")?.unwrap_or(false);
    fields.finish()?;
    let models = repository::index(&call.app, &parent(&call)?, ready).await?;
    let listed = models.iter().map(|model| {
        json!({"name": model.name, "version": model.version, "state": model.state(), "reason": model.reason})
    });
    json_reply(StatusCode::OK, &listed.collect::<Vec<_>>())
}

async fn load(mut call: Call) -> Result<Response, Fault> {
    let mut fields = fields(&mut call).await?;
    if let Some(parameters) = fields.object("parameters")? {
        parameters.finish()?;
    }
    fields.finish()?;
    let (parent, name) = (parent(&call)?, repository_name(&call)?);
    repository::load(&call.app, &parent, &name).await?;
    json_reply(StatusCode::OK, &json!({}))
}

async fn unload(mut call: Call) -> Result<Response, Fault> {
    let mut fields = fields(&mut call).await?;
    if let Some(mut parameters) = fields.object("parameters")? {
        // Nothing here depends on another model in the repository's sense.
        parameters.flag("unload_dependents")?;
        parameters.finish()?;
    }
    fields.finish()?;
    let (parent, name) = (parent(&call)?, repository_name(&call)?);
    repository::unload(&call.app, &parent, &name).await?;
    json_reply(StatusCode::OK, &json!({}))
}

fn repository_name(call: &Call) -> Result<String, Fault> {
    Ok(call.segments()?.into_iter().nth(3).unwrap_or_default())
}
