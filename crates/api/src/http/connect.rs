//! `CONNECT`: how a program that is told of a proxy asks for a host. Whoever it asks for, if it may, is this server.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::authority::is_cloud;

/// The first byte of such a request. No other method that this server takes begins so.
pub(super) const FIRST: u8 = b'C';
/// Bytes of the request at most.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// What a client may still be sending when it is refused is read for so long, and up to so many bytes, so that it sees why.
const LAST_WORDS: Duration = Duration::from_secs(2);
const LAST_BYTES: u64 = 4 << 20;
const END: &[u8] = b"\r\n\r\n";

/// Why a host is not led to.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// It is no request of this kind.
    Malformed,
    /// It is longer than any that is meant well.
    TooLong,
    /// The host is none of those that come here.
    OtherHost(String),
}

/// Reads the request and answers it. Whether the connection goes on, as one to this server.
pub(super) async fn answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> bool {
    let read = async {
        let mut head = Vec::with_capacity(512);
        while !head.ends_with(END) {
            if head.len() >= HEAD_BYTES_MAX {
                return Some(Err(Refusal::TooLong));
            }
            let room = (HEAD_BYTES_MAX - head.len()) as u64;
            if (&mut *stream).take(room).read_buf(&mut head).await.ok()? == 0 {
                return None;
            }
            // Nothing may follow before it is answered.
            if head.windows(END.len()).any(|part| part == END) && !head.ends_with(END) {
                return Some(Err(Refusal::Malformed));
            }
        }
        Some(wanted(&head))
    };
    let refusal = match read.await {
        Some(Ok(())) => return stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.is_ok(),
        Some(Err(refusal)) => refusal,
        None => return false,
    };
    let saying = async {
        stream.write_all(refusal.reply().as_bytes()).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut (&mut *stream).take(LAST_BYTES), &mut tokio::io::sink()).await
    };
    // A client that does not even take this is left alone.
    let _ = tokio::time::timeout(LAST_WORDS, saying).await;
    false
}

/// Whether the request asks for a host that it may be led to: to nobody but this server.
fn wanted(head: &[u8]) -> Result<(), Refusal> {
    let text = std::str::from_utf8(head).map_err(|_| Refusal::Malformed)?;
    let line = text.lines().next().unwrap_or_default();
    let mut words = line.split(' ');
    let (Some("CONNECT"), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Refusal::Malformed);
    };
    let (host, port) = target.rsplit_once(':').ok_or(Refusal::Malformed)?;
    let host = host.to_ascii_lowercase();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    if host.is_empty() || !host.bytes().all(plain) {
        return Err(Refusal::Malformed);
    }
    if port == "443" && is_cloud(&host) { Ok(()) } else { Err(Refusal::OtherHost(target.to_owned())) }
}

impl Refusal {
    fn reply(&self) -> String {
        let (code, reason, status, message) = match self {
            Refusal::Malformed => {
                (400, "Bad Request", "INVALID_ARGUMENT", "this is no CONNECT request".to_owned())
            }
            Refusal::TooLong => (
                431,
                "Request Header Fields Too Large",
                "INVALID_ARGUMENT",
                format!("a CONNECT request has {HEAD_BYTES_MAX} bytes at most"),
            ),
            Refusal::OtherHost(target) => (
                403,
                "Forbidden",
                "PERMISSION_DENIED",
                format!(
                    "{target}: this proxy leads Google's APIs to Meuse and calls nobody; a host that the program may \
                     reach itself is named with `meuse env vertex --direct HOST`"
                ),
            ),
        };
        let body = serde_json::json!({
            "error": {"code": code, "message": message, "status": status, "details": []}
        })
        .to_string();
        // The reason is all that most clients show.
        let reason = if code == 403 { message.as_str() } else { reason };
        format!(
            "HTTP/1.1 {code} {reason}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_googles_hosts_are_led_here() {
        let ask = |target: &str| wanted(format!("CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        assert_eq!(ask("us-central1-aiplatform.googleapis.com:443"), Ok(()));
        assert_eq!(ask("US-KFP.pkg.dev:443"), Ok(()));
        for other in [
            "example.com:443",
            "169.254.169.254:443",
            "[::1]:443",
            "storage.googleapis.com:22",
            "storage.googleapis.com.evil.org:443",
        ] {
            assert_eq!(ask(other), Err(Refusal::OtherHost(other.to_owned())), "{other}");
        }
        for broken in ["", "x", ":443", "a b:443", "a\r\nX: y:443", "a\"b:443"] {
            assert_eq!(ask(broken), Err(Refusal::Malformed), "{broken}");
        }
        assert_eq!(wanted(b"COPY /x HTTP/1.1\r\n\r\n"), Err(Refusal::Malformed));
        assert_eq!(wanted(b"CONNECT \xff:443 HTTP/1.1\r\n\r\n"), Err(Refusal::Malformed));
    }

    async fn said(sent: &[u8]) -> (bool, String) {
        let (mut ours, mut theirs) = tokio::io::duplex(64 << 10);
        let sent = sent.to_vec();
        let client = tokio::spawn(async move {
            let _ = theirs.write_all(&sent).await;
            let _ = theirs.shutdown().await;
            let mut heard = String::new();
            theirs.read_to_string(&mut heard).await.unwrap();
            heard
        });
        let goes_on = answer(&mut ours).await;
        drop(ours);
        (goes_on, client.await.unwrap())
    }

    #[tokio::test]
    async fn what_is_too_long_or_too_early_is_refused() {
        let long = format!("CONNECT {}.googleapis.com:443 HTTP/1.1\r\n\r\n", "a".repeat(1 << 20));
        let (goes_on, heard) = said(long.as_bytes()).await;
        assert!(!goes_on && heard.starts_with("HTTP/1.1 431 "), "{heard}");
        let (goes_on, heard) = said(b"CONNECT a.pkg.dev:443 HTTP/1.1\r\n\r\n\x16").await;
        assert!(!goes_on && heard.starts_with("HTTP/1.1 400 "), "{heard}");
        let (goes_on, heard) = said(b"CONNECT a.pkg.dev:443 HTTP/1.1\r\nHost: a.pkg.dev:443\r\n\r\n").await;
        assert!(goes_on && heard == "HTTP/1.1 200 OK\r\n\r\n", "{heard}");
        assert_eq!(said(b"CONNECT a.pkg.dev:443 HTTP/1.1\r\n").await, (false, String::new()));
    }
}
