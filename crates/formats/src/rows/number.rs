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
    Some(scaled(negative, mantissa, decimals))
}

/// `mantissa / 10^decimals`, both exact in an `f64`.
fn scaled(negative: bool, mantissa: u64, decimals: usize) -> f64 {
    // Signed integers convert in one instruction.
    let magnitude = mantissa as i64 as f64 / EXACT_POWERS[decimals.min(22)];
    // The sign of random numbers cannot be predicted, so that a branch on it would cost more than the rest.
    f64::from_bits(magnitude.to_bits() | u64::from(negative) << 63)
}

/// As [`parse_short`] for the cell at `start..end` of a longer text: sixteen bytes at once, no loop.
pub(super) fn parse_within(text: &[u8], start: usize, end: usize) -> Option<f64> {
    const ZEROS: u128 = u128::from_ne_bytes([b'0'; 16]);
    const DOTS: u128 = u128::from_ne_bytes([b'.'; 16]);
    const SIXES: u128 = u128::from_ne_bytes([6; 16]);
    const UPPER: u128 = u128::from_ne_bytes([0xF0; 16]);
    const LOWS: u128 = u128::from_ne_bytes([0x7F; 16]);

    let negative = text.get(start) == Some(&b'-');
    let len = end.checked_sub(start + usize::from(negative))?;
    if len == 0 || len > 16 {
        return None;
    }
    // The last character is the highest byte. What stands before the number becomes leading zeros.
    let word = u128::from_le_bytes(*text.get(..end)?.last_chunk::<16>()?);
    let cell = u128::MAX << (8 * (16 - len));
    let mut word = (word & cell) | (ZEROS & !cell);

    let other = word ^ DOTS;
    let dots = !(((other & LOWS) + LOWS) | other | LOWS);
    let mut decimals = 0;
    if dots != 0 {
        if dots & (dots - 1) != 0 {
            return None;
        }
        // Closes the gap: the characters before the point move up by one.
        let point = dots.trailing_zeros() & !7;
        decimals = 15 - point as usize / 8;
        let before = word & ((1 << point) - 1);
        let after = word & !((1u128 << point) - 1) & !(0xFF << point);
        word = after | before << 8 | u128::from(b'0');
    }
    let digits = len - usize::from(dots != 0);
    let all_digits = word & UPPER == ZEROS & UPPER && word.wrapping_add(SIXES) & UPPER == ZEROS & UPPER;
    if digits == 0 || digits > 15 || !all_digits {
        return None;
    }
    let mantissa = eight_digits(word as u64) * 100_000_000 + eight_digits((word >> 64) as u64);
    Some(scaled(negative, mantissa, decimals))
}

/// The number that eight ASCII digits spell, the first in the lowest byte: pairs, then fours, then all.
fn eight_digits(word: u64) -> u64 {
    let pairs = (word & 0x0F0F_0F0F_0F0F_0F0F).wrapping_mul(2561) >> 8;
    let fours = (pairs & 0x00FF_00FF_00FF_00FF).wrapping_mul(6_553_601) >> 16;
    (fours & 0x0000_FFFF_0000_FFFF).wrapping_mul(42_949_672_960_001) >> 32
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
                let want = text.parse::<f64>().unwrap().to_bits();
                assert_eq!(parse_number(&text).unwrap().to_bits(), want, "{text}");
                let within = format!("9.9-7,1e9,0000000000,{text}");
                let found = parse_within(within.as_bytes(), within.len() - text.len(), within.len());
                assert!(found.is_none_or(|n| n.to_bits() == want), "{text}");
                assert_eq!(found.is_some(), parse_short(text.as_bytes()).is_some(), "{text}");
            }
        }
        assert_eq!(parse_number(" 1.5e3\t"), Ok(1500.0));
        assert_eq!(parse_number("-0").unwrap().to_bits(), (-0.0f64).to_bits());
        assert_eq!(parse_number("+7"), Ok(7.0));
    }

    #[test]
    fn texts_of_any_characters_read_the_same_within_others() {
        let mut state = 7u64;
        for _ in 0..200_000 {
            let mut text = String::new();
            for _ in 0..17 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let pick = (state >> 40) as usize;
                if pick.is_multiple_of(13) {
                    break;
                }
                text.push(char::from(
                    b"0123456789012345678901234567890123456789.-+e/:\x80 "[(pick / 13) % 48] & 0x7F,
                ));
            }
            let within = format!("0123456789.12345{text}");
            let found = parse_within(within.as_bytes(), 16, within.len());
            assert_eq!(found.map(f64::to_bits), parse_short(text.as_bytes()).map(f64::to_bits), "{text:?}");
        }
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
