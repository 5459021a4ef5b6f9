//! Ollama's protocol, as the `ollama` library speaks it: chats, texts to complete, the models there are.
//!
//! [`chat`] and [`generate`] read a request ([`request`]) and hand it to a model; [`answer`] tells what it says, a JSON
//! object a line unless the client wants one object. [`embed`] asks encoders. [`models`] lists and describes what is deployed, [`pull`] fetches
//! and deploys, [`delete`] takes away. A name may end in `:latest`, which says nothing here.

mod answer;
mod chat;
mod delete;
mod embed;
mod generate;
mod models;
mod pull;
mod request;

use control::Timestamp;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use serving::LanguageRoute;

use crate::fields::Fields;
use crate::http::Permission::{Invoke, Look, Write};
use crate::http::{Access, App, Call, Handler, Protocol, Response, Route, bytes_reply, handler, json_reply};
use crate::language::find;
use crate::tenant::Tenant;
use crate::{Code, Fault};

/// How this protocol says no: `{"error": "…"}`.
pub const PROTOCOL: Protocol =
    Protocol { name: "ollama", render, timing: None, request_id: None, rates: None };

/// The location of models that are named without one.
const LOCATION: &str = "us-central1";
/// What the protocol adds to a name without a tag.
const LATEST: &str = ":latest";

/// Parts of the protocol that are known and not served.
const UNSERVED: [(Method, &str); 4] = [
    (Method::POST, "/api/create"),
    (Method::POST, "/api/copy"),
    (Method::POST, "/api/push"),
    (Method::POST, "/api/blobs/{digest}"),
];

/// The routes of this protocol.
pub fn routes() -> Vec<Route> {
    let served = [
        PROTOCOL.route(Method::POST, "/api/chat", Access::Needs(Invoke), handler(chat::answer)),
        PROTOCOL.route(Method::POST, "/api/generate", Access::Needs(Invoke), handler(generate::answer)),
        PROTOCOL.route(Method::POST, "/api/embed", Access::Needs(Invoke), handler(embed::texts)),
        PROTOCOL.route(Method::POST, "/api/embeddings", Access::Needs(Invoke), handler(embed::text)),
        PROTOCOL.route(Method::GET, "/api/tags", Access::Needs(Look), handler(models::tags)),
        PROTOCOL.route(Method::GET, "/api/ps", Access::Needs(Look), handler(models::loaded)),
        PROTOCOL.route(Method::POST, "/api/show", Access::Needs(Look), handler(models::show)),
        PROTOCOL.route(Method::GET, "/api/version", Access::Needs(Look), handler(version)),
        PROTOCOL.route(Method::POST, "/api/pull", Access::Needs(Write), handler(pull::pull)),
        PROTOCOL.route(Method::DELETE, "/api/delete", Access::Needs(Write), handler(delete::delete)),
    ];
    let unserved = UNSERVED
        .into_iter()
        .map(|(method, path)| PROTOCOL.route(method, path, Access::Needs(Write), unserved(path)));
    served.into_iter().flatten().chain(unserved.flatten().map(Route::not_served)).collect()
}

fn unserved(path: &'static str) -> Handler {
    handler(move |call: Call| async move {
        call.body.discard().await;
        Err(Fault::unimplemented(format!("{path} is not served by this server")))
    })
}

async fn version(_: Call) -> Result<Response, Fault> {
    json_reply(StatusCode::OK, &json!({"version": env!("CARGO_PKG_VERSION")}))
}

fn render(fault: &Fault, _: &str) -> Response {
    json_reply(fault.status(), &error(fault))
        .unwrap_or_else(|_| bytes_reply(StatusCode::INTERNAL_SERVER_ERROR, "application/json", "{}"))
}

fn error(fault: &Fault) -> Value {
    json!({"error": fault.message})
}

/// A time as this protocol writes it.
fn time(at: Timestamp) -> Value {
    at.to_string().into()
}

/// The model that a request names: `model`, or `name` as it was called before.
fn named(fields: &mut Fields) -> Result<String, Fault> {
    let old = fields.text("name")?;
    let new = fields.text("model")?;
    new.or(old).filter(|name| !name.is_empty()).ok_or_else(|| fields.missing("model"))
}

/// `name` without the tag that says nothing.
fn untagged(name: &str) -> &str {
    name.strip_suffix(LATEST).unwrap_or(name)
}

/// The language model called `name` in `project`.
fn model(app: &App, project: &Tenant, name: &str) -> Result<LanguageRoute, Fault> {
    match find(app, project, name) {
        Err(fault) if fault.code == Code::NotFound && untagged(name) != name => {
            find(app, project, untagged(name))
        }
        found => found,
    }
}
