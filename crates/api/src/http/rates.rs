//! How much of a minute's is left, in headers that every protocol has: `RateLimit-Policy` and `RateLimit`, as
//! draft-ietf-httpapi-ratelimit-headers has them.

use std::time::Duration;

use control::Rates;
use http::header::{HeaderMap, HeaderName, HeaderValue};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LEFT: HeaderName = HeaderName::from_static("ratelimit");

/// Writes them, where something is limited.
pub(super) fn write(rates: &Rates, headers: &mut HeaderMap) {
    let kinds = [("requests", rates.requests), ("tokens", rates.tokens)];
    let (mut policy, mut left) = (Line::default(), Line::default());
    for (name, rate) in kinds.iter().filter_map(|(name, rate)| rate.map(|rate| (name, rate))) {
        policy.add(name, [("q", rate.limit), ("w", 60)]);
        left.add(name, [("r", rate.left), ("t", seconds(rate.reset))]);
    }
    for (name, line) in [(POLICY, policy), (LEFT, left)] {
        if let Ok(value) = HeaderValue::try_from(line.0)
            && !value.is_empty()
        {
            headers.insert(name, value);
        }
    }
}

/// Named items, each with two figures. It is written for every answer: without formatting.
#[derive(Default)]
struct Line(Vec<u8>);

impl Line {
    fn add(&mut self, name: &str, figures: [(&str, u64); 2]) {
        let Line(bytes) = self;
        bytes.reserve(LINE_BYTES);
        bytes.extend_from_slice(if bytes.is_empty() { b"\"" } else { b", \"" });
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(b'"');
        for (figure, value) in figures {
            bytes.push(b';');
            bytes.extend_from_slice(figure.as_bytes());
            bytes.push(b'=');
            bytes.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        }
    }
}

/// Bytes of most items.
const LINE_BYTES: usize = 48;

/// Whole seconds, no fewer than there are.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use control::Rate;

    use super::*;

    #[test]
    fn what_is_limited_is_told() {
        let mut headers = HeaderMap::new();
        write(&Rates::default(), &mut headers);
        assert!(headers.is_empty());
        let rate = Rate { limit: 60, left: 59, reset: Duration::from_millis(1001) };
        write(&Rates { requests: Some(rate), tokens: Some(rate) }, &mut headers);
        assert_eq!(headers[POLICY], "\"requests\";q=60;w=60, \"tokens\";q=60;w=60");
        assert_eq!(headers[LEFT], "\"requests\";r=59;t=2, \"tokens\";r=59;t=2");
    }
}
