//! gRPC over the server's HTTP/2: procedures that take one message as routes like any other.
//!
//! A request is one message in a frame; a reply is one in a frame, or several, and how it went in trailers. Keys come as metadata,
//! `authorization`, which is the header of that name. Messages are bounded as bodies are, a deadline that the client
//! states is kept.

use std::future::Future;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response as HttpResponse, StatusCode};
use hyper::body::Frame;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};
use prost::{DecodeError, Message};

use super::{Access, Call, Protocol, ReplyBody, Response, Route, handler};
use crate::fault::{Code, Fault};

/// How gRPC says no: in the header, as there is no message.
pub(crate) const PROTOCOL: Protocol =
    Protocol { name: "grpc", render, timing: None, request_id: None, rates: None };

const CONTENT: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";
const TIMEOUT: &str = "grpc-timeout";
const ENCODING: &str = "grpc-encoding";

/// Bytes before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// The most fields that a message may have, each element of a list counted: what they become takes more memory than they
/// do.
const FIELDS_MAX: usize = 1 << 16;
/// What is kept of a text for the client, which goes in a header.
const TEXT_BYTES_MAX: usize = 2048;

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Detail>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Detail {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<RetryDelay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct RetryDelay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// A reply, with what its head says beside gRPC's own.
pub(crate) struct Told<Reply> {
    pub(crate) reply: Reply,
    pub(crate) metadata: HeaderMap,
}

impl<Reply> From<Reply> for Told<Reply> {
    fn from(reply: Reply) -> Self {
        Told { reply, metadata: HeaderMap::new() }
    }
}

/// The route of the procedure `method` of `service`: `answer` takes the message, and until when an answer is wanted.
pub(crate) fn unary<Request, Reply, Answer, Answering>(
    service: &str,
    method: &str,
    access: Access,
    answer: Answer,
) -> Option<Route>
where
    Request: Message + Default + 'static,
    Reply: Message + 'static,
    Answer: Fn(Call, Request, Instant) -> Answering + Clone + Send + Sync + 'static,
    Answering: Future<Output = Result<Reply, Fault>> + Send + 'static,
{
    let answer = move |call: Call, request: Request, until: Instant| {
        let answering = answer(call, request, until);
        async move { answering.await.map(Told::from) }
    };
    route(format!("/{service}/{method}"), access, |bytes| Request::decode(bytes), answer)
}

/// The route of the procedure at `path` (`/service/method`), whose messages `read` makes of bytes.
pub(crate) fn route<Request, Reply, Read, Answer, Answering>(
    path: String,
    access: Access,
    read: Read,
    answer: Answer,
) -> Option<Route>
where
    Request: Send + 'static,
    Reply: Message + 'static,
    Read: Fn(Bytes) -> Result<Request, DecodeError> + Clone + Send + Sync + 'static,
    Answer: Fn(Call, Request, Instant) -> Answering + Clone + Send + Sync + 'static,
    Answering: Future<Output = Result<Told<Reply>, Fault>> + Send + 'static,
{
    let handler = handler(move |call: Call| {
        let (read, answer) = (read.clone(), answer.clone());
        async move { procedure(call, read, answer, |reply| written(&reply)).await }
    });
    PROTOCOL.route(Method::POST, path, access, handler)
}

/// As [`route`], of a procedure that replies with one message after the other. The deadline is that of the first.
pub(crate) fn streaming<Request, Reply, Read, Answer, Answering>(
    path: String,
    access: Access,
    read: Read,
    answer: Answer,
) -> Option<Route>
where
    Request: Send + 'static,
    Reply: Message + 'static,
    Read: Fn(Bytes) -> Result<Request, DecodeError> + Clone + Send + Sync + 'static,
    Answer: Fn(Call, Request, Instant) -> Answering + Clone + Send + Sync + 'static,
    Answering:
        Future<Output = Result<Told<BoxStream<'static, Result<Reply, Fault>>>, Fault>> + Send + 'static,
{
    let handler = handler(move |call: Call| {
        let (read, answer) = (read.clone(), answer.clone());
        async move { procedure(call, read, answer, streamed).await }
    });
    PROTOCOL.route(Method::POST, path, access, handler)
}

/// Whether a request with such a head speaks gRPC.
pub(super) fn is_spoken(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let rest = kind.strip_prefix("application/grpc");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("+proto") || rest.starts_with(';'))
}

/// The fault of a path that leads nowhere, in gRPC's words: a procedure that is not there is one that is not served.
pub(super) fn no_procedure(fault: Fault) -> Fault {
    match fault.code {
        Code::NotFound => Fault { code: Code::Unimplemented, ..fault },
        _ => fault,
    }
}

