//! From a name to the encoder that answers.

use std::sync::Arc;
use std::time::Instant;

use llm::encoder::Input;

use super::Embedder;
use crate::counters::{Counters, bump};
use crate::error::ServeError;
use crate::language::{LanguageRouteError, project_of};
use crate::router::{Deployed, Live, Router};

/// An encoder that was chosen for a request.
#[derive(Clone)]
pub struct EmbedderRoute {
    /// The endpoint's resource name.
    pub endpoint: String,
    /// What was chosen.
    pub deployed: Arc<Deployed>,
    /// Its model.
    pub embedder: Arc<Embedder>,
    counters: Arc<Counters>,
}

/// An encoder with the name that it answers to.
#[derive(Debug, Clone)]
pub struct NamedEmbedder {
    /// The name.
    pub name: String,
    /// The endpoint's resource name.
    pub endpoint: String,
    /// What is deployed there.
    pub deployed: Arc<Deployed>,
    /// Its model.
    pub embedder: Arc<Embedder>,
}

impl EmbedderRoute {
    fn new(endpoint: String, live: &Live, embedder: Arc<Embedder>) -> EmbedderRoute {
        let counters = live.batcher.counters.clone();
        bump(&counters.requests);
        EmbedderRoute { endpoint, deployed: live.deployed.clone(), embedder, counters }
    }

    /// Counts a request that does not fit the model.
    pub fn count_bad_request(&self) {
        bump(&self.counters.bad_requests);
    }

    /// What the model makes of each text, in their order: a vector, or a vector of a score alone. They are computed
    /// together with what others ask, which changes no bit. Dropping the future withdraws the request.
    ///
    /// # Errors
    /// If too much waits, time is up, or the model fails.
    pub async fn run(&self, inputs: Vec<Input>, deadline: Instant) -> Result<Vec<Vec<f32>>, ServeError> {
        let project = project_of(&self.endpoint);
        let result = self.embedder.run(project, inputs, deadline).await;
        match &result {
            Err(ServeError::Overloaded { .. }) => bump(&self.counters.overloaded),
            Err(ServeError::DeadlineExceeded) => bump(&self.counters.expired),
            Err(_) => bump(&self.counters.failed),
            Ok(_) => {}
        }
        result
    }
}

impl Router {
    /// The encoder that answers to `name` in `project`; found as [`Router::language`] finds language models.
    ///
    /// # Errors
    /// If there is none, or what is called so is no encoder.
    pub fn embedder(&self, project: &str, name: &str) -> Result<EmbedderRoute, LanguageRouteError> {
        let found = self.answering(project, name, |model| model.embedder().cloned())?;
        let not_encoder = || LanguageRouteError::NotEncoder { name: name.to_owned() };
        let embedder = found.answers.ok_or_else(not_encoder)?;
        Ok(EmbedderRoute::new(found.endpoint, &found.live, embedder))
    }

    /// The encoder that answers on an endpoint; `None` where what answers there is none, or nothing does.
    ///
    /// # Errors
    /// If none of the endpoint's encoders takes traffic.
    pub fn embedder_at(&self, endpoint: &str) -> Result<Option<EmbedderRoute>, ServeError> {
        let found = self.at(endpoint, None, |model| model.embedder().cloned())?;
        Ok(found.map(|(live, embedder)| EmbedderRoute::new(endpoint.to_owned(), &live, embedder)))
    }

    /// Every deployed encoder of `project`, or of all projects, by name and then by endpoint.
    pub fn embedders(&self, project: Option<&str>) -> Vec<NamedEmbedder> {
        let named = self.deployed_that(project, |model| model.embedder().cloned());
        let named = named.into_iter().map(|(endpoint, deployed, embedder)| NamedEmbedder {
            name: deployed.display_name.clone(),
            endpoint,
            deployed,
            embedder,
        });
        named.collect()
    }
}
