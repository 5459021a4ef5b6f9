//! `/v1/models`: the language models that can be asked.

use http::StatusCode;
use serde_json::{Value, json};
use serving::NamedLanguage;

use super::generation::project_of;
use crate::Fault;
use crate::http::{Call, Response, json_reply};

/// The models of the project, each name once.
pub(super) async fn list(call: Call) -> Result<Response, Fault> {
    let project = project_of(&call)?;
    let mut models = call.app.router.languages(Some(&project));
    models.dedup_by(|later, first| later.name == first.name);
    let data: Vec<Value> = models.iter().map(|model| described(&model.name, model)).collect();
    json_reply(StatusCode::OK, &json!({"object": "list", "data": data}))
}

/// One of them.
pub(super) async fn get(call: Call) -> Result<Response, Fault> {
    let project = project_of(&call)?;
    let name = call.segments()?.pop().unwrap_or_default();
    let models = call.app.router.languages(Some(&project));
    let last = |resource: &str| resource.rsplit('/').next() == Some(name.as_str());
    let by_name = models.iter().find(|model| model.name == name);
    let found = by_name
        .or_else(|| models.iter().find(|model| last(&model.endpoint) || last(&model.deployed.model_name)));
    let missing = || {
        let message = format!("the model `{name}` does not exist in project {project}");
        Fault::not_found(message).about("model").because("model_not_found")
    };
    let found = found.ok_or_else(missing)?;
    json_reply(StatusCode::OK, &described(&name, found))
}

/// OpenAI's fields, and the length of the context under the name that vLLM has for it.
fn described(name: &str, model: &NamedLanguage) -> Value {
    json!({
        "id": name,
        "object": "model",
        "created": model.language.created_s(),
        "owned_by": "meuse",
        "max_model_len": model.language.context(),
    })
}
