//! [`Response`]: what a handler gives back.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Response as HttpResponse, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use serde::Serialize;

use crate::fault::Fault;

/// A reply with its body.
pub type Response = HttpResponse<ReplyBody>;

/// The body of a reply.
pub enum ReplyBody {
    /// All of it at once.
    Full(Bytes),
    /// All of it at once, then what is said about it in trailers.
    Trailed(Option<Bytes>, Option<Box<HeaderMap>>),
    /// Piece by piece.
    Stream(Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>),
    /// Piece by piece, then what is said about them in trailers.
    Frames(Pin<Box<dyn Stream<Item = Frame<Bytes>> + Send>>),
}

impl ReplyBody {
    /// Keeps `guard` until the body has been sent or given up.
    pub(super) fn hold(self, guard: impl Send + 'static) -> Self {
        match self {
            whole @ (ReplyBody::Full(_) | ReplyBody::Trailed(..)) => whole,
            ReplyBody::Stream(stream) => ReplyBody::Stream(Box::pin(stream.inspect(move |_| {
                let _ = &guard;
            }))),
            ReplyBody::Frames(frames) => ReplyBody::Frames(Box::pin(frames.inspect(move |_| {
                let _ = &guard;
            }))),
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            ReplyBody::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            ReplyBody::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            ReplyBody::Trailed(bytes, trailers) => {
                let data = bytes.take().map(Frame::data);
                Poll::Ready(
                    data.or_else(|| trailers.take().map(|trailers| Frame::trailers(*trailers))).map(Ok),
                )
            }
            ReplyBody::Stream(stream) => stream.poll_next_unpin(cx).map_ok(Frame::data),
            ReplyBody::Frames(frames) => frames.poll_next_unpin(cx).map(|frame| frame.map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ReplyBody::Full(bytes) => bytes.is_empty(),
            ReplyBody::Trailed(bytes, trailers) => bytes.is_none() && trailers.is_none(),
            ReplyBody::Stream(_) | ReplyBody::Frames(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ReplyBody::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            ReplyBody::Trailed(..) | ReplyBody::Stream(_) | ReplyBody::Frames(_) => SizeHint::default(),
        }
    }
}

/// A reply of `bytes`.
pub fn bytes_reply(status: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Response {
    let mut response = HttpResponse::new(ReplyBody::Full(bytes.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A reply of `value` in JSON.
///
/// # Errors
/// If `value` cannot be written as JSON: a defect.
pub fn json_reply(status: StatusCode, value: &impl Serialize) -> Result<Response, Fault> {
    let mut bytes = Vec::with_capacity(512);
    serde_json::to_writer(&mut bytes, value).map_err(|e| Fault::internal("writing the reply", e))?;
    Ok(bytes_reply(status, "application/json", bytes))
}

/// A reply whose body comes piece by piece.
pub fn stream_reply(
    status: StatusCode,
    content_type: &'static str,
    stream: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
) -> Response {
    let mut response = HttpResponse::new(ReplyBody::Stream(Box::pin(stream)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
