//! TLS in front of a server of a test. Its certificate is for `models.example` and `localhost`, from an authority that only
//! tests believe in.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// A listener that takes TLS and passes on what is inside; ends when dropped.
#[derive(Debug)]
pub struct TlsFront {
    address: SocketAddr,
    _guard: DropGuard,
}

/// The file with the authority's certificate.
pub fn authority() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tls/authority.pem"))
}

impl TlsFront {
    /// Starts one in front of that server.
    ///
    /// # Errors
    /// If nothing can be listened on.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        let certificates = vec![pem(CertificateDer::from_pem_slice(include_bytes!("tls/server.pem")))?];
        let key = pem(PrivateKeyDer::from_pem_slice(include_bytes!("tls/server-key.pem")))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .map_err(io::Error::other)?;
        let (acceptor, listener) =
            (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await?);
        let address = listener.local_addr()?;
        let (token, tasks) = (CancellationToken::new(), TaskTracker::new());
        let stopped = token.clone();
        tasks.clone().spawn(stopped.run_until_cancelled_owned(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tasks.spawn(async move {
                    // A broken connection is its client's matter.
                    let _ = pass(&acceptor, connection, server).await;
                });
            }
        }));
        Ok(Self { address, _guard: token.drop_guard() })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn pass(acceptor: &TlsAcceptor, connection: TcpStream, server: SocketAddr) -> io::Result<()> {
    let mut outside = acceptor.accept(connection).await?;
    let mut inside = TcpStream::connect(server).await?;
    copy_bidirectional(&mut outside, &mut inside).await?;
    Ok(())
}

fn pem<T>(read: Result<T, rustls::pki_types::pem::Error>) -> io::Result<T> {
    read.map_err(|error| io::Error::other(error.to_string()))
}
