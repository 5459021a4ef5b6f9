//! [`ClientError`]: why a call of the server brought no answer.

use reqwest::StatusCode;
use serde_json::Value;

use crate::failure::Failure;

/// Why a call of the server brought no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientError {
    /// Nobody there, or the connection broke.
    Unreachable {
        /// The server's address.
        url: String,
        /// Why.
        cause: String,
    },
    /// It said no.
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its own words.
        message: String,
        /// Whether a key was sent.
        with_key: bool,
    },
    /// It answered something that we do not understand.
    NotUnderstood {
        /// The server's address.
        url: String,
        /// Why.
        cause: String,
    },
    /// It began an answer and did not end it.
    CutOff {
        /// The server's address.
        url: String,
    },
    /// It began an answer and then said why there is no more.
    Failed {
        /// Its own words.
        message: String,
    },
}

impl ClientError {
    pub(super) fn unreachable(url: &str, error: &reqwest::Error) -> Self {
        ClientError::Unreachable { url: url.to_owned(), cause: innermost(error) }
    }

    pub(super) fn not_understood(url: &str, error: &serde_json::Error) -> Self {
        ClientError::NotUnderstood { url: url.to_owned(), cause: error.to_string() }
    }

    pub(super) fn refused(status: StatusCode, body: &[u8], with_key: bool) -> Self {
        let text = || String::from_utf8_lossy(body).trim().chars().take(500).collect::<String>();
        let message = serde_json::from_slice::<Value>(body)
            .ok()
            .and_then(|v| v.pointer("/error/message").and_then(Value::as_str).map(str::to_owned))
            .unwrap_or_else(text);
        ClientError::Refused { status: status.as_u16(), message, with_key }
    }

    /// Whether the server says that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, ClientError::Refused { status: 404, .. })
    }

    /// Whether the server says that it is there already.
    pub fn is_conflict(&self) -> bool {
        matches!(self, ClientError::Refused { status: 409, .. })
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        match error {
            ClientError::Unreachable { url, cause } => {
                Failure::new(format!("no server answers at {url}: {cause}"))
                    .next("start one with `meuse serve`, or name another with --url or MEUSE_URL")
            }
            ClientError::NotUnderstood { url, cause } => {
                Failure::new(format!("the answer of {url} is not what Meuse answers: {cause}"))
                    .next("check --url: is another program listening there?")
            }
            ClientError::CutOff { url } => {
                Failure::new(format!("{url} cut its answer off")).next("the server's log may tell why")
            }
            ClientError::Failed { message } => Failure::new(message),
            ClientError::Refused { status: 401, message, with_key } => {
                let next = if with_key {
                    "check --key or MEUSE_API_KEY; a key of one server is unknown to another"
                } else {
                    "give a key with --key or MEUSE_API_KEY, or --data-dir of a server on this machine"
                };
                Failure::new(format!("the server refused the key: {message}")).next(next)
            }
            ClientError::Refused { status: 403, message, .. } => Failure::new(message)
                .next("use a key of that project with a wider role: `meuse keys create` makes one"),
            ClientError::Refused { status, message, .. } if message.is_empty() => {
                Failure::new(format!("the server answered with status {status} and no explanation"))
            }
            ClientError::Refused { message, .. } => Failure::new(message),
        }
    }
}

/// The last cause, which says what happened: "connection refused", not "error sending request".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    let text = last.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}
