//! [`Datasets`]: named sets of labelled rows.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use crate::check::{self, replace};
use crate::name::{fresh_id, parse_resource};
use crate::store::{Kind, MetadataStore, Record, get, list_all, modify, remove};
use crate::{
    Control, Dataset, DatasetKind, Error, ListQuery, Operation, OperationKind, OperationResult, Page, Parent,
    Result, Timestamp,
};

/// Named sets of labelled rows. Get one from [`Control::datasets`].
#[derive(Clone)]
pub struct Datasets {
    control: Control,
}

/// A dataset to create.
#[derive(Debug, Clone, PartialEq)]
pub struct NewDataset {
    /// What people call it.
    pub display_name: String,
    /// The owner's labels.
    pub labels: BTreeMap<String, String>,
    /// What its rows are.
    pub kind: DatasetKind,
    /// The schema's URI as the client wrote it.
    pub schema_uri: String,
    /// Where the rows lie; may be empty and filled by [`Datasets::import`].
    pub uris: Vec<String>,
    /// The client's metadata, to be read back.
    pub metadata: serde_json::Value,
}

/// Changes to a dataset; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DatasetPatch {
    /// What people call it.
    pub display_name: Option<String>,
    /// The labels, all of them.
    pub labels: Option<BTreeMap<String, String>>,
    /// Where the rows lie, all of them.
    pub uris: Option<Vec<String>>,
    /// The client's metadata.
    pub metadata: Option<serde_json::Value>,
}

/// Objects of a dataset at most.
const URIS_MAX: usize = 10_000;

impl Record for Dataset {
    const KIND: Kind = Kind::Dataset;

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

    /// With `metadata_schema_uri`, as the client calls the schema's.
    fn view(&self) -> Value {
        let mut view = serde_json::to_value(self).unwrap_or_default();
        view["metadata_schema_uri"] = self.schema_uri.clone().into();
        view
    }
}

fn parse_name(name: &str) -> Result<()> {
    parse_resource(name, "datasets", "projects/{project}/locations/{location}/datasets/{dataset}")?;
    Ok(())
}

/// Checks the addresses of a dataset's objects.
fn check_uris(uris: &[String]) -> Result<()> {
    if uris.len() > URIS_MAX {
        return Err(Error::invalid(format!(
            "a dataset has at most {URIS_MAX} objects; put rows into fewer, larger ones"
        )));
    }
    uris.iter().try_for_each(|uri| check::uri("a dataset's URI", uri))
}

impl Datasets {
    pub(crate) fn new(control: Control) -> Self {
        Datasets { control }
    }

    fn store(&self) -> &dyn MetadataStore {
        self.control.store()
    }

    /// Creates a dataset.
    ///
    /// # Errors
    /// If a field is malformed.
    pub async fn create(&self, parent: &Parent, new: NewDataset) -> Result<Operation> {
        check::display_name(&new.display_name)?;
        check::labels(&new.labels)?;
        check::json("metadata", &new.metadata)?;
        check::description("metadata_schema_uri", &new.schema_uri)?;
        check_uris(&new.uris)?;
        let now = Timestamp::now();
        let mut dataset = Dataset {
            name: parent.child("datasets", &fresh_id()?),
            display_name: new.display_name,
            labels: new.labels,
            kind: new.kind,
            schema_uri: new.schema_uri,
            uris: new.uris,
            metadata: new.metadata,
            create_time: now,
            update_time: now,
            etag: String::new(),
        };
        let write = dataset.insert()?;
        self.store().commit(vec![write]).await?;
        let name = dataset.name.clone();
        let ended = |_| async { Ok(OperationResult::Dataset(dataset)) };
        self.control.operations().start(OperationKind::CreateDataset, &name, ended).await
    }

    /// The dataset `name`.
    ///
    /// # Errors
    /// If there is none.
    pub async fn get(&self, name: &str) -> Result<Dataset> {
        parse_name(name)?;
        get(self.store(), name).await
    }

    /// Datasets of `parent`.
    ///
    /// # Errors
    /// If the query is malformed.
    pub async fn list(&self, parent: &Parent, query: &ListQuery) -> Result<Page<Dataset>> {
        let parent = parent.to_string();
        let datasets = list_all::<Dataset>(self.store(), Some(&parent)).await?;
        query.page(&format!("{parent}/datasets"), datasets, |d| (d.name.clone(), d.view()))
    }

    /// Changes a dataset.
    ///
    /// # Errors
    /// If there is none, a field is malformed, or `etag` is given and is not the present one.
    pub async fn update(&self, name: &str, patch: DatasetPatch, etag: Option<&str>) -> Result<Dataset> {
        parse_name(name)?;
        patch.display_name.as_deref().map_or(Ok(()), check::display_name)?;
        patch.labels.as_ref().map_or(Ok(()), check::labels)?;
        patch.uris.as_deref().map_or(Ok(()), check_uris)?;
        patch.metadata.as_ref().map_or(Ok(()), |metadata| check::json("metadata", metadata))?;
        let dataset = modify::<Dataset>(self.store(), name, etag, |dataset| {
            replace(&mut dataset.display_name, &patch.display_name);
            replace(&mut dataset.labels, &patch.labels);
            replace(&mut dataset.uris, &patch.uris);
            replace(&mut dataset.metadata, &patch.metadata);
            Ok(Vec::new())
        });
        dataset.await
    }

    /// Adds objects to a dataset; those it has already are not added twice.
    ///
    /// # Errors
    /// If there is no such dataset or a URI is malformed.
    pub async fn import(&self, name: &str, uris: Vec<String>) -> Result<Operation> {
        parse_name(name)?;
        check_uris(&uris)?;
        let dataset = modify::<Dataset>(self.store(), name, None, |dataset| {
            let mut known: HashSet<&String> = dataset.uris.iter().collect();
            let new: Vec<String> = uris.iter().filter(|uri| known.insert(uri)).cloned().collect();
            dataset.uris.extend(new);
            check_uris(&dataset.uris)?;
            Ok(Vec::new())
        });
        let dataset = dataset.await?;
        let ended = |_| async { Ok(OperationResult::Dataset(dataset)) };
        self.control.operations().start(OperationKind::ImportData, name, ended).await
    }

    /// Deletes a dataset. The rows it points to stay where they are.
    ///
    /// # Errors
    /// If there is none.
    pub async fn delete(&self, name: &str) -> Result<Operation> {
        parse_name(name)?;
        remove::<Dataset>(self.store(), name, None, |_| Ok(Vec::new())).await?;
        let ended = |_| async { Ok(OperationResult::Deleted) };
        self.control.operations().start(OperationKind::DeleteDataset, name, ended).await
    }
}
