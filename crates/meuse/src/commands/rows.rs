//! Rows of files on this machine, as instances to send.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use formats::rows::{CsvDecoder, Limits, RowBlock};
use serde_json::{Map, Value, json};

use super::tables::texts;
use crate::client::{Client, is_uri};
use crate::failure::{Failure, Result, on_file};

/// The column names of a CSV file.
pub(crate) fn header(path: &Path) -> Result<Vec<String>> {
    let mut file = std::fs::File::open(path).map_err(on_file(path, "reading"))?;
    let mut decoder = CsvDecoder::new(Limits::default());
    let mut buffer = vec![0; 64 << 10];
    loop {
        let n = file.read(&mut buffer).map_err(on_file(path, "reading"))?;
        if n == 0 {
            decoder.finish();
        }
        decoder.push(buffer.get(..n).unwrap_or_default());
        decoder.take(1).map_err(|e| Failure::new(format!("{}: {e}", path.display())))?;
        if let Some(names) = decoder.names() {
            return Ok(names.to_vec());
        }
        if n == 0 {
            return Err(Failure::new(format!("{} has no header line", path.display())));
        }
    }
}

/// The names of files in `column` of a table, each once: not addresses, and not files in base64.
pub(crate) fn files_named(path: &Path, column: &str) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    texts(path, None, |name, cell| {
        if name == column && is_file_name(cell) {
            names.insert(cell.to_owned());
        }
    })?;
    Ok(names)
}

/// The columns whose cell in the first row of a table names an image file that lies beside it.
pub(crate) fn image_columns(path: &Path) -> Result<BTreeSet<String>> {
    let directory = path.parent().unwrap_or(Path::new(""));
    let mut columns = BTreeSet::new();
    texts(path, Some(1), |column, cell| {
        if is_file_name(cell) && directory.join(cell).is_file() {
            columns.insert(column.to_owned());
        }
    })?;
    Ok(columns)
}

/// Whether a cell names an image file that lies beside the table.
fn is_file_name(cell: &str) -> bool {
    let lower = cell.to_ascii_lowercase();
    !cell.contains("://") && [".png", ".jpg", ".jpeg", ".webp"].iter().any(|ending| lower.ends_with(ending))
}

/// Makes a file readable for the server, as [`Client::reachable`] does; of a local table also the images beside it that its
/// rows name. A local directory is given as a folder's address, with a `/` at its end.
///
/// # Errors
/// If a file cannot be read or the server refuses.
pub(crate) async fn reachable(client: &Client, path_or_uri: &str) -> Result<String> {
    let uri = client.reachable(path_or_uri).await?;
    let path = Path::new(path_or_uri);
    if is_uri(path_or_uri) || path.is_dir() {
        let folder = !is_uri(path_or_uri);
        return Ok(if folder { format!("{uri}/") } else { uri });
    }
    let directory = path.parent().unwrap_or(Path::new(""));
    // What is no table, the server says better.
    for column in image_columns(path).unwrap_or_default() {
        // What is not there becomes a failed row.
        for name in files_named(path, &column)?.into_iter().filter(|name| directory.join(name).is_file()) {
            client.put_beside(&uri, &name, &directory.join(&name)).await?;
        }
    }
    Ok(uri)
}

/// Instances in `text`, whose form follows from the file's extension: `.json` a list, `.jsonl` one a line,
/// `.csv` one a row, anything else one text a line.
pub(crate) fn instances(text: &str, extension: &str) -> Result<Vec<Value>> {
    match extension {
        "json" => match serde_json::from_str(text) {
            Ok(Value::Array(list)) => Ok(list),
            Ok(one) => Ok(vec![one]),
            Err(error) => Err(Failure::usage(format!("not JSON: {error}"))),
        },
        "jsonl" | "ndjson" => lines(text)
            .map(|(n, line)| {
                serde_json::from_str(line).map_err(|e| Failure::usage(format!("line {n} is not JSON: {e}")))
            })
            .collect(),
        "csv" => records(text),
        _ => Ok(lines(text).map(|(_, line)| json!(line)).collect()),
    }
}

/// Lines that say something, each with its number from 1.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(i, line)| (i + 1, line.trim())).filter(|(_, line)| !line.is_empty())
}

/// One object a row. The cells of a column are numbers if all of them are.
fn records(text: &str) -> Result<Vec<Value>> {
    let blocks = blocks(text)?;
    let Some(first) = blocks.first() else { return Ok(Vec::new()) };
    let numeric: Vec<bool> = (0..first.columns()).map(|c| blocks.iter().all(|b| is_numeric(b, c))).collect();
    let mut records = Vec::new();
    for block in &blocks {
        for row in 0..block.rows() {
            let cell = |(c, name): (usize, &String)| {
                let text = block.cell(row, c);
                let number =
                    numeric.get(c).copied().unwrap_or(false).then(|| text.trim().parse::<f64>().ok());
                (name.clone(), number.flatten().map_or_else(|| json!(text), |n| json!(n)))
            };
            records.push(Value::Object(block.names().iter().enumerate().map(cell).collect::<Map<_, _>>()));
        }
    }
    Ok(records)
}

fn is_numeric(block: &RowBlock, column: usize) -> bool {
    (0..block.rows()).all(|row| block.cell(row, column).trim().parse::<f64>().is_ok_and(f64::is_finite))
}

/// All rows of the CSV text; one that cannot be read is an error here, where a person waits.
pub(crate) fn blocks(text: &str) -> Result<Vec<RowBlock>> {
    let mut decoder = CsvDecoder::new(Limits::default());
    decoder.push(text.as_bytes());
    decoder.finish();
    let mut blocks = Vec::new();
    while let Some(block) = decoder.take(4096).map_err(|e| Failure::usage(e.to_string()))? {
        blocks.push(block);
    }
    match decoder.take_faults().first() {
        None => Ok(blocks),
        Some(fault) => Err(Failure::usage(format!("row {}: {}", fault.row + 1, fault.reason))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn forms_follow_from_the_extension() {
        assert_eq!(instances("a\n\n b \n", "txt").unwrap(), [json!("a"), json!("b")]);
        assert_eq!(instances("[1, [2]]", "json").unwrap(), [json!(1), json!([2])]);
        assert_eq!(instances("{\"x\": 1}\n2\n", "jsonl").unwrap(), [json!({"x": 1}), json!(2)]);
        let rows = instances("n,t\n1,a\n2.5,7\n", "csv").unwrap();
        assert_eq!(rows, [json!({"n": 1.0, "t": "a"}), json!({"n": 2.5, "t": "7"})]);
        assert!(instances("{", "jsonl").unwrap_err().what().contains("line 1"));
    }
}
