//! [`Rpc`]: one procedure call, and the routes that lead to all of them.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use control::{Control, ListQuery, Parent};
use http::{Method, StatusCode};
use prost_reflect::MessageDescriptor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::fields;
use super::schema::{Binding, BodyRule, Procedure, Schema, SchemaError, canonical, put_text, sendable};
use super::{
    PROTOCOL, batch, boards, datasets, endpoints, evaluations, explain, grpc, metadata, models, operations,
    pipeline_jobs, pipelines, predict, pull, raw,
};
use crate::Fault;
use crate::http::{Access, App, Call, Handler, Permission, Route, Takes, Template, handler, json_reply};
use crate::language::Dialects;
use crate::shape;

/// Query parameters of Google's front end that change nothing here: replies are always JSON, enums in
/// replies are always names, which every client reads.
const FRONT_END_PARAMETERS: [&str; 10] = [
    "$alt",
    "alt",
    "$.xgafv",
    "prettyPrint",
    "$prettyPrint",
    "quotaUser",
    "$httpHeaders",
    "uploadType",
    "$ct",
    "$req",
];

/// One procedure call: its request in canonical ProtoJSON.
pub(super) struct Rpc {
    pub(super) app: Arc<App>,
    pub(super) schema: Arc<Schema>,
    pub(super) request: Map<String, Value>,
    pub(super) project: Option<String>,
    /// Where the caller reaches this server with TLS, if it does: `host`, or `host:port`.
    pub(super) reached: Option<String>,
}

type Answer = Pin<Box<dyn Future<Output = Result<Value, Fault>> + Send>>;

/// A procedure that is served.
pub(super) struct Served {
    name: &'static str,
    pub(super) permission: Permission,
    pub(super) answer: Kind,
    /// What it takes, in the words of JSON Schema, where that is described.
    shape: Option<fn() -> Value>,
}

impl Served {
    /// The same, known to read its request as `T`.
    pub(super) fn takes<T: DeserializeOwned>(self) -> Served {
        Served { shape: Some(shape::of::<T>), ..self }
    }

    /// The same, known to read a [`ListQuery`].
    pub(super) fn lists(self) -> Served {
        Served { shape: Some(list_shape), ..self }
    }
}

/// What [`Rpc::list_query`] reads.
fn list_shape() -> Value {
    let text = || json!({"type": "string"});
    json!({"properties": {
        "filter": text(), "orderBy": text(), "pageToken": text(),
        "pageSize": {"type": "integer", "minimum": 0, "maximum": i32::MAX},
    }})
}

/// Which way a procedure is served.
pub(super) enum Kind {
    /// By canonical JSON in and out: the usual one.
    Json(Arc<dyn Fn(Rpc) -> Answer + Send + Sync>),
    /// With the call as it came: predictions.
    Direct(Make),
    /// The same, with one message after the other in reply; over HTTP, a list of them.
    Streamed(Make),
}

/// Makes the handler of an address.
type Make = Arc<dyn Fn(Arc<Schema>, Arc<Template>) -> Handler + Send + Sync>;

