//! [`Keys`]: who may come in.
//!
//! A key is `mk_<id>_<secret>`, the secret 256 random bits. It is shown once; what is stored is an
//! HMAC-SHA256 of it under a pepper that lies beside the metadata, in a file of its own. A slow password
//! hash would add nothing: there is no guessing 256 bits.

use std::collections::HashMap;
use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::store::{Kind, MetadataStore, Record, list_all, remove};
use crate::{Error, ErrorCode, Result, Timestamp, is_id};

/// What a key's holder may do. Each may do all that those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Read everything in the project.
    Viewer,
    /// Predict and explain.
    Invoker,
    /// Register, deploy, run jobs, change and delete.
    Deployer,
    /// Make and withdraw keys.
    Admin,
}

/// Who makes a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The key's public part.
    pub key_id: String,
    /// The project that the key is bound to, or `*` for all.
    pub project: String,
    /// What its holder may do.
    pub role: Role,
}

impl Principal {
    /// Whether this principal may do in `project` what needs `role`.
    pub fn may(&self, project: &str, role: Role) -> bool {
        self.role >= role && (self.project == ALL_PROJECTS || self.project == project)
    }
}

/// The project of a key that may act in every one: the first key's.
pub const ALL_PROJECTS: &str = "*";

/// What is known of a key, short of its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    /// Its public part.
    pub id: String,
    /// The project that it is bound to, or `*` for all.
    pub project: String,
    /// What its holder may do.
    pub role: Role,
    /// When it stops working; never when absent.
    pub expires: Option<Timestamp>,
    /// When it was made.
    pub create_time: Timestamp,
}

/// A whole key, `mk_<id>_<secret>`: shown once, kept nowhere. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The key itself, to hand to its holder.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl std::str::FromStr for Role {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "viewer" => Ok(Role::Viewer),
            "invoker" => Ok(Role::Invoker),
            "deployer" => Ok(Role::Deployer),
            "admin" => Ok(Role::Admin),
            _ => Err(crate::Error::invalid(format!(
                "{text:?} is no role; the roles are viewer, invoker, deployer and admin"
            ))),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Viewer => "viewer",
            Role::Invoker => "invoker",
            Role::Deployer => "deployer",
            Role::Admin => "admin",
        })
    }
}

/// The keys. Get them from [`crate::Control::keys`].
#[derive(Clone)]
pub struct Keys {
    control: crate::Control,
}

/// A key is `mk_`, its id, `_` and its secret.
const PREFIX: &str = "mk_";
/// Digits of an id: 64 bits in hexadecimal.
const ID_LENGTH: usize = 16;
/// Bytes of a secret, and of the pepper.
const SECRET_BYTES: usize = 32;
/// Bytes of a key at most: anything longer is not looked at.
const KEY_BYTES_MAX: usize = 256;

/// A key as it is stored.
#[derive(Clone, Serialize, Deserialize)]
struct StoredKey {
    #[serde(flatten)]
    info: KeyInfo,
    /// HMAC-SHA256 under the pepper of the id and the secret, in base64.
    hash: String,
    etag: String,
}

impl Record for StoredKey {
    const KIND: Kind = Kind::Key;

    fn name(&self) -> &str {
        &self.info.id
    }

    fn parent(&self) -> String {
        self.info.project.clone()
    }

    fn etag(&self) -> &str {
        &self.etag
    }

    fn created(&self) -> Timestamp {
        self.info.create_time
    }

    fn stamp(&mut self, etag: String, _: Timestamp) {
        self.etag = etag;
    }
}

/// All keys in memory: a request's key is checked without touching the metadata store.
pub(crate) struct KeyRing {
    /// Keyed with the pepper.
    mac: Hmac<Sha256>,
    keys: RwLock<HashMap<String, StoredKey>>,
}

impl KeyRing {
    /// Reads the keys of the data directory. When there are none yet, makes the first, an admin's for all
    /// projects, and writes it to `admin.key`.
    pub(crate) async fn open(data_dir: &Path, store: &dyn MetadataStore) -> Result<Self> {
        let stored = list_all::<StoredKey>(store, None).await?;
        let pepper = read_pepper(&data_dir.join("pepper"), stored.is_empty())?;
        let mac = Hmac::new_from_slice(&pepper).map_err(|e| Error::internal("reading the pepper", e))?;
        let keys = stored.into_iter().map(|key| (key.info.id.clone(), key)).collect();
        let ring = KeyRing { mac, keys: RwLock::new(keys) };
        if ring.keys.read().unwrap_or_else(PoisonError::into_inner).is_empty() {
            let (key, secret) = ring.draw(ALL_PROJECTS, Role::Admin, None)?;
            // The file first: if this process dies in between, the next one starts over.
            write_private(&data_dir.join("admin.key"), format!("{}\n", secret.expose()).as_bytes())?;
            ring.keep(store, key).await?;
        }
        Ok(ring)
    }

