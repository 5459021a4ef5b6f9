//! How much of a minute's is left, in this protocol's headers: `anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}`.

use control::{Rates, Timestamp};
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Writes them, where something is limited.
pub(super) fn write(rates: &Rates, headers: &mut HeaderMap) {
    for (kind, rate) in [("requests", rates.requests), ("tokens", rates.tokens)] {
        let Some(rate) = rate else { continue };
        let seconds = i64::try_from(rate.reset.as_millis().div_ceil(1000)).unwrap_or_default();
        let reset = Timestamp::from_second(Timestamp::now().as_second().saturating_add(seconds));
        let reset = reset.unwrap_or(Timestamp::MAX);
        let fields = [
            ("limit", rate.limit.to_string()),
            ("remaining", rate.left.to_string()),
            ("reset", reset.to_string()),
        ];
        for (field, value) in fields {
            let name = HeaderName::try_from(format!("anthropic-ratelimit-{kind}-{field}"));
            if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
                headers.insert(name, value);
            }
        }
    }
}
