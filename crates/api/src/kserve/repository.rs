//! The model repository, in this server's words: what is registered can be loaded, which deploys its default version to
//! an endpoint of its name; unloading takes that off again.

use std::collections::BTreeMap;
use std::time::Duration;

use control::{
    Endpoint, ListQuery, NewDeployedModel, NewEndpoint, Operation, OperationResult, Parent, ServingStatus,
};

use crate::http::App;
use crate::{Code, Fault};

/// How long putting a model behind its endpoint may take.
const DEPLOY_MAX: Duration = Duration::from_secs(600);

/// A version of a model in the index.
pub(super) struct Indexed {
    pub(super) name: String,
    pub(super) version: String,
    /// Why it cannot be asked; empty where it can.
    pub(super) reason: &'static str,
}

impl Indexed {
    pub(super) fn state(&self) -> &'static str {
        if self.reason.is_empty() { "READY" } else { "UNAVAILABLE" }
    }
}

/// The versions that are served or registered, by name and number; with `ready` those that can be asked.
pub(super) async fn index(app: &App, parent: &Parent, ready: bool) -> Result<Vec<Indexed>, Fault> {
    let mut found: BTreeMap<(String, u32), &'static str> = BTreeMap::new();
    if !ready {
        let mut query = ListQuery::default();
        loop {
            let page = app.control.models().list(parent, &query).await?;
            for model in page.items {
                for version in &model.versions {
                    let reason = match version.serving {
                        ServingStatus::Enabled => "not deployed",
                        ServingStatus::Disabled => "disabled for serving",
                    };
                    found.insert((model.display_name.clone(), version.number), reason);
                }
            }
            match page.next_page_token {
                Some(token) => query.page_token = Some(token),
                None => break,
            }
        }
    }
    for served in app.router.predictors(&parent.project) {
        found.insert((served.name, served.deployed.version), "");
    }
    let indexed = found.into_iter().map(|((name, version), reason)| Indexed {
        name,
        version: version.to_string(),
        reason,
    });
    Ok(indexed.collect())
}

/// Has the model called `name` answer: its default version, at an endpoint of its name.
pub(super) async fn load(app: &App, parent: &Parent, name: &str) -> Result<(), Fault> {
    let (model, version) = registered(app, parent, name).await?;
    let endpoints = app.control.endpoints();
    let endpoint = match endpoints.find(parent, name).await? {
        Some(endpoint) => endpoint,
        None => create(app, parent, name).await?,
    };
    let is_it = |d: &control::DeployedModel| d.model == model && d.version == version;
    if endpoint.deployed_models.iter().any(is_it) {
        return Ok(());
    }
    if !endpoint.deployed_models.is_empty() {
        let message = format!(
            "the endpoint `{name}` serves something already, and who gets its traffic is for its owner to say: deploy \
             version {version} there with `meuse deploy`"
        );
        return Err(Fault::new(Code::FailedPrecondition, message));
    }
    let new = NewDeployedModel { model: format!("{model}@{version}"), ..NewDeployedModel::default() };
    ended(app, endpoints.deploy(&endpoint.name, new, None).await?).await.map(|_| ())
}

/// Takes the model called `name` off the endpoint of its name, if nothing else is there and it is served nowhere else.
pub(super) async fn unload(app: &App, parent: &Parent, name: &str) -> Result<(), Fault> {
    let (model, _) = registered(app, parent, name).await?;
    let endpoints = app.control.endpoints();
    let own = endpoints.find(parent, name).await?;
    let deployments = app.control.models().deployments(&model).await?;
    let elsewhere = |endpoint: &str| own.as_ref().is_none_or(|own| own.name != endpoint);
    if let Some(at) = deployments.iter().find(|at| elsewhere(&at.endpoint)) {
        return Err(in_use(&model, &at.endpoint));
    }
    let Some(own) = own else { return Ok(()) };
    if own.deployed_models.iter().any(|deployed| deployed.model != model) {
        return Err(in_use(&model, &own.name));
    }
    for deployed in &own.deployed_models {
        ended(app, endpoints.undeploy(&own.name, &deployed.id, None).await?).await?;
    }
    ended(app, endpoints.delete(&own.name).await?).await.map(|_| ())
}

/// The resource name of the registered model called `name`, and its default version.
async fn registered(app: &App, parent: &Parent, name: &str) -> Result<(String, u32), Fault> {
    let found = app.control.models().find(parent, name).await?;
    let missing =
        || Fault::not_found(format!("no model `{name}` is registered in project {}", parent.project));
    let (model, version) = found.ok_or_else(missing)?;
    Ok((model.name, version))
}

fn in_use(model: &str, endpoint: &str) -> Fault {
    let last = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
    let message = format!(
        "the model `{}` is served by the endpoint `{}`, which is not its own alone: take it off there with `meuse undeploy`",
        last(model),
        last(endpoint)
    );
    Fault::new(Code::FailedPrecondition, message)
}

async fn create(app: &App, parent: &Parent, name: &str) -> Result<Endpoint, Fault> {
    let new = NewEndpoint { display_name: name.to_owned(), ..NewEndpoint::default() };
    match ended(app, app.control.endpoints().create(parent, new).await?).await? {
        OperationResult::Endpoint(endpoint) => Ok(endpoint),
        _ => Err(Fault::internal("creating an endpoint", "its operation ended without one")),
    }
}

/// What an operation has come to.
async fn ended(app: &App, operation: Operation) -> Result<OperationResult, Fault> {
    let ended = app.control.operations().wait(&operation.name, DEPLOY_MAX).await?;
    match ended.outcome {
        Some(Ok(result)) => Ok(result),
        Some(Err(failed)) => Err(Fault::new(failed.code.into(), failed.message)),
        None => {
            let message = "the model takes long to be loaded; it answers when it is";
            Err(Fault::new(Code::DeadlineExceeded, message))
        }
    }
}
