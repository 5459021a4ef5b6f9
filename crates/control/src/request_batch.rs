//! [`RequestBatch`]: a file of requests in, a file of answers out.

use serde::{Deserialize, Serialize};

use crate::{BatchEnding, LineFault, Timestamp};

/// What a batch of requests asks and how far it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestBatch {
    /// The protocol that its lines are written in; see [`crate::Control::answer_with`].
    pub protocol: String,
    /// What every line is a request to, in the protocol's own words.
    pub endpoint: String,
    /// The file with the requests.
    pub input: String,
    /// How long it may take, as the client wrote it.
    pub window: String,
    /// When that time is up.
    pub expires: Timestamp,
    /// Where it is.
    pub phase: BatchPhase,
    /// The model that all lines ask, once they have been looked at.
    pub model: Option<String>,
    /// Lines, once they have been looked at.
    pub total: u64,
    /// Lines that were answered as asked.
    pub answered: u64,
    /// Lines that were answered with an error, or not at all.
    pub failed: u64,
    /// What is wrong with the lines: none is answered then.
    pub faults: Vec<LineFault>,
    /// When the lines had been looked at.
    pub answering_since: Option<Timestamp>,
    /// When the last line had been answered.
    pub finalizing_since: Option<Timestamp>,
    /// When its client asked to stop it.
    pub cancelling_since: Option<Timestamp>,
    /// Why it ended before all lines were answered, if it did.
    pub ending: Option<BatchEnding>,
    /// The file with the answers, once it has ended, if there are any.
    pub output: Option<String>,
    /// The file with the errors, once it has ended, if there are any.
    pub errors: Option<String>,
    /// Where to go on after a restart; private to the worker.
    pub checkpoint: Option<serde_json::Value>,
}

/// Where a batch of requests is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchPhase {
    /// Its lines are being looked at, or will be.
    Validating,
    /// Its lines are being answered.
    Answering,
    /// All lines are answered; the files are about to appear.
    Finalizing,
}
