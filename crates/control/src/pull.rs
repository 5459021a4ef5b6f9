//! [`PullJob`]: a model's file fetched from elsewhere and registered as a version.

use serde::{Deserialize, Serialize};

use crate::Source;
use crate::artifact::Digest;

/// What a pull does and how far it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PullJob {
    /// What people are to call the model.
    pub model: String,
    /// What the file is to be called in the artifact.
    pub file: String,
    /// Where it can be had, the best first.
    pub sources: Vec<Source>,
    /// What the file must be. Where absent, what its source says it is.
    pub digest: Option<Digest>,
    /// Bytes of the file, where known before.
    pub bytes: Option<u64>,
    /// How far it is.
    pub transfer: Transfer,
    /// The registered version, once there: model resource name and version number.
    pub result: Option<(String, u32)>,
}

/// How far a pull is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Where it reads from now.
    pub source: Option<Source>,
    /// Bytes that are here.
    pub done: u64,
    /// Bytes in all, where the source says so.
    pub total: Option<u64>,
}

impl Transfer {
    /// How far it is in percent; 0 where nobody says how much there is.
    pub fn percent(&self) -> u32 {
        let percent = self.total.and_then(|total| self.done.saturating_mul(100).checked_div(total));
        percent.map_or(0, |percent| u32::try_from(percent.min(100)).unwrap_or(100))
    }
}

/// A pull to begin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewPull {
    /// The name of a model in the catalogue, or a [`Source`].
    pub what: String,
    /// What people are to call the model; by what is pulled where absent.
    pub name: Option<String>,
    /// What the file must be; as the catalogue or the source says where absent.
    pub digest: Option<Digest>,
}
