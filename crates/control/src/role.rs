//! [`Role`]: what a principal may do, in one word. Which role grants what is said where routes are: in `api`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What a principal may do in its project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads descriptions: what there is and how it does, none of anybody's data.
    Viewer,
    /// A viewer who asks deployed models.
    Invoker,
    /// An invoker who registers, deploys, runs jobs, changes and deletes, and reads and writes the data of these.
    Deployer,
    /// Does everything, keys and the audit log included.
    Admin,
    /// Reads the audit log, and nothing else.
    Auditor,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 5] = [Role::Viewer, Role::Invoker, Role::Deployer, Role::Admin, Role::Auditor];

    /// How it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Invoker => "invoker",
            Role::Deployer => "deployer",
            Role::Admin => "admin",
            Role::Auditor => "auditor",
        }
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Role::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| {
            let text: String = text.chars().take(80).collect();
            Error::invalid(format!(
                "{text:?} is no role; the roles are viewer, invoker, deployer, admin and auditor"
            ))
        })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
