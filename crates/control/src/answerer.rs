//! [`Answerer`]: the port through which a batch of requests is answered, in whatever protocol they are written.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Reads lines of requests and answers them. Implemented where their protocol is known.
#[async_trait]
pub trait Answerer: Send + Sync {
    /// What looks at all lines of a batch before the first is answered.
    fn checker(&self, asked: &Asked) -> Box<dyn LineChecker>;

    /// Answers one line. Waits where the model is busy.
    ///
    /// # Errors
    /// If nothing is answered any more in this process.
    async fn answer(&self, asked: &Asked, line: &[u8]) -> Result<Answered, Closed>;

    /// What stands in the place of an answer that is not given, as one line.
    fn unanswered(&self, line: &[u8], why: BatchEnding) -> Vec<u8>;
}

/// What a batch asks, as far as an [`Answerer`] has to know.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The tenant in whose name it asks.
    pub project: String,
    /// What every line is a request to, in the protocol's own words.
    pub endpoint: String,
    /// When answers are of no use any more.
    pub expires: Timestamp,
}

/// Looks at the lines of one batch, in order.
pub trait LineChecker: Send {
    /// Takes the line `number`, counted from 1, or what is wrong with it. `Break` where it is of no use to go on.
    fn line(&mut self, number: u64, line: Result<&[u8], &str>) -> ControlFlow<()>;

    /// The model that all lines ask.
    ///
    /// # Errors
    /// What is wrong with them: nothing is answered then.
    fn end(self: Box<Self>) -> Result<String, Vec<LineFault>>;
}

/// What is wrong with a line, or with all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineFault {
    /// A word for programs.
    pub code: String,
    /// What is wrong and what to do, for the client.
    pub message: String,
    /// The field that it is about.
    pub field: Option<String>,
    /// The line, counted from 1.
    pub line: Option<u64>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The answer with its line end.
    pub line: Vec<u8>,
    /// What went wrong, where it is not what was asked for.
    pub error: Option<String>,
}

/// Why lines of a batch were not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchEnding {
    /// Its client asked to stop.
    Cancelled,
    /// Its time was up.
    Expired,
}

/// Nothing is answered any more in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

/// Who answers, by protocol.
#[derive(Default)]
pub(crate) struct Answerers(RwLock<HashMap<String, Arc<dyn Answerer>>>);

impl Answerers {
    pub(crate) fn add(&self, protocol: &str, answerer: Arc<dyn Answerer>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(protocol.to_owned(), answerer);
    }

    pub(crate) fn find(&self, protocol: &str) -> Option<Arc<dyn Answerer>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(protocol).cloned()
    }
}
