//! [`Exceeded`]: which limit stands against a request.

use std::time::Duration;

use super::QuotaScope;
use crate::usage::Money;
use crate::{Error, ErrorCode};

/// A limit that a request would exceed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.message())]
pub struct Exceeded {
    /// Whose limit.
    pub scope: QuotaScope,
    /// Which one.
    pub limit: Limited,
    /// When the same request may be let in; `None` where no time lets it in.
    pub retry_after: Option<Duration>,
}

/// What is limited, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limited {
    /// Requests a minute.
    Requests(u64),
    /// Tokens a minute.
    Tokens {
        /// So many.
        limit: u64,
        /// So many are asked for.
        asked: u64,
        /// So many are left now.
        left: u64,
    },
    /// Requests at once.
    Concurrent(u64),
    /// Money a month.
    Budget(Money),
    /// Bytes that are kept.
    Stored {
        /// So many.
        limit: u64,
        /// So many are there.
        stored: u64,
        /// So many more are to be.
        asked: u64,
    },
    /// Minutes of training a month.
    Training(u64),
}

impl Exceeded {
    fn message(&self) -> String {
        let whose = match &self.scope {
            QuotaScope::Project(project) => format!("project {project}"),
            QuotaScope::Key(key) => format!("key {key}"),
        };
        let seconds = self.retry_after.map(|after| after.as_secs_f64().ceil() as u64).unwrap_or_default();
        match self.limit {
            Limited::Requests(limit) => {
                format!("{whose} may make {limit} requests a minute; try again in {seconds} s")
            }
            Limited::Tokens { limit, asked, .. } if asked > limit => format!(
                "{whose} may use {limit} tokens a minute, and this request asks for up to {asked}: ask for fewer, or \
                 shorten the prompt"
            ),
            Limited::Tokens { limit, asked, left } => format!(
                "{whose} may use {limit} tokens a minute, of which {left} are left, and this request asks for up to \
                 {asked}; try again in {seconds} s"
            ),
            Limited::Concurrent(limit) => {
                format!("{whose} may make {limit} requests at once; try again when one is answered")
            }
            Limited::Budget(budget) => format!(
                "{whose} has used up its budget of {budget} for this month, or what is left does not pay for this: an \
                 admin can raise it"
            ),
            Limited::Stored { limit, stored, asked } => format!(
                "{whose} may keep {limit} bytes here, of which {stored} are in use, and {asked} more do not fit: delete \
                 models, files or objects, or have an admin raise the limit"
            ),
            Limited::Training(minutes) => format!(
                "{whose} has used up its {minutes} minutes of training for this month; an admin can raise the limit"
            ),
        }
    }
}

impl From<Exceeded> for Error {
    /// It stays the source, for those who tell clients more than a text.
    fn from(exceeded: Exceeded) -> Self {
        Error::new(ErrorCode::ResourceExhausted, exceeded.to_string()).caused_by(exceeded)
    }
}
