//! [`Note`]: what a client keeps of its own work beside the models: an artifact, an execution, or a context of both.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::store::{Kind, Record};
use crate::{Error, ErrorCode, Parent, Result, Timestamp};

/// A note. What it says is the client's; only how notes hang together is understood here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// `projects/{p}/locations/{l}/metadataStores/default/{collection}/{id}`.
    pub name: String,
    /// Its fields, as the client wrote them.
    pub content: Map<String, Value>,
    /// The contexts that it belongs to; of a context, those that it is a child of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contexts: Vec<String>,
    /// Of an execution: what it used and made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<NoteEvent>,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it last changed.
    pub update_time: Timestamp,
    /// Changes with every write, also of how it hangs together with others.
    pub etag: String,
    /// Changes with what the client wrote; a write that names another one is refused.
    #[serde(default)]
    pub content_etag: String,
}

impl Note {
    /// Refuses a client's etag that is not that of what it wrote. An empty one asks for nothing.
    pub(crate) fn check_etag(&self, given: Option<&str>) -> Result<()> {
        match given.filter(|etag| !etag.is_empty() && *etag != self.content_etag) {
            None => Ok(()),
            Some(etag) => Err(Error::new(
                ErrorCode::Aborted,
                format!(
                    "{} was changed since it was read (etag {etag:?} is not the present one); read it again and \
                     repeat the change",
                    self.name
                ),
            )),
        }
    }
}

/// That an execution used or made an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteEvent {
    /// The artifact's name.
    pub artifact: String,
    /// Whether it was made, not used.
    pub output: bool,
    /// The client's labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// When it was noted.
    pub time: Timestamp,
}

/// What a note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteKind {
    /// Something that was used or made.
    Artifact,
    /// Something that was done.
    Execution,
    /// What belongs together.
    Context,
}

impl NoteKind {
    /// The segment in its resource name.
    pub fn collection(self) -> &'static str {
        match self {
            NoteKind::Artifact => "artifacts",
            NoteKind::Execution => "executions",
            NoteKind::Context => "contexts",
        }
    }

    /// Where those of `parent` lie.
    pub(crate) fn scope(self, parent: &Parent) -> String {
        format!("{parent}/{STORE}/{}", self.collection())
    }
}

/// The one store of a project and location.
pub(crate) const STORE: &str = "metadataStores/default";

/// Fields that a client may leave out, and filters may name all the same.
const FIELDS: [&str; 8] =
    ["display_name", "description", "labels", "metadata", "schema_title", "schema_version", "state", "uri"];

impl Record for Note {
    const KIND: Kind = Kind::Note;

    fn name(&self) -> &str {
        &self.name
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

    /// The client's fields beside our own, as filters name them: `schema_title`.
    fn view(&self) -> Value {
        let mut view = client_view(&FIELDS, &self.content, &self.name, self.create_time, self.update_time);
        for field in ["parent_contexts", "in_context"] {
            view.insert(field.to_owned(), self.contexts.clone().into());
        }
        Value::Object(view)
    }
}

/// What a client wrote beside our own fields, all as filters name them. Of `fields`, those that it left out are there too.
pub(crate) fn client_view(
    fields: &[&str],
    content: &Map<String, Value>,
    name: &str,
    created: Timestamp,
    updated: Timestamp,
) -> Map<String, Value> {
    let mut view: Map<String, Value> =
        fields.iter().map(|field| ((*field).to_owned(), Value::Null)).collect();
    view.extend(content.iter().map(|(name, value)| (snake_case(name), value.clone())));
    view.insert("name".to_owned(), name.into());
    view.insert("create_time".to_owned(), created.to_string().into());
    view.insert("update_time".to_owned(), updated.to_string().into());
    view
}

fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_know_fields_by_their_other_name() {
        assert_eq!(snake_case("schemaTitle"), "schema_title");
        assert_eq!(snake_case("uri"), "uri");
    }
}
