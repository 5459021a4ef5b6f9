//! Health and metrics: what monitors ask.

use std::fmt::Write;

use http::{Method, StatusCode};
use serving::DeployedMetrics;

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
    let mut text = call.metrics.render();
    deployed(&mut text, &call.app.router.metrics());
    Ok(bytes_reply(StatusCode::OK, "text/plain; version=0.0.4", text))
}

/// What every deployed model has been doing, one line a figure.
fn deployed(text: &mut String, models: &[DeployedMetrics]) {
    type Figure = (&'static str, &'static str, fn(&DeployedMetrics) -> u64);
    const FIGURES: [Figure; 8] = [
        ("queued", "gauge", |m| m.queued as u64),
        ("requests_total", "counter", |m| m.counters.requests),
        ("bad_requests_total", "counter", |m| m.counters.bad_requests),
        ("overloaded_total", "counter", |m| m.counters.overloaded),
        ("expired_total", "counter", |m| m.counters.expired),
        ("cancelled_total", "counter", |m| m.counters.cancelled),
        ("failed_total", "counter", |m| m.counters.failed),
        ("explanations_total", "counter", |m| m.counters.explanations),
    ];
    for (name, kind, figure) in FIGURES {
        // Writing to a string does not fail.
        let _ = writeln!(text, "# TYPE meuse_deployed_{name} {kind}");
        for model in models {
            let (endpoint, id) = (&model.endpoint, &model.deployed.id);
            let figure = figure(model);
            let _ = writeln!(
                text,
                "meuse_deployed_{name}{{endpoint=\"{endpoint}\",deployed_model=\"{id}\"}} {figure}"
            );
        }
    }
}
