//! [`Endpoints`]: what serves where, and who gets how much of the traffic.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use serde_json::Value;

use crate::check::{self, replace};
use crate::loader::{Parts, Wanted};
use crate::name::{fresh_id, parse_resource};
use crate::operations::Progress;
use crate::store::{Kind, MetadataStore, Record, get, list_all, modify, remove};
use crate::traffic::{self, Split};
use crate::{
    Control, DeployedAt, DeployedModel, DraftModel, Endpoint, Error, ErrorCode, ExplanationSpec, ListQuery,
    Model, ModelName, Operation, OperationKind, OperationResult, Page, Parent, Result, ServingStatus,
    Timestamp, VersionRef,
};

/// What serves where. Get one from [`Control::endpoints`].
#[derive(Clone)]
pub struct Endpoints {
    control: Control,
}

/// An endpoint to create.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewEndpoint {
    /// Its id; generated when absent.
    pub endpoint_id: Option<String>,
    /// What people call it.
    pub display_name: String,
    /// Free text.
    pub description: String,
    /// The owner's labels.
    pub labels: BTreeMap<String, String>,
    /// Other fields as the client wrote them, to be read back.
    pub as_written: serde_json::Value,
}

/// Changes to an endpoint; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EndpointPatch {
    /// What people call it.
    pub display_name: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// The labels, all of them.
    pub labels: Option<BTreeMap<String, String>>,
    /// Percent by deployed model id; those not named get 0. Sums to 100, or is empty or all 0 to stop
    /// all traffic.
    pub traffic_split: Option<BTreeMap<String, u32>>,
}

/// A model version to deploy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewDeployedModel {
    /// The model's resource name, with `@version` or `@alias`; the default version without.
    pub model: String,
    /// Its id in the endpoint: decimal digits, not `0`; generated when absent.
    pub id: Option<String>,
    /// What people call it; the model's display name when empty.
    pub display_name: String,
    /// Machine resources as the client asked for them, kept to be read back.
    pub resources: serde_json::Value,
    /// Overrides the version's own explanation specification.
    pub explanation: Option<ExplanationSpec>,
    /// The resource name of a small language model that guesses what this one will say, with `@version` or `@alias`;
    /// the default version without.
    pub draft: Option<String>,
    /// Batches, or answers of a language model, that are computed at once at most: 1 to [`CONCURRENCY_MAX`]; as many as
    /// usual when absent.
    pub concurrency: Option<NonZeroUsize>,
}

/// Changes to a deployed model; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeployedPatch {
    /// Which one.
    pub id: String,
    /// What people call it.
    pub display_name: Option<String>,
    /// Machine resources, all of them.
    pub resources: Option<serde_json::Value>,
    /// How it explains: `Some(None)` goes back to the version's own.
    pub explanation: Option<Option<ExplanationSpec>>,
}

/// The most that a deployed model may be told to compute at once.
pub const CONCURRENCY_MAX: usize = 64;

/// Models behind one endpoint at most.
const DEPLOYED_MAX: usize = 100;
/// How often a deployment is tried again when its model is written meanwhile.
const ATTEMPTS_MAX: usize = 32;

impl Record for Endpoint {
    const KIND: Kind = Kind::Endpoint;

    fn name(&self) -> &str {
        &self.name
    }

    fn parent(&self) -> String {
        Parent::split(&self.name).map(|(parent, _)| parent.to_string()).unwrap_or_default()
    }

    fn etag(&self) -> &str {
        &self.etag
    }

    fn created(&self) -> Timestamp {
        self.create_time
    }

    fn stamp(&mut self, etag: String, now: Timestamp) {
        (self.etag, self.update_time) = (etag, now);
    }

    /// With `endpoint`, the last segment of the name.
    fn view(&self) -> Value {
        let mut view = serde_json::to_value(self).unwrap_or_default();
        view["endpoint"] = self.name.rsplit('/').next().unwrap_or_default().into();
        view
    }
}

impl Record for DeployedAt {
    const KIND: Kind = Kind::Deployment;

    fn name(&self) -> &str {
        &self.name
    }

    fn parent(&self) -> String {
        format!("{}@{}", self.model, self.version)
    }

    fn etag(&self) -> &str {
        &self.etag
    }

