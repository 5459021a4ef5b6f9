//! [`Passed`]: a request that comes by another protocol's address.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use serving::LanguageRoute;

use crate::Fault;
use crate::http::{App, Response};

/// A request whose address, another protocol's, says who is asked.
pub(crate) struct Passed {
    /// What to work with.
    pub(crate) app: Arc<App>,
    /// Who is asked.
    pub(crate) route: LanguageRoute,
    /// The caller's project.
    pub(crate) project: String,
    /// The request's body.
    pub(crate) body: Bytes,
    /// Whether to stream, where the body does not say.
    pub(crate) streams: bool,
}

/// What a reply is waited for with.
pub(crate) type Reply = Pin<Box<dyn Future<Output = Result<Response, Fault>> + Send>>;

/// The protocols that answer such requests: no protocol knows another.
#[derive(Clone, Copy)]
pub(crate) struct Dialects {
    /// OpenAI's chat completions.
    pub(crate) chat: fn(Passed) -> Reply,
    /// Anthropic's messages.
    pub(crate) messages: fn(Passed) -> Reply,
}
