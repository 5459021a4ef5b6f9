//! Service accounts: keys without a secret to send. Their holder has a private key, signs statements with it
//! ([`Jwt`](crate::Jwt)) and may have a token for a while. The server knows the public half only.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::jwt::{Algorithm, Jwt};
use crate::keys::{Hash, ID_LENGTH, KeyRing};
use crate::{Error, KeyInfo, Keys, NewKey, Principal, Result, Secret, Timestamp};

/// How long a token is good for, unless its account ends sooner.
const TOKEN_TIME: Duration = Duration::from_secs(15 * 60);
/// A statement is made for an hour at most.
const STATEMENT_SECONDS: i64 = 3600;
/// A token is `mt_`, its account's id, `_`, when it ends, `_` and a code over both.
const TOKEN: &str = "mt_";
/// Bytes of a public key: RSA, 2048 to 4096 bits, in DER as PKCS #1 has it.
const PUBLIC_KEY_BYTES: std::ops::RangeInclusive<usize> = 256..=600;

/// What comes after an account's id in its address.
const DOMAIN: &str = "@meuse.invalid";

impl Keys {
    /// Makes a service account, whose holder has the private half of `public_key`: RSA, in DER as PKCS #1 has it.
    ///
    /// # Errors
    /// As for a key; if the public key is none.
    pub async fn create_account(&self, new: NewKey, public_key: &[u8]) -> Result<KeyInfo> {
        // A sequence (0x30) whose length takes two bytes (0x82): all such keys begin so.
        if !PUBLIC_KEY_BYTES.contains(&public_key.len()) || !public_key.starts_with(&[0x30, 0x82]) {
            return Err(Error::invalid(
                "the public key must be RSA, 2048 to 4096 bits, in DER as PKCS #1 has it",
            ));
        }
        Ok(self.make(new, Some(STANDARD.encode(public_key))).await?.0)
    }

    /// The account that has signed `statement`, which comes from `from`, and names itself as who makes it and about whom, if
    /// it holds now. What it is meant for is for others to judge. Touches memory only.
    pub fn signer(&self, statement: &Jwt<'_>, from: IpAddr) -> Option<Arc<Principal>> {
        let now = Timestamp::now();
        let (principal, key) = self.ring().account(&statement.key_id, from, now)?;
        let address = address(&principal.key_id);
        let holds = statement.text("iss") == Some(&address)
            && statement.text("sub").is_none_or(|subject| subject == address)
            && statement.holds_at(now, STATEMENT_SECONDS)
            && statement.is_signed_by(Algorithm::Rs256, &key);
        if holds {
            self.ring().note_use(&principal.key_id, now);
        }
        holds.then_some(principal)
    }

    /// A token that stands for the account for a while, and for how long.
    pub fn issue_token(&self, account: &Principal) -> (Secret, Duration) {
        let id = &account.key_id;
        let ends = Timestamp::now().as_second().saturating_add_unsigned(TOKEN_TIME.as_secs());
        let code = URL_SAFE_NO_PAD.encode(self.ring().token_code(id, ends).bytes());
        (Secret::new(format!("{TOKEN}{id}_{ends}_{code}")), TOKEN_TIME)
    }
}

/// The address by which the account `id` is known to Google's libraries. It leads nowhere.
pub fn address(id: &str) -> String {
    format!("{id}{DOMAIN}")
}

impl KeyRing {
    fn account(&self, id: &str, from: IpAddr, now: Timestamp) -> Option<(Arc<Principal>, Vec<u8>)> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let held = keys.get(id)?;
        Some((Arc::clone(&held.principal), held.public_key(from, now)?))
    }

    fn note_use(&self, id: &str, now: Timestamp) {
        if let Some(held) = self.keys.read().unwrap_or_else(PoisonError::into_inner).get(id) {
            held.note_use(now);
        }
    }

    /// What only this server can know of a token. No key's id begins like it, so that it is the hash of no key.
    fn token_code(&self, id: &str, ends: i64) -> Hash {
        self.hash("token", &format!("{id}_{ends}"))
    }

    /// Whose token this is, coming from `from`.
    pub(crate) fn token_holder(&self, token: &str, from: IpAddr, now: Timestamp) -> Option<Arc<Principal>> {
        let (id, rest) = token.strip_prefix(TOKEN)?.split_at_checked(ID_LENGTH)?;
        let (ends, code) = rest.strip_prefix('_')?.split_once('_')?;
        let ends: i64 = ends.parse().ok()?;
        let code: [u8; 32] = URL_SAFE_NO_PAD.decode(code).ok()?.try_into().ok()?;
        if !self.token_code(id, ends).is(&Hash::new(code)) || now.as_second() >= ends {
            return None;
        }
        let (principal, _) = self.account(id, from, now)?;
        self.note_use(id, now);
        Some(principal)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;

    use super::*;
    use crate::{Control, Role};

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    async fn account(control: &Control) -> Principal {
        let key = [&[0x30, 0x82][..], &[7; 268]].concat();
        let new =
            NewKey { networks: vec!["127.0.0.0/8".parse().unwrap()], ..NewKey::new("p", Role::Deployer) };
        let info = control.keys().create_account(new, &key).await.unwrap();
        Principal { key_id: info.id, project: info.project, role: info.role, models: None }
    }

    #[tokio::test]
    async fn a_token_stands_for_its_account_while_there_is_one() {
        let directory = tempfile::tempdir().unwrap();
        let control = Control::open(crate::Options::new(directory.path())).await.unwrap();
        let (keys, account) = (control.keys(), account(&control).await);
        let (token, _) = keys.issue_token(&account);
        assert_eq!(keys.authenticate(token.expose(), HERE).as_deref(), Some(&account));
        assert_eq!(keys.authenticate(token.expose(), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))), None);
        let later = Timestamp::now() + TOKEN_TIME;
        assert_eq!(keys.ring().token_holder(token.expose(), HERE, later), None);
        let (_, rest) = token.expose().rsplit_once('_').unwrap();
        let longer = format!("mt_{}_{}_{rest}", account.key_id, i64::MAX);
        assert_eq!(keys.authenticate(&longer, HERE), None);
        for wrong in ["mt_", "mt_é", "mt_0123456789abcdef", "mt_0123456789abcdef_1_", "mt_0123456789abcdef__"]
        {
            assert_eq!(keys.authenticate(wrong, HERE), None, "{wrong}");
        }
        assert!(keys.rotate(&account.key_id, jiff::SignedDuration::ZERO).await.is_err());
        // An account has no secret: nothing in the form of a key opens it.
        assert_eq!(keys.authenticate(&format!("mk_{}_x", account.key_id), HERE), None);
        keys.delete(&account.key_id).await.unwrap();
        assert_eq!(keys.authenticate(token.expose(), HERE), None);
    }

    #[tokio::test]
    async fn what_is_no_public_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let control = Control::open(crate::Options::new(directory.path())).await.unwrap();
        for key in [&[][..], &[0x30, 0x82], &[7; 270], &[0x30; 4096]] {
            assert!(control.keys().create_account(NewKey::new("p", Role::Viewer), key).await.is_err());
        }
    }
}