    fn created(&self) -> Timestamp {
        self.create_time
    }

    fn stamp(&mut self, etag: String, _: Timestamp) {
        self.etag = etag;
    }
}

impl Endpoint {
    /// The deployed model `id`.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`] if it is not deployed here.
    pub fn deployed(&self, id: &str) -> Result<&DeployedModel> {
        self.deployed_models.iter().find(|d| d.id == id).ok_or_else(|| self.no_deployed(id))
    }

    fn no_deployed(&self, id: &str) -> Error {
        Error::not_found(format!("the deployed model {id:?} of {}", self.name))
    }

    fn ids(&self) -> Vec<&str> {
        self.deployed_models.iter().map(|d| d.id.as_str()).collect()
    }

    /// The id that a model to be deployed gets.
    fn id_for(&self, asked: Option<&str>) -> Result<String> {
        if self.deployed_models.len() >= DEPLOYED_MAX {
            return Err(Error::precondition(format!(
                "{} has {DEPLOYED_MAX} deployed models, the most there can be; undeploy some",
                self.name
            )));
        }
        let Some(id) = asked.filter(|id| !id.is_empty()) else { return fresh_id() };
        if id.len() > 19 || id.starts_with('0') || !id.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Error::invalid(format!(
                "deployed_model.id {id:?} is not 1 to 19 digits, the first not 0"
            )));
        }
        if self.deployed_models.iter().any(|d| d.id == id) {
            return Err(Error::new(
                ErrorCode::AlreadyExists,
                format!("{} has a deployed model {id:?} already; choose another id or none", self.name),
            ));
        }
        Ok(id.to_owned())
    }

    /// Takes a deployed model in. Gives what notes where it, and its draft model, are deployed.
    fn deploy(
        &mut self,
        model: &Model,
        version: u32,
        draft: Option<DraftModel>,
        new: &NewDeployedModel,
        asked: Option<&Split>,
    ) -> Result<Vec<DeployedAt>> {
        let id = self.id_for(new.id.as_deref())?;
        self.traffic_split = traffic::deployed(&self.ids(), &self.traffic_split, &id, asked)?;
        let create_time = Timestamp::now();
        let display_name = if new.display_name.is_empty() { &model.display_name } else { &new.display_name };
        self.deployed_models.push(DeployedModel {
            id: id.clone(),
            model: model.name.clone(),
            version,
            display_name: display_name.clone(),
            create_time,
            resources: new.resources.clone(),
            explanation: new.explanation.clone(),
            draft: draft.clone(),
            concurrency: new.concurrency,
        });
        let at = DeployedAt {
            name: deployment_name(&self.name, &id),
            endpoint: self.name.clone(),
            id,
            model: model.name.clone(),
            version,
            create_time,
            is_draft: false,
            etag: String::new(),
        };
        let drafted = draft.map(|DraftModel { model, version }| DeployedAt {
            name: draft_name(&at.name),
            model,
            version,
            is_draft: true,
            ..at.clone()
        });
        Ok([at].into_iter().chain(drafted).collect())
    }
}

fn deployment_name(endpoint: &str, id: &str) -> String {
    format!("{endpoint}/deployedModels/{id}")
}

/// The note of the draft model of what is deployed as `deployment`.
fn draft_name(deployment: &str) -> String {
    format!("{deployment}/draft")
}

/// Reads an endpoint's resource name.
fn parse_name(name: &str) -> Result<Parent> {
    let form = "projects/{project}/locations/{location}/endpoints/{endpoint}";
    Ok(parse_resource(name, "endpoints", form)?.0)
}

impl Endpoints {
    pub(crate) fn new(control: Control) -> Self {
        Endpoints { control }
    }

    fn store(&self) -> &dyn MetadataStore {
        self.control.store()
    }

