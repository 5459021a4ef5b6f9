//! Resource names: `projects/{project}/locations/{location}/{collection}/{id}…`.

use std::fmt;

/// Where a resource lives: the tenant and the place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Parent {
    /// The project: the tenant.
    pub project: String,
    /// The location, as the client spells it.
    pub location: String,
}

/// A text that is not the resource name it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a name of the form `{expected}`")]
pub struct NameError {
    given: String,
    expected: &'static str,
}

impl Parent {
    /// Reads `projects/{project}/locations/{location}`.
    ///
    /// # Errors
    /// If `text` has another form or a part holds anything but letters, digits, `-`, `_`, `.` or `:`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let (parent, rest) = Self::split(text)?;
        if rest.is_empty() { Ok(parent) } else { Err(refuse(text)) }
    }

    /// Reads the parent at the head of a longer name and gives what follows it, without the slash.
    ///
    /// # Errors
    /// As [`Parent::parse`].
    pub fn split(text: &str) -> Result<(Self, &str), NameError> {
        let mut parts = text.splitn(5, '/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("projects"), Some(project), Some("locations"), Some(location))
                if is_id(project) && is_id(location) =>
            {
                let parent = Parent { project: project.to_owned(), location: location.to_owned() };
                Ok((parent, parts.next().unwrap_or("")))
            }
            _ => Err(refuse(text)),
        }
    }

    /// The name of `id` in `collection` here.
    pub fn child(&self, collection: &str, id: &str) -> String {
        format!("{self}/{collection}/{id}")
    }
}

/// Whether `text` can be one segment of a resource name.
pub fn is_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
        && text.bytes().any(|b| b != b'.')
}

fn refuse(text: &str) -> NameError {
    NameError { given: text.to_owned(), expected: "projects/{project}/locations/{location}" }
}

impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "projects/{}/locations/{}", self.project, self.location)
    }
}

impl From<Parent> for String {
    fn from(parent: Parent) -> String {
        parent.to_string()
    }
}

impl TryFrom<String> for Parent {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Parent::parse(&text)
    }
}
