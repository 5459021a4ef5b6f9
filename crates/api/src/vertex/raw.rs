//! Raw predictions: what a model's own server would take. That of a language model takes the body of a chat completion,
//! or of an Anthropic message, which says `anthropic_version` as such bodies do on Vertex; that of any other model
//! `{"instances": […]}` ([`super::predict`]).

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};

use super::generate::{NOUNS, VERSIONS, asked, route};
use super::predict::{self, HttpBody, name_deployed, opened};
use super::rpc::{Served, streamed, with_call};
use crate::Fault;
use crate::http::Permission::Invoke;
use crate::http::{Call, ReplyBody, Response, Route, Template, handler};
use crate::language::{Dialects, Passed, prepared};

/// The field by which Anthropic's bodies are known.
const ANTHROPIC: &[u8] = b"\"anthropic_version\"";

/// The routes of this file.
pub(super) fn routes(dialects: Dialects) -> Vec<Route> {
    let mut routes = Vec::new();
    for (version, noun) in VERSIONS.into_iter().flat_map(|version| NOUNS.map(|noun| (version, noun))) {
        let path = |verb: &str| format!("/{version}/{{endpoint=projects/*/locations/*/{noun}}}:{verb}");
        routes.extend(route(path("rawPredict"), move |call, name| answer(call, name, dialects, false)));
        routes.extend(route(path("streamRawPredict"), move |call, name| answer(call, name, dialects, true)));
    }
    for endpoint in ["endpoints/*", "endpoints/*/deployedModels/*"] {
        let pattern = format!("/v1/{{endpoint=projects/*/locations/*/{endpoint}}}/invoke/{{path=**}}");
        routes.extend(route(pattern, move |call, name| invoke(call, name, dialects)));
    }
    routes
}

/// The procedures of this file, which gRPC reaches by the endpoint alone.
pub(super) fn served(dialects: Dialects) -> Vec<Served> {
    let handler = move |streams: bool| {
        move |template: Arc<Template>| {
            handler(move |call: Call| {
                let template = Arc::clone(&template);
                async move {
                    let name = call.variable(&template, 0)?.into_owned();
                    answer(call, name, dialects, streams).await
                }
            })
        }
    };
    vec![
        with_call("PredictionService.RawPredict", Invoke, move |_, template| handler(false)(template)),
        streamed("PredictionService.StreamRawPredict", Invoke, move |_, template| handler(true)(template)),
    ]
}

/// What the server in a model's container would be asked on a path of its own: here that of a raw prediction, or of the
/// protocol whose path it is.
async fn invoke(call: Call, name: String, dialects: Dialects) -> Result<Response, Fault> {
    let (endpoint, deployed) = match name.split_once("/deployedModels/") {
        Some((endpoint, deployed)) => (endpoint.to_owned(), Some(deployed.to_owned())),
        None => (name, None),
    };
    let (_, path) = call.head.uri.path().split_once("/invoke/").unwrap_or_default();
    match (call.app.router.speaks(&endpoint), path) {
        (false, "predict") => predict::raw(call, endpoint, deployed).await,
        (true, "v1/chat/completions" | "v1/messages") if deployed.is_none() => {
            pass(call, &endpoint, dialects, false).await
        }
        (true, _) if deployed.is_some() => Err(Fault::unimplemented(
            "which of an endpoint's language models answers is not to be chosen here: leave deployedModels out",
        )),
        (speaks, path) => {
            let known = if speaks { "/v1/chat/completions and /v1/messages" } else { "/predict" };
            Err(Fault::not_found(format!("this model answers no calls of /{path}, but of {known}")))
        }
    }
}

async fn answer(call: Call, name: String, dialects: Dialects, streams: bool) -> Result<Response, Fault> {
    let speaks = name.contains("/publishers/") || call.app.router.speaks(&name);
    match (speaks, streams) {
        (false, false) => predict::raw(call, name, None).await,
        (false, true) => predict::stream_raw(call, name).await,
        (true, _) => pass(call, &name, dialects, streams).await,
    }
}

async fn pass(call: Call, name: &str, dialects: Dialects, streams: bool) -> Result<Response, Fault> {
    let Call { app, head, body, .. } = call;
    let bytes = body.read().await?;
    let opening = prepared(&app, move |_| {
        let (body, wrapped) = opened(bytes, &head.headers)?;
        let anthropic = body.windows(ANTHROPIC.len()).any(|part| part == ANTHROPIC);
        Ok((body, wrapped, anthropic))
    });
    let (body, wrapped, anthropic) = opening.await?;
    let (route, project) = asked(&app, name)?;
    let deployed = route.deployed.clone();
    let answer = if anthropic { dialects.messages } else { dialects.chat };
    let mut reply = answer(Passed { app, route, project, body, streams }).await?;
    if wrapped {
        reply = wrap(reply)?;
    }
    name_deployed(reply.headers_mut(), &deployed);
    Ok(reply)
}

/// A reply as `google.api.HttpBody`, or as a list of such, for the generated client.
fn wrap(reply: Response) -> Result<Response, Fault> {
    let (mut head, body) = reply.into_parts();
    let kind = content_type(&head.headers);
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    head.headers.remove(CONTENT_LENGTH);
    let body = match body {
        ReplyBody::Full(bytes) => ReplyBody::Full(HttpBody::of(&kind, &bytes).written()?.into()),
        trailed @ (ReplyBody::Trailed(..) | ReplyBody::Frames(_)) => trailed,
        ReplyBody::Stream(pieces) => {
            let wrapped = pieces.enumerate().map(move |(i, piece)| {
                let mut item = vec![if i == 0 { b'[' } else { b',' }];
                let body = HttpBody::of(&kind, &piece?).written().map_err(std::io::Error::other)?;
                item.extend(body);
                Ok(Bytes::from(item))
            });
            let end = stream::once(async { Ok(Bytes::from_static(b"]")) });
            ReplyBody::Stream(Box::pin(wrapped.chain(end)))
        }
    };
    Ok(Response::from_parts(head, body))
}

fn content_type(headers: &HeaderMap) -> String {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.unwrap_or("application/json").to_owned()
}
