//! [`texts`]: the texts in the rows of a table on this machine, however it is written.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use formats::Value;
use formats::rows::parquet::{ParquetFailure, ParquetReader, Source};
use formats::rows::{CsvDecoder, JsonlDecoder, Limits, Position, RowBlock};

use super::batch::InputFormat;
use crate::failure::{Failure, Result, on_file};

/// Rows that are decoded at a time.
const ROWS: usize = 1024;

/// Tells `found` the column and the text of every cell in the first `rows` rows of the table at `path`, or in all. What
/// is no row is left to the server, which says so.
///
/// # Errors
/// If the file cannot be read, or is none of its kind.
pub(crate) fn texts(path: &Path, rows: Option<usize>, mut found: impl FnMut(&str, &str)) -> Result<()> {
    let rows = rows.unwrap_or(usize::MAX);
    match InputFormat::of(&path.to_string_lossy().to_ascii_lowercase()) {
        InputFormat::Csv => csv(path, rows, &mut found),
        InputFormat::Jsonl => jsonl(path, rows, &mut found),
        InputFormat::Parquet => parquet(path, rows, &mut found),
    }
}

type Found<'a> = &'a mut dyn FnMut(&str, &str);

fn csv(path: &Path, mut rows: usize, found: Found<'_>) -> Result<()> {
    let mut decoder = CsvDecoder::new(Limits::default());
    pieces(path, |piece| {
        match piece {
            Some(bytes) => decoder.push(bytes),
            None => decoder.finish(),
        }
        while rows > 0
            && let Some(block) = decoder.take(rows.min(ROWS)).map_err(|e| unreadable(path, &e))?
        {
            rows = rows.saturating_sub(block.rows());
            cells(&block, found);
        }
        Ok(rows > 0)
    })
}

fn jsonl(path: &Path, mut rows: usize, found: Found<'_>) -> Result<()> {
    let mut decoder = JsonlDecoder::new(Limits::default());
    pieces(path, |piece| {
        match piece {
            Some(bytes) => decoder.push(bytes),
            None => decoder.finish(),
        }
        while rows > 0
            && let Some(values) = decoder.take(rows.min(ROWS))
        {
            rows = rows.saturating_sub(values.len());
            values.iter().for_each(|(_, value)| fields(value, found));
        }
        Ok(rows > 0)
    })
}

fn parquet(path: &Path, mut rows: usize, found: Found<'_>) -> Result<()> {
    let file = File::open(path).map_err(on_file(path, "reading"))?;
    let size = file.metadata().map_err(on_file(path, "reading"))?.len();
    let failed = |failure| match failure {
        ParquetFailure::Source(error) => on_file(path, "reading")(error),
        ParquetFailure::File(error) => unreadable(path, &error),
    };
    let source = LocalFile { file, size };
    let mut reader =
        ParquetReader::resume_at(source, Limits::default(), Position::default()).map_err(failed)?;
    while rows > 0
        && let Some(block) = reader.take(rows.min(ROWS)).map_err(failed)?
    {
        rows = rows.saturating_sub(block.rows());
        cells(&block, found);
    }
    Ok(())
}

/// Hands the file over piece by piece, `None` at its end, until `take` has enough.
fn pieces(path: &Path, mut take: impl FnMut(Option<&[u8]>) -> Result<bool>) -> Result<()> {
    let mut file = File::open(path).map_err(on_file(path, "reading"))?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let n = file.read(&mut buffer).map_err(on_file(path, "reading"))?;
        let piece = buffer.get(..n).filter(|piece| !piece.is_empty());
        if !take(piece)? || piece.is_none() {
            return Ok(());
        }
    }
}

fn cells(block: &RowBlock, found: Found<'_>) {
    for row in 0..block.rows() {
        for (column, name) in block.names().iter().enumerate() {
            found(name, block.cell(row, column));
        }
    }
}

/// The texts of a row: fields, also within an `instance` that has others beside it, or the row itself.
fn fields(row: &Value, found: Found<'_>) {
    match row {
        Value::Text(text) => found("", text),
        Value::Record(fields) => {
            for (name, value) in fields {
                match value {
                    Value::Text(text) => found(name, text),
                    Value::Record(_) if name == "instance" => self::fields(value, found),
                    // As Vertex describes a file.
                    value => {
                        if let Some(Value::Text(text)) = value.get("content") {
                            found(name, text);
                        }
                    }
                }
            }
        }
        _ => {}
    }
}

fn unreadable(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("{}: {why}", path.display()))
}

/// A Parquet file on this machine.
struct LocalFile {
    file: File,
    size: u64,
}

impl Source for LocalFile {
    type Error = std::io::Error;

    fn size(&self) -> u64 {
        self.size
    }

    fn read(&mut self, range: Range<u64>) -> std::io::Result<Vec<u8>> {
        let length = range.end.saturating_sub(range.start);
        self.file.seek(SeekFrom::Start(range.start))?;
        let mut bytes = Vec::new();
        (&self.file).take(length).read_to_end(&mut bytes)?;
        match bytes.len() as u64 == length {
            true => Ok(bytes),
            false => Err(std::io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn all(name: &str, content: &str, rows: Option<usize>) -> Vec<(String, String)> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        let mut found = Vec::new();
        texts(&path, rows, |column, text| found.push((column.to_owned(), text.to_owned()))).unwrap();
        found
    }

    #[test]
    fn texts_of_every_row() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(all("a.csv", "n,t\n1,x\n2,y\n", Some(1)), [pair("n", "1"), pair("t", "x")]);
        let lines =
            "{\"t\": \"x\", \"n\": 1}\nnonsense\n\"y\"\n{\"instance\": {\"t\": \"z\"}, \"label\": \"l\"}";
        let found = all("a.jsonl", lines, None);
        assert_eq!(found, [pair("t", "x"), pair("", "y"), pair("t", "z"), pair("label", "l")]);
        assert!(texts(Path::new("absent.parquet"), None, |_, _| {}).is_err());
    }
}
