//! [`Schema`]: the API's own description, and JSON checked against it both ways.
//!
//! A request becomes canonical ProtoJSON (camelCase names, enums by name, 64-bit integers as strings,
//! defaults left out), whichever of the spellings that ProtoJSON allows the client used. A reply is read
//! through its message type before it is sent, so that nothing leaves that a strict client would refuse.
//! Handlers see only the canonical form: gRPC, which carries the same messages in binary, needs nothing
//! but another way in and out of [`prost_reflect::DynamicMessage`].

use std::collections::HashSet;

use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor,
    ReflectMessage, SerializeOptions, Value as ProtoValue,
};
use serde_json::{Map, Value};

use crate::Fault;

const DESCRIPTORS: &[u8] = include_bytes!("../../descriptors/vertex.binpb");
/// `google.api.FieldBehavior.OUTPUT_ONLY`.
const OUTPUT_ONLY: i32 = 3;
/// Marked as set by the server alone, but it says which version an update of a model is about.
const VERSION_ID: &str = "google.cloud.aiplatform.v1.Model.version_id";
const EMPTY: &str = "google.protobuf.Empty";
const TYPE_URL: &str = "type.googleapis.com/";

/// The embedded API description is not what this code was written for.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// It cannot be read.
    #[error("the embedded API description cannot be read")]
    Unreadable(#[from] prost_reflect::DescriptorError),
    /// It lacks something.
    #[error("the embedded API description lacks {0}")]
    Lacks(String),
}

/// The API's description.
#[derive(Debug, Clone)]
pub(super) struct Schema {
    pool: DescriptorPool,
    /// `Message.field` of every field that only the server sets.
    output_only: HashSet<String>,
}

/// One procedure of the API.
#[derive(Debug, Clone)]
pub(super) struct Procedure {
    /// `Service.Method`.
    pub(super) name: String,
    /// Where it is reached by gRPC.
    pub(super) path: String,
    /// What it takes.
    pub(super) input: MessageDescriptor,
    /// What it gives.
    pub(super) output: MessageDescriptor,
    /// Where it is reached over HTTP.
    pub(super) bindings: Vec<Binding>,
}

/// One address of a [`Procedure`], as `google.api.http` states it.
#[derive(Debug, Clone)]
pub(super) struct Binding {
    /// The HTTP method.
    pub(super) method: http::Method,
    /// The path template.
    pub(super) path: String,
    /// What the body holds.
    pub(super) body: BodyRule,
}

/// What a request's body holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BodyRule {
    /// Nothing.
    None,
    /// The whole request message.
    Whole,
    /// This field of it, by its JSON name.
    Field(String),
}

impl Schema {
    /// Reads the embedded description.
    ///
    /// # Errors
    /// If it is damaged: a defect.
    pub(super) fn load() -> Result<Self, SchemaError> {
        let pool = DescriptorPool::decode(DESCRIPTORS)?;
        let lacks = || SchemaError::Lacks("google.api.field_behavior".to_owned());
        let behavior = pool.get_extension_by_name("google.api.field_behavior").ok_or_else(lacks)?;
        let is_output_only = |field: &FieldDescriptor| {
            let options = field.options();
            let behaviors = options.get_extension(&behavior);
            let behaviors = behaviors.as_list().unwrap_or_default();
            behaviors.iter().any(|b| b.as_enum_number() == Some(OUTPUT_ONLY))
        };
        let output_only = pool
            .all_messages()
            .flat_map(|message| message.fields().collect::<Vec<_>>())
            .filter(is_output_only)
            .map(|field| field.full_name().to_owned())
            .filter(|name| name != VERSION_ID)
            .collect();
        Ok(Schema { pool, output_only })
    }

    /// Takes out of `request` what only the server sets, but for the fields in `keep` (dotted paths):
    /// clients send back what they read, and it means nothing.
    pub(super) fn drop_output_only(
        &self,
        message: &MessageDescriptor,
        request: &mut Map<String, Value>,
        keep: &[(String, String)],
    ) {
        for field in message.fields() {
            let name = field.json_name();
            if self.output_only.contains(field.full_name()) {
                if !keep.iter().any(|(path, _)| path.rsplit('.').next() == Some(field.name())) {
                    request.remove(name);
                }
                continue;
            }
            let Kind::Message(inner) = field.kind() else { continue };
            // Types with a JSON form of their own (Struct, Value, Any) have no fields of ours.
            if inner.full_name().starts_with("google.protobuf.") || field.is_map() {
                continue;
            }
            match request.get_mut(name) {
                Some(Value::Object(fields)) => self.drop_output_only(&inner, fields, keep),
                Some(Value::Array(items)) => {
                    for fields in items.iter_mut().filter_map(Value::as_object_mut) {
                        self.drop_output_only(&inner, fields, keep);
                    }
                }
                _ => {}
            }
        }
    }

