//! [`Note`]: what a client keeps of its own work beside the models: an artifact, an execution, or a context of both.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::store::{Kind, Record};
use crate::{Parent, Timestamp};

/// A note. What it says is the client's; nothing here reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// `projects/{p}/locations/{l}/metadataStores/default/{collection}/{id}`.
    pub name: String,
    /// Its fields, as the client wrote them.
    pub content: Map<String, Value>,
    /// When it was created.
    pub create_time: Timestamp,
    /// When it last changed.
    pub update_time: Timestamp,
    /// Changes with every write; a write that names another one is refused.
    pub etag: String,
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
        let mut view: Map<String, Value> =
            self.content.iter().map(|(name, value)| (snake_case(name), value.clone())).collect();
        view.insert("name".to_owned(), self.name.clone().into());
        view.insert("create_time".to_owned(), self.create_time.to_string().into());
        view.insert("update_time".to_owned(), self.update_time.to_string().into());
        Value::Object(view)
    }
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
