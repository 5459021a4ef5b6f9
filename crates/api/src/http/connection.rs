//! [`Watched`]: a connection's bytes with a watch on those who dawdle.
//!
//! hyper bounds the time of a request head; what it does not bound is a client that connects and says
//! nothing, one that never reads its reply, and an HTTP/2 connection that idles.

use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;

use super::Limits;
use super::tls::Stream;

/// What a connection has been doing. Times are milliseconds since it was opened.
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    last_read: AtomicU64,
    /// When a write first had to wait; 0 while none does.
    write_waits_since: AtomicU64,
    /// Requests taken in, ever.
    pub(super) requests: AtomicU64,
    /// Requests being answered.
    pub(super) open: AtomicUsize,
}

impl Activity {
    pub(super) fn new() -> Self {
        Activity {
            opened: Instant::now(),
            last_read: AtomicU64::new(0),
            write_waits_since: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            open: AtomicUsize::new(0),
        }
    }

    /// Whether the client has used up its time.
    pub(super) fn is_over(&self, limits: &Limits) -> bool {
        let now = self.now();
        let past = |since: u64, limit: Duration| u128::from(now.saturating_sub(since)) > limit.as_millis();
        let waits_since = self.write_waits_since.load(Ordering::Relaxed);
        if waits_since > 0 && past(waits_since, limits.write_timeout) {
            return true;
        }
        if self.open.load(Ordering::Relaxed) > 0 {
            return false;
        }
        let silent = past(self.last_read.load(Ordering::Relaxed), limits.head_timeout * 2);
        let never_asked = self.requests.load(Ordering::Relaxed) == 0 && past(0, limits.head_timeout * 2);
        silent || never_asked
    }

    /// Never 0, which means "not waiting".
    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }
}

/// A connection that notes its [`Activity`].
pub(super) struct Watched {
    stream: TokioIo<Stream>,
    activity: Arc<Activity>,
}

impl Watched {
    pub(super) fn new(stream: Stream, activity: Arc<Activity>) -> Self {
        Watched { stream: TokioIo::new(stream), activity }
    }

    fn wrote(&self, outcome: Poll<std::io::Result<usize>>) -> Poll<std::io::Result<usize>> {
        let waits_since = &self.activity.write_waits_since;
        if outcome.is_pending() {
            // The first wait counts, not the last.
            let _ =
                waits_since.compare_exchange(0, self.activity.now(), Ordering::Relaxed, Ordering::Relaxed);
        } else if waits_since.load(Ordering::Relaxed) != 0 {
            waits_since.store(0, Ordering::Relaxed);
        }
        outcome
    }
}

impl Read for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_read(cx, buf);
        if outcome.is_ready() {
            this.activity.last_read.store(this.activity.now(), Ordering::Relaxed);
        }
        outcome
    }
}

impl Write for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.wrote(outcome)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        let mut together = [0; TOGETHER_BYTES_MAX];
        let outcome = match joined(bufs, &mut together) {
            Some(bytes) => Pin::new(&mut this.stream).poll_write(cx, bytes),
            None => Pin::new(&mut this.stream).poll_write_vectored(cx, bufs),
        };
        this.wrote(outcome)
    }
}

/// Pieces of no more bytes are written as one: a copy takes less than the kernel's way through a list.
const TOGETHER_BYTES_MAX: usize = 2048;

/// All of `pieces` in `room`, if they fit.
fn joined<'a>(pieces: &[IoSlice<'_>], room: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut end = 0;
    for piece in pieces {
        room.get_mut(end..end + piece.len())?.copy_from_slice(piece);
        end += piece.len();
    }
    room.get(..end)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pieces_are_joined_where_they_fit() {
        let pieces = [IoSlice::new(b"head"), IoSlice::new(b""), IoSlice::new(b"body")];
        assert_eq!(joined(&pieces, &mut [0; 8]).unwrap(), b"headbody");
        assert_eq!(joined(&pieces, &mut [0; 7]), None);
    }

    #[test]
    fn silence_ends_a_connection_and_work_does_not() {
        let limits = Limits { head_timeout: Duration::ZERO, ..Limits::default() };
        let activity = Activity { opened: Instant::now() - Duration::from_secs(1), ..Activity::new() };
        assert!(activity.is_over(&limits));
        activity.open.store(1, Ordering::Relaxed);
        assert!(!activity.is_over(&limits));
        let patient = Limits::default();
        activity.open.store(0, Ordering::Relaxed);
        assert!(!activity.is_over(&patient));
    }

    #[test]
    fn an_unread_reply_ends_a_connection() {
        let limits = Limits { write_timeout: Duration::ZERO, ..Limits::default() };
        let activity = Activity { opened: Instant::now() - Duration::from_secs(1), ..Activity::new() };
        activity.open.store(1, Ordering::Relaxed);
        activity.write_waits_since.store(1, Ordering::Relaxed);
        assert!(activity.is_over(&limits));
    }
}
