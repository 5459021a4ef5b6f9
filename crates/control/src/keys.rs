//! [`Keys`]: who may come in.
//!
//! A key is `mk_<id>_<secret>`, the secret 256 random bits. It is shown once; what is stored is an
//! HMAC-SHA256 of it under a pepper that lies beside the metadata, in a file of its own. A slow password
//! hash would add nothing: there is no guessing 256 bits.

use std::collections::HashMap;
use std::fmt;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use tokio::sync::Mutex;

use crate::control::WeakControl;
use crate::store::{self, Kind, MetadataStore, Record, list_all, remove};
use crate::{ALL_PROJECTS, Error, ErrorCode, Network, Principal, Result, Role, Timestamp, is_id};

/// Models, and networks, that one key is bound to at most.
const SCOPE_MAX: usize = 64;
/// The longest time for which a key that was rotated works beside its successor.
const OVERLAP_MAX: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How often it is written down when keys were last used.
const USE_INTERVAL: Duration = Duration::from_secs(60);
/// How exactly it is known when a key was last used, in seconds.
const USE_GRAIN_S: i64 = 60;

/// What is known of a key, short of its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    /// Its public part.
    pub id: String,
    /// The project that it is bound to, or `*` for all.
    pub project: String,
    /// What its holder may do.
    pub role: Role,
    /// The models and endpoints, by id, that it may ask; all when empty.
    #[serde(default)]
    pub models: Vec<String>,
    /// Where it may be used from; anywhere when empty.
    #[serde(default)]
    pub networks: Vec<Network>,
    /// When it stops working; never when absent.
    pub expires: Option<Timestamp>,
    /// When it was made.
    pub create_time: Timestamp,
    /// When it last got another secret.
    #[serde(default)]
    pub rotate_time: Option<Timestamp>,
    /// Until when the secret before that one works, too.
    #[serde(default)]
    pub former_expires: Option<Timestamp>,
    /// When it was last used, to the minute.
    #[serde(default)]
    pub last_used: Option<Timestamp>,
    /// Of a service account, whose holder signs instead of showing a secret: the public half of their key, in base64.
    #[serde(default)]
    pub public_key: Option<String>,
}

/// What to make a key for.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// The project that it is bound to, or `*` for all.
    pub project: String,
    /// What its holder may do.
    pub role: Role,
    /// The models and endpoints, by id, that it may ask; all when empty.
    pub models: Vec<String>,
    /// Where it may be used from; anywhere when empty.
    pub networks: Vec<Network>,
    /// When it stops working; never when absent.
    pub expires: Option<Timestamp>,
}

impl NewKey {
    /// A key for all of `project`, from anywhere, for ever.
    pub fn new(project: impl Into<String>, role: Role) -> Self {
        NewKey { project: project.into(), role, models: Vec::new(), networks: Vec::new(), expires: None }
    }

    fn check(&self) -> Result<()> {
        let project = &self.project;
        if project != ALL_PROJECTS && !is_id(project) {
            return Err(Error::invalid(format!(
                "{project:?} is no project: letters, digits, `-`, `_`, `.` and `:`, or `*` for all projects"
            )));
        }
        if self.expires.is_some_and(|expires| expires <= Timestamp::now()) {
            return Err(Error::invalid("the key would have expired already; give a time to come"));
        }
        if self.models.len() > SCOPE_MAX || self.networks.len() > SCOPE_MAX {
            return Err(Error::invalid(format!(
                "a key is bound to {SCOPE_MAX} models and {SCOPE_MAX} networks at most"
            )));
        }
        if let Some(wrong) = self.models.iter().find(|model| !is_id(model)) {
            return Err(Error::invalid(format!("{wrong:?} is no id of a model or an endpoint")));
        }
        if !self.models.is_empty() && self.role != Role::Invoker {
            return Err(Error::invalid(format!(
                "only an invoker's key can be bound to models: as {} it would reach others all the same",
                self.role
            )));
        }
        Ok(())
    }
}

/// A whole key, `mk_<id>_<secret>`: shown once, kept nowhere. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Secret(text)
    }

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

/// The keys. Get them from [`crate::Control::keys`].
#[derive(Clone)]
pub struct Keys {
    control: crate::Control,
}

/// A key is `mk_`, its id, `_` and its secret.
const PREFIX: &str = "mk_";
/// Digits of an id: 64 bits in hexadecimal.
pub(crate) const ID_LENGTH: usize = 16;
/// Bytes of a secret, and of the pepper.
const SECRET_BYTES: usize = 32;
/// Bytes of a key at most: anything longer is not looked at.
const KEY_BYTES_MAX: usize = 256;

