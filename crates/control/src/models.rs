//! [`Models`]: the registry of models and their versions.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::artifact::Digest;
use crate::check::{self, replace};
use crate::examples;
use crate::name::fresh_id;
use crate::operations::Progress;
use crate::room::Room;
use crate::storage::blocking;
use crate::store::{Kind, MetadataStore, Record, StoreError, Write, get, list_all, modify, remove};
use crate::{
    ContainerSpec, Control, DeployedAt, Error, ErrorCode, Evaluation, ExplanationSpec, ListQuery, Model,
    ModelName, Operation, OperationKind, OperationResult, Page, Parent, Result, ServingStatus, Timestamp,
    Version, VersionRef,
};

/// The registry of models and their versions. Get one from [`Control::models`].
#[derive(Clone)]
pub struct Models {
    control: Control,
}

/// Where the bytes of a version come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArtifactSource {
    /// A directory (prefix) or one file by URI: `gs://`, `s3://`, `az://`, and `file://` where allowed.
    Uri(String),
    /// Already in the artifact store.
    Stored(Digest),
    /// Already in the artifact store, after it was pulled.
    Pulled {
        /// What it is called there.
        artifact: Digest,
        /// Where it was pulled from.
        from: String,
    },
}

/// A version to register.
#[derive(Debug, Clone)]
pub struct UploadModel {
    /// The model to add a version to, by resource name or id; a new model when absent.
    pub parent_model: Option<String>,
    /// The new model's id; generated when absent.
    pub model_id: Option<String>,
    /// What people call the model. For a new version of a model: empty leaves it as it is.
    pub display_name: String,
    /// Free text about the model. For a new version: empty leaves it as it is.
    pub description: String,
    /// The model's labels. For a new version: merged over those it has.
    pub labels: BTreeMap<String, String>,
    /// Aliases of the version. The first version of a model is `default` whether or not it says so.
    pub version_aliases: Vec<String>,
    /// Free text about the version.
    pub version_description: String,
    /// Where its bytes come from.
    pub artifact: ArtifactSource,
    /// The serving container that the client named.
    pub container: Option<ContainerSpec>,
    /// How it explains when a request does not say.
    pub explanation: Option<ExplanationSpec>,
    /// Whether it may be deployed.
    pub serving: ServingStatus,
    /// The training job that made it.
    pub training_job: Option<String>,
    /// The dataset content that it was trained on.
    pub dataset_digest: Option<Digest>,
}

impl UploadModel {
    /// A new model called `display_name` from `artifact`, everything else at its default.
    pub fn new(display_name: impl Into<String>, artifact: ArtifactSource) -> Self {
        UploadModel {
            parent_model: None,
            model_id: None,
            display_name: display_name.into(),
            description: String::new(),
            labels: BTreeMap::new(),
            version_aliases: Vec::new(),
            version_description: String::new(),
            artifact,
            container: None,
            explanation: None,
            serving: ServingStatus::Enabled,
            training_job: None,
            dataset_digest: None,
        }
    }
}

/// Changes to a model and to one of its versions; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelPatch {
    /// What people call the model.
    pub display_name: Option<String>,
    /// Free text about the model.
    pub description: Option<String>,
    /// The model's labels, all of them.
    pub labels: Option<BTreeMap<String, String>>,
    /// The version that the following are about; the default one when absent.
    pub version: Option<u32>,
    /// Free text about the version.
    pub version_description: Option<String>,
    /// Whether the version may be deployed.
    pub serving: Option<ServingStatus>,
    /// How the version explains: `Some(None)` takes the specification away.
    pub explanation: Option<Option<ExplanationSpec>>,
}

/// One change to a version's aliases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AliasChange {
    /// Put it on this version, taking it from another that has it.
    Add(String),
    /// Take it off this version.
    Remove(String),
}

impl AliasChange {
    /// Reads `alias` or `-alias`, as clients write them.
    pub fn parse(text: &str) -> Self {
        match text.strip_prefix('-') {
            Some(alias) => AliasChange::Remove(alias.to_owned()),
            None => AliasChange::Add(text.to_owned()),
        }
    }
}

/// Versions of a model at most.
const VERSIONS_MAX: usize = 10_000;
/// Aliases of a version at most.
const ALIASES_MAX: usize = 100;
/// The alias that exactly one version of a model has.
const DEFAULT: &str = "default";

