//! What programs written for Google's cloud ask of its other hosts: tokens for their service account, and which project a
//! number stands for. Buckets and models have protocols of their own; whatever the host, the routes are the same.

mod projects;
mod token;

use http::StatusCode;
use serde_json::json;

use crate::Fault;
use crate::http::{Protocol, Response, Route, bytes_reply, json_reply};

/// How a token is refused: `{"error": …, "error_description": …}` (RFC 6749).
pub const PROTOCOL: Protocol =
    Protocol { name: "cloud", render, timing: None, request_id: None, rates: None };

/// The routes of this protocol.
pub fn routes() -> Vec<Route> {
    token::route().into_iter().chain(projects::route()).collect()
}

fn render(fault: &Fault, _: &str) -> Response {
    let error = fault.reason.unwrap_or("invalid_request");
    json_reply(fault.status(), &json!({"error": error, "error_description": fault.message}))
        .unwrap_or_else(|_| bytes_reply(StatusCode::INTERNAL_SERVER_ERROR, "application/json", "{}"))
}
