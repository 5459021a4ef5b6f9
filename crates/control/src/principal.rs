//! [`Principal`]: who makes a call, and how far that reaches.

use std::sync::Arc;

use crate::Role;

/// The project of a key that may act in every one: the first key's.
pub const ALL_PROJECTS: &str = "*";

/// Who makes a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The key's public part.
    pub key_id: String,
    /// The project that the key is bound to, or `*` for all.
    pub project: String,
    /// What its holder may do.
    pub role: Role,
    /// The models and endpoints, by id, that it may ask; all when absent.
    pub models: Option<Arc<[String]>>,
}

impl Principal {
    /// Whether this principal acts in `project`.
    pub fn acts_in(&self, project: &str) -> bool {
        self.project == ALL_PROJECTS || self.project == project
    }
}
