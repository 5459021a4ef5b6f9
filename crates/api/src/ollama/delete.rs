//! `DELETE /api/delete`: a model is taken off its endpoint, and its versions are forgotten.

use control::{Endpoint, ListQuery, Parent};
use http::StatusCode;
use serde_json::json;

use super::{LOCATION, named, untagged};
use crate::Fault;
use crate::fields::Fields;
use crate::http::{App, Call, Response, json_reply};
use crate::language::project_of;

/// Deletes a model with all its versions, and the endpoints that have nothing else.
pub(super) async fn delete(call: Call) -> Result<Response, Fault> {
    let project = project_of(&call, None)?;
    let Call { app, body, .. } = call;
    let mut fields = Fields::of_body(&body.read().await?)?;
    let name = named(&mut fields)?;
    fields.finish()?;
    let parent = Parent { project: project.to_string(), location: LOCATION.to_owned() };
    let models = app.control.models();
    let mut found = models.find(&parent, &name).await?;
    if found.is_none() {
        found = models.find(&parent, untagged(&name)).await?;
    }
    let (model, _) = found.ok_or_else(|| Fault::not_found(format!("model '{name}' not found")))?;
    for endpoint in with(&app, &parent, &model.name).await? {
        take_off(&app, &endpoint, &model.name).await?;
    }
    models.delete(&model.name).await?;
    json_reply(StatusCode::OK, &json!({}))
}

/// The endpoints at which the model is deployed.
async fn with(app: &App, parent: &Parent, model: &str) -> Result<Vec<Endpoint>, Fault> {
    let mut found = Vec::new();
    let mut query = ListQuery::default();
    loop {
        let page = app.control.endpoints().list(parent, &query).await?;
        let here = |endpoint: &Endpoint| endpoint.deployed_models.iter().any(|d| d.model == model);
        found.extend(page.items.into_iter().filter(here));
        match page.next_page_token {
            Some(token) => query.page_token = Some(token),
            None => return Ok(found),
        }
    }
}

async fn take_off(app: &App, endpoint: &Endpoint, model: &str) -> Result<(), Fault> {
    let endpoints = app.control.endpoints();
    let (own, others): (Vec<_>, Vec<_>) = endpoint.deployed_models.iter().partition(|d| d.model == model);
    for deployed in own {
        endpoints.undeploy(&endpoint.name, &deployed.id, None).await?;
    }
    if others.is_empty() {
        endpoints.delete(&endpoint.name).await?;
    }
    Ok(())
}
