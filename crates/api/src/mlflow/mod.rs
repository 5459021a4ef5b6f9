//! MLflow's scoring protocol: `POST /invocations` on a model's own path, with tables or tensors in JSON, or CSV.
//!
//! A model is asked at `/mlflow/{name}`, which is a base address as `mlflow models serve` has it, or at
//! `/endpoints/{name}`, as MLflow's deployment client has it. `/invocations` without a name is for a project that serves
//! one model.

mod invocations;
mod table;

use http::{Method, StatusCode};
use serde_json::json;

use crate::http::Access::{Needs, Public};
use crate::http::Permission::{Invoke, Look};
use crate::http::{Call, Protocol, Response, Route, bytes_reply, handler, json_reply};
use crate::{Code, Fault};

/// How this protocol says no: `{"error_code": "…", "message": "…"}`.
const PROTOCOL: Protocol = Protocol { name: "mlflow", render, timing: None, request_id: None, rates: None };

/// The routes of this protocol.
pub fn routes() -> Vec<Route> {
    [
        PROTOCOL.route(Method::POST, "/invocations", Needs(Invoke), handler(invocations::answer)),
        PROTOCOL.route(
            Method::POST,
            "/mlflow/{model}/invocations",
            Needs(Invoke),
            handler(invocations::answer),
        ),
        PROTOCOL.route(
            Method::POST,
            "/endpoints/{model}/invocations",
            Needs(Invoke),
            handler(invocations::answer),
        ),
        PROTOCOL.route(Method::GET, "/mlflow/{model}/ping", Needs(Look), handler(invocations::ping)),
        PROTOCOL.route(Method::GET, "/mlflow/{model}/health", Needs(Look), handler(invocations::ping)),
        PROTOCOL.route(Method::GET, "/mlflow/{model}/version", Needs(Look), handler(version)),
        PROTOCOL.route(Method::GET, "/ping", Public, handler(well)),
        PROTOCOL.route(Method::GET, "/version", Needs(Look), handler(version)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

async fn well(_: Call) -> Result<Response, Fault> {
    Ok(bytes_reply(StatusCode::OK, "application/json", "\n"))
}

/// What answers: this server, no MLflow.
async fn version(_: Call) -> Result<Response, Fault> {
    Ok(bytes_reply(StatusCode::OK, "text/plain", concat!("meuse ", env!("CARGO_PKG_VERSION"))))
}

fn render(fault: &Fault, _: &str) -> Response {
    let word = match fault.code {
        Code::InvalidArgument | Code::OutOfRange => "BAD_REQUEST",
        Code::NotFound => "RESOURCE_DOES_NOT_EXIST",
        Code::ResourceExhausted => "REQUEST_LIMIT_EXCEEDED",
        Code::Unavailable => "TEMPORARILY_UNAVAILABLE",
        Code::Internal | Code::DataLoss => "INTERNAL_ERROR",
        other => other.name(),
    };
    json_reply(fault.status(), &json!({"error_code": word, "message": fault.message}))
        .unwrap_or_else(|_| bytes_reply(StatusCode::INTERNAL_SERVER_ERROR, "application/json", "{}"))
}
