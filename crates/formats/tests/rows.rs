//! Row files as they come in life: any cutting, any resume point, and what is wrong with them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use formats::Value;
use formats::rows::{CsvDecoder, JsonlDecoder, Limits, Position, RowFault, RowsError};

/// A deterministic source of small random numbers (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % below as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a [u8]]) -> &'a [u8] {
        from[self.roll(from.len())]
    }
}

type CsvRows = Vec<(u64, Vec<String>)>;

/// What a decoder gave, and every place at which it could have been stopped.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    rows: CsvRows,
    faults: Vec<RowFault>,
}

fn limits(row_bytes_max: usize) -> Limits {
    Limits { row_bytes_max, columns_max: 100 }
}

fn drain_csv(
    decoder: &mut CsvDecoder,
    max_rows: usize,
    out: &mut Outcome,
) -> Result<Vec<Position>, RowsError> {
    let mut places = Vec::new();
    while let Some(block) = decoder.take(max_rows)? {
        for row in 0..block.rows() {
            let cells = (0..block.columns()).map(|c| block.cell(row, c).to_owned()).collect();
            out.rows.push((block.row_number(row), cells));
        }
        out.faults.extend(decoder.take_faults());
        places.push(decoder.position());
        decoder.recycle(block);
    }
    Ok(places)
}

fn read_csv(text: &[u8], limits: Limits) -> Result<Outcome, RowsError> {
    let mut decoder = CsvDecoder::new(limits);
    decoder.push(text);
    decoder.finish();
    let mut out = Outcome::default();
    drain_csv(&mut decoder, usize::MAX, &mut out)?;
    Ok(out)
}

fn rows_of(text: &[u8]) -> Vec<Vec<String>> {
    let out = read_csv(text, Limits::default()).unwrap();
    assert_eq!(out.faults, [], "{:?}", String::from_utf8_lossy(text));
    out.rows.into_iter().map(|(_, cells)| cells).collect()
}

fn faults_of(text: &[u8]) -> Vec<(u64, String)> {
    read_csv(text, limits(64)).unwrap().faults.into_iter().map(|f| (f.row, f.reason)).collect()
}

#[test]
fn plain_and_quoted_rows() {
    let cases: [(&[u8], &[&[&str]]); 12] = [
        (b"a,b\n1,2\n3,4\n", &[&["1", "2"], &["3", "4"]]),
        (b"a,b\n1,2", &[&["1", "2"]]),
        (b"a,b\r\n1,2\r\n3,4\r\n", &[&["1", "2"], &["3", "4"]]),
        (b"a,b\r1,2\r3,4", &[&["1", "2"], &["3", "4"]]),
        (b"\xEF\xBB\xBFa,b\n1,2\n", &[&["1", "2"]]),
        (b"\n\na,b\n\n1,2\n\n\n", &[&["1", "2"]]),
        (b"a,b\n\"x,y\",\"line\nend\"\n", &[&["x,y", "line\nend"]]),
        (b"a,b\n\"say \"\"hi\"\"\",\"\"\n", &[&["say \"hi\"", ""]]),
        (b"a,b\n5\" pipe,it\"s\n", &[&["5\" pipe", "it\"s"]]),
        (b"a\n\"\"\nx\n", &[&[""], &["x"]]),
        (b"a,b\n,\n", &[&["", ""]]),
        ("a,b\nä,日本\n".as_bytes(), &[&["ä", "日本"]]),
    ];
    for (text, want) in cases {
        assert_eq!(rows_of(text), want, "{:?}", String::from_utf8_lossy(text));
    }
}

