//! Finding the bytes that structure a row, eight at a time in plain integers.

const ONES: u64 = 0x0101_0101_0101_0101;
const LOWS: u64 = 0x7F7F_7F7F_7F7F_7F7F;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The top bit of each byte is 0 exactly where the byte of `word` is `needle`; the other bits mean nothing.
fn differs(word: u64, needle: u8) -> u64 {
    let x = word ^ (ONES.wrapping_mul(u64::from(needle)));
    ((x & LOWS).wrapping_add(LOWS)) | x
}

/// Bit `i` of the result is the top bit of byte `i` of `word`.
fn gather_tops(word: u64) -> u64 {
    ((word & HIGHS) >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

/// Bit `i` is set where byte `i` is a comma, a line feed, a carriage return or a quote.
fn mask_of(block: &[u8; 64]) -> u64 {
    let (words, _) = block.as_chunks::<8>();
    let mut mask = 0;
    for (i, word) in words.iter().enumerate() {
        let w = u64::from_le_bytes(*word);
        let none = differs(w, b',') & differs(w, b'\n') & differs(w, b'\r') & differs(w, b'"');
        mask |= gather_tops(!none) << (8 * i);
    }
    mask
}

/// The places of commas, line ends and quotes, in order.
pub(super) struct Marks<'a> {
    bytes: &'a [u8],
    /// Start of the 64 bytes that `mask` is about.
    block: usize,
    /// Marks of the block not yet given.
    mask: u64,
}

impl<'a> Marks<'a> {
    pub(super) fn new(bytes: &'a [u8], from: usize) -> Self {
        Marks { bytes, block: from, mask: Self::mask_at(bytes, from) }
    }

    fn mask_at(bytes: &[u8], from: usize) -> u64 {
        let rest = bytes.get(from..).unwrap_or_default();
        match rest.first_chunk::<64>() {
            Some(block) => mask_of(block),
            None => {
                let mut block = [0; 64];
                block[..rest.len()].copy_from_slice(rest);
                mask_of(&block)
            }
        }
    }
}

impl Iterator for Marks<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.mask == 0 {
            if self.block + 64 >= self.bytes.len() {
                return None;
            }
            self.block += 64;
            self.mask = Self::mask_at(self.bytes, self.block);
        }
        let place = self.block + self.mask.trailing_zeros() as usize;
        self.mask &= self.mask - 1;
        Some(place)
    }
}

/// The first place of `needle`.
pub(super) fn find(bytes: &[u8], needle: u8) -> Option<usize> {
    let (words, tail) = bytes.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let hits = !differs(u64::from_le_bytes(*word), needle) & HIGHS;
        if hits != 0 {
            return Some(i * 8 + hits.trailing_zeros() as usize / 8);
        }
    }
    let done = words.len() * 8;
    tail.iter().position(|&b| b == needle).map(|i| done + i)
}

/// How far the reading of one CSV row has come, byte by byte: the definition of where cells and rows end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CellState {
    /// At the start of a cell.
    Start,
    /// In a cell without quotes; a quote here is a character like others.
    Plain,
    /// In a quoted cell.
    Quoted,
    /// In a quoted cell, just after a quote: the end of it, or the first half of a doubled one.
    QuoteSeen,
}

/// What the next byte does to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// Belongs to the cell.
    Byte,
    /// Structure within the cell: an opening or a first quote.
    Quote,
    /// Belongs to the cell though the cell's quotes were closed.
    Stray,
    /// Ends the cell.
    CellEnd,
    /// Ends the row.
    RowEnd,
}

impl CellState {
    /// The state after `byte`, and what the byte was.
    pub(super) fn step(self, byte: u8) -> (CellState, Event) {
        use CellState::{Plain, QuoteSeen, Quoted, Start};
        match (self, byte) {
            (Quoted, b'"') => (QuoteSeen, Event::Quote),
            (Quoted, _) => (Quoted, Event::Byte),
            (_, b',') => (Start, Event::CellEnd),
            (_, b'\n' | b'\r') => (Start, Event::RowEnd),
            (Start, b'"') => (Quoted, Event::Quote),
            (QuoteSeen, b'"') => (Quoted, Event::Byte),
            (QuoteSeen, _) => (Plain, Event::Stray),
            (Start | Plain, _) => (Plain, Event::Byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_the_structural_bytes() {
        let mut bytes = vec![b'x'; 300];
        let places = [0, 1, 7, 8, 63, 64, 65, 127, 200, 299];
        for (i, &p) in places.iter().enumerate() {
            bytes[p] = b",\n\r\""[i % 4];
        }
        for from in 0..70 {
            let want: Vec<usize> = places.iter().copied().filter(|&p| p >= from).collect();
            assert_eq!(Marks::new(&bytes, from).collect::<Vec<_>>(), want, "from {from}");
        }
        assert_eq!(Marks::new(b"", 0).next(), None);
    }

    #[test]
    fn every_byte_value_is_told_apart() {
        for b in 0..=255u8 {
            let block = [b; 64];
            assert_eq!(mask_of(&block) != 0, b",\n\r\"".contains(&b), "byte {b}");
            assert_eq!(find(&[b; 9], b'\n').is_some(), b == b'\n', "byte {b}");
        }
        assert_eq!(find(b"0123456789\n", b'\n'), Some(10));
        assert_eq!(find(b"\xff\x01\n\x01", b'\n'), Some(2));
    }
}
