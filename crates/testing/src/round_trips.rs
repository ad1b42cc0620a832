//! A way to a server on which round trips are counted: how often a client speaks after the server has.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// A running way to a server; ends when dropped.
#[derive(Debug)]
pub struct RoundTrips {
    address: SocketAddr,
    count: Arc<AtomicU64>,
    _guard: DropGuard,
}

impl RoundTrips {
    /// Opens a way to that server.
    ///
    /// # Errors
    /// If nothing can be listened on.
    pub async fn to(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let count = Arc::<AtomicU64>::default();
        let (token, tasks, counted) = (CancellationToken::new(), TaskTracker::new(), Arc::clone(&count));
        tasks.clone().spawn(token.clone().run_until_cancelled_owned(async move {
            while let Ok((client, _)) = listener.accept().await {
                let counted = Arc::clone(&counted);
                tasks.spawn(async move {
                    // A broken connection is its client's matter.
                    let _ = pass(client, server, &counted).await;
                });
            }
        }));
        Ok(Self { address, count, _guard: token.drop_guard() })
    }

    /// Its port on loopback.
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many round trips there were, on all connections.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }
}

async fn pass(client: TcpStream, server: SocketAddr, count: &AtomicU64) -> io::Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let is_answered = AtomicBool::new(true);
    let asking = copy(&mut from_client, &mut to_server, || {
        if is_answered.swap(false, Ordering::SeqCst) {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let answering = copy(&mut from_server, &mut to_client, || is_answered.store(true, Ordering::SeqCst));
    tokio::select! {
        ended = asking => ended,
        ended = answering => ended,
    }
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    note: impl Fn(),
) -> io::Result<()> {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        note();
        to.write_all(&bytes[..count]).await?;
    }
}
