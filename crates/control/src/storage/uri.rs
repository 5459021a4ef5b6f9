//! [`ObjectUri`]: the address of an object, checked before anything is done with it.

use std::fmt;

use crate::{Error, Result};

/// Which store an [`ObjectUri`] names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// `gs://`: a local bucket, or Google Cloud Storage.
    Gs,
    /// `s3://`: Amazon S3 and what speaks its protocol.
    S3,
    /// `az://`: Azure Blob Storage, by container.
    Az,
    /// `file://`: a directory that the operator has opened.
    File,
}

impl Scheme {
    /// As it is written before `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Gs => "gs",
            Scheme::S3 => "s3",
            Scheme::Az => "az",
            Scheme::File => "file",
        }
    }
}

/// `gs://bucket/name`, `s3://bucket/name`, `az://container/name` or `file:///path`: the address of an
/// object or, with a name that is empty or ends in `/`, of all objects whose names begin so.
///
/// Holding one proves that its parts are harmless as parts of a path: no segment is empty, `.` or `..`,
/// nor becomes so when percent-decoded, and no name holds a backslash or a control character.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectUri {
    scheme: Scheme,
    bucket: String,
    name: String,
}

impl ObjectUri {
    /// Reads the address of one object.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the address and what is wrong with it.
    pub fn parse(uri: &str) -> Result<Self> {
        let parsed = Self::parse_prefix(uri)?;
        if parsed.name.is_empty() || parsed.name.ends_with('/') {
            return Err(Error::invalid(format!("`{}` names no object", shown(uri))));
        }
        Ok(parsed)
    }

    /// Reads the address of an object or of all objects whose names begin so.
    ///
    /// # Errors
    /// As [`ObjectUri::parse`].
    pub fn parse_prefix(uri: &str) -> Result<Self> {
        let refuse = |why: &str| Error::invalid(format!("`{}`: {why}", shown(uri)));
        let Some((scheme, rest)) = uri.split_once("://") else {
            return Err(refuse("an address begins with gs://, s3://, az:// or file://"));
        };
        let scheme = match scheme {
            "gs" => Scheme::Gs,
            "s3" => Scheme::S3,
            "az" => Scheme::Az,
            "file" => Scheme::File,
            _ => return Err(refuse("only gs://, s3://, az:// and file:// addresses are read")),
        };
        let (bucket, name) = rest.split_once('/').unwrap_or((rest, ""));
        if scheme == Scheme::File {
            if !bucket.is_empty() {
                return Err(refuse("a file:// address holds an absolute path and no host"));
            }
        } else {
            check_bucket(bucket).map_err(|why| refuse(&why))?;
        }
        check_prefix(name).map_err(|why| refuse(&why))?;
        Ok(ObjectUri { scheme, bucket: bucket.to_owned(), name: name.to_owned() })
    }

    /// The address of object `name` in the bucket `bucket` of `gs://`.
    ///
    /// # Errors
    /// As [`ObjectUri::parse`].
    pub fn gs(bucket: &str, name: &str) -> Result<Self> {
        let refuse = |why| Error::invalid(format!("`gs://{}/{}`: {why}", shown(bucket), shown(name)));
        check_bucket(bucket).map_err(refuse)?;
        check_name(name).map_err(refuse)?;
        Ok(ObjectUri { scheme: Scheme::Gs, bucket: bucket.to_owned(), name: name.to_owned() })
    }

    /// Which store.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The bucket or container; empty for `file://`.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The object's name, or the beginning of several names.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address of `name` in the same bucket.
    ///
    /// # Errors
    /// As [`ObjectUri::parse`].
    pub fn sibling(&self, name: &str) -> Result<Self> {
        let sibling = ObjectUri { scheme: self.scheme, bucket: self.bucket.clone(), name: name.to_owned() };
        check_name(name)
            .map_err(|why| Error::invalid(format!("`{}`: {why}", shown(&sibling.to_string()))))?;
        Ok(sibling)
    }

    /// The address of `name` below this one, taken as a directory.
    ///
    /// # Errors
    /// As [`ObjectUri::parse`].
    pub fn join(&self, name: &str) -> Result<Self> {
        let base = self.name.trim_end_matches('/');
        self.sibling(&if base.is_empty() { name.to_owned() } else { format!("{base}/{name}") })
    }
}

impl fmt::Display for ObjectUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/{}", self.scheme.as_str(), self.bucket, self.name)
    }
}

/// An address for an error message: short, on one line.
fn shown(text: &str) -> String {
    text.chars().take(300).flat_map(char::escape_debug).collect()
}

/// Whether `bucket` can name a bucket, by Google's rules.
///
/// # Errors
/// Which rule it breaks.
pub(crate) fn check_bucket(bucket: &str) -> std::result::Result<(), String> {
    let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = bucket.as_bytes();
    if !(3..=222).contains(&bytes.len()) || bucket.split('.').any(|part| part.len() > 63) {
        return Err(format!("the bucket name `{}` must have 3 to 63 characters", shown(bucket)));
    }
    if !bytes.iter().all(|&b| inside(b)) || !edge(bytes.first()) || !edge(bytes.last()) {
        return Err(format!(
            "the bucket name `{}` must hold lower-case letters, digits, `-`, `_` and `.` only, and begin \
             and end with a letter or a digit",
            shown(bucket)
        ));
    }
    if bucket.split('.').any(str::is_empty) || bucket.parse::<std::net::Ipv4Addr>().is_ok() {
        return Err(format!("the bucket name `{}` is an address or holds `..`", shown(bucket)));
    }
    Ok(())
}

