//! [`Limits`]: everything that a client could otherwise size or hold.

use std::time::Duration;

/// What a client may take of the server.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections open at once; one more is answered 503 and closed.
    pub connections_max: usize,
    /// Time for a whole request head, counted from when the connection is ready for one: it bounds a
    /// slow head and an idle keep-alive connection alike.
    pub head_timeout: Duration,
    /// Bytes of a request head.
    pub head_bytes_max: usize,
    /// Fields in a request head.
    pub headers_max: usize,
    /// Time for a whole buffered body, and for each piece of a streamed one.
    pub body_timeout: Duration,
    /// Bytes of a buffered body.
    pub body_bytes_max: usize,
    /// Bytes of all bodies buffered at once, whoever sends them.
    pub bodies_bytes_max: usize,
    /// Time that a client may leave a reply unread.
    pub write_timeout: Duration,
    /// Streams open at once on one HTTP/2 connection.
    pub streams_max: u32,
    /// Time for one online prediction, its queue included.
    pub predict_timeout: Duration,
    /// Time for one explanation, its queue included.
    pub explain_timeout: Duration,
    /// Time for one answer of a language model, its queue included.
    pub answer_timeout: Duration,
    /// The longest that one `:wait` waits.
    pub wait_timeout: Duration,
    /// Time to finish what is running once asked to stop.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_max: 10_000,
            head_timeout: Duration::from_secs(30),
            head_bytes_max: 64 << 10,
            headers_max: 100,
            body_timeout: Duration::from_secs(60),
            body_bytes_max: 32 << 20,
            bodies_bytes_max: 1 << 30,
            write_timeout: Duration::from_secs(30),
            streams_max: 128,
            predict_timeout: Duration::from_secs(60),
            explain_timeout: Duration::from_secs(120),
            answer_timeout: Duration::from_secs(600),
            wait_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(30),
        }
    }
}
