//! [`Client`]: a running server, over HTTP. The only module that knows the server's JSON.

mod error;
mod names;
mod operations;
mod speech;
mod storage;
pub mod wire;

use reqwest::{Method, RequestBuilder, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use error::ClientError;
pub use names::ModelRef;
pub(crate) use names::id_from;
pub use speech::{Speech, Spoken};
pub use storage::{is_uri, split_gs};

use crate::failure::{Failure, Result};

/// A running server, with the key and the project to act in.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    key: Option<String>,
    project: String,
    location: String,
}

/// Time to connect; requests themselves may take as long as their work does.
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

impl Client {
    /// A client for the server at `url`.
    ///
    /// # Errors
    /// If `url` is not an `http://` or `https://` URL.
    pub fn new(url: &str, key: Option<&str>, project: &str, location: &str) -> Result<Self> {
        let advice = "give it as http://HOST:PORT";
        let base = Url::parse(url)
            .map_err(|e| Failure::usage(format!("`{url}` is not an address: {e}")).next(advice))?;
        let builder = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT);
        let builder = match base.scheme() {
            "https" => builder,
            // Reading the machine's certificates would be most of a command's time. A proxy of the
            // environment is for the outside, not for a server next door.
            "http" => builder.tls_certs_only([]).no_proxy(),
            _ => {
                return Err(
                    Failure::usage(format!("`{url}` is not an http:// or https:// address")).next(advice)
                );
            }
        };
        // Fails if another part of the program was first, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http =
            builder.build().map_err(|e| Failure::new(format!("the HTTP client could not be set up: {e}")))?;
        Ok(Client {
            http,
            base,
            key: key.map(str::to_owned),
            project: project.to_owned(),
            location: location.to_owned(),
        })
    }

    /// The server's address, without a slash at its end.
    pub fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// The key that is sent.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The project acted in.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// `projects/{project}/locations/{location}`.
    pub fn parent(&self) -> String {
        format!("projects/{}/locations/{}", self.project, self.location)
    }

    /// Reads the resource at `path` (from `/`).
    ///
    /// # Errors
    /// If the server cannot be reached, refuses, or answers something else than a `T`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> std::result::Result<T, ClientError> {
        self.json(self.request(Method::GET, path, &[])).await
    }

    /// What is at `path`, to be read piece by piece.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn stream(&self, path: &str) -> std::result::Result<reqwest::Response, ClientError> {
        self.accepted(self.request(Method::GET, path, &[])).await
    }

    /// Reads the resource at `path` with query fields.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn query<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> std::result::Result<T, ClientError> {
        self.json(self.request(Method::GET, path, query)).await
    }

    /// Sends `body` to `path`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> std::result::Result<T, ClientError> {
        self.json(self.request(Method::POST, path, &[]).json(body)).await
    }

    /// Puts `body` in the place of the resource at `path`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> std::result::Result<T, ClientError> {
        self.json(self.request(Method::PUT, path, &[]).json(body)).await
    }

    /// What is at `path` with these query fields, as text.
    ///
    /// # Errors
    /// If the server cannot be reached, refuses, or answers no text.
    pub async fn text(&self, path: &str, query: &[(&str, &str)]) -> std::result::Result<String, ClientError> {
        let response = self.accepted(self.request(Method::GET, path, query)).await?;
        response.text().await.map_err(|e| ClientError::unreachable(self.url(), &e))
    }

    /// Changes the fields `mask` of the resource at `path`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        mask: &str,
        body: &Value,
    ) -> std::result::Result<T, ClientError> {
        self.json(self.request(Method::PATCH, path, &[("updateMask", mask)]).json(body)).await
    }

    /// Deletes the resource at `path`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn delete(&self, path: &str) -> std::result::Result<Value, ClientError> {
        self.json(self.request(Method::DELETE, path, &[])).await
    }

    /// All items of the list at `path`, under `field` of each page, unread. `query` may not hold a page
    /// token.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn list(
        &self,
        path: &str,
        field: &str,
        query: &[(&str, &str)],
    ) -> std::result::Result<Vec<Value>, ClientError> {
        let mut items = Vec::new();
        let mut token = String::new();
        loop {
            let mut fields = query.to_vec();
            if !token.is_empty() {
                fields.push(("pageToken", &token));
            }
            let mut page: Value = self.query(path, &fields).await?;
            if let Some(Value::Array(found)) = page.get_mut(field).map(Value::take) {
                items.extend(found);
            }
            match page.get("nextPageToken").and_then(Value::as_str) {
                Some(next) if !next.is_empty() && next != token => token = next.to_owned(),
                _ => return Ok(items),
            }
        }
    }

    /// Whether the server can serve requests now.
    ///
    /// # Errors
    /// If it cannot be reached.
    pub async fn is_ready(&self) -> std::result::Result<bool, ClientError> {
        let response = self.send(self.request(Method::GET, "/health/ready", &[])).await?;
        Ok(response.status().is_success())
    }

    fn request(&self, method: Method, path: &str, query: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.base.clone();
        let (path, fields) = path.split_once('?').map_or((path, None), |(path, fields)| (path, Some(fields)));
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url.set_query(fields);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.request(method, url);
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> std::result::Result<reqwest::Response, ClientError> {
        request.send().await.map_err(|e| ClientError::unreachable(self.url(), &e))
    }

    async fn accepted(&self, request: RequestBuilder) -> std::result::Result<reqwest::Response, ClientError> {
        let response = self.send(request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.unwrap_or_default();
        Err(ClientError::refused(status, &body, self.key.is_some()))
    }

    async fn json<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> std::result::Result<T, ClientError> {
        let response = self.accepted(request).await?;
        let body = response.bytes().await.map_err(|e| ClientError::unreachable(self.url(), &e))?;
        // A deletion may be answered with nothing.
        let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
        serde_json::from_slice(text).map_err(|e| ClientError::not_understood(self.url(), &e))
    }
}
