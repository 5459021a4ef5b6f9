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

/// The project of the resource `name`; empty for what is no resource's name.
pub(crate) fn project_in(name: &str) -> &str {
    name.strip_prefix("projects/").and_then(|rest| rest.split('/').next()).unwrap_or_default()
}

/// Whether `text` can be one segment of a resource name.
pub fn is_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
        && text.bytes().any(|b| b != b'.')
}

/// Which version of a model a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionRef {
    /// The one with the alias `default`: the name says nothing.
    Default,
    /// `@3`.
    Number(u32),
    /// `@stable`.
    Alias(String),
}

/// `projects/{p}/locations/{l}/models/{id}`, with `@{version}` or `@{alias}` or neither.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelName {
    /// Where the model lives.
    pub parent: Parent,
    /// Its id.
    pub id: String,
    /// The version meant.
    pub version: VersionRef,
}

impl ModelName {
    /// Reads a model's resource name.
    ///
    /// # Errors
    /// If `text` has another form.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        const FORM: &str = "projects/{project}/locations/{location}/models/{model}[@{version}]";
        let refuse = || NameError { given: text.to_owned(), expected: FORM };
        let (parent, rest) = Parent::split(text).map_err(|_| refuse())?;
        let tail = rest.strip_prefix("models/").ok_or_else(refuse)?;
        let (id, version) = VersionRef::split(tail);
        if is_id(id) && version.is_sound() {
            Ok(ModelName { parent, id: id.to_owned(), version })
        } else {
            Err(refuse())
        }
    }

    /// The model's resource name, without a version.
    pub fn model(&self) -> String {
        self.parent.child("models", &self.id)
    }

    /// `@3`, `@stable`, or nothing, as it was given.
    pub(crate) fn suffix(&self) -> String {
        match &self.version {
            VersionRef::Default => String::new(),
            VersionRef::Number(number) => format!("@{number}"),
            VersionRef::Alias(alias) => format!("@{alias}"),
        }
    }
}

impl VersionRef {
    /// What stands before the last `@` of `text`, and the version that what stands after it means.
    pub(crate) fn split(text: &str) -> (&str, VersionRef) {
        match text.rsplit_once('@') {
            None => (text, VersionRef::Default),
            Some((id, version)) => match version.parse() {
                Ok(number) => (id, VersionRef::Number(number)),
                Err(_) => (id, VersionRef::Alias(version.to_owned())),
            },
        }
    }

    fn is_sound(&self) -> bool {
        !matches!(self, VersionRef::Alias(alias) if !is_id(alias))
    }
}

/// The parts of `projects/{p}/locations/{l}/{collection}/{id}`.
///
/// # Errors
/// If `text` has another form.
pub(crate) fn parse_resource(
    text: &str,
    collection: &str,
    form: &'static str,
) -> Result<(Parent, String), NameError> {
    let refuse = || NameError { given: text.to_owned(), expected: form };
    let (parent, rest) = Parent::split(text).map_err(|_| refuse())?;
    match rest.split_once('/') {
        Some((found, id)) if found == collection && is_id(id) => Ok((parent, id.to_owned())),
        _ => Err(refuse()),
    }
}

/// A new id: 19 decimal digits, drawn at random.
///
/// # Errors
/// If the system gives no random bytes.
pub(crate) fn fresh_id() -> crate::Result<String> {
    let random = getrandom::u64().map_err(|e| crate::Error::internal("drawing random bytes", e))?;
    Ok((1_000_000_000_000_000_000 + random % 8_000_000_000_000_000_000).to_string())
}

fn refuse(text: &str) -> NameError {
    NameError { given: text.to_owned(), expected: "projects/{project}/locations/{location}" }
}

impl From<NameError> for crate::Error {
    fn from(error: NameError) -> Self {
        crate::Error::invalid(error.to_string())
    }
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
