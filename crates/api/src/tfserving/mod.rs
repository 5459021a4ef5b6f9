//! TensorFlow Serving's REST protocol: predictions in rows and columns, classification and regression of examples, status
//! and metadata of models, by version or by label, which are the aliases of versions here.
//!
//! [`predict`] reads what is asked of a model as a whole, [`examples`] what is asked of features by name; [`status`]
//! describes. The status of a model without a version lies beside [`crate::models`], where other protocols describe
//! theirs.

mod examples;
mod predict;
mod status;

use http::{Method, StatusCode};
use serde_json::json;
use serving::Pick;

pub(crate) use status::of_versions;

use crate::Fault;
use crate::http::Permission::{Invoke, Look};
use crate::http::{
    Access, Call, Handler, Permission, Protocol, Response, Route, bytes_reply, handler, json_reply,
};

/// How this protocol says no: `{"error": "…"}`.
const PROTOCOL: Protocol =
    Protocol { name: "tfserving", render, timing: None, request_id: None, rates: None };

/// The one signature that a model has.
const SIGNATURE: &str = "serving_default";

/// The routes of this protocol.
pub fn routes() -> Vec<Route> {
    let places = ["", "/versions/{version}", "/labels/{label}"];
    let routes = places.into_iter().flat_map(|place| {
        let path = |end: &str| format!("/v1/models/{{model}}{place}{end}");
        [
            (!place.is_empty())
                .then(|| route(Method::GET, path(""), Look, handler(status::status)))
                .flatten(),
            route(Method::GET, path("/metadata"), Look, handler(status::metadata)),
            route(Method::POST, path(":predict"), Invoke, handler(predict::answer)),
            route(Method::POST, path(":classify"), Invoke, handler(examples::classify)),
            route(Method::POST, path(":regress"), Invoke, handler(examples::regress)),
        ]
    });
    routes.flatten().collect()
}

fn route(method: Method, pattern: String, permission: Permission, handler: Handler) -> Option<Route> {
    PROTOCOL.route(method, pattern, Access::Needs(permission), handler)
}

fn render(fault: &Fault, _: &str) -> Response {
    json_reply(fault.status(), &json!({"error": fault.message}))
        .unwrap_or_else(|_| bytes_reply(StatusCode::INTERNAL_SERVER_ERROR, "application/json", "{}"))
}

/// What a path names: a model, and a version or a label of it.
struct Named {
    model: String,
    place: Place,
}

enum Place {
    Anywhere,
    Version(u32),
    Label(String),
}

impl Named {
    fn of(call: &Call) -> Result<Named, Fault> {
        let mut segments = call.segments()?.into_iter().skip(2);
        let model = segments.next().unwrap_or_default();
        let (noun, which) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
        let place = match noun.as_str() {
            "versions" => Place::Version(which.parse().map_err(|_| no_version(&which))?),
            "labels" => Place::Label(which),
            _ => Place::Anywhere,
        };
        Ok(Named { model, place })
    }

    /// Which of the deployed models is meant, or what `otherwise` says.
    fn pick<'a>(&'a self, otherwise: Pick<'a>) -> Pick<'a> {
        match &self.place {
            Place::Anywhere => otherwise,
            Place::Version(version) => Pick::Version(*version),
            Place::Label(label) => Pick::Alias(label),
        }
    }
}

fn no_version(text: &str) -> Fault {
    let text: String = text.chars().take(80).collect();
    Fault::not_found(format!("`{text}` is no version: these are numbers from 1"))
}

/// Refuses another signature than the one that there is.
fn check_signature(name: Option<&str>) -> Result<(), Fault> {
    match name.unwrap_or_default() {
        "" | SIGNATURE => Ok(()),
        other => {
            let other: String = other.chars().take(80).collect();
            Err(crate::fields::invalid(
                "signature_name",
                format!("is `{other}`; a model has the signature `{SIGNATURE}` alone"),
            ))
        }
    }
}

/// The fault that a body cannot be read.
fn unreadable(error: &serde_json::Error) -> Fault {
    let what = if error.is_data() { "the request" } else { "the request's body is not JSON" };
    Fault::invalid(format!("{what}: {error}"))
}

/// A reply of JSON that has tokens which JSON has not.
fn reply(body: Vec<u8>) -> Response {
    bytes_reply(StatusCode::OK, "application/json", body)
}
