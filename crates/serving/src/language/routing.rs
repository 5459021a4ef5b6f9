//! From a model's name, as protocols without endpoints give it, to what answers.

use std::sync::Arc;

use llm::SubmitError;

use super::Language;
use crate::counters::{Counters, bump};
use crate::model::Model;
use crate::router::{Deployed, Live, LiveRoute, Router};

/// A language model that was chosen for a request.
#[derive(Clone)]
pub struct LanguageRoute {
    /// The endpoint's resource name.
    pub endpoint: String,
    /// What was chosen there.
    pub deployed: Arc<Deployed>,
    /// Its model.
    pub language: Arc<Language>,
    pub(crate) counters: Arc<Counters>,
}

/// Why no language model was chosen. The texts are safe to send to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LanguageRouteError {
    /// Nothing is called so.
    #[error("the model `{name}` does not exist in project {project}; deploy it first")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The project looked into.
        project: String,
    },
    /// The endpoint is there, and nothing behind it takes traffic.
    #[error("the model `{name}` is not served: nothing behind its endpoint takes traffic")]
    NotServing {
        /// The name asked for.
        name: String,
        /// The endpoint's resource name.
        endpoint: String,
    },
    /// What answers there answers with numbers or labels.
    #[error("`{name}` is not a language model: ask it for predictions or embeddings")]
    NotLanguage {
        /// The name asked for.
        name: String,
    },
    /// What answers there makes neither vectors nor scores of texts.
    #[error("`{name}` makes no embeddings: it is no encoder")]
    NotEncoder {
        /// The name asked for.
        name: String,
    },
    /// What answers there takes no rows.
    #[error("`{name}` predicts nothing: {says}")]
    NotPredictor {
        /// The name asked for.
        name: String,
        /// What it is, and how to ask it.
        says: &'static str,
    },
    /// The endpoint is there, and this version of its model is not.
    #[error("version {version} of the model `{name}` is not deployed; deployed: {deployed}")]
    UnknownVersion {
        /// The name asked for.
        name: String,
        /// The version asked for, or its alias.
        version: String,
        /// Those that are.
        deployed: String,
    },
}

/// How a routed request ended, for the deployed model's counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The request did not fit the model.
    BadRequest,
    /// The client left.
    Cancelled,
    /// The deadline passed.
    Expired,
    /// The model failed.
    Failed,
}

/// A language model with the name that it answers to.
#[derive(Debug, Clone)]
pub struct NamedLanguage {
    /// The name.
    pub name: String,
    /// The endpoint's resource name.
    pub endpoint: String,
    /// What is deployed there.
    pub deployed: Arc<Deployed>,
    /// Its model.
    pub language: Arc<Language>,
}

impl LanguageRoute {
    /// Counts how the request ended, where it did not end well.
    pub fn count(&self, outcome: Outcome) {
        bump(match outcome {
            Outcome::BadRequest => &self.counters.bad_requests,
            Outcome::Cancelled => &self.counters.cancelled,
            Outcome::Expired => &self.counters.expired,
            Outcome::Failed => &self.counters.failed,
        });
    }

    /// Counts a request that the engine did not take.
    pub fn count_refusal(&self, error: &SubmitError) {
        match error {
            SubmitError::Full { .. } => bump(&self.counters.overloaded),
            SubmitError::PromptTooLong { .. } | SubmitError::Invalid { .. } => {
                self.count(Outcome::BadRequest)
            }
            SubmitError::Stopped => self.count(Outcome::Failed),
        }
    }
}

/// What answers to a name.
pub(crate) struct Answering<T> {
    /// The endpoint's resource name.
    pub(crate) endpoint: String,
    pub(crate) live: Arc<Live>,
    /// What was looked for, if what answers has it.
    pub(crate) answers: Option<T>,
}

impl Router {
    /// The language model that answers to `name` in `project`, by the traffic split of its endpoint: an endpoint's
    /// id, a model's id or what people call it, in this order.
    ///
    /// # Errors
    /// If there is none, or what is called so is no language model.
    pub fn language(&self, project: &str, name: &str) -> Result<LanguageRoute, LanguageRouteError> {
        let Answering { endpoint, live, .. } =
            self.answering(project, name, |model| model.language().cloned())?;
        language_of(&endpoint, &live, name)
    }

    /// What answers to `name` in `project`. Of endpoints that are called so, those come first that have what `of` looks
    /// for.
    pub(crate) fn answering<T>(
        &self,
        project: &str,
        name: &str,
        of: impl Fn(&Model) -> Option<T>,
    ) -> Result<Answering<T>, LanguageRouteError> {
        let (endpoint, route) = self.route_called(project, name, &of)?;
        let live = route.draw().ok_or_else(|| not_serving(&endpoint, name))?.clone();
        let answers = of(&live.deployed.model);
        Ok(Answering { endpoint, live, answers })
    }

