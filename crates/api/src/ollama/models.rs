//! What there is: `/api/tags`, `/api/ps`, `/api/show`.

use control::{Timestamp, Version, VersionRef};
use http::StatusCode;
use serde_json::{Value, json};
use serving::{Language, NamedLanguage};

use super::{LATEST, model, named, time};
use crate::Fault;
use crate::fields::Fields;
use crate::http::{App, Call, Response, json_reply};
use crate::language::{project_of, takes_tools};

/// When a model is given up that never is: the protocol has no word for it.
const NEVER: &str = "9999-12-31T23:59:59Z";

/// The models that can be asked.
pub(super) async fn tags(call: Call) -> Result<Response, Fault> {
    let mut models = Vec::new();
    for (found, version) in there(&call).await? {
        models.push(described(&found, &version));
    }
    json_reply(StatusCode::OK, &json!({ "models": models }))
}

/// Those of them that are in memory.
pub(super) async fn loaded(call: Call) -> Result<Response, Fault> {
    let mut models = Vec::new();
    for (found, version) in there(&call).await? {
        if !found.language.is_loaded() {
            continue;
        }
        let until = found.language.time_left().and_then(|left| Timestamp::now().checked_add(left).ok());
        let mut model = described(&found, &version);
        model["expires_at"] = until.map_or_else(|| NEVER.into(), time);
        model["size_vram"] = 0.into();
        model["context_length"] = found.language.context().into();
        models.push(model);
    }
    json_reply(StatusCode::OK, &json!({ "models": models }))
}

/// All about one.
pub(super) async fn show(call: Call) -> Result<Response, Fault> {
    let project = project_of(&call, None)?;
    let Call { app, body, .. } = call;
    let mut fields = Fields::of_body(&body.read().await?)?;
    let name = named(&mut fields)?;
    fields.flag("verbose")?;
    fields.finish()?;
    let route = model(&app, &project, &name)?;
    let version = version(&app, &route.deployed.model_name, route.deployed.version).await?;
    let (language, about) = (&route.language, route.language.about());
    let mut capabilities = vec!["completion"];
    if takes_tools(language) {
        capabilities.push("tools");
    }
    let mut facts = json!({
        "general.architecture": about.architecture,
        "general.parameter_count": about.parameters,
    });
    facts[format!("{}.context_length", about.architecture)] = language.context().into();
    json_reply(
        StatusCode::OK,
        &json!({
            "modelfile": "",
            "parameters": "",
            "template": language.template_source(),
            "details": details(language),
            "model_info": facts,
            "capabilities": capabilities,
            "modified_at": time(version.create_time),
        }),
    )
}

/// The project's deployed language models, each name once, with their versions.
async fn there(call: &Call) -> Result<Vec<(NamedLanguage, Version)>, Fault> {
    let project = project_of(call, None)?;
    let mut models = call.app.router.languages(Some(&project));
    models.retain(|model| project.knows([model.endpoint.as_str(), &model.deployed.model_name]));
    models.dedup_by(|later, first| later.name == first.name);
    let mut found = Vec::with_capacity(models.len());
    for model in models {
        let version = version(&call.app, &model.deployed.model_name, model.deployed.version).await?;
        found.push((model, version));
    }
    Ok(found)
}

async fn version(app: &App, model: &str, number: u32) -> Result<Version, Fault> {
    let (model, _) = app.control.models().get(&format!("{model}@{number}")).await?;
    Ok(model.version(&VersionRef::Number(number))?.clone())
}

fn described(model: &NamedLanguage, version: &Version) -> Value {
    let name = if model.name.contains(':') { model.name.clone() } else { format!("{}{LATEST}", model.name) };
    json!({
        "name": name,
        "model": name,
        "modified_at": time(version.create_time),
        "size": model.language.about().bytes,
        "digest": version.artifact.hex(),
        "details": details(&model.language),
    })
}

fn details(language: &Language) -> Value {
    let about = language.about();
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": about.architecture,
        "families": [about.architecture],
        "parameter_size": parameters(about.parameters),
        "quantization_level": about.quantization,
    })
}

/// `134515008` as `134.5M`.
fn parameters(count: u64) -> String {
    let count = count as f64;
    if count >= 1e9 { format!("{:.1}B", count / 1e9) } else { format!("{:.1}M", count / 1e6) }
}
