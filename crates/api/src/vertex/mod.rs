//! Vertex AI v1 over REST and gRPC, as `google-cloud-aiplatform` speaks it.
//!
//! [`schema`] reads the API's published description and checks JSON against it; [`rpc`] makes a route of
//! every address in it, and [`grpc`] another of every procedure. The files beside them hold one collection each: what it takes, the call of
//! `control` or `serving`, what it gives. Online prediction ([`predict`]) and generation ([`generate`]) have paths of
//! their own.
//!
//! A procedure of the description that is not served answers 501 with its name. A field that is in the
//! description but would have no effect answers 501 with its name, but for those listed in [`fields`].

mod batch;
mod boards;
mod convert;
mod datasets;
mod embed;
mod endpoints;
mod evaluations;
mod explain;
mod explain_answer;
mod explanation;
mod fields;
mod generate;
mod grpc;
mod metadata;
mod models;
mod operations;
mod pipeline_jobs;
mod pipelines;
mod predict;
mod pull;
mod raw;
mod rpc;
mod schema;
mod tasks;
mod tensors;
mod words;

pub(crate) use self::batch::answerer;
use http::StatusCode;
use serde_json::{Value, json};

use crate::Fault;
use crate::http::{Protocol, Response, Route, bytes_reply, json_reply};
use crate::language::Dialects;

pub use schema::SchemaError;

/// How this protocol says no: `{"error": {code, message, status, details}}`.
pub const PROTOCOL: Protocol =
    Protocol { name: "vertex", render, timing: None, request_id: None, rates: None };

/// The routes of this protocol. Raw requests to language models are answered in one of `dialects`.
///
/// # Errors
/// If the embedded API description cannot be read: a defect.
pub(crate) fn routes(dialects: Dialects) -> Result<Vec<Route>, SchemaError> {
    let mut routes = generate::routes();
    routes.extend(raw::routes(dialects));
    routes.extend(rpc::routes(dialects)?);
    Ok(routes)
}

fn render(fault: &Fault, _: &str) -> Response {
    json_reply(fault.status(), &error(fault))
        .unwrap_or_else(|_| bytes_reply(StatusCode::INTERNAL_SERVER_ERROR, "application/json", "{}"))
}

fn error(fault: &Fault) -> Value {
    json!({"error": {
        "code": fault.status().as_u16(),
        "message": fault.message,
        "status": fault.code.name(),
        "details": [],
    }})
}
