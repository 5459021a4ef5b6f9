//! [`Door`]: connections as they come, with TLS or without; and from this machine, those that ask for a host of Google's
//! and are led here.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::authority::{Authorities, is_cloud};
use super::connect;
use super::tls::{Stream, Tls, speaking};

/// The first byte of a TLS connection: a handshake record (RFC 8446, section 5.1).
const RECORD: u8 = 0x16;
/// Answered to machines that come without TLS.
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: application/json\r\n\
content-length: 112\r\n\r\n\
{\"error\":{\"code\":400,\"message\":\"this server speaks TLS: use https\",\"status\":\"FAILED_PRECONDITION\",\"details\":[]}}";

/// How connections are taken.
pub(super) struct Door {
    authorities: Arc<Authorities>,
    /// With the operator's certificate, where there is one.
    usual: Option<Arc<ServerConfig>>,
    /// For this machine, once there is a local authority: with that certificate or the authority's, by the name asked for.
    here: Arc<ServerConfig>,
}

/// Chooses a certificate for a program on this machine.
#[derive(Debug)]
struct Here {
    tls: Option<Arc<Tls>>,
    authorities: Arc<Authorities>,
}

impl ResolvesServerCert for Here {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        match &self.tls {
            Some(tls) if !name.is_some_and(|name| is_cloud(&name.to_ascii_lowercase())) => {
                Some(tls.certified())
            }
            _ => self.authorities.current()?.leaf(name),
        }
    }
}

impl Door {
    /// The door of a server with the operator's certificate or without.
    ///
    /// # Errors
    /// If the cryptography speaks no version of TLS: a defect.
    pub(super) fn new(tls: Option<Arc<Tls>>, authorities: Arc<Authorities>) -> Result<Door, rustls::Error> {
        let usual = tls
            .clone()
            .map(|tls| (tls.clients(), tls))
            .map(|(clients, tls)| speaking(tls, clients))
            .transpose()?;
        let here = speaking(Arc::new(Here { tls, authorities: Arc::clone(&authorities) }), None)?;
        Ok(Door { authorities, usual, here })
    }

    /// Whether it is known of a connection from `peer` how it speaks before it has said anything.
    pub(super) fn is_plain(&self, peer: SocketAddr) -> bool {
        self.usual.is_none() && !self.leads(peer)
    }

    /// The connection, once it is known how it speaks. Where there is a certificate of the operator's, only this machine
    /// is let in without TLS. `None` for one that is over.
    pub(super) async fn accept(&self, mut stream: TcpStream, peer: SocketAddr) -> Option<Stream> {
        let mut first = [0];
        if stream.peek(&mut first).await.ok()? == 0 {
            return None;
        }
        let leads = self.leads(peer);
        match first[0] {
            RECORD => secured(stream, if leads { &self.here } else { self.usual.as_ref()? }).await,
            connect::FIRST if leads => {
                if connect::answer(&mut stream).await {
                    secured(stream, &self.here).await
                } else {
                    None
                }
            }
            _ if self.usual.is_none() || is_here(stream.local_addr().ok()?.ip(), peer.ip()) => {
                Some(Stream::Plain(stream))
            }
            _ => {
                stream.write_all(PLAIN).await.ok()?;
                let _ = stream.shutdown().await;
                None
            }
        }
    }

    /// Whether a connection from `peer` may ask for a host of Google's.
    fn leads(&self, peer: SocketAddr) -> bool {
        peer.ip().to_canonical().is_loopback() && self.authorities.current().is_some()
    }
}

async fn secured(stream: TcpStream, config: &Arc<ServerConfig>) -> Option<Stream> {
    match TlsAcceptor::from(Arc::clone(config)).accept(stream).await {
        Ok(stream) => Some(Stream::Tls(Box::new(stream))),
        Err(error) => {
            tracing::debug!(%error, "a handshake failed");
            None
        }
    }
}

/// Whether a connection to the address `own` comes from this machine.
fn is_here(own: IpAddr, peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback() || peer == own
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
