//! `GET /openapi.json`: every served address over HTTP in the words of OpenAPI, made of the routes themselves.
//!
//! It says where, by which method and with which permission; of bodies it says their kind, and of most their fields, as
//! the readers show them ([`crate::shape`], [`crate::fields::asked`]). What these mean is said by the protocols that the
//! addresses belong to.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::http::{
    Access, Call, Part, Permission, Route, Routes, Takes, Template, bytes_reply, grpc, handler,
};
use crate::{Fault, vertex};

const PATH: &str = "/openapi.json";

/// Adds the description of all `routes` to them, its own included.
pub(crate) fn describe(routes: &mut Routes) {
    let Some(template) = Template::parse(PATH) else { return };
    let document: Arc<OnceLock<Bytes>> = Arc::default();
    let answered = Arc::clone(&document);
    routes.add(Route {
        method: Method::GET,
        template,
        pattern: PATH.to_owned(),
        access: Access::Needs(Permission::Read),
        protocol: vertex::PROTOCOL,
        handler: handler(move |_: Call| {
            let document = answered.get().cloned();
            async move {
                let document =
                    document.ok_or_else(|| Fault::internal("describing the routes", "not made"))?;
                Ok(bytes_reply(StatusCode::OK, "application/json", document))
            }
        }),
        takes: Takes::default(),
        served: true,
    });
    // There is no other that sets it.
    let _ = document.set(Bytes::from(document_of(routes).to_string()));
}

fn document_of(routes: &Routes) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    // Two addresses that differ by nothing but the names of their parts are one.
    let mut by_shape: HashMap<String, Written> = HashMap::new();
    for route in routes.iter().filter(|route| route.served && route.protocol.name != grpc::PROTOCOL.name) {
        let written = Written::of(&route.template);
        let written = by_shape.entry(written.shape.clone()).or_insert(written);
        let item = paths.entry(written.path.clone()).or_insert_with(|| json!({}));
        item[route.method.as_str().to_ascii_lowercase()] = operation(route, written);
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Meuse", "version": env!("CARGO_PKG_VERSION")},
        "security": [{"key": []}],
        "paths": paths,
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    })
}

/// A template as OpenAPI writes it.
struct Written {
    path: String,
    /// The same, where the open parts have no names.
    shape: String,
    names: Vec<String>,
}

impl Written {
    fn of(template: &Template) -> Written {
        let mut written = Written { path: String::new(), shape: String::new(), names: Vec::new() };
        for part in template.parts() {
            written.push("/");
            match part {
                Part::Literal(text) => written.push(text),
                Part::Open(name) => {
                    let taken = written.names.iter().filter(|taken| taken.starts_with(name)).count();
                    let name = if taken == 0 { name.to_owned() } else { format!("{name}{}", taken + 1) };
                    written.path.push_str(&format!("{{{name}}}"));
                    written.shape.push_str("{}");
                    written.names.push(name);
                }
            }
        }
        if let Some(verb) = template.verb() {
            written.push(":");
            written.push(verb);
        }
        if written.path.is_empty() {
            written.push("/");
        }
        written
    }

    fn push(&mut self, text: &str) {
        self.path.push_str(text);
        self.shape.push_str(text);
    }
}

fn operation(route: &Route, written: &Written) -> Value {
    let parameters = written.names.iter().map(|name| {
        json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}})
    });
    let query = route.takes.query.iter();
    let query = query.map(|(name, schema)| json!({"name": name, "in": "query", "schema": schema}));
    let mut operation = json!({
        "tags": [route.protocol.name],
        "parameters": parameters.chain(query).collect::<Vec<_>>(),
        "responses": {
            "200": {"description": "Done."},
            "default": {"description": "Refused or failed: the protocol's own error, which says why."},
        },
    });
    match route.access {
        Access::Public => operation["security"] = json!([]),
        Access::Needs(permission) => operation["x-permission"] = permission.as_str().into(),
    }
    if let Some((kind, schema)) = body(route) {
        let schema = route.takes.body.as_ref().unwrap_or(&schema);
        let needed = schema["required"].as_array().is_some_and(|names| !names.is_empty());
        operation["requestBody"] = json!({"content": {kind: {"schema": schema}}, "required": needed});
    }
    operation
}