    /// All procedures with an address, by service.
    ///
    /// # Errors
    /// If the description states an address that cannot be read: a defect.
    pub(super) fn procedures(&self) -> Result<Vec<Procedure>, SchemaError> {
        let lacks = || SchemaError::Lacks("google.api.http".to_owned());
        let http = self.pool.get_extension_by_name("google.api.http").ok_or_else(lacks)?;
        let mut procedures = Vec::new();
        for service in self.pool.services() {
            for method in service.methods() {
                let options = method.options();
                let rule = options.get_extension(&http);
                let bindings = rule.as_message().map(|r| bindings(r, &method.input())).unwrap_or_default();
                procedures.push(Procedure {
                    name: format!("{}.{}", service.name(), method.name()),
                    path: format!("/{}/{}", service.full_name(), method.name()),
                    input: method.input(),
                    output: method.output(),
                    bindings,
                });
            }
        }
        Ok(procedures)
    }

    /// The message type `name` of the API, by its name without the package.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn message(&self, name: &str) -> Result<MessageDescriptor, SchemaError> {
        let full = if name.starts_with("google.") {
            name.to_owned()
        } else {
            format!("google.cloud.aiplatform.v1.{name}")
        };
        self.pool.get_message_by_name(&full).ok_or(SchemaError::Lacks(full))
    }
}

fn bindings(rule: &DynamicMessage, input: &MessageDescriptor) -> Vec<Binding> {
    let mut found = Vec::new();
    for (field, method) in [
        ("get", http::Method::GET),
        ("post", http::Method::POST),
        ("put", http::Method::PUT),
        ("patch", http::Method::PATCH),
        ("delete", http::Method::DELETE),
    ] {
        let path = rule.get_field_by_name(field);
        if let Some(path) = path.as_ref().and_then(|v| v.as_str()).filter(|p| !p.is_empty()) {
            found.push(Binding { method, path: path.to_owned(), body: body_rule(rule, input) });
        }
    }
    if let Some(more) = rule.get_field_by_name("additional_bindings") {
        let more = more.as_list().unwrap_or_default().iter().filter_map(ProtoValue::as_message);
        found.extend(more.flat_map(|rule| bindings(rule, input)));
    }
    found
}

fn body_rule(rule: &DynamicMessage, input: &MessageDescriptor) -> BodyRule {
    let body = rule.get_field_by_name("body");
    match body.as_ref().and_then(|v| v.as_str()).unwrap_or("") {
        "" => BodyRule::None,
        "*" => BodyRule::Whole,
        field => {
            let json_name = input.get_field_by_name(field).map(|f| f.json_name().to_owned());
            BodyRule::Field(json_name.unwrap_or_else(|| field.to_owned()))
        }
    }
}

/// Reads `json` as `message` and gives it back in the canonical form.
///
/// # Errors
/// If it names a field that the message has not, or a value is of the wrong type; the fault names it.
pub(super) fn canonical(message: &MessageDescriptor, json: &Value) -> Result<Map<String, Value>, Fault> {
    let read = read(message, json).map_err(|e| Fault::invalid(explain(message, &e)))?;
    match write(&read).map_err(|e| Fault::internal("reading the request", e))? {
        Value::Object(fields) => Ok(fields),
        // Only messages with a JSON form of their own are anything else; none is a request.
        other => Ok(Map::from_iter([("value".to_owned(), other)])),
    }
}

/// Reads `json` as `message` and gives it back as it may be sent.
///
/// # Errors
/// If it does not fit the message: a defect of ours, told to the log.
pub(super) fn sendable(message: &MessageDescriptor, json: &Value) -> Result<Value, Fault> {
    let failed = |e| Fault::internal("writing the reply", format!("{}: {e}", message.full_name()));
    let read = read(message, json).map_err(failed)?;
    let mut sent = write(&read).map_err(failed)?;
    empty_any_without_value(&mut sent);
    Ok(sent)
}

/// The message that goes out for `json`, in binary.
///
/// # Errors
/// As [`sendable`].
pub(super) fn outgoing(message: &MessageDescriptor, json: &Value) -> Result<DynamicMessage, Fault> {
    let failed = |e| Fault::internal("writing the reply", format!("{}: {e}", message.full_name()));
    read(message, json).map_err(failed)
}