impl Record for Model {
    const KIND: Kind = Kind::Model;

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

    /// With `model`, the last segment of the name.
    fn view(&self) -> Value {
        let mut view = serde_json::to_value(self).unwrap_or_default();
        view["model"] = self.name.rsplit('/').next().unwrap_or_default().into();
        view
    }
}

impl Model {
    /// A model without a version: not yet to be stored.
    fn empty(name: &str) -> Self {
        let now = Timestamp::now();
        Model {
            name: name.to_owned(),
            display_name: String::new(),
            description: String::new(),
            labels: BTreeMap::new(),
            versions: Vec::new(),
            next_version: 1,
            create_time: now,
            update_time: now,
            etag: String::new(),
        }
    }

    /// The version that `meant` means.
    ///
    /// # Errors
    /// [`crate::ErrorCode::NotFound`] if there is none.
    pub fn version(&self, meant: &VersionRef) -> Result<&Version> {
        let found = match meant {
            VersionRef::Number(number) => self.versions.iter().find(|v| v.number == *number),
            VersionRef::Alias(alias) => self.versions.iter().find(|v| v.aliases.contains(alias)),
            VersionRef::Default => self.versions.iter().find(|v| v.is_default()),
        };
        found.ok_or_else(|| match meant {
            VersionRef::Number(number) => Error::not_found(format!("{}@{number}", self.name)),
            VersionRef::Alias(alias) => Error::not_found(format!("{}@{alias}", self.name)),
            VersionRef::Default => Error::not_found(format!("the default version of {}", self.name)),
        })
    }

    fn version_mut(&mut self, number: u32) -> Result<&mut Version> {
        let name = &self.name;
        let found = self.versions.iter_mut().find(|v| v.number == number);
        found.ok_or_else(|| Error::not_found(format!("{name}@{number}")))
    }

    /// Adds a version and gives it its number.
    fn add(&mut self, upload: &UploadModel, artifact: Digest) -> Result<u32> {
        if self.versions.len() >= VERSIONS_MAX {
            return Err(Error::precondition(format!(
                "{} has {VERSIONS_MAX} versions, the most there can be; delete some",
                self.name
            )));
        }
        let number = self.next_version;
        self.next_version += 1;
        let now = Timestamp::now();
        self.versions.push(Version {
            number,
            aliases: Vec::new(),
            description: upload.version_description.clone(),
            artifact_uri: match &upload.artifact {
                ArtifactSource::Uri(from) | ArtifactSource::Pulled { from, .. } => Some(from.clone()),
                ArtifactSource::Stored(_) => None,
            },
            artifact,
            serving: upload.serving,
            container: upload.container.clone(),
            explanation: upload.explanation.clone(),
            training_job: upload.training_job.clone(),
            dataset_digest: upload.dataset_digest,
            create_time: now,
            update_time: now,
        });
        for alias in &upload.version_aliases {
            self.change_alias(number, &AliasChange::Add(alias.clone()))?;
        }
        if self.versions.len() == 1 {
            self.change_alias(number, &AliasChange::Add(DEFAULT.to_owned()))?;
        }
        Ok(number)
    }

    /// Changes the aliases of version `number` in the order given. On an error the model is of no use.
    fn merge(&mut self, number: u32, changes: &[AliasChange]) -> Result<()> {
        for change in changes {
            self.change_alias(number, change)?;
        }
        if !self.versions.iter().any(Version::is_default) {
            return Err(Error::precondition(format!(
                "{}@{number} is the default version; give `default` to another version instead of taking it off \
                 this one",
                self.name
            )));
        }
        self.version_mut(number)?.update_time = Timestamp::now();
        Ok(())
    }

    /// Takes version `number` out, if the model can be without it.
    fn remove(&mut self, number: u32) -> Result<()> {
        let version = self.version(&VersionRef::Number(number))?;
        let target = format!("{}@{number}", self.name);
        if self.versions.len() == 1 {
            return Err(Error::precondition(format!(
                "{target} is the only version; delete the model instead"
            )));
        }
        if version.is_default() {
            return Err(Error::precondition(format!(
                "{target} is the default version; give the alias `default` to another version first"
            )));
        }
        self.versions.retain(|v| v.number != number);
        Ok(())
    }

