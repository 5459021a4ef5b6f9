#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ops::Range;

use super::*;
use crate::rows::{Limits, Position, RowFault};

/// The same 24 rows, in two groups, as eight writers put them.
const CORPUS: [&[u8]; 8] = [
    include_bytes!("../../../../../fuzz/corpus/parquet/plain"),
    include_bytes!("../../../../../fuzz/corpus/parquet/dictionary"),
    include_bytes!("../../../../../fuzz/corpus/parquet/deltas"),
    include_bytes!("../../../../../fuzz/corpus/parquet/split"),
    include_bytes!("../../../../../fuzz/corpus/parquet/second"),
    include_bytes!("../../../../../fuzz/corpus/parquet/second-deltas"),
    include_bytes!("../../../../../fuzz/corpus/parquet/old"),
    include_bytes!("../../../../../fuzz/corpus/parquet/checksums"),
];

/// A file in memory, which says what is read of it.
struct Memory<'a>(&'a [u8]);

impl Source for Memory<'_> {
    type Error = std::convert::Infallible;

    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&mut self, range: Range<u64>) -> Result<Vec<u8>, Self::Error> {
        Ok(self.0[range.start as usize..range.end as usize].to_vec())
    }
}

type Found = (Vec<Vec<String>>, Vec<RowFault>);

fn rows(bytes: &[u8], limits: Limits, row: u64, by: usize) -> Result<Found, ParquetError> {
    let file = |failure| match failure {
        ParquetFailure::File(error) => error,
        ParquetFailure::Source(never) => match never {},
    };
    let mut reader =
        ParquetReader::resume_at(Memory(bytes), limits, Position { offset: 0, row }).map_err(file)?;
    let (mut found, mut faults) = (Vec::new(), Vec::new());
    while let Some(block) = reader.take(by).map_err(file)? {
        for row in 0..block.rows() {
            found.push((0..block.columns()).map(|column| block.cell(row, column).to_owned()).collect());
        }
        faults.extend(reader.take_faults());
    }
    Ok((found, faults))
}

fn all(bytes: &[u8]) -> Result<Found, ParquetError> {
    rows(bytes, Limits::default(), 0, 2048)
}

#[test]
fn every_way_of_writing_gives_the_same_cells() {
    let (expected, faults) = all(CORPUS[0]).unwrap();
    assert!(faults.is_empty());
    assert_eq!(expected.len(), 24);
    assert_eq!(
        expected[2],
        [
            "2",
            "-4611686011453819102",
            "2.857142857142857e-10",
            "false",
            "",
            "x",
            "2024-03-01T01:59:59.123456"
        ]
    );
    assert_eq!(expected[3], ["3", "", "", "", "Namur, \"sur\" Meuse", "", ""]);
    for bytes in CORPUS {
        assert_eq!(all(bytes).unwrap().0, expected);
    }
}

#[test]
fn a_reader_goes_on_where_another_stood() {
    for bytes in CORPUS {
        let (expected, _) = all(bytes).unwrap();
        for row in 0..=expected.len() + 1 {
            let rest = expected.get(row..).unwrap_or_default();
            assert_eq!(rows(bytes, Limits::default(), row as u64, 5).unwrap().0, rest, "from row {row}");
        }
    }
}

#[test]
fn long_rows_and_texts_that_are_none_are_faults() {
    let limits = Limits { row_bytes_max: 80, ..Limits::default() };
    let (good, faults) = rows(CORPUS[0], limits, 0, 2048).unwrap();
    assert!(!good.is_empty() && !faults.is_empty());
    assert_eq!(good.len() + faults.len(), 24);
    assert!(faults.iter().all(|fault| fault.reason == "the row is longer than 80 bytes"));
    let place = CORPUS[0].windows(6).position(|bytes| bytes == "Liège".as_bytes()).unwrap();
    let mut bytes = CORPUS[0].to_vec();
    bytes[place] = 0xFF;
    let (_, faults) = all(&bytes).unwrap();
    assert_eq!(faults, [RowFault { row: 0, reason: "column `text`: the text is not UTF-8".to_owned() }]);
}