#[test]
fn a_faulty_row_is_named_and_the_file_goes_on() {
    let text = b"a,b\n1,2\n3\n4,5,6\n\xff,x\n\"q\"z,1\n7,\0\n8,9\n";
    let out = read_csv(text, limits(64)).unwrap();
    assert_eq!(out.rows, [(0, vec!["1".into(), "2".into()]), (6, vec!["8".into(), "9".into()])]);
    let faults: Vec<_> = out.faults.iter().map(|f| (f.row, f.reason.as_str())).collect();
    assert_eq!(
        faults,
        [
            (1, "expected 2 columns, found 1"),
            (2, "expected 2 columns, found 3"),
            (3, "column `a`: the text is not UTF-8"),
            (4, "column 1 goes on after its closing quote"),
            (5, "column `b`: a NUL byte in the text"),
        ]
    );
}

#[test]
fn two_cells_do_not_make_one_character() {
    // The two bytes of one character, one in each cell: neither cell is text.
    assert_eq!(faults_of(b"a,b\n\xC3,\xA4\n"), [(0, "column `a`: the text is not UTF-8".into())]);
    assert_eq!(faults_of(b"a,b\n\"\xC3\",\"\xA4\"\n"), [(0, "column `a`: the text is not UTF-8".into())]);
}

#[test]
fn an_unterminated_quote_is_one_fault() {
    let want = [(1, "the quote that opens column 2 is never closed".to_owned())];
    assert_eq!(faults_of(b"a,b\n1,2\n3,\"4\n5,6\n"), want);
}

#[test]
fn headers_that_cannot_be_used() {
    let cases: [(&[u8], RowsError); 8] = [
        (b"", RowsError::NoHeader),
        (b"\n\r\n", RowsError::NoHeader),
        (b"\xEF\xBB\xBF", RowsError::NoHeader),
        (b"a,b,a\n", RowsError::DuplicateColumn { name: "a".into(), first: 1, second: 3 }),
        (b"a,,b\n", RowsError::UnnamedColumn { number: 2 }),
        (b"a,\" \"\n", RowsError::UnnamedColumn { number: 2 }),
        (b"\xFF\xFEa\0", RowsError::Utf16),
        (b"a,\xFF\n", RowsError::BadHeader { reason: "column 2: the text is not UTF-8".into() }),
    ];
    for (text, error) in cases {
        assert_eq!(read_csv(text, Limits::default()).unwrap_err(), error, "{text:?}");
    }
    let wide = vec![b','; 200];
    assert_eq!(read_csv(&wide, limits(1000)).unwrap_err(), RowsError::TooManyColumns { max: 100 });
    let long = vec![b'x'; 100];
    let reason = "the row is longer than 64 bytes".to_owned();
    assert_eq!(read_csv(&long, limits(64)).unwrap_err(), RowsError::BadHeader { reason });
}

#[test]
fn an_endless_line_is_one_fault_in_little_memory() {
    for opening in [&b""[..], b"\""] {
        let mut decoder = CsvDecoder::new(limits(1 << 10));
        decoder.push(b"a,b\n1,2\n");
        decoder.push(opening);
        let mut out = Outcome::default();
        for _ in 0..256 {
            decoder.push(&[b'x'; 1 << 16]);
            drain_csv(&mut decoder, 100, &mut out).unwrap();
        }
        assert_eq!(decoder.position(), Position { offset: 8, row: 1 });
        decoder.push(opening);
        decoder.push(b",\n3,4\n");
        decoder.finish();
        drain_csv(&mut decoder, 100, &mut out).unwrap();
        let numbers: Vec<u64> = out.rows.iter().map(|row| row.0).collect();
        assert_eq!(numbers, [0, 2]);
        assert_eq!(out.faults, [RowFault { row: 1, reason: "the row is longer than 1024 bytes".into() }]);
    }
}