    /// Puts an alias on version `number`, or takes it off. An alias stands on one version: putting it on
    /// takes it off the one that has it.
    fn change_alias(&mut self, number: u32, change: &AliasChange) -> Result<()> {
        match change {
            AliasChange::Add(alias) => {
                check::alias(alias)?;
                let version = self.version_mut(number)?;
                if version.aliases.contains(alias) {
                    return Ok(());
                }
                if version.aliases.len() >= ALIASES_MAX {
                    return Err(Error::precondition(format!(
                        "{}@{number} has {ALIASES_MAX} aliases, the most there can be",
                        self.name
                    )));
                }
                for other in &mut self.versions {
                    other.aliases.retain(|a| a != alias);
                }
                self.version_mut(number)?.aliases.push(alias.clone());
            }
            AliasChange::Remove(alias) => {
                let name = self.name.clone();
                let version = self.version_mut(number)?;
                let Some(at) = version.aliases.iter().position(|a| a == alias) else {
                    return Err(Error::invalid(format!(
                        "{name}@{number} has no alias {alias:?} to take off"
                    )));
                };
                version.aliases.remove(at);
            }
        }
        Ok(())
    }
}

impl Version {
    /// Its artifacts: the model, and examples where it has any.
    pub(crate) fn artifacts(&self) -> impl Iterator<Item = Digest> {
        let examples = self.explanation.as_ref().and_then(|spec| spec.examples.as_ref());
        [Some(self.artifact), examples.and_then(|examples| examples.index)].into_iter().flatten()
    }

    /// Whether this is the version meant when none is named.
    pub fn is_default(&self) -> bool {
        self.aliases.iter().any(|a| a == DEFAULT)
    }
}

impl Models {
    pub(crate) fn new(control: Control) -> Self {
        Models { control }
    }

    fn store(&self) -> &dyn MetadataStore {
        self.control.store()
    }

    /// Registers a new model, or a new version under `upload.parent_model`.
    ///
    /// # Errors
    /// If a field is malformed, the artifact cannot be fetched or is no model that can be served, the
    /// id is taken, or the parent model does not exist.
    pub async fn upload(&self, parent: &Parent, upload: UploadModel) -> Result<Operation> {
        upload.check()?;
        let place = self.place(parent, &upload).await?;
        let models = self.clone();
        let (target, project) = (place.name().to_owned(), parent.project.clone());
        let work = move |progress: Progress| async move {
            let (artifact, mut room) = models.stored(&project, &upload.artifact).await?;
            progress.set(50);
            let (model, version) = models.enter(&place, &upload, artifact, &mut room).await?;
            Ok(OperationResult::Version { model: model.name, version })
        };
        self.control.operations().start(OperationKind::UploadModel, &target, work).await
    }

    /// As [`Models::upload`], without an operation: the model's resource name and the version's number.
    pub(crate) async fn register(&self, parent: &Parent, upload: UploadModel) -> Result<(String, u32)> {
        upload.check()?;
        let place = self.place(parent, &upload).await?;
        let (artifact, mut room) = self.stored(&parent.project, &upload.artifact).await?;
        let (model, version) = self.enter(&place, &upload, artifact, &mut room).await?;
        Ok((model.name, version))
    }

    /// The artifact, which is taken into the store where it is not there, and room for it until a version has it.
    async fn stored(&self, project: &str, source: &ArtifactSource) -> Result<(Digest, Room)> {
        let (storage, artifacts) = (self.control.storage(project), self.control.artifacts());
        let mut room = storage.room(project);
        let artifact = match source {
            ArtifactSource::Uri(uri) => artifacts.import_into(&mut room, &storage, uri).await?,
            ArtifactSource::Stored(artifact) | ArtifactSource::Pulled { artifact, .. } => {
                let (artifacts, stored) = (artifacts.clone(), *artifact);
                room.ensure(blocking(move || Ok(artifacts.bytes(&stored))).await?).await?;
                *artifact
            }
        };
        Ok((artifact, room))
    }

