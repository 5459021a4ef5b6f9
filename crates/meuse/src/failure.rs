//! [`Failure`]: why a command ends without having done its work, for the person who typed it.

use std::fmt;

/// Why a command ends without having done its work: what happened, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    what: String,
    next: Option<String>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Failed,
    Usage,
}

/// `Result` with a [`Failure`].
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// The work could not be done: exit code 1.
    pub fn new(what: impl Into<String>) -> Self {
        Failure { what: what.into(), next: None, kind: Kind::Failed }
    }

    /// The command was called wrongly: exit code 2.
    pub fn usage(what: impl Into<String>) -> Self {
        Failure { what: what.into(), next: None, kind: Kind::Usage }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// What happened.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// What to do next, where that is known.
    pub fn advice(&self) -> Option<&str> {
        self.next.as_deref()
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Failed => 1,
            Kind::Usage => 2,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.next {
            Some(next) => write!(f, "\n  {next}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// Turns a file's error into a [`Failure`] that names the file.
pub fn on_file(path: &std::path::Path, attempted: &str) -> impl FnOnce(std::io::Error) -> Failure {
    let what = format!("{attempted} {} failed", path.display());
    move |error| Failure::new(format!("{what}: {error}"))
}
