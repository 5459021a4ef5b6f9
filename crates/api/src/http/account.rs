//! Who a service account's statement says it is: Google's libraries sign one for the API that they call, in place of a key.

use std::net::IpAddr;
use std::sync::Arc;

use control::{Jwt, Principal};

use super::App;
use super::authority::is_cloud;

/// Whose credential this is, coming from `from`: a key's, a token's, or that of whoever signed it.
pub(super) fn principal(app: &App, credential: &str, from: IpAddr) -> Option<Arc<Principal>> {
    match Jwt::read(credential) {
        Some(statement) if is_for_calls(&statement) => app.control.keys().signer(&statement, from),
        // One that is meant for something else may be an identity provider's, which says for whom it is.
        _ => None,
    }
    .or_else(|| app.control.authenticate(credential, from))
}

/// Whether a statement is meant for calls of an API: of one of Google's by its name, or, where it names none, within scopes.
/// One that is meant for another, or to be exchanged for a token, opens nothing here.
fn is_for_calls(statement: &Jwt<'_>) -> bool {
    if statement.claims.contains_key("target_audience") {
        return false;
    }
    match statement.claims.get("aud") {
        None => statement.text("scope").is_some_and(|scope| !scope.is_empty()),
        Some(audience) => audience.as_str().is_some_and(is_api),
    }
}

/// `https://aiplatform.googleapis.com/`, and the like.
fn is_api(audience: &str) -> bool {
    let host = audience.strip_prefix("https://").and_then(|rest| rest.strip_suffix('/'));
    host.is_some_and(is_cloud)
}
