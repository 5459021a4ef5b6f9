//! [`Tenant`]: in which project a call acts, and which of its models the caller may know of.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use control::Principal;

/// The project in which a call acts, as far as the caller may know it. Reads as the project's name.
#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    project: String,
    /// The models and endpoints, by id, that the caller may ask; all when absent.
    models: Option<Arc<[String]>>,
}

impl Tenant {
    /// All of `project`: for those whose rights have been checked by the address that they asked.
    pub(crate) fn whole(project: impl Into<String>) -> Tenant {
        Tenant { project: project.into(), models: None }
    }

    /// What `principal` may know of `project`.
    pub(crate) fn of(principal: Option<&Principal>, project: impl Into<String>) -> Tenant {
        let models = principal.and_then(|principal| principal.models.clone());
        Tenant { project: project.into(), models }
    }

    /// Whether the caller may know of one of these models and endpoints, by resource name or id.
    pub(crate) fn knows<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> bool {
        let Some(models) = &self.models else { return true };
        names.into_iter().any(|name| {
            let id = name.rsplit('/').next().unwrap_or(name);
            models.iter().any(|model| model == id)
        })
    }
}

impl Deref for Tenant {
    type Target = str;

    fn deref(&self) -> &str {
        &self.project
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.project)
    }
}
