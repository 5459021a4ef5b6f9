//! [`Digest`]: what content is called.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// A SHA-256 digest, written `sha256:` and 64 lower-case hexadecimal digits. The only form in which
/// a digest enters the program, whatever path it comes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest([u8; 32]);

/// A text that is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a digest is `sha256:` followed by 64 lower-case hexadecimal digits")]
pub struct DigestError;

impl Digest {
    /// The digest with these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Digest(bytes)
    }

    /// The digest of `content`.
    pub fn of(content: &[u8]) -> Self {
        Digest(Sha256::digest(content).into())
    }

    /// The digest of everything left in `content`, and its length in bytes.
    ///
    /// # Errors
    /// If reading fails.
    pub fn of_reader(mut content: impl Read) -> io::Result<(Self, u64)> {
        let (mut hasher, mut length) = (Sha256::new(), 0);
        let mut buffer = vec![0; 1 << 20];
        loop {
            match content.read(&mut buffer)? {
                0 => return Ok((Digest(hasher.finalize().into()), length)),
                n => {
                    hasher.update(&buffer[..n]);
                    length += n as u64;
                }
            }
        }
    }

    /// The 64 hexadecimal digits alone, for file names.
    pub fn hex(&self) -> String {
        self.0.iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let hex = text.strip_prefix("sha256:").ok_or(DigestError)?.as_bytes();
        let mut bytes = [0; 32];
        if hex.len() != 64 {
            return Err(DigestError);
        }
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Digest(bytes))
    }
}

fn nibble(digit: u8) -> Result<u8, DigestError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(DigestError),
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    /// CVE-2024-37032, CVE-2026-7020: a digest that was a path.
    #[test]
    fn cve_2024_37032_a_digest_is_not_a_path() {
        let digits = "ab".repeat(32);
        assert!(format!("sha256:{digits}").parse::<Digest>().is_ok());
        for wrong in [
            "sha256:../x".to_owned(),
            format!("sha256:../{}", &digits[3..]),
            format!("sha256:{}", &digits[1..]),
            format!("sha256:{digits}a"),
            format!("sha256:{}", digits.to_uppercase()),
            format!("sha256-{digits}"),
            format!("sha256:{digits}\n"),
            format!("sha256:{}\0", &digits[1..]),
            digits,
        ] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        let nothing = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), nothing);
        assert_eq!(Digest::of_reader(io::empty()).unwrap(), (Digest::of(b""), 0));
    }
}
