//! Connections to one model server, directly or through a proxy. Finding its address, connecting, what the proxy says and
//! TLS take no longer together than the limit for connecting: until then nothing of a request has left.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tower_service::Service;

use crate::network::{Network, Proxy};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Makes connections within a limit of time.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    inner: HttpsConnector<Way>,
    limit: Duration,
}

/// The first stretch, below the TLS to the server itself.
#[derive(Debug, Clone)]
enum Way {
    Direct(HttpConnector),
    /// A proxy is asked for a tunnel to the server.
    Tunnel(Tunnel<HttpsConnector<HttpConnector>>),
    /// A proxy is sent each request (plain HTTP).
    Forward(HttpsConnector<HttpConnector>, Uri),
}

/// A connection to the server, or to its proxy.
pub(super) struct Stretch {
    io: MaybeHttpsStream<TokioIo<TcpStream>>,
    is_forwarded: bool,
}

impl Connector {
    /// # Errors
    /// Says what is wrong with the certificates of authorities.
    pub(super) fn new(
        limit: Duration,
        is_secure: bool,
        proxy: Option<&Proxy>,
        network: &Network,
    ) -> Result<Self, String> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(limit));
        let needs_roots = is_secure || proxy.is_some_and(|proxy| proxy.uri.scheme_str() == Some("https"));
        let tls = tls(if needs_roots { roots(network.authorities())? } else { RootCertStore::empty() })?;
        let way = match proxy {
            None => Way::Direct(http),
            Some(proxy) => {
                let to_proxy = over_tls(http, tls.clone());
                match &proxy.authorization {
                    _ if !is_secure => Way::Forward(to_proxy, proxy.uri.clone()),
                    None => Way::Tunnel(Tunnel::new(proxy.uri.clone(), to_proxy)),
                    Some(words) => {
                        Way::Tunnel(Tunnel::new(proxy.uri.clone(), to_proxy).with_auth(words.clone()))
                    }
                }
            }
        };
        Ok(Self { inner: over_tls(way, tls), limit })
    }
}

fn over_tls<C>(connector: C, tls: ClientConfig) -> HttpsConnector<C> {
    HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(connector)
}

fn tls(roots: RootCertStore) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// The machine's authorities (or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`), and those of a file.
fn roots(file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = file {
        let unreadable = |why: String| format!("the certificates in {} can't be read: {why}", file.display());
        let found = CertificateDer::pem_file_iter(file).map_err(|error| unreadable(error.to_string()))?;
        for certificate in found {
            let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
            roots.add(certificate).map_err(|error| unreadable(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(unreadable("there are none in it".into()));
        }
    }
    let machine = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(machine.certs);
    if roots.is_empty() {
        let why = machine.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(format!(
            "no certificates of authorities on this machine ({why}): install ca-certificates, or name a ca_file"
        ));
    }
    Ok(roots)
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<Stretch>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        let (connecting, limit) = (self.inner.call(server), self.limit);
        Box::pin(async move {
            let too_late =
                || io::Error::new(io::ErrorKind::TimedOut, "connecting, TLS included, took too long");
            tokio::time::timeout(limit, connecting).await.unwrap_or_else(|_| Err(too_late().into()))
        })
    }
}

impl Service<Uri> for Way {
    type Response = Stretch;
    type Error = BoxError;
    type Future = Connecting<Stretch>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Self::Direct(http) => http.poll_ready(context).map_err(Into::into),
            Self::Tunnel(tunnel) => tunnel.poll_ready(context).map_err(Into::into),
            Self::Forward(to_proxy, _) => to_proxy.poll_ready(context),
        }
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        match self {
            Self::Direct(http) => {
                let connecting = http.call(server);
                Box::pin(async move { Ok(Stretch::new(MaybeHttpsStream::Http(connecting.await?))) })
            }
            Self::Tunnel(tunnel) => {
                let connecting = tunnel.call(server);
                Box::pin(async move { Ok(Stretch::new(connecting.await?)) })
            }
            Self::Forward(to_proxy, proxy) => {
                let connecting = to_proxy.call(proxy.clone());
                Box::pin(async move { Ok(Stretch { is_forwarded: true, ..Stretch::new(connecting.await?) }) })
            }
        }
    }
}

impl Stretch {
    const fn new(io: MaybeHttpsStream<TokioIo<TcpStream>>) -> Self {
        Self { io, is_forwarded: false }
    }
}

impl Connection for Stretch {
    fn connected(&self) -> Connected {
        // Its requests then name the whole address, as a proxy needs it.
        self.io.connected().proxy(self.is_forwarded)
    }
}

impl Read for Stretch {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for Stretch {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, parts)
    }
}