/// The procedure `name`, which needs `permission` and is answered by `f`.
pub(super) fn procedure<F, Fut>(name: &'static str, permission: Permission, f: F) -> Served
where
    F: Fn(Rpc) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Value, Fault>> + Send + 'static,
{
    Served { name, permission, answer: Kind::Json(Arc::new(move |rpc| Box::pin(f(rpc)))), shape: None }
}

/// The procedure `name`, which needs `permission` and takes the call as it came.
pub(super) fn direct(
    name: &'static str,
    permission: Permission,
    f: fn(Arc<Schema>, Arc<Template>) -> Handler,
) -> Served {
    with_call(name, permission, f)
}

/// As [`direct`], by what knows more.
pub(super) fn with_call(
    name: &'static str,
    permission: Permission,
    f: impl Fn(Arc<Schema>, Arc<Template>) -> Handler + Send + Sync + 'static,
) -> Served {
    Served { name, permission, answer: Kind::Direct(Arc::new(f)), shape: None }
}

/// The procedure `name`, which needs `permission`, takes the call as it came and replies with a list whose pieces are
/// messages.
pub(super) fn streamed(
    name: &'static str,
    permission: Permission,
    f: impl Fn(Arc<Schema>, Arc<Template>) -> Handler + Send + Sync + 'static,
) -> Served {
    Served { name, permission, answer: Kind::Streamed(Arc::new(f)), shape: None }
}

/// A route for every address in the API's description, and for those that its service configuration adds.
pub(super) fn routes(dialects: Dialects) -> Result<Vec<Route>, SchemaError> {
    let schema = Arc::new(Schema::load()?);
    let served: HashMap<&str, Served> = [
        models::served(),
        endpoints::served(),
        predict::served(),
        raw::served(dialects),
        explain::served(),
        batch::served(),
        evaluations::served(),
        datasets::served(),
        metadata::served(),
        boards::served(),
        pipelines::served(),
        pipeline_jobs::served(),
        operations::served(),
    ]
    .into_iter()
    .flatten()
    .map(|s| (s.name, s))
    .collect();
    let mut routes = Vec::new();
    let mut found = 0;
    for mut procedure in schema.procedures()? {
        procedure.bindings.extend(operations::more_bindings(&procedure.name));
        let served = served.get(procedure.name.as_str());
        found += usize::from(served.is_some());
        for binding in &procedure.bindings {
            routes.push(route(&schema, &procedure, binding, served)?);
        }
        if let Some(served) = served {
            routes.push(grpc::route(&schema, &procedure, served)?);
        }
    }
    if found != served.len() {
        return Err(SchemaError::Lacks("a procedure that is served".to_owned()));
    }
    routes.push(evaluations::evaluate_route(&schema)?);
    routes.push(pull::route(&schema)?);
    routes.extend(pipeline_jobs::template_route());
    Ok(routes)
}

fn route(
    schema: &Arc<Schema>,
    procedure: &Procedure,
    binding: &Binding,
    served: Option<&Served>,
) -> Result<Route, SchemaError> {
    let lacks = || SchemaError::Lacks(format!("a path that can be read: {}", binding.path));
    let template = Arc::new(Template::parse(&binding.path).ok_or_else(lacks)?);
    // Publishers' models are the same procedures at addresses that nothing here answers.
    let served = served.filter(|_| !binding.path.contains("publishers/"));
    let (permission, answer) = match served {
        Some(Served { permission, answer: Kind::Json(answer), .. }) => {
            (*permission, json_handler(schema, procedure, binding, &template, Arc::clone(answer)))
        }
        Some(Served { permission, answer: Kind::Direct(make) | Kind::Streamed(make), .. }) => {
            (*permission, make(Arc::clone(schema), Arc::clone(&template)))
        }
        None => (unserved_permission(&binding.method), unserved(&procedure.name)),
    };
    Ok(Route {
        method: binding.method.clone(),
        template: Template::clone(&template),
        pattern: binding.path.clone(),
        access: Access::Needs(permission),
        protocol: PROTOCOL,
        handler: answer,
        takes: takes(procedure, binding, &template, served.and_then(|served| served.shape)),
        served: served.is_some(),
    })
}

/// Where a request of this `shape` lies in a call: in the body, or what the body does not have in the query.
fn takes(
    procedure: &Procedure,
    binding: &Binding,
    template: &Template,
    shape: Option<fn() -> Value>,
) -> Takes {
    let Some(Value::Object(mut shape)) = shape.map(|shape| shape()) else { return Takes::default() };
    let Some(Value::Object(mut fields)) = shape.remove("properties") else { return Takes::default() };
    let in_path: Vec<&str> = template.fields().collect();
    fields.retain(|name, _| {
        let field = procedure.input.get_field_by_json_name(name);
        field.is_some_and(|field| !in_path.iter().any(|path| path.split('.').next() == Some(field.name())))
    });
    let body = match &binding.body {
        BodyRule::None => None,
        BodyRule::Field(field) => fields.remove(field),
        BodyRule::Whole => {
            let mut needed = shape.remove("required").unwrap_or_default();
            if let Value::Array(names) = &mut needed {
                names.retain(|name| name.as_str().is_some_and(|name| fields.contains_key(name)));
            }
            let properties = std::mem::take(&mut fields);
            Some(json!({"type": "object", "properties": properties, "required": needed}))
        }
    };
    fields.retain(|_, kind| matches!(kind["type"].as_str(), Some("string" | "integer" | "boolean")));
    Takes { query: fields.into_iter().collect(), body }
}

fn unserved_permission(method: &Method) -> Permission {
    if method == Method::GET { Permission::Read } else { Permission::Write }
}

fn unserved(name: &str) -> Handler {
    let message = format!("{name} is not served by this server");
    handler(move |call: Call| {
        let message = message.clone();
        async move {
            call.body.discard().await;
            Err(Fault::unimplemented(message))
        }
    })
}

fn json_handler(
    schema: &Arc<Schema>,
    procedure: &Procedure,
    binding: &Binding,
    template: &Arc<Template>,
    answer: Arc<dyn Fn(Rpc) -> Answer + Send + Sync>,
) -> Handler {
    let schema = Arc::clone(schema);
    let (input, output) = (procedure.input.clone(), procedure.output.clone());
    let (body, template) = (binding.body.clone(), Arc::clone(template));
    handler(move |call: Call| {
        let (schema, input, output) = (Arc::clone(&schema), input.clone(), output.clone());
        let (body, template, answer) = (body.clone(), Arc::clone(&template), Arc::clone(&answer));
        async move {
            let mut rpc = Rpc::own(&call, Arc::clone(&schema), Map::new());
            rpc.request = request(&schema, &input, &body, &template, call).await?;
            let reply = answer(rpc).await?;
            json_reply(StatusCode::OK, &sendable(&output, &reply)?)
        }
    })
}

/// The request message of a call: body, query and path together.
async fn request(
    schema: &Schema,
    input: &MessageDescriptor,
    body: &BodyRule,
    template: &Template,
    call: Call,
) -> Result<Map<String, Value>, Fault> {
    let mut bound = Map::new();
    for (name, value) in call.query()? {
        if !FRONT_END_PARAMETERS.contains(&name.as_str()) {
            put_text(input, &mut bound, &name, &value)?;
        }
    }
    let mut from_path = Vec::new();
    for (i, field) in template.fields().enumerate() {
        from_path.push((field.to_owned(), call.variable(template, i)?.into_owned()));
    }
    let bytes = call.body.read().await?;
    let mut json = match body {
        BodyRule::None => Map::new(),
        BodyRule::Whole => object(&bytes)?,
        BodyRule::Field(field) => Map::from_iter([(field.clone(), Value::Object(object(&bytes)?))]),
    };
    json.append(&mut bound);
    for (field, value) in &from_path {
        put_text(input, &mut json, field, value)?;
    }
    let mut request = canonical(input, &Value::Object(json))?;
    schema.drop_output_only(input, &mut request, &from_path);
    Ok(request)
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, Fault> {
    if bytes.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Fault::invalid("the request's body must be a JSON object")),
        Err(error) => Err(Fault::invalid(format!("the request's body is not JSON: {error}"))),
    }
}

