//! Tables as rows for a model: JSON in pandas' two orientations, and CSV.

use formats::Value;
use formats::rows::{CsvDecoder, Limits, parse_number};
use serde::Deserialize;
use serving::Model;
use tensor::DataType;
use tensor::features::ColumnKind;

use crate::Fault;

/// The most rows that one request may bring.
const ROWS_MAX: usize = 1 << 20;

/// `pandas.DataFrame.to_dict(orient="split")`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Split {
    columns: Vec<String>,
    data: Vec<Value>,
    /// Names of rows, of which nothing comes of.
    #[serde(default)]
    #[allow(dead_code, reason = "named so that it is taken")]
    index: Option<serde::de::IgnoredAny>,
}

impl Split {
    /// The rows as objects by column.
    pub(super) fn rows(self, model: &Model) -> Result<Vec<Value>, Fault> {
        let Split { columns, data, .. } = self;
        let rows = data.into_iter().enumerate().map(|(i, row)| {
            let cells = match row {
                Value::Numbers(numbers) => numbers.into_iter().map(Value::Number).collect(),
                Value::List(cells) => cells,
                other => {
                    let kind = other.kind();
                    return Err(Fault::invalid(format!("row {i} of `data` must be a list, not {kind}")));
                }
            };
            if cells.len() != columns.len() {
                let (found, wanted) = (cells.len(), columns.len());
                return Err(Fault::invalid(format!(
                    "row {i} of `data` has {found} cells for {wanted} columns"
                )));
            }
            Ok(instance(model, columns.iter().cloned().zip(cells).collect()))
        });
        rows.collect()
    }
}

/// The rows of `dataframe_records`.
pub(super) fn of_records(model: &Model, records: Vec<Value>) -> Result<Vec<Value>, Fault> {
    let rows = records.into_iter().enumerate().map(|(i, record)| match record {
        Value::Record(fields) => Ok(instance(model, fields)),
        other => {
            let kind = other.kind();
            Err(Fault::invalid(format!("record {i} must be an object by column, not {kind}")))
        }
    });
    rows.collect()
}

/// The rows of CSV whose first line names the columns.
pub(super) fn of_csv(model: &Model, bytes: &[u8]) -> Result<Vec<Value>, Fault> {
    let mut decoder = CsvDecoder::new(Limits::default());
    decoder.push(bytes);
    decoder.finish();
    let block = decoder.take(ROWS_MAX).map_err(|e| Fault::invalid(e.to_string()))?;
    if let Some(fault) = decoder.take_faults().first() {
        return Err(Fault::invalid(format!("row {}: {}", fault.row, fault.reason)));
    }
    let block = block.ok_or_else(|| Fault::invalid("the table has no rows"))?;
    if decoder.take(1).map_err(|e| Fault::invalid(e.to_string()))?.is_some() {
        return Err(Fault::invalid(format!("the table has more than {ROWS_MAX} rows")));
    }
    let numeric: Vec<bool> = block.names().iter().map(|name| is_numeric(model, name)).collect();
    let rows = (0..block.rows()).map(|row| {
        let cells = block.names().iter().zip(&numeric).enumerate().map(|(column, (name, numeric))| {
            let cell = block.cell(row, column);
            let value = match *numeric {
                false => Value::Text(cell.to_owned()),
                true => Value::Number(
                    parse_number(cell)
                        .map_err(|e| Fault::invalid(format!("row {row}: column `{name}`: {e}")))?,
                ),
            };
            Ok((name.clone(), value))
        });
        Ok(instance(model, cells.collect::<Result<_, Fault>>()?))
    });
    rows.collect()
}

/// Whether cells of the column are numbers to the model: a table of text does not say.
fn is_numeric(model: &Model, column: &str) -> bool {
    if let Some(columns) = model.columns() {
        return columns.iter().any(|c| c.name == column && c.kind == ColumnKind::Number);
    }
    let inputs = &model.ports().inputs;
    let own = inputs.iter().find(|spec| spec.name == column).or(inputs.first());
    own.is_some_and(|spec| spec.data_type != DataType::Text)
}

/// A row as the model takes it: by column, or for a network with one input that no column is named after, all cells in
/// their order.
fn instance(model: &Model, row: Vec<(String, Value)>) -> Value {
    let lone = match model.ports().inputs.as_slice() {
        [only] if model.columns().is_none() => !row.iter().any(|(name, _)| *name == only.name),
        _ => false,
    };
    if !lone {
        return Value::Record(row);
    }
    let number = |value: &Value| if let Value::Number(number) = value { Some(*number) } else { None };
    match row.iter().map(|(_, value)| number(value)).collect::<Option<Vec<f64>>>() {
        Some(numbers) => Value::Numbers(numbers),
        None => Value::List(row.into_iter().map(|(_, value)| value).collect()),
    }
}
