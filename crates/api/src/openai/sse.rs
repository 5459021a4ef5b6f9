//! Server-sent events, as OpenAI streams them.

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use serde_json::Value;

use crate::Fault;
use crate::http::{Response, stream_reply};

/// Something that writes its next events when there are some.
pub(super) trait Teller: Send + 'static {
    /// Waits for the next events and writes them to `frames`; `false` once all is told.
    fn tell(&mut self, frames: &mut Frames) -> impl Future<Output = Result<bool, Fault>> + Send;

    /// Writes that `fault` ends the stream.
    fn fail(&mut self, fault: &Fault, frames: &mut Frames);
}

/// Events, written but not yet sent.
#[derive(Debug, Default)]
pub(super) struct Frames(Vec<u8>);

impl Frames {
    /// An event without a name.
    pub(super) fn data(&mut self, value: &Value) {
        self.0.extend_from_slice(b"data: ");
        // Writing to memory does not fail, and JSON has no line breaks of its own.
        let _ = serde_json::to_writer(&mut self.0, value);
        self.0.extend_from_slice(b"\n\n");
    }

    /// An event with a name.
    pub(super) fn event(&mut self, name: &str, value: &Value) {
        self.0.extend_from_slice(b"event: ");
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'\n');
        self.data(value);
    }

    /// The event after the last one.
    pub(super) fn done(&mut self) {
        self.0.extend_from_slice(b"data: [DONE]\n\n");
    }
}

/// A reply of what `teller` tells. When the client leaves, the teller is dropped.
pub(super) fn reply(teller: impl Teller) -> Response {
    let mut response = stream_reply(StatusCode::OK, "text/event-stream; charset=utf-8", frames(teller));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Asks proxies to pass events on as they come.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

fn frames(teller: impl Teller) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    stream::unfold(Some(teller), |teller| async move {
        let mut teller = teller?;
        loop {
            let mut frames = Frames::default();
            let next = match teller.tell(&mut frames).await {
                Ok(true) if frames.0.is_empty() => continue,
                Ok(true) => Some(teller),
                Ok(false) => None,
                Err(fault) => {
                    teller.fail(&fault, &mut frames);
                    None
                }
            };
            return (!frames.0.is_empty()).then(|| (Ok(Bytes::from(frames.0)), next));
        }
    })
}