impl Rpc {
    /// A call of ours that is not in the description: `request` as it came.
    pub(super) fn own(call: &Call, schema: Arc<Schema>, request: Map<String, Value>) -> Self {
        let project = call.principal.as_ref().map(|p| p.project.clone());
        Rpc { app: Arc::clone(&call.app), schema, request, project, reached: call.reached() }
    }

    /// The control plane.
    pub(super) fn control(&self) -> &Control {
        &self.app.control
    }

    /// The request as `T`. The description knows every field that is left by now: one that `T` has not
    /// is one that would have no effect, and is refused by name.
    ///
    /// # Errors
    /// As said, or if a value cannot be what it should.
    pub(super) fn read<T: DeserializeOwned>(&mut self) -> Result<T, Fault> {
        let mut request = Value::Object(std::mem::take(&mut self.request));
        fields::drop_harmless(&mut request);
        read_value(request)
    }

    /// The text field `name` of the request.
    pub(super) fn text(&self, name: &str) -> &str {
        self.request.get(name).and_then(Value::as_str).unwrap_or("")
    }

    /// The parent that the request names.
    ///
    /// # Errors
    /// If it is none.
    pub(super) fn parent(&self) -> Result<Parent, Fault> {
        Ok(Parent::parse(self.text("parent"))?)
    }

    /// What a list call asks for.
    ///
    /// # Errors
    /// If the page size is negative.
    pub(super) fn list_query(&self) -> Result<ListQuery, Fault> {
        let text = |name: &str| Some(self.text(name).to_owned()).filter(|t| !t.is_empty());
        let size = self.request.get("pageSize").and_then(Value::as_i64).unwrap_or(0);
        let page_size = u32::try_from(size).map_err(|_| Fault::invalid("pageSize must not be negative"))?;
        Ok(ListQuery {
            filter: text("filter"),
            order_by: text("orderBy"),
            page_size: (page_size > 0).then_some(page_size),
            page_token: text("pageToken"),
        })
    }

    /// Refuses a resource name from the body that lies in another project than the key's.
    ///
    /// # Errors
    /// [`crate::Code::PermissionDenied`].
    pub(super) fn allow_name(&self, name: &str) -> Result<(), Fault> {
        let project = name.strip_prefix("projects/").and_then(|rest| rest.split('/').next());
        match (project, self.project.as_deref()) {
            (Some(named), Some(own)) if own != "*" && own != named => {
                let message = format!("this key belongs to project {own}; {name} is in another");
                Err(Fault::new(crate::Code::PermissionDenied, message))
            }
            _ => Ok(()),
        }
    }
}

/// `value` as `T`; see [`Rpc::read`].
pub(super) fn read_value<T: DeserializeOwned>(value: Value) -> Result<T, Fault> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let (path, inner) = (error.path().to_string(), error.inner().to_string());
        if inner.starts_with("unknown field") {
            Fault::unimplemented(format!("field `{path}` has no effect on this server: leave it out"))
        } else {
            Fault::invalid(format!("field `{path}`: {inner}"))
        }
    })
}

/// A page of `items` under the field `name`.
pub(super) fn page<T>(name: &str, page: control::Page<T>, to_wire: impl FnMut(T) -> Value) -> Value {
    let mut reply = Map::new();
    reply.insert(name.to_owned(), page.items.into_iter().map(to_wire).collect());
    if let Some(token) = page.next_page_token {
        reply.insert("nextPageToken".to_owned(), token.into());
    }
    Value::Object(reply)
}

/// `value` as JSON.
///
/// # Errors
/// If it cannot be: a defect.
pub(super) fn to_json(value: &impl Serialize) -> Result<Value, Fault> {
    serde_json::to_value(value).map_err(|e| Fault::internal("writing the reply", e))
}
