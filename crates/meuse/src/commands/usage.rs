//! `meuse usage`

use clap::Args;
use serde_json::Value;

use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::show::{Output, Table};

/// See what was used, by project, key, model and day.
#[derive(Debug, Args)]
pub struct Usage {
    /// What to tell apart
    #[arg(long, value_delimiter = ',', default_value = "project,model", value_name = "WHAT",
          value_parser = ["project", "key", "model", "day"])]
    pub by: Vec<String>,
    /// First day, such as 2026-11-01, in UTC [default: the first of this month]
    #[arg(long, value_name = "DAY")]
    pub from: Option<String>,
    /// Last day [default: today]
    #[arg(long, value_name = "DAY")]
    pub to: Option<String>,
    /// Of one project alone
    #[arg(long = "only", value_name = "PROJECT")]
    pub only: Option<String>,
    /// Print CSV
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    /// Which server.
    #[command(flatten)]
    pub connection: Connection,
}

const PATH: &str = "/admin/v1/usage";

/// What a report may tell apart, in the order of its columns, with their headings.
const LABELS: [(&str, &str); 4] =
    [("day", "DAY"), ("project", "PROJECT"), ("key", "KEY"), ("model", "MODEL")];
/// The figures, with their headings.
const FIGURES: [(&str, &str); 7] = [
    ("requests", ">REQUESTS"),
    ("promptTokens", ">PROMPT"),
    ("cachedTokens", ">CACHED"),
    ("outputTokens", ">OUTPUT"),
    ("rows", ">ROWS"),
    ("trainingSeconds", ">TRAINING S"),
    ("cost", ">COST"),
];

impl Usage {
    /// Prints it.
    ///
    /// # Errors
    /// If the server refuses: only an admin's key may.
    pub async fn run(&self, output: &Output) -> Result<()> {
        let client = self.connection.client()?;
        let by = self.by.join(",");
        let mut query = vec![("by", by.as_str())];
        let given = [("from", &self.from), ("to", &self.to), ("project", &self.only)];
        query.extend(given.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))));
        if self.csv {
            query.push(("format", "csv"));
            let text = client.text(PATH, &query).await.map_err(Failure::from)?;
            output.line(text.trim_end());
            return Ok(());
        }
        let report: Value = client.query(PATH, &query).await.map_err(Failure::from)?;
        if output.json {
            output.value(&report);
            return Ok(());
        }
        let labels: Vec<_> =
            LABELS.into_iter().filter(|(name, _)| self.by.iter().any(|by| by == name)).collect();
        let headings: Vec<&str> = labels.iter().chain(&FIGURES).map(|(_, heading)| *heading).collect();
        let mut table = Table::new(&headings);
        let rows = report.get("usage").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for row in rows {
            table.row(labels.iter().map(|(name, _)| label(row, name)).chain(figures(row)));
        }
        if rows.len() > 1 {
            let blank = labels.iter().enumerate().map(|(i, _)| if i == 0 { "all" } else { "" }.to_owned());
            table.row(blank.chain(figures(report.get("total").unwrap_or(&Value::Null))));
        }
        output.table(&table);
        if rows.is_empty() {
            output.note("Nothing was used in that time.");
        }
        Ok(())
    }
}

fn label(row: &Value, name: &str) -> String {
    match row.get(name).and_then(Value::as_str).unwrap_or_default() {
        // What jobs take has no key of its own.
        "" if name == "key" => "(jobs)".to_owned(),
        text => text.to_owned(),
    }
}

fn figures(row: &Value) -> impl Iterator<Item = String> {
    FIGURES.iter().map(|(name, _)| match row.get(*name) {
        Some(Value::String(text)) => text.clone(),
        Some(number) => number.to_string(),
        None => String::new(),
    })
}
