//! What every [`MetadataStore`] must do, run on each.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use super::record::fresh_etag;
use super::{Document, Kind, MemoryStore, MetadataStore, SqliteStore, StoreError, Write};
use crate::Timestamp;

/// Runs each case on a store of its own.
macro_rules! conformance {
    ($($case:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::Arc::new(super::MemoryStore::new())).await;
            })+
        }

        mod sqlite {
            $(#[tokio::test]
            async fn $case() {
                let directory = tempfile::tempdir().unwrap();
                let store = super::SqliteStore::open(&directory.path().join("test.db")).unwrap();
                super::$case(super::Arc::new(store)).await;
            })+
        }
    };
}

conformance!(
    a_document_comes_back_as_it_was,
    a_name_is_taken_once_in_its_kind,
    an_update_needs_the_stored_etag,
    a_delete_needs_the_stored_etag,
    a_commit_is_done_wholly_or_not_at_all,
    later_writes_see_earlier_ones,
    requirements_hold_at_the_commit,
    lists_are_by_kind_and_parent_in_byte_order,
    one_of_many_concurrent_updates_wins,
    a_row_is_never_both_required_absent_and_there,
    hostile_names_are_only_names,
);

type Store = Arc<dyn MetadataStore>;

fn document(kind: Kind, name: &str, parent: &str, body: &str) -> Document {
    let now = Timestamp::now();
    let etag = fresh_etag().unwrap();
    Document {
        kind,
        name: name.into(),
        parent: parent.into(),
        etag,
        created: now,
        updated: now,
        body: body.into(),
    }
}

fn changed(of: &Document, body: &str) -> Document {
    Document { etag: fresh_etag().unwrap(), body: body.into(), ..of.clone() }
}

async fn add(store: &Store, document: &Document) {
    store.commit(vec![Write::Insert(document.clone())]).await.unwrap();
}

fn stale(result: Result<(), StoreError>) -> bool {
    matches!(result, Err(StoreError::Stale { .. }))
}

async fn a_document_comes_back_as_it_was(store: Store) {
    let written = document(Kind::Model, "m", "p", "{\"text\": \"Fluß \\u0000 😀\"}");
    add(&store, &written).await;
    assert_eq!(store.get(Kind::Model, "m").await.unwrap(), Some(written));
    assert_eq!(store.get(Kind::Model, "n").await.unwrap(), None);
    assert_eq!(store.get(Kind::Endpoint, "m").await.unwrap(), None);
}

async fn a_name_is_taken_once_in_its_kind(store: Store) {
    add(&store, &document(Kind::Model, "m", "p", "1")).await;
    let again = store.commit(vec![Write::Insert(document(Kind::Model, "m", "q", "2"))]).await;
    assert!(matches!(again, Err(StoreError::Exists { kind: Kind::Model, name }) if name == "m"));
    add(&store, &document(Kind::Endpoint, "m", "p", "3")).await;
    assert_eq!(store.get(Kind::Model, "m").await.unwrap().unwrap().body, "1");
}

async fn an_update_needs_the_stored_etag(store: Store) {
    let first = document(Kind::Model, "m", "p", "1");
    let second = changed(&first, "2");
    let update = |document: &Document, etag: &str| {
        vec![Write::Update { document: document.clone(), etag: etag.to_owned() }]
    };
    assert!(stale(store.commit(update(&second, &first.etag)).await), "absent");
    add(&store, &first).await;
    assert!(stale(store.commit(update(&second, "other")).await));
    store.commit(update(&second, &first.etag)).await.unwrap();
    assert!(stale(store.commit(update(&changed(&first, "3"), &first.etag)).await));
    assert_eq!(store.get(Kind::Model, "m").await.unwrap(), Some(second));
}

async fn a_delete_needs_the_stored_etag(store: Store) {
    let row = document(Kind::Model, "m", "p", "1");
    let delete =
        |etag: &str| vec![Write::Delete { kind: Kind::Model, name: "m".into(), etag: etag.to_owned() }];
    assert!(stale(store.commit(delete(&row.etag)).await), "absent");
    add(&store, &row).await;
    assert!(stale(store.commit(delete("other")).await));
    store.commit(delete(&row.etag)).await.unwrap();
    assert_eq!(store.get(Kind::Model, "m").await.unwrap(), None);
    add(&store, &row).await;
}

async fn a_commit_is_done_wholly_or_not_at_all(store: Store) {
    let first = document(Kind::Model, "a", "p", "1");
    add(&store, &first).await;
    let refused = store
        .commit(vec![
            Write::Insert(document(Kind::Model, "b", "p", "1")),
            Write::Update { document: changed(&first, "2"), etag: first.etag.clone() },
            Write::Insert(document(Kind::Model, "a", "p", "3")),
        ])
        .await;
    assert!(matches!(refused, Err(StoreError::Exists { .. })));
    assert_eq!(store.list(Kind::Model, None, None, 10).await.unwrap(), vec![first]);
    store.commit(Vec::new()).await.unwrap();
}