/// What came in binary, in the canonical form.
///
/// # Errors
/// If it holds what JSON has no form for.
pub(super) fn incoming(message: &DynamicMessage) -> Result<Map<String, Value>, Fault> {
    match write(message).map_err(|e| Fault::invalid(explain(&message.descriptor(), &e)))? {
        Value::Object(fields) => Ok(fields),
        other => Ok(Map::from_iter([("value".to_owned(), other)])),
    }
}

/// The text at the dotted field `path` of `json`, which is of this message.
pub(super) fn text_at<'a>(message: &MessageDescriptor, json: &'a Map<String, Value>, path: &str) -> &'a str {
    let (head, rest) = path.split_once('.').map_or((path, None), |(head, rest)| (head, Some(rest)));
    let Some(field) = find(message, head) else { return "" };
    match (rest, field.kind(), json.get(field.json_name())) {
        (None, _, Some(Value::String(text))) => text,
        (Some(rest), Kind::Message(inner), Some(Value::Object(fields))) => text_at(&inner, fields, rest),
        _ => "",
    }
}

fn read(message: &MessageDescriptor, json: &Value) -> Result<DynamicMessage, serde_json::Error> {
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    DynamicMessage::deserialize_with_options(message.clone(), json, &options)
}

fn write(message: &DynamicMessage) -> Result<Value, serde_json::Error> {
    let options = SerializeOptions::new();
    message.serialize_with_options(serde_json::value::Serializer, &options)
}

/// The Python library reads an `Any` that holds an `Empty` as a message without fields: it refuses the
/// `value` that other readers expect there and never miss.
fn empty_any_without_value(json: &mut Value) {
    match json {
        Value::Object(fields) => {
            if fields.get("@type").and_then(Value::as_str)
                == Some("type.googleapis.com/google.protobuf.Empty")
            {
                fields.remove("value");
            }
            fields.values_mut().for_each(empty_any_without_value);
        }
        Value::Array(items) => items.iter_mut().for_each(empty_any_without_value),
        _ => {}
    }
}

fn explain(message: &MessageDescriptor, error: &serde_json::Error) -> String {
    format!("{error}: this is not a {}", message.name())
}

/// Puts the text `value` at the dotted field `path` of `json`, in the JSON type that the field has:
/// path variables and query parameters come as text only.
///
/// # Errors
/// If there is no such field or the text is not of its type.
pub(super) fn put_text(
    message: &MessageDescriptor,
    json: &mut Map<String, Value>,
    path: &str,
    value: &str,
) -> Result<(), Fault> {
    let (head, rest) = path.split_once('.').map_or((path, None), |(head, rest)| (head, Some(rest)));
    let unknown = || Fault::invalid(format!("{} has no field `{head}`", message.name()));
    let field = find(message, head).ok_or_else(unknown)?;
    let name = field.json_name().to_owned();
    if let Some(rest) = rest {
        let Kind::Message(inner) = field.kind() else { return Err(unknown()) };
        let entry = json.entry(name).or_insert_with(|| Value::Object(Map::new()));
        let wrong = || Fault::invalid(format!("field `{head}` of {} must be an object", message.name()));
        return put_text(&inner, entry.as_object_mut().ok_or_else(wrong)?, rest, value);
    }
    let value = typed(&field, value)?;
    if field.is_list() {
        let entry = json.entry(name).or_insert_with(|| Value::Array(Vec::new()));
        if let Some(list) = entry.as_array_mut() {
            list.push(value);
        }
    } else {
        json.insert(name, value);
    }
    Ok(())
}

fn find(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    message.get_field_by_json_name(name).or_else(|| message.get_field_by_name(name))
}

fn typed(field: &FieldDescriptor, value: &str) -> Result<Value, Fault> {
    match field.kind() {
        Kind::Bool => match value {
            "true" | "1" => Ok(Value::Bool(true)),
            "false" | "0" => Ok(Value::Bool(false)),
            _ => Err(Fault::invalid(format!("`{}` must be true or false, not {value:?}", field.json_name()))),
        },
        Kind::Enum(_) => Ok(value.parse::<i32>().map_or_else(|_| value.into(), Value::from)),
        // ProtoJSON takes numbers as text, too.
        _ => Ok(Value::String(value.to_owned())),
    }
}

