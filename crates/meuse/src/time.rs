//! Times as people type them.

/// Reads `90s`, `30m`, `12h`, `30d`, `8w`.
pub(crate) fn span(text: &str) -> std::result::Result<jiff::SignedDuration, String> {
    let wrong = || format!("`{text}` is no time; write a number and s, m, h, d or w, such as 30d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let number: i64 =
        text.strip_suffix(unit).and_then(|n| n.parse().ok()).filter(|n| *n > 0).ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(wrong()),
    };
    number.checked_mul(seconds).map(jiff::SignedDuration::from_secs).ok_or_else(wrong)
}

/// Reads `250ms`, `2s`, `1.5s`.
pub(crate) fn moment(text: &str) -> std::result::Result<std::time::Duration, String> {
    let wrong = || format!("`{text}` is no short time; write a number and ms or s, such as 250ms");
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s').ok_or_else(wrong)?, 1.0),
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * unit).filter(|seconds| *seconds > 0.0);
    std::time::Duration::try_from_secs_f64(seconds.ok_or_else(wrong)?).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn spans_are_read() {
        assert_eq!(span("30d").unwrap(), jiff::SignedDuration::from_hours(720));
        for wrong in ["", "d", "30", "-1d", "0d", "30y", "999999999999999999w"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }
    #[test]
    fn moments_are_read() {
        assert_eq!(moment("250ms").unwrap(), std::time::Duration::from_millis(250));
        assert_eq!(moment("1.5s").unwrap(), std::time::Duration::from_millis(1500));
        for wrong in ["", "ms", "s", "10", "0ms", "-1s", "1m", "nans", "infs", "1e300s"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }
}