#[test]
fn numbers_of_a_block_and_the_cells_that_are_none() {
    let mut decoder = CsvDecoder::new(Limits::default());
    decoder.push(b"id,x,y\na,1,2.5\nb,,1\nc,nan,1\nd, -3 ,4e2\ne,1,abc\n");
    decoder.finish();
    let block = decoder.take(100).unwrap().unwrap();
    let columns = [block.column("y").unwrap(), block.column("x").unwrap()];
    let numbers = block.numbers(&columns);
    assert_eq!(numbers.values, [2.5, 1.0, 400.0, -3.0]);
    assert_eq!(numbers.rows, [0, 3]);
    let faults: Vec<_> = numbers.faults.iter().map(|f| (f.row, f.reason.as_str())).collect();
    assert_eq!(
        faults,
        [
            (1, "column `x`: the cell is empty where a number is expected"),
            (2, "column `x`: \"nan\" is not a finite float32 number"),
            (4, "column `y`: \"abc\" is not a number"),
        ]
    );
    let some = block.select(&[3, 0, 99]);
    assert_eq!((some.rows(), some.cell(0, 0), some.cell(1, 2), some.row_number(0)), (2, "d", "2.5", 3));
    assert_eq!((block.cell(0, 3), block.cell(9, 0)), ("", ""));
}

/// Pieces that make many kinds of right and wrong rows.
const PIECES: [&[u8]; 22] = [
    b"1",
    b"2.5",
    b",",
    b",",
    b",",
    b"\n",
    b"\n",
    b"\r\n",
    b"\r",
    b"\"",
    b"\"\"",
    b"\"a,b\"",
    b"\"x\ny\"",
    b"\xC3",
    b"\xA4",
    "ä".as_bytes(),
    b"\0",
    b"\xEF\xBB\xBF",
    b"text text text text",
    b"a,b\n",
    b"1,2\n",
    b"3,4\r\n",
];

#[test]
fn any_cutting_and_any_resume_point_give_the_same_rows() {
    let mut dice = Dice(42);
    for round in 0..3_000 {
        let mut text = b"a,b\n".to_vec();
        for _ in 0..dice.roll(40) {
            text.extend_from_slice(dice.pick(&PIECES));
        }
        let limits = limits([24, 64, 1 << 20][round % 3]);
        let whole = read_csv(&text, limits).unwrap();

        let mut decoder = CsvDecoder::new(limits);
        let mut out = Outcome::default();
        let mut places = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let end = (at + 1 + dice.roll([1, 3, 20][dice.0 as usize % 3])).min(text.len());
            decoder.push(&text[at..end]);
            at = end;
            if dice.roll(3) > 0 {
                let max_rows = 1 + dice.roll(3);
                places.extend(drain_csv(&mut decoder, max_rows, &mut out).unwrap());
            }
        }
        decoder.finish();
        places.extend(drain_csv(&mut decoder, 2, &mut out).unwrap());
        assert_eq!(out, whole, "{:?}", String::from_utf8_lossy(&text));

        for place in places {
            let mut decoder = CsvDecoder::resume_at(limits, vec!["a".into(), "b".into()], place);
            decoder.push(&text[place.offset as usize..]);
            decoder.finish();
            let mut rest = Outcome::default();
            drain_csv(&mut decoder, usize::MAX, &mut rest).unwrap();
            let want = Outcome {
                rows: whole.rows.iter().filter(|r| r.0 >= place.row).cloned().collect(),
                faults: whole.faults.iter().filter(|f| f.row >= place.row).cloned().collect(),
            };
            assert_eq!(rest, want, "{place:?} of {:?}", String::from_utf8_lossy(&text));
        }
    }
}

#[test]
fn written_rows_read_back() {
    let mut dice = Dice(7);
    for _ in 0..500 {
        let mut encoder = formats::rows::CsvEncoder::new();
        encoder.text_row(["a", "b"]);
        let mut want = Vec::new();
        for _ in 0..dice.roll(20) {
            let mut cells = Vec::new();
            for _ in 0..2 {
                let mut cell = String::new();
                for _ in 0..dice.roll(6) {
                    cell.push_str(["a", ",", "\"", "\n", "\r", "é", " ", "12"][dice.roll(8)]);
                }
                cells.push(cell);
            }
            encoder.text_row(&cells);
            want.push(cells);
        }
        assert_eq!(rows_of(&encoder.take()), want);
    }
}

type JsonRows = Vec<(u64, Value)>;

