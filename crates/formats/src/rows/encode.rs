//! [`CsvEncoder`] and [`write_json_line`]: rows to bytes.

use serde::Serialize;

/// Writes CSV as RFC 4180 has it, with LF as line end: a cell is quoted if it must be, numbers are the
/// shortest text that reads back as the same number.
#[derive(Debug, Default)]
pub struct CsvEncoder {
    out: Vec<u8>,
    /// Cells written in the current row.
    cells: usize,
    /// Length of `out` where the current row starts.
    row_start: usize,
}

impl CsvEncoder {
    /// An encoder with nothing written.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a row of texts, such as the header.
    pub fn text_row<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        for cell in cells {
            self.text(cell.as_ref());
        }
        self.end_row();
    }

    /// Writes a cell that is a text.
    pub fn text(&mut self, cell: &str) {
        self.separate();
        if !cell.bytes().any(|b| matches!(b, b',' | b'"' | b'\n' | b'\r')) {
            self.out.extend_from_slice(cell.as_bytes());
            return;
        }
        self.out.push(b'"');
        for (i, part) in cell.split('"').enumerate() {
            if i > 0 {
                self.out.extend_from_slice(b"\"\"");
            }
            self.out.extend_from_slice(part.as_bytes());
        }
        self.out.push(b'"');
    }

    /// Writes a cell that is a float32. Not-finite ones are `nan`, `inf` and `-inf`, as Python reads them.
    pub fn float32(&mut self, cell: f32) {
        self.separate();
        match cell.is_finite() {
            true => self.out.extend_from_slice(zmij::Buffer::new().format_finite(cell).as_bytes()),
            false => self.out.extend_from_slice(not_finite(f64::from(cell)).as_bytes()),
        }
    }

    /// As [`CsvEncoder::float32`], for a float64. Whole numbers up to 2^53 have no fraction.
    pub fn float64(&mut self, cell: f64) {
        if cell.fract() == 0.0 && cell.abs() <= (1u64 << 53) as f64 {
            return self.integer(cell as i64);
        }
        self.separate();
        match cell.is_finite() {
            true => self.out.extend_from_slice(zmij::Buffer::new().format_finite(cell).as_bytes()),
            false => self.out.extend_from_slice(not_finite(cell).as_bytes()),
        }
    }

    /// Writes a cell that is an integer.
    pub fn integer(&mut self, cell: i64) {
        self.separate();
        push_integer(&mut self.out, cell < 0, cell.unsigned_abs());
    }

    /// Ends the row. A row of one empty cell is written as `""`, since a blank line is no row.
    pub fn end_row(&mut self) {
        if self.cells == 1 && self.out.len() == self.row_start {
            self.out.extend_from_slice(b"\"\"");
        }
        self.out.push(b'\n');
        self.cells = 0;
        self.row_start = self.out.len();
    }

    /// The bytes written so far. Take them between rows.
    pub fn as_bytes(&self) -> &[u8] {
        &self.out
    }

    /// Gives the bytes written so far and forgets them.
    pub fn take(&mut self) -> Vec<u8> {
        self.row_start = 0;
        std::mem::take(&mut self.out)
    }

    fn separate(&mut self) {
        if self.cells > 0 {
            self.out.push(b',');
        }
        self.cells += 1;
    }
}

/// Writes an integer at the end of `out`.
pub(super) fn push_integer(out: &mut Vec<u8>, negative: bool, magnitude: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = magnitude;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if negative {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

pub(super) fn not_finite(number: f64) -> &'static str {
    match number {
        n if n.is_nan() => "nan",
        n if n > 0.0 => "inf",
        _ => "-inf",
    }
}

/// Appends `row` and a line end to `out` as one line of JSON Lines.
///
/// # Errors
/// If the row refuses to serialise; `out` is then as before.
pub fn write_json_line<T: Serialize + ?Sized>(out: &mut Vec<u8>, row: &T) -> Result<(), serde_json::Error> {
    let start = out.len();
    if let Err(error) = serde_json::to_writer(&mut *out, row) {
        out.truncate(start);
        return Err(error);
    }
    out.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn cells_are_quoted_only_where_they_must_be() {
        let mut encoder = CsvEncoder::new();
        encoder.text_row(["a", "b c", "d,e", "f\"g", "h\ni", "", " j "]);
        encoder.text_row([""]);
        encoder.text_row(["", ""]);
        let want = "a,b c,\"d,e\",\"f\"\"g\",\"h\ni\",, j \n\"\"\n,\n";
        assert_eq!(String::from_utf8(encoder.take()).unwrap(), want);
        assert!(encoder.as_bytes().is_empty());
    }

    #[test]
    fn numbers_read_back_as_they_were() {
        let mut encoder = CsvEncoder::new();
        let numbers = [0.1f32, 1.0, -2.5e-20, f32::MAX, f32::MIN_POSITIVE, 1e-45, 16_777_216.0, 0.333_333_34];
        for n in numbers {
            encoder.float32(n);
        }
        encoder.float64(0.1);
        encoder.float64(-3.0);
        encoder.float64(f64::NAN);
        encoder.integer(i64::MIN);
        encoder.integer(0);
        encoder.end_row();
        let line = String::from_utf8(encoder.take()).unwrap();
        let cells: Vec<&str> = line.trim_end().split(',').collect();
        for (cell, n) in cells.iter().zip(numbers) {
            assert_eq!(cell.parse::<f32>().unwrap().to_bits(), n.to_bits(), "{cell}");
            assert!(cell.len() <= 14, "{cell}");
        }
        assert_eq!(cells[numbers.len()..], ["0.1", "-3", "nan", "-9223372036854775808", "0"]);
    }

    #[test]
    fn a_json_line_is_one_line() {
        let mut out = Vec::new();
        write_json_line(&mut out, &["a\nb"]).unwrap();
        write_json_line(&mut out, &1).unwrap();
        assert_eq!(out, b"[\"a\\nb\"]\n1\n");
    }
}
