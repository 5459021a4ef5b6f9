//! A value as the text that a cell of a CSV file would hold.

use super::schema::Meaning;
use super::values::Scalar;
use crate::rows::encode::{not_finite, push_integer};

/// Writes `value`, of a column of `meaning`, at the end of `out`.
pub(super) fn write(out: &mut Vec<u8>, value: Scalar<'_>, meaning: Meaning) {
    match value {
        Scalar::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        Scalar::Bytes(bytes) => out.extend_from_slice(bytes),
        Scalar::Float(value) if value.is_finite() => {
            out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
        }
        Scalar::Double(value) if value.is_finite() => {
            out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
        }
        Scalar::Float(value) => write_not_finite(out, f64::from(value)),
        Scalar::Double(value) => write_not_finite(out, value),
        Scalar::Integer(value) => write_integer(out, value, meaning),
    }
}

/// A NaN is what tables have where a number is missing.
fn write_not_finite(out: &mut Vec<u8>, value: f64) {
    if !value.is_nan() {
        out.extend_from_slice(not_finite(value).as_bytes());
    }
}

fn write_integer(out: &mut Vec<u8>, value: i64, meaning: Meaning) {
    match meaning {
        Meaning::Plain => push_integer(out, value < 0, value.unsigned_abs()),
        Meaning::Unsigned32 => push_integer(out, false, u64::from(value as u32)),
        Meaning::Unsigned64 => push_integer(out, false, value as u64),
        Meaning::Decimal(decimals) => {
            if value < 0 {
                out.push(b'-');
            }
            let (whole, part) = split(value.unsigned_abs(), decimals);
            push_integer(out, false, whole);
            push_part(out, part, decimals);
        }
        Meaning::Date => push_date(out, value),
        Meaning::Timestamp { decimals, utc } => {
            let unit = 10i64.pow(decimals);
            let (seconds, part) = (value.div_euclid(unit), value.rem_euclid(unit));
            push_date(out, seconds.div_euclid(86_400));
            out.push(b'T');
            push_time(out, seconds.rem_euclid(86_400), part, decimals);
            if utc {
                out.push(b'Z');
            }
        }
        Meaning::Time { decimals } => {
            let unit = 10i64.pow(decimals);
            push_time(out, value.div_euclid(unit), value.rem_euclid(unit), decimals);
        }
    }
}

fn split(magnitude: u64, decimals: u32) -> (u64, u64) {
    let unit = 10u64.pow(decimals);
    (magnitude / unit, magnitude % unit)
}

/// The decimals of a number, if it has any that are not 0.
fn push_part(out: &mut Vec<u8>, part: u64, decimals: u32) {
    if decimals > 0 && part > 0 {
        out.extend_from_slice(format!(".{part:0width$}", width = decimals as usize).as_bytes());
    }
}

fn push_time(out: &mut Vec<u8>, seconds: i64, part: i64, decimals: u32) {
    let (hours, minutes) = (seconds.div_euclid(3600), seconds.rem_euclid(3600) / 60);
    out.extend_from_slice(format!("{hours:02}:{minutes:02}:{:02}", seconds.rem_euclid(60)).as_bytes());
    push_part(out, part.unsigned_abs(), decimals);
}

/// The day that is `days` after the first of 1970, in the calendar of today, also before it was in use: years begin in
/// March here, so that the leap day is the last.
fn push_date(out: &mut Vec<u8>, days: i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carried) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    out.extend_from_slice(format!("{:04}-{month:02}-{day:02}", year + era * 400 + carried).as_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn text(value: Scalar<'_>, meaning: Meaning) -> String {
        let mut out = Vec::new();
        write(&mut out, value, meaning);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_are_cells() {
        let utc = |decimals| Meaning::Timestamp { decimals, utc: true };
        for (value, meaning, cell) in [
            (i64::MIN, Meaning::Plain, "-9223372036854775808"),
            (-1, Meaning::Unsigned64, "18446744073709551615"),
            (-1, Meaning::Unsigned32, "4294967295"),
            (-12_345, Meaning::Decimal(2), "-123.45"),
            (-5, Meaning::Decimal(2), "-0.05"),
            (700, Meaning::Decimal(2), "7"),
            (0, Meaning::Date, "1970-01-01"),
            (-1, Meaning::Date, "1969-12-31"),
            (19_782, Meaning::Date, "2024-02-29"),
            (-719_162, Meaning::Date, "0001-01-01"),
            (1_709_210_096_789, utc(3), "2024-02-29T12:34:56.789Z"),
            (-1, utc(6), "1969-12-31T23:59:59.999999Z"),
            (0, Meaning::Timestamp { decimals: 9, utc: false }, "1970-01-01T00:00:00"),
            (45_296_000_000, Meaning::Time { decimals: 6 }, "12:34:56"),
        ] {
            assert_eq!(text(Scalar::Integer(value), meaning), cell);
        }
        for (value, cell) in [
            (Scalar::Double(0.1), "0.1"),
            (Scalar::Float(0.1), "0.1"),
            (Scalar::Double(f64::NAN), ""),
            (Scalar::Float(f32::NEG_INFINITY), "-inf"),
            (Scalar::Bool(true), "true"),
            (Scalar::Bytes("Liège".as_bytes()), "Liège"),
        ] {
            assert_eq!(text(value, Meaning::Plain), cell);
        }
        for extreme in [i64::MIN, i64::MAX] {
            assert!(!text(Scalar::Integer(extreme), utc(3)).is_empty());
            assert!(!text(Scalar::Integer(extreme), Meaning::Time { decimals: 3 }).is_empty());
        }
    }
}
