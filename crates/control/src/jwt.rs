//! [`Jwt`]: a signed statement (RFC 7519), taken apart before anybody believes it.
//!
//! By which algorithm a signature is checked is never the statement's choice: whoever checks it names one, and a
//! statement that names another is not theirs.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Timestamp;

/// Bytes of a statement at most: anything longer is not looked at.
const BYTES_MAX: usize = 16 << 10;
/// How far the clocks of two machines may be apart.
const SKEW_SECONDS: i64 = 60;

/// How statements are signed. There is no other way, and not signing is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    /// RSA, PKCS #1 1.5, SHA-256; the key as PKCS #1 in DER, 2048 to 8192 bits.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA on P-256, SHA-256; the key as an uncompressed point.
    #[serde(rename = "ES256")]
    Es256,
}

/// A signed statement. What it claims counts once [`Jwt::is_signed_by`] and [`Jwt::holds_at`] have said so.
#[derive(Debug)]
pub struct Jwt<'a> {
    /// Which of the issuer's keys is said to have signed it.
    pub key_id: String,
    /// What it claims.
    pub claims: Map<String, Value>,
    algorithm: Algorithm,
    signed: &'a str,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: Algorithm,
    #[serde(default)]
    kid: String,
    /// Extensions that must be understood: none is.
    #[serde(default)]
    crit: Option<Value>,
}

impl<'a> Jwt<'a> {
    /// Takes a statement apart. `None` for anything else, or one that is signed in no way that is known here.
    pub fn read(text: &'a str) -> Option<Jwt<'a>> {
        if text.len() > BYTES_MAX {
            return None;
        }
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        if header.crit.is_some() {
            return None;
        }
        Some(Jwt {
            key_id: header.kid,
            claims: serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?,
            algorithm: header.alg,
            signed,
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    /// Whether the holder of the private half of `key`, which signs by `algorithm`, has signed it.
    pub fn is_signed_by(&self, algorithm: Algorithm, key: &[u8]) -> bool {
        let by: &dyn VerificationAlgorithm = match algorithm {
            Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            Algorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
        };
        let key = UnparsedPublicKey::new(by, key);
        self.algorithm == algorithm && key.verify(self.signed.as_bytes(), &self.signature).is_ok()
    }

    /// Whether it says of itself that it holds at `now`, and was made for no longer than `seconds`.
    pub fn holds_at(&self, now: Timestamp, seconds: i64) -> bool {
        let now = now.as_second();
        let (Some(issued), Some(expires)) = (self.number("iat"), self.number("exp")) else { return false };
        let begins = self.number("nbf").unwrap_or(issued).max(issued);
        begins <= now.saturating_add(SKEW_SECONDS)
            && now < expires
            && expires.saturating_sub(issued) <= seconds
    }

    /// The claim `name`, where it is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.claims.get(name).and_then(Value::as_str)
    }

    fn number(&self, name: &str) -> Option<i64> {
        let value = self.claims.get(name)?;
        value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use serde_json::json;

    use super::*;

    fn part(json: &Value) -> String {
        URL_SAFE_NO_PAD.encode(json.to_string())
    }

    fn pair() -> EcdsaKeyPair {
        let (random, kind) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let made = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
        EcdsaKeyPair::from_pkcs8(kind, made.as_ref(), &random).unwrap()
    }

    fn signed(pair: &EcdsaKeyPair, header: &Value, claims: &Value) -> String {
        let text = format!("{}.{}", part(header), part(claims));
        let signature = pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    #[test]
    fn only_what_was_signed_counts() {
        let (pair, other) = (pair(), pair());
        let text = signed(&pair, &json!({"alg": "ES256", "kid": "k"}), &json!({"sub": "me"}));
        let jwt = Jwt::read(&text).unwrap();
        let key = pair.public_key().as_ref();
        assert_eq!((jwt.key_id.as_str(), jwt.text("sub")), ("k", Some("me")));
        assert!(jwt.is_signed_by(Algorithm::Es256, key));
        assert!(!jwt.is_signed_by(Algorithm::Es256, other.public_key().as_ref()));
        assert!(!jwt.is_signed_by(Algorithm::Rs256, key));
        let (head, rest) = text.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        let changed = format!("{head}.{}.{signature}", part(&json!({"sub": "you"})));
        assert!(!Jwt::read(&changed).unwrap().is_signed_by(Algorithm::Es256, key));
    }

    #[test]
    fn no_other_way_of_signing_is_known() {
        for header in [
            json!({"alg": "none"}),
            json!({"alg": "HS256"}),
            json!({"alg": "RS256", "crit": ["exp"]}),
            json!({}),
            json!([]),
        ] {
            let text = format!("{}.{}.AAAA", part(&header), part(&json!({})));
            assert!(Jwt::read(&text).is_none(), "{header}");
        }
        for text in ["", ".", "..", "a.b.c", "e30.e30.", &"a".repeat(BYTES_MAX + 1)] {
            assert!(Jwt::read(text).is_none(), "{text:.40}");
        }
    }

    #[test]
    fn it_holds_for_as_long_as_it_says_and_not_too_long() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let holds = |claims: Value| {
            let text = format!("{}.{}.AAAA", part(&json!({"alg": "RS256"})), part(&claims));
            Jwt::read(&text).unwrap().holds_at(now, 3600)
        };
        assert!(holds(json!({"iat": 1_000_000, "exp": 1_003_600})));
        assert!(holds(json!({"iat": 999_000.0, "exp": 1_000_001})));
        for claims in [
            json!({"iat": 990_000, "exp": 1_000_000}),
            json!({"iat": 1_000_000, "exp": 1_003_601}),
            json!({"iat": 1_000_100, "exp": 1_003_600}),
            json!({"iat": 1_000_000, "nbf": 1_000_100, "exp": 1_003_600}),
            json!({"iat": -9.2e18, "exp": 9.2e18}),
            json!({"exp": 1_003_600}),
            json!({"iat": 1_000_000}),
        ] {
            assert!(!holds(claims.clone()), "{claims}");
        }
    }
}