    /// Creates an endpoint that serves nothing yet.
    ///
    /// # Errors
    /// If a field is malformed or the id is taken.
    pub async fn create(&self, parent: &Parent, new: NewEndpoint) -> Result<Operation> {
        check::display_name(&new.display_name)?;
        check::description("description", &new.description)?;
        check::labels(&new.labels)?;
        check::json("the endpoint", &new.as_written)?;
        let id = match new.endpoint_id.filter(|id| !id.is_empty()) {
            Some(id) => check::id("endpoint_id", &id).map(|()| id)?,
            None => fresh_id()?,
        };
        let now = Timestamp::now();
        let mut endpoint = Endpoint {
            name: parent.child("endpoints", &id),
            display_name: new.display_name,
            description: new.description,
            labels: new.labels,
            deployed_models: Vec::new(),
            traffic_split: Split::new(),
            as_written: new.as_written,
            create_time: now,
            update_time: now,
            etag: String::new(),
        };
        let write = endpoint.insert()?;
        self.store().commit(vec![write]).await?;
        self.control.publish(&endpoint.name).await?;
        let name = endpoint.name.clone();
        let ended = |_| async { Ok(OperationResult::Endpoint(endpoint)) };
        self.control.operations().start(OperationKind::CreateEndpoint, &name, ended).await
    }

    /// The endpoint `name`.
    ///
    /// # Errors
    /// If there is none.
    pub async fn get(&self, name: &str) -> Result<Endpoint> {
        parse_name(name)?;
        get(self.store(), name).await
    }

    /// An endpoint of `parent` by its id or display name; the newest of that name. `None` if nothing
    /// answers to it.
    ///
    /// # Errors
    /// If the metadata store fails.
    pub async fn find(&self, parent: &Parent, text: &str) -> Result<Option<Endpoint>> {
        let all = list_all::<Endpoint>(self.store(), Some(&parent.to_string())).await?;
        let id = parent.child("endpoints", text);
        let by_id = all.iter().find(|e| e.name == id);
        let by_name = || all.iter().filter(|e| e.display_name == text).max_by_key(|e| e.create_time);
        Ok(by_id.or_else(by_name).cloned())
    }

    /// Endpoints of `parent`.
    ///
    /// # Errors
    /// If the query is malformed.
    pub async fn list(&self, parent: &Parent, query: &ListQuery) -> Result<Page<Endpoint>> {
        let parent = parent.to_string();
        let endpoints = list_all::<Endpoint>(self.store(), Some(&parent)).await?;
        query.page(&format!("{parent}/endpoints"), endpoints, |e| (e.name.clone(), e.view()))
    }

    /// Changes an endpoint; a new traffic split applies to the next prediction.
    ///
    /// # Errors
    /// If there is none, a field is malformed, the split does not sum to 100 or names a model that is
    /// not deployed, or `etag` is given and is not the endpoint's present one.
    pub async fn update(&self, name: &str, patch: EndpointPatch, etag: Option<&str>) -> Result<Endpoint> {
        parse_name(name)?;
        patch.display_name.as_deref().map_or(Ok(()), check::display_name)?;
        patch.description.as_deref().map_or(Ok(()), |text| check::description("description", text))?;
        patch.labels.as_ref().map_or(Ok(()), check::labels)?;
        let endpoint = modify::<Endpoint>(self.store(), name, etag, |endpoint| {
            if let Some(asked) = &patch.traffic_split {
                endpoint.traffic_split = traffic::over(&endpoint.ids(), asked)?;
            }
            replace(&mut endpoint.display_name, &patch.display_name);
            replace(&mut endpoint.description, &patch.description);
            replace(&mut endpoint.labels, &patch.labels);
            Ok(Vec::new())
        });
        let endpoint = endpoint.await?;
        self.control.publish(name).await?;
        Ok(endpoint)
    }

