//! `POST /api/embed`, and `/api/embeddings` as it was before: a vector for each text.

use std::time::Instant;

use serde::Serialize;
use serde_json::Value;
use serving::{EmbedderRoute, TooLong};

use super::answer::nanoseconds;
use super::{named, untagged};
use crate::embedding::{Embedded, Text, Texts, vectors_reply};
use crate::fields::{Fields, invalid};
use crate::http::{App, Call, Response};
use crate::language::{find_encoder, prepared, project_of};
use crate::tenant::Tenant;
use crate::{Code, Fault};

/// Texts in one request at most.
const INPUTS_MAX: usize = 2048;

/// Several texts, or one.
pub(super) async fn texts(call: Call) -> Result<Response, Fault> {
    let begun = Instant::now();
    let (model, embedded) = embed(call, "input").await?;
    let numbers = embedded.iter().map(|text| text.vector.len()).sum();
    let reply = Reply {
        model: &model,
        embeddings: embedded.iter().map(|text| text.vector.as_slice()).collect(),
        total_duration: nanoseconds(begun, Instant::now()),
        load_duration: 0,
        prompt_eval_count: embedded.iter().map(|text| text.tokens).sum(),
    };
    vectors_reply(&reply, numbers)
}

/// One text, as the older address has it.
pub(super) async fn text(call: Call) -> Result<Response, Fault> {
    let (_, embedded) = embed(call, "prompt").await?;
    let vector = embedded.first().map_or(&[][..], |text| &text.vector);
    vectors_reply(&OneReply { embedding: vector }, vector.len())
}

#[derive(Serialize)]
struct Reply<'a> {
    model: &'a str,
    embeddings: Vec<&'a [f32]>,
    total_duration: Value,
    load_duration: u64,
    prompt_eval_count: usize,
}

#[derive(Serialize)]
struct OneReply<'a> {
    embedding: &'a [f32],
}

/// The vectors of the texts in the field `of`, and the model's name as asked for.
async fn embed(call: Call, of: &'static str) -> Result<(String, Vec<Embedded>), Fault> {
    let project = project_of(&call, None)?;
    let Call { app, body, .. } = call;
    let bytes = body.read().await?;
    let (model, texts) = prepared(&app, move |app| {
        let mut fields = Fields::of_body(&bytes)?;
        let model = named(&mut fields)?;
        let inputs = inputs(&mut fields, of)?;
        let dimensions = fields.count("dimensions", 1..=i64::from(u32::MAX))?;
        // Cut only where that is asked for in so many words: not silently, as the protocol's own default is.
        let too_long = if fields.flag("truncate")?.unwrap_or(false) { TooLong::Cut } else { TooLong::Refuse };
        let none = |value: &Value| value.as_object().is_some_and(serde_json::Map::is_empty);
        fields.only("options", none, "have no effect on an encoder: leave them out")?;
        let always = |value: &Value| value.as_i64() == Some(-1);
        fields.only("keep_alive", always, "can be -1 only: an encoder stays in memory")?;
        fields.finish()?;
        let route = encoder(app, &project, &model)?;
        Ok((model, Texts::of(route, inputs, too_long, dimensions, [of, "dimensions"])?))
    })
    .await?;
    Ok((model, texts.embed(&app).await?))
}

fn encoder(app: &App, project: &Tenant, name: &str) -> Result<EmbedderRoute, Fault> {
    match find_encoder(app, project, name) {
        Err(fault) if fault.code == Code::NotFound && untagged(name) != name => {
            find_encoder(app, project, untagged(name))
        }
        found => found,
    }
}

/// A text, or a list of texts where there may be several.
fn inputs(fields: &mut Fields, of: &'static str) -> Result<Vec<Text>, Fault> {
    let items = match fields.take(of) {
        None => return Err(fields.missing(of)),
        Some(Value::String(text)) => return Ok(vec![Text::Plain(text)]),
        Some(Value::Array(items)) if of == "input" => items,
        Some(_) => return Err(invalid(of, "must be a string, or a list of strings where it is `input`")),
    };
    if items.is_empty() || items.len() > INPUTS_MAX {
        let message = format!("has {} entries; 1 to {INPUTS_MAX} are possible", items.len());
        return Err(invalid(of, message));
    }
    let text = |item| match item {
        Value::String(text) => Some(Text::Plain(text)),
        _ => None,
    };
    let texts: Option<Vec<Text>> = items.into_iter().map(text).collect();
    texts.ok_or_else(|| invalid(of, "must be a list of strings"))
}
