//! PgBouncer in front of a test's PostgreSQL: on loopback, on a free port, in a temporary folder, as an unprivileged user.
//! One process serves both ways of pooling, as two databases.

use std::fs;
use std::io;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::postgres::{free_port, unprivileged};

/// Names the executable; set by `scripts/with-postgres`.
pub const PROGRAM: &str = "OWUI_TEST_PGBOUNCER_BIN";
/// Names one that runs already, without a database; set by `test-postgres`.
pub const RUNNING: &str = "OWUI_TEST_PGBOUNCER";

const START: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);

/// When a server connection goes back to the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// When its client leaves.
    Session,
    /// At the end of each transaction.
    Transaction,
}

impl Mode {
    const fn database(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
        }
    }
}

/// A running one; stopped when dropped.
#[derive(Debug)]
pub struct PgBouncer {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl PgBouncer {
    /// Starts one in front of the server at that port on loopback.
    ///
    /// # Errors
    /// If its executable is missing or does not start.
    pub fn start(server_port: u16) -> io::Result<Self> {
        let program = program()?;
        let folder = tempfile::Builder::new().prefix("tracking-pgbouncer-").tempdir()?;
        let port = free_port()?;
        let user = unprivileged()?;
        let (settings, users, log) =
            ["pgbouncer.ini", "users", "log"].map(|name| folder.path().join(name)).into();
        fs::write(&users, "\"tracking\" \"\"\n")?;
        let server = format!("host=127.0.0.1 port={server_port} dbname=postgres user=tracking");
        // As it is installed: what it does not know at the start of a connection, it refuses. Few server connections for
        // transactions, so that they are shared; as many as there are clients for sessions.
        let text = format!(
            "[databases]\n\
             session = {server} pool_mode=session pool_size=200\n\
             transaction = {server} pool_mode=transaction pool_size=8\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = trust\n\
             auth_file = {}\n\
             logfile = {}\n\
             max_client_conn = 1000\n",
            users.display(),
            log.display(),
        );
        fs::write(&settings, text)?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700))?;
        if let Some((uid, gid)) = user {
            for path in [folder.path(), &settings, &users] {
                chown(path, Some(uid), Some(gid))?;
            }
        }
        let mut command = Command::new(program);
        command.arg("-q").arg(&settings).current_dir(folder.path()).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some((uid, gid)) = user {
            command.uid(uid).gid(gid);
        }
        let mut bouncer = Self { process: command.spawn()?, port, _folder: folder };
        let until = Instant::now() + START;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if bouncer.process.try_wait()?.is_some() || Instant::now() > until {
                let log = fs::read_to_string(&log).unwrap_or_default();
                return Err(io::Error::other(format!("PgBouncer did not start: {log}")));
            }
            std::thread::sleep(LOOK);
        }
        Ok(bouncer)
    }

    /// Its address without a database, for [`address`].
    pub fn base(&self) -> String {
        format!("postgresql://tracking@127.0.0.1:{}", self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The address of the database behind it that is pooled in that way.
pub fn address(base: &str, mode: Mode) -> String {
    format!("{base}/{}", mode.database())
}

fn program() -> io::Result<PathBuf> {
    let named = std::env::var_os(PROGRAM).map(PathBuf::from);
    let usual = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"].map(PathBuf::from);
    named.into_iter().chain(usual).find(|path| path.exists()).ok_or_else(|| {
        io::Error::other("PgBouncer is missing: run `make test`, or install the Debian package pgbouncer")
    })
}
