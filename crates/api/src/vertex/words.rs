//! [`Words`]: what one kind of resource is called, where several kinds are answered alike.

use std::future::Future;

use serde_json::Value;

use super::rpc::Rpc;
use crate::Fault;

/// The words of one kind: of the field in a request, of that with its id, of the list in a reply.
#[derive(Clone, Copy)]
pub(super) struct Words<K> {
    pub(super) kind: K,
    pub(super) field: &'static str,
    pub(super) id: &'static str,
    pub(super) list: &'static str,
}

/// `answer` for the kind that `words` are of.
pub(super) fn with<K, F, Fut>(words: Words<K>, answer: F) -> impl Fn(Rpc) -> Fut + Send + Sync + 'static
where
    K: Copy + Send + Sync + 'static,
    F: Fn(Rpc, Words<K>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Value, Fault>> + Send + 'static,
{
    move |rpc| answer(rpc, words)
}
