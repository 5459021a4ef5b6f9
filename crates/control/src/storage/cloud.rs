//! [`Cloud`]: the stores of others, with the operator's credentials.
//!
//! Clients choose bucket names, never endpoints, and a bucket name is no address
//! ([`super::uri::check_bucket`]): nothing that a client writes decides which host is called. Without
//! credentials in the environment no call is made at all; in particular the machine's metadata
//! service, which every store library asks as a last resort, is not asked unless the operator says so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{ObjectMeta, ObjectStore};

use super::object::{ObjectInfo, guessed_content_type};
use super::uri::{ObjectUri, Scheme};
use crate::{Error, ErrorCode, Result, Timestamp};

/// Whose credentials are used for stores elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CloudAccess {
    /// None: `gs://` means local buckets only.
    Off,
    /// Those that the environment names (`GOOGLE_APPLICATION_CREDENTIALS`, `AWS_ACCESS_KEY_ID`,
    /// `AZURE_STORAGE_ACCOUNT_NAME` and their like).
    #[default]
    Environment,
    /// As [`CloudAccess::Environment`], or else those that the machine's metadata service hands out.
    Machine,
}

/// Connections to stores elsewhere, one per bucket.
#[derive(Debug)]
pub(crate) struct Cloud {
    access: CloudAccess,
    stores: Mutex<HashMap<(Scheme, String), Arc<dyn ObjectStore>>>,
}

/// One of these set means that the operator has meant the scheme to work.
fn credentials(scheme: Scheme) -> &'static [&'static str] {
    match scheme {
        Scheme::Gs => &[
            "GOOGLE_APPLICATION_CREDENTIALS",
            "GOOGLE_SERVICE_ACCOUNT",
            "GOOGLE_SERVICE_ACCOUNT_PATH",
            "GOOGLE_SERVICE_ACCOUNT_KEY",
            "GOOGLE_BEARER_TOKEN",
            "GOOGLE_BASE_URL",
            "SERVICE_ACCOUNT",
        ],
        Scheme::S3 => &[
            "AWS_ACCESS_KEY_ID",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "AWS_SKIP_SIGNATURE",
        ],
        Scheme::Az => {
            &["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_USE_EMULATOR", "AZURE_STORAGE_CONNECTION_STRING"]
        }
        Scheme::File => &[],
    }
}

impl Cloud {
    pub(crate) fn new(access: CloudAccess) -> Self {
        Cloud { access, stores: Mutex::new(HashMap::new()) }
    }

    /// Whether addresses of `scheme` can be served from elsewhere.
    pub(crate) fn serves(&self, scheme: Scheme) -> bool {
        match self.access {
            CloudAccess::Off => false,
            CloudAccess::Environment => credentials(scheme).iter().any(|v| std::env::var_os(v).is_some()),
            CloudAccess::Machine => scheme != Scheme::File,
        }
    }

    /// The store that holds the bucket of `uri`.
    pub(crate) fn store(&self, uri: &ObjectUri) -> Result<Arc<dyn ObjectStore>> {
        let scheme = uri.scheme();
        if !self.serves(scheme) {
            return Err(Error::precondition(format!(
                "{uri} cannot be reached: the server has no credentials for {}://; its operator sets one of {} \
                 and starts it again",
                scheme.as_str(),
                credentials(scheme).join(", ")
            )));
        }
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (scheme, uri.bucket().to_owned());
        if let Some(store) = stores.get(&key) {
            return Ok(store.clone());
        }
        // Fails where one has been chosen already, which is as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let store = connect(uri).map_err(|e| store_error(uri, e))?;
        stores.insert(key, store.clone());
        Ok(store)
    }
}

fn connect(uri: &ObjectUri) -> object_store::Result<Arc<dyn ObjectStore>> {
    let bucket = uri.bucket();
    Ok(match uri.scheme() {
        Scheme::S3 => Arc::new(AmazonS3Builder::from_env().with_bucket_name(bucket).build()?),
        Scheme::Az => Arc::new(MicrosoftAzureBuilder::from_env().with_container_name(bucket).build()?),
        Scheme::Gs | Scheme::File => {
            Arc::new(GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket).build()?)
        }
    })
}

/// The path of `uri` in its store.
pub(crate) fn store_path(uri: &ObjectUri) -> Result<object_store::path::Path> {
    object_store::path::Path::parse(uri.name())
        .map_err(|e| Error::invalid(format!("`{uri}` is not an object's name in that store")).caused_by(e))
}

/// The neutral form of what a store says of an object.
pub(crate) fn object_info(uri: &ObjectUri, meta: &ObjectMeta) -> ObjectInfo {
    let updated = Timestamp::from_millisecond(meta.last_modified.timestamp_millis());
    let name = meta.location.to_string();
    ObjectInfo {
        bucket: uri.bucket().to_owned(),
        content_type: guessed_content_type(&name).to_owned(),
        name,
        size: meta.size,
        md5: None,
        crc32c: None,
        etag: meta.e_tag.clone().unwrap_or_default(),
        generation: meta.version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0),
        updated: updated.unwrap_or(Timestamp::UNIX_EPOCH),
        custom: Default::default(),
    }
}

/// What a store's error means to the client; the store's own words go to the log.
pub(crate) fn store_error(uri: &ObjectUri, error: object_store::Error) -> Error {
    use object_store::Error as E;
    let missing = || (ErrorCode::NotFound, format!("{uri} does not exist"));
    let denied = || {
        let message =
            format!("the store refuses the server access to {uri}; grant it to the server's credentials");
        (ErrorCode::PermissionDenied, message)
    };
    let (code, message) = match &error {
        E::NotFound { .. } => missing(),
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => denied(),
        E::Precondition { .. } | E::AlreadyExists { .. } | E::NotModified { .. } => {
            (ErrorCode::FailedPrecondition, format!("{uri} has changed or exists already"))
        }
        E::InvalidPath { .. } | E::NotSupported { .. } | E::NotImplemented { .. } => {
            (ErrorCode::InvalidArgument, format!("the store does not support what is asked of {uri}"))
        }
        E::Generic { source, .. } if answered(source.as_ref(), &[404]) => missing(),
        E::Generic { source, .. } if answered(source.as_ref(), &[401, 403]) => denied(),
        _ => (ErrorCode::Unavailable, format!("the store of {uri} cannot be reached; try again later")),
    };
    Error::new(code, message).caused_by(error)
}

/// Whether a store answered one of these status codes. Of a listing that is refused the library makes no error of its own,
/// and gives the code in its words alone; the tests with real stores hold it to them.
fn answered(error: &(dyn std::error::Error + 'static), codes: &[u16]) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| {
        let words = error.to_string();
        codes.iter().any(|code| words.contains(&format!("status code: {code} ")))
    })
}
