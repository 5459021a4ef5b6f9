//! [`Call`]: one request on its way to a handler.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use control::{Control, Meter, Principal};
use http::request::Parts;
use tokio::sync::Semaphore;

use super::authority::Authorities;
use super::path::{Segments, percent_decode};
use super::{Limits, Metrics, RequestBody, Template};
use crate::fault::{Code, Fault};
use crate::tenant::Tenant;

/// What the handlers work with, as it stands for one request or for any.
pub struct App {
    common: Arc<Common>,
    /// What is asked of models here is put down to it; `None` where nothing is asked of them.
    pub(crate) meter: Option<Arc<Meter>>,
}

impl Deref for App {
    type Target = Common;

    fn deref(&self) -> &Common {
        &self.common
    }
}

/// What requests have in common.
#[derive(Clone)]
pub struct Common {
    /// Registry, endpoints, jobs, keys, storage.
    pub control: Control,
    /// The data plane.
    pub router: serving::Router,
    /// What a client may take.
    pub limits: Arc<Limits>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// How many prompts are made of requests at once: it takes a processor each.
    pub(crate) preparing: Arc<Semaphore>,
    /// How its answers stand against others', as engines of language models take it.
    pub(crate) priority: i8,
    /// Whom programs on this machine that were written for Google's cloud trust.
    pub(crate) authorities: Arc<Authorities>,
}

impl App {
    /// An application with the default limits.
    pub fn new(control: Control, router: serving::Router) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let preparing = Arc::new(Semaphore::new(processors));
        let authorities = Arc::new(Authorities::open(&control.options().data_dir));
        let limits = Arc::new(Limits::default());
        let metrics = Arc::default();
        let common = Common { control, router, limits, metrics, preparing, priority: 0, authorities };
        App { common: Arc::new(common), meter: None }
    }

    /// The same for requests that nobody waits for: they are prepared by `preparing`, may take `time`, and their
    /// answers go on in what others leave.
    pub(crate) fn in_background(&self, preparing: &Arc<Semaphore>, time: Duration) -> App {
        let limits = Limits { predict_timeout: time, answer_timeout: time, ..Limits::clone(&self.limits) };
        let common = Common {
            control: self.control.clone(),
            router: self.router.clone(),
            limits: Arc::new(limits),
            metrics: Arc::default(),
            preparing: Arc::clone(preparing),
            priority: llm::BACKGROUND,
            authorities: Arc::clone(&self.authorities),
        };
        App { common: Arc::new(common), meter: None }
    }

    /// The same for one connection. Its requests count who uses it apart from others', so that processors that answer on
    /// different connections do not wait for one count.
    pub(super) fn apart(&self) -> App {
        App { common: Arc::new(Common::clone(&self.common)), meter: None }
    }

    /// The same for one request, which `meter` has admitted.
    pub(super) fn metered(&self, meter: Meter) -> App {
        App { common: Arc::clone(&self.common), meter: Some(Arc::new(meter)) }
    }
}

/// The connection on which a request comes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    /// Whether it is one of TLS.
    pub(super) secure: bool,
}

impl Peer {
    /// Of what is asked from within.
    pub(super) const NOBODY: Peer = Peer { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), secure: false };
}

/// One request: authenticated, authorised, matched to a route, its body not yet read.
pub struct Call {
    /// What to work with.
    pub app: Arc<App>,
    /// Whose key it is; `None` on public routes.
    pub principal: Option<Arc<Principal>>,
    /// Method, URI, headers.
    pub head: Parts,
    /// The body.
    pub body: RequestBody,
    pub(super) segments: Segments,
    pub(super) peer: Peer,
    /// What it is about, for the audit log, where the path does not say; absent where nothing is recorded.
    pub(super) subject: Option<Arc<OnceLock<String>>>,
}

impl Call {
    /// Notes for the audit log which resource the call is about, where the path does not say.
    pub(crate) fn about(&self, resource: impl Into<String>) {
        if let Some(subject) = &self.subject {
            // The first word is the one that says most.
            let _ = subject.set(resource.into());
        }
    }

