//! What the audit log hears of requests: [`Trace`] of an act, and [`denied`].

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use control::audit::{Act, Denial};
use control::{Audit, Principal};
use http::HeaderValue;
use serde::Deserialize;

use super::{Call, ReplyBody, Response, Route};
use crate::fault::{Code, Fault};

/// The status of an act whose client did not wait for its end.
const LEFT: u16 = 499;
/// Bytes of a reply that is looked at for the name of what was made.
const REPLY_BYTES_MAX: usize = 1 << 20;

/// An act that is written down and under way.
pub(super) struct Trace {
    audit: Audit,
    act: u64,
    project: String,
    subject: Arc<OnceLock<String>>,
    status: u16,
    made: Option<String>,
}

impl Trace {
    /// Writes down that `call` of `route`, which is an act, is about to be answered; `None` where nobody is known to make it.
    ///
    /// # Errors
    /// If it cannot be written: then it must not be answered.
    pub(super) async fn begin(
        route: &Route,
        call: &mut Call,
        id: &HeaderValue,
    ) -> Result<Option<Trace>, Fault> {
        let Some(principal) = call.principal.clone() else {
            return Ok(None);
        };
        let project = match route.template.project {
            Some(segment) => call.segment(segment)?.into_owned(),
            None => principal.project.clone(),
        };
        let names_one = !route.template.variables.is_empty();
        let act = Act {
            key: principal.key_id.clone(),
            role: principal.role,
            project: project.clone(),
            from: Some(call.peer.address),
            request: id.to_str().unwrap_or_default().to_owned(),
            what: named(route),
            resource: names_one.then(|| call.head.uri.path().to_owned()),
        };
        let audit = call.app.control.audit().clone();
        let act = audit.begin(act).await?;
        let subject = Arc::default();
        call.subject = Some(Arc::clone(&subject));
        Ok(Some(Trace { audit, act, project, subject, status: LEFT, made: None }))
    }

    /// Notes how it ended.
    pub(super) fn end(mut self, answer: &Result<Response, Fault>) {
        match answer {
            Ok(response) => {
                self.status = response.status().as_u16();
                self.made = made(response);
            }
            Err(fault) => self.status = fault.status().as_u16(),
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let about = self.subject.get().cloned().or_else(|| self.made.take());
        self.audit.end(self.act, Some(std::mem::take(&mut self.project)), self.status, about);
    }
}

/// The name or id of what a reply describes.
fn made(response: &Response) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(default)]
        name: Option<String>,
        #[serde(default)]
        id: Option<String>,
    }
    match response.body() {
        ReplyBody::Full(bytes) if bytes.len() <= REPLY_BYTES_MAX => {
            let named: Named = serde_json::from_slice(bytes).ok()?;
            named.name.or(named.id)
        }
        _ => None,
    }
}

/// Notes a request that was refused for who made it; others do not matter here.
pub(super) fn denied(
    audit: &Audit,
    route: Option<&Route>,
    principal: Option<&Principal>,
    from: IpAddr,
    fault: &Fault,
) {
    if matches!(fault.code, Code::Unauthenticated | Code::PermissionDenied) {
        audit.denied(Denial {
            status: fault.status().as_u16(),
            key: principal.map(|principal| principal.key_id.clone()),
            role: principal.map(|principal| principal.role),
            project: principal.map(|principal| principal.project.clone()),
            from: Some(from),
            what: route.map_or_else(|| "no route".to_owned(), named),
        });
    }
}

fn named(route: &Route) -> String {
    format!("{} {}", route.method, route.pattern)
}
