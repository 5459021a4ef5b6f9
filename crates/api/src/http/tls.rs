//! [`Tls`]: the server's certificate, and [`Stream`]: a connection with TLS or without.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// How often the files are looked at.
pub(super) const RENEWAL: Duration = Duration::from_secs(5);
/// Time for a connection's first byte and its handshake.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);
/// A certificate and its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM of the kind that is wanted.
    #[error("{path} cannot be used as {what}: {message}")]
    File {
        /// The file.
        path: String,
        /// What it is to be.
        what: &'static str,
        /// Why not.
        message: String,
    },
    /// The two do not belong together, or are of no kind that is known here.
    #[error("the certificate and the key cannot be used together: {0}")]
    Pair(#[from] rustls::Error),
}

/// When the certificate's file and the key's were changed.
type Changed = [Option<SystemTime>; 2];

/// A certificate with its key, read again when the files change; and whose certificates clients must bring, if any.
#[derive(Debug)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    current: ArcSwap<CertifiedKey>,
    seen: Mutex<Changed>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl Tls {
    /// Reads the certificate chain and the private key, both PEM.
    ///
    /// # Errors
    /// [`TlsError`], if they cannot be used.
    pub fn open(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Tls, TlsError> {
        let (certificate, key) = (certificate.into(), key.into());
        let seen = Mutex::new(changed(&certificate, &key));
        let current = ArcSwap::from_pointee(read(&certificate, &key)?);
        Ok(Tls { certificate, key, current, seen, clients: None })
    }

    /// The same for clients that bring a certificate which an authority in the file `authorities` (PEM) has issued, and no
    /// others.
    ///
    /// # Errors
    /// [`TlsError`], if the file cannot be used.
    pub fn for_clients_of(self, authorities: &Path) -> Result<Tls, TlsError> {
        let unusable = |message: String| TlsError::File {
            path: authorities.display().to_string(),
            what: "an authority's certificate",
            message,
        };
        let mut roots = RootCertStore::empty();
        for found in CertificateDer::pem_file_iter(authorities).map_err(|e| unusable(e.to_string()))? {
            let found = found.map_err(|e| unusable(e.to_string()))?;
            roots.add(found).map_err(|e| unusable(e.to_string()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        Ok(Tls { clients: Some(verifier.map_err(|e| unusable(e.to_string()))?), ..self })
    }

    /// Who says which clients' certificates are good, where they must bring one.
    pub(super) fn clients(&self) -> Option<Arc<dyn ClientCertVerifier>> {
        self.clients.clone()
    }

    /// Reads the files again if they have changed. Those that cannot be used leave everything as it is, and are told to the
    /// log once.
    pub(super) fn renew(&self) {
        let found = changed(&self.certificate, &self.key);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == found {
            return;
        }
        *seen = found;
        match read(&self.certificate, &self.key) {
            Ok(read) => {
                self.current.store(Arc::new(read));
                tracing::info!(certificate = %self.certificate.display(), "the certificate has been read again");
            }
            Err(error) => {
                tracing::warn!(%error, "the changed certificate is not used; the one before goes on")
            }
        }
    }

    /// The certificate with its key, as last read.
    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        self.current.load_full()
    }
}

impl ResolvesServerCert for Tls {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.certified())
    }
}

/// How TLS is spoken with the certificate that `certificates` chooses, to everybody or to the clients that `clients` takes.
///
/// # Errors
/// If the cryptography speaks no version of it: a defect.
pub(super) fn speaking(
    certificates: Arc<dyn ResolvesServerCert>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn changed(certificate: &Path, key: &Path) -> Changed {
    [certificate, key].map(|path| std::fs::metadata(path).and_then(|about| about.modified()).ok())
}

fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let unusable = |path: &Path, what, message: String| TlsError::File {
        path: path.display().to_string(),
        what,
        message,
    };
    let of_chain = |message| unusable(certificate, "a certificate", message);
    let chain = CertificateDer::pem_file_iter(certificate).map_err(|e| of_chain(e.to_string()))?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(|e| of_chain(e.to_string()))?;
    if chain.is_empty() {
        return Err(of_chain("it holds no certificate in PEM".to_owned()));
    }
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|e| unusable(key, "a private key", e.to_string()))?;
    Ok(CertifiedKey::from_der(chain, private, &rustls::crypto::ring::default_provider())?)
}

/// A connection's bytes, as its requests see them.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(super) fn is_secure(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }
}
