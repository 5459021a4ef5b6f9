//! [`Request`]: a message as it is asked for.

use llm::SamplingParams;
use serde_json::{Value, json};

use super::{content, tools};
use crate::Fault;
use crate::fields::{self, Fields, invalid};
use crate::http::Route;
use crate::language::{Conversation, Format, Names, stops};

/// What this protocol calls the fields that faults are about.
pub(super) const NAMES: Names =
    Names { prompt: "messages", max_tokens: "max_tokens", format: "output_config.format" };

/// `route`, known for the fields that a request for an answer has.
pub(super) fn described(route: Route) -> Route {
    let examples = [
        json!({"model": "m", "max_tokens": 8, "messages": [{"role": "user", "content": "Hi"}]}),
        json!({
            "model": "m", "max_tokens": 8, "system": "Be brief.", "metadata": {},
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
            "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        }),
    ];
    route.takes_body(fields::asked(|bytes| Request::read(bytes).map(drop), &examples))
}

/// `route`, known for the fields that a request for a count has.
pub(super) fn described_to_count(route: Route) -> Route {
    let examples = [json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]})];
    route.takes_body(fields::asked(|bytes| Request::read_to_count(bytes).map(drop), &examples))
}

/// A message as it is asked for.
pub(super) struct Request {
    pub(super) model: String,
    pub(super) conversation: Conversation,
    pub(super) stream: bool,
}

impl Request {
    /// Reads the body of a request for an answer.
    pub(super) fn read(bytes: &[u8]) -> Result<Request, Fault> {
        Request::read_known(Fields::of_body(bytes)?, None)
    }

    /// Reads the body of a request that came by Vertex's address, which says who is asked and, where the body does not,
    /// whether to stream.
    pub(super) fn read_passed(bytes: &[u8], name: String, streams: bool) -> Result<Request, Fault> {
        let mut fields = Fields::of_body(bytes)?;
        fields.labels(&["anthropic_version"]);
        Request::read_known(fields, Some((name, streams)))
    }

    fn read_known(mut fields: Fields, known: Option<(String, bool)>) -> Result<Request, Fault> {
        let (name, streams) = known.unzip();
        let (model, asked) = asked(&mut fields, name)?;
        let max_tokens = fields.count(NAMES.max_tokens, 1..=i64::from(u32::MAX))?;
        let usual = SamplingParams::default();
        let conversation = Conversation {
            max_tokens: Some(max_tokens.ok_or_else(|| fields.missing(NAMES.max_tokens))?),
            sampling: SamplingParams {
                temperature: fields.number("temperature", 0.0..=1.0)?.unwrap_or(usual.temperature),
                top_p: fields.number("top_p", 0.0..=1.0)?.unwrap_or(usual.top_p),
                top_k: fields.whole("top_k", 0..=i64::from(u32::MAX))?.map_or(usual.top_k, |k| k as u32),
                ..usual
            },
            stop: stops(&mut fields, "stop_sequences")?,
            ..asked
        };
        let stream = fields.flag("stream")?.or(streams).unwrap_or(false);
        if let Some(mut metadata) = fields.object("metadata")? {
            metadata.labels(&["user_id"]);
            metadata.finish()?;
        }
        let tiers =
            |value: &Value| value.as_str().is_some_and(|tier| matches!(tier, "auto" | "standard_only"));
        fields.only("service_tier", tiers, "has no effect on this server: leave it out")?;
        fields.finish()?;
        Ok(Request { model, conversation, stream })
    }

    /// Reads the body of a request for a count.
    pub(super) fn read_to_count(bytes: &[u8]) -> Result<Request, Fault> {
        let mut fields = Fields::of_body(bytes)?;
        let (model, conversation) = asked(&mut fields, None)?;
        fields.finish()?;
        Ok(Request { model, conversation, stream: false })
    }
}

/// What answers and counts have in common.
fn asked(fields: &mut Fields, name: Option<String>) -> Result<(String, Conversation), Fault> {
    let model = fields.text("model")?.or(name).ok_or_else(|| fields.missing("model"))?;
    let conversation = Conversation {
        turns: content::read(fields)?,
        tools: tools::read(fields)?,
        format: format(fields)?,
        ..Conversation::default()
    };
    content::cache_control(fields)?;
    let off = |value: &Value| value["type"] == "disabled";
    fields.only("thinking", off, "is not served: these models do not think apart; leave it out")?;
    fields.only("speed", |value| value == "standard", "has no effect on this server: leave it out")?;
    Ok((model, conversation))
}

/// `output_config.format`.
fn format(fields: &mut Fields) -> Result<Format, Fault> {
    let Some(mut config) = fields.object("output_config")? else { return Ok(Format::Text) };
    let format = config.object("format")?;
    config.finish()?;
    let Some(mut format) = format else { return Ok(Format::Text) };
    if format.needed_text("type")? != "json_schema" {
        return Err(invalid(format.path("type"), "must be \"json_schema\""));
    }
    let path = format.path("schema");
    let schema = format.take("schema").ok_or_else(|| format.missing("schema"))?;
    if !schema.is_object() {
        return Err(invalid(path, "must be an object: a JSON schema"));
    }
    format.finish()?;
    Ok(Format::Schema(schema))
}
