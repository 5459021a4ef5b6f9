//! What the command line needs and Vertex has not: keys, and the catalogue of models.

use control::{KeyInfo, Role, Timestamp};
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Fault;
use crate::http::Permission::{Administer, Read};
use crate::http::{Access, Call, Handler, Permission, Response, Route, Template, handler, json_reply};
use crate::vertex::PROTOCOL;

/// The routes of this protocol.
pub fn routes() -> Vec<Route> {
    let route = |method, pattern: &str, permission: Permission, handler: Handler| {
        Template::parse(pattern).map(|template| Route {
            method,
            template,
            pattern: pattern.to_owned(),
            access: Access::Needs(permission),
            protocol: PROTOCOL,
            handler,
        })
    };
    [
        route(Method::POST, "/admin/v1/keys", Administer, handler(create_key)),
        route(Method::GET, "/admin/v1/keys", Administer, handler(list_keys)),
        route(Method::DELETE, "/admin/v1/keys/{key}", Administer, handler(delete_key)),
        route(Method::GET, "/admin/v1/catalogue", Read, handler(catalogue)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateKey {
    project: String,
    role: String,
    /// RFC 3339.
    #[serde(default)]
    expires: Option<Timestamp>,
}

/// A key as it is shown: the secret part only in the answer to its creation.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyReply<'a> {
    id: &'a str,
    project: &'a str,
    role: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
    create_time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
}

impl<'a> KeyReply<'a> {
    fn new(info: &'a KeyInfo, key: Option<&'a str>) -> Self {
        KeyReply {
            id: &info.id,
            project: &info.project,
            role: info.role.to_string(),
            expires: info.expires,
            create_time: info.create_time,
            key,
        }
    }
}

async fn create_key(call: Call) -> Result<Response, Fault> {
    let (control, principal) = (call.app.control.clone(), call.principal.clone());
    let bytes = call.body.read().await?;
    let wanted: CreateKey =
        serde_json::from_slice(&bytes).map_err(|e| Fault::invalid(format!("the key's description: {e}")))?;
    allow(principal.as_ref(), &wanted.project)?;
    let role: Role = wanted.role.parse().map_err(Fault::from)?;
    let (info, secret) = control.keys().create(&wanted.project, role, wanted.expires).await?;
    json_reply(StatusCode::OK, &KeyReply::new(&info, Some(secret.expose())))
}

/// A project's own admin hands out that project's keys; only a key for all makes another for all.
fn allow(principal: Option<&control::Principal>, project: &str) -> Result<(), Fault> {
    match principal {
        Some(principal) if principal.project == "*" || principal.project == project => Ok(()),
        _ => {
            let message = format!("this key may not handle keys of project {project}");
            Err(Fault::new(crate::Code::PermissionDenied, message))
        }
    }
}

async fn list_keys(call: Call) -> Result<Response, Fault> {
    let own = call.principal.as_ref().map_or("", |principal| principal.project.as_str());
    let keys = call.app.control.keys().list(if own == "*" { None } else { Some(own) });
    let keys: Vec<_> = keys.iter().map(|info| KeyReply::new(info, None)).collect();
    json_reply(StatusCode::OK, &json!({"keys": keys}))
}

async fn delete_key(call: Call) -> Result<Response, Fault> {
    let segments = call.segments()?;
    let id = segments.last().map_or("", String::as_str);
    let keys = call.app.control.keys();
    let known = keys.list(None);
    let info = known.iter().find(|info| info.id == id);
    let info = info.ok_or_else(|| Fault::not_found(format!("there is no key {id}")))?;
    allow(call.principal.as_ref(), &info.project)?;
    keys.delete(id).await?;
    json_reply(StatusCode::OK, &json!({}))
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
