//! [`Table`]: how cells of a table become the numbers that a network takes.

use std::collections::HashSet;

use crate::Value;
use crate::spec::SpecError;
use crate::spec::fields::{Fields, texts_of};

/// The most columns.
const COLUMNS_MAX: usize = 16_384;
/// The most categories of a column.
const CATEGORIES_MAX: usize = 1 << 20;

/// How cells become a row of a network's input: in this order, categories as their places.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// The network's input; `None` is its only one.
    pub input: Option<String>,
    /// The columns, in the order of the network's numbers.
    pub columns: Vec<Column>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// What it is called.
    pub name: String,
    /// The texts that it holds, where these are no numbers; the first is 0.
    pub categories: Option<Vec<String>>,
    /// What any other text is; it is refused where nothing is said.
    pub unknown: Option<f64>,
    /// What an empty cell is; it is refused where nothing is said.
    pub missing: Option<f64>,
}

impl Table {
    pub(super) fn read(value: &Value) -> Result<Self, SpecError> {
        let mut fields = Fields::new("table", value)?;
        let input = fields.text("input")?.map(str::to_owned);
        let at = fields.at("columns");
        let items = match fields.require("columns")? {
            Value::List(items) => items,
            other => return Err(SpecError::new(at, format!("expected a list, found {}", other.kind()))),
        };
        if items.is_empty() || items.len() > COLUMNS_MAX {
            let n = items.len();
            return Err(SpecError::new(at, format!("{n} columns; 1 to {COLUMNS_MAX} are possible")));
        }
        let columns = items.iter().enumerate().map(|(i, item)| Column::read(format!("{at}[{i}]"), item));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let mut seen = HashSet::with_capacity(columns.len());
        if let Some(twice) = columns.iter().find(|column| !seen.insert(column.name.as_str())) {
            return Err(SpecError::new(at, format!("`{}` stands there twice", twice.name)));
        }
        fields.finish()?;
        Ok(Table { input, columns })
    }
}

impl Column {
    /// A name alone, which is that of a column of numbers, or a name with what its texts are.
    fn read(at: String, value: &Value) -> Result<Self, SpecError> {
        if let Value::Text(name) = value {
            return Ok(Column { name: name.clone(), categories: None, unknown: None, missing: None });
        }
        let mut fields = Fields::new(at, value)?;
        let name = fields.text("name")?.filter(|name| !name.is_empty()).map(str::to_owned);
        let name = name.ok_or_else(|| fields.error("name", "is missing"))?;
        let at = fields.at("categories");
        let categories = fields.take("categories").map(|value| texts_of(&at, value)).transpose()?;
        if let Some(categories) = &categories {
            let mut seen = HashSet::with_capacity(categories.len());
            if categories.is_empty() || categories.len() > CATEGORIES_MAX {
                return Err(SpecError::new(at, format!("1 to {CATEGORIES_MAX} are possible")));
            }
            if let Some(twice) = categories.iter().find(|category| !seen.insert(category.as_str())) {
                return Err(SpecError::new(at, format!("`{twice}` stands there twice")));
            }
        }
        let unknown = fields.number("unknown", -1e9, 1e9)?;
        if unknown.is_some() && categories.is_none() {
            return Err(fields.error("unknown", "stands beside `categories` alone"));
        }
        let missing = fields.number("missing", -1e9, 1e9)?;
        fields.finish()?;
        Ok(Column { name, categories, unknown, missing })
    }
}