    /// Deploys a version. The operation is done once it serves.
    ///
    /// `traffic_split` gives percent by deployed model id, `"0"` standing for the one being deployed;
    /// those not named get 0. Without a split the first model takes everything and a later one nothing.
    ///
    /// # Errors
    /// If there is no such endpoint or version, the version is disabled, it cannot be loaded, or the
    /// split does not sum to 100 or names a model that is not deployed.
    pub async fn deploy(
        &self,
        name: &str,
        new: NewDeployedModel,
        traffic_split: Option<BTreeMap<String, u32>>,
    ) -> Result<Operation> {
        let parent = parse_name(name)?;
        new.check()?;
        if ModelName::parse(&new.model)?.parent != parent {
            return Err(Error::invalid(format!("{} is not in {parent}, where the endpoint is", new.model)));
        }
        if let Some(draft) = &new.draft
            && ModelName::parse(draft)?.parent != parent
        {
            return Err(Error::invalid(format!("{draft} is not in {parent}, where the endpoint is")));
        }
        // Refused here and now rather than by an operation, as far as can be known.
        let (model, version) = self.deployable(&new.model).await?;
        let draft = self.draft(&new).await?;
        let drafted = draft.as_ref().map(|(model, version)| drafted(model, *version));
        self.get(name).await?.deploy(&model, version, drafted, &new, traffic_split.as_ref())?;
        let (endpoints, endpoint) = (self.clone(), name.to_owned());
        let pinned = NewDeployedModel {
            model: format!("{}@{version}", model.name),
            draft: draft.as_ref().map(|(model, version)| format!("{}@{version}", model.name)),
            ..new
        };
        let work = move |progress: Progress| async move {
            let artifact = |model: &Model, version| {
                model.version(&VersionRef::Number(version)).map(|version| version.artifact)
            };
            let parts = Parts {
                model: artifact(&model, version)?,
                draft: draft.map(|(draft, version)| artifact(&draft, version)).transpose()?,
            };
            // Held until it is published, so that it is loaded once.
            let loaded = endpoints.control.load_model(Wanted::deployed(parts, pinned.concurrency)).await?;
            if pinned.concurrency.is_some() && loaded.embedder().is_some() {
                return Err(Error::invalid(format!(
                    "concurrency is not taken for {}, an encoder: it computes the texts of all who wait in one step",
                    pinned.model
                )));
            }
            progress.set(90);
            let deployed = endpoints.commit_deployment(&endpoint, &pinned, traffic_split.as_ref()).await?;
            endpoints.control.publish(&endpoint).await?;
            Ok(OperationResult::Deployed(deployed))
        };
        self.control.operations().start(OperationKind::DeployModel, name, work).await
    }

    /// The version `name`, if it may be deployed.
    async fn deployable(&self, name: &str) -> Result<(Model, u32)> {
        let (model, version) = self.control.models().get(name).await?;
        if model.version(&VersionRef::Number(version))?.serving == ServingStatus::Disabled {
            return Err(Error::precondition(format!(
                "{}@{version} is disabled for serving; enable it first, or deploy another version",
                model.name
            )));
        }
        Ok((model, version))
    }

    /// The draft model that `new` names, if it does.
    async fn draft(&self, new: &NewDeployedModel) -> Result<Option<(Model, u32)>> {
        match &new.draft {
            Some(draft) => self.deployable(draft).await.map(Some),
            None => Ok(None),
        }
    }

    async fn commit_deployment(
        &self,
        endpoint: &str,
        new: &NewDeployedModel,
        asked: Option<&Split>,
    ) -> Result<DeployedModel> {
        for _ in 0..ATTEMPTS_MAX {
            let (model, version) = self.deployable(&new.model).await?;
            let draft = self.draft(new).await?;
            let mut id = String::new();
            let committed = modify::<Endpoint>(self.store(), endpoint, None, |endpoint| {
                let drafted = draft.as_ref().map(|(model, version)| drafted(model, *version));
                let mut deployments = endpoint.deploy(&model, version, drafted, new, asked)?;
                // The versions are still there and enabled when this commits.
                let mut writes = vec![model.require()];
                writes.extend(
                    draft
                        .iter()
                        .filter(|(draft, _)| draft.name != model.name)
                        .map(|(draft, _)| draft.require()),
                );
                for deployment in &mut deployments {
                    id.clone_from(&deployment.id);
                    writes.push(deployment.insert()?);
                }
                Ok(writes)
            });
            match committed.await {
                Err(error) if error.code == ErrorCode::Aborted => continue,
                committed => return committed?.deployed(&id).cloned(),
            }
        }
        Err(Error::new(
            ErrorCode::Aborted,
            format!("{} is being changed by too many at once; try again", new.model),
        ))
    }