fn drain_json(
    decoder: &mut JsonlDecoder,
    max_rows: usize,
    rows: &mut JsonRows,
    faults: &mut Vec<RowFault>,
) -> Vec<Position> {
    let mut places = Vec::new();
    while let Some(some) = decoder.take(max_rows) {
        rows.extend(some);
        faults.extend(decoder.take_faults());
        places.push(decoder.position());
    }
    places
}

#[test]
fn json_lines_in_any_cutting_and_from_any_resume_point() {
    let pieces: [&[u8]; 12] = [
        b"{\"a\":1}\n",
        b"[1,2]\r\n",
        b"\n",
        b"nope\n",
        b"{\"a\":1,\"a\":2}\n",
        b"  \n",
        b"\"\xff\"\n",
        b"1",
        b"\n",
        b"2\n",
        b"\"long long long long long long\"\n",
        b"[[[",
    ];
    let mut dice = Dice(99);
    for round in 0..2_000 {
        let mut text = if round % 2 == 0 { b"\xEF\xBB\xBF".to_vec() } else { Vec::new() };
        for _ in 0..dice.roll(20) {
            text.extend_from_slice(dice.pick(&pieces));
        }
        let limits = limits(24);
        let read = |position: Position| {
            let mut decoder = JsonlDecoder::resume_at(limits, position);
            decoder.push(&text[position.offset as usize..]);
            decoder.finish();
            let (mut rows, mut faults) = (Vec::new(), Vec::new());
            drain_json(&mut decoder, usize::MAX, &mut rows, &mut faults);
            (rows, faults)
        };
        let whole = read(Position::default());

        let mut decoder = JsonlDecoder::new(limits);
        let (mut rows, mut faults, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for chunk in text.chunks(1 + dice.roll(9)) {
            decoder.push(chunk);
            places.extend(drain_json(&mut decoder, 1 + dice.roll(2), &mut rows, &mut faults));
        }
        decoder.finish();
        places.extend(drain_json(&mut decoder, 1, &mut rows, &mut faults));
        assert_eq!((&rows, &faults), (&whole.0, &whole.1), "{:?}", String::from_utf8_lossy(&text));
        for place in places {
            let (rest, rest_faults) = read(place);
            assert!(rest.iter().eq(whole.0.iter().filter(|r| r.0 >= place.row)), "{place:?}");
            assert!(rest_faults.iter().eq(whole.1.iter().filter(|f| f.row >= place.row)), "{place:?}");
        }
    }
}

#[test]
fn json_faults_say_what_and_where() {
    let mut decoder = JsonlDecoder::new(limits(64));
    decoder.push(b"{\"a\":1}\n{\"a\":\n{\"a\":1,\"a\":2}\n9007199254740993\n[1] 2\n");
    decoder.finish();
    let rows = decoder.take(100).unwrap();
    assert_eq!(rows, [(0, Value::Record(vec![("a".into(), Value::Number(1.0))]))]);
    let faults: Vec<_> = decoder.take_faults().into_iter().map(|f| (f.row, f.reason)).collect();
    assert_eq!(faults[0], (1, "not JSON: EOF while parsing a value at column 5".into()));
    assert_eq!(faults[1], (2, "field `a` occurs twice".into()));
    assert!(faults[2].1.contains("2^53"), "{faults:?}");
    assert_eq!(faults[3], (4, "not JSON: trailing characters at column 5".into()));
}

#[test]
fn an_endless_json_line_is_one_fault() {
    let mut decoder = JsonlDecoder::new(limits(1 << 10));
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    for _ in 0..256 {
        decoder.push(&[b'['; 1 << 16]);
        drain_json(&mut decoder, 10, &mut rows, &mut faults);
    }
    assert_eq!(decoder.position(), Position::default());
    decoder.push(b"\n7\n");
    drain_json(&mut decoder, 10, &mut rows, &mut faults);
    assert_eq!(rows, [(1, Value::Number(7.0))]);
    assert_eq!(faults, [RowFault { row: 0, reason: "the row is longer than 1024 bytes".into() }]);
}
