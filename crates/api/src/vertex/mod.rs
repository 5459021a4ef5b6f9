//! Vertex AI v1 over REST, as `google-cloud-aiplatform` speaks it.
//!
//! [`schema`] reads the API's published description and checks JSON against it; [`rpc`] makes a route of
//! every address in it. The files beside them hold one collection each: what it takes, the call of
//! `control` or `serving`, what it gives. Only online prediction ([`predict`]) has a path of its own.
//!
//! A procedure of the description that is not served answers 501 with its name. A field that is in the
//! description but would have no effect answers 501 with its name, but for those listed in [`fields`].

mod batch;
mod convert;
mod datasets;
mod endpoints;
mod evaluations;
mod explain;
mod explain_answer;
mod explanation;
mod fields;
mod models;
mod operations;
mod pipelines;
mod predict;
mod rpc;
mod schema;
mod tasks;

pub(crate) use self::batch::answerer;
use http::StatusCode;
use serde::Serialize;

use crate::Fault;
use crate::http::{Protocol, Response, Route, bytes_reply, json_reply};

pub use schema::SchemaError;

/// How this protocol says no: `{"error": {code, message, status, details}}`.
pub const PROTOCOL: Protocol = Protocol { name: "vertex", render, timing: None, request_id: None };

/// The routes of this protocol.
///
/// # Errors
/// If the embedded API description cannot be read: a defect.
pub fn routes() -> Result<Vec<Route>, SchemaError> {
    rpc::routes()
}

#[derive(Serialize)]
struct ErrorReply<'a> {
    error: ErrorBody<'a>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: u16,
    message: &'a str,
    status: &'a str,
    details: [(); 0],
}

fn render(fault: &Fault, _: &str) -> Response {
    let status = fault.status();
    let error =
        ErrorBody { code: status.as_u16(), message: &fault.message, status: fault.code.name(), details: [] };
    json_reply(status, &ErrorReply { error })
        .unwrap_or_else(|_| bytes_reply(StatusCode::INTERNAL_SERVER_ERROR, "application/json", "{}"))
}
