//! [`Trouble`]: why a request was not answered, and [`Troubles`]: how often.

use std::collections::BTreeMap;
use std::fmt;

use crate::client::ClientError;

/// Why a request was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// The server said no, with this status.
    Status(u16),
    /// Nobody there, or the connection broke before an answer began.
    Unreachable,
    /// The answer began and broke off.
    CutOff,
    /// The answer began and ended with an error.
    Failed,
    /// What came is no answer.
    NotUnderstood,
    /// The answer took too long.
    TimedOut,
    /// The answer had no text.
    NoText,
    /// The answer did not say how many tokens it took.
    NoUsage,
    /// It was not sent: too many others were under way.
    NotSent,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Status(status) => write!(f, "status {status}"),
            Trouble::Unreachable => f.write_str("unreachable"),
            Trouble::CutOff => f.write_str("cut off"),
            Trouble::Failed => f.write_str("failed"),
            Trouble::NotUnderstood => f.write_str("not understood"),
            Trouble::TimedOut => f.write_str("timed out"),
            Trouble::NoText => f.write_str("no text"),
            Trouble::NoUsage => f.write_str("no usage"),
            Trouble::NotSent => f.write_str("not sent"),
        }
    }
}

impl From<&ClientError> for Trouble {
    fn from(error: &ClientError) -> Trouble {
        match error {
            ClientError::Unreachable { .. } => Trouble::Unreachable,
            ClientError::Refused { status, .. } => Trouble::Status(*status),
            ClientError::NotUnderstood { .. } => Trouble::NotUnderstood,
            ClientError::CutOff { .. } => Trouble::CutOff,
            ClientError::Failed { .. } => Trouble::Failed,
        }
    }
}

/// How often what went wrong, with the words of the first time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Troubles(BTreeMap<Trouble, (u64, String)>);

impl Troubles {
    /// Counts one.
    pub fn add(&mut self, trouble: Trouble, message: impl FnOnce() -> String) {
        self.0.entry(trouble).or_insert_with(|| (0, message())).0 += 1;
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.0.values().map(|(count, _)| count).sum()
    }

    /// Each kind, how often it came, and the words of the first time.
    pub fn iter(&self) -> impl Iterator<Item = (Trouble, u64, &str)> {
        self.0.iter().map(|(trouble, (count, message))| (*trouble, *count, message.as_str()))
    }
}
