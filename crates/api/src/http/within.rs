//! [`Within`]: requests that come from within, answered on the routes on which the same are answered from outside.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use control::{Closed, Principal, Role, Timestamp};
use futures_util::FutureExt;
use http::{Method, StatusCode, Uri};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::body::Bounds;
use super::call::Peer;
use super::route::Found;
use super::{App, Call, ReplyBody, RequestBody, Response, Routes};
use crate::{Code, Fault};

/// How long a request waits before it asks again a model that had no room, where that does not say.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a request asks a model that cannot be asked at all: one that gave its memory back is being loaded.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much longer than it is wanted an answer may take: whoever wants it says what was not answered by then.
const GRACE: Duration = Duration::from_secs(60);

/// Answers requests that nobody waits for, as long as there is a server.
#[derive(Clone)]
pub(crate) struct Within {
    app: Weak<App>,
    routes: Arc<Routes>,
    /// How many of them are prepared at once: those from outside come first.
    preparing: Arc<Semaphore>,
}

impl Within {
    pub(super) fn new(app: &Arc<App>, routes: &Arc<Routes>) -> Within {
        let (app, routes) = (Arc::downgrade(app), Arc::clone(routes));
        Within { app, routes, preparing: Arc::new(Semaphore::new(1)) }
    }

    /// Without a server.
    #[cfg(test)]
    pub(crate) fn nowhere() -> Within {
        Within { app: Weak::new(), routes: Arc::default(), preparing: Arc::new(Semaphore::new(1)) }
    }

    /// What the handlers work with, while it is there.
    pub(crate) fn app(&self) -> Option<Arc<App>> {
        self.app.upgrade()
    }

    /// Status and body of the reply when `body` is posted to `path` in the name of `project`. Asks again where the model
    /// has no room now, as long as an answer is wanted: until `until`.
    ///
    /// # Errors
    /// [`Closed`] when there is no server any more.
    pub(crate) async fn ask(
        &self,
        project: &str,
        path: &str,
        body: &RawValue,
        until: Timestamp,
    ) -> Result<Result<(StatusCode, Box<RawValue>), Fault>, Closed> {
        let begun = Instant::now();
        let body = Bytes::copy_from_slice(body.get().as_bytes());
        loop {
            let left = Timestamp::now().until(until).ok().and_then(|left| Duration::try_from(left).ok());
            let left = left.unwrap_or_default();
            let app = self.app.upgrade().ok_or(Closed)?;
            let behind = Arc::new(app.in_background(&self.preparing, left + GRACE));
            drop(app);
            let answering = AssertUnwindSafe(self.answer(behind, project, path, body.clone()));
            let fault = match answering.catch_unwind().await {
                Ok(Ok(response)) => return Ok(whole(response)),
                Ok(Err(fault)) => fault,
                Err(_) => {
                    let message = "a defect was hit while answering; the server's log has it";
                    return Ok(Err(Fault::new(Code::Internal, message)));
                }
            };
            let passes = match fault.code {
                Code::ResourceExhausted => true,
                Code::Unavailable => begun.elapsed() < PATIENCE,
                _ => false,
            };
            let pause = fault.retry_after.unwrap_or(PAUSE);
            if !passes || pause >= left {
                return Ok(Err(fault));
            }
            sleep(pause).await;
        }
    }

    async fn answer(&self, app: Arc<App>, project: &str, path: &str, body: Bytes) -> Result<Response, Fault> {
        let nothing = || Fault::not_found(format!("there is nothing at POST {path}"));
        let mut head = http::Request::new(()).into_parts().0;
        (head.method, head.uri) = (Method::POST, path.parse::<Uri>().map_err(|_| nothing())?);
        let found = self.routes.find(&head.method, head.uri.path());
        let Ok(Found::Route(place, segments)) = found else { return Err(nothing()) };
        let principal = Arc::new(Principal {
            key_id: String::new(),
            project: project.to_owned(),
            role: Role::Invoker,
            models: None,
        });
        let app = Arc::new(app.metered(app.control.books().admit(&principal)?));
        let body = RequestBody::from_bytes(body, Arc::new(Bounds::new(&app.limits, &Arc::default())));
        let call =
            Call { app, principal: Some(principal), head, body, segments, peer: Peer::NOBODY, subject: None };
        (self.routes.at(place).handler)(call).await
    }
}

/// Status and body of a reply.
fn whole(response: Response) -> Result<(StatusCode, Box<RawValue>), Fault> {
    let (head, body) = response.into_parts();
    let ReplyBody::Full(bytes) = body else {
        return Err(Fault::invalid("nobody waits for this answer: ask for it whole, not streamed"));
    };
    let text = String::from_utf8(bytes.into()).map_err(|e| Fault::internal("reading a reply", e))?;
    let body = RawValue::from_string(text).map_err(|e| Fault::internal("reading a reply", e))?;
    Ok((head.status, body))
}