/// A key as it is stored.
#[derive(Clone, Serialize, Deserialize)]
struct StoredKey {
    #[serde(flatten)]
    info: KeyInfo,
    hash: Hash,
    /// Of the secret before the last rotation, which works until [`KeyInfo::former_expires`].
    #[serde(default)]
    former: Option<Hash>,
    etag: String,
}

/// HMAC-SHA256 under the pepper of a key's id and secret.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Hash([u8; 32]);

impl Hash {
    pub(crate) fn new(hash: [u8; 32]) -> Self {
        Hash(hash)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Compares in constant time.
    pub(crate) fn is(&self, other: &Hash) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> String {
        STANDARD.encode(hash.0)
    }
}

impl TryFrom<String> for Hash {
    type Error = base64::DecodeSliceError;

    fn try_from(text: String) -> std::result::Result<Self, Self::Error> {
        let mut hash = [0; 32];
        STANDARD.decode_slice(text, &mut hash)?;
        Ok(Hash(hash))
    }
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

/// A key in memory.
pub(crate) struct Held {
    stored: StoredKey,
    pub(crate) principal: Arc<Principal>,
    /// When it was last used, in seconds of Unix time, to the grain; 0 for never.
    used_s: AtomicI64,
}

impl Held {
    fn new(stored: StoredKey) -> Self {
        let info = &stored.info;
        let principal = Principal {
            key_id: info.id.clone(),
            project: info.project.clone(),
            role: info.role,
            models: (!info.models.is_empty()).then(|| Arc::from(info.models.clone())),
        };
        let used_s = AtomicI64::new(info.last_used.map_or(0, Timestamp::as_second));
        Held { principal: Arc::new(principal), stored, used_s }
    }

    fn last_used(&self) -> Option<Timestamp> {
        let used_s = self.used_s.load(Ordering::Relaxed);
        if used_s == 0 { None } else { Timestamp::from_second(used_s).ok() }
    }

    fn info(&self) -> KeyInfo {
        KeyInfo { last_used: self.last_used(), ..self.stored.info.clone() }
    }

    /// Whether `given` is the hash of a secret that works now.
    fn accepts(&self, given: &Hash, now: Timestamp) -> bool {
        let info = &self.stored.info;
        let is_current = self.stored.hash.is(given);
        let is_former = self.stored.former.is_some_and(|former| former.is(given))
            && info.former_expires.is_some_and(|end| now < end);
        is_current || is_former
    }

    /// Whether it works now for who comes from `from`, and shows that it is theirs.
    fn admits(&self, from: IpAddr, now: Timestamp) -> bool {
        let info = &self.stored.info;
        let is_near = info.networks.is_empty() || info.networks.iter().any(|network| network.contains(from));
        is_near && info.expires.is_none_or(|expires| now < expires)
    }

    /// The public half of a service account's key, if it works now for who comes from `from`.
    pub(crate) fn public_key(&self, from: IpAddr, now: Timestamp) -> Option<Vec<u8>> {
        let key = self.stored.info.public_key.as_ref()?;
        if self.admits(from, now) { STANDARD.decode(key).ok() } else { None }
    }

    pub(crate) fn note_use(&self, now: Timestamp) {
        let now_s = now.as_second() / USE_GRAIN_S * USE_GRAIN_S;
        if self.used_s.load(Ordering::Relaxed) < now_s {
            self.used_s.store(now_s, Ordering::Relaxed);
        }
    }
}

/// All keys in memory: a request's key is checked without touching the metadata store.
pub(crate) struct KeyRing {
    /// Keyed with the pepper.
    mac: Hmac<Sha256>,
    pub(crate) keys: RwLock<HashMap<String, Held>>,
    /// Held while a key is changed in the store and then here, so that both see changes in one order.
    changing: Mutex<()>,
}

impl KeyRing {
    /// Reads the keys of the data directory. When there are none yet, makes the first, an admin's for all
    /// projects, and writes it to `admin.key`.
    pub(crate) async fn open(data_dir: &Path, store: &dyn MetadataStore) -> Result<Self> {
        let stored = list_all::<StoredKey>(store, None).await?;
        let pepper = read_pepper(&data_dir.join("pepper"), stored.is_empty())?;
        let mac = Hmac::new_from_slice(&pepper).map_err(|e| Error::internal("reading the pepper", e))?;
        let is_first = stored.is_empty();
        let keys = stored.into_iter().map(|key| (key.info.id.clone(), Held::new(key))).collect();
        let ring = KeyRing { mac, keys: RwLock::new(keys), changing: Mutex::new(()) };
        if is_first {
            let (key, secret) = ring.draw(NewKey::new(ALL_PROJECTS, Role::Admin))?;
            // The file first: if this process dies in between, the next one starts over.
            write_private(&data_dir.join("admin.key"), format!("{}\n", secret.expose()).as_bytes())?;
            ring.keep(store, key).await?;
        }
        Ok(ring)
    }

