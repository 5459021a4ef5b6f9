//! [`as_written`]: the number that a reader of a prediction file sees.

/// The `f64` that a reader gets from the shortest decimal of an `f32`.
///
/// Models answer in `f32`, and predictions are written as the shortest decimal that reads back as that `f32`:
/// `0.1`, not `0.10000000149011612`. Whoever recomputes a figure from such a file works with `0.1`. The metrics do
/// the same, so that both agree to the last digits.
pub fn as_written(value: f32) -> f64 {
    let wide = f64::from(value);
    // Small whole numbers, and 0 and 1 above all, are their own decimal.
    if wide.fract() == 0.0 && wide.abs() < 16_777_216.0 || !wide.is_finite() {
        return wide;
    }
    let mut text = Text::default();
    match std::fmt::write(&mut text, format_args!("{value:e}")) {
        Ok(()) => text.as_str().parse().unwrap_or(wide),
        Err(_) => wide,
    }
}

/// A shortest `f32` in exponent form has at most 15 bytes (`-1.17549435e-38`).
#[derive(Default)]
struct Text {
    bytes: [u8; 24],
    len: usize,
}

impl Text {
    fn as_str(&self) -> &str {
        std::str::from_utf8(self.bytes.get(..self.len).unwrap_or_default()).unwrap_or_default()
    }
}

impl std::fmt::Write for Text {
    fn write_str(&mut self, part: &str) -> std::fmt::Result {
        let end = self.len + part.len();
        self.bytes.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(part.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_the_shortest_decimal() {
        for (value, expected) in [
            (0.1_f32, 0.1_f64),
            (0.7, 0.7),
            (0.0, 0.0),
            (1.0, 1.0),
            (-3.5, -3.5),
            (1.0e-7, 1.0e-7),
            (f32::MIN_POSITIVE, 1.175_494_4e-38),
            (f32::MAX, 3.402_823_5e38),
            (16_777_217.0, 16_777_216.0),
        ] {
            assert_eq!(as_written(value), expected, "{value}");
        }
        assert!(as_written(f32::NAN).is_nan());
        assert_eq!(as_written(f32::NEG_INFINITY), f64::NEG_INFINITY);
    }
}