async fn procedure<Request, Reply, Answer, Answering>(
    mut call: Call,
    read: impl Fn(Bytes) -> Result<Request, DecodeError>,
    answer: Answer,
    write: impl Fn(Reply) -> Response,
) -> Result<Response, Fault>
where
    Answer: Fn(Call, Request, Instant) -> Answering,
    Answering: Future<Output = Result<Told<Reply>, Fault>>,
{
    let begun = Instant::now();
    let body = call.take_body();
    if !is_spoken(&call.head.headers) {
        body.discard().await;
        let mut refused = HttpResponse::new(ReplyBody::Full(Bytes::new()));
        *refused.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Ok(refused);
    }
    let stated = timeout(&call.head.headers)?;
    let limit = call.app.limits.answer_timeout;
    let until = begun + stated.map_or(limit, |stated| stated.min(limit));
    let encoded = call.header(ENCODING).is_some_and(|encoding| encoding != "identity");
    let answering = async {
        let message = framed(body.read().await?, encoded)?;
        check_fields(&message)?;
        let request =
            read(message).map_err(|error| Fault::invalid(format!("the message cannot be read: {error}")))?;
        answer(call, request, until).await
    };
    match tokio::time::timeout_at(until.into(), answering).await {
        Ok(told) => {
            let Told { reply, metadata } = told?;
            let mut response = write(reply);
            response.headers_mut().extend(metadata);
            Ok(response)
        }
        Err(_) => Err(Fault::new(Code::DeadlineExceeded, "the deadline passed before there was an answer")),
    }
}

/// The one message of a request.
fn framed(mut body: Bytes, encoded: bool) -> Result<Bytes, Fault> {
    let Some((prefix, _)) = body.split_first_chunk::<PREFIX_BYTES>() else {
        return Err(Fault::invalid("the request holds no message"));
    };
    let [compressed, length @ ..] = *prefix;
    if compressed != 0 {
        let message =
            if encoded { "messages are taken uncompressed only" } else { "the message's frame is broken" };
        return Err(Fault::unimplemented(message));
    }
    let length = u32::from_be_bytes(length) as usize;
    let message = body.split_off(PREFIX_BYTES);
    if message.len() != length {
        let found = message.len();
        return Err(Fault::invalid(format!(
            "the message's frame says {length} bytes, and {found} follow it"
        )));
    }
    Ok(message)
}

/// Refuses a message of more fields than any that is meant well.
fn check_fields(message: &Bytes) -> Result<(), Fault> {
    let broken = |error| Fault::invalid(format!("the message cannot be read: {error}"));
    let mut rest = message.clone();
    let mut fields = 0;
    while !rest.is_empty() {
        let (tag, wire_type): (u32, WireType) = decode_key(&mut rest).map_err(broken)?;
        skip_field(wire_type, tag, &mut rest, DecodeContext::default()).map_err(broken)?;
        fields += 1;
        if fields > FIELDS_MAX {
            return Err(Fault::invalid(format!("the message has more than {FIELDS_MAX} fields")));
        }
    }
    Ok(())
}

/// For how long the client waits, where it says.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Fault> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(None) };
    let read = || {
        let text = value.to_str().ok()?;
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let number: u64 = digits.parse().ok()?;
        Some(match unit {
            "H" => Duration::from_secs(number * 3600),
            "M" => Duration::from_secs(number * 60),
            "S" => Duration::from_secs(number),
            "m" => Duration::from_millis(number),
            "u" => Duration::from_micros(number),
            "n" => Duration::from_nanos(number),
            _ => return None,
        })
    };
    let wrong = || Fault::invalid(format!("`{TIMEOUT}` is up to 8 digits and one of H, M, S, m, u, n"));
    read().map(Some).ok_or_else(wrong)
}

fn frame(reply: &impl Message) -> Bytes {
    let length = reply.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // There is room: memory is taken as it is needed.
    let _ = reply.encode(&mut frame);
    frame.freeze()
}

fn written(reply: &impl Message) -> Response {
    spoken(ReplyBody::Trailed(Some(frame(reply)), Some(Box::new(went_well()))))
}

/// Messages as they come, then how it went. After a fault nothing follows.
fn streamed<Reply: Message + 'static>(replies: BoxStream<'static, Result<Reply, Fault>>) -> Response {
    let frames = stream::unfold(Some(replies), |replies| async {
        let mut replies = replies?;
        Some(match replies.next().await {
            Some(Ok(reply)) => (Frame::data(frame(&reply)), Some(replies)),
            Some(Err(fault)) => (Frame::trailers(went_wrong(&fault)), None),
            None => (Frame::trailers(went_well()), None),
        })
    });
    spoken(ReplyBody::Frames(Box::pin(frames)))
}

