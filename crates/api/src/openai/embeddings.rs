//! `POST /v1/embeddings`: a vector for each text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Value, json};
use serving::TooLong;

use super::PROJECT_HEADER;
use crate::Fault;
use crate::embedding::{Embedded, Text, Texts, vectors_reply};
use crate::fields::{Fields, asked, invalid};
use crate::http::{Call, Response, Route};
use crate::language::{find_encoder, prepared, project_of};

/// Texts in one request: the protocol's own number.
const INPUTS_MAX: usize = 2048;

/// Embeds texts.
pub(super) async fn answer(call: Call) -> Result<Response, Fault> {
    let project = project_of(&call, Some(PROJECT_HEADER))?;
    let Call { app, body, .. } = call;
    let bytes = body.read().await?;
    let (texts, model, base64) = prepared(&app, move |app| {
        let Request { model, inputs, base64, dimensions, too_long } = Request::read(&bytes)?;
        let route = find_encoder(app, &project, &model)?;
        let texts = Texts::of(route, inputs, too_long, dimensions, ["input", "dimensions"])?;
        Ok((texts, model, base64))
    })
    .await?;
    let embedded = texts.embed(&app).await?;
    prepared(&app, move |_| written(&model, &embedded, base64)).await
}

/// `route`, known for the fields that a request has.
pub(super) fn described(route: Route) -> Route {
    let examples = [
        json!({"model": "m", "input": "a bee"}),
        json!({"model": "m", "input": ["a bee", "a rose"], "encoding_format": "base64"}),
    ];
    route.takes_body(asked(|bytes| Request::read(bytes).map(drop), &examples))
}

/// Embeddings as they are asked for.
struct Request {
    model: String,
    inputs: Vec<Text>,
    /// Whether vectors are wanted as the bytes of their numbers.
    base64: bool,
    dimensions: Option<usize>,
    too_long: TooLong,
}

impl Request {
    fn read(bytes: &[u8]) -> Result<Request, Fault> {
        let mut fields = Fields::of_body(bytes)?;
        let request = Request {
            model: fields.needed_text("model")?,
            inputs: inputs(&mut fields)?,
            base64: match fields.text("encoding_format")?.as_deref() {
                None | Some("float") => false,
                Some("base64") => true,
                Some(_) => return Err(invalid("encoding_format", "must be float or base64")),
            },
            dimensions: fields.count("dimensions", 1..=i64::from(u32::MAX))?,
            too_long: match fields.flag("truncate")? {
                Some(true) => TooLong::Cut,
                _ => TooLong::Refuse,
            },
        };
        fields.labels(&["user"]);
        fields.finish()?;
        Ok(request)
    }
}

/// A text, several, the tokens of one, or the tokens of several.
fn inputs(fields: &mut Fields) -> Result<Vec<Text>, Fault> {
    let wrong =
        || invalid("input", "must be a string, a list of strings, a list of tokens, or a list of such lists");
    let items = match fields.take("input") {
        None => return Err(fields.missing("input")),
        Some(Value::String(text)) => return Ok(vec![Text::Plain(text)]),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(wrong()),
    };
    if items.first().is_some_and(Value::is_number) {
        return Ok(vec![Text::Tokens(tokens(&items).ok_or_else(wrong)?)]);
    }
    if items.is_empty() || items.len() > INPUTS_MAX {
        let message = format!("has {} entries; 1 to {INPUTS_MAX} are possible", items.len());
        return Err(invalid("input", message));
    }
    let text = |item| match item {
        Value::String(text) => Some(Text::Plain(text)),
        Value::Array(items) => tokens(&items).map(Text::Tokens),
        _ => None,
    };
    items.into_iter().map(text).collect::<Option<Vec<_>>>().ok_or_else(wrong)
}

fn tokens(items: &[Value]) -> Option<Vec<u32>> {
    items.iter().map(|item| item.as_u64().and_then(|token| u32::try_from(token).ok())).collect()
}

#[derive(Serialize)]
struct Reply<'a> {
    object: &'static str,
    data: Vec<Item<'a>>,
    model: &'a str,
    usage: Usage,
}

#[derive(Serialize)]
struct Item<'a> {
    object: &'static str,
    index: usize,
    embedding: Numbers<'a>,
}

impl Item<'_> {
    fn of(index: usize, text: &Embedded, base64: bool) -> Item<'_> {
        let embedding = if base64 {
            let bytes: Vec<u8> = text.vector.iter().flat_map(|number| number.to_le_bytes()).collect();
            Numbers::Base64(STANDARD.encode(bytes))
        } else {
            Numbers::Plain(&text.vector)
        };
        Item { object: "embedding", index, embedding }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Numbers<'a> {
    Plain(&'a [f32]),
    /// 32-bit floats, little-endian.
    Base64(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

fn written(model: &str, embedded: &[Embedded], base64: bool) -> Result<Response, Fault> {
    let tokens = embedded.iter().map(|text| text.tokens).sum();
    let numbers = embedded.iter().map(|text| text.vector.len()).sum();
    let reply = Reply {
        object: "list",
        data: embedded.iter().enumerate().map(|(index, text)| Item::of(index, text, base64)).collect(),
        model,
        usage: Usage { prompt_tokens: tokens, total_tokens: tokens },
    };
    vectors_reply(&reply, numbers)
}
