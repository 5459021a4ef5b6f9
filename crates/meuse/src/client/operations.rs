//! Waiting for long work.

use std::time::Duration;

use serde_json::Value;

use super::{Client, ClientError};
use crate::failure::{Failure, Result};

/// How often a job or an operation is looked at: soon at first, then less and less.
#[derive(Debug)]
pub(super) struct Patience {
    next: Duration,
}

impl Patience {
    /// From 30 ms.
    pub(super) fn new() -> Self {
        Patience { next: Duration::from_millis(30) }
    }

    /// Waits a little, the next time a little longer, half a second at most.
    pub(super) async fn wait(&mut self) {
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 3 / 2).min(Duration::from_millis(500));
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    /// Posts `body` to `path`, which answers an operation, and waits for what comes of it.
    ///
    /// # Errors
    /// If the server refuses, or the operation fails.
    pub async fn operate(&self, path: &str, body: &Value) -> Result<Value> {
        let operation: Value = self.post(path, body).await?;
        self.outcome(operation).await
    }

    /// Waits until `operation` is done; its response.
    ///
    /// # Errors
    /// If it fails or is cancelled.
    pub async fn outcome(&self, operation: Value) -> Result<Value> {
        self.watched_outcome(operation, |_| ()).await
    }

    /// As [`Client::outcome`]; `watch` sees every state.
    ///
    /// # Errors
    /// As [`Client::outcome`].
    pub async fn watched_outcome(
        &self,
        mut operation: Value,
        mut watch: impl FnMut(&Value),
    ) -> Result<Value> {
        let mut patience = Patience::new();
        loop {
            watch(&operation);
            if operation.get("done").and_then(Value::as_bool).unwrap_or(false) {
                return finished(operation);
            }
            patience.wait().await;
            let name = operation.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            operation = self.get(&format!("/v1/{name}")).await.map_err(Failure::from)?;
        }
    }

    /// The resource at `path` again and again until `is_final` says that it will not change; `watch` sees
    /// every state.
    ///
    /// # Errors
    /// If the server refuses or cannot be reached.
    pub async fn follow<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        mut watch: impl FnMut(&T),
        is_final: impl Fn(&T) -> bool,
    ) -> std::result::Result<T, ClientError> {
        let mut patience = Patience::new();
        loop {
            let state: T = self.get(path).await?;
            watch(&state);
            if is_final(&state) {
                return Ok(state);
            }
            patience.wait().await;
        }
    }
}

fn finished(mut operation: Value) -> Result<Value> {
    match operation.pointer("/error/message").and_then(Value::as_str) {
        Some(message) => Err(Failure::new(message)),
        None if operation.get("error").is_some_and(|e| !e.is_null()) => {
            Err(Failure::new("the operation failed without saying why; the server's log may tell"))
        }
        None => Ok(operation.get_mut("response").map(Value::take).unwrap_or_default()),
    }
}