    /// The endpoint that answers to `name` in `project`, by its resource name, and what is behind it.
    pub(crate) fn route_called<T>(
        &self,
        project: &str,
        name: &str,
        of: impl Fn(&Model) -> Option<T>,
    ) -> Result<(String, Arc<LiveRoute>), LanguageRouteError> {
        let table = self.table();
        let candidates = table.iter().filter(|(endpoint, _)| project_of(endpoint) == project);
        let named = candidates.filter_map(|(endpoint, route)| {
            let rank = rank(endpoint, route, name)?;
            let has = route.live.iter().any(|live| of(&live.deployed.model).is_some());
            Some(((!has, rank, endpoint), route))
        });
        let Some(((_, _, endpoint), route)) = named.min_by(|a, b| a.0.cmp(&b.0)) else {
            return Err(LanguageRouteError::Unknown { name: name.to_owned(), project: project.to_owned() });
        };
        Ok((endpoint.clone(), Arc::clone(route)))
    }

    /// The language model behind `endpoint`, a resource name, by its traffic split.
    ///
    /// # Errors
    /// As [`Router::language`].
    pub fn language_behind(&self, endpoint: &str) -> Result<LanguageRoute, LanguageRouteError> {
        let unknown = || {
            let project = project_of(endpoint).to_owned();
            LanguageRouteError::Unknown { name: endpoint.to_owned(), project }
        };
        let table = self.table();
        let live =
            table.get(endpoint).ok_or_else(unknown)?.draw().ok_or_else(|| not_serving(endpoint, endpoint))?;
        language_of(endpoint, live, endpoint)
    }

    /// Every deployed language model of `project`, or of all projects, by name and then by endpoint.
    pub fn languages(&self, project: Option<&str>) -> Vec<NamedLanguage> {
        let named = self.deployed_that(project, |model| model.language().cloned());
        let named = named.into_iter().map(|(endpoint, deployed, language)| NamedLanguage {
            name: deployed.display_name.clone(),
            endpoint,
            deployed,
            language,
        });
        named.collect()
    }

    /// Every deployed model of `project`, or of all projects, that has what `of` looks for; by what people call it and
    /// then by endpoint.
    pub(crate) fn deployed_that<T>(
        &self,
        project: Option<&str>,
        of: impl Fn(&Model) -> Option<T>,
    ) -> Vec<(String, Arc<Deployed>, T)> {
        let table = self.table();
        let mut found = Vec::new();
        for (endpoint, route) in table.iter() {
            if project.is_some_and(|project| project_of(endpoint) != project) {
                continue;
            }
            for live in &route.live {
                if let Some(has) = of(&live.deployed.model) {
                    found.push((endpoint.clone(), live.deployed.clone(), has));
                }
            }
        }
        found.sort_by(|(a_endpoint, a, _), (b_endpoint, b, _)| {
            (&a.display_name, a_endpoint, &a.id).cmp(&(&b.display_name, b_endpoint, &b.id))
        });
        found
    }
}

pub(crate) fn not_serving(endpoint: &str, name: &str) -> LanguageRouteError {
    LanguageRouteError::NotServing { name: name.to_owned(), endpoint: endpoint.to_owned() }
}

/// The way to what was drawn on an endpoint for a request for `name`, if it is a language model.
fn language_of(endpoint: &str, live: &Live, name: &str) -> Result<LanguageRoute, LanguageRouteError> {
    let language = live.deployed.model.language().cloned();
    let language = language.ok_or_else(|| LanguageRouteError::NotLanguage { name: name.to_owned() })?;
    let counters = live.batcher.counters.clone();
    bump(&counters.requests);
    Ok(LanguageRoute { endpoint: endpoint.to_owned(), deployed: live.deployed.clone(), language, counters })
}

/// How well the endpoint answers to `name`: the smaller the better. `None` if it does not.
fn rank(endpoint: &str, route: &LiveRoute, name: &str) -> Option<u8> {
    let last = |resource: &str| resource.rsplit('/').next() == Some(name);
    if last(endpoint) {
        return Some(0);
    }
    if route.live.iter().any(|live| last(&live.deployed.model_name)) {
        return Some(1);
    }
    route.live.iter().any(|live| live.deployed.display_name == name).then_some(2)
}

/// The project in a resource name.
pub(crate) fn project_of(resource: &str) -> &str {
    resource.strip_prefix("projects/").and_then(|rest| rest.split('/').next()).unwrap_or_default()
}
