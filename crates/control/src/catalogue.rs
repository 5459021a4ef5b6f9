//! [`Catalogue`]: the models that can be pulled by a name.

use std::path::Path;

use serde::Deserialize;

use crate::artifact::Digest;
use crate::{Error, ErrorCode, Result, Source, check};

/// What comes with the program.
const SHIPPED: &str = include_str!("../catalog.toml");
/// The operator's own, in the data directory.
const OWN: &str = "catalog.toml";
/// Bytes of the operator's own at most.
const OWN_BYTES_MAX: u64 = 4 << 20;

/// The models that can be pulled by a name: those that come with the program and the operator's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    entries: Vec<CatalogueEntry>,
}

/// One model of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogueEntry {
    /// What to call it.
    pub name: String,
    /// What its file is called in the artifact.
    pub file: String,
    /// What the file must be, whichever source it comes from.
    #[serde(rename = "sha256", deserialize_with = "hexadecimal")]
    pub digest: Digest,
    /// Bytes of the file.
    pub bytes: u64,
    /// The licence, as SPDX names it.
    pub licence: String,
    /// What runs it.
    pub runtime: String,
    /// What it is good for, in a few words.
    pub good_for: String,
    /// Where it can be had, the best first.
    pub sources: Vec<Source>,
}

/// The form of a catalogue's file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    model: Vec<CatalogueEntry>,
}

impl Catalogue {
    /// What comes with the program, and over it what stands in `DATA/catalog.toml`: an entry there takes
    /// the place of a shipped one of its name.
    ///
    /// # Errors
    /// `FailedPrecondition` if the operator's file cannot be read or says something else.
    pub fn open(data_dir: &Path) -> Result<Self> {
        let mut entries = read(SHIPPED).map_err(|e| Error::internal("reading the shipped catalogue", e))?;
        let path = data_dir.join(OWN);
        let Some(own) = own(&path)? else { return Ok(Catalogue { entries }) };
        let own = read(&own).map_err(|e| {
            let message = format!("{} is no catalogue: {}", path.display(), e.trim_end());
            Error::precondition(message)
        })?;
        entries.retain(|entry| own.iter().all(|other| other.name != entry.name));
        entries.extend(own);
        Ok(Catalogue { entries })
    }

    /// All models, the shipped ones first.
    pub fn entries(&self) -> &[CatalogueEntry] {
        &self.entries
    }

    /// The model called `name`.
    pub fn find(&self, name: &str) -> Option<&CatalogueEntry> {
        self.entries.iter().find(|entry| entry.name == name)
    }
}

fn own(path: &Path) -> Result<Option<String>> {
    let failed = |e: std::io::Error| {
        Error::new(ErrorCode::FailedPrecondition, format!("{} cannot be read: {e}", path.display()))
    };
    match std::fs::metadata(path) {
        Ok(about) if about.len() > OWN_BYTES_MAX => {
            let message = format!("{} is longer than {OWN_BYTES_MAX} bytes, the limit", path.display());
            Err(Error::precondition(message))
        }
        Ok(_) => std::fs::read_to_string(path).map(Some).map_err(failed),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(e)),
    }
}

fn read(text: &str) -> std::result::Result<Vec<CatalogueEntry>, String> {
    let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
    for (place, entry) in file.model.iter().enumerate() {
        let wrong = |why: &str| Err(format!("model `{}`: {why}", entry.name));
        if let Err(error) = check::display_name(&entry.name) {
            return wrong(&error.message);
        }
        if let Err(why) = crate::storage::check_name(&entry.file) {
            return wrong(&format!("file: {why}"));
        }
        if entry.sources.is_empty() || entry.bytes == 0 {
            return wrong("it needs at least one source and the file's size in bytes");
        }
        if file.model[..place].iter().any(|other| other.name == entry.name) {
            return wrong("there are two of this name");
        }
    }
    Ok(file.model)
}

/// A digest as catalogues write it: the 64 digits alone.
fn hexadecimal<'de, D: serde::Deserializer<'de>>(input: D) -> std::result::Result<Digest, D::Error> {
    let digits = String::deserialize(input)?;
    format!("sha256:{digits}").parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_shipped_catalogue_is_sound() {
        let directory = tempfile::tempdir().unwrap();
        let catalogue = Catalogue::open(directory.path()).unwrap();
        let first = catalogue.find("smollm2-135m").unwrap();
        assert_eq!(first.bytes, 98_362_432);
        assert!(matches!(first.sources[0], Source::Wheel { .. }));
        assert!(catalogue.entries().iter().all(|e| !e.good_for.is_empty() && e.licence == "Apache-2.0"));
    }

    #[test]
    fn an_operator_adds_models_and_replaces_them() {
        let directory = tempfile::tempdir().unwrap();
        let entry = |name: &str, more: &str| {
            let digits = "ab".repeat(32);
            format!(
                "[[model]]\nname = \"{name}\"\nfile = \"m.gguf\"\nsha256 = \"{digits}\"\nbytes = 7\nlicence = \"MIT\"\n\
                 runtime = \"gguf\"\ngood_for = \"us\"\nsources = [\"https://models.example/m.gguf\"]\n{more}"
            )
        };
        let open = |text: &str| {
            std::fs::write(directory.path().join(OWN), text).unwrap();
            Catalogue::open(directory.path())
        };
        let both = entry("ours", "") + &entry("smollm2-135m", "");
        let catalogue = open(&both).unwrap();
        assert_eq!(catalogue.find("ours").unwrap().bytes, 7);
        assert_eq!(catalogue.find("smollm2-135m").unwrap().licence, "MIT");
        for wrong in [
            entry("ours", "colour = \"blue\"\n"),
            entry("ours", "") + &entry("ours", ""),
            entry("ours", "").replace("ab", "AB"),
            entry("ours", "").replace("m.gguf\"\ns", "../m.gguf\"\ns"),
            entry("ours", "").replace("https", "ftp"),
            "model = 1".to_owned(),
        ] {
            let error = open(&wrong).unwrap_err();
            assert_eq!(error.code, ErrorCode::FailedPrecondition, "{wrong}");
            assert!(error.message.contains(OWN), "{}", error.message);
        }
    }
}
