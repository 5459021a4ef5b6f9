//! Keys.

use std::time::Duration;

use control::{KeyInfo, Network, NewKey, Role, Timestamp};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::http::{Call, Response, Route, json_reply};
use crate::{Fault, shape};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateKey {
    project: String,
    role: String,
    /// Ids of models and endpoints.
    #[serde(default)]
    models: Vec<String>,
    /// Addresses and networks.
    #[serde(default)]
    networks: Vec<Network>,
    /// RFC 3339.
    #[serde(default)]
    expires: Option<Timestamp>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RotateKey {
    /// How long the present secret works on.
    #[serde(default)]
    overlap_seconds: u32,
}

/// `route`, known for what makes a key.
pub(super) fn described(route: Route) -> Route {
    route.takes_body(shape::of::<CreateKey>())
}

/// `route`, known for how a key's secret is changed.
pub(super) fn described_rotation(route: Route) -> Route {
    route.takes_body(shape::of::<RotateKey>())
}

/// A key as it is shown: the secret part only in the answer to its creation and its rotation.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyReply<'a> {
    id: &'a str,
    project: &'a str,
    role: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    models: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    networks: &'a [Network],
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
    create_time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotate_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    former_expires: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used: Option<Timestamp>,
    /// Of a service account: how Google's libraries know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
}

impl<'a> KeyReply<'a> {
    pub(super) fn new(info: &'a KeyInfo, key: Option<&'a str>) -> Self {
        KeyReply {
            id: &info.id,
            project: &info.project,
            role: info.role.as_str(),
            models: &info.models,
            networks: &info.networks,
            expires: info.expires,
            create_time: info.create_time,
            rotate_time: info.rotate_time,
            former_expires: info.former_expires,
            last_used: info.last_used,
            email: info.public_key.is_some().then(|| control::account_address(&info.id)),
            key,
        }
    }
}

pub(super) async fn create(mut call: Call) -> Result<Response, Fault> {
    let bytes = call.take_body().read().await?;
    let wanted: CreateKey =
        serde_json::from_slice(&bytes).map_err(|e| Fault::invalid(format!("the key's description: {e}")))?;
    // A project's own admin hands out that project's keys; only a key for all makes another for all.
    call.allow_name(&format!("projects/{}", wanted.project))?;
    let role: Role = wanted.role.parse().map_err(Fault::from)?;
    let CreateKey { project, models, networks, expires, .. } = wanted;
    let new = NewKey { project, role, models, networks, expires };
    let (info, secret) = call.app.control.keys().create(new).await?;
    call.about(format!("keys/{} for {} of project {}", info.id, info.role, info.project));
    json_reply(StatusCode::OK, &KeyReply::new(&info, Some(secret.expose())))
}

pub(super) async fn list(call: Call) -> Result<Response, Fault> {
    let own = call.principal.as_ref().map_or("", |principal| principal.project.as_str());
    let keys = call.app.control.keys().list(if own == control::ALL_PROJECTS { None } else { Some(own) });
    let keys: Vec<_> = keys.iter().map(|info| KeyReply::new(info, None)).collect();
    json_reply(StatusCode::OK, &json!({"keys": keys}))
}

pub(super) async fn rotate(mut call: Call) -> Result<Response, Fault> {
    let id = named(&call)?;
    let bytes = call.take_body().read().await?;
    let wanted: RotateKey = match bytes.trim_ascii() {
        b"" => RotateKey::default(),
        body => {
            serde_json::from_slice(body).map_err(|e| Fault::invalid(format!("how to rotate the key: {e}")))?
        }
    };
    let overlap = Duration::from_secs(wanted.overlap_seconds.into());
    let overlap = overlap.try_into().map_err(|_| Fault::invalid("overlapSeconds is too large"))?;
    let (info, secret) = call.app.control.keys().rotate(&id, overlap).await?;
    json_reply(StatusCode::OK, &KeyReply::new(&info, Some(secret.expose())))
}

pub(super) async fn delete(call: Call) -> Result<Response, Fault> {
    call.app.control.keys().delete(&named(&call)?).await?;
    json_reply(StatusCode::OK, &json!({}))
}

/// The key that the path names, if it is one that the caller may handle; another project's does not exist.
fn named(call: &Call) -> Result<String, Fault> {
    let id = call.segments()?.pop().unwrap_or_default();
    let own = |info: &KeyInfo| call.principal.as_ref().is_some_and(|p| p.acts_in(&info.project));
    match call.app.control.keys().get(&id).filter(own) {
        Some(info) => Ok(info.id),
        None => Err(Fault::not_found(format!("there is no key {id}"))),
    }
}
