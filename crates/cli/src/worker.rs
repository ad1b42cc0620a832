//! `worker`: the private gateway of one process of Open WebUI's, which starts it and whose end it notices.
//!
//! The parent writes one line of JSON to its standard input: where to listen, and the key. It prints one line when it is
//! ready, and ends when its standard input ends: then its parent is gone.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use gateway::{Gateway, GatewayConfig, Listener};
use metering::{Meter, MeterOptions};
use providers::Secret;
use serde::Deserialize;
use storage::{Database, SystemClock, migrate};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::connect::{self, DatabaseArguments};
use crate::serve::{LogFormat, log_to_stderr};
use crate::{init, memory, output, signals};

/// Run the private gateway of one process of Open WebUI's: the tracked pipes start it.
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    database: DatabaseArguments,
    /// The form of the log.
    #[arg(long, value_enum, default_value_t, env = "OWUI_TRACKING_LOG_FORMAT")]
    log_format: LogFormat,
}

/// Open WebUI waits so long at most for usage of the original to be taken over.
const LONGEST_IMPORT: Duration = Duration::from_secs(5);

/// What the parent says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Greeting {
    /// Where to make a Unix socket, in a folder that is the parent's alone.
    socket: Option<PathBuf>,
    /// Or an address on loopback.
    listen: Option<String>,
    key: String,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let (greeting, parent_gone) = greeted().context("reading what the parent says")?;
    log_to_stderr(arguments.log_format);
    if greeting.key.trim().len() < 16 {
        bail!("the parent's key is too short: at least 16 characters");
    }
    let database = open(&arguments.database).await?;
    let clock = Arc::new(SystemClock);
    let config = GatewayConfig::private(Secret::new(greeting.key), |name| std::env::var(name).ok());
    let options = MeterOptions {
        providers: Vec::new(),
        clock: clock.clone(),
        instance: config.instance.clone(),
        settle_wait: config.settle_wait,
        head_wait: config.head_wait,
    };
    let meter = Meter::open(&database, options).await?;
    let mut terminated = signals::Terminated::watch()?;
    let shutdown = CancellationToken::new();
    let (listener, place) = listen(greeting.socket.as_deref(), greeting.listen.as_deref()).await?;
    let gateway = Gateway::new(config, meter, &database, clock, None);
    let serving = gateway::serve(listener, None, gateway, shutdown.clone());
    tokio::pin!(serving);
    output::line(format!("listening on {place}"))?;
    tokio::select! {
        () = &mut serving => bail!("the server ended by itself"),
        () = memory::give_back() => {}
        _ = parent_gone => {}
        () = terminated.asked() => {}
        // Ctrl-C goes to all processes of a terminal; it is for the parent to end.
        () = async { while tokio::signal::ctrl_c().await.is_ok() {} } => {}
    }
    shutdown.cancel();
    serving.await;
    database.close().await;
    if let Some(socket) = &greeting.socket {
        let _ = std::fs::remove_file(socket);
        // A parent that was killed can't remove its folder any more.
        if let Some(folder) = socket.parent() {
            let _ = std::fs::remove_dir(folder);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What the parent says first, and a message when it says nothing more. A thread of its own reads on, because a read of the
/// standard input can't be cancelled.
fn greeted() -> anyhow::Result<(Greeting, oneshot::Receiver<()>)> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let greeting: Greeting = serde_json::from_str(&line).map_err(|error| {
        anyhow::anyhow!(
            "the first line of the standard input is no such JSON object ({:?}). The tracked pipes start this command; \
             to run a gateway yourself, use `owui-token-tracking serve`",
            error.classify()
        )
    })?;
    let (gone, is_gone) = oneshot::channel();
    std::thread::Builder::new().name("parent".into()).spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        drop(gone);
    })?;
    Ok((greeting, is_gone))
}

/// The database. One that only the original library has used is brought up to date, as replacing it promises. One with tables
/// of ours is never migrated unasked, because others may be using it; this program runs where it can.
async fn open(arguments: &DatabaseArguments) -> anyhow::Result<Database> {
    let url = arguments.url()?;
    let database = connect::connect(&url).await.with_context(|| format!("opening {url}"))?;
    let schema = migrate::status(&database).await?;
    if schema.found > 0 || !database.has_table("token_tracking_usage_log").await? {
        schema.usable()?;
        if schema.found < schema.known {
            tracing::warn!(
                found = schema.found,
                known = schema.known,
                "the database has an older schema, which will do for now: run `owui-token-tracking init`"
            );
        }
        return Ok(database);
    }
    // Its list of prices stays as it is, also where it has none: who replaces a package asks for no models.
    let done = init::initialise(&database, &init::Begin::default()).await?;
    tracing::info!(prices = ?done.absorbed, "took over the tables of an earlier installation");
    // The latest usage comes first. What takes longer is taken over while requests are served.
    let mut ignored = |_| {};
    let sync = storage::original::sync(&database, &SystemClock, &mut ignored);
    if let Ok(synced) = tokio::time::timeout(LONGEST_IMPORT, sync).await {
        tracing::info!(usage = ?synced?.usage, "took over the usage of an earlier installation");
    }
    Ok(database)
}

async fn listen(socket: Option<&Path>, address: Option<&str>) -> anyhow::Result<(Listener, String)> {
    match (socket, address) {
        (Some(path), None) => bind(path),
        (None, Some(address)) => {
            let listener =
                TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
            let local = listener.local_addr()?;
            if !local.ip().is_loopback() {
                bail!("a private gateway listens on loopback only, not on {local}");
            }
            Ok((listener.into(), format!("http://{local}")))
        }
        _ => bail!("the parent must name either a `socket` or an address to `listen` on"),
    }
}

#[cfg(unix)]
fn bind(path: &Path) -> anyhow::Result<(Listener, String)> {
    use std::os::unix::fs::PermissionsExt;
    let folder = path.parent().context("the socket needs a folder")?;
    let mode = std::fs::metadata(folder)
        .with_context(|| format!("looking at the folder {}", folder.display()))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        bail!("the folder {} is open to other users: make it with mode 0700", folder.display());
    }
    clear(path)?;
    let listener = tokio::net::UnixListener::bind(path)
        .with_context(|| format!("making the socket {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok((listener.into(), format!("unix:{}", path.display())))
}

/// Removes the socket of a process that was killed. One on which somebody listens stays, and so does what is no socket.
#[cfg(unix)]
fn clear(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let is_refused = || {
        let heard = std::os::unix::net::UnixStream::connect(path);
        heard.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    };
    if is_socket && is_refused() {
        std::fs::remove_file(path).with_context(|| format!("removing the old socket {}", path.display()))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn bind(_: &Path) -> anyhow::Result<(Listener, String)> {
    bail!("there are no Unix sockets here: name an address to `listen` on")
}