/// What a route's body is: its kind and its schema.
fn body(route: &Route) -> Option<(&'static str, Value)> {
    if ![Method::POST, Method::PUT, Method::PATCH].contains(&route.method) {
        return None;
    }
    let object = json!({"type": "object"});
    Some(match route.pattern.as_str() {
        "/v1/files" => {
            let content = json!({"type": "string", "contentMediaType": "application/octet-stream"});
            let properties = json!({"purpose": {"type": "string"}, "file": content});
            let form = json!({"type": "object", "properties": properties, "required": ["purpose", "file"]});
            ("multipart/form-data", form)
        }
        "/token" => ("application/x-www-form-urlencoded", object),
        pattern if pattern.starts_with("/upload/") => ("application/octet-stream", json!({})),
        _ => ("application/json", object),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_served_route_is_described_with_its_permission() {
        let routes = crate::routes().unwrap();
        let document = document_of(&routes);
        let described = |path: &str, method: &str| document["paths"][path][method].clone();
        let model = "/v1/projects/{project}/locations/{location}/models/{model}";
        assert_eq!(described(model, "get")["x-permission"], "read");
        assert_eq!(described(model, "delete")["x-permission"], "write");
        assert_eq!(described(model, "get")["parameters"][2]["name"], "model");
        let predict = "/v1/projects/{project}/locations/{location}/endpoints/{endpoint}:predict";
        assert_eq!(described(predict, "post")["x-permission"], "invoke");
        assert!(!described(predict, "post")["requestBody"]["content"]["application/json"].is_null());
        assert!(!described("/v1/files", "post")["requestBody"]["content"]["multipart/form-data"].is_null());
        assert_eq!(described("/health/live", "get")["security"], json!([]));
        assert_eq!(described(PATH, "get")["x-permission"], "read");
        let properties = |path: &str, method: &str| {
            let body = &document["paths"][path][method]["requestBody"]["content"]["application/json"];
            body["schema"].clone()
        };
        // What is taken, by readers of both kinds.
        let chat = properties("/v1/chat/completions", "post");
        assert_eq!(chat["required"], json!(["model", "messages"]));
        let temperature = json!({"type": "number", "minimum": 0.0, "maximum": 2.0});
        assert_eq!(chat["properties"]["temperature"], temperature);
        let include_usage = &chat["properties"]["stream_options"]["properties"]["include_usage"];
        assert_eq!(*include_usage, json!({"type": "boolean"}));
        let upload = properties("/v1/projects/{project}/locations/{location}/models:upload", "post");
        assert_eq!(upload["required"], json!(["model"]));
        assert_eq!(upload["properties"]["modelId"], json!({"type": "string"}));
        assert_eq!(upload["properties"]["parent"], Value::Null, "that is in the path");
        assert!(upload["properties"]["model"]["properties"]["artifactUri"].is_object(), "{upload}");
        let infer = properties("/v2/models/{model}/infer", "post");
        assert_eq!(infer["properties"]["inputs"]["items"]["required"], json!(["name", "shape", "datatype"]));
        assert!(properties(predict, "post")["properties"]["instances"].is_object());
        let names = |path: &str| {
            let parameters = document["paths"][path]["get"]["parameters"].as_array().unwrap().iter();
            let query = parameters.filter(|parameter| parameter["in"] == "query");
            query.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let models = "/v1/projects/{project}/locations/{location}/models";
        assert_eq!(names(models), ["filter", "orderBy", "pageToken", "pageSize"]);
        assert_eq!(names("/admin/v1/usage"), ["from", "to", "by", "project", "format"]);
        // Every example of a body is one that its reader takes.
        for (path, examples) in [
            ("/v1/chat/completions", 3),
            ("/v1/completions", 2),
            ("/v1/responses", 2),
            ("/v1/embeddings", 2),
            ("/v1/rerank", 1),
            ("/v1/messages", 2),
            ("/v1/messages/count_tokens", 1),
        ] {
            assert_eq!(properties(path, "post")["examples"].as_array().unwrap().len(), examples, "{path}");
        }
        // What is not served is not described.
        assert_eq!(document["paths"]["/v1/projects/{project}/locations/{location}/customJobs"], Value::Null);
        assert_eq!(document["paths"]["/api/push"], Value::Null);
        assert_eq!(document["paths"]["/inference.GRPCInferenceService/ServerLive"], Value::Null);
        // No two addresses are the same but for names.
        let paths = document["paths"].as_object().unwrap();
        let shape = |path: &str| {
            path.split('{')
                .map(|part| part.split_once('}').map_or(part, |(_, rest)| rest).to_owned())
                .collect::<Vec<_>>()
        };
        let shapes: std::collections::HashSet<_> = paths.keys().map(|path| shape(path)).collect();
        assert_eq!(shapes.len(), paths.len());
        let operations: usize = paths.values().map(|item| item.as_object().unwrap().len()).sum();
        let served = |route: &&Route| route.served && route.protocol.name != grpc::PROTOCOL.name;
        assert!(operations > 120 && operations <= routes.iter().filter(served).count());
        for operation in paths.values().flat_map(|item| item.as_object().unwrap().values()) {
            let names = operation["parameters"].as_array().unwrap();
            let names: std::collections::HashSet<_> = names.iter().map(|p| p["name"].as_str()).collect();
            assert_eq!(names.len(), operation["parameters"].as_array().unwrap().len());
        }
    }
}