async fn later_writes_see_earlier_ones(store: Store) {
    let row = document(Kind::Model, "m", "p", "1");
    let next = changed(&row, "2");
    store
        .commit(vec![
            Write::Insert(row.clone()),
            Write::Require { kind: Kind::Model, name: "m".into(), etag: row.etag.clone() },
            Write::Update { document: next.clone(), etag: row.etag },
            Write::Delete { kind: Kind::Model, name: "m".into(), etag: next.etag },
            Write::RequireNone { kind: Kind::Model, parent: "p".into() },
        ])
        .await
        .unwrap();
    assert_eq!(store.get(Kind::Model, "m").await.unwrap(), None);
}

async fn requirements_hold_at_the_commit(store: Store) {
    let row = document(Kind::Deployment, "d", "m@1", "1");
    add(&store, &row).await;
    let insert = |name: &str| Write::Insert(document(Kind::Endpoint, name, "p", "1"));
    let none = |parent: &str| Write::RequireNone { kind: Kind::Deployment, parent: parent.into() };
    let has = |etag: &str| Write::Require { kind: Kind::Deployment, name: "d".into(), etag: etag.to_owned() };
    let refused = store.commit(vec![insert("x"), none("m@1")]).await;
    assert!(
        matches!(refused, Err(StoreError::HasChildren { kind: Kind::Deployment, parent }) if parent == "m@1")
    );
    assert!(stale(store.commit(vec![insert("x"), has("other")]).await));
    assert_eq!(store.get(Kind::Endpoint, "x").await.unwrap(), None);
    store.commit(vec![insert("x"), none("m@2"), has(&row.etag)]).await.unwrap();
    assert!(store.get(Kind::Endpoint, "x").await.unwrap().is_some());
}

async fn lists_are_by_kind_and_parent_in_byte_order(store: Store) {
    for (name, parent) in [("b", "p"), ("é", "p"), ("a", "p"), ("B", "q"), ("c", "q"), ("a/b", "p")] {
        add(&store, &document(Kind::Model, name, parent, "1")).await;
    }
    add(&store, &document(Kind::Endpoint, "a", "p", "1")).await;
    let names = async |parent: Option<&str>, after: Option<&str>, limit| {
        let rows = store.list(Kind::Model, parent, after, limit).await.unwrap();
        rows.into_iter().map(|row| row.name).collect::<Vec<_>>()
    };
    assert_eq!(names(Some("p"), None, 10).await, ["a", "a/b", "b", "é"]);
    assert_eq!(names(Some("p"), None, 2).await, ["a", "a/b"]);
    assert_eq!(names(Some("p"), Some("a/b"), 2).await, ["b", "é"]);
    assert_eq!(names(Some("p"), Some("aa"), 1).await, ["b"]);
    assert_eq!(names(None, None, 10).await, ["B", "a", "a/b", "b", "c", "é"]);
    assert_eq!(names(Some("nobody"), None, 10).await, Vec::<String>::new());
    assert_eq!(names(Some("p"), None, 0).await, Vec::<String>::new());
}

async fn one_of_many_concurrent_updates_wins(store: Store) {
    let mut row = document(Kind::Model, "m", "p", "0");
    add(&store, &row).await;
    for round in 0..20 {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (store, update) = (store.clone(), changed(&row, &round.to_string()));
            let etag = row.etag.clone();
            tasks.spawn(async move { store.commit(vec![Write::Update { document: update, etag }]).await });
        }
        let outcomes = tasks.join_all().await;
        assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
        assert!(outcomes.into_iter().filter(Result::is_err).all(stale));
        row = store.get(Kind::Model, "m").await.unwrap().unwrap();
        assert_eq!(row.body, round.to_string());
    }
}

/// Deploying a version against deleting it, in small: whichever commits first, the other is refused.
async fn a_row_is_never_both_required_absent_and_there(store: Store) {
    for round in 0..50 {
        let version = format!("m@{round}");
        let model = document(Kind::Model, &version, "p", "1");
        add(&store, &model).await;
        let deploy = vec![
            Write::Require { kind: Kind::Model, name: version.clone(), etag: model.etag.clone() },
            Write::Insert(document(Kind::Deployment, &format!("d{round}"), &version, "1")),
        ];
        let delete = vec![
            Write::RequireNone { kind: Kind::Deployment, parent: version.clone() },
            Write::Delete { kind: Kind::Model, name: version.clone(), etag: model.etag },
        ];
        let (one, other) = (store.clone(), store.clone());
        let (deployed, deleted) = tokio::join!(
            tokio::spawn(async move { one.commit(deploy).await.is_ok() }),
            tokio::spawn(async move { other.commit(delete).await.is_ok() }),
        );
        assert_ne!(deployed.unwrap(), deleted.unwrap());
    }
}

async fn hostile_names_are_only_names(store: Store) {
    let names = ["'; DROP TABLE documents; --", "\" OR 1=1", "%", "_", "a\0b", "\u{202e}x", "*", "?1"];
    for name in names {
        add(&store, &document(Kind::Key, name, name, "{}")).await;
    }
    for name in names {
        assert_eq!(store.get(Kind::Key, name).await.unwrap().map(|d| d.name), Some(name.to_owned()));
        assert_eq!(store.list(Kind::Key, Some(name), None, 10).await.unwrap().len(), 1, "{name:?}");
    }
}
