//! Where a gateway listens: on a network address, or on a Unix socket.

use std::io;
use std::net::IpAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;

/// The system takes so many bytes of an answer that it can't send yet. With more (Linux: some megabytes, of which a third must be
/// sent before it takes anything again), a client that takes its answer slowly would look like one that takes nothing.
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNSENT: u32 = 128 * 1024;

/// A listener that is bound.
#[derive(Debug)]
pub enum Listener {
    /// To a network address.
    Tcp(TcpListener),
    /// To a Unix socket.
    #[cfg(unix)]
    Unix(UnixListener),
}

/// A connection of either kind.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

impl Listener {
    /// A connection, and the address that it comes from, if it has one.
    pub(crate) async fn accept(&self) -> io::Result<(Box<dyn Connection>, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Without this, small chunks would wait for each other.
                let _ = stream.set_nodelay(true);
                #[cfg(any(target_os = "android", target_os = "linux"))]
                let _ = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT);
                Ok((Box::new(stream), Some(address.ip())))
            }
            #[cfg(unix)]
            Self::Unix(listener) => Ok((Box::new(listener.accept().await?.0), None)),
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

#[cfg(unix)]
impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self::Unix(listener)
    }
}