/// `fields` as an `Any` of the message type `message`.
pub(super) fn any(message: &MessageDescriptor, fields: Value) -> Value {
    let mut fields = match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    fields.insert("@type".to_owned(), format!("{TYPE_URL}{}", message.full_name()).into());
    if message.full_name() == EMPTY {
        // Types with a JSON form of their own stand under `value`; see `empty_any_without_value`.
        fields.insert("value".to_owned(), Value::Object(Map::new()));
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn every_spelling_becomes_the_canonical_one() {
        let schema = Schema::load().unwrap();
        let message = schema.message("UploadModelRequest").unwrap();
        let written = json!({
            "parent": "projects/p/locations/l",
            "model": {
                "display_name": "m",
                "labels": {"a": "b"},
                "description": null,
                "containerSpec": {"imageUri": "i", "sharedMemorySizeMb": 5, "ports": [{"containerPort": 80.0}]},
                "supportedDeploymentResourcesTypes": [1],
            },
        });
        assert_eq!(
            Value::Object(canonical(&message, &written).unwrap()),
            json!({
                "parent": "projects/p/locations/l",
                "model": {
                    "displayName": "m",
                    "labels": {"a": "b"},
                    "containerSpec": {"imageUri": "i", "sharedMemorySizeMb": "5", "ports": [{"containerPort": 80}]},
                    "supportedDeploymentResourcesTypes": ["DEDICATED_RESOURCES"],
                },
            })
        );
    }

    #[test]
    fn unknown_fields_are_named() {
        let schema = Schema::load().unwrap();
        let message = schema.message("UploadModelRequest").unwrap();
        let fault = canonical(&message, &json!({"model": {"displayname": "m"}})).unwrap_err();
        assert!(fault.message.contains("displayname"), "{}", fault.message);
    }

    #[test]
    fn query_texts_take_the_type_of_their_field() {
        let schema = Schema::load().unwrap();
        let message = schema.message("UpdateModelRequest").unwrap();
        let mut json = Map::new();
        put_text(&message, &mut json, "updateMask", "displayName,versionDescription").unwrap();
        put_text(&message, &mut json, "model.name", "n").unwrap();
        let read = canonical(&message, &Value::Object(json)).unwrap();
        assert_eq!(
            Value::Object(read),
            json!({"updateMask": "displayName,versionDescription", "model": {"name": "n"}})
        );
        let message = schema.message("ListModelsRequest").unwrap();
        let mut json = Map::new();
        put_text(&message, &mut json, "pageSize", "5").unwrap();
        assert_eq!(Value::Object(canonical(&message, &Value::Object(json)).unwrap()), json!({"pageSize": 5}));
        assert!(put_text(&message, &mut Map::new(), "nonsense", "5").is_err());
    }

    #[test]
    fn what_does_not_fit_is_not_sent() {
        let schema = Schema::load().unwrap();
        let operation = schema.message("google.longrunning.Operation").unwrap();
        let metadata = schema.message("UploadModelOperationMetadata").unwrap();
        let good = json!({"name": "n", "metadata": any(&metadata, json!({"genericMetadata": {"createTime": "2026-01-02T03:04:05Z"}}))});
        assert_eq!(sendable(&operation, &good).unwrap(), good);
        let bad = json!({"name": "n", "metadata": any(&metadata, json!({"progress": 5}))});
        assert!(sendable(&operation, &bad).is_err());
        let empty = schema.message("google.protobuf.Empty").unwrap();
        let done = json!({"done": true, "response": any(&empty, json!({}))});
        let sent = json!({"done": true, "response": {"@type": "type.googleapis.com/google.protobuf.Empty"}});
        assert_eq!(sendable(&operation, &done).unwrap(), sent);
    }

    #[test]
    fn the_description_has_the_procedures_and_their_addresses() {
        let procedures = Schema::load().unwrap().procedures().unwrap();
        let find = |name: &str| procedures.iter().find(|p| p.name == name).unwrap();
        let upload = &find("ModelService.UploadModel").bindings[0];
        assert_eq!(upload.path, "/v1/{parent=projects/*/locations/*}/models:upload");
        assert_eq!(upload.body, BodyRule::Whole);
        let update = &find("ModelService.UpdateModel").bindings[0];
        assert_eq!(update.body, BodyRule::Field("model".into()));
        let create = &find("JobService.CreateBatchPredictionJob").bindings[0];
        assert_eq!(create.body, BodyRule::Field("batchPredictionJob".into()));
        assert!(procedures.iter().map(|p| p.bindings.len()).sum::<usize>() > 120);
    }
}