    pub(crate) fn hash(&self, id: &str, secret: &str) -> Hash {
        let mut mac = self.mac.clone();
        mac.update(id.as_bytes());
        mac.update(b"_");
        mac.update(secret.as_bytes());
        Hash(mac.finalize().into_bytes().into())
    }

    /// A new key, not kept yet.
    fn draw(&self, new: NewKey) -> Result<(StoredKey, Secret)> {
        let id = format!("{:016x}", getrandom::u64().map_err(|e| Error::internal("drawing a key", e))?);
        let (hash, secret) = self.draw_secret(&id)?;
        let info = KeyInfo {
            id,
            project: new.project,
            role: new.role,
            models: new.models,
            networks: new.networks,
            expires: new.expires,
            create_time: Timestamp::now(),
            rotate_time: None,
            former_expires: None,
            last_used: None,
            public_key: None,
        };
        Ok((StoredKey { info, hash, former: None, etag: String::new() }, secret))
    }

    fn draw_secret(&self, id: &str) -> Result<(Hash, Secret)> {
        let secret = URL_SAFE_NO_PAD.encode(random()?);
        Ok((self.hash(id, &secret), Secret(format!("{PREFIX}{id}_{secret}"))))
    }

    async fn keep(&self, store: &dyn MetadataStore, mut key: StoredKey) -> Result<KeyInfo> {
        let write = key.insert()?;
        store.commit(vec![write]).await?;
        let info = key.info.clone();
        self.hold(key);
        Ok(info)
    }