    /// The value of the template's variable `i`, decoded.
    ///
    /// # Errors
    /// If it holds a traversal or a broken escape.
    pub fn variable(&self, template: &Template, i: usize) -> Result<Cow<'_, str>, Fault> {
        let path = self.head.uri.path();
        let Some(variable) = template.variables.get(i) else { return Ok(Cow::Borrowed("")) };
        let end = variable.end.min(self.segments.len());
        self.segments.join(path, variable.start, end).map_err(|e| Fault::invalid(e.to_string()))
    }

    /// How long the body is, as far as its head says; 0 where it does not.
    pub(crate) fn content_length(&self) -> u64 {
        self.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// The body, in whose place an empty one stays: for those who pass the call on.
    pub(crate) fn take_body(&mut self) -> RequestBody {
        let empty = RequestBody::from_bytes(Bytes::new(), self.body.bounds());
        std::mem::replace(&mut self.body, empty)
    }

    /// The same caller's call of `template` at `path` with this body: for procedures that are reached in two ways.
    ///
    /// # Errors
    /// If the path is none of the template's.
    pub(crate) fn aimed(mut self, template: &Template, path: &str, body: Bytes) -> Result<Call, Fault> {
        let none = || Fault::invalid("the request names no resource of the kind that this procedure takes");
        self.head.uri = path.parse().map_err(|_| none())?;
        let mut segments = Segments::of(path).map_err(|e| Fault::invalid(e.to_string()))?;
        if let Some(verb) = &template.verb {
            segments.shorten_last(verb.len() + 1);
        }
        if self.head.uri.path() != path || segments.len() != template.segments.len() {
            return Err(none());
        }
        self.segments = segments;
        self.body = RequestBody::from_bytes(body, self.body.bounds());
        Ok(self)
    }

    /// Segment `i` of the path, decoded.
    pub(super) fn segment(&self, i: usize) -> Result<Cow<'_, str>, Fault> {
        let path = self.head.uri.path();
        self.segments.join(path, i, i + 1).map_err(|e| Fault::invalid(e.to_string()))
    }

    /// The path's segments, decoded.
    ///
    /// # Errors
    /// If one holds a traversal or a broken escape.
    pub fn segments(&self) -> Result<Vec<String>, Fault> {
        (0..self.segments.len()).map(|i| self.segment(i).map(Cow::into_owned)).collect()
    }

    /// The address under which the client reached this server: `http://host:port`, or `https`.
    pub fn base(&self) -> String {
        let authority = self.head.uri.authority().map(http::uri::Authority::as_str);
        let scheme = if self.peer.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.header("host").or(authority).unwrap_or("localhost"))
    }

    /// Where this client reaches the server with TLS, `host` or `host:port`: as it does now, or, from this machine, by the
    /// local authority.
    pub fn reached(&self) -> Option<String> {
        let base = self.base();
        if let Some(authority) = base.strip_prefix("https://") {
            return Some(authority.strip_suffix(":443").unwrap_or(authority).to_owned());
        }
        self.app.authorities.current()?;
        let (host, port) = base.strip_prefix("http://")?.rsplit_once(':')?;
        matches!(host, "127.0.0.1" | "localhost" | "[::1]").then(|| format!("localhost:{port}"))
    }

    /// The query's fields, decoded, in the order written.
    ///
    /// # Errors
    /// If an escape is broken.
    pub fn query(&self) -> Result<Vec<(String, String)>, Fault> {
        let broken = || Fault::invalid("the query string holds a percent sign that encodes nothing");
        let text = self.head.uri.query().unwrap_or("");
        let decode = |part: &str| percent_decode(part, true).map(Cow::into_owned).ok_or_else(broken);
        text.split('&')
            .filter(|part| !part.is_empty())
            .map(|part| part.split_once('=').unwrap_or((part, "")))
            .map(|(name, value)| Ok((decode(name)?, decode(value)?)))
            .collect()
    }

    /// Where the request comes from; an address that is nobody's for one from within.
    pub(crate) fn peer(&self) -> IpAddr {
        self.peer.address
    }

    /// A request header, when it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Refuses a resource's name that leads to no model or endpoint that the key is bound to, where it is bound to some.
    ///
    /// # Errors
    /// [`Code::PermissionDenied`], whether there is such a resource or not.
    pub(crate) fn allow_model(&self, name: &str) -> Result<(), Fault> {
        if self.principal.as_ref().is_none_or(|principal| principal.models.is_none()) {
            return Ok(());
        }
        let mut parts = name.split('/').skip(4);
        let mut pair = (parts.next(), parts.next());
        if pair.0 == Some("publishers") {
            pair = (parts.next(), parts.next());
        }
        let id = match pair {
            (Some("endpoints" | "models"), Some(id)) => id.split('@').next(),
            _ => None,
        };
        if Tenant::of(self.principal.as_deref(), "").knows(id) {
            return Ok(());
        }
        Err(Fault::new(
            Code::PermissionDenied,
            format!("this key is bound to some models, and {name} is none of them"),
        ))
    }

    /// Refuses `name`, a resource's name given in a body or query, when it lies in another project than
    /// the key's.
    ///
    /// # Errors
    /// [`Code::PermissionDenied`].
    pub fn allow_name(&self, name: &str) -> Result<(), Fault> {
        let project = name.strip_prefix("projects/").and_then(|rest| rest.split('/').next());
        match (project, &self.principal) {
            (Some(project), Some(principal)) => allow_project(principal, project),
            _ => Ok(()),
        }
    }
}

/// Refuses another project than the key's.
pub(super) fn allow_project(principal: &Principal, project: &str) -> Result<(), Fault> {
    if principal.acts_in(project) {
        return Ok(());
    }
    let message = format!("this key belongs to project {}, not to {project}", principal.project);
    Err(Fault::new(Code::PermissionDenied, message))
}
