//! `POST /v1/rerank`: documents by how well they answer a query, in the shape that Cohere and Jina share.

use http::StatusCode;
use llm::encoder::{Input, Makes};
use serde_json::{Value, json};
use serving::{EmbedderRoute, TooLong};

use super::PROJECT_HEADER;
use crate::embedding::{not_made, taken};
use crate::fields::{Fields, asked, invalid};
use crate::http::{App, Call, Response, Route, json_reply};
use crate::language::{deadline, find_encoder, prepared, project_of};
use crate::tenant::Tenant;
use crate::{Fault, ids, metering};

/// Documents in one request at most.
const DOCUMENTS_MAX: usize = 2048;

/// Ranks documents.
pub(super) async fn answer(call: Call) -> Result<Response, Fault> {
    let project = project_of(&call, Some(PROJECT_HEADER))?;
    let Call { app, body, .. } = call;
    let bytes = body.read().await?;
    let ranking = prepared(&app, move |app| Ranking::start(app, &project, &bytes)).await?;
    ranking.finish(&app).await
}

/// `route`, known for the fields that a request has.
pub(super) fn described(route: Route) -> Route {
    let examples = [json!({"model": "m", "query": "a bee", "documents": ["an insect", "a flower"]})];
    route.takes_body(asked(|bytes| Request::read(bytes).map(drop), &examples))
}

/// A ranking as it is asked for.
struct Request {
    model: String,
    query: String,
    documents: Vec<String>,
    top_n: Option<usize>,
    return_documents: bool,
    too_long: TooLong,
}

/// Documents on their way to the model.
struct Ranking {
    request: Request,
    route: EmbedderRoute,
    inputs: Vec<Input>,
}

impl Request {
    fn read(bytes: &[u8]) -> Result<Request, Fault> {
        let mut fields = Fields::of_body(bytes)?;
        let request = Request {
            model: fields.needed_text("model")?,
            query: fields.needed_text("query")?,
            documents: documents(&mut fields)?,
            top_n: fields.count("top_n", 1..=i64::from(u32::MAX))?,
            return_documents: fields.flag("return_documents")?.unwrap_or(false),
            too_long: match fields.flag("truncate")? {
                Some(true) => TooLong::Cut,
                _ => TooLong::Refuse,
            },
        };
        fields.labels(&["user"]);
        fields.finish()?;
        if request.query.is_empty() {
            return Err(invalid("query", "is empty"));
        }
        Ok(request)
    }
}

/// Texts, or objects that hold one.
fn documents(fields: &mut Fields) -> Result<Vec<String>, Fault> {
    let items = fields.list("documents")?.ok_or_else(|| fields.missing("documents"))?;
    if items.is_empty() || items.len() > DOCUMENTS_MAX {
        let message = format!("has {} entries; 1 to {DOCUMENTS_MAX} are possible", items.len());
        return Err(invalid("documents", message));
    }
    let text = |(index, item)| match item {
        Value::String(text) => Ok(text),
        item => {
            let mut document = Fields::of(item, &format!("documents[{index}]"))?;
            let text = document.needed_text("text")?;
            document.finish()?;
            Ok(text)
        }
    };
    items.into_iter().enumerate().map(text).collect()
}

impl Ranking {
    fn start(app: &App, project: &Tenant, bytes: &[u8]) -> Result<Ranking, Fault> {
        let request = Request::read(bytes)?;
        let route = find_encoder(app, project, &request.model)?;
        let read = || {
            if route.embedder.makes() != Makes::Scores {
                return Err(not_made("vectors of texts and no scores", "/v1/embeddings"));
            }
            let Request { query, documents, too_long, .. } = &request;
            let pair =
                |text: &String| (!text.is_empty()).then(|| route.embedder.pair(query, text, *too_long));
            taken(documents.iter().map(pair), "documents")
        };
        let (inputs, _) = read().inspect_err(|_| route.count_bad_request())?;
        Ok(Ranking { request, route, inputs })
    }

    async fn finish(self, app: &App) -> Result<Response, Fault> {
        let Ranking { request, route, inputs } = self;
        let tokens: usize = inputs.iter().map(|input| input.tokens.len()).sum();
        metering::reserve_tokens(app, &route.deployed, tokens)?;
        let scores = route.run(inputs, deadline(app)).await?;
        metering::read(app, tokens);
        let mut ranked: Vec<(usize, f32)> = scores.into_iter().flatten().map(relevance).enumerate().collect();
        // Of equals, those that were sent first come first.
        ranked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        ranked.truncate(request.top_n.unwrap_or(usize::MAX));
        let result = |(index, score): (usize, f32)| {
            let mut result = json!({"index": index, "relevance_score": score});
            if request.return_documents {
                result["document"] = json!({"text": request.documents[index]});
            }
            result
        };
        let reply = json!({
            "id": ids::fresh("rerank-"),
            "model": request.model,
            "results": ranked.into_iter().map(result).collect::<Vec<_>>(),
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        });
        json_reply(StatusCode::OK, &reply)
    }
}

/// A score, between 0 and 1.
fn relevance(score: f32) -> f32 {
    1.0 / (1.0 + (-score).exp())
}
