//! What the command line needs and Vertex has not: [`keys`], [`quotas`] and prices, [`mod@usage`], the [`audit`] log, and
//! the catalogue of models.

mod audit;
mod cloud;
mod keys;
mod quotas;
mod usage;

use http::{Method, StatusCode};
use serde_json::json;

use crate::Fault;
use crate::http::Permission::{Administer, Audit, Operate, Read};
use crate::http::{Access, Call, Handler, Permission, Response, Route, handler, json_reply};
use crate::vertex::PROTOCOL;

/// The routes of this protocol.
pub fn routes() -> Vec<Route> {
    let routes = [
        route(Method::POST, "/admin/v1/keys", Administer, handler(keys::create)).map(keys::described),
        route(Method::GET, "/admin/v1/keys", Administer, handler(keys::list)),
        route(Method::POST, "/admin/v1/keys/{key}:rotate", Administer, handler(keys::rotate))
            .map(keys::described_rotation),
        route(Method::DELETE, "/admin/v1/keys/{key}", Administer, handler(keys::delete)),
        route(Method::GET, "/admin/v1/audit", Audit, handler(audit::export))
            .map(|route| route.takes_query(&["after"])),
        route(Method::GET, "/admin/v1/audit:verify", Audit, handler(audit::verify)),
        route(Method::POST, "/admin/v1/audit:prune", Operate, handler(audit::prune)),
        route(Method::GET, "/admin/v1/usage", Administer, handler(usage::usage)).map(usage::described),
        route(Method::GET, "/admin/v1/quotas", Administer, handler(quotas::list)),
        route(Method::GET, "/admin/v1/quotas/{kind}/{id}", Administer, handler(quotas::get)),
        route(Method::PUT, "/admin/v1/quotas/{kind}/{id}", Administer, handler(quotas::set))
            .map(quotas::described),
        route(Method::GET, "/admin/v1/prices", Administer, handler(quotas::prices)),
        route(Method::PUT, "/admin/v1/prices/{model}", Operate, handler(quotas::set_price))
            .map(quotas::described_price),
        route(Method::DELETE, "/admin/v1/prices/{model}", Operate, handler(quotas::delete_price)),
        route(Method::GET, "/admin/v1/catalogue", Read, handler(catalogue)),
    ];
    routes.into_iter().chain(cloud::routes()).flatten().collect()
}

fn route(method: Method, pattern: &str, permission: Permission, handler: Handler) -> Option<Route> {
    PROTOCOL.route(method, pattern, Access::Needs(permission), handler)
}

/// The project that the caller administers, or `*`.
fn own_project(call: &Call) -> &str {
    call.principal.as_ref().map_or("", |principal| principal.project.as_str())
}

/// What can be pulled by a name, and the memory that this machine has for a model.
async fn catalogue(call: Call) -> Result<Response, Fault> {
    let catalogue = call.app.control.catalogue().await?;
    let limit = call.app.control.options().language.memory_max;
    // The system is asked, in files.
    let memory =
        tokio::task::spawn_blocking(move || if limit == 0 { llm::memory_available() } else { limit });
    let memory = memory.await.map_err(|e| Fault::internal("reading how much memory there is", e))?;
    let models = catalogue.entries().iter().map(|entry| {
        json!({
            "name": entry.name,
            "goodFor": entry.good_for,
            "licence": entry.licence,
            "runtime": entry.runtime,
            "file": entry.file,
            "bytes": entry.bytes,
            "sha256": entry.digest.hex(),
            "sources": entry.sources,
        })
    });
    let models: Vec<_> = models.collect();
    json_reply(StatusCode::OK, &json!({"models": models, "memoryBytes": memory}))
}
