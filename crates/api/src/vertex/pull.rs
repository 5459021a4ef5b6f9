//! Pulling models, an extension: `POST /v1/{parent}/models:pull` answers an operation whose response is that of
//! an upload.

use std::sync::Arc;

use control::{NewPull, Operation};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::convert::time;
use super::rpc::{Rpc, read_value};
use super::schema::{Schema, SchemaError, sendable};
use super::{PROTOCOL, operations};
use crate::http::Permission::Write;
use crate::http::{Access, Call, Route, Takes, Template, handler, json_reply};
use crate::{Fault, shape};

const PULL: &str = "/v1/{parent=projects/*/locations/*}/models:pull";

/// What is asked for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PullWire {
    /// The name of a model in the catalogue, or where a file lies.
    source: String,
    /// What people are to call it.
    #[serde(default)]
    display_name: Option<String>,
    /// What the file must be: 64 hexadecimal digits.
    #[serde(default)]
    sha256: Option<String>,
}

/// The route of `models:pull`.
pub(super) fn route(schema: &Arc<Schema>) -> Result<Route, SchemaError> {
    let lacks = || SchemaError::Lacks(PULL.to_owned());
    let template = Template::parse(PULL).ok_or_else(lacks)?;
    let operation = schema.message("google.longrunning.Operation")?;
    let (schema, variables) = (Arc::clone(schema), template.clone());
    Ok(Route {
        method: Method::POST,
        template,
        pattern: PULL.to_owned(),
        access: Access::Needs(Write),
        protocol: PROTOCOL,
        handler: handler(move |call| {
            let (schema, variables, operation) = (Arc::clone(&schema), variables.clone(), operation.clone());
            async move {
                let reply = pull(call, schema, &variables).await?;
                json_reply(StatusCode::OK, &sendable(&operation, &reply)?)
            }
        }),
        takes: Takes { body: Some(shape::of::<PullWire>()), ..Takes::default() },
        served: true,
    })
}

async fn pull(call: Call, schema: Arc<Schema>, template: &Template) -> Result<Value, Fault> {
    let parent = control::Parent::parse(&call.variable(template, 0)?)?;
    let rpc = Rpc::own(&call, schema, serde_json::Map::new());
    let bytes = call.body.read().await?;
    let body: Value = serde_json::from_slice(&bytes)
        .map_err(|e| Fault::invalid(format!("the request's body is not JSON: {e}")))?;
    let wire: PullWire = read_value(body)?;
    let digest = wire.sha256.map(|digits| {
        let digits = digits.strip_prefix("sha256:").unwrap_or(&digits).to_ascii_lowercase();
        let read = format!("sha256:{digits}").parse();
        read.map_err(|_| Fault::invalid("sha256 must be 64 hexadecimal digits"))
    });
    let name = wire.display_name.filter(|name| !name.is_empty());
    let new = NewPull { what: wire.source, name, digest: digest.transpose()? };
    let (_, operation) = rpc.control().jobs().create_pull(&parent, new).await?;
    operations::to_wire(&rpc, &operation)
}

/// How far a pull is, as an operation's metadata. Google's API has no type for it.
pub(super) fn metadata(operation: &Operation) -> Value {
    let mut value = json!({
        "kind": "pull",
        "createTime": time(operation.create_time),
        "updateTime": time(operation.update_time),
    });
    if let Some(transfer) = &operation.transfer {
        // As ProtoJSON writes 64-bit numbers.
        value["bytesDone"] = transfer.done.to_string().into();
        if let Some(total) = transfer.total {
            value["bytesTotal"] = total.to_string().into();
        }
        if let Some(source) = &transfer.source {
            value["source"] = source.to_string().into();
        }
    }
    json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": value})
}
