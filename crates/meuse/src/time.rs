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
}