fn spoken(body: ReplyBody) -> Response {
    let mut response = HttpResponse::new(body);
    response.headers_mut().insert(CONTENT_TYPE, CONTENT);
    response
}

fn went_well() -> HeaderMap {
    HeaderMap::from_iter([(STATUS, HeaderValue::from_static("0"))])
}

fn render(fault: &Fault, _: &str) -> Response {
    let mut response = spoken(ReplyBody::Full(Bytes::new()));
    response.headers_mut().extend(went_wrong(fault));
    response
}

fn went_wrong(fault: &Fault) -> HeaderMap {
    // Too large a message is a limit in gRPC's words, and no defect of the message.
    let code = match fault.http_status {
        Some(StatusCode::PAYLOAD_TOO_LARGE) => Code::ResourceExhausted,
        _ => fault.code,
    };
    let mut headers = HeaderMap::from_iter([(STATUS, HeaderValue::from(code.number()))]);
    if let Ok(message) = HeaderValue::from_str(&encoded(&fault.message)) {
        headers.insert(MESSAGE, message);
    }
    if let Some(after) = fault.retry_after
        && let Ok(details) = HeaderValue::from_str(&retry_details(code, &fault.message, after))
    {
        headers.insert(DETAILS, details);
    }
    headers
}

/// A `google.rpc.Status` that says when to come back, as a header holds it.
fn retry_details(code: Code, message: &str, after: Duration) -> String {
    let seconds = i64::try_from(after.as_secs()).unwrap_or(i64::MAX);
    let nanos = i32::try_from(after.subsec_nanos()).unwrap_or_default();
    let retry = RetryInfo { retry_delay: Some(RetryDelay { seconds, nanos }) };
    let detail = Detail { type_url: RETRY_INFO.to_owned(), value: retry.encode_to_vec() };
    let end = message.floor_char_boundary(message.len().min(TEXT_BYTES_MAX));
    let status = Status { code: code.number(), message: message[..end].to_owned(), details: vec![detail] };
    STANDARD_NO_PAD.encode(status.encode_to_vec())
}

/// A text as a header may hold it: what is not printable ASCII, and the percent sign, as `%XX`.
fn encoded(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for byte in text.bytes() {
        if safe.len() >= TEXT_BYTES_MAX {
            break;
        }
        match byte {
            b' '..=b'~' if byte != b'%' => safe.push(char::from(byte)),
            _ => safe.push_str(&format!("%{byte:02X}")),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_frame_holds_what_it_says() {
        let frame =
            |bytes: &'static [u8]| framed(Bytes::from_static(bytes), false).map_err(|fault| fault.code);
        assert_eq!(frame(&[0, 0, 0, 0, 2, 8, 1]).unwrap(), [8, 1][..]);
        assert_eq!(frame(&[0, 0, 0, 0, 0]).unwrap(), [][..]);
        for bytes in
            [&[][..], &[0, 0, 0, 0], &[0, 0, 0, 0, 3, 8, 1], &[0, 0, 0, 0, 1, 8, 1], &[0, 255, 255, 255, 255]]
        {
            assert_eq!(frame(bytes), Err(Code::InvalidArgument), "{bytes:?}");
        }
        assert_eq!(frame(&[1, 0, 0, 0, 1, 8]), Err(Code::Unimplemented));
    }

    #[test]
    fn a_message_of_many_fields_is_refused() {
        let fields = |n: usize| check_fields(&Bytes::from([0x32, 0].repeat(n)));
        assert!(fields(FIELDS_MAX).is_ok());
        assert!(fields(FIELDS_MAX + 1).is_err());
        assert!(check_fields(&Bytes::from_static(&[0x32, 5, 0])).is_err());
    }

    #[test]
    fn deadlines_are_read() {
        let read = |text: &str| {
            let value = HeaderValue::from_bytes(text.as_bytes()).unwrap();
            timeout(&HeaderMap::from_iter([(HeaderName::from_static(TIMEOUT), value)]))
        };
        assert_eq!(read("250m").unwrap(), Some(Duration::from_millis(250)));
        assert_eq!(read("99999999H").unwrap(), Some(Duration::from_secs(99_999_999 * 3600)));
        for wrong in ["", "S", "1", "123456789S", "-1S", "1s", "1\u{20ac}"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn texts_fit_into_a_header() {
        assert_eq!(encoded("100% é\n"), "100%25 %C3%A9%0A");
        assert!(encoded(&"x".repeat(10_000)).len() <= TEXT_BYTES_MAX);
        let fault = Fault::invalid("too large").with_status(StatusCode::PAYLOAD_TOO_LARGE);
        let response = render(&fault, "");
        assert_eq!((response.status(), &response.headers()[STATUS]), (StatusCode::OK, &HeaderValue::from(8)));
    }
}
