//! Files to and from buckets: the part of the Cloud Storage JSON API that commands need.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::{Client, ClientError};
use crate::failure::{Failure, Result, on_file};

/// The local bucket into which commands put files that they are given by path.
const UPLOADS: &str = "meuse-uploads";

/// The project that commands act in unless told otherwise.
const USUAL_PROJECT: &str = "default";

/// `gs://bucket/path`, split.
pub fn split_gs(uri: &str) -> Option<(&str, &str)> {
    uri.strip_prefix("gs://").map(|rest| rest.split_once('/').unwrap_or((rest, "")))
}

/// Whether `text` is a URI (`gs://…`) and not a path.
pub fn is_uri(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'-')
    })
}

impl Client {
    /// The project's own bucket for `what`: names of buckets are one namespace for the whole server.
    pub fn own_bucket(&self, what: &str) -> String {
        if self.project() == USUAL_PROJECT {
            return what.to_owned();
        }
        // FNV-1a, the same in every version of this program.
        let mix = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        format!("{what}-{:016x}", self.project().bytes().fold(0xcbf2_9ce4_8422_2325, mix))
    }

    /// Creates the local bucket `name` unless it is there.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn ensure_bucket(&self, name: &str) -> Result<()> {
        let request = self
            .request(Method::POST, "/storage/v1/b", &[("project", self.project())])
            .json(&json!({"name": name}));
        match self.json::<Value>(request).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_conflict() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts `bytes` into the local bucket at `uri`.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn put_object(&self, uri: &str, bytes: impl Into<reqwest::Body>) -> Result<()> {
        let (bucket, object) = split_gs(uri)
            .filter(|(_, object)| !object.is_empty())
            .ok_or_else(|| Failure::usage(format!("`{uri}` is not of the form gs://BUCKET/OBJECT")))?;
        let path = format!("/upload/storage/v1/b/{bucket}/o");
        let request = self
            .request(Method::POST, &path, &[("uploadType", "media"), ("name", object)])
            .header("content-type", "application/octet-stream")
            .body(bytes);
        self.json::<Value>(request).await?;
        Ok(())
    }

    /// Makes a local file or directory readable for the server: copies it into a local bucket and gives
    /// its URI there. What is a URI already stays as it is.
    ///
    /// # Errors
    /// If a file cannot be read or the server refuses.
    pub async fn reachable(&self, path_or_uri: &str) -> Result<String> {
        if is_uri(path_or_uri) {
            return Ok(path_or_uri.to_owned());
        }
        let path = Path::new(path_or_uri);
        let file_name = path.file_name().and_then(|n| n.to_str()).unwrap_or("data");
        let files = files_of(path)?;
        let bucket = self.own_bucket(UPLOADS);
        self.ensure_bucket(&bucket).await?;
        let uri = format!("gs://{bucket}/{}/{file_name}", unique());
        for (relative, file) in files {
            let target = if relative.is_empty() { uri.clone() } else { format!("{uri}/{relative}") };
            let open = tokio::fs::File::open(&file).await.map_err(on_file(&file, "reading"))?;
            self.put_object(&target, open).await?;
        }
        Ok(uri)
    }

    /// Puts the file at `path` beside the object `uri`, under `name`.
    ///
    /// # Errors
    /// If the file cannot be read or the server refuses.
    pub async fn put_beside(&self, uri: &str, name: &str, path: &Path) -> Result<()> {
        let directory = uri.rsplit_once('/').map_or("", |(directory, _)| directory);
        let open = tokio::fs::File::open(path).await.map_err(on_file(path, "reading"))?;
        self.put_object(&format!("{directory}/{name}"), open).await
    }

