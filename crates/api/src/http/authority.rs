//! [`Authority`]: a certificate authority of this data directory's own, by which programs on this machine that are told to
//! trust it take this server for Google's.
//!
//! Its certificate says itself that it vouches for the names of Google's APIs and for this machine, and for nothing else; it
//! is installed nowhere, and there is none until an administrator asks for it.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType, date_time_ymd,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::CertifiedKey;

/// The domains that it vouches for, beside this machine.
const DOMAINS: [&str; 2] = ["googleapis.com", "pkg.dev"];
const LOCALHOST: &str = "localhost";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the authority's certificate is good for.
const AUTHORITY_DAYS: u32 = 3650;
/// How long a server's certificate is good for, and when another is made in its place.
const LEAF_DAYS: u32 = 30;
const LEAF_RENEWAL: Duration = DAY;
/// Names whose certificates are kept.
const LEAVES_MAX: usize = 64;

/// The authority cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// A file cannot be read or written.
    #[error("{path} cannot be used: {source}")]
    File {
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The key cannot be written.
    #[error(transparent)]
    Write(#[from] control::Error),
    /// What is in the files, or would be, is no certificate and no key.
    #[error(
        "the local certificate authority cannot be used: {0}; delete the directory `cloud` in the data directory to have another made"
    )]
    Certificate(#[from] rcgen::Error),
}

/// Certificates by the name that they are for, with when they were made.
type Leaves = HashMap<Option<String>, (Instant, Arc<CertifiedKey>)>;

/// A certificate authority, and the certificates that it has made.
pub(crate) struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
    /// The server's own key, which lives as long as the process.
    key: KeyPair,
    leaves: Mutex<Leaves>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority(…)")
    }
}

impl Authority {
    /// Reads the one in `directory`; `None` where there is none.
    fn read(directory: &Path) -> Result<Option<Authority>, AuthorityError> {
        let read = |path: PathBuf| match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(AuthorityError::File { path: path.display().to_string(), source }),
        };
        let (certificate, key) = (read(certificate_in(directory))?, read(key_in(directory))?);
        // Both or neither: a crash between the two leaves the key alone, and another is made.
        let (Some(certificate), Some(key)) = (certificate, key) else { return Ok(None) };
        Authority::new(certificate, KeyPair::from_pem(&key)?).map(Some)
    }

    /// Makes one and leaves it in `directory`, the key readable by its owner alone.
    fn make(directory: &Path) -> Result<Authority, AuthorityError> {
        let key = KeyPair::generate()?;
        let certificate = about_authority().self_signed(&key)?.pem();
        let failed = |source| AuthorityError::File { path: directory.display().to_string(), source };
        std::fs::create_dir_all(directory).map_err(failed)?;
        control::write_private(&key_in(directory), key.serialize_pem().as_bytes())?;
        control::write_private(&certificate_in(directory), certificate.as_bytes())?;
        Authority::new(certificate, key)
    }

    fn new(certificate: String, key: KeyPair) -> Result<Authority, AuthorityError> {
        let issuer = Issuer::new(about_authority(), key);
        Ok(Authority { certificate, issuer, key: KeyPair::generate()?, leaves: Mutex::default() })
    }

    /// Its own certificate, in PEM.
    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate for the server that is called by `name`, or by this machine's address where there is none; `None` for
    /// a name that it does not vouch for.
    pub(super) fn leaf(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let name = name.map(str::to_ascii_lowercase);
        if !name.as_deref().is_none_or(|name| is_cloud(name) || name == LOCALHOST) {
            return None;
        }
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, leaf)) = leaves.get(&name)
            && made.elapsed() < LEAF_RENEWAL
        {
            return Some(Arc::clone(leaf));
        }
        let leaf = match self.issue(name.as_deref()) {
            Ok(leaf) => Arc::new(leaf),
            Err(error) => {
                tracing::warn!(%error, "no certificate could be made");
                return None;
            }
        };
        if leaves.len() >= LEAVES_MAX {
            leaves.clear();
        }
        leaves.insert(name, (Instant::now(), Arc::clone(&leaf)));
        Some(leaf)
    }

    fn issue(&self, name: Option<&str>) -> Result<CertifiedKey, Box<dyn std::error::Error>> {
        let mut about = CertificateParams::new([name.unwrap_or(LOCALHOST).to_owned()])?;
        if name.is_none() {
            // Only here: some clients refuse a certificate with addresses from an authority whose names are limited.
            let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            about.subject_alt_names.extend(addresses.map(SanType::IpAddress));
        }
        about.distinguished_name = rcgen::DistinguishedName::new();
        about.distinguished_name.push(DnType::CommonName, "Meuse");
        set_time(&mut about, LEAF_DAYS);
        about.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        about.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        about.use_authority_key_identifier_extension = true;
        about.is_ca = IsCa::ExplicitNoCa;
        let certificate = about.signed_by(&self.key, &self.issuer)?;
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        let provider = rustls::crypto::ring::default_provider();
        Ok(CertifiedKey::from_der(vec![certificate.der().clone()], key.into(), &provider)?)
    }
}

