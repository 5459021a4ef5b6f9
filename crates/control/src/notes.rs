//! [`Notes`]: what clients keep of their own work; see [`Note`].

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::check;
use crate::name::fresh_id;
use crate::note::STORE;
use crate::store::{MetadataStore, Record, fresh_etag, get, list_all, modify};
use crate::{Control, Error, ListQuery, Note, NoteKind, Page, Parent, Result, Timestamp, is_id};

/// Notes. Get one from [`Control::notes`].
#[derive(Clone)]
pub struct Notes {
    pub(crate) control: Control,
}

/// The project and location of `name`, which must be that of a note of this kind.
pub(crate) fn check_name(kind: NoteKind, name: &str) -> Result<Parent> {
    let (parent, rest) = Parent::split(name)?;
    let id =
        rest.strip_prefix(STORE).and_then(|rest| rest.strip_prefix('/')?.strip_prefix(kind.collection()));
    if id.and_then(|id| id.strip_prefix('/')).is_some_and(is_id) {
        return Ok(parent);
    }
    Err(Error::invalid(format!(
        "{name:?} is none of projects/{{project}}/locations/{{location}}/{STORE}/{}/{{id}}",
        kind.collection()
    )))
}

pub(crate) fn check_content(content: &Map<String, Value>) -> Result<()> {
    let text = |field: &str| content.get(field).and_then(Value::as_str).unwrap_or_default();
    if !text("displayName").is_empty() {
        check::display_name(text("displayName"))?;
    }
    for field in ["description", "schemaTitle", "schemaVersion", "uri"] {
        check::description(field, text(field))?;
    }
    let labels = content.get("labels").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    let labels: BTreeMap<String, String> =
        serde_json::from_value(labels).map_err(|_| Error::invalid("labels must be an object of texts"))?;
    check::labels(&labels)?;
    check::json("metadata", content.get("metadata").unwrap_or(&Value::Null))
}

impl Notes {
    pub(crate) fn new(control: Control) -> Self {
        Notes { control }
    }

    pub(crate) fn store(&self) -> &dyn MetadataStore {
        self.control.store()
    }

    /// Keeps a note, under `id` or one that is made up.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one of that id; if a field is malformed or too large.
    pub async fn create(
        &self,
        parent: &Parent,
        kind: NoteKind,
        id: Option<String>,
        content: Map<String, Value>,
    ) -> Result<Note> {
        check_content(&content)?;
        let id = match id {
            Some(id) => check::id("the id", &id).map(|()| id)?,
            None => fresh_id()?,
        };
        let now = Timestamp::now();
        let name = format!("{}/{id}", kind.scope(parent));
        let mut note = Note {
            name,
            content,
            contexts: Vec::new(),
            events: Vec::new(),
            create_time: now,
            update_time: now,
            etag: String::new(),
            content_etag: fresh_etag()?,
        };
        let write = note.insert()?;
        self.store().commit(vec![write]).await?;
        Ok(note)
    }

    /// The note `name`.
    ///
    /// # Errors
    /// If there is none.
    pub async fn get(&self, kind: NoteKind, name: &str) -> Result<Note> {
        check_name(kind, name)?;
        get(self.store(), name).await
    }

    /// Notes of one kind in `parent`.
    ///
    /// # Errors
    /// If the query is malformed.
    pub async fn list(&self, parent: &Parent, kind: NoteKind, query: &ListQuery) -> Result<Page<Note>> {
        let scope = kind.scope(parent);
        let notes = list_all::<Note>(self.store(), Some(&scope)).await?;
        query.page(&scope, notes, |note| (note.name.clone(), note.view()))
    }

    /// Puts the fields of `patch` in the place of those of the same name; one that is `None` goes.
    ///
    /// # Errors
    /// If there is no such note, a field is malformed, or `etag` is given and is not the present one.
    pub async fn update(
        &self,
        kind: NoteKind,
        name: &str,
        patch: BTreeMap<String, Option<Value>>,
        etag: Option<&str>,
    ) -> Result<Note> {
        check_name(kind, name)?;
        let changed = modify::<Note>(self.store(), name, None, |note| {
            note.check_etag(etag)?;
            for (field, value) in &patch {
                match value {
                    Some(value) => note.content.insert(field.clone(), value.clone()),
                    None => note.content.shift_remove(field),
                };
            }
            check_content(&note.content)?;
            note.content_etag = fresh_etag()?;
            Ok(Vec::new())
        });
        changed.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_their_kind() {
        let base = "projects/p/locations/l/metadataStores/default";
        assert!(check_name(NoteKind::Artifact, &format!("{base}/artifacts/a")).is_ok());
        for wrong in [
            format!("{base}/executions/a"),
            format!("{base}/artifacts/"),
            format!("{base}/artifacts/a/b"),
            format!("{base}/artifactsa"),
            "projects/p/locations/l/metadataStores/other/artifacts/a".to_owned(),
            "projects/p/locations/l/models/a".to_owned(),
            String::new(),
        ] {
            assert!(check_name(NoteKind::Artifact, &wrong).is_err(), "{wrong}");
        }
    }
}