    /// Names of the objects under `prefix` in the local bucket `bucket`.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn object_names(&self, bucket: &str, prefix: &str) -> Result<Vec<String>> {
        let items = self.list(&format!("/storage/v1/b/{bucket}/o"), "items", &[("prefix", prefix)]).await?;
        Ok(items.iter().filter_map(|i| i.get("name").and_then(Value::as_str)).map(str::to_owned).collect())
    }

    /// Writes the object into the file `target`, replacing it once whole.
    ///
    /// # Errors
    /// If the server refuses or the file cannot be written.
    pub async fn download(&self, bucket: &str, object: &str, target: &Path) -> Result<()> {
        let mut response = self.media(bucket, object).await?;
        let mut partial = target.as_os_str().to_owned();
        partial.push(".part");
        let partial = Path::new(&partial);
        let mut file = tokio::fs::File::create(partial).await.map_err(on_file(partial, "writing"))?;
        while let Some(bytes) = response.chunk().await.map_err(|e| self.broken(&e))? {
            file.write_all(&bytes).await.map_err(on_file(partial, "writing"))?;
        }
        file.flush().await.map_err(on_file(partial, "writing"))?;
        tokio::fs::rename(partial, target).await.map_err(on_file(target, "writing"))
    }

    /// The object's bytes.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn object(&self, bucket: &str, object: &str) -> Result<Vec<u8>> {
        let response = self.media(bucket, object).await?;
        Ok(response.bytes().await.map_err(|e| self.broken(&e))?.to_vec())
    }

    async fn media(&self, bucket: &str, object: &str) -> std::result::Result<reqwest::Response, ClientError> {
        let path = format!("/download/storage/v1/b/{bucket}/o/{}", encode(object));
        self.accepted(self.request(Method::GET, &path, &[("alt", "media")])).await
    }

    /// That a reply broke off.
    pub fn broken(&self, error: &reqwest::Error) -> ClientError {
        ClientError::unreachable(self.url(), error)
    }
}

/// The files to copy, each with its path below `path`; "" for `path` itself.
fn files_of(path: &Path) -> Result<Vec<(String, std::path::PathBuf)>> {
    let kind = std::fs::metadata(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Failure::new(format!("there is no file {}", path.display()))
            .next("give a file on this machine, or a URI such as gs://BUCKET/FILE.csv"),
        _ => on_file(path, "reading")(e),
    })?;
    if !kind.is_dir() {
        return Ok(vec![(String::new(), path.to_owned())]);
    }
    let mut files = Vec::new();
    let mut folders = vec![(String::new(), path.to_owned())];
    while let Some((prefix, folder)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(on_file(&folder, "reading"))? {
            let entry = entry.map_err(on_file(&folder, "reading"))?;
            let Ok(name) = entry.file_name().into_string() else {
                return Err(Failure::new(format!("{} has a name that is not UTF-8", entry.path().display())));
            };
            let relative = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            let is_folder = entry.file_type().map_err(on_file(&entry.path(), "reading"))?.is_dir();
            if is_folder {
                folders.push((relative, entry.path()))
            } else {
                files.push((relative, entry.path()))
            }
        }
    }
    files.sort();
    Ok(files)
}

/// A name that no other upload has: the time in nanoseconds.
fn unique() -> String {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    format!("{:x}-{:x}", now.as_nanos(), std::process::id())
}

/// An object's name as one path segment. What `Url::set_path` would escape itself is left to it, but for
/// the percent sign, which it takes for an escape already made.
fn encode(object: &str) -> String {
    object.replace('%', "%25").replace('/', "%2F").replace('?', "%3F").replace('#', "%23")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_told_from_paths() {
        assert!(is_uri("gs://b/x.csv") && is_uri("file:///x"));
        assert!(!is_uri("x.csv") && !is_uri("./a:b") && !is_uri("://x"));
    }

    #[test]
    fn buckets_are_split_from_objects() {
        assert_eq!(split_gs("gs://b/x/y.csv"), Some(("b", "x/y.csv")));
        assert_eq!(split_gs("gs://b"), Some(("b", "")));
        assert_eq!(split_gs("s3://b/x"), None);
    }
}
