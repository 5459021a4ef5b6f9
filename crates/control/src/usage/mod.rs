//! Usage: what each project and key took of each model, day by day, written down once and for good: what requests take
//! in the [`Ledger`], what jobs take in the commits of what they have done ([`JobUsage`]).

mod amount;
mod day;
mod entry;
mod jobs;
mod ledger;
mod report;
mod totals;

use serde::{Deserialize, Serialize};

pub use amount::{Amount, Money};
pub use day::Day;
pub(crate) use day::now_ms;
pub(crate) use entry::User;
pub(crate) use jobs::JobUsage;
pub(crate) use ledger::Ledger;
pub use ledger::Noted;
pub use report::{Report, ReportBy, ReportRow, Wanted};

/// By whom something was used, and of what.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Account {
    /// The project.
    pub project: String,
    /// The key's public part; empty for what is asked from within, as by batches.
    pub key: String,
    /// What people call the model.
    pub model: String,
}
