//! [`Record`]: nouns as documents, and the read-change-commit loop over them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Document, Kind, MetadataStore, StoreError, Write};
use crate::{Error, ErrorCode, Result, Timestamp};

/// How often a change is tried again when someone else writes in between.
const ATTEMPTS_MAX: usize = 32;

/// Documents fetched from the store at a time.
const CHUNK: usize = 500;

/// A noun that is kept as a document.
pub(crate) trait Record: Serialize + DeserializeOwned + Send + Sync {
    /// Its kind.
    const KIND: Kind;
    /// Its resource name.
    fn name(&self) -> &str;
    /// What it is listed by, see [`Kind`]: the collection that its name ends in, unless it says otherwise.
    fn parent(&self) -> String {
        self.name().rsplit_once('/').map_or_else(String::new, |(parent, _)| parent.to_owned())
    }
    /// Its etag.
    fn etag(&self) -> &str;
    /// When it was created.
    fn created(&self) -> Timestamp;
    /// Notes a write: the new etag and its time.
    fn stamp(&mut self, etag: String, now: Timestamp);

    /// Its fields as filters and orders see them.
    fn view(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Writes it as a new document, under a fresh etag.
    fn insert(&mut self) -> Result<Write> {
        self.stamp(fresh_etag()?, Timestamp::now());
        Ok(Write::Insert(document(self)?))
    }

    /// Removes it, provided that it is still as it was read.
    fn delete(&self) -> Write {
        Write::Delete { kind: Self::KIND, name: self.name().to_owned(), etag: self.etag().to_owned() }
    }

    /// Demands that it is still as it was read.
    fn require(&self) -> Write {
        Write::Require { kind: Self::KIND, name: self.name().to_owned(), etag: self.etag().to_owned() }
    }
}

/// Replaces `record` by its changed self, under a fresh etag, provided that it is still as it was read:
/// call it with the etag from the reading still in place.
pub(crate) fn update<T: Record>(record: &mut T) -> Result<Write> {
    let read = record.etag().to_owned();
    record.stamp(fresh_etag()?, Timestamp::now());
    Ok(Write::Update { document: document(record)?, etag: read })
}

/// An etag that no other write has: 96 random bits.
pub(crate) fn fresh_etag() -> Result<String> {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).map_err(|e| Error::internal("drawing random bytes", e))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Refuses a client's etag that is not the present one. An empty one asks for nothing.
pub(crate) fn check_etag<T: Record>(record: &T, given: Option<&str>) -> Result<()> {
    match given {
        Some(etag) if !etag.is_empty() && etag != record.etag() => Err(Error::new(
            ErrorCode::Aborted,
            format!(
                "{} was changed since it was read (etag {etag:?} is not the present one); read it again and \
                 repeat the change",
                record.name()
            ),
        )),
        _ => Ok(()),
    }
}

fn document<T: Record>(record: &T) -> Result<Document> {
    Ok(Document {
        kind: T::KIND,
        name: record.name().to_owned(),
        parent: record.parent(),
        etag: record.etag().to_owned(),
        created: record.created(),
        updated: Timestamp::now(),
        body: serde_json::to_string(record).map_err(|e| Error::internal("writing a resource", e))?,
    })
}

fn parse<T: Record>(document: &Document) -> Result<T> {
    serde_json::from_str(&document.body)
        .map_err(|e| StoreError::Damaged(format!("{} {}: {e}", document.kind, document.name)).into())
}

/// The noun `name`.
///
/// # Errors
/// [`ErrorCode::NotFound`] if there is none.
pub(crate) async fn get<T: Record>(store: &dyn MetadataStore, name: &str) -> Result<T> {
    match store.get(T::KIND, name).await? {
        Some(document) => parse(&document),
        None => Err(Error::not_found(name)),
    }
}

/// All nouns of a kind, of one parent or of every one, ascending by name.
pub(crate) async fn list_all<T: Record>(store: &dyn MetadataStore, parent: Option<&str>) -> Result<Vec<T>> {
    let mut records = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let documents = store.list(T::KIND, parent, after.as_deref(), CHUNK).await?;
        for document in &documents {
            records.push(parse(document)?);
        }
        match documents.last() {
            Some(last) if documents.len() == CHUNK => after = Some(last.name.clone()),
            _ => return Ok(records),
        }
    }
}

/// All nouns of a kind in `project`, ascending by name.
pub(crate) async fn list_of_project<T: Record>(store: &dyn MetadataStore, project: &str) -> Result<Vec<T>> {
    let within = format!("projects/{project}/");
    let (mut records, mut after) = (Vec::new(), within.clone());
    loop {
        let documents = store.list(T::KIND, None, Some(&after), CHUNK).await?;
        let own = documents.iter().take_while(|document| document.name.starts_with(&within));
        let before = records.len();
        for document in own {
            records.push(parse(document)?);
        }
        match documents.last() {
            Some(last) if records.len() - before == CHUNK => after = last.name.clone(),
            _ => return Ok(records),
        }
    }
}

/// Reads the noun `name`, lets `change` alter it and say what else to write with it, and commits; from
/// the reading again when someone else wrote in between. `etag`, when given, must be the stored one.
///
/// # Errors
/// What `change` refuses with; [`ErrorCode::NotFound`]; [`ErrorCode::Aborted`] for another etag.
pub(crate) async fn modify<T: Record>(
    store: &dyn MetadataStore,
    name: &str,
    etag: Option<&str>,
    mut change: impl FnMut(&mut T) -> Result<Vec<Write>>,
) -> Result<T> {
    for _ in 0..ATTEMPTS_MAX {
        let mut record: T = get(store, name).await?;
        check_etag(&record, etag)?;
        let mut writes = change(&mut record)?;
        writes.push(update(&mut record)?);
        match store.commit(writes).await {
            Ok(()) => return Ok(record),
            // Another document's staleness is for the caller: reading this one again does not mend it.
            Err(StoreError::Stale { kind, name: stale }) if kind == T::KIND && stale == name => continue,
            Err(error) => return Err(error.into()),
        }
    }
    Err(contended(name))
}

/// Reads the noun `name`, lets `check` refuse or say what else to write, and removes it; from the reading
/// again when someone else wrote in between. `etag`, when given, must be the stored one.
///
/// # Errors
/// As [`modify`].
pub(crate) async fn remove<T: Record>(
    store: &dyn MetadataStore,
    name: &str,
    etag: Option<&str>,
    mut check: impl FnMut(&T) -> Result<Vec<Write>>,
) -> Result<T> {
    for _ in 0..ATTEMPTS_MAX {
        let record: T = get(store, name).await?;
        check_etag(&record, etag)?;
        let mut writes = check(&record)?;
        writes.push(record.delete());
        match store.commit(writes).await {
            Ok(()) => return Ok(record),
            Err(StoreError::Stale { kind, name: stale }) if kind == T::KIND && stale == name => continue,
            Err(error) => return Err(error.into()),
        }
    }
    Err(contended(name))
}

fn contended(name: &str) -> Error {
    Error::new(ErrorCode::Aborted, format!("{name} is being changed by too many at once; try again"))
}
