//! The same procedures by gRPC: messages in binary become the canonical JSON that all handlers take, and back.

use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use http::Method;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::{Map, Value};

use super::rpc::{Kind, Rpc, Served};
use super::schema::{Procedure, Schema, SchemaError, incoming, outgoing, text_at};
use crate::Fault;
use crate::http::grpc::Told;
use crate::http::{Access, Call, Handler, ReplyBody, Route, Template, grpc};

/// What a procedure replies with, one after the other.
type Messages = BoxStream<'static, Result<DynamicMessage, Fault>>;

/// What begins the headers that say who made a reply: they are gRPC's metadata, too.
const SAID: &str = "x-vertex-ai-";

/// One procedure as gRPC reaches it.
#[derive(Clone)]
struct Bridge {
    schema: Arc<Schema>,
    input: MessageDescriptor,
    output: MessageDescriptor,
    /// Its first address over HTTP, whose variables are the fields that say which resource is meant.
    template: Arc<Template>,
    pattern: String,
}

/// The route of a procedure that is served.
pub(super) fn route(
    schema: &Arc<Schema>,
    procedure: &Procedure,
    served: &Served,
) -> Result<Route, SchemaError> {
    let lacks = || SchemaError::Lacks(format!("an address of {}", procedure.name));
    let binding = procedure.bindings.first().ok_or_else(lacks)?;
    let bridge = Bridge {
        schema: Arc::clone(schema),
        input: procedure.input.clone(),
        output: procedure.output.clone(),
        template: Arc::new(Template::parse(&binding.path).ok_or_else(lacks)?),
        pattern: binding.path.clone(),
    };
    let (path, access) = (procedure.path.clone(), Access::Needs(served.permission));
    let input = procedure.input.clone();
    let read = move |bytes| DynamicMessage::decode(input.clone(), bytes);
    let route = match &served.answer {
        Kind::Json(answer) => {
            let answer = Arc::clone(answer);
            grpc::route(path, access, read, move |call: Call, message: DynamicMessage, _: Instant| {
                let (bridge, answer) = (bridge.clone(), Arc::clone(&answer));
                async move {
                    let rpc = bridge.rpc(&call, &message)?;
                    outgoing(&bridge.output, &answer(rpc).await?).map(Told::from)
                }
            })
        }
        Kind::Streamed(make) => {
            let handler = Arc::new(make(Arc::clone(schema), Arc::clone(&bridge.template)));
            grpc::streaming(path, access, read, move |call: Call, message: DynamicMessage, _: Instant| {
                let (bridge, handler) = (bridge.clone(), Arc::clone(&handler));
                async move { bridge.streamed(call, &message, handler).await }
            })
        }
        Kind::Direct(make) => {
            let handler = Arc::new(make(Arc::clone(schema), Arc::clone(&bridge.template)));
            grpc::route(path, access, read, move |call: Call, message: DynamicMessage, _: Instant| {
                let (bridge, handler) = (bridge.clone(), Arc::clone(&handler));
                async move { bridge.direct(call, &message, handler).await }
            })
        }
    };
    route.ok_or_else(lacks)
}

impl Bridge {
    /// What the message asks for, in JSON, if the key may name it.
    fn request(&self, call: &Call, message: &DynamicMessage) -> Result<Map<String, Value>, Fault> {
        let request = incoming(message)?;
        let caller = Rpc::own(call, Arc::clone(&self.schema), Map::new());
        for field in self.template.fields() {
            let name = text_at(&self.input, &request, field);
            caller.allow_name(name)?;
            call.allow_model(name)?;
            call.about(name);
        }
        Ok(request)
    }

    fn rpc(&self, call: &Call, message: &DynamicMessage) -> Result<Rpc, Fault> {
        let mut request = self.request(call, message)?;
        let kept: Vec<(String, String)> =
            self.template.fields().map(|field| (field.to_owned(), String::new())).collect();
        self.schema.drop_output_only(&self.input, &mut request, &kept);
        Ok(Rpc::own(call, Arc::clone(&self.schema), request))
    }

    /// Asks the handler of the HTTP address for one message.
    async fn direct(
        &self,
        call: Call,
        message: &DynamicMessage,
        handler: Arc<Handler>,
    ) -> Result<Told<DynamicMessage>, Fault> {
        let Told { reply, metadata } = self.reply(call, message, handler).await?;
        match reply {
            ReplyBody::Full(bytes) => Ok(Told { reply: message_of(&self.output, &bytes)?, metadata }),
            _ => Err(Fault::unimplemented(
                "this answer comes in pieces, which this procedure has no place for",
            )),
        }
    }

    /// Asks it for a list of messages, which are given one by one.
    async fn streamed(
        &self,
        call: Call,
        message: &DynamicMessage,
        handler: Arc<Handler>,
    ) -> Result<Told<Messages>, Fault> {
        let output = self.output.clone();
        let Told { reply, metadata } = self.reply(call, message, handler).await?;
        let messages: Messages = match reply {
            ReplyBody::Full(bytes) => {
                let message = message_of(&output, &bytes)?;
                Box::pin(stream::once(async { Ok(message) }))
            }
            ReplyBody::Stream(pieces) => Box::pin(pieces.filter_map(move |piece| {
                let message = match piece {
                    Ok(piece) => item(&piece).map(|item| message_of(&output, item)),
                    Err(error) => Some(Err(error.into())),
                };
                async move { message }
            })),
            ReplyBody::Trailed(..) | ReplyBody::Frames(_) => {
                return Err(Fault::internal("reading a reply", "it is one of gRPC already"));
            }
        };
        Ok(Told { reply: messages, metadata })
    }

    /// What the handler of the HTTP address replies.
    async fn reply(
        &self,
        mut call: Call,
        message: &DynamicMessage,
        handler: Arc<Handler>,
    ) -> Result<Told<ReplyBody>, Fault> {
        let request = self.request(&call, message)?;
        let mut path = self.pattern.clone();
        for field in self.template.fields() {
            let (Some(start), Some(end)) = (path.find('{'), path.find('}')) else { break };
            path.replace_range(start..=end, text_at(&self.input, &request, field));
        }
        let body = serde_json::to_vec(&request).map_err(|e| Fault::internal("reading the request", e))?;
        call.head.method = Method::POST;
        let reply = handler(call.aimed(&self.template, &path, body.into())?).await?;
        let (head, reply) = reply.into_parts();
        let said = head.headers.iter().filter(|(name, _)| name.as_str().starts_with(SAID));
        let metadata = said.map(|(name, value)| (name.clone(), value.clone())).collect();
        Ok(Told { reply, metadata })
    }
}

fn message_of(output: &MessageDescriptor, json: &[u8]) -> Result<DynamicMessage, Fault> {
    let json = serde_json::from_slice(json).map_err(|e| Fault::internal("reading a reply", e))?;
    outgoing(output, &json)
}

/// The item in a piece of a list that is written piece by piece; the last holds none.
fn item(piece: &[u8]) -> Option<&[u8]> {
    let item = piece.strip_prefix(b"[").or_else(|| piece.strip_prefix(b",")).unwrap_or(piece);
    Some(item).filter(|item| !matches!(item, [] | [b']']))
}
