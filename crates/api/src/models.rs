//! `/v1/models`: the language models and encoders that can be asked. OpenAI's and Anthropic's clients list them at the same address:
//! each object carries the fields of both.

use std::sync::Arc;

use control::Timestamp;
use http::{Method, StatusCode};
use llm::encoder::Makes;
use serde_json::{Value, json};
use serving::{Deployed, Pick, Router};

use crate::http::{Access, App, Call, Permission, Response, Route, handler, json_reply};
use crate::language::{find_predictor, project_of};
use crate::openai::{PROJECT_HEADER, PROTOCOL};
use crate::tenant::Tenant;
use crate::{Fault, tfserving};

/// The routes of this file.
pub(crate) fn routes() -> impl Iterator<Item = Route> {
    let route =
        |pattern, handler| PROTOCOL.route(Method::GET, pattern, Access::Needs(Permission::Look), handler);
    [route("/v1/models", handler(list)), route("/v1/models/{model}", handler(get))].into_iter().flatten()
}

/// A model that can be asked.
pub(crate) struct Listed {
    name: String,
    /// The endpoint's resource name.
    endpoint: String,
    deployed: Arc<Deployed>,
    created_s: u64,
    /// Tokens that it takes.
    context: usize,
    /// What it does, in Ollama's words.
    capability: &'static str,
}

/// Those that a tenant may know of, by name and then by endpoint.
pub(crate) fn listed(router: &Router, tenant: &Tenant) -> Vec<Listed> {
    let languages = router.languages(Some(tenant)).into_iter().map(|model| Listed {
        created_s: model.language.created_s(),
        context: model.language.context(),
        capability: "completion",
        name: model.name,
        endpoint: model.endpoint,
        deployed: model.deployed,
    });
    let encoders = router.embedders(Some(tenant)).into_iter().map(|model| Listed {
        created_s: model.embedder.created_s(),
        context: model.embedder.context(),
        capability: match model.embedder.makes() {
            Makes::Vectors(_) => "embedding",
            Makes::Scores => "rerank",
        },
        name: model.name,
        endpoint: model.endpoint,
        deployed: model.deployed,
    });
    let mut all: Vec<Listed> = languages.chain(encoders).collect();
    all.retain(|model| tenant.knows([model.endpoint.as_str(), &model.deployed.model_name]));
    all.sort_by(|a, b| (&a.name, &a.endpoint).cmp(&(&b.name, &b.endpoint)));
    all
}

/// Which part of the list is wanted. OpenAI's clients want all of it.
#[derive(Default)]
struct Page {
    limit: Option<usize>,
    after: Option<String>,
    before: Option<String>,
}

impl Page {
    fn read(call: &Call) -> Result<Page, Fault> {
        let mut page = Page::default();
        for (name, value) in call.query()? {
            match name.as_str() {
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=1000).contains(limit));
                    let wrong = || Fault::invalid("`limit` must be a number from 1 to 1000").about("limit");
                    page.limit = Some(limit.ok_or_else(wrong)?);
                }
                "after_id" => page.after = Some(value),
                "before_id" => page.before = Some(value),
                _ => {}
            }
        }
        Ok(page)
    }

    /// That part, and whether there is more.
    fn of<'a>(&self, models: &'a [Listed]) -> (&'a [Listed], bool) {
        let place = |name: &String| models.iter().position(|model| model.name == *name);
        let end = self.before.as_ref().and_then(place).unwrap_or(models.len());
        let start = self.after.as_ref().and_then(place).map_or(0, |place| place + 1).min(end);
        let wanted = &models[start..end];
        match self.limit {
            Some(limit) if limit < wanted.len() && self.before.is_some() => {
                (&wanted[wanted.len() - limit..], true)
            }
            Some(limit) if limit < wanted.len() => (&wanted[..limit], true),
            _ => (wanted, false),
        }
    }
}

/// The models of the project, each name once.
async fn list(call: Call) -> Result<Response, Fault> {
    let project = project_of(&call, Some(PROJECT_HEADER))?;
    let page = Page::read(&call)?;
    let mut models = listed(&call.app.router, &project);
    models.dedup_by(|later, first| later.name == first.name);
    let (models, has_more) = page.of(&models);
    let data: Vec<Value> = models.iter().map(|model| described(&model.name, model)).collect();
    json_reply(
        StatusCode::OK,
        &json!({
            "object": "list",
            "data": data,
            "has_more": has_more,
            "first_id": models.first().map(|model| &model.name),
            "last_id": models.last().map(|model| &model.name),
        }),
    )
}

/// One of them.
async fn get(call: Call) -> Result<Response, Fault> {
    let project = project_of(&call, Some(PROJECT_HEADER))?;
    let name = call.segments()?.pop().unwrap_or_default();
    let models = listed(&call.app.router, &project);
    let missing = || {
        let message = format!("the model `{name}` does not exist in project {project}");
        Fault::not_found(message).about("model").because("model_not_found")
    };
    match named(&models, &name) {
        Some(found) => json_reply(StatusCode::OK, &described(&name, found)),
        None => predictor(&call.app, &project, &name)
            .map_or_else(|| Err(missing()), |found| json_reply(StatusCode::OK, &found)),
    }
}

/// A model that predicts and is called `name`: OpenAI's fields, beside TensorFlow Serving's and those of KServe's first
/// protocol. OpenAI's clients do not find it in the list: it takes no messages.
fn predictor(app: &App, project: &Tenant, name: &str) -> Option<Value> {
    let route = find_predictor(app, project, name, Pick::Most).ok()?;
    Some(json!({
        "id": name,
        "object": "model",
        "owned_by": "meuse",
        "name": name,
        "ready": true,
        "model_version_status": tfserving::of_versions(&route, None),
    }))
}

/// The one of `models` that answers to `name`.
pub(crate) fn named<'a>(models: &'a [Listed], name: &str) -> Option<&'a Listed> {
    let last = |resource: &str| resource.rsplit('/').next() == Some(name);
    let by_name = models.iter().find(|model| model.name == name);
    by_name.or_else(|| models.iter().find(|model| last(&model.endpoint) || last(&model.deployed.model_name)))
}

/// OpenAI's fields, Anthropic's, the length of the context under the name that vLLM has for it, and what it does.
fn described(name: &str, model: &Listed) -> Value {
    let Listed { created_s, context, capability, .. } = *model;
    let created_at = i64::try_from(created_s).ok().and_then(|s| Timestamp::from_second(s).ok());
    json!({
        "id": name,
        "object": "model",
        "created": created_s,
        "owned_by": "meuse",
        "max_model_len": context,
        "type": "model",
        "display_name": model.name,
        "created_at": created_at.unwrap_or_default().to_string(),
        "lifecycle": "active",
        "max_input_tokens": context,
        "max_tokens": context,
        "capabilities": [capability],
    })
}
