//! Generation: `generateContent`, `streamGenerateContent` and `countTokens`, on endpoints and, as Google's newer library
//! addresses models, on publishers' models: there the last word is the name that a deployed model answers to.
//!
//! That library speaks `v1beta1` unless told otherwise; what is served here is the same in both.

mod contents;
mod form;
mod making;
mod request;
mod tools;
mod wire;

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::json;
use serving::LanguageRoute;

use self::making::Making;
use self::request::NAMES;
use super::PROTOCOL;
use crate::Fault;
use crate::http::Permission::Invoke;
use crate::http::{Access, App, Call, Handler, Response, Route, Takes, Template, handler, json_reply};
use crate::language::{find, find_behind, prepared};
use crate::stream::{self, Framing};
use crate::tenant::Tenant;

/// Versions of the API.
pub(super) const VERSIONS: [&str; 2] = ["v1", "v1beta1"];
/// What answers: an endpoint, or a publisher's model.
pub(super) const NOUNS: [&str; 2] = ["endpoints/*", "publishers/*/models/*"];

/// The routes of this file. The API's description has some of them, for the one version, and has not `countTokens`.
pub(super) fn routes() -> Vec<Route> {
    let mut routes = Vec::new();
    for (version, noun) in VERSIONS.into_iter().flat_map(|version| NOUNS.map(|noun| (version, noun))) {
        let path = |verb: &str| format!("/{version}/{{model=projects/*/locations/*/{noun}}}:{verb}");
        routes.extend(route(path("generateContent"), |call, model| generate(call, model, false)));
        routes.extend(route(path("streamGenerateContent"), |call, model| generate(call, model, true)));
        routes.extend(route(path("countTokens"), count));
    }
    routes
}

/// A route on which `answer` is given the name that stands in the path.
pub(super) fn route<F, Fut>(pattern: String, answer: F) -> Option<Route>
where
    F: Fn(Call, String) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<Response, Fault>> + Send + 'static,
{
    let template = Arc::new(Template::parse(&pattern)?);
    let variables = Arc::clone(&template);
    let handler: Handler = handler(move |call: Call| {
        let variables = Arc::clone(&variables);
        async move {
            let name = call.variable(&variables, 0)?.into_owned();
            answer(call, name).await
        }
    });
    Some(Route {
        method: Method::POST,
        template: Template::clone(&template),
        pattern,
        access: Access::Needs(Invoke),
        protocol: PROTOCOL,
        handler,
        takes: Takes::default(),
        served: true,
    })
}

/// The language model that answers for `resource`, an endpoint or a publisher's model, and the project that it is in.
pub(super) fn asked(app: &App, resource: &str) -> Result<(LanguageRoute, String), Fault> {
    let project = resource.split('/').nth(1).unwrap_or_default();
    let route = match resource.split_once("/publishers/") {
        Some((_, model)) => find(app, &Tenant::whole(project), model.rsplit('/').next().unwrap_or_default())?,
        None => find_behind(app, resource)?,
    };
    Ok((route, project.to_owned()))
}

async fn generate(call: Call, model: String, streams: bool) -> Result<Response, Fault> {
    let framing = if streams { Some(framing(&call)?) } else { None };
    let Call { app, body, .. } = call;
    let bytes = body.read().await?;
    let making = prepared(&app, move |app| {
        let conversation = request::read(&bytes)?;
        let (route, project) = asked(app, &model)?;
        Making::start(app, route, &project, conversation)
    });
    let making = making.await?;
    match framing {
        Some(framing) => Ok(stream::reply(making, framing)),
        None => making.whole().await,
    }
}

/// How a stream is to be written: one list, unless the query asks for events.
fn framing(call: &Call) -> Result<Framing, Fault> {
    let query = call.query()?;
    let alt = query.iter().find(|(name, _)| name == "alt").map(|(_, value)| value.as_str());
    match alt {
        Some("sse") => Ok(Framing::Events),
        None | Some("json") => Ok(Framing::List),
        Some(_) => Err(Fault::invalid("`alt` must be \"sse\" or \"json\"")),
    }
}

async fn count(call: Call, model: String) -> Result<Response, Fault> {
    let Call { app, body, .. } = call;
    let bytes = body.read().await?;
    let tokens = prepared(&app, move |app| {
        let conversation = request::read_to_count(&bytes)?;
        let (route, _) = asked(app, &model)?;
        Ok(conversation.prompt(&route.language, &NAMES)?.len())
    });
    json_reply(StatusCode::OK, &json!({"totalTokens": tokens.await?}))
}
