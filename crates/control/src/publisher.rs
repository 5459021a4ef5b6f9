//! [`Publisher`]: from what is stored about endpoints to what the router serves.
//!
//! After each commit that concerns an endpoint, the endpoint is read again, its models are loaded and the
//! whole table is published. A deployed model that cannot be loaded (its artifact is damaged) is left out
//! and remembered: the endpoint and its other models go on, and whoever asks learns why it does not serve.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serving::{Deployed, Examples, Explain, Method, Nearest, Route, Router, RoutingTable};
use tokio::sync::Mutex as AsyncMutex;

use crate::artifact::Digest;
use crate::examples;
use crate::loader::{Parts, Wanted};
use crate::store::{get, list_all};
use crate::{
    Control, DeployedModel, DraftModel, Endpoint, Error, ErrorCode, ExampleSource, ExplanationMethod,
    ExplanationSpec, Model, Result, VersionRef,
};

/// Keeps the router's table equal to the metadata.
pub(crate) struct Publisher {
    router: Router,
    /// What was last published. Held while an endpoint is read and published, so that the last to read is
    /// the last to publish.
    table: AsyncMutex<RoutingTable>,
    /// Why deployed models do not serve, by endpoint and id.
    faults: Mutex<HashMap<String, Vec<Fault>>>,
    /// Examples that some deployed model explains by, by their artifact.
    examples: Mutex<HashMap<Digest, Weak<Examples>>>,
}

/// A deployed model that does not serve.
struct Fault {
    id: String,
    code: ErrorCode,
    message: String,
}

impl Publisher {
    pub(crate) fn new(router: Router) -> Self {
        Publisher {
            router,
            table: AsyncMutex::default(),
            faults: Mutex::default(),
            examples: Mutex::default(),
        }
    }

    /// Publishes every endpoint.
    pub(crate) async fn publish_all(&self, control: &Control) -> Result<()> {
        let mut table = self.table.lock().await;
        for endpoint in list_all::<Endpoint>(control.store(), None).await? {
            let route = self.route(control, &endpoint).await?;
            table.routes.insert(endpoint.name, route);
        }
        self.router.publish(table.clone());
        Ok(())
    }

    /// Publishes the endpoint `name` as it is now stored, or its absence.
    pub(crate) async fn publish(&self, control: &Control, name: &str) -> Result<()> {
        let mut table = self.table.lock().await;
        match get::<Endpoint>(control.store(), name).await {
            Ok(endpoint) => {
                let route = self.route(control, &endpoint).await?;
                table.routes.insert(endpoint.name, route);
            }
            Err(error) if error.code == ErrorCode::NotFound => {
                table.routes.remove(name);
                self.faults.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
            }
            Err(error) => return Err(error),
        }
        self.router.publish(table.clone());
        Ok(())
    }

    /// The examples stored as `digest`, shared by all who explain by them.
    async fn examples(
        &self,
        control: &Control,
        digest: Digest,
        output: Option<String>,
    ) -> Result<Arc<Examples>> {
        let all = || self.examples.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = all().get(&digest).and_then(Weak::upgrade) {
            return Ok(found);
        }
        let opened = Arc::new(examples::open(control, digest, output).await?);
        let mut all = all();
        all.retain(|_, examples| examples.strong_count() > 0);
        all.insert(digest, Arc::downgrade(&opened));
        Ok(opened)
    }

    /// What serves behind `endpoint`; what does not is noted.
    async fn route(&self, control: &Control, endpoint: &Endpoint) -> Result<Route> {
        let (mut route, mut faults) = (Route::default(), Vec::new());
        for deployed in &endpoint.deployed_models {
            match serve(control, endpoint, deployed).await {
                Ok(served) => route.deployed.push(served),
                Err(error) if error.code == ErrorCode::Unavailable => return Err(error),
                Err(error) => {
                    tracing::error!(endpoint = endpoint.name, deployed = deployed.id, %error, cause = ?error.source,
                        "a deployed model does not serve");
                    faults.push(Fault { id: deployed.id.clone(), code: error.code, message: error.message });
                }
            }
        }
        let mut all = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&endpoint.name);
        if !faults.is_empty() {
            all.insert(endpoint.name.clone(), faults);
        }
        Ok(route)
    }

    /// Why `endpoint`, or its deployed model `id`, does not serve what is deployed to it.
    pub(crate) fn fault(&self, endpoint: &str, id: Option<&str>) -> Option<Error> {
        let all = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = all.get(endpoint)?.iter().find(|fault| id.is_none_or(|id| fault.id == id))?;
        let message =
            format!("the deployed model {} of {endpoint} does not serve: {}", fault.id, fault.message);
        Some(Error::new(fault.code, message))
    }
}

/// One deployed model, loaded.
async fn serve(control: &Control, endpoint: &Endpoint, deployed: &DeployedModel) -> Result<Deployed> {
    let model: Model = get(control.store(), &deployed.model).await?;
    let version = model.version(&VersionRef::Number(deployed.version))?;
    let explanation = deployed.explanation.as_ref().or(version.explanation.as_ref());
    let draft = match &deployed.draft {
        Some(draft) => Some(draft_artifact(control, draft).await?),
        None => None,
    };
    let parts = Parts { model: version.artifact, draft };
    Ok(Deployed {
        id: deployed.id.clone(),
        model: control.load_model(Wanted::deployed(parts, deployed.concurrency)).await?,
        model_name: model.name.clone(),
        version: version.number,
        aliases: version.aliases.clone(),
        display_name: deployed.display_name.clone(),
        weight: endpoint.traffic_split.get(&deployed.id).copied().unwrap_or(0),
        explain: explanation.and_then(explain),
        nearest: match explanation {
            Some(spec) => nearest(control, spec).await?,
            None => None,
        },
        concurrency: deployed.concurrency,
    })
}

/// The artifact of a draft model.
async fn draft_artifact(control: &Control, draft: &DraftModel) -> Result<Digest> {
    let model: Model = get(control.store(), &draft.model).await?;
    Ok(model.version(&VersionRef::Number(draft.version))?.artifact)
}

/// The examples of a specification that explains by these.
async fn nearest(control: &Control, spec: &ExplanationSpec) -> Result<Option<Nearest>> {
    let ExplanationMethod::NearestExamples { neighbor_count } = spec.method else { return Ok(None) };
    let Some(ExampleSource { index: Some(index), output, .. }) = &spec.examples else { return Ok(None) };
    let examples = control.publisher().examples(control, *index, output.clone()).await?;
    Ok(Some(Nearest { examples, count: neighbor_count as usize }))
}

/// An explanation specification as the data plane takes it, if it attributes.
fn explain(spec: &ExplanationSpec) -> Option<Explain> {
    let method = match spec.method {
        ExplanationMethod::SampledShapley { path_count } => Method::SampledShapley { path_count },
        ExplanationMethod::IntegratedGradients { step_count } => Method::IntegratedGradients { step_count },
        ExplanationMethod::NearestExamples { .. } => return None,
    };
    Some(Explain { method: Some(method), ..Explain::default() })
}
