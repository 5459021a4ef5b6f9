//! Request bodies: bounded in size, in time, and in all that are held at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::{Instant, timeout, timeout_at};

use super::Limits;
use crate::fault::{Code, Fault};

/// A refused body is read on, up to this much, so that a client which writes before it reads gets the
/// refusal instead of a broken connection.
const DRAIN_BYTES_MAX: usize = 64 << 20;
/// And for at most this long.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// A body that says how long it is, up to this, has its place made ready at once: once its first bytes are there.
const ROOM_MAX: u64 = 1 << 20;

/// The body of a request, not yet read.
pub struct RequestBody {
    source: Source,
    bounds: Arc<Bounds>,
    /// The client waits for a go-ahead before it sends: nothing needs draining.
    expects_continue: bool,
}

/// What bounds bodies.
pub(super) struct Bounds {
    limits: Arc<Limits>,
    /// Bytes of all bodies that are being put together.
    held: Arc<AtomicUsize>,
}

impl Bounds {
    pub(super) fn new(limits: &Arc<Limits>, held: &Arc<AtomicUsize>) -> Bounds {
        Bounds { limits: Arc::clone(limits), held: Arc::clone(held) }
    }
}

enum Source {
    Wire(Incoming),
    Memory(Bytes),
}

/// Bytes counted among those of all bodies until dropped.
struct Held {
    bytes: usize,
    bounds: Arc<Bounds>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.bounds.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, headers: &HeaderMap, bounds: Arc<Bounds>) -> Self {
        let expects_continue = headers.contains_key(http::header::EXPECT);
        RequestBody { source: Source::Wire(incoming), bounds, expects_continue }
    }

    /// A body that is here already.
    pub(super) fn from_bytes(bytes: Bytes, bounds: Arc<Bounds>) -> Self {
        RequestBody { source: Source::Memory(bytes), bounds, expects_continue: false }
    }

    /// What bounds it.
    pub(super) fn bounds(&self) -> Arc<Bounds> {
        Arc::clone(&self.bounds)
    }

    /// All of it.
    ///
    /// # Errors
    /// If it is larger than [`Limits::body_bytes_max`], takes longer than [`Limits::body_timeout`], is
    /// cut short, or too much is being read from others.
    pub async fn read(self) -> Result<Bytes, Fault> {
        let mut incoming = match self.source {
            Source::Memory(bytes) => return Ok(bytes),
            Source::Wire(incoming) => incoming,
        };
        let Limits { body_bytes_max: max, bodies_bytes_max, body_timeout, .. } = *self.bounds.limits;
        let announced = incoming.size_hint().exact();
        if incoming.size_hint().lower() > max as u64 {
            if !self.expects_continue {
                Box::pin(drain(incoming)).await;
            }
            return Err(too_large(max));
        }
        // Most bodies come in one piece with the head: they are neither copied nor timed.
        let deadline = Instant::now() + body_timeout;
        let Some(first) = next_data(&mut incoming, deadline).await? else { return Ok(Bytes::new()) };
        if incoming.is_end_stream() {
            return if first.len() > max { Err(too_large(max)) } else { Ok(first) };
        }
        let mut held = Held { bytes: 0, bounds: self.bounds };
        let mut whole = match announced {
            Some(bytes) if bytes <= ROOM_MAX => {
                let mut whole = BytesMut::with_capacity(bytes as usize);
                whole.extend_from_slice(&first);
                whole
            }
            _ => BytesMut::from(first),
        };
        while let Some(piece) = next_data(&mut incoming, deadline).await? {
            if whole.len() + piece.len() > max {
                drop(whole);
                Box::pin(drain(incoming)).await;
                return Err(too_large(max));
            }
            hold(&mut held, piece.len(), bodies_bytes_max)?;
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    /// The next piece, when there is one; each may take [`Limits::body_timeout`].
    ///
    /// # Errors
    /// If it takes longer or the body is cut short.
    pub async fn next_piece(&mut self) -> Result<Option<Bytes>, Fault> {
        match &mut self.source {
            Source::Memory(bytes) if bytes.is_empty() => Ok(None),
            Source::Memory(bytes) => Ok(Some(std::mem::take(bytes))),
            Source::Wire(incoming) => {
                let deadline = Instant::now() + self.bounds.limits.body_timeout;
                next_data(incoming, deadline).await
            }
        }
    }

    /// Reads on for a while without keeping anything: see [`DRAIN_BYTES_MAX`].
    pub async fn discard(self) {
        if let Source::Wire(incoming) = self.source
            && !self.expects_continue
            && !incoming.is_end_stream()
        {
            drain(incoming).await;
        }
    }
}

fn hold(held: &mut Held, bytes: usize, max: usize) -> Result<(), Fault> {
    let before = held.bounds.held.fetch_add(bytes, Ordering::Relaxed);
    held.bytes += bytes;
    if before + bytes > max {
        let message = "too many large requests are being received at once; try again shortly";
        return Err(Fault {
            retry_after: Some(Duration::from_secs(1)),
            ..Fault::new(Code::ResourceExhausted, message)
        });
    }
    Ok(())
}

async fn next_data(incoming: &mut Incoming, deadline: Instant) -> Result<Option<Bytes>, Fault> {
    loop {
        let frame = match timeout_at(deadline, incoming.frame()).await {
            Err(_) => return Err(too_slow()),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => {
                return Err(Fault {
                    cause: Some(error.into()),
                    ..Fault::invalid("the request's body was cut short")
                });
            }
            Ok(Some(Ok(frame))) => frame,
        };
        // What is no data is a trailer: nothing here reads them.
        if let Ok(data) = frame.into_data()
            && !data.is_empty()
        {
            return Ok(Some(data));
        }
    }
}

async fn drain(mut incoming: Incoming) {
    let mut left = DRAIN_BYTES_MAX;
    let reading = async {
        while let Some(Ok(frame)) = incoming.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    // Either way the refusal follows.
    let _ = timeout(DRAIN_TIME_MAX, reading).await;
}

fn too_large(max: usize) -> Fault {
    let message = format!("the request's body is larger than the {max} bytes that this call takes");
    Fault::invalid(message).with_status(StatusCode::PAYLOAD_TOO_LARGE)
}

fn too_slow() -> Fault {
    let message = "the request's body took too long to arrive";
    Fault::new(Code::DeadlineExceeded, message).with_status(StatusCode::REQUEST_TIMEOUT)
}
