//! Health and metrics: what monitors ask.

use http::{Method, StatusCode};

use crate::http::{Access, Call, Permission, Response, Route, Template, bytes_reply, handler};
use crate::{Fault, vertex};

/// The routes of this folder: the only public ones of the server.
pub(crate) fn routes() -> Vec<Route> {
    let route = |path: &str, access, handler| {
        Template::parse(path).map(|template| Route {
            method: Method::GET,
            template,
            pattern: path.to_owned(),
            access,
            protocol: vertex::PROTOCOL,
            handler,
        })
    };
    [
        route("/health/live", Access::Public, handler(well)),
        // Requests are taken only once everything has been opened.
        route("/health/ready", Access::Public, handler(well)),
        route("/metrics", Access::Needs(Permission::Administer), handler(metrics)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

async fn well(_: Call) -> Result<Response, Fault> {
    Ok(bytes_reply(StatusCode::OK, "application/json", "{\"status\":\"ok\"}"))
}

async fn metrics(call: Call) -> Result<Response, Fault> {
    Ok(bytes_reply(StatusCode::OK, "text/plain; version=0.0.4", call.metrics.render()))
}
