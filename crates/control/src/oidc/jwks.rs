//! [`KeySet`]: an issuer's public keys (RFC 7517).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::jwt::Algorithm;

/// Keys of one issuer at most.
const KEYS_MAX: usize = 64;
/// Bytes of a number in a key: RSA of 8192 bits.
const NUMBER_BYTES_MAX: usize = 1024;
/// Bytes of a coordinate on P-256.
const COORDINATE_BYTES: usize = 32;

/// An issuer's keys that sign in a way that is known here.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    keys: Vec<(Algorithm, String, Vec<u8>)>,
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

/// A key as it is written; what else is said of it does not matter here.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: String,
    #[serde(default, rename = "use")]
    purpose: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}

impl KeySet {
    /// Reads a set. Keys of other kinds are left out. `None` if it is none.
    pub(super) fn read(bytes: &[u8]) -> Option<KeySet> {
        let set: Jwks = serde_json::from_slice(bytes).ok()?;
        if set.keys.len() > KEYS_MAX {
            return None;
        }
        let keys = set.keys.into_iter().filter_map(|key| {
            let (algorithm, public) = key.public()?;
            Some((algorithm, key.kid, public))
        });
        Some(KeySet { keys: keys.collect() })
    }

    /// The key `id` that signs by `algorithm`.
    pub(super) fn get(&self, algorithm: Algorithm, id: &str) -> Option<&[u8]> {
        let found = self.keys.iter().find(|(by, name, _)| *by == algorithm && name == id);
        found.map(|(_, _, key)| key.as_slice())
    }
}

impl Jwk {
    /// The key as signatures are checked with it.
    fn public(&self) -> Option<(Algorithm, Vec<u8>)> {
        if self.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let number = |text: &Option<String>| {
            let bytes = URL_SAFE_NO_PAD.decode(text.as_ref()?).ok()?;
            (!bytes.is_empty() && bytes.len() <= NUMBER_BYTES_MAX).then_some(bytes)
        };
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                let content = [integer(&number(&self.n)?), integer(&number(&self.e)?)].concat();
                Some((Algorithm::Rs256, tagged(0x30, &content)))
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (number(&self.x)?, number(&self.y)?);
                let is_whole = x.len() == COORDINATE_BYTES && y.len() == COORDINATE_BYTES;
                is_whole.then(|| (Algorithm::Es256, [&[4][..], &x, &y].concat()))
            }
            _ => None,
        }
    }
}

/// A number in DER, from its bytes, the greatest first.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1);
    let digits = &bytes[start..];
    // One that begins with a set bit would be negative.
    let sign: &[u8] = if digits[0] & 0x80 == 0 { &[] } else { &[0] };
    tagged(2, &[sign, digits].concat())
}

/// A value in DER: what it is, its length, its content.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut value = vec![tag];
    match length {
        0..0x80 => value.push(length as u8),
        0x80..0x100 => value.extend([0x81, length as u8]),
        // At most two numbers of a kibibyte and their heads.
        _ => value.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    value.extend_from_slice(content);
    value
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_are_written_as_der_has_them() {
        assert_eq!(integer(&[1, 0, 1]), [2, 3, 1, 0, 1]);
        assert_eq!(integer(&[0, 0, 0x80]), [2, 2, 0, 0x80]);
        assert_eq!(integer(&[0]), [2, 1, 0]);
        assert_eq!(tagged(0x30, &[7; 0x80])[..4], [0x30, 0x81, 0x80, 7]);
        assert_eq!(tagged(0x30, &[7; 0x201])[..5], [0x30, 0x82, 2, 1, 7]);
    }

    #[test]
    fn keys_that_are_none_are_left_out() {
        let set = br#"{"keys": [{"kty": "oct", "k": "AAAA", "kid": "a"}, {"kty": "RSA", "kid": "b"},
            {"kty": "RSA", "kid": "c", "n": "", "e": "AQAB"}, {"kty": "EC", "crv": "P-256", "kid": "d", "x": "AA", "y": "AA"},
            {"kty": "EC", "crv": "P-521", "kid": "e", "x": "AA", "y": "AA"}, {"kty": "RSA", "kid": "f", "n": "!", "e": "AQAB"},
            {"kty": "RSA", "kid": "g", "use": "enc", "n": "AQAB", "e": "AQAB"}, {"kty": "RSA", "kid": "h", "n": "wQAB", "e": "AQAB"}]}"#;
        let set = KeySet::read(set).unwrap();
        assert_eq!(set.keys.len(), 1);
        assert!(set.get(Algorithm::Rs256, "h").is_some() && set.get(Algorithm::Es256, "h").is_none());
        for wrong in [&b""[..], b"[]", b"{}", b"{\"keys\": 1}", b"{\"keys\": [{}]}"] {
            assert!(KeySet::read(wrong).is_none());
        }
    }
}