    /// Where an upload goes.
    async fn place(&self, parent: &Parent, upload: &UploadModel) -> Result<Place> {
        let Some(model) = upload.parent_model.as_deref().filter(|m| !m.is_empty()) else {
            let id = match upload.model_id.as_deref().filter(|id| !id.is_empty()) {
                Some(id) => id.to_owned(),
                None => fresh_id()?,
            };
            let name = parent.child("models", &id);
            if self.store().get(Kind::Model, &name).await?.is_some() {
                return Err(taken(&name));
            }
            return Ok(Place::New(name));
        };
        let name = if model.contains('/') {
            ModelName::parse(model)?.model()
        } else {
            parent.child("models", model)
        };
        if name != parent.child("models", name.rsplit('/').next().unwrap_or_default()) {
            return Err(Error::invalid(format!("parent_model {name} is not in {parent}")));
        }
        if let Some(id) =
            upload.model_id.as_deref().filter(|id| !id.is_empty() && !name.ends_with(&format!("/{id}")))
        {
            return Err(Error::invalid(format!(
                "model_id is {id:?}, but the version goes to parent_model {name}; give one of them"
            )));
        }
        get::<Model>(self.store(), &name).await?;
        Ok(Place::Existing(name))
    }

    /// Proves that the artifact is a model that can be served, and registers it, with its examples where there is `room`
    /// for them beside it.
    async fn enter(
        &self,
        place: &Place,
        upload: &UploadModel,
        artifact: Digest,
        room: &mut Room,
    ) -> Result<(Model, u32)> {
        let loaded = self.control.load_model(artifact).await?;
        let mut upload = upload.clone();
        if let Some(source) = upload.explanation.as_mut().and_then(|spec| spec.examples.as_mut()) {
            let project = Parent::split(place.name())?.0.project;
            let index = examples::index(&self.control, &project, &loaded, source).await?;
            let artifacts = self.control.artifacts().clone();
            let both =
                blocking(move || Ok(artifacts.bytes(&artifact).saturating_add(artifacts.bytes(&index))));
            room.ensure(both.await?).await?;
            source.index = Some(index);
        }
        let upload = &upload;
        match place {
            Place::New(name) => self.enter_new(name, upload, artifact).await,
            Place::Existing(name) => {
                let mut number = 0;
                let model = modify::<Model>(self.store(), name, None, |model| {
                    number = model.add(upload, artifact)?;
                    model.describe(upload);
                    Ok(Vec::new())
                });
                let model = model.await?;
                self.publish_aliases(&model).await?;
                Ok((model, number))
            }
        }
    }

    async fn enter_new(&self, name: &str, upload: &UploadModel, artifact: Digest) -> Result<(Model, u32)> {
        let mut model = Model::empty(name);
        model.describe(upload);
        let number = model.add(upload, artifact)?;
        let write = model.insert()?;
        match self.store().commit(vec![write]).await {
            Ok(()) => Ok((model, number)),
            Err(StoreError::Exists { .. }) => Err(taken(name)),
            Err(error) => Err(error.into()),
        }
    }

    /// The model `name` with the number of the version meant: `…/models/m`, `…/models/m@3`,
    /// `…/models/m@alias`. Without one, the default version.
    ///
    /// # Errors
    /// If there is no such model, version or alias.
    pub async fn get(&self, name: &str) -> Result<(Model, u32)> {
        let name = ModelName::parse(name)?;
        let model: Model = get(self.store(), &name.model()).await?;
        let number = model.version(&name.version)?.number;
        Ok((model, number))
    }

    /// A model of `parent` by its id or display name, each optionally followed by `@version` or
    /// `@alias`: what protocols without resource names call a model. An id goes before a display name,
    /// and among equal display names the newest model. `None` if nothing answers to it.
    ///
    /// # Errors
    /// If the metadata store fails.
    pub async fn find(&self, parent: &Parent, text: &str) -> Result<Option<(Model, u32)>> {
        let all = list_all::<Model>(self.store(), Some(&parent.to_string())).await?;
        // A display name may hold an `@` itself.
        for (called, version) in [(text, VersionRef::Default), VersionRef::split(text)] {
            let id = parent.child("models", called);
            let by_id = all.iter().find(|m| m.name == id);
            let by_name = || all.iter().filter(|m| m.display_name == called).max_by_key(|m| m.create_time);
            if let Some(model) = by_id.or_else(by_name)
                && let Ok(found) = model.version(&version)
            {
                return Ok(Some((model.clone(), found.number)));
            }
        }
        Ok(None)
    }

