//! Anthropic's protocol, as the `anthropic` library speaks it: messages, streamed or not, and the counting of tokens.
//!
//! [`request`] and [`content`] read what is asked into what [`crate::language`] takes; [`blocks`] writes what is said.
//! `cache_control` is taken and changes nothing: every prefix is kept for as long as there is room. What the models here
//! do not do (images, documents, thinking, tools that run on the server) is refused by its name.

mod blocks;
mod content;
mod messages;
mod rates;
mod request;
mod tools;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::http::Permission::Invoke;
use crate::http::{Access, Call, Handler, Protocol, Response, Route, bytes_reply, handler, json_reply};
use crate::language::{Passed, Reply};
use crate::{Code, Fault};

/// How this protocol says no: `{"type": "error", "error": {type, message}, "request_id"}`.
pub const PROTOCOL: Protocol = Protocol {
    name: "anthropic",
    render,
    timing: None,
    request_id: Some("request-id"),
    rates: Some(rates::write),
};

/// Too many people ask: this protocol has a status of its own for it.
const OVERLOADED: u16 = 529;

/// Parts of the protocol that are known and not served.
const UNSERVED: [(Method, &str); 3] = [
    (Method::POST, "/v1/messages/batches"),
    (Method::GET, "/v1/messages/batches"),
    (Method::GET, "/v1/messages/batches/{id}"),
];

/// The routes of this protocol. Models are listed where OpenAI's are.
pub fn routes() -> Vec<Route> {
    let served = [
        route(Method::POST, "/v1/messages", handler(messages::answer)).map(request::described),
        route(Method::POST, "/v1/messages/count_tokens", handler(messages::count))
            .map(request::described_to_count),
    ];
    let unserved = UNSERVED.into_iter().map(|(method, path)| route(method, path, unserved(path)));
    served.into_iter().flatten().chain(unserved.flatten().map(Route::not_served)).collect()
}

fn route(method: Method, pattern: &str, handler: Handler) -> Option<Route> {
    PROTOCOL.route(method, pattern, Access::Needs(Invoke), handler)
}

/// Answers the body of a message that came by another protocol's address.
pub(crate) fn message_passed(passed: Passed) -> Reply {
    Box::pin(messages::answer_passed(passed))
}

fn unserved(path: &'static str) -> Handler {
    handler(move |call: Call| async move {
        call.body.discard().await;
        Err(Fault::not_found(format!(
            "{path} is not served by this server; nothing is stored after its reply"
        )))
    })
}

fn render(fault: &Fault, request: &str) -> Response {
    let mut body = error(fault);
    body["request_id"] = request.into();
    json_reply(status(fault), &body)
        .unwrap_or_else(|_| bytes_reply(StatusCode::INTERNAL_SERVER_ERROR, "application/json", "{}"))
}

fn status(fault: &Fault) -> StatusCode {
    let own = match fault.code {
        Code::Unavailable => StatusCode::from_u16(OVERLOADED).ok(),
        _ => None,
    };
    own.unwrap_or_else(|| fault.status())
}

/// An error, but for the request that it is about.
fn error(fault: &Fault) -> Value {
    let kind = match fault.code {
        _ if fault.status() == StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        Code::Unauthenticated => "authentication_error",
        Code::PermissionDenied => "permission_error",
        Code::NotFound => "not_found_error",
        Code::ResourceExhausted => "rate_limit_error",
        Code::DeadlineExceeded => "timeout_error",
        Code::Unavailable => "overloaded_error",
        Code::Internal | Code::DataLoss | Code::Unimplemented => "api_error",
        _ => "invalid_request_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": fault.message}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_have_their_word_and_status() {
        for (fault, kind, code) in [
            (Fault::new(Code::Unavailable, "x"), "overloaded_error", OVERLOADED),
            (Fault::new(Code::ResourceExhausted, "x"), "rate_limit_error", 429),
            (Fault::new(Code::DeadlineExceeded, "x"), "timeout_error", 504),
            (Fault::invalid("x").with_status(StatusCode::PAYLOAD_TOO_LARGE), "request_too_large", 413),
            (Fault::invalid("x"), "invalid_request_error", 400),
            (Fault::internal("x", "y"), "api_error", 500),
        ] {
            assert_eq!(error(&fault)["error"]["type"], kind);
            assert_eq!(render(&fault, "1").status().as_u16(), code);
        }
    }
}