#[test]
fn what_is_cut_off_or_no_such_file_is_refused() {
    for length in [0, 3, 11, 12, 100] {
        assert_eq!(all(&vec![b'x'; length]), Err(ParquetError::NotParquet));
    }
    for bytes in CORPUS {
        for length in 0..bytes.len() {
            assert!(all(&bytes[..length]).is_err(), "cut to {length} bytes");
        }
    }
    let mut long = b"PAR1".to_vec();
    long.extend(u32::MAX.to_le_bytes());
    long.extend(b"PAR1");
    assert_eq!(all(&long), Err(ParquetError::Footer("it is longer than the file")));
    assert_eq!(all(b"PAR1\0\0\0\0PARE"), Err(ParquetError::Encrypted));
}

#[test]
fn a_damaged_file_is_refused_or_read_and_never_more() {
    let mut state = 5u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for round in 0..40_000 {
        let mut bytes = CORPUS[round % CORPUS.len()].to_vec();
        for _ in 0..1 + random(3) {
            let place = random(bytes.len());
            bytes[place] = [random(256) as u8, 0xFF, 0x7F, 0, bytes[place] ^ 1 << random(8)][random(5)];
        }
        if let Ok((rows, faults)) = all(&bytes) {
            assert!(rows.len() + faults.len() < 1 << 20);
        }
    }
}

#[test]
fn a_checksum_that_is_wrong_is_told() {
    let mut bytes = CORPUS[7].to_vec();
    let place = bytes.windows(6).position(|part| part == "Liège".as_bytes()).unwrap();
    bytes[place] ^= 1;
    let reason = "a page has not the checksum that it had when it was written";
    assert_eq!(all(&bytes), Err(ParquetError::Damaged { column: "text".to_owned(), reason }));
}

/// A file of one column with one page, as a liar would write it.
mod liar {
    use super::*;

    fn varint(mut value: u64, out: &mut Vec<u8>) {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }

    fn zigzag(value: i64, out: &mut Vec<u8>) {
        varint((value << 1 ^ value >> 63) as u64, out);
    }

    /// A field that is an integer, `step` after the one before.
    fn integer(step: u8, value: i64, out: &mut Vec<u8>) {
        out.push(step << 4 | 5);
        zigzag(value, out);
    }

    /// A page's header: its kind, sizes, and the fields of the header of its kind.
    fn page(kind: i64, unpacked: i64, bytes: &[u8], field: u8, values: i64, encoding: i64) -> Vec<u8> {
        let mut out = Vec::new();
        integer(1, kind, &mut out);
        integer(1, unpacked, &mut out);
        integer(1, bytes.len() as i64, &mut out);
        out.push((field - 3) << 4 | 12);
        integer(1, values, &mut out);
        integer(1, encoding, &mut out);
        out.extend([0, 0]);
        out.extend(bytes);
        out
    }

    fn file(pages: &[u8], physical: i64, codec: i64, rows: i64) -> Vec<u8> {
        let mut out = b"PAR1".to_vec();
        out.extend(pages);
        let start = out.len();
        integer(1, 1, &mut out);
        out.extend([0x19, 0x2C, 0x48, 1, b'r']);
        integer(1, 1, &mut out);
        out.push(0);
        integer(1, physical, &mut out);
        integer(2, 0, &mut out);
        out.extend([0x18, 1, b'c', 0]);
        integer(1, rows, &mut out);
        out.extend([0x19, 0x1C, 0x19, 0x1C, 0x3C]);
        integer(4, codec, &mut out);
        integer(3, pages.len() as i64, &mut out);
        integer(2, 4, &mut out);
        out.extend([0, 0]);
        integer(2, rows, &mut out);
        out.extend([0, 0]);
        let length = (out.len() - start) as u32;
        out.extend(length.to_le_bytes());
        out.extend(b"PAR1");
        out
    }

    fn refused(bytes: &[u8]) -> String {
        all(bytes).unwrap_err().to_string()
    }