    fn hold(&self, key: StoredKey) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let held = Held::new(key);
        if let Some(old) = keys.get(&held.stored.info.id) {
            held.used_s.fetch_max(old.used_s.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        keys.insert(held.stored.info.id.clone(), held);
    }

    /// Whose key or token this is, coming from `from`.
    pub(crate) fn holder(&self, credential: &str, from: IpAddr, now: Timestamp) -> Option<Arc<Principal>> {
        self.authenticate(credential, from, now).or_else(|| self.token_holder(credential, from, now))
    }

    /// Whose key this is, coming from `from`. Takes as long for a wrong secret as for a right one.
    fn authenticate(&self, key: &str, from: IpAddr, now: Timestamp) -> Option<Arc<Principal>> {
        let (id, secret) = split(key)?;
        let given = self.hash(id, secret);
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let held = keys.get(id)?;
        if !(held.accepts(&given, now) && held.admits(from, now)) {
            return None;
        }
        held.note_use(now);
        Some(Arc::clone(&held.principal))
    }
}

/// Writes down now and then when keys were last used, as long as the control plane is there.
pub(crate) async fn keep_uses(control: WeakControl) {
    loop {
        tokio::time::sleep(USE_INTERVAL).await;
        let Some(control) = control.upgrade() else { return };
        control.keys().write_uses().await;
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
///
/// # Errors
/// If it cannot be written.
pub fn write_private(path: &Path, content: &[u8]) -> Result<()> {
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

    /// Makes a key. The secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// If the project is malformed, `expires` has passed, or another role than an invoker's is to be bound to models.
    pub async fn create(&self, new: NewKey) -> Result<(KeyInfo, Secret)> {
        self.make(new, None).await
    }

    pub(crate) fn ring(&self) -> &KeyRing {
        self.control.key_ring()
    }

    /// The same for both kinds. Nobody gets to see the secret of one that has a public key.
    pub(crate) async fn make(&self, new: NewKey, public_key: Option<String>) -> Result<(KeyInfo, Secret)> {
        new.check()?;
        let ring = self.control.key_ring();
        let (mut key, secret) = ring.draw(new)?;
        key.info.public_key = public_key;
        Ok((ring.keep(self.control.store(), key).await?, secret))
    }

    /// The keys of `project`, or all, the oldest first.
    pub fn list(&self, project: Option<&str>) -> Vec<KeyInfo> {
        let keys = self.control.key_ring().keys.read().unwrap_or_else(PoisonError::into_inner);
        let wanted = keys.values().filter(|key| project.is_none_or(|p| key.stored.info.project == p));
        let mut infos: Vec<KeyInfo> = wanted.map(Held::info).collect();
        infos.sort_by(|a, b| (a.create_time, &a.id).cmp(&(b.create_time, &b.id)));
        infos
    }

    /// The key `id`.
    pub fn get(&self, id: &str) -> Option<KeyInfo> {
        let keys = self.control.key_ring().keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(id).map(Held::info)
    }

    /// Gives the key `id` another secret. The present one works on for `overlap`, the one before it no longer.
    ///
    /// # Errors
    /// If there is no such key, or the overlap is negative or longer than 30 days.
    pub async fn rotate(&self, id: &str, overlap: SignedDuration) -> Result<(KeyInfo, Secret)> {
        if overlap.is_negative() || overlap > OVERLAP_MAX {
            return Err(Error::invalid("the overlap of two secrets is from 0 seconds to 30 days"));
        }
        let ring = self.control.key_ring();
        let _changing = ring.changing.lock().await;
        let (hash, secret) = ring.draw_secret(id)?;
        let now = Timestamp::now();
        let end = now.checked_add(overlap).map_err(|e| Error::internal("adding to a time", e))?;
        let key = store::modify::<StoredKey>(self.control.store(), id, None, |key| {
            if key.info.public_key.is_some() {
                return Err(Error::precondition(format!(
                    "{id} is a service account, which has no secret to rotate"
                )));
            }
            key.former = (!overlap.is_zero()).then_some(key.hash);
            key.hash = hash;
            key.info.rotate_time = Some(now);
            key.info.former_expires = (!overlap.is_zero()).then_some(end);
            Ok(Vec::new())
        })
        .await?;
        let info = key.info.clone();
        ring.hold(key);
        Ok((info, secret))
    }

    /// Withdraws the key `id`: it stops working at once.
    ///
    /// # Errors
    /// If there is none, or it is the only admin's for all projects, without which nobody could make keys.
    pub async fn delete(&self, id: &str) -> Result<()> {
        let ring = self.control.key_ring();
        let _changing = ring.changing.lock().await;
        let last = {
            let keys = ring.keys.read().unwrap_or_else(PoisonError::into_inner);
            let rules = |info: &KeyInfo| info.project == ALL_PROJECTS && info.role == Role::Admin;
            let lasts = |info: &KeyInfo| rules(info) && info.expires.is_none() && info.networks.is_empty();
            keys.get(id).is_some_and(|key| rules(&key.stored.info))
                && !keys.values().any(|key| key.stored.info.id != id && lasts(&key.stored.info))
        };
        if last {
            return Err(Error::precondition(format!(
                "{id} is the only admin key for all projects that works for ever and from anywhere; make another \
                 before withdrawing it"
            )));
        }
        remove::<StoredKey>(self.control.store(), id, None, |_| Ok(Vec::new())).await?;
        ring.keys.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        Ok(())
    }

    /// Whose key or token this is, coming from `from`; `None` if it is nobody's, expired, or not to be used from there.
    /// Touches memory only.
    pub fn authenticate(&self, key: &str, from: IpAddr) -> Option<Arc<Principal>> {
        self.ring().holder(key, from, Timestamp::now())
    }

    /// Writes down when keys were last used. What cannot be written is tried again the next time.
    pub async fn write_uses(&self) {
        let ring = self.control.key_ring();
        let _changing = ring.changing.lock().await;
        let used: Vec<(String, Option<Timestamp>)> = {
            let keys = ring.keys.read().unwrap_or_else(PoisonError::into_inner);
            let newer = keys.values().filter(|key| key.last_used() != key.stored.info.last_used);
            newer.map(|key| (key.stored.info.id.clone(), key.last_used())).collect()
        };
        for (id, last_used) in used {
            let written = store::modify::<StoredKey>(self.control.store(), &id, None, |key| {
                key.info.last_used = last_used;
                Ok(Vec::new())
            });
            match written.await {
                Ok(key) => ring.hold(key),
                Err(error) => {
                    tracing::warn!(%error, "when keys were last used could not be written down");
                    return;
                }
            }
        }
    }
}
