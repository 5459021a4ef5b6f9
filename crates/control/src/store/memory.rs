//! [`MemoryStore`]: the metadata port without a disk, for tests and as the plain statement of what the
//! port means.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::{Document, Kind, MetadataStore, StoreError, Write};

type Rows = BTreeMap<(Kind, String), Document>;

/// Documents in memory, gone with the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    /// A std mutex: it is never held across an await.
    rows: Mutex<Rows>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl MetadataStore for MemoryStore {
    async fn get(&self, kind: Kind, name: &str) -> Result<Option<Document>, StoreError> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(rows.get(&(kind, name.to_owned())).cloned())
    }

    async fn list(
        &self,
        kind: Kind,
        parent: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Document>, StoreError> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let start = match after {
            Some(name) => Bound::Excluded((kind, name.to_owned())),
            None => Bound::Included((kind, String::new())),
        };
        let of_kind = rows.range((start, Bound::Unbounded)).take_while(|((k, _), _)| *k == kind);
        let wanted = of_kind.filter(|(_, document)| parent.is_none_or(|p| document.parent == p));
        Ok(wanted.map(|(_, document)| document.clone()).take(limit).collect())
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        // Applied to a copy, so that a refused write leaves nothing behind.
        let mut changed = rows.clone();
        for write in writes {
            apply(&mut changed, write)?;
        }
        *rows = changed;
        Ok(())
    }
}

fn apply(rows: &mut Rows, write: Write) -> Result<(), StoreError> {
    match write {
        Write::Insert(document) => {
            let key = (document.kind, document.name.clone());
            if rows.contains_key(&key) {
                return Err(StoreError::Exists { kind: key.0, name: key.1 });
            }
            rows.insert(key, document);
        }
        Write::Update { document, etag } => {
            require(rows, document.kind, &document.name, &etag)?;
            rows.insert((document.kind, document.name.clone()), document);
        }
        Write::Delete { kind, name, etag } => {
            require(rows, kind, &name, &etag)?;
            rows.remove(&(kind, name));
        }
        Write::Require { kind, name, etag } => require(rows, kind, &name, &etag)?,
        Write::RequireNone { kind, parent } => {
            if rows.values().any(|d| d.kind == kind && d.parent == parent) {
                return Err(StoreError::HasChildren { kind, parent });
            }
        }
    }
    Ok(())
}

fn require(rows: &Rows, kind: Kind, name: &str, etag: &str) -> Result<(), StoreError> {
    match rows.get(&(kind, name.to_owned())) {
        Some(stored) if stored.etag == etag => Ok(()),
        _ => Err(StoreError::Stale { kind, name: name.to_owned() }),
    }
}
