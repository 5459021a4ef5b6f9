//! How much of a minute's is left, in headers that every protocol has: `RateLimit-Policy` and `RateLimit`, as
//! draft-ietf-httpapi-ratelimit-headers has them.

use control::{Rate, Rates};
use http::header::{HeaderMap, HeaderName, HeaderValue};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LEFT: HeaderName = HeaderName::from_static("ratelimit");

/// Writes them, where something is limited.
pub(super) fn write(rates: &Rates, headers: &mut HeaderMap) {
    let kinds = [("requests", rates.requests), ("tokens", rates.tokens)];
    let each = |item: fn(&str, Rate) -> String| {
        let items = kinds.iter().filter_map(|(name, rate)| rate.map(|rate| item(name, rate)));
        items.collect::<Vec<_>>().join(", ")
    };
    if rates.requests.is_none() && rates.tokens.is_none() {
        return;
    }
    let policy = each(|name, rate| format!("\"{name}\";q={};w=60", rate.limit));
    let left = each(|name, rate| format!("\"{name}\";r={};t={}", rate.left, rate.reset.as_secs_f64().ceil()));
    for (name, value) in [(POLICY, policy), (LEFT, left)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
