//! From what people call a model or an endpoint to the resource.

use serde_json::Value;

use super::wire::{Endpoint, Model};
use super::{Client, ClientError};
use crate::failure::{Failure, Result};

/// A model as named on the command line: `NAME`, `NAME@3`, `NAME@alias`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRef {
    /// Id, display name or resource name.
    pub name: String,
    /// Version number or alias; the default version when absent.
    pub version: Option<String>,
}

impl std::str::FromStr for ModelRef {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (name, version) = match text.rsplit_once('@') {
            Some((_, "")) => return Err("a version number or alias must follow the @".to_owned()),
            Some((name, version)) => (name, Some(version.to_owned())),
            None => (text, None),
        };
        if name.is_empty() {
            return Err("a model's name is needed".to_owned());
        }
        Ok(ModelRef { name: name.to_owned(), version })
    }
}

impl std::fmt::Display for ModelRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl Client {
    /// The version that `model` names.
    ///
    /// # Errors
    /// If there is no such model or version, or several are called so.
    pub async fn model(&self, model: &ModelRef) -> Result<Model> {
        let found = self.find_model(&model.name).await?.ok_or_else(|| self.no_model(&model.name))?;
        let Some(version) = &model.version else { return Ok(found) };
        match self.get(&format!("/v1/{}@{version}", found.resource())).await {
            Ok(found) => Ok(found),
            Err(error) if error.is_not_found() => {
                Err(Failure::new(format!("the model {} has no version {version}", model.name))
                    .next(format!("`meuse models {}` lists its versions", model.name)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The default version of the model called `name`, if there is one.
    ///
    /// # Errors
    /// If several models are called so.
    pub async fn find_model(&self, name: &str) -> Result<Option<Model>> {
        let found = self.find("models", "models", name).await?;
        found.map(read).transpose()
    }

    /// The endpoint called `name`, if there is one.
    ///
    /// # Errors
    /// If several are called so.
    pub async fn find_endpoint(&self, name: &str) -> Result<Option<Endpoint>> {
        let found = self.find("endpoints", "endpoints", name).await?;
        found.map(read).transpose()
    }

    /// The endpoint called `name`.
    ///
    /// # Errors
    /// If there is none, or several are called so.
    pub async fn endpoint(&self, name: &str) -> Result<Endpoint> {
        if let Some(endpoint) = self.find_endpoint(name).await? {
            return Ok(endpoint);
        }
        let known = self.find_model(name).await?.is_some();
        Err(if known {
            Failure::new(format!("the model {name} is not deployed at an endpoint of its name")).next(
                format!(
                    "deploy it: `meuse deploy {name}`, or name its endpoint: `meuse endpoints` lists them"
                ),
            )
        } else {
            Failure::new(format!("there is no endpoint or model called {name} in project {}", self.project()))
                .next("`meuse endpoints` lists the endpoints, `meuse models` the models")
        })
    }

    async fn find(&self, collection: &str, field: &str, name: &str) -> Result<Option<Value>> {
        if name.starts_with("projects/") {
            return found(self.get(&format!("/v1/{name}")).await);
        }
        let parent = self.parent();
        if is_id(name)
            && let Some(item) = found(self.get(&format!("/v1/{parent}/{collection}/{name}")).await)?
        {
            return Ok(Some(item));
        }
        let filter = format!("display_name=\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
        let mut items =
            self.list(&format!("/v1/{parent}/{collection}"), field, &[("filter", filter.as_str())]).await?;
        if items.len() > 1 {
            let names: Vec<&str> =
                items.iter().filter_map(|i| i.get("name").and_then(Value::as_str)).collect();
            return Err(Failure::new(format!("{} {collection} are called {name}", items.len()))
                .next(format!("name one by its id: {}", names.join(", "))));
        }
        Ok(items.pop())
    }

    fn no_model(&self, name: &str) -> Failure {
        Failure::new(format!("there is no model called {name} in project {}", self.project()))
            .next("`meuse models` lists the models; `meuse train` and `meuse import` make one")
    }
}

/// Absent is an answer.
fn found(answer: std::result::Result<Value, ClientError>) -> Result<Option<Value>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value)
        .map_err(|e| Failure::new(format!("the server described a resource in an unknown way: {e}")))
}

/// Whether `text` can be an id, so that asking for it by id makes sense.
fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// An id for something called `name`: lower case, everything else a hyphen. `None` if nothing is left.
pub(crate) fn id_from(name: &str) -> Option<String> {
    let id: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c.to_ascii_lowercase() } else { '-' })
        .take(63)
        .collect();
    let id = id.trim_matches('-');
    (!id.is_empty()).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_model_may_name_a_version() {
        let parse = |t: &str| t.parse::<ModelRef>();
        assert_eq!(parse("a").unwrap(), ModelRef { name: "a".into(), version: None });
        assert_eq!(parse("a@2").unwrap().version.as_deref(), Some("2"));
        assert!(parse("a@").is_err());
        assert!(parse("@2").is_err());
    }

    #[test]
    fn ids_are_made_of_names() {
        assert_eq!(id_from("My Model, v2").as_deref(), Some("my-model--v2"));
        assert_eq!(id_from("日本"), None);
    }
}