    /// Models of `parent`.
    ///
    /// # Errors
    /// If the query is malformed.
    pub async fn list(&self, parent: &Parent, query: &ListQuery) -> Result<Page<Model>> {
        let parent = parent.to_string();
        let models = list_all::<Model>(self.store(), Some(&parent)).await?;
        query.page(&format!("{parent}/models"), models, |m| (m.name.clone(), m.view()))
    }

    /// The model `name` and a page of its versions, the oldest first unless ordered otherwise. Versions
    /// can be filtered by their own fields and by `display_name` and `labels` of the model.
    ///
    /// # Errors
    /// If there is no such model or the query is malformed.
    pub async fn list_versions(&self, name: &str, query: &ListQuery) -> Result<(Model, Page<Version>)> {
        let (model, _) = self.get(name).await?;
        let labels = serde_json::to_value(&model.labels).unwrap_or_default();
        // Clients count on it here, and nowhere else.
        let order_by = query.order_by.clone().or_else(|| Some("create_time".to_owned()));
        let query = ListQuery { order_by, ..query.clone() };
        let page =
            query.page(&format!("{}:listVersions", model.name), model.versions.clone(), |version| {
                let mut view = serde_json::to_value(version).unwrap_or_default();
                view["version_id"] = version.number.into();
                view["version_aliases"] = view["aliases"].clone();
                view["display_name"] = model.display_name.clone().into();
                view["labels"] = labels.clone();
                // Equal times are ordered by name: numbers of one width, so that 10 comes after 9.
                (format!("{:010}", version.number), view)
            })?;
        Ok((model, page))
    }

    /// Changes a model, or one of its versions: `name` may say which, as may `patch.version`.
    ///
    /// # Errors
    /// If there is no such model or version, a field is malformed, a version that is deployed would be
    /// disabled, or `etag` is given and is not the model's present one.
    pub async fn update(&self, name: &str, patch: ModelPatch, etag: Option<&str>) -> Result<(Model, u32)> {
        patch.check()?;
        let name = ModelName::parse(name)?;
        let meant = patch.version.map_or(name.version.clone(), VersionRef::Number);
        let (own, mut number) = (name.model(), 0);
        let changed = modify::<Model>(self.store(), &own, etag, |model| {
            number = model.version(&meant)?.number;
            model.patch(number, &patch)
        });
        let model = match changed.await {
            Err(error) if error.code == ErrorCode::FailedPrecondition => {
                return Err(self.name_deployments(&own, Some(number), error).await);
            }
            changed => changed?,
        };
        if patch.explanation.is_some() {
            for deployed in self.deployments(&format!("{}@{number}", model.name)).await? {
                self.control.publish(&deployed.endpoint).await?;
            }
        }
        Ok((model, number))
    }

    /// Changes the aliases of the version `name`, in the order given, all or none.
    ///
    /// # Errors
    /// If there is no such version, an alias is malformed, or `default` would stand on no version.
    pub async fn merge_aliases(&self, name: &str, changes: &[AliasChange]) -> Result<(Model, u32)> {
        let name = ModelName::parse(name)?;
        let (own, mut number) = (name.model(), 0);
        let model = modify::<Model>(self.store(), &own, None, |model| {
            number = model.version(&name.version)?.number;
            model.merge(number, changes)?;
            Ok(Vec::new())
        });
        let model = model.await?;
        self.publish_aliases(&model).await?;
        Ok((model, number))
    }

    /// Has the router call the model's versions by their aliases as they now are.
    async fn publish_aliases(&self, model: &Model) -> Result<()> {
        for deployed in self.deployments(&model.name).await? {
            self.control.publish(&deployed.endpoint).await?;
        }
        Ok(())
    }

