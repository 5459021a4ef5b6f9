//! What `meuse env vertex` needs: whom a program is to trust, and a service account for it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use control::{NewKey, Role, Timestamp};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::keys::KeyReply;
use super::route;
use crate::Fault;
use crate::http::Permission::Administer;
use crate::http::{Call, Response, Route, handler, json_reply};

/// The routes of this file.
pub(super) fn routes() -> [Option<Route>; 2] {
    [
        route(Method::POST, "/admin/v1/certificateAuthority", Administer, handler(authority)),
        route(Method::POST, "/admin/v1/serviceAccounts", Administer, handler(create_account)),
    ]
}

/// The certificate of the local authority, which is made if there is none.
async fn authority(call: Call) -> Result<Response, Fault> {
    let authorities = std::sync::Arc::clone(&call.app.authorities);
    call.body.discard().await;
    let made = tokio::task::spawn_blocking(move || authorities.made()).await;
    let made = made.map_err(|e| Fault::internal("making a certificate authority", e))?;
    let authority = made.map_err(|e| Fault::internal("making a certificate authority", e))?;
    json_reply(StatusCode::OK, &json!({"certificate": authority.certificate()}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateAccount {
    project: String,
    role: String,
    /// RFC 3339.
    #[serde(default)]
    expires: Option<Timestamp>,
    /// RSA, in DER as PKCS #1 has it, in base64. The private half stays with whoever asks.
    public_key: String,
}

async fn create_account(mut call: Call) -> Result<Response, Fault> {
    let bytes = call.take_body().read().await?;
    let wanted: CreateAccount = serde_json::from_slice(&bytes)
        .map_err(|e| Fault::invalid(format!("the service account's description: {e}")))?;
    // As with keys: a project's own admin makes that project's.
    call.allow_name(&format!("projects/{}", wanted.project))?;
    let role: Role = wanted.role.parse().map_err(Fault::from)?;
    let key = STANDARD.decode(&wanted.public_key);
    let key = key.map_err(|e| Fault::invalid(format!("field `publicKey` is not base64: {e}")))?;
    let new = NewKey { expires: wanted.expires, ..NewKey::new(wanted.project, role) };
    let info = call.app.control.keys().create_account(new, &key).await?;
    call.about(format!("keys/{}, a service account, for {} of project {}", info.id, info.role, info.project));
    json_reply(StatusCode::OK, &KeyReply::new(&info, None))
}