/// Whether `name` can name an object.
///
/// # Errors
/// Which rule it breaks.
pub(crate) fn check_name(name: &str) -> std::result::Result<(), String> {
    if name.is_empty() {
        return Err("an object's name is not empty".to_owned());
    }
    if name.ends_with('/') {
        return Err("an object's name does not end in `/`".to_owned());
    }
    check_prefix(name)
}

/// Whether `prefix` can begin an object's name: a name, or one cut after a `/`.
fn check_prefix(prefix: &str) -> std::result::Result<(), String> {
    if prefix.len() > 1024 {
        return Err("an object's name has at most 1024 bytes".to_owned());
    }
    if prefix.chars().any(|c| c.is_control() || c == '\\') {
        return Err("an object's name holds no control characters and no backslash".to_owned());
    }
    let whole = prefix.strip_suffix('/').unwrap_or(prefix);
    if prefix.is_empty() {
        return Ok(());
    }
    whole.split('/').try_for_each(check_segment)
}

fn check_segment(segment: &str) -> std::result::Result<(), String> {
    if segment.len() > 255 {
        return Err("a part of an object's name between two `/` has at most 255 bytes".to_owned());
    }
    // Decoded until nothing is left to decode, so that whoever decodes once too often is safe too.
    let mut bytes = segment.as_bytes().to_vec();
    loop {
        if bytes.is_empty() || bytes == b"." || bytes == b".." {
            return Err("an object's name has no empty part and no part `.` or `..`".to_owned());
        }
        if bytes.iter().any(|b| matches!(b, 0 | b'/' | b'\\')) {
            return Err("an object's name holds no encoded `/`, `\\` or NUL".to_owned());
        }
        let decoded = percent_decoded(&bytes);
        if decoded.len() == bytes.len() {
            return Ok(());
        }
        bytes = decoded;
    }
}

fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    let digit = |b: Option<&u8>| b.and_then(|&b| char::from(b).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high << 4 | low) as u8);
                at += 3;
            }
            (other, ..) => {
                decoded.push(other);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn reads_every_scheme() {
        for (uri, bucket, name) in [
            ("gs://my-bucket/a/b.csv", "my-bucket", "a/b.csv"),
            ("s3://my.bucket/x", "my.bucket", "x"),
            ("az://container/x y.csv", "container", "x y.csv"),
            ("file:///srv/data/x.csv", "", "srv/data/x.csv"),
        ] {
            let parsed = ObjectUri::parse(uri).expect(uri);
            assert_eq!((parsed.bucket(), parsed.name()), (bucket, name));
            assert_eq!(parsed.to_string(), uri);
        }
    }

    #[test]
    fn a_prefix_may_be_empty_or_end_in_a_slash() {
        for uri in ["gs://bucket", "gs://bucket/", "gs://bucket/a/", "gs://bucket/a/b"] {
            assert!(ObjectUri::parse_prefix(uri).is_ok(), "{uri}");
        }
        for uri in ["gs://bucket", "gs://bucket/", "gs://bucket/a/"] {
            assert!(ObjectUri::parse(uri).is_err(), "{uri}");
        }
    }

    #[test]
    fn joins_below_a_directory() {
        let base = ObjectUri::parse_prefix("gs://bucket/out/").unwrap();
        assert_eq!(base.join("x.csv").unwrap().to_string(), "gs://bucket/out/x.csv");
        let bucket = ObjectUri::parse_prefix("gs://bucket").unwrap();
        assert_eq!(bucket.join("x.csv").unwrap().to_string(), "gs://bucket/x.csv");
        assert!(base.join("../x").is_err());
    }

    /// CVE-2023-1177, CVE-2024-1560: `..`, also encoded once or twice, reached files outside the store.
    #[test]
    fn cve_2024_1560_double_decoded_traversal() {
        for name in [
            "../x",
            "a/../../x",
            "a/..",
            "./x",
            "%2e%2e/x",
            "%2E%2e/x",
            "a/%252e%252e/x",
            "a/%25252e./x",
            "..%2fx",
            "..%5cx",
            "a\\..\\x",
            "a%00.csv",
            "a\0.csv",
            "/etc/passwd",
            "a//b",
            "%2fetc/passwd",
            "a\nb",
        ] {
            assert!(ObjectUri::parse(&format!("gs://bucket/{name}")).is_err(), "{name:?}");
            assert!(ObjectUri::parse_prefix(&format!("gs://bucket/{name}")).is_err(), "{name:?}");
            assert!(ObjectUri::gs("bucket", name).is_err(), "{name:?}");
            assert!(ObjectUri::parse(&format!("file:///{name}")).is_err(), "{name:?}");
        }
    }

    /// CVE-2024-37032: what should have been an identifier was a path.
    #[test]
    fn cve_2024_37032_a_bucket_is_not_a_path() {
        for bucket in
            ["..", ".", "a/..", "", "ab", "-ab", "ab-", "a..b", "A-b", "%2e%2e", "10.0.0.1", ".staging"]
        {
            assert!(ObjectUri::gs(bucket, "x").is_err(), "{bucket:?}");
        }
    }

    #[test]
    fn harmless_percent_signs_stay() {
        assert_eq!(ObjectUri::parse("gs://bucket/100%25.csv").unwrap().name(), "100%25.csv");
        assert_eq!(ObjectUri::parse("gs://bucket/100%.csv").unwrap().name(), "100%.csv");
    }

    #[test]
    fn other_schemes_are_refused() {
        for uri in
            ["http://169.254.169.254/x", "https://x/y", "x.csv", "/etc/passwd", "file://host/x", "gs:/b/x"]
        {
            assert!(ObjectUri::parse(uri).is_err(), "{uri}");
        }
    }
}
