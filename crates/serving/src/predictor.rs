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
pub enum Pick<'a> {
    /// The next by the traffic split.
    Split,
    /// The one with most of the traffic: for those who only look, and take no turn.
    Most,
    /// The one of this version, whatever its share.
    Version(u32),
    /// The one whose version has this alias, whatever its share.
    Alias(&'a str),
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
        pick: Pick<'_>,
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
                found.ok_or_else(|| unknown_version(&route, name, version.to_string()))?
            }
            Pick::Alias(alias) => {
                let has = |live: &&Arc<Live>| live.deployed.aliases.iter().any(|own| own == alias);
                let found = route.live.iter().find(has);
                found.ok_or_else(|| unknown_version(&route, name, alias.to_owned()))?
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

    /// Predictions of the model that was chosen as tensors by name, as [`Model::ports`] has them.
    ///
    /// # Errors
    /// If the model's outputs are not what it says.
    pub fn tensors(&self, route: &PredictorRoute, predictions: &Predictions) -> Result<Tensors, ServeError> {
        let told = route.deployed.model.outputs(predictions);
        told.map_err(|e| ServeError::Failed { message: e.to_string() })
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
        self.tensors(route, &model.read_rows(rows))
    }
}

fn unknown_version(route: &LiveRoute, name: &str, version: String) -> LanguageRouteError {
    let mut versions: Vec<u32> = route.live.iter().map(|live| live.deployed.version).collect();
    versions.sort_unstable();
    versions.dedup();
    let deployed = versions.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    LanguageRouteError::UnknownVersion { name: name.to_owned(), version, deployed }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashMap;
    use std::time::Duration;

    use tensor::{Data, Tensor};

    use super::*;
    use crate::fixture::{Function, texts};
    use crate::router::{Route, RoutingTable};

    fn served(models: Vec<(u32, u32, &str, Arc<Model>)>) -> Router {
        let deployed = models.into_iter().map(|(version, weight, alias, model)| Deployed {
            nearest: None,
            concurrency: None,
            id: version.to_string(),
            model,
            model_name: "projects/p/locations/l/models/m".into(),
            version,
            aliases: vec![alias.to_owned()],
            display_name: "called".into(),
            weight,
            explain: None,
        });
        let route = Route { deployed: deployed.collect() };
        let router = Router::new();
        let name = "projects/p/locations/l/endpoints/e".to_owned();
        router.publish(RoutingTable { routes: HashMap::from([(name, route)]) });
        router
    }

    fn numbers(name: &str, rows: usize) -> (String, Tensor) {
        let data = Data::F32((0..rows * 2).map(|n| n as f32).collect());
        (name.into(), Tensor::new(vec![rows, 2], data).unwrap())
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn versions_and_aliases_are_asked_whatever_their_share() {
        let times = |k: f32| Arc::new(Function::new(2, 1, move |x| vec![k * (x[0] + x[1])]).model());
        let router = served(vec![(1, 100, "stable", times(1.0)), (2, 0, "next", times(2.0))]);
        for name in ["e", "m", "called"] {
            for (pick, version) in
                [(Pick::Split, 1), (Pick::Most, 1), (Pick::Version(2), 2), (Pick::Alias("next"), 2)]
            {
                let route = router.predictor("p", name, pick).unwrap();
                assert_eq!(route.deployed.version, version, "{name} {pick:?}");
                let told = router.infer(&route, vec![numbers("x", 2)], soon()).await.unwrap();
                let expected = vec![version as f32, 5.0 * version as f32];
                assert_eq!(told, [("y".into(), Tensor::new(vec![2, 1], Data::F32(expected)).unwrap())]);
            }
        }
        let versions = router.predictor("p", "e", Pick::Most).unwrap().versions();
        assert_eq!(versions.iter().map(|d| d.version).collect::<Vec<_>>(), [1, 2]);
        let refusal = |pick| router.predictor("p", "e", pick).err().unwrap().to_string();
        assert!(
            refusal(Pick::Version(3)).contains("version 3 of the model `e` is not deployed; deployed: 1, 2")
        );
        assert!(refusal(Pick::Alias("absent")).contains("absent"));
        assert!(router.predictor("q", "e", Pick::Split).is_err());
        let route = router.predictor("p", "e", Pick::Split).unwrap();
        let refused = router.infer(&route, vec![numbers("z", 1)], soon()).await.unwrap_err();
        assert!(matches!(refused, ServeError::BadRequest { .. }));
    }

    #[tokio::test]
    async fn columns_of_a_trained_model_are_tensors() {
        let (_dir, model) = texts();
        let router = served(vec![(1, 100, "default", Arc::new(model))]);
        let route = router.predictor("p", "e", Pick::Split).unwrap();
        let words = ["a cat sleeps", "the boat sails"];
        let cells = Data::Text(words.map(str::to_owned).to_vec());
        let text = vec![("text".to_owned(), Tensor::new(vec![2, 1], cells).unwrap())];
        let told = router.infer(&route, text, soon()).await.unwrap();
        let instances = words.map(|text| Value::Text(text.to_owned())).to_vec();
        let predictions = router.predict_on(&route, instances, soon()).await.unwrap();
        let labels = [0, 1].map(|row| predictions.label(row).unwrap().1.to_owned()).to_vec();
        assert_eq!(told[0], ("label".into(), Tensor::new(vec![2], Data::Text(labels)).unwrap()));
        assert_eq!(told[1].1.as_f32().unwrap()[..2], *predictions.scores(0).unwrap());
        assert_eq!(router.tensors(&route, &predictions).unwrap(), told);
    }
}
