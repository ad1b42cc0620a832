//! An HTTP proxy for tests: it makes tunnels and forwards requests, whatever host they name, to servers of the test.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Heads are short.
const LONGEST_HEAD: usize = 16 * 1024;

/// A running proxy; ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    _guard: DropGuard,
}

/// Where it leads to, and for whom.
#[derive(Debug, Clone)]
struct Rules {
    /// For tunnels.
    secure: SocketAddr,
    /// For requests in clear.
    plain: SocketAddr,
    /// What `Proxy-Authorization` must say.
    authorization: Option<String>,
}

impl Proxy {
    /// Starts one. Tunnels lead to `secure`, forwarded requests to `plain`. With `authorization`, others are refused.
    ///
    /// # Errors
    /// If nothing can be listened on.
    pub async fn start(
        secure: SocketAddr,
        plain: SocketAddr,
        authorization: Option<&str>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let rules = Rules { secure, plain, authorization: authorization.map(str::to_owned) };
        let seen = Arc::new(Mutex::default());
        let (token, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (stopped, noted) = (token.clone(), Arc::clone(&seen));
        tasks.clone().spawn(stopped.run_until_cancelled_owned(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (rules, noted) = (rules.clone(), Arc::clone(&noted));
                tasks.spawn(async move {
                    // A broken connection is its client's matter.
                    let _ = pass(connection, &rules, &noted).await;
                });
            }
        }));
        Ok(Self { address, seen, _guard: token.drop_guard() })
    }

    /// Its address as a URL, with `who` (`user:password`) in it if there is one.
    pub fn url(&self, who: Option<&str>) -> String {
        let who = who.map(|who| format!("{who}@")).unwrap_or_default();
        format!("http://{who}{}", self.address)
    }

    /// The first lines of what was asked of it: one for each connection.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn pass(mut client: TcpStream, rules: &Rules, seen: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut head = Vec::new();
    let end = loop {
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if head.len() > LONGEST_HEAD || client.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    };
    let text = String::from_utf8_lossy(&head[..end]).into_owned();
    let line = text.lines().next().unwrap_or_default();
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(line.trim_end_matches(" HTTP/1.1").to_owned());
    let said = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("proxy-authorization").then(|| value.trim().to_owned())
    });
    if rules.authorization.is_some() && said != rules.authorization {
        let refusal =
            "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        return client.write_all(refusal.as_bytes()).await;
    }
    let mut server = if line.starts_with("CONNECT ") {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
        let mut server = TcpStream::connect(rules.secure).await?;
        server.write_all(&head[end..]).await?;
        server
    } else {
        let mut server = TcpStream::connect(rules.plain).await?;
        server.write_all(&head).await?;
        server
    };
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
