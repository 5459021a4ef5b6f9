//! OpenAI's protocol, as the `openai` library speaks it: chat completions, completions, responses, embeddings, files and
//! batches; and beside these [`rerank`], which others added to it.
//!
//! [`chat`], [`completions`] and [`responses`] each turn a request into what [`crate::language`] takes and what it says
//! into their own shape, whole or streamed. What they share lies beside them: [`messages`], [`sampling`], [`mod@format`],
//! [`tools`], [`logprobs`]. [`batches`] have the lines of [`files`] answered by the same functions.

mod batches;
mod chat;
mod completions;
mod embeddings;
mod files;
mod format;
mod listing;
mod logprobs;
mod messages;
mod rates;
mod rerank;
mod responses;
mod sampling;
mod tools;

use control::{Parent, is_id};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::http::Permission::{Fetch, Invoke, Read, Store, Write};
use crate::http::{
    Access, Call, Handler, Permission, Protocol, Response, Route, bytes_reply, handler, json_reply,
};
use crate::language::{Passed, Reply, project_of};
use crate::{Code, Fault};

/// How this protocol says no: `{"error": {message, type, code, param}}`.
pub const PROTOCOL: Protocol = Protocol {
    name: "openai",
    render,
    timing: Some("openai-processing-ms"),
    request_id: None,
    rates: Some(rates::write),
};

/// The header in which a client names the project.
pub(crate) const PROJECT_HEADER: &str = "openai-project";

/// Parts of the protocol that are known and not served.
const UNSERVED: [(Method, &str); 7] = [
    (Method::POST, "/v1/moderations"),
    (Method::GET, "/v1/fine_tuning/jobs"),
    (Method::POST, "/v1/fine_tuning/jobs"),
    (Method::POST, "/v1/images/generations"),
    (Method::POST, "/v1/audio/speech"),
    (Method::GET, "/v1/chat/completions"),
    (Method::GET, "/v1/responses/{id}"),
];

/// The routes of this protocol.
pub fn routes() -> Vec<Route> {
    let served = [
        route(Method::POST, "/v1/chat/completions", Invoke, handler(chat::answer)).map(chat::described),
        route(Method::POST, "/v1/completions", Invoke, handler(completions::answer))
            .map(completions::described),
        route(Method::POST, "/v1/responses", Invoke, handler(responses::answer)).map(responses::described),
        route(Method::POST, "/v1/embeddings", Invoke, handler(embeddings::answer)).map(embeddings::described),
        route(Method::POST, "/v1/rerank", Invoke, handler(rerank::answer)).map(rerank::described),
        route(Method::POST, "/v1/files", Store, handler(files::create)),
        route(Method::GET, "/v1/files", Read, handler(files::list))
            .map(|route| listing::described(route, &["purpose"])),
        route(Method::GET, "/v1/files/{file}", Read, handler(files::get)),
        route(Method::GET, "/v1/files/{file}/content", Fetch, handler(files::content)),
        route(Method::DELETE, "/v1/files/{file}", Store, handler(files::delete)),
        route(Method::POST, "/v1/batches", Write, handler(batches::create)),
        route(Method::GET, "/v1/batches", Read, handler(batches::list))
            .map(|route| listing::described(route, &[])),
        route(Method::GET, "/v1/batches/{batch}", Read, handler(batches::get)),
        route(Method::POST, "/v1/batches/{batch}/cancel", Write, handler(batches::cancel)),
    ];
    let unserved = UNSERVED.into_iter().map(|(method, path)| route(method, path, Invoke, unserved(path)));
    served.into_iter().flatten().chain(unserved.flatten().map(Route::not_served)).collect()
}

fn route(method: Method, pattern: &str, permission: Permission, handler: Handler) -> Option<Route> {
    PROTOCOL.route(method, pattern, Access::Needs(permission), handler)
}

/// Answers the body of a chat completion that came by another protocol's address.
pub(crate) fn chat_passed(passed: Passed) -> Reply {
    Box::pin(chat::answer_passed(passed))
}

fn unserved(path: &'static str) -> Handler {
    handler(move |call: Call| async move {
        call.body.discard().await;
        let message = format!("{path} is not served by this server; nothing is stored after its reply");
        Err(Fault::not_found(message).because("not_served"))
    })
}

pub(crate) use batches::answerer;

/// The project and place of what `call` names or makes. This protocol has no places.
fn parent_of(call: &Call) -> Result<Parent, Fault> {
    let project = project_of(call, Some(PROJECT_HEADER))?;
    Ok(Parent::parse(&format!("projects/{project}/locations/global"))?)
}

/// The resource in `collection` that the third segment of the path means by its id, which begins with `prefix`.
fn named(call: &Call, collection: &str, prefix: &str) -> Result<String, Fault> {
    let id = call.segments()?.into_iter().nth(2).unwrap_or_default();
    resource(&parent_of(call)?, collection, prefix, &id)
}

/// The resource in `collection` whose id here is `id`.
fn resource(parent: &Parent, collection: &str, prefix: &str, id: &str) -> Result<String, Fault> {
    let own = id.strip_prefix(prefix).filter(|own| is_id(own));
    own.map(|own| parent.child(collection, own)).ok_or_else(|| absent(collection, id))
}

/// The fault that there is no `id` in `collection`.
fn absent(collection: &str, id: &str) -> Fault {
    let id: String = id.chars().take(128).collect();
    Fault::not_found(format!("there is no `{id}` among this project's {collection}")).about("id")
}

/// A resource's id here.
fn id_of(prefix: &str, name: &str) -> String {
    format!("{prefix}{}", name.rsplit('/').next().unwrap_or(name))
}

fn render(fault: &Fault, _: &str) -> Response {
    json_reply(fault.status(), &json!({"error": error(fault)}))
        .unwrap_or_else(|_| bytes_reply(StatusCode::INTERNAL_SERVER_ERROR, "application/json", "{}"))
}

/// The inside of an error.
fn error(fault: &Fault) -> Value {
    let (kind, code) = match fault.code {
        Code::Unauthenticated => ("invalid_request_error", Some("invalid_api_key")),
        Code::PermissionDenied => ("invalid_request_error", Some("insufficient_permissions")),
        Code::ResourceExhausted => ("rate_limit_error", Some("rate_limit_exceeded")),
        Code::DeadlineExceeded => ("server_error", Some("timeout")),
        Code::Unavailable => ("server_error", Some("overloaded")),
        Code::Internal | Code::DataLoss | Code::Unimplemented => ("server_error", None),
        _ => ("invalid_request_error", None),
    };
    json!({"message": fault.message, "type": kind, "code": fault.reason.or(code), "param": fault.field})
}
