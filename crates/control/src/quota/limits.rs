//! [`QuotaLimits`]: how much a project or a key may use.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::usage::Money;
use crate::{Error, Result, is_id};

/// How much may be used. What is absent has no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QuotaLimits {
    /// Requests a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
    /// Tokens a minute, read and written together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Requests that are being answered at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent_requests: Option<u64>,
    /// What may be spent in a calendar month, in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monthly_budget: Option<Money>,
    /// Bytes that are kept here at once: models, files, objects in buckets. Of projects only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_bytes: Option<u64>,
    /// Minutes that networks may be trained in a calendar month, in UTC. Of projects only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_minutes: Option<u64>,
}

impl QuotaLimits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == QuotaLimits::default()
    }
}

/// Whom a quota binds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum QuotaScope {
    /// A project: all its keys together.
    Project(String),
    /// One key, by its public part.
    Key(String),
}

impl fmt::Display for QuotaScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QuotaScope::Project(project) => write!(f, "projects/{project}"),
            QuotaScope::Key(key) => write!(f, "keys/{key}"),
        }
    }
}

impl FromStr for QuotaScope {
    type Err = Error;

    /// Reads `projects/{project}` or `keys/{id}`.
    fn from_str(text: &str) -> Result<Self> {
        match text.split_once('/') {
            Some(("projects", project)) if is_id(project) => Ok(QuotaScope::Project(project.to_owned())),
            Some(("keys", key)) if is_id(key) => Ok(QuotaScope::Key(key.to_owned())),
            _ => Err(Error::invalid(format!(
                "{text:?} is nothing that has a quota; that are projects/PROJECT and keys/ID"
            ))),
        }
    }
}

impl From<QuotaScope> for String {
    fn from(scope: QuotaScope) -> String {
        scope.to_string()
    }
}

impl TryFrom<String> for QuotaScope {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}
