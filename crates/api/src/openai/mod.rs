//! OpenAI's protocol, as the `openai` library speaks it: chat completions, completions and responses.
//!
//! [`chat`], [`completions`] and [`responses`] each turn a request into what [`crate::language`] takes and what it says
//! into their own shape, whole or streamed. What they share lies beside them: [`messages`], [`sampling`], [`mod@format`],
//! [`tools`], [`logprobs`].

mod chat;
mod completions;
mod format;
mod logprobs;
mod messages;
mod responses;
mod sampling;
mod tools;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::http::Permission::Invoke;
use crate::http::{
    Access, Call, Handler, Permission, Protocol, Response, Route, Template, bytes_reply, handler, json_reply,
};
use crate::{Code, Fault};

/// How this protocol says no: `{"error": {message, type, code, param}}`.
pub const PROTOCOL: Protocol =
    Protocol { name: "openai", render, timing: Some("openai-processing-ms"), request_id: None };

/// The header in which a client names the project.
pub(crate) const PROJECT_HEADER: &str = "openai-project";

/// Parts of the protocol that are known and not served.
const UNSERVED: [(Method, &str); 12] = [
    (Method::POST, "/v1/embeddings"),
    (Method::POST, "/v1/moderations"),
    (Method::GET, "/v1/files"),
    (Method::POST, "/v1/files"),
    (Method::GET, "/v1/batches"),
    (Method::POST, "/v1/batches"),
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
        route(Method::POST, "/v1/chat/completions", Invoke, handler(chat::answer)),
        route(Method::POST, "/v1/completions", Invoke, handler(completions::answer)),
        route(Method::POST, "/v1/responses", Invoke, handler(responses::answer)),
    ];
    let unserved = UNSERVED.into_iter().map(|(method, path)| route(method, path, Invoke, unserved(path)));
    served.into_iter().chain(unserved).flatten().collect()
}

fn route(method: Method, pattern: &str, permission: Permission, handler: Handler) -> Option<Route> {
    Template::parse(pattern).map(|template| Route {
        method,
        template,
        pattern: pattern.to_owned(),
        access: Access::Needs(permission),
        protocol: PROTOCOL,
        handler,
    })
}

fn unserved(path: &'static str) -> Handler {
    handler(move |call: Call| async move {
        call.body.discard().await;
        let message = format!("{path} is not served by this server; nothing is stored after its reply");
        Err(Fault::not_found(message).because("not_served"))
    })
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
