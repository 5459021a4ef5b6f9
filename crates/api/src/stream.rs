//! Replies that are told piece by piece: server-sent events, a JSON value a line, or the items of a JSON list.

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use serde_json::Value;

use crate::Fault;
use crate::http::{Response, stream_reply};

/// Something that writes its next frames when there are some.
pub(crate) trait Teller: Send + 'static {
    /// Waits for what happens next and writes it to `frames`; `false` once all is told.
    fn tell(&mut self, frames: &mut Frames) -> impl Future<Output = Result<bool, Fault>> + Send;

    /// Writes that `fault` ends the stream.
    fn fail(&mut self, fault: &Fault, frames: &mut Frames);
}

/// How values follow one another in a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Server-sent events.
    Events,
    /// Newline-delimited JSON.
    Lines,
    /// One JSON list.
    List,
}

impl Framing {
    fn content_type(self) -> &'static str {
        match self {
            Framing::Events => "text/event-stream; charset=utf-8",
            Framing::Lines => "application/x-ndjson",
            Framing::List => "application/json",
        }
    }
}

/// Frames, written but not yet sent.
#[derive(Debug)]
pub(crate) struct Frames {
    framing: Framing,
    bytes: Vec<u8>,
    /// Whether nothing was written ever.
    first: bool,
}

impl Frames {
    /// None yet.
    pub(crate) fn new(framing: Framing) -> Frames {
        Frames { framing, bytes: Vec::new(), first: true }
    }

    /// The next value: an event without a name, a line, an item.
    pub(crate) fn data(&mut self, value: &Value) {
        let (before, after): (&[u8], &[u8]) = match (self.framing, self.first) {
            (Framing::Events, _) => (b"data: ", b"\n\n"),
            (Framing::Lines, _) => (b"", b"\n"),
            (Framing::List, true) => (b"[", b"\n"),
            (Framing::List, false) => (b",", b"\n"),
        };
        self.first = false;
        self.bytes.extend_from_slice(before);
        // Writing to memory does not fail, and JSON has no line breaks of its own.
        let _ = serde_json::to_writer(&mut self.bytes, value);
        self.bytes.extend_from_slice(after);
    }

    /// The same with a name, where frames have names.
    pub(crate) fn event(&mut self, name: &str, value: &Value) {
        if self.framing == Framing::Events {
            self.bytes.extend_from_slice(b"event: ");
            self.bytes.extend_from_slice(name.as_bytes());
            self.bytes.push(b'\n');
        }
        self.data(value);
    }

    /// The event that some protocols have after the last one.
    pub(crate) fn done(&mut self) {
        if self.framing == Framing::Events {
            self.bytes.extend_from_slice(b"data: [DONE]\n\n");
        }
    }

    /// Forgets what is written.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// What comes after the last frame.
    fn close(&mut self) {
        if self.framing == Framing::List {
            // Google's clients take nothing after it, not even the end of a line.
            self.bytes.extend_from_slice(if self.first { b"[]" } else { b"]" });
        }
    }

    fn take(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.bytes))
    }
}

/// A reply of what `teller` tells. When the client leaves, the teller is dropped.
pub(crate) fn reply(teller: impl Teller, framing: Framing) -> Response {
    let mut response = stream_reply(StatusCode::OK, framing.content_type(), pieces(teller, framing));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Asks proxies to pass frames on as they come.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

fn pieces(
    teller: impl Teller,
    framing: Framing,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    stream::unfold(Some((teller, Frames::new(framing))), |state| async move {
        let (mut teller, mut frames) = state?;
        loop {
            let more = match teller.tell(&mut frames).await {
                Ok(more) => more,
                Err(fault) => {
                    teller.fail(&fault, &mut frames);
                    false
                }
            };
            if !more {
                frames.close();
                let last = frames.take();
                return (!last.is_empty()).then_some((Ok(last), None));
            }
            if !frames.bytes.is_empty() {
                return Some((Ok(frames.take()), Some((teller, frames))));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(framing: Framing, values: usize) -> String {
        let mut frames = Frames::new(framing);
        for value in 0..values {
            frames.event("n", &json!({"v": value}));
        }
        frames.done();
        frames.close();
        String::from_utf8_lossy(&frames.take()).into_owned()
    }

    #[test]
    fn values_are_framed_as_the_protocol_has_them() {
        let events = "event: n\ndata: {\"v\":0}\n\nevent: n\ndata: {\"v\":1}\n\ndata: [DONE]\n\n";
        assert_eq!(written(Framing::Events, 2), events);
        assert_eq!(written(Framing::Lines, 2), "{\"v\":0}\n{\"v\":1}\n");
        assert_eq!(written(Framing::List, 2), "[{\"v\":0}\n,{\"v\":1}\n]");
        assert_eq!(written(Framing::List, 0), "[]");
    }
}
