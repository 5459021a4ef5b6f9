//! [`serve`]: connections in, calls through the routes, replies out.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use control::ALL_PROJECTS;
use futures_util::FutureExt;
use http::header::{ALLOW, CONNECTION, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Request, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::access::{Access, Permission, key};
use super::account;
use super::audit::{Trace, denied};
use super::body::Bounds;
use super::call::{Peer, allow_project};
use super::connection::{Activity, Watched};
use super::door::Door;
use super::rates;
use super::route::Found;
use super::tls::{self, Stream, Tls};
use super::{App, Call, Limits, Metrics, Protocol, RequestBody, Response, Route, Routes, Within, grpc};
use crate::fault::{Code, Fault};

/// How often a connection is looked at for dawdling.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);
/// Once the server stops, an idle connection stays open for so long: a request that is on its way to it is
/// answered, with the word that it is the last, instead of meeting a closed door.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// In which every reply carries its request's id.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Answered when there are too many connections.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
content-type: application/json\r\ncontent-length: 110\r\n\r\n\
{\"error\":{\"code\":503,\"message\":\"too many connections; try again shortly\",\"status\":\"UNAVAILABLE\",\"details\":[]}}";

/// Everything that answers, shared by all connections.
struct Server {
    app: Arc<App>,
    routes: Arc<Routes>,
    limits: Arc<Limits>,
    metrics: Arc<Metrics>,
    bodies_held: Arc<AtomicUsize>,
    request_ids: RequestIds,
    door: Door,
    stopping: AtomicBool,
}

/// One connection, as its requests share it. They count its users instead of everybody's.
struct Connection {
    server: Arc<Server>,
    app: Arc<App>,
    bounds: Arc<Bounds>,
    peer: Peer,
    activity: Arc<Activity>,
}

/// Serves `app` on `listener`, HTTP/1.1 and HTTP/2 on one port, with TLS too where there is a certificate, until
/// `shutdown` is ready; then takes no more connections, lets what runs finish for [`Limits::drain_timeout`], and returns.
///
/// # Errors
/// If the embedded API description cannot be read, or the cryptography speaks no TLS: a defect.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    app: App,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let limits = Arc::clone(&app.limits);
    let tls = tls.map(Arc::new);
    let door = Door::new(tls.clone(), Arc::clone(&app.authorities)).map_err(io::Error::other)?;
    let server = Arc::new(Server {
        metrics: Arc::clone(&app.metrics),
        app: Arc::new(app),
        routes: Arc::new(crate::routes().map_err(io::Error::other)?),
        limits: Arc::clone(&limits),
        bodies_held: Arc::default(),
        request_ids: RequestIds::new(),
        door,
        stopping: AtomicBool::new(false),
    });
    let _renewing = tls.map(renewing);
    crate::answer_batches(&server.app.control, &Within::new(&server.app, &server.routes));
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        match accepted {
            Ok((stream, peer)) => welcome(&server, stream, peer, &stopping, &mut connections),
            // Out of file descriptors, or the client is gone already: neither is a reason to stop.
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    server.stopping.store(true, Ordering::Relaxed);
    // Those that the kernel has let in already are answered, too.
    while let Some(Ok((stream, peer))) = listener.accept().now_or_never() {
        welcome(&server, stream, peer, &stopping, &mut connections);
    }
    drop(listener);
    // Nobody listens when there are no connections.
    let _ = stop.send(true);
    let all_done = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain_timeout, all_done).await.is_err() {
        tracing::warn!(connections = connections.len(), "stopped before every request was answered");
    }
    server.app.control.keys().write_uses().await;
    server.app.control.audit().flush().await;
    Ok(())
}

fn welcome(
    server: &Arc<Server>,
    stream: TcpStream,
    peer: SocketAddr,
    stopping: &watch::Receiver<bool>,
    connections: &mut JoinSet<()>,
) {
    if connections.len() >= server.limits.connections_max {
        server.metrics.refused.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(turn_away(stream));
        return;
    }
    server.metrics.connections.fetch_add(1, Ordering::Relaxed);
    connections.spawn(converse(Arc::clone(server), stream, peer, stopping.clone()));
}

async fn turn_away(mut stream: TcpStream) {
    let saying = async {
        stream.write_all(TOO_MANY).await?;
        stream.shutdown().await
    };
    // A client that does not even take this is left alone.
    let _ = tokio::time::timeout(Duration::from_secs(1), saying).await;
}

/// Looks after the certificate's files for as long as what is returned lives.
fn renewing(tls: Arc<Tls>) -> Defer<impl FnMut()> {
    let task = tokio::spawn(async move {
        loop {
            tokio::time::sleep(tls::RENEWAL).await;
            let tls = Arc::clone(&tls);
            // It cannot fail, but for a defect.
            let _ = tokio::task::spawn_blocking(move || tls.renew()).await;
        }
    });
    Defer(move || task.abort())
}

/// The connection, with TLS where it comes with it; `None` for one that is over, or was when the server stopped.
async fn opened(
    server: &Server,
    stream: TcpStream,
    peer: SocketAddr,
    stopping: &mut watch::Receiver<bool>,
) -> Option<Stream> {
    if server.door.is_plain(peer) {
        return Some(Stream::Plain(stream));
    }
    let accepting = server.door.accept(stream, peer);
    tokio::select! {
        opened = tokio::time::timeout(tls::HANDSHAKE, accepting) => opened.ok().flatten(),
        _ = stopping.changed() => None,
    }
}

/// One connection from its first byte to its end.
async fn converse(
    server: Arc<Server>,
    stream: TcpStream,
    peer: SocketAddr,
    mut stopping: watch::Receiver<bool>,
) {
    let connections = Arc::clone(&server.metrics);
    let _count = Defer(|| {
        connections.connections.fetch_sub(1, Ordering::Relaxed);
    });
    // Replies are written whole: waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    let Some(stream) = opened(&server, stream, peer, &mut stopping).await else { return };
    let peer = Peer { address: peer.ip(), secure: stream.is_secure() };
    let app = Arc::new(server.app.apart());
    let bounds = Arc::new(Bounds::new(&server.limits, &server.bodies_held));
    let activity = Arc::new(Activity::new());
    let builder = builder(&server.limits);
    let service = {
        let (server, activity) = (Arc::clone(&server), Arc::clone(&activity));
        let connection = Arc::new(Connection { server, app, bounds, peer, activity });
        service_fn(move |request: Request<Incoming>| {
            let connection = Arc::clone(&connection);
            async move {
                let activity = Arc::clone(&connection.activity);
                activity.requests.fetch_add(1, Ordering::Relaxed);
                activity.open.fetch_add(1, Ordering::Relaxed);
                let open = Defer(move || {
                    activity.open.fetch_sub(1, Ordering::Relaxed);
                });
                let response = connection.server.answer(request, &connection).await;
                // A reply that comes piece by piece is under way until its last one.
                Ok::<_, Infallible>(response.map(|body| body.hold(open)))
            }
        })
    };
    let io = Watched::new(stream, Arc::clone(&activity));
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    let mut watch = tokio::time::interval(WATCH_INTERVAL);
    let mut last_words = std::pin::pin!(tokio::time::sleep(LAST_WORDS));
    let (mut stops, mut closing) = (false, false);
    loop {
        tokio::select! {
            biased;
            // Errors here are the client's: a reset, a bad head. hyper has answered what could be.
            _ = connection.as_mut() => return,
            _ = watch.tick() => {
                if activity.is_over(&server.limits) {
                    return;
                }
            }
            // Not when the sender is gone, either: that is a stop as well.
            _ = stopping.changed(), if !stops => {
                stops = true;
                last_words.as_mut().reset(tokio::time::Instant::now() + LAST_WORDS);
            }
            () = last_words.as_mut(), if stops && !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_headers(limits.headers_max)
        .max_buf_size(limits.head_bytes_max.max(8192))
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
        .keep_alive_interval(limits.head_timeout)
        .keep_alive_timeout(limits.head_timeout);
    builder
}

impl Server {
    /// Answers whatever comes: a fault in its protocol's shape, a panic as a fault.
    async fn answer(&self, request: Request<Incoming>, connection: &Connection) -> Response {
        let (id, begun) = (self.request_ids.next(), Instant::now());
        let version = request.version();
        let over_grpc = grpc::is_spoken(request.headers());
        let usual = if over_grpc { grpc::PROTOCOL } else { crate::vertex::PROTOCOL };
        let mut meter = None;
        let (route, outcome) = match self.admit(request, connection).await {
            Ok((route, call)) => {
                meter.clone_from(&call.app.meter);
                (Some(route), self.perform(route, call, &id).await)
            }
            Err((None, fault)) if over_grpc => (None, Err(grpc::no_procedure(fault))),
            Err((route, fault)) => (route, Err(fault)),
        };
        let mut response = match outcome {
            Ok(response) => response,
            Err(fault) => refuse(route, usual, &fault, &id),
        };
        if let Some(header) = route.and_then(|route| route.protocol.request_id) {
            response.headers_mut().insert(HeaderName::from_static(header), id.clone());
        }
        response.headers_mut().insert(REQUEST_ID, id);
        if let Some(header) = route.and_then(|route| route.protocol.timing) {
            let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            response.headers_mut().insert(HeaderName::from_static(header), HeaderValue::from(took_ms));
        }
        if let Some(meter) = meter {
            let rates = meter.rates();
            rates::write(&rates, response.headers_mut());
            if let Some(write) = route.and_then(|route| route.protocol.rates) {
                write(&rates, response.headers_mut());
            }
        }
        if version <= Version::HTTP_11 && self.stopping.load(Ordering::Relaxed) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        self.metrics.replied(response.status());
        response
    }

    /// Has the route's handler answer, and leaves a trace of it where it is an act.
    async fn perform(&self, route: &Route, mut call: Call, id: &HeaderValue) -> Result<Response, Fault> {
        let (principal, from) = (call.principal.clone(), call.peer.address);
        let trace = match route.access.is_act() {
            true => Box::pin(Trace::begin(route, &mut call, id)).await?,
            false => None,
        };
        let outcome = AssertUnwindSafe((route.handler)(call)).catch_unwind().await.unwrap_or_else(|_| {
            self.metrics.panics.fetch_add(1, Ordering::Relaxed);
            Err(Fault::new(Code::Internal, "a defect was hit while answering; the server's log has it"))
        });
        if let Err(fault) = &outcome {
            denied(self.app.control.audit(), Some(route), principal.as_deref(), from, fault);
        }
        if let Some(trace) = trace {
            trace.end(&outcome);
        }
        outcome
    }

    /// Finds the route and checks the key. Without a valid key a caller does not learn which routes exist.
    async fn admit(
        &self,
        request: Request<Incoming>,
        connection: &Connection,
    ) -> Result<(&Route, Call), (Option<&Route>, Fault)> {
        let (head, incoming) = request.into_parts();
        let body = RequestBody::new(incoming, &head.headers, Arc::clone(&connection.bounds));
        let found = self.routes.find(&head.method, head.uri.path());
        let route = match &found {
            Ok(Found::Route(place, _)) => Some(self.routes.at(*place)),
            _ => None,
        };
        let peer = connection.peer;
        let from = peer.address;
        let principal = key(&head.headers).map(|key| account::principal(&self.app, key, from));
        let principal = match (route.map(|r| r.access), principal) {
            (Some(Access::Public), principal) => principal.flatten(),
            (_, Some(Some(principal))) => Some(principal),
            (_, none) => {
                Box::pin(body.discard()).await;
                let fault = unauthenticated(none.is_some());
                denied(self.app.control.audit(), route, None, from, &fault);
                return Err((route, fault));
            }
        };
        let (route, segments) = match found {
            Ok(Found::Route(place, segments)) => (self.routes.at(place), segments),
            Ok(Found::OtherMethods) => return Err((None, wrong_method(&head.method, head.uri.path()))),
            Ok(Found::Nothing) => return Err((None, no_such_path(&head.method, head.uri.path()))),
            Err(error) => return Err((None, Fault::invalid(error.to_string()))),
        };
        let mut call =
            Call { app: Arc::clone(&connection.app), principal, head, body, segments, peer, subject: None };
        match authorise(route, &call).and_then(|()| metered(route, &call)) {
            Ok(None) => Ok((route, call)),
            Ok(Some(app)) => {
                call.app = Arc::new(app);
                Ok((route, call))
            }
            Err(fault) => {
                denied(self.app.control.audit(), Some(route), call.principal.as_deref(), from, &fault);
                Box::pin(call.body.discard()).await;
                Err((Some(route), fault))
            }
        }
    }
}

/// Whether the key's role and project allow `route` on this path.
fn authorise(route: &Route, call: &Call) -> Result<(), Fault> {
    let (Access::Needs(permission), Some(principal)) = (route.access, &call.principal) else {
        return Ok(());
    };
    if !permission.granted_to(principal.role) {
        let message = format!("this key's role does not allow {} {}", route.method, route.pattern);
        return Err(Fault::new(Code::PermissionDenied, message));
    }
    if permission.is_of_the_server() && principal.project != ALL_PROJECTS {
        let message = format!("{} {} takes an admin key for all projects", route.method, route.pattern);
        return Err(Fault::new(Code::PermissionDenied, message));
    }
    match route.template.project {
        Some(segment) => {
            allow_project(principal, &call.segment(segment)?)?;
            if principal.models.is_none() {
                return Ok(());
            }
            let name = call.segments()?.split_off(segment.saturating_sub(1)).join("/");
            call.allow_model(&name)
        }
        // Elsewhere models are named in other ways, and looked up as what the caller may know of.
        None if principal.models.is_none() || matches!(permission, Permission::Look | Permission::Invoke) => {
            Ok(())
        }
        None => {
            let message =
                format!("this key is bound to models, which leaves no {} {}", route.method, route.pattern);
            Err(Fault::new(Code::PermissionDenied, message))
        }
    }
}

/// Admits a call that asks a model, within the quotas of who makes it; what it takes is put down from here on.
fn metered(route: &Route, call: &Call) -> Result<Option<App>, Fault> {
    match (route.access, &call.principal) {
        (Access::Needs(Permission::Invoke), Some(principal)) => {
            let meter = call.app.control.books().admit(principal)?;
            Ok(Some(call.app.metered(meter)))
        }
        _ => Ok(None),
    }
}

fn unauthenticated(with_key: bool) -> Fault {
    let message = if with_key {
        "the key is not valid here: unknown, expired, revoked, or not for the address that it came from"
    } else {
        "a key is needed: send it as `Authorization: Bearer KEY`; the first one is in admin.key in the data directory"
    };
    Fault::new(Code::Unauthenticated, message)
}

fn wrong_method(method: &http::Method, path: &str) -> Fault {
    let message = format!("{path} does not take {method}");
    Fault::new(Code::Unimplemented, message).with_status(StatusCode::METHOD_NOT_ALLOWED)
}

fn no_such_path(method: &http::Method, path: &str) -> Fault {
    Fault::not_found(format!("there is nothing at {method} {path}"))
}

/// The one place where faults are logged and shaped: by the route's protocol, or the `usual` one where there is no route.
fn refuse(route: Option<&Route>, usual: Protocol, fault: &Fault, id: &HeaderValue) -> Response {
    let status = fault.status();
    // What is not served is the client's to know, and its message may name what the client has sent.
    let is_ours = status.is_server_error() && fault.code != Code::Unimplemented;
    if is_ours || fault.cause.is_some() {
        let path = route.map_or("unknown", |r| r.pattern.as_str());
        let cause = fault.cause.as_deref().map(chain);
        tracing::warn!(request = ?id, path, code = fault.code.name(), message = fault.message, cause, "refused");
    }
    let protocol = route.map_or(usual, |r| r.protocol);
    let mut response = (protocol.render)(fault, id.to_str().unwrap_or_default());
    let headers = response.headers_mut();
    if let Some(after) = fault.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE"));
    }
    response
}

/// An error and its causes, as one line.
fn chain(error: &(dyn std::error::Error + Send + Sync + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Numbers requests: `{start of this process}-{count}`, in hexadecimal.
struct RequestIds {
    start: u64,
    count: AtomicU64,
}

impl RequestIds {
    fn new() -> Self {
        let start = std::time::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_micros() as u64);
        RequestIds { start, count: AtomicU64::new(0) }
    }

    fn next(&self) -> HeaderValue {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let mut text = [b'-'; 22];
        put_hex(&mut text[..13], self.start);
        put_hex(&mut text[14..], count);
        HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("-"))
    }
}

fn put_hex(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

/// Does something when dropped, however that comes about.
struct Defer<F: FnMut()>(F);

impl<F: FnMut()> Drop for Defer<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