    /// Takes the deployed model `id` off. Without a split, what it had is spread over the others in
    /// proportion to what they have.
    ///
    /// # Errors
    /// If it is not deployed there, or the split does not sum to 100 over those that stay.
    pub async fn undeploy(
        &self,
        name: &str,
        id: &str,
        traffic_split: Option<BTreeMap<String, u32>>,
    ) -> Result<Operation> {
        parse_name(name)?;
        let deployment = match get::<DeployedAt>(self.store(), &deployment_name(name, id)).await {
            Err(error) if error.code == ErrorCode::NotFound => {
                return Err(self.get(name).await?.no_deployed(id));
            }
            deployment => deployment?,
        };
        let drafted = match get::<DeployedAt>(self.store(), &draft_name(&deployment.name)).await {
            Err(error) if error.code == ErrorCode::NotFound => None,
            drafted => Some(drafted?),
        };
        modify::<Endpoint>(self.store(), name, None, |endpoint| {
            endpoint.deployed(id)?;
            endpoint.deployed_models.retain(|d| d.id != id);
            endpoint.traffic_split =
                traffic::undeployed(&endpoint.ids(), &endpoint.traffic_split, id, traffic_split.as_ref())?;
            Ok([deployment.delete()].into_iter().chain(drafted.as_ref().map(Record::delete)).collect())
        })
        .await?;
        self.control.publish(name).await?;
        let ended = |_| async { Ok(OperationResult::Undeployed) };
        self.control.operations().start(OperationKind::UndeployModel, name, ended).await
    }

    /// Changes a deployed model.
    ///
    /// # Errors
    /// If it is not deployed there.
    pub async fn mutate(&self, name: &str, patch: DeployedPatch) -> Result<Operation> {
        parse_name(name)?;
        patch.display_name.as_deref().map_or(Ok(()), check::display_name)?;
        patch.resources.as_ref().map_or(Ok(()), |resources| check::json("the resources", resources))?;
        patch.explanation.iter().flatten().try_for_each(check::later_explanation)?;
        let endpoint = modify::<Endpoint>(self.store(), name, None, |endpoint| {
            endpoint.deployed(&patch.id)?;
            for deployed in endpoint.deployed_models.iter_mut().filter(|d| d.id == patch.id) {
                replace(&mut deployed.display_name, &patch.display_name);
                replace(&mut deployed.resources, &patch.resources);
                replace(&mut deployed.explanation, &patch.explanation);
            }
            Ok(Vec::new())
        });
        let deployed = endpoint.await?.deployed(&patch.id)?.clone();
        self.control.publish(name).await?;
        let ended = |_| async { Ok(OperationResult::Deployed(deployed)) };
        self.control.operations().start(OperationKind::MutateDeployedModel, name, ended).await
    }

    /// Why the endpoint `name`, or its deployed model `id`, does not serve what is deployed to it: a model
    /// whose artifact is damaged is left out of what the router serves. `None` if all is well. Touches
    /// memory only: for the router's refusals that nothing is deployed.
    pub fn fault(&self, name: &str, id: Option<&str>) -> Option<Error> {
        self.control.publisher().fault(name, id)
    }

    /// Deletes an endpoint.
    ///
    /// # Errors
    /// If models are deployed to it.
    pub async fn delete(&self, name: &str) -> Result<Operation> {
        parse_name(name)?;
        remove::<Endpoint>(self.store(), name, None, |endpoint| match endpoint.deployed_models.as_slice() {
            [] => Ok(Vec::new()),
            deployed => Err(Error::precondition(format!(
                "{name} still has {} deployed model(s): {}; undeploy them first",
                deployed.len(),
                endpoint.ids().join(", ")
            ))),
        })
        .await?;
        self.control.publish(name).await?;
        let ended = |_| async { Ok(OperationResult::Deleted) };
        self.control.operations().start(OperationKind::DeleteEndpoint, name, ended).await
    }
}

/// A version as a draft model.
fn drafted(model: &Model, version: u32) -> DraftModel {
    DraftModel { model: model.name.clone(), version }
}

impl NewDeployedModel {
    fn check(&self) -> Result<()> {
        if !self.display_name.is_empty() {
            check::display_name(&self.display_name)?;
        }
        check::json("the resources", &self.resources)?;
        if let Some(most) = self.concurrency.filter(|most| most.get() > CONCURRENCY_MAX) {
            return Err(Error::invalid(format!(
                "concurrency is {most}; a deployed model computes 1 to {CONCURRENCY_MAX} at once"
            )));
        }
        self.explanation.as_ref().map_or(Ok(()), check::later_explanation)
    }
}
