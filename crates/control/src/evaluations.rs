//! [`Evaluations`]: figures of versions, made here or brought along.

use crate::check;
use crate::name::fresh_id;
use crate::store::{Kind, MetadataStore, Record, get, list_all};
use crate::{
    Control, Error, Evaluation, ListQuery, ModelName, Page, Result, Slice, Timestamp, VersionRef, is_id,
};

/// Figures of versions. Get one from [`Control::evaluations`]; one is made by an evaluation job.
#[derive(Clone)]
pub struct Evaluations {
    control: Control,
}

/// Figures that were taken elsewhere.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewEvaluationImport {
    /// What people call it.
    pub display_name: String,
    /// The schema of `metrics`.
    pub metrics_schema_uri: String,
    /// The figures.
    pub metrics: serde_json::Value,
    /// The same figures for parts of the rows.
    pub slices: Vec<Slice>,
    /// Anything else that the client gave, to be read back.
    pub metadata: serde_json::Value,
}

/// Figures of slices that one evaluation holds at most.
const SLICES_MAX: usize = 10_000;

impl Record for Evaluation {
    const KIND: Kind = Kind::Evaluation;

    fn name(&self) -> &str {
        &self.name
    }

    /// The model.
    fn parent(&self) -> String {
        self.name.split_once("/evaluations/").map_or_else(String::new, |(model, _)| model.to_owned())
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

impl Evaluation {
    /// An evaluation of version `version` of the model with the resource name `model`, under a new id.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub(crate) fn of(model: &str, version: u32, new: NewEvaluationImport) -> Result<Self> {
        Ok(Evaluation {
            name: format!("{model}/evaluations/{}", fresh_id()?),
            display_name: new.display_name,
            version,
            metrics_schema_uri: new.metrics_schema_uri,
            metrics: new.metrics,
            slices: new.slices,
            metadata: new.metadata,
            create_time: Timestamp::now(),
            etag: String::new(),
        })
    }
}

impl Evaluations {
    pub(crate) fn new(control: Control) -> Self {
        Evaluations { control }
    }

    fn store(&self) -> &dyn MetadataStore {
        self.control.store()
    }

    /// Keeps figures that were taken elsewhere of the version `model` (`…/models/m@2`; the default
    /// version without `@`).
    ///
    /// # Errors
    /// If there is no such version or a field is malformed.
    pub async fn import(&self, model: &str, new: NewEvaluationImport) -> Result<Evaluation> {
        if !new.display_name.is_empty() {
            check::display_name(&new.display_name)?;
        }
        check::description("metrics_schema_uri", &new.metrics_schema_uri)?;
        check::json("metrics", &new.metrics)?;
        check::json("metadata", &new.metadata)?;
        if new.slices.len() > SLICES_MAX {
            return Err(Error::invalid(format!("an evaluation has at most {SLICES_MAX} slices")));
        }
        if !new.metrics.is_object() {
            return Err(Error::invalid("metrics is not an object of figures by name"));
        }
        let (model, version) = self.control.models().get(model).await?;
        let mut evaluation = Evaluation::of(&model.name, version, new)?;
        let write = evaluation.insert()?;
        self.store().commit(vec![write]).await?;
        Ok(evaluation)
    }

    /// The evaluation `name`: `…/models/m/evaluations/e`, also with `m@2`.
    ///
    /// # Errors
    /// If there is none, or none of that version.
    pub async fn get(&self, name: &str) -> Result<Evaluation> {
        let (model, id) = parse_name(name)?;
        let evaluation: Evaluation =
            get(self.store(), &format!("{}/evaluations/{id}", model.model())).await?;
        if model.version != VersionRef::Default {
            let (_, version) =
                self.control.models().get(&format!("{}{}", model.model(), model.suffix())).await?;
            if version != evaluation.version {
                return Err(Error::not_found(name));
            }
        }
        Ok(evaluation)
    }

    /// Evaluations of a version (`…/models/m@2`), or of all versions of a model (`…/models/m`).
    ///
    /// # Errors
    /// If there is no such model or version, or the query is malformed.
    pub async fn list(&self, model: &str, query: &ListQuery) -> Result<Page<Evaluation>> {
        let all_versions = ModelName::parse(model)?.version == VersionRef::Default;
        let (model, version) = self.control.models().get(model).await?;
        let mut evaluations = list_all::<Evaluation>(self.store(), Some(&model.name)).await?;
        let mut scope = format!("{}/evaluations", model.name);
        if !all_versions {
            evaluations.retain(|e| e.version == version);
            scope = format!("{}@{version}/evaluations", model.name);
        }
        query.page(&scope, evaluations, |e| (e.name.clone(), e.view()))
    }

    /// The slice `…/models/m/evaluations/e/slices/s`.
    ///
    /// # Errors
    /// If there is none.
    pub async fn get_slice(&self, name: &str) -> Result<Slice> {
        let Some((evaluation, id)) = name.rsplit_once("/slices/") else {
            return Err(Error::invalid(format!(
                "{name:?} is not a name of the form `{{evaluation}}/slices/{{slice}}`"
            )));
        };
        let found = self.get(evaluation).await?.slices.into_iter().find(|slice| slice.id == id);
        found.ok_or_else(|| Error::not_found(name))
    }

    /// Slices of the evaluation `name`.
    ///
    /// # Errors
    /// If there is no such evaluation or the query is malformed.
    pub async fn list_slices(&self, name: &str, query: &ListQuery) -> Result<Page<Slice>> {
        let evaluation = self.get(name).await?;
        query.page(&format!("{}/slices", evaluation.name), evaluation.slices, |slice| {
            (slice.id.clone(), serde_json::to_value(slice).unwrap_or_default())
        })
    }
}

/// The model and the evaluation's id in `…/models/m[@v]/evaluations/e`.
fn parse_name(name: &str) -> Result<(ModelName, String)> {
    match name.rsplit_once("/evaluations/") {
        Some((model, id)) if is_id(id) => Ok((ModelName::parse(model)?, id.to_owned())),
        _ => Err(Error::invalid(format!(
            "{name:?} is not a name of the form \
             `projects/{{project}}/locations/{{location}}/models/{{model}}/evaluations/{{evaluation}}`"
        ))),
    }
}
