//! [`Report`]: usage as someone wants to see it.

use std::collections::BTreeMap;

use super::{Account, Amount, Day, JobUsage, Ledger};
use crate::{Error, Result};

/// Rows that a report may have.
const ROWS_MAX: usize = 100_000;

/// By what a report tells uses apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportBy {
    /// The project.
    Project,
    /// The key.
    Key,
    /// The model.
    Model,
    /// The day.
    Day,
}

impl std::str::FromStr for ReportBy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "project" => Ok(ReportBy::Project),
            "key" => Ok(ReportBy::Key),
            "model" => Ok(ReportBy::Model),
            "day" => Ok(ReportBy::Day),
            _ => Err(Error::invalid(format!(
                "{text:?} is nothing that usage is told apart by; that are project, key, model and day"
            ))),
        }
    }
}

/// What someone wants to see of the usage.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// From this day on.
    pub first: Day,
    /// Through this day.
    pub last: Day,
    /// Of this project alone.
    pub project: Option<String>,
    /// What to tell apart.
    pub by: Vec<ReportBy>,
}

/// Uses that have in common what they are told apart by. What is not told apart is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportRow {
    /// The day.
    pub day: Option<Day>,
    /// The project.
    pub project: Option<String>,
    /// The key's public part; empty for what was asked from within.
    pub key: Option<String>,
    /// What people call the model.
    pub model: Option<String>,
    /// How much.
    pub amount: Amount,
}

/// What was used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// By day, project, key and model, as far as these are told apart.
    pub rows: Vec<ReportRow>,
    /// All of it.
    pub total: Amount,
}

impl Report {
    /// Reads the ledger's files, and adds what `jobs` took.
    pub(crate) fn of(ledger: &Ledger, jobs: &[JobUsage], wanted: &Wanted) -> Result<Report> {
        let by = |by| wanted.by.contains(&by);
        let mut rows: BTreeMap<(Option<Day>, Account), Amount> = BTreeMap::new();
        let mut total = Amount::default();
        let (mut too_many, none) = (false, String::new());
        let mut hear = |day: Day, account: &Account, amount: &Amount| {
            if too_many || wanted.project.as_ref().is_some_and(|project| *project != account.project) {
                return;
            }
            let told = |by_it: bool, text: &String| if by_it { text } else { &none }.clone();
            let shown = Account {
                project: told(by(ReportBy::Project), &account.project),
                key: told(by(ReportBy::Key), &account.key),
                model: told(by(ReportBy::Model), &account.model),
            };
            total += *amount;
            *rows.entry((by(ReportBy::Day).then_some(day), shown)).or_default() += *amount;
            too_many |= rows.len() > ROWS_MAX;
        };
        ledger.read(wanted.first, wanted.last, &mut hear)?;
        for used in jobs {
            if let Some(day) = used.day().filter(|day| (wanted.first..=wanted.last).contains(day)) {
                hear(day, &used.account, &used.amount);
            }
        }
        if too_many {
            return Err(Error::invalid(format!(
                "the report would have more than {ROWS_MAX} rows; ask for fewer days, or tell less apart"
            )));
        }
        let row = |((day, account), amount): ((Option<Day>, Account), Amount)| ReportRow {
            day,
            project: by(ReportBy::Project).then_some(account.project),
            key: by(ReportBy::Key).then_some(account.key),
            model: by(ReportBy::Model).then_some(account.model),
            amount,
        };
        Ok(Report { rows: rows.into_iter().map(row).collect(), total })
    }
}
