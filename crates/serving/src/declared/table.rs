//! [`TableInput`]: cells of a table to rows of a network's input.

use std::collections::HashMap;

use formats::Value;
use formats::processing::{Column, Table};
use formats::rows::parse_number;
use tensor::{Data, DataType, Signature};

use super::{Cell, Filling, find, takes};

/// How cells become rows of one input.
pub(super) struct TableInput {
    input: String,
    data_type: DataType,
    columns: Vec<Step>,
}

/// How a cell becomes a number.
struct Step {
    column: Column,
    /// The places of its categories.
    places: HashMap<String, f64>,
}

impl TableInput {
    pub(super) fn new(table: Table, signature: &Signature) -> Result<Self, String> {
        let spec = find(signature, table.input.as_deref())?;
        takes(spec, &[table.columns.len()])?;
        let step = |column: Column| {
            let categories = column.categories.iter().flatten().enumerate();
            Step { places: categories.map(|(place, text)| (text.clone(), place as f64)).collect(), column }
        };
        let columns = table.columns.into_iter().map(step).collect();
        Ok(TableInput { input: spec.name.clone(), data_type: spec.data_type, columns })
    }

    pub(super) fn filling(&self) -> Filling {
        let data = match self.data_type {
            DataType::I32 => Data::I32(Vec::new()),
            DataType::F32 | DataType::Text => Data::F32(Vec::new()),
        };
        Filling { name: self.input.clone(), row: vec![self.columns.len()], data }
    }

    /// The cell that stands for nothing known: what is missing, if something is said of that; else 0 or the first
    /// category.
    pub(super) fn nothing_known(&self, place: usize) -> Value {
        let column = self.columns.get(place).map(|step| &step.column);
        match column.map(|column| (column.missing, &column.categories)) {
            None | Some((Some(_), _)) => Value::Null,
            Some((None, Some(categories))) => {
                categories.first().map_or(Value::Null, |first| Value::Text(first.clone()))
            }
            Some((None, None)) => Value::Number(0.0),
        }
    }

    pub(super) fn append(&self, cells: &[Cell<'_>], filling: &mut [Filling]) -> Result<(), String> {
        let number = |(step, cell): (&Step, &Cell<'_>)| {
            step.number(*cell).map_err(|message| format!("`{}`: {message}", step.column.name))
        };
        let row = self.columns.iter().zip(cells).map(number).collect::<Result<Vec<f64>, String>>()?;
        match filling {
            [Filling { data: Data::F32(all), .. }] => all.extend(row.iter().map(|n| *n as f32)),
            [Filling { data: Data::I32(all), .. }] => {
                let whole = |n: &f64| {
                    let fits = n.fract() == 0.0 && n.abs() <= f64::from(i32::MAX);
                    fits.then_some(*n as i32)
                        .ok_or_else(|| format!("{n} is not an integer that the network takes"))
                };
                all.extend(row.iter().map(whole).collect::<Result<Vec<i32>, String>>()?);
            }
            _ => return Err("the network takes no numbers".to_owned()),
        }
        Ok(())
    }
}

impl Step {
    fn number(&self, cell: Cell<'_>) -> Result<f64, String> {
        if let (Cell::Missing, Some(missing)) = (cell, self.column.missing) {
            return Ok(missing);
        }
        if self.column.categories.is_some() {
            return self.category(cell);
        }
        match cell {
            Cell::Number(n) if (n as f32).is_finite() => Ok(n),
            Cell::Number(n) => Err(format!("{n} is not a finite float32 number")),
            Cell::Bool(b) => Ok(f64::from(u8::from(b))),
            Cell::Text(text) => parse_number(text).map_err(|e| e.to_string()),
            other => Err(format!("expected a number, found {}", other.kind())),
        }
    }

    fn category(&self, cell: Cell<'_>) -> Result<f64, String> {
        let text = match cell {
            Cell::Text(text) => text.to_owned(),
            Cell::Number(n) => n.to_string(),
            Cell::Bool(b) => b.to_string(),
            other => return Err(format!("expected a string, found {}", other.kind())),
        };
        self.places.get(&text).copied().or(self.column.unknown).ok_or_else(|| {
            let text: String = text.chars().take(60).collect();
            format!("`{text}` is none of its {} categories", self.places.len())
        })
    }
}