    /// Deletes one version; its evaluations go with it.
    ///
    /// # Errors
    /// If it is deployed (the message names the endpoint), the only one, or the default one.
    pub async fn delete_version(&self, name: &str) -> Result<Operation> {
        let name = ModelName::parse(name)?;
        if name.version == VersionRef::Default {
            return Err(Error::invalid(format!(
                "{} names no version; name one (`@2`), or delete the model",
                name.model()
            )));
        }
        let (model, number) = self.get(&format!("{}{}", name.model(), name.suffix())).await?;
        let target = format!("{}@{number}", model.name);
        let evaluations = list_all::<Evaluation>(self.store(), Some(&model.name)).await?;
        let deleted = modify::<Model>(self.store(), &model.name, None, |model| {
            model.remove(number)?;
            let mut writes = vec![Write::RequireNone { kind: Kind::Deployment, parent: target.clone() }];
            writes.extend(evaluations.iter().filter(|e| e.version == number).map(Record::delete));
            Ok(writes)
        });
        if let Err(error) = deleted.await {
            return Err(self.name_deployments(&model.name, Some(number), error).await);
        }
        let ended = |_| async { Ok(OperationResult::Deleted) };
        self.control.operations().start(OperationKind::DeleteModelVersion, &model.name, ended).await
    }

    /// Deletes a model with all its versions and evaluations.
    ///
    /// # Errors
    /// If a version is deployed; the message names the endpoint.
    pub async fn delete(&self, name: &str) -> Result<Operation> {
        let name = ModelName::parse(name)?.model();
        let evaluations = list_all::<Evaluation>(self.store(), Some(&name)).await?;
        let deleted = remove::<Model>(self.store(), &name, None, |model| {
            let unused = model.versions.iter().map(|version| Write::RequireNone {
                kind: Kind::Deployment,
                parent: format!("{name}@{}", version.number),
            });
            Ok(unused.chain(evaluations.iter().map(Record::delete)).collect())
        });
        if let Err(error) = deleted.await {
            return Err(self.name_deployments(&name, None, error).await);
        }
        let ended = |_| async { Ok(OperationResult::Deleted) };
        self.control.operations().start(OperationKind::DeleteModel, &name, ended).await
    }

    /// Where versions of the model `name` are deployed: all versions, or the one named.
    ///
    /// # Errors
    /// If there is no such model or version.
    pub async fn deployments(&self, name: &str) -> Result<Vec<DeployedAt>> {
        let meant = ModelName::parse(name)?.version;
        let (model, number) = self.get(name).await?;
        let wanted = model.versions.iter().filter(|v| meant == VersionRef::Default || v.number == number);
        let mut deployments = Vec::new();
        for version in wanted {
            let parent = format!("{}@{}", model.name, version.number);
            deployments.extend(list_all::<DeployedAt>(self.store(), Some(&parent)).await?);
        }
        Ok(deployments)
    }

    /// `error`, or, where it comes of a deployment, one that names the endpoint.
    async fn name_deployments(&self, model: &str, version: Option<u32>, error: Error) -> Error {
        let name = version.map_or(model.to_owned(), |v| format!("{model}@{v}"));
        match self.deployments(&name).await.unwrap_or_default().first() {
            Some(at) if error.code == ErrorCode::FailedPrecondition && at.is_draft => {
                Error::precondition(format!(
                    "{}@{} is the draft model of what is deployed to {} as {}; undeploy that first",
                    at.model, at.version, at.endpoint, at.id
                ))
            }
            Some(at) if error.code == ErrorCode::FailedPrecondition => Error::precondition(format!(
                "{}@{} is deployed to {} as {}; undeploy it there first",
                at.model, at.version, at.endpoint, at.id
            )),
            _ => error,
        }
    }
}

/// Where an upload goes, by model name.
enum Place {
    New(String),
    Existing(String),
}

impl Place {
    fn name(&self) -> &str {
        let (Place::New(name) | Place::Existing(name)) = self;
        name
    }
}

fn taken(name: &str) -> Error {
    Error::new(
        ErrorCode::AlreadyExists,
        format!(
            "{name} exists already; to add a version to it, give it as parent_model, else choose another id"
        ),
    )
}

impl UploadModel {
    fn check(&self) -> Result<()> {
        let adds_version = self.parent_model.as_deref().is_some_and(|m| !m.is_empty());
        if !(adds_version && self.display_name.is_empty()) {
            check::display_name(&self.display_name)?;
        }
        if let Some(id) = self.model_id.as_deref().filter(|id| !id.is_empty()) {
            check::id("model_id", id)?;
        }
        check::description("description", &self.description)?;
        check::description("version_description", &self.version_description)?;
        check::labels(&self.labels)?;
        self.version_aliases.iter().try_for_each(|alias| check::alias(alias))?;
        if let ArtifactSource::Uri(uri) = &self.artifact {
            check::uri("artifact_uri", uri)?;
        }
        if let Some(container) = &self.container {
            check::image(&container.image_uri)?;
            check::json("container_spec", &container.rest)?;
        }
        self.explanation.as_ref().map_or(Ok(()), check::explanation)
    }
}

