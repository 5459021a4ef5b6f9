//! [`Tls`]: the server's certificate, and [`Stream`]: a connection with TLS or without.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How often the files are looked at.
pub(super) const RENEWAL: Duration = Duration::from_secs(5);
/// Time for a connection's first byte and its handshake.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);
/// The first byte of a TLS connection: a handshake record (RFC 8446, section 5.1).
const RECORD: u8 = 0x16;
/// Answered to machines that come without TLS.
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: application/json\r\n\
content-length: 112\r\n\r\n\
{\"error\":{\"code\":400,\"message\":\"this server speaks TLS: use https\",\"status\":\"FAILED_PRECONDITION\",\"details\":[]}}";

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

/// A certificate with its key, read again when the files change.
#[derive(Debug)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    current: ArcSwap<ServerConfig>,
    seen: Mutex<Changed>,
}

impl Tls {
    /// Reads the certificate chain and the private key, both PEM.
    ///
    /// # Errors
    /// [`TlsError`], if they cannot be used.
    pub fn open(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Tls, TlsError> {
        let (certificate, key) = (certificate.into(), key.into());
        let seen = Mutex::new(changed(&certificate, &key));
        let current = ArcSwap::from_pointee(config(&certificate, &key)?);
        Ok(Tls { certificate, key, current, seen })
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
        match config(&self.certificate, &self.key) {
            Ok(config) => {
                self.current.store(Arc::new(config));
                tracing::info!(certificate = %self.certificate.display(), "the certificate has been read again");
            }
            Err(error) => {
                tracing::warn!(%error, "the changed certificate is not used; the one before goes on")
            }
        }
    }

    /// The connection, once it is known how it speaks. Without TLS only this machine is let in. `None` for one that is
    /// over.
    pub(super) async fn accept(&self, stream: TcpStream, peer: SocketAddr) -> Option<Stream> {
        let mut first = [0];
        let read = stream.peek(&mut first).await.ok()?;
        if read == 1 && first[0] == RECORD {
            let acceptor = TlsAcceptor::from(self.current.load_full());
            return match acceptor.accept(stream).await {
                Ok(stream) => Some(Stream::Tls(Box::new(stream))),
                Err(error) => {
                    tracing::debug!(%error, "a handshake failed");
                    None
                }
            };
        }
        if read == 0 {
            return None;
        }
        if is_here(stream.local_addr().ok()?.ip(), peer.ip()) {
            return Some(Stream::Plain(stream));
        }
        let mut stream = stream;
        stream.write_all(PLAIN).await.ok()?;
        let _ = stream.shutdown().await;
        None
    }
}

/// Whether a connection to the address `own` comes from this machine.
fn is_here(own: IpAddr, peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback() || peer == own
}

fn changed(certificate: &Path, key: &Path) -> Changed {
    [certificate, key].map(|path| std::fs::metadata(path).and_then(|about| about.modified()).ok())
}

fn config(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
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
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, private)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Marks requests that came over TLS.
#[derive(Debug, Clone, Copy)]
pub(super) struct Secure;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_may_come_without() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap_or(IpAddr::from([0, 0, 0, 0]));
        for (own, peer, here) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("::1", "::1", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("::ffff:127.0.0.1", "::ffff:127.0.0.1", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("192.0.2.7", "2001:db8::1", false),
        ] {
            assert_eq!(is_here(address(own), address(peer)), here, "{peer} to {own}");
        }
    }

    #[test]
    fn the_refusal_of_plain_connections_is_whole() {
        let text = String::from_utf8_lossy(PLAIN);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{text}");
    }
}