    #[test]
    fn an_honest_file_of_one_page_is_read() {
        let numbers = [7i32.to_le_bytes(), (-7i32).to_le_bytes()].concat();
        let bytes = file(&page(0, 8, &numbers, 5, 2, 0), 1, 0, 2);
        assert_eq!(all(&bytes).unwrap().0, [["7"], ["-7"]]);
    }

    #[test]
    fn more_rows_than_the_pages_hold_or_fewer() {
        let numbers = [0; 8];
        let short = file(&page(0, 8, &numbers, 5, 2, 0), 1, 0, 3);
        assert_eq!(refused(&short), "column `c` is damaged: it has fewer values than there are rows");
        let long = file(&page(0, 8, &numbers, 5, 2, 0), 1, 0, 1);
        assert_eq!(refused(&long), "column `c` is damaged: it holds more values than there are rows");
        let lying = file(&page(0, 8, &numbers, 5, 1 << 30, 0), 1, 0, 1 << 20);
        assert_eq!(refused(&lying), "column `c` is damaged: it holds more values than there are rows");
    }

    #[test]
    fn more_than_the_file_can_unpack_to() {
        // One run that says the same value 2^31 times.
        let mut run = vec![1];
        varint(1 << 32, &mut run);
        run.push(0);
        let mut pages = page(2, 4, &[0; 4], 7, 1, 0);
        pages.extend(page(0, run.len() as i64, &run, 5, i64::from(i32::MAX), 8));
        let bomb = file(&pages, 1, 0, i64::from(i32::MAX));
        assert!(refused(&bomb).starts_with("it unpacks to more than 1000 times its size"));
        // A long text that is referred to by every row.
        let text = [&(1u32 << 20).to_le_bytes()[..], &vec![b'x'; 1 << 20]].concat();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut packed, &text).unwrap();
        let packed = packed.finish().unwrap();
        let mut pages = page(2, text.len() as i64, &packed, 7, 1, 0);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut gzip, &run).unwrap();
        pages.extend(page(0, run.len() as i64, &gzip.finish().unwrap(), 5, 1 << 20, 8));
        assert!(refused(&file(&pages, 6, 2, 1 << 20)).starts_with("it unpacks to more than"));
    }

    #[test]
    fn pages_that_are_not_of_the_size_that_they_state() {
        let huge = file(&page(0, 1 << 30, &[0; 8], 5, 2, 0), 1, 1, 2);
        assert!(refused(&huge).contains("a page is larger than 64 MiB"), "{}", refused(&huge));
        // Snappy's own length, 2^31.
        let own = [0x80, 0x80, 0x80, 0x80, 0x08, 0];
        let snappy = file(&page(0, 8, &own, 5, 2, 0), 1, 1, 2);
        assert!(refused(&snappy).contains("does not unpack to the size"), "{}", refused(&snappy));
        let mut zeros = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut zeros, &vec![0; 100 << 20]).unwrap();
        let bomb = file(&page(0, 8, &zeros.finish().unwrap(), 5, 2, 0), 1, 2, 2);
        assert!(refused(&bomb).contains("does not unpack to the size"), "{}", refused(&bomb));
    }

    #[test]
    fn counts_that_nothing_can_hold() {
        let dictionary = page(2, 4, &[0; 4], 7, i64::from(i32::MAX), 0);
        assert_eq!(refused(&file(&dictionary, 6, 0, 2)), "column `c` is damaged: it ends too early");
        // Blocks of differences of which there are 2^40.
        let mut deltas = Vec::new();
        [128, 4, 1 << 40, 0].iter().for_each(|&number| varint(number, &mut deltas));
        let differences = page(0, deltas.len() as i64, &deltas, 5, 2, 5);
        assert!(refused(&file(&differences, 1, 0, 2)).contains("more values than it states"));
        // A list of 2^40 row groups.
        let mut footer = vec![0x49, 0xFC];
        varint(1 << 40, &mut footer);
        footer.push(0);
        let mut bytes = b"PAR1".to_vec();
        bytes.extend(&footer);
        bytes.extend((footer.len() as u32).to_le_bytes());
        bytes.extend(b"PAR1");
        assert_eq!(refused(&bytes), "its footer is damaged: it ends too early");
    }
}
