//! `POST /api/pull`: a model is fetched, registered and deployed under its name, so that it can be asked.

use std::sync::Arc;
use std::time::Duration;

use control::{ErrorCode, NewDeployedModel, NewEndpoint, NewPull, Operation, OperationResult, Parent};
use http::StatusCode;
use serde_json::{Value, json};

use super::{LOCATION, error, named, untagged};
use crate::fields::Fields;
use crate::http::{App, Call, Response, json_reply};
use crate::language::project_of;
use crate::stream::{Frames, Framing, Teller};
use crate::{Fault, stream};

/// How often a client is told how far it is.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// How long putting a model behind its endpoint may take.
const DEPLOY_MAX: Duration = Duration::from_secs(600);

/// Pulls a model. It goes on if the client leaves.
pub(super) async fn pull(call: Call) -> Result<Response, Fault> {
    let project = project_of(&call, None)?;
    let Call { app, body, .. } = call;
    let mut fields = Fields::of_body(&body.read().await?)?;
    let name = named(&mut fields)?;
    let safe = |value: &Value| *value == Value::Bool(false);
    fields.only("insecure", safe, "is not served: what is pulled is verified")?;
    let streams = fields.flag("stream")?.unwrap_or(true);
    fields.finish()?;
    let parent = Parent { project: project.to_string(), location: LOCATION.to_owned() };
    let called = untagged(&name).to_owned();
    let new = NewPull { what: source(&app, &called).await?, name: Some(called.clone()), digest: None };
    let (_, operation) = app.control.jobs().create_pull(&parent, new).await?;
    let mut pulling = Pulling { app, parent, called, operation, told: None };
    if streams {
        return Ok(stream::reply(pulling, Framing::Lines));
    }
    while !pulling.operation.done {
        pulling.wait().await?;
    }
    pulling.deploy().await?;
    json_reply(StatusCode::OK, &json!({"status": "success"}))
}

/// Where the model called `name` comes from: the catalogue, or the Ollama registry.
async fn source(app: &App, name: &str) -> Result<String, Fault> {
    let catalogue = app.control.catalogue().await?;
    Ok(if catalogue.find(name).is_some() { name.to_owned() } else { format!("ollama:{name}") })
}

/// A pull on its way.
struct Pulling {
    app: Arc<App>,
    parent: Parent,
    called: String,
    operation: Operation,
    /// The bytes that the client was last told of.
    told: Option<u64>,
}

impl Pulling {
    async fn wait(&mut self) -> Result<(), Fault> {
        self.operation = self.app.control.operations().wait(&self.operation.name, TELL_EVERY).await?;
        Ok(())
    }

    /// Puts the version that was registered behind the endpoint of its name, all traffic to it.
    async fn deploy(&self) -> Result<(), Fault> {
        let (model, version) = match &self.operation.outcome {
            Some(Ok(OperationResult::Version { model, version })) => (model.as_str(), *version),
            Some(Err(failed)) => return Err(Fault::new(failed.code.into(), failed.message.clone())),
            _ => return Err(Fault::internal("pulling a model", "the operation ended without a version")),
        };
        let endpoints = self.app.control.endpoints();
        let endpoint = match endpoints.find(&self.parent, &self.called).await? {
            Some(endpoint) => endpoint,
            None => self.create().await?,
        };
        let is_it = |d: &control::DeployedModel| d.model == model && d.version == version;
        if endpoint.deployed_models.iter().any(is_it) {
            return Ok(());
        }
        let new = NewDeployedModel { model: format!("{model}@{version}"), ..NewDeployedModel::default() };
        let others = endpoint.deployed_models.iter().map(|d| (d.id.clone(), 0));
        let split = others.chain([("0".to_owned(), 100)]).collect();
        let operation = endpoints.deploy(&endpoint.name, new, Some(split)).await?;
        let ended = self.app.control.operations().wait(&operation.name, DEPLOY_MAX).await?;
        match ended.outcome {
            Some(Err(failed)) => Err(Fault::new(failed.code.into(), failed.message)),
            Some(Ok(_)) => Ok(()),
            None => {
                let message = "the model was pulled, and takes long to be loaded; it answers when it is";
                Err(Fault::new(crate::Code::DeadlineExceeded, message))
            }
        }
    }

    async fn create(&self) -> Result<control::Endpoint, Fault> {
        let endpoints = self.app.control.endpoints();
        let new = NewEndpoint {
            endpoint_id: None,
            display_name: self.called.clone(),
            description: String::new(),
            labels: Default::default(),
            as_written: json!({}),
        };
        let operation = endpoints.create(&self.parent, new).await?;
        let ended = self.app.control.operations().wait(&operation.name, DEPLOY_MAX).await?;
        match ended.outcome {
            Some(Ok(OperationResult::Endpoint(endpoint))) => Ok(endpoint),
            Some(Err(failed)) => Err(Fault::new(failed.code.into(), failed.message)),
            _ => Err(Fault::new(ErrorCode::Internal.into(), "the endpoint was not created")),
        }
    }

    /// What the protocol has for how far it is.
    fn status(&self) -> Option<Value> {
        let transfer = self.operation.transfer.as_ref()?;
        let source = transfer.source.as_ref().map(ToString::to_string)?;
        Some(json!({
            "status": format!("pulling {source}"),
            "digest": source,
            "total": transfer.total,
            "completed": transfer.done,
        }))
    }
}

impl Teller for Pulling {
    async fn tell(&mut self, frames: &mut Frames) -> Result<bool, Fault> {
        if self.told.is_none() {
            self.told = Some(0);
            frames.data(&json!({"status": "pulling manifest"}));
            return Ok(true);
        }
        if !self.operation.done {
            self.wait().await?;
            let done = self.operation.transfer.as_ref().map(|transfer| transfer.done);
            if done != self.told {
                self.told = done.or(self.told);
                if let Some(status) = self.status() {
                    frames.data(&status);
                }
            }
            return Ok(true);
        }
        self.deploy().await?;
        frames.data(&json!({"status": "success"}));
        Ok(false)
    }

    fn fail(&mut self, fault: &Fault, frames: &mut Frames) {
        frames.data(&error(fault));
    }
}