/// What the authority's certificate says. It is the same each time it is made, but for its key and dates.
fn about_authority() -> CertificateParams {
    let mut about = CertificateParams::default();
    about.distinguished_name = rcgen::DistinguishedName::new();
    about.distinguished_name.push(DnType::CommonName, "Meuse, for programs on this machine only");
    set_time(&mut about, AUTHORITY_DAYS);
    about.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    about.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let mut permitted: Vec<_> =
        DOMAINS.into_iter().chain([LOCALHOST]).map(|name| GeneralSubtree::DnsName(name.to_owned())).collect();
    permitted.push(GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([127, 0, 0, 0], 8)));
    permitted.push(GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix(Ipv6Addr::LOCALHOST.octets(), 128)));
    about.name_constraints =
        Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: Vec::new() });
    about
}

/// Sets the time for which a certificate is good: from yesterday, as clocks differ, for `days` from now.
fn set_time(about: &mut CertificateParams, days: u32) {
    let now = date_time_ymd(1970, 1, 1) + UNIX_EPOCH.elapsed().unwrap_or_default();
    (about.not_before, about.not_after) = (now - DAY, now + DAY * days);
}

/// Whether `host`, in lower case, is one of those of Google's that come here.
pub(super) fn is_cloud(host: &str) -> bool {
    let is_in = |domain: &&str| {
        host.strip_suffix(*domain)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.') && rest.len() > 1)
    };
    DOMAINS.iter().any(is_in)
        && host.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
}

fn certificate_in(directory: &Path) -> PathBuf {
    directory.join("ca.pem")
}

fn key_in(directory: &Path) -> PathBuf {
    directory.join("ca.key")
}

/// The authority of a data directory, once there is one.
#[derive(Debug)]
pub(crate) struct Authorities {
    directory: PathBuf,
    current: ArcSwapOption<Authority>,
    making: Mutex<()>,
}

impl Authorities {
    /// Looks for one in the data directory. One that cannot be used is told to the log.
    pub(crate) fn open(data: &Path) -> Authorities {
        let directory = data.join("cloud");
        let found = Authority::read(&directory).unwrap_or_else(|error| {
            tracing::warn!(%error, "programs written for Google's cloud cannot come here");
            None
        });
        Authorities { directory, current: ArcSwapOption::new(found.map(Arc::new)), making: Mutex::new(()) }
    }

    /// The one that there is.
    pub(crate) fn current(&self) -> Option<Arc<Authority>> {
        self.current.load_full()
    }

    /// The one that there is, or else a new one. Waits for the disk.
    ///
    /// # Errors
    /// [`AuthorityError`], if it cannot be read or made.
    pub(crate) fn made(&self) -> Result<Arc<Authority>, AuthorityError> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = self.current() {
            return Ok(found);
        }
        let found = match Authority::read(&self.directory)? {
            Some(found) => found,
            None => Authority::make(&self.directory)?,
        };
        let found = Arc::new(found);
        self.current.store(Some(Arc::clone(&found)));
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_googles_hosts_come_here() {
        for host in ["googleapis.com", "us-central1-aiplatform.googleapis.com", "us-kfp.pkg.dev"] {
            assert!(is_cloud(host), "{host}");
        }
        for host in
            ["", ".pkg.dev", "google.com", "evilgoogleapis.com", "googleapis.com.evil.org", "localhost"]
        {
            assert!(!is_cloud(host), "{host}");
        }
    }

    #[test]
    fn it_is_made_once_and_vouches_for_its_names_alone() {
        let directory = tempfile::tempdir().unwrap();
        let authorities = Authorities::open(directory.path());
        assert!(authorities.current().is_none());
        let made = authorities.made().unwrap();
        let again = Authorities::open(directory.path()).current().unwrap();
        assert_eq!(made.certificate(), again.certificate());
        for name in [None, Some("localhost"), Some("Storage.googleapis.com")] {
            assert!(again.leaf(name).is_some(), "{name:?}");
        }
        for name in ["example.com", "127.0.0.1", "google.com"] {
            assert!(again.leaf(Some(name)).is_none(), "{name}");
        }
        for i in 0..3 * LEAVES_MAX {
            assert!(again.leaf(Some(&format!("{i}.googleapis.com"))).is_some());
        }
        assert!(again.leaves.lock().unwrap().len() <= LEAVES_MAX);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode =
                std::fs::metadata(key_in(&directory.path().join("cloud"))).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        std::fs::write(key_in(&directory.path().join("cloud")), "nonsense").unwrap();
        assert!(Authorities::open(directory.path()).made().is_err());
    }
}