    fn hash(&self, id: &str, secret: &str) -> [u8; 32] {
        let mut mac = self.mac.clone();
        mac.update(id.as_bytes());
        mac.update(b"_");
        mac.update(secret.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// A new key, not kept yet.
    fn draw(&self, project: &str, role: Role, expires: Option<Timestamp>) -> Result<(StoredKey, Secret)> {
        let id = format!("{:016x}", getrandom::u64().map_err(|e| Error::internal("drawing a key", e))?);
        let secret = URL_SAFE_NO_PAD.encode(random()?);
        let hash = STANDARD.encode(self.hash(&id, &secret));
        let whole = Secret(format!("{PREFIX}{id}_{secret}"));
        let info = KeyInfo { id, project: project.to_owned(), role, expires, create_time: Timestamp::now() };
        Ok((StoredKey { info, hash, etag: String::new() }, whole))
    }

    async fn keep(&self, store: &dyn MetadataStore, mut key: StoredKey) -> Result<KeyInfo> {
        let write = key.insert()?;
        store.commit(vec![write]).await?;
        let info = key.info.clone();
        self.keys.write().unwrap_or_else(PoisonError::into_inner).insert(info.id.clone(), key);
        Ok(info)
    }

    /// Whose key this is. Takes as long for a wrong secret as for a right one.
    fn authenticate(&self, key: &str, now: Timestamp) -> Option<Principal> {
        let (id, secret) = split(key)?;
        let given = self.hash(id, secret);
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let stored = keys.get(id)?;
        let hash = STANDARD.decode(&stored.hash).ok()?;
        let right: bool = given.as_slice().ct_eq(&hash).into();
        let valid = stored.info.expires.is_none_or(|expires| now < expires);
        (right && valid).then(|| Principal {
            key_id: stored.info.id.clone(),
            project: stored.info.project.clone(),
            role: stored.info.role,
        })
    }
}

/// The id and the secret of something in the form of a key.
fn split(key: &str) -> Option<(&str, &str)> {
    if key.len() > KEY_BYTES_MAX {
        return None;
    }
    let (id, secret) = key.strip_prefix(PREFIX)?.split_once('_')?;
    (id.len() == ID_LENGTH && !secret.is_empty()).then_some((id, secret))
}

fn random() -> Result<[u8; SECRET_BYTES]> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(|e| Error::internal("drawing random bytes", e))?;
    Ok(bytes)
}

/// The pepper: without it the stored hashes are of no use to whoever reads the metadata.
fn read_pepper(path: &Path, may_create: bool) -> Result<Vec<u8>> {
    match std::fs::read(path) {
        Ok(pepper) if pepper.len() == SECRET_BYTES => Ok(pepper),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && may_create => {
            let pepper = random()?;
            write_private(path, &pepper)?;
            Ok(pepper.to_vec())
        }
        Ok(_) => Err(lost_pepper(path, "has another length than it was written with")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(lost_pepper(path, "is missing")),
        Err(error) => Err(lost_pepper(path, "cannot be read").caused_by(error)),
    }
}

fn lost_pepper(path: &Path, what: &str) -> Error {
    Error::new(
        ErrorCode::DataLoss,
        format!("{} {what}; without it no key can be checked: restore it from a backup", path.display()),
    )
}

/// Puts a file in place, whole and readable by its owner alone.
fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let staged = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        // Left by a crash, perhaps with another mode.
        if let Err(error) = std::fs::remove_file(&staged)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&staged)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&staged, path)?;
        path.parent().map_or(Ok(()), crate::storage::sync_directory)
    };
    write().map_err(|e| Error::internal(format_args!("writing {}", path.display()), e))
}

impl Keys {
    pub(crate) fn new(control: crate::Control) -> Self {
        Keys { control }
    }

    /// Makes a key for `project` (`*` for all). The secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// If the project is malformed or `expires` has passed.
    pub async fn create(
        &self,
        project: &str,
        role: Role,
        expires: Option<Timestamp>,
    ) -> Result<(KeyInfo, Secret)> {
        if project != ALL_PROJECTS && !is_id(project) {
            return Err(Error::invalid(format!(
                "{project:?} is no project: letters, digits, `-`, `_`, `.` and `:`, or `*` for all projects"
            )));
        }
        if expires.is_some_and(|expires| expires <= Timestamp::now()) {
            return Err(Error::invalid("the key would have expired already; give a time to come"));
        }
        let ring = self.control.key_ring();
        let (key, secret) = ring.draw(project, role, expires)?;
        Ok((ring.keep(self.control.store(), key).await?, secret))
    }

    /// The keys of `project`, or all, the oldest first.
    pub fn list(&self, project: Option<&str>) -> Vec<KeyInfo> {
        let keys = self.control.key_ring().keys.read().unwrap_or_else(PoisonError::into_inner);
        let wanted = keys.values().filter(|key| project.is_none_or(|p| key.info.project == p));
        let mut infos: Vec<KeyInfo> = wanted.map(|key| key.info.clone()).collect();
        infos.sort_by(|a, b| (a.create_time, &a.id).cmp(&(b.create_time, &b.id)));
        infos
    }

    /// Withdraws the key `id`: it stops working at once.
    ///
    /// # Errors
    /// If there is none, or it is the only admin's for all projects, without which nobody could make keys.
    pub async fn delete(&self, id: &str) -> Result<()> {
        let ring = self.control.key_ring();
        let last = {
            let keys = ring.keys.read().unwrap_or_else(PoisonError::into_inner);
            let rules = |k: &&StoredKey| k.info.project == ALL_PROJECTS && k.info.role == Role::Admin;
            keys.get(id).is_some_and(|key| rules(&key)) && keys.values().filter(rules).count() == 1
        };
        if last {
            return Err(Error::precondition(format!(
                "{id} is the only admin key for all projects; make another before withdrawing it"
            )));
        }
        remove::<StoredKey>(self.control.store(), id, None, |_| Ok(Vec::new())).await?;
        ring.keys.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        Ok(())
    }

    /// Whose key this is; `None` if it is nobody's, or expired. Touches memory only.
    pub fn authenticate(&self, key: &str) -> Option<Principal> {
        self.control.key_ring().authenticate(key, Timestamp::now())
    }
}
