//! [`Routes`]: every address of the server with who may call it.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;

use control::Rates;
use http::{HeaderMap, Method};
use serde_json::Value;

use super::path::{PathError, Segments};
use super::template::{Segment, Template};
use super::{Access, Call, Response};
use crate::fault::Fault;

/// Answers one call.
pub type Handler =
    Box<dyn Fn(Call) -> Pin<Box<dyn Future<Output = Result<Response, Fault>> + Send>> + Send + Sync>;

/// Makes a [`Handler`] of an async function.
pub fn handler<F, Fut>(f: F) -> Handler
where
    F: Fn(Call) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Response, Fault>> + Send + 'static,
{
    Box::new(move |call| Box::pin(f(call)))
}

/// What the server must know of a protocol: how it says no.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// For metrics and logs.
    pub name: &'static str,
    /// The shape of its errors, which may carry the request's id. The status is the fault's own, but where the protocol
    /// has another for it.
    pub render: fn(&Fault, &str) -> Response,
    /// The header, if it has one, that says how many milliseconds passed before a reply began.
    pub timing: Option<&'static str>,
    /// The header, beside `x-request-id`, in which it carries the request's id.
    pub request_id: Option<&'static str>,
    /// Its own headers, if it has such, that say how much of a minute's is left.
    pub rates: Option<fn(&Rates, &mut HeaderMap)>,
}

impl Protocol {
    /// A route whose errors are this protocol's; `None` if `pattern` is none.
    pub(crate) fn route(
        self,
        method: Method,
        pattern: impl Into<String>,
        access: Access,
        handler: Handler,
    ) -> Option<Route> {
        let pattern = pattern.into();
        let template = Template::parse(&pattern)?;
        Some(Route {
            method,
            template,
            pattern,
            access,
            protocol: self,
            handler,
            takes: Takes::default(),
            served: true,
        })
    }
}

/// One address with who may call it and what answers.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The paths.
    pub template: Template,
    /// The template as written.
    pub pattern: String,
    /// Who may call it. There is no route without.
    pub access: Access,
    /// Whose errors it speaks.
    pub protocol: Protocol,
    /// What answers.
    pub handler: Handler,
    /// What it takes beside the open parts of its path, as far as that is described.
    pub takes: Takes,
    /// Whether there is more to be had than the answer that it is not served.
    pub served: bool,
}

/// What a route takes beside the open parts of its path, in the words of JSON Schema.
#[derive(Debug, Clone, Default)]
pub struct Takes {
    /// Parameters of the query: name and what it must be.
    pub query: Vec<(String, Value)>,
    /// The body.
    pub body: Option<Value>,
}

impl Route {
    /// The same, known for the body that it takes.
    pub(crate) fn takes_body(mut self, schema: Value) -> Route {
        self.takes.body = Some(schema);
        self
    }

    /// The same, known for texts that its query may have.
    pub(crate) fn takes_query(mut self, names: &[&str]) -> Route {
        let text = |name: &&str| ((*name).to_owned(), serde_json::json!({"type": "string"}));
        self.takes.query.extend(names.iter().map(text));
        self
    }

    /// The same, known for what its answer says: that this is not served.
    pub(crate) fn not_served(self) -> Route {
        Route { served: false, ..self }
    }
}

/// A table of routes.
#[derive(Default)]
pub struct Routes {
    routes: Vec<Route>,
    root: Node,
}

#[derive(Default)]
struct Node {
    literals: HashMap<Box<str>, Node>,
    one: Option<Box<Node>>,
    rest: Vec<Leaf>,
    leaves: Vec<Leaf>,
}

struct Leaf {
    verb: Option<Box<str>>,
    method: Method,
    route: usize,
}

/// What a path leads to.
#[derive(Debug)]
pub(super) enum Found {
    /// This route, by its place in the table.
    Route(usize, Segments),
    /// Routes for other methods only.
    OtherMethods,
    /// None.
    Nothing,
}