impl ModelPatch {
    fn check(&self) -> Result<()> {
        self.display_name.as_deref().map_or(Ok(()), check::display_name)?;
        self.description.as_deref().map_or(Ok(()), |text| check::description("description", text))?;
        self.version_description
            .as_deref()
            .map_or(Ok(()), |text| check::description("version_description", text))?;
        self.labels.as_ref().map_or(Ok(()), check::labels)?;
        self.explanation.iter().flatten().try_for_each(check::later_explanation)
    }
}

impl Model {
    /// Takes over what the upload of a version says about the model itself. What it is called stays: clients make up a
    /// name for every upload, and those who want another change it.
    fn describe(&mut self, upload: &UploadModel) {
        if self.display_name.is_empty() {
            self.display_name.clone_from(&upload.display_name);
        }
        if !upload.description.is_empty() {
            self.description.clone_from(&upload.description);
        }
        self.labels.extend(upload.labels.clone());
    }

    /// Applies `patch`, to version `number` where it is about one; gives what must hold for it.
    fn patch(&mut self, number: u32, patch: &ModelPatch) -> Result<Vec<Write>> {
        let mut writes = Vec::new();
        if patch.serving == Some(ServingStatus::Disabled) {
            writes.push(Write::RequireNone {
                kind: Kind::Deployment,
                parent: format!("{}@{number}", self.name),
            });
        }
        replace(&mut self.display_name, &patch.display_name);
        replace(&mut self.description, &patch.description);
        replace(&mut self.labels, &patch.labels);
        let version = self.version_mut(number)?;
        replace(&mut version.description, &patch.version_description);
        replace(&mut version.serving, &patch.serving);
        replace(&mut version.explanation, &patch.explanation);
        version.update_time = Timestamp::now();
        Ok(writes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Add(Vec<String>),
        Merge(u32, Vec<AliasChange>),
        Remove(u32),
    }

    fn alias() -> impl Strategy<Value = String> {
        prop::sample::select(vec!["default", "gold", "prod", "v1", "Bad", "-x"]).prop_map(str::to_owned)
    }

    fn step() -> impl Strategy<Value = Step> {
        let change = (any::<bool>(), alias())
            .prop_map(|(add, a)| if add { AliasChange::Add(a) } else { AliasChange::Remove(a) });
        prop_oneof![
            prop::collection::vec(alias(), 0..3).prop_map(Step::Add),
            (1u32..8, prop::collection::vec(change, 0..4)).prop_map(|(v, c)| Step::Merge(v, c)),
            (1u32..8).prop_map(Step::Remove),
        ]
    }

    proptest! {
        /// Whatever is done in whatever order, `default` stands on one version, every alias on at most one,
        /// and no number comes back.
        #[test]
        fn aliases_stay_sound(steps in prop::collection::vec(step(), 1..40)) {
            let digest = Digest::from_bytes([0; 32]);
            let mut upload = UploadModel::new("m", ArtifactSource::Stored(digest));
            let mut model = Model::empty("m");
            prop_assert!(model.add(&upload, digest).is_ok());
            for step in steps {
                let mut changed = model.clone();
                let done = match step {
                    Step::Add(aliases) => {
                        upload.version_aliases = aliases;
                        changed.add(&upload, digest).map(drop)
                    }
                    Step::Merge(number, changes) => changed.merge(number, &changes),
                    Step::Remove(number) => changed.remove(number),
                };
                if done.is_ok() {
                    prop_assert!(changed.next_version >= model.next_version);
                    model = changed;
                }
                let aliases: Vec<&String> = model.versions.iter().flat_map(|v| &v.aliases).collect();
                let distinct: HashSet<_> = aliases.iter().collect();
                prop_assert_eq!(aliases.len(), distinct.len());
                prop_assert_eq!(model.versions.iter().filter(|v| v.is_default()).count(), 1);
                let numbers: Vec<u32> = model.versions.iter().map(|v| v.number).collect();
                prop_assert!(numbers.is_sorted() && numbers.iter().all(|n| *n < model.next_version));
            }
        }
    }
}
