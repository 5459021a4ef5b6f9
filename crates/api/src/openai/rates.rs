//! How much of a minute's is left, in this protocol's headers: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`.

use control::Rates;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Writes them, where something is limited.
pub(super) fn write(rates: &Rates, headers: &mut HeaderMap) {
    for (kind, rate) in [("requests", rates.requests), ("tokens", rates.tokens)] {
        let Some(rate) = rate else { continue };
        let ms = rate.reset.as_millis();
        let reset = match ms.div_ceil(1000) {
            0 | 1 => format!("{ms}ms"),
            seconds @ ..60 => format!("{seconds}s"),
            seconds => format!("{}m{}s", seconds / 60, seconds % 60),
        };
        let fields =
            [("limit", rate.limit.to_string()), ("remaining", rate.left.to_string()), ("reset", reset)];
        for (field, value) in fields {
            let name = HeaderName::try_from(format!("x-ratelimit-{field}-{kind}"));
            if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
                headers.insert(name, value);
            }
        }
    }
}
