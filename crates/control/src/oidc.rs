//! [`Oidc`]: people and programs whom an identity provider vouches for.
//!
//! The operator names the issuers that are believed, for whom their tokens must be meant, by which algorithm they are
//! signed, and what claims grant. An issuer's keys are read from a file or an address, now and then and when a token
//! names one that is not known yet; a request never waits for that.

mod jwks;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::control::WeakControl;
use crate::jwt::{Algorithm, Jwt};
use crate::storage::blocking;
use crate::web::{SourceOptions, Web};
use crate::{ALL_PROJECTS, Error, Principal, Result, Role, Timestamp, is_id};
use jwks::KeySet;

/// How long a token may hold from its making.
const TOKEN_SECONDS_MAX: i64 = 24 * 60 * 60;
/// How often an issuer's keys are read.
const INTERVAL: Duration = Duration::from_secs(300);
/// How soon they are read again when a token names one that is not known.
const PAUSE: Duration = Duration::from_secs(5);
/// Bytes of an issuer's keys, and of the operator's file.
const BYTES_MAX: usize = 256 << 10;
/// Characters of a name that a token gives its holder.
const SUBJECT_CHARS_MAX: usize = 128;

/// Whom tokens of identity providers stand for.
#[derive(Default)]
pub struct Oidc {
    issuers: Vec<Issuer>,
    /// That a token names a key that is not known.
    wanted: Notify,
}

struct Issuer {
    believed: Believed,
    place: Place,
    keys: RwLock<KeySet>,
}

/// Where an issuer's keys are.
enum Place {
    File(PathBuf),
    Address(Url),
}

/// The operator's file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    issuer: Vec<Believed>,
}

/// An issuer as the operator describes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Believed {
    issuer: String,
    audience: String,
    algorithm: Algorithm,
    /// An address, or a file beside the operator's.
    keys: String,
    grant: Vec<Grant>,
}

/// What some claims grant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Grant {
    /// All of them must be there: as they are, or in a list.
    #[serde(default)]
    claims: BTreeMap<String, String>,
    project: String,
    role: Role,
}

impl Grant {
    fn is_for(&self, jwt: &Jwt<'_>) -> bool {
        self.claims.iter().all(|(name, wanted)| jwt.claims.get(name).is_some_and(|claim| has(claim, wanted)))
    }
}

/// Whether a claim is `wanted`, or a list that has it.
fn has(claim: &Value, wanted: &str) -> bool {
    match claim {
        Value::Array(items) => items.iter().any(|item| item.as_str() == Some(wanted)),
        claim => claim.as_str() == Some(wanted),
    }
}

impl Oidc {
    /// As the operator's file says.
    ///
    /// # Errors
    /// If it cannot be read or is wrong, in words for the operator. An issuer's keys may be out of reach.
    pub(crate) async fn open(path: &Path) -> Result<Self> {
        let wrong = |what: String| Error::precondition(format!("{}: {what}", path.display()));
        let file = path.to_owned();
        let text = blocking(move || read_file(&file).map_err(|e| Error::precondition(e.to_string()))).await;
        let text = text.map_err(|e| wrong(e.message))?;
        let text = String::from_utf8(text).map_err(|e| wrong(e.to_string()))?;
        let settings: Settings = toml::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        let directory = path.parent().unwrap_or(path);
        let issuers =
            settings.issuer.into_iter().map(|believed| Issuer::new(believed, directory).map_err(&wrong));
        let oidc = Oidc { issuers: issuers.collect::<Result<_>>()?, wanted: Notify::new() };
        oidc.read_keys().await;
        Ok(oidc)
    }

    /// Whom `token` stands for; `None` for anything but a token of a believed issuer that holds now.
    pub(crate) fn principal(&self, token: &str, now: Timestamp) -> Option<Principal> {
        if self.issuers.is_empty() {
            return None;
        }
        let jwt = Jwt::read(token)?;
        let name = jwt.text("iss")?;
        let issuer = self.issuers.iter().find(|issuer| issuer.believed.issuer == name)?;
        let believed = &issuer.believed;
        let is_meant = jwt.claims.get("aud").is_some_and(|audience| has(audience, &believed.audience));
        if !(is_meant && jwt.holds_at(now, TOKEN_SECONDS_MAX)) {
            return None;
        }
        let subject = jwt.text("sub").filter(|subject| subject.chars().count() <= SUBJECT_CHARS_MAX)?;
        let keys = issuer.keys.read().unwrap_or_else(PoisonError::into_inner);
        let Some(key) = keys.get(believed.algorithm, &jwt.key_id) else {
            self.wanted.notify_one();
            return None;
        };
        if !jwt.is_signed_by(believed.algorithm, key) {
            return None;
        }
        let grant = believed.grant.iter().find(|grant| grant.is_for(&jwt))?;
        Some(Principal {
            key_id: format!("{name}#{subject}"),
            project: grant.project.clone(),
            role: grant.role,
            models: None,
        })
    }

    async fn read_keys(&self) {
        for issuer in &self.issuers {
            match issuer.read().await {
                Ok(keys) => *issuer.keys.write().unwrap_or_else(PoisonError::into_inner) = keys,
                // Those that are known go on to count.
                Err(error) => {
                    let name = &issuer.believed.issuer;
                    tracing::warn!(issuer = name, %error, cause = ?error.source, "an issuer's keys could not be read");
                }
            }
        }
    }
}

impl Issuer {
    fn new(believed: Believed, directory: &Path) -> std::result::Result<Self, String> {
        let Believed { issuer, keys, grant, audience, .. } = &believed;
        if issuer.is_empty() || audience.is_empty() || grant.is_empty() {
            return Err("an issuer needs a name, an audience and something that it grants".to_owned());
        }
        let no_project = |grant: &&Grant| grant.project != ALL_PROJECTS && !is_id(&grant.project);
        if let Some(wrong) = grant.iter().find(no_project) {
            return Err(format!("{:?} is no project", wrong.project));
        }
        let place = match keys.split_once("://") {
            None => Place::File(directory.join(keys)),
            Some(_) => Place::Address(keys.parse().map_err(|e| format!("{keys}: {e}"))?),
        };
        Ok(Issuer { place, believed, keys: RwLock::default() })
    }

    async fn read(&self) -> Result<KeySet> {
        let bytes = match &self.place {
            Place::File(path) => {
                let path = path.clone();
                let attempted = format!("reading {}", path.display());
                blocking(move || read_file(&path).map_err(|e| Error::internal(attempted, e))).await?
            }
            Place::Address(url) => {
                // The operator chose it, so it may be inside.
                let web = Web::new(&SourceOptions { private: true, ..SourceOptions::default() })?;
                web.read(url, &HeaderMap::new(), BYTES_MAX).await?.1
            }
        };
        KeySet::read(&bytes).ok_or_else(|| Error::invalid("this is no set of keys (JWKS)"))
    }
}

fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(BYTES_MAX as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads the issuers' keys now and then, as long as the control plane is there.
pub(crate) async fn keep_reading(control: WeakControl, oidc: Arc<Oidc>) {
    while !oidc.issuers.is_empty() {
        tokio::time::sleep(PAUSE).await;
        // Whether somebody wants them or the time has come, they are read.
        let _ = timeout(INTERVAL, oidc.wanted.notified()).await;
        if control.upgrade().is_none() {
            return;
        }
        oidc.read_keys().await;
    }
}
