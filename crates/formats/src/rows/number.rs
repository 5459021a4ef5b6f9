//! [`parse_number`]: the number in a cell.

/// A cell that holds no number that a model can take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Nothing, or blanks only.
    #[error("the cell is empty where a number is expected")]
    Empty,
    /// Another text.
    #[error("{0:?} is not a number")]
    NotANumber(String),
    /// NaN, an infinity, or beyond the range of float32.
    #[error("{0:?} is not a finite float32 number")]
    NotFinite(String),
}

/// How much of a cell an error quotes, in characters.
const QUOTED_CHARS: usize = 40;

/// Powers of ten that an `f64` holds exactly.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// Reads a decimal number, blanks around it allowed, correctly rounded to `f64`. Narrowing the result
/// with `as f32` gives what the same number gives in a JSON request.
///
/// # Errors
/// If the cell is empty, holds something else, or would not be finite as float32.
pub fn parse_number(cell: &str) -> Result<f64, NumberError> {
    if let Some(number) = parse_short(cell.as_bytes()) {
        return Ok(number);
    }
    let trimmed = cell.trim_ascii();
    if trimmed.is_empty() {
        return Err(NumberError::Empty);
    }
    match trimmed.parse::<f64>() {
        Ok(number) if (number as f32).is_finite() => Ok(number),
        Ok(_) => Err(NumberError::NotFinite(quote(trimmed))),
        Err(_) => Err(NumberError::NotANumber(quote(trimmed))),
    }
}

fn quote(cell: &str) -> String {
    match cell.char_indices().nth(QUOTED_CHARS) {
        Some((end, _)) => format!("{}…", cell.get(..end).unwrap_or_default()),
        None => cell.to_owned(),
    }
}

/// `-12.345`: at most 15 digits and no exponent. Digits and power of ten are then both exact in an `f64`,
/// so that one division rounds correctly (Clinger 1990).
fn parse_short(cell: &[u8]) -> Option<f64> {
    let (negative, digits) = match cell {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    let mut mantissa: u64 = 0;
    let mut point = None;
    for (i, &byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
        } else if byte == b'.' && point.is_none() {
            point = Some(i);
        } else {
            return None;
        }
    }
    let count = digits.len() - usize::from(point.is_some());
    if count == 0 || count > 15 {
        return None;
    }
    let decimals = point.map_or(0, |p| digits.len() - p - 1);
    let magnitude = mantissa as f64 / EXACT_POWERS[decimals.min(22)];
    Some(if negative { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_read_as_the_standard_library_reads_them() {
        let mut state = 1u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let digits = (state >> 33) % 16 + 1;
            let whole = (state >> 7) % 10u64.pow(digits as u32 - 1).max(1);
            let decimals = ((state >> 50) % 10) as usize;
            for text in [
                format!("{whole}"),
                format!("-{whole}.{decimals}"),
                format!("{:.*}", decimals, whole as f64 / 1e5),
                format!(".{whole}"),
                format!("{whole}."),
            ] {
                assert_eq!(
                    parse_number(&text).unwrap().to_bits(),
                    text.parse::<f64>().unwrap().to_bits(),
                    "{text}"
                );
            }
        }
        assert_eq!(parse_number(" 1.5e3\t"), Ok(1500.0));
        assert_eq!(parse_number("-0").unwrap().to_bits(), (-0.0f64).to_bits());
        assert_eq!(parse_number("+7"), Ok(7.0));
    }

    #[test]
    fn what_is_not_a_finite_number_is_refused() {
        for text in ["", "  ", "\t"] {
            assert_eq!(parse_number(text), Err(NumberError::Empty), "{text:?}");
        }
        for text in ["a", "1,5", "1.2.3", ".", "-", "0x10", "1_000", "12 000", "--1"] {
            assert_eq!(parse_number(text), Err(NumberError::NotANumber(text.into())), "{text:?}");
        }
        for text in ["nan", "NaN", "inf", "-Infinity", "1e39", "-1e400"] {
            assert_eq!(parse_number(text), Err(NumberError::NotFinite(text.into())), "{text:?}");
        }
        let long = "x".repeat(1000);
        assert!(parse_number(&long).unwrap_err().to_string().len() < 100);
    }
}