impl Routes {
    /// Adds `route`. The first of two equal ones stays.
    pub fn add(&mut self, route: Route) {
        let leaf = Leaf {
            verb: route.template.verb.as_deref().map(Into::into),
            method: route.method.clone(),
            route: self.routes.len(),
        };
        let mut node = &mut self.root;
        for segment in &route.template.segments {
            node = match segment {
                Segment::Literal(text) => node.literals.entry(text.as_str().into()).or_default(),
                Segment::One => node.one.get_or_insert_default(),
                Segment::Rest => break,
            };
        }
        let open = route.template.segments.last() == Some(&Segment::Rest);
        let leaves = if open { &mut node.rest } else { &mut node.leaves };
        if !leaves.iter().any(|l| l.verb == leaf.verb && l.method == leaf.method) {
            leaves.push(leaf);
            self.routes.push(route);
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }

    /// The route at a place that [`Routes::find`] gave.
    pub(super) fn at(&self, place: usize) -> &Route {
        &self.routes[place]
    }

    /// Looks for the route of `method` at `path`: with what follows the last colon as a verb, then without.
    pub(super) fn find(&self, method: &Method, path: &str) -> Result<Found, PathError> {
        let mut segments = Segments::of(path)?;
        let mut other_methods = false;
        if let Some(last) = segments.len().checked_sub(1) {
            let raw = segments.raw(path, last);
            if let Some((name, verb)) = raw.rsplit_once(':').filter(|(name, _)| !name.is_empty()) {
                let cut = raw.len() - name.len();
                segments.shorten_last(cut);
                match search(&self.root, &segments, path, 0, Some(verb), method, &mut other_methods) {
                    Some(route) => return Ok(Found::Route(route, segments)),
                    None => segments = Segments::of(path)?,
                }
            }
        }
        Ok(match search(&self.root, &segments, path, 0, None, method, &mut other_methods) {
            Some(route) => Found::Route(route, segments),
            None if other_methods => Found::OtherMethods,
            None => Found::Nothing,
        })
    }
}

/// Depth first, literals before wildcards. `other_methods` is set when only the method is wrong.
fn search(
    node: &Node,
    segments: &Segments,
    path: &str,
    i: usize,
    verb: Option<&str>,
    method: &Method,
    other_methods: &mut bool,
) -> Option<usize> {
    if i == segments.len() {
        return pick(&node.leaves, verb, method, other_methods);
    }
    if let Some(next) = node.literals.get(segments.raw(path, i)) {
        let found = search(next, segments, path, i + 1, verb, method, other_methods);
        if found.is_some() {
            return found;
        }
    }
    if let Some(next) = &node.one {
        let found = search(next, segments, path, i + 1, verb, method, other_methods);
        if found.is_some() {
            return found;
        }
    }
    pick(&node.rest, verb, method, other_methods)
}

fn pick(leaves: &[Leaf], verb: Option<&str>, method: &Method, other_methods: &mut bool) -> Option<usize> {
    let mut here = leaves.iter().filter(|leaf| leaf.verb.as_deref() == verb).peekable();
    *other_methods |= here.peek().is_some();
    here.find(|leaf| leaf.method == *method).map(|leaf| leaf.route)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::StatusCode;

    use super::*;
    use crate::http::bytes_reply;

    fn table(patterns: &[(&str, &str)]) -> Routes {
        let mut routes = Routes::default();
        for (method, pattern) in patterns {
            routes.add(Route {
                method: method.parse().unwrap(),
                template: Template::parse(pattern).unwrap(),
                pattern: (*pattern).to_owned(),
                access: Access::Public,
                protocol: Protocol {
                    name: "test",
                    render: |_, _| bytes_reply(StatusCode::IM_A_TEAPOT, "", ""),
                    timing: None,
                    request_id: None,
                    rates: None,
                },
                handler: handler(|_| async { Ok(bytes_reply(StatusCode::OK, "", "")) }),
                takes: Takes::default(),
                served: true,
            });
        }
        routes
    }

    #[test]
    fn paths_lead_to_their_routes() {
        let routes = table(&[
            ("POST", "/v1/{parent=projects/*/locations/*}/models:upload"),
            ("GET", "/v1/{name=projects/*/locations/*/models/*}"),
            ("POST", "/v1/{name=projects/*/locations/*/models/*}:copy"),
            ("GET", "/v1/{name=projects/*/locations/*/*/*/operations/*}"),
            ("GET", "/ui/{name=**}"),
        ]);
        let find = |method: &str, path: &str| match routes.find(&method.parse().unwrap(), path).unwrap() {
            Found::Route(place, _) => place as i32,
            Found::OtherMethods => -1,
            Found::Nothing => -2,
        };
        for (method, path, expected) in [
            ("POST", "/v1/projects/p/locations/l/models:upload", 0),
            ("POST", "//v1//projects/p/locations/l/models:upload", 0),
            ("GET", "/v1/projects/p/locations/l/models/7", 1),
            ("GET", "/v1/projects/p/locations/l/models/7%401", 1),
            ("GET", "/v1/projects/p/locations/l/models/a:b", 1),
            ("POST", "/v1/projects/p/locations/l/models/a:b:copy", 2),
            ("GET", "/v1/projects/p/locations/l/models/7/operations/8", 3),
            ("GET", "/ui/projects/p/locations/l/operations/8", 4),
            ("DELETE", "/v1/projects/p/locations/l/models/7", -1),
            ("GET", "/v1/projects/p", -2),
        ] {
            assert_eq!(find(method, path), expected, "{method} {path}");
        }
    }
}
