//! A token for a service account's signed statement (RFC 7523), as libraries of Google's want one for storage.

use control::Jwt;
use http::header::{CACHE_CONTROL, HeaderValue};
use http::{Method, StatusCode};
use serde_json::json;

use super::PROTOCOL;
use crate::Fault;
use crate::http::{Access, Call, RequestBody, Response, Route, handler, json_reply, percent_decode};

/// Where; also the end of the address for which a statement is made.
const PATH: &str = "/token";
/// Google's own address, which files that Google issued name.
const GOOGLES: &str = "https://oauth2.googleapis.com/token";
/// Bytes of a form at most.
const FORM_BYTES_MAX: usize = 32 << 10;
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// The route. Anyone may try: the statement is what opens it.
pub(super) fn route() -> Option<Route> {
    PROTOCOL.route(Method::POST, PATH, Access::Public, handler(answer))
}

/// The form, of which little is held: nobody has shown who they are yet.
async fn read(mut body: RequestBody) -> Result<Vec<u8>, Fault> {
    let mut form = Vec::new();
    while let Some(piece) = body.next_piece().await? {
        if form.len() + piece.len() > FORM_BYTES_MAX {
            body.discard().await;
            let message = format!("a request for a token has {FORM_BYTES_MAX} bytes at most");
            return Err(Fault::invalid(message).with_status(StatusCode::PAYLOAD_TOO_LARGE));
        }
        form.extend_from_slice(&piece);
    }
    Ok(form)
}

async fn answer(call: Call) -> Result<Response, Fault> {
    let (keys, own, from) = (call.app.control.keys(), format!("{}{PATH}", call.base()), call.peer());
    let body = read(call.body).await?;
    let form = std::str::from_utf8(&body).map_err(|_| Fault::invalid("the form is not UTF-8"))?;
    let field = |name: &str| {
        let mut fields = form.split('&').filter_map(|field| field.split_once('='));
        let (_, value) = fields.find(|(found, _)| *found == name)?;
        percent_decode(value, true)
    };
    if field("grant_type").as_deref() != Some(GRANT) {
        let message = format!("only the grant {GRANT} is given: sign in with a service account's file");
        return Err(Fault::invalid(message).because("unsupported_grant_type"));
    }
    let assertion = field("assertion").unwrap_or_default();
    let statement = Jwt::read(&assertion);
    let meant = |statement: &Jwt<'_>| statement.text("aud").is_some_and(|aud| aud == own || aud == GOOGLES);
    let account = statement.filter(meant).and_then(|statement| keys.signer(&statement, from));
    let refused = || {
        Fault::invalid(
            "the assertion is no service account's of this server, or does not hold now: `meuse env vertex` makes another \
             file if the account has been withdrawn",
        )
        .because("invalid_grant")
    };
    let account = account.ok_or_else(refused)?;
    let (token, time) = keys.issue_token(&account);
    let reply = json!({"access_token": token.expose(), "expires_in": time.as_secs(), "token_type": "Bearer"});
    let mut reply = json_reply(StatusCode::OK, &reply)?;
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(reply)
}
