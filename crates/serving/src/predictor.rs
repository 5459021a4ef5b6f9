//! [`PredictorRoute`]: from a model's name, as protocols without endpoints give it, to a model that predicts.

use std::sync::Arc;
use std::time::Instant;

use formats::Value;
use tensor::Tensors;

use crate::counters::bump;
use crate::error::ServeError;
use crate::language::{LanguageRouteError, not_serving};
use crate::model::{Bound, Model};
use crate::predictions::Predictions;
use crate::router::{Deployed, Live, LiveRoute, Router, count};

/// A model that predicts, chosen for a request.
#[derive(Clone)]
pub struct PredictorRoute {
    /// The endpoint's resource name.
    pub endpoint: String,
    /// What was chosen there.
    pub deployed: Arc<Deployed>,
    live: Arc<Live>,
    route: Arc<LiveRoute>,
}

impl PredictorRoute {
    /// All that predict on the endpoint, one a version, ascending.
    pub fn versions(&self) -> Vec<Arc<Deployed>> {
        let predict = self.route.live.iter().filter(|live| live.deployed.model.not_predictor().is_none());
        let mut versions: Vec<Arc<Deployed>> = predict.map(|live| live.deployed.clone()).collect();
        versions.sort_by_key(|deployed| deployed.version);
        versions.dedup_by_key(|deployed| deployed.version);
        versions
    }
}

/// Which of an endpoint's deployed models is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// The next by the traffic split.
    Split,
    /// The one with most of the traffic: for those who only look, and take no turn.
    Most,
    /// The one of this version, whatever its share.
    Version(u32),
}

/// A deployed model with the name that it answers to.
#[derive(Debug, Clone)]
pub struct NamedPredictor {
    /// The name.
    pub name: String,
    /// The endpoint's resource name.
    pub endpoint: String,
    /// What is deployed there.
    pub deployed: Arc<Deployed>,
}

impl Router {
    /// The model that predicts and answers to `name` in `project`; found as [`Router::language`] finds language models.
    ///
    /// # Errors
    /// If there is none, or what is called so does not predict.
    pub fn predictor(
        &self,
        project: &str,
        name: &str,
        pick: Pick,
    ) -> Result<PredictorRoute, LanguageRouteError> {
        let predicts = |model: &Model| model.not_predictor().is_none().then_some(());
        let (endpoint, route) = self.route_called(project, name, predicts)?;
        let live = match pick {
            Pick::Split => route.draw().ok_or_else(|| not_serving(&endpoint, name))?,
            Pick::Most => {
                let most = route.live.iter().max_by_key(|live| (live.deployed.weight, live.deployed.version));
                most.ok_or_else(|| not_serving(&endpoint, name))?
            }
            Pick::Version(version) => {
                let found = route.live.iter().find(|live| live.deployed.version == version);
                found.ok_or_else(|| LanguageRouteError::UnknownVersion {
                    name: name.to_owned(),
                    version,
                    deployed: versions(&route.live),
                })?
            }
        };
        if let Some(says) = live.deployed.model.not_predictor() {
            return Err(LanguageRouteError::NotPredictor { name: name.to_owned(), says });
        }
        let (deployed, live) = (live.deployed.clone(), live.clone());
        Ok(PredictorRoute { endpoint, deployed, live, route })
    }

    /// Every deployed model of `project` that predicts, by name and then by endpoint.
    pub fn predictors(&self, project: &str) -> Vec<NamedPredictor> {
        let predicts = |model: &Model| model.not_predictor().is_none().then_some(());
        let named = self.deployed_that(Some(project), predicts).into_iter();
        let named = named.map(|(endpoint, deployed, ())| NamedPredictor {
            name: deployed.display_name.clone(),
            endpoint,
            deployed,
        });
        named.collect()
    }

    /// Predicts `instances` on the model that was chosen. As [`Router::predict`] else.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub async fn predict_on(
        &self,
        route: &PredictorRoute,
        instances: Vec<Value>,
        deadline: Instant,
    ) -> Result<Predictions, ServeError> {
        bump(&route.live.batcher.counters.requests);
        let inputs = self.bind(&route.live, instances, deadline).await?;
        let rows = route.live.batcher.predict(inputs, deadline).await?;
        Ok(route.live.deployed.model.read_rows(rows))
    }

    /// Gives the tensors `inputs` to the model that was chosen: by name, in any order, as [`Model::ports`] has them.
    /// What comes back is in its order, all of it.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub async fn infer(
        &self,
        route: &PredictorRoute,
        inputs: Tensors,
        deadline: Instant,
    ) -> Result<Tensors, ServeError> {
        let PredictorRoute { live, .. } = route;
        bump(&live.batcher.counters.requests);
        let model = &live.deployed.model;
        let inputs = match count(&live.batcher.counters, model.bind_tensors(inputs))? {
            Bound::Tensors(tensors) => tensors,
            Bound::Instances(instances) => self.bind(live, instances, deadline).await?,
        };
        let rows = live.batcher.predict(inputs, deadline).await?;
        model.outputs(&model.read_rows(rows)).map_err(|e| ServeError::Failed { message: e.to_string() })
    }
}

fn versions(live: &[Arc<Live>]) -> String {
    let mut versions: Vec<u32> = live.iter().map(|live| live.deployed.version).collect();
    versions.sort_unstable();
    versions.dedup();
    versions.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}
