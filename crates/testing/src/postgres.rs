//! A PostgreSQL server for tests: on loopback, on a free port, in a temporary folder, as an unprivileged user.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Names a server that runs already; set by `test-postgres`.
pub const SERVER: &str = "OWUI_TEST_POSTGRES";
/// Names the folder of PostgreSQL's programs; set by `scripts/with-postgres`.
pub const PROGRAMS: &str = "OWUI_TEST_POSTGRES_BIN";

/// Set: the server writes to disk as one in service does, for benchmarks.
pub const DURABLE: &str = "OWUI_TEST_POSTGRES_DURABLE";

const START: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// A running server; stopped when dropped.
#[derive(Debug)]
pub struct Server {
    process: Child,
    programs: PathBuf,
    port: u16,
    folder: TempDir,
    user: Option<(u32, u32)>,
}

impl Server {
    /// Starts one with an empty cluster.
    ///
    /// # Errors
    /// If PostgreSQL's programs are missing or do not start.
    pub fn start() -> io::Result<Self> {
        let programs = programs()?;
        let folder = tempfile::Builder::new().prefix("tracking-postgres-").tempdir()?;
        let user = unprivileged()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700))?;
        if let Some((uid, gid)) = user {
            chown(folder.path(), Some(uid), Some(gid))?;
        }
        let data = folder.path().join("data");
        let mut initdb = command(&programs, "initdb", user, folder.path());
        initdb.arg("-D").arg(&data).args([
            "-U",
            "tracking",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        let done = initdb.output()?;
        if !done.status.success() {
            return Err(io::Error::other(format!(
                "initdb failed: {}",
                String::from_utf8_lossy(&done.stderr)
            )));
        }
        let port = free_port()?;
        let process = run(&programs, &data, port, user, folder.path())?;
        let server = Self { process, programs, port, folder, user };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// Its address, with a user who may do everything.
    pub fn url(&self) -> String {
        format!("postgresql://tracking@127.0.0.1:{}/postgres", self.port)
    }

    /// Its port on loopback.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Stops it at once, as a crash does, and starts it again on the same port.
    ///
    /// # Errors
    /// If it does not start again.
    pub fn restart(&mut self) -> io::Result<()> {
        self.stop("immediate");
        self.process = run(&self.programs, &self.data(), self.port, self.user, self.folder.path())?;
        self.wait_until_ready()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn wait_until_ready(&self) -> io::Result<()> {
        let until = Instant::now() + START;
        loop {
            let mut look = command(&self.programs, "pg_ctl", self.user, self.folder.path());
            let ready =
                look.arg("status").arg("-D").arg(self.data()).stdout(Stdio::null()).stderr(Stdio::null());
            let line = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
            if line.lines().nth(7).is_some_and(|state| state.trim() == "ready") && ready.status()?.success() {
                return Ok(());
            }
            if Instant::now() > until {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                return Err(io::Error::other(format!("PostgreSQL did not start: {log}")));
            }
            std::thread::sleep(LOOK);
        }
    }

    fn stop(&mut self, mode: &str) {
        let mut stop = command(&self.programs, "pg_ctl", self.user, self.folder.path());
        let stopped =
            stop.args(["stop", "-w", "-m", mode, "-D"]).arg(self.data()).stdout(Stdio::null()).status();
        if !stopped.is_ok_and(|status| status.success()) {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop("fast");
    }
}

fn run(programs: &Path, data: &Path, port: u16, user: Option<(u32, u32)>, home: &Path) -> io::Result<Child> {
    let log = File::options().create(true).append(true).open(home.join("log"))?;
    let mut postgres = command(programs, "postgres", user, home);
    postgres.arg("-D").arg(data).arg("-k").arg("").args(["-h", "127.0.0.1", "-p", &port.to_string()]);
    let durable = std::env::var_os(DURABLE).is_some();
    // What is committed outlives the server's processes in either case, and the machine if durable.
    let fast: &[&str] = if durable { &[] } else { &["fsync=off", "full_page_writes=off"] };
    for setting in fast.iter().chain(&["max_connections=300"]) {
        postgres.args(["-c", setting]);
    }
    postgres.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
}

fn command(programs: &Path, program: &str, user: Option<(u32, u32)>, home: &Path) -> Command {
    let mut command = Command::new(programs.join(program));
    command.current_dir(home).env_clear().env("LC_ALL", "C").env("PATH", programs).env("HOME", home);
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

/// The folder of PostgreSQL's programs.
fn programs() -> io::Result<PathBuf> {
    let complete =
        |folder: &PathBuf| ["initdb", "pg_ctl", "postgres"].iter().all(|name| folder.join(name).exists());
    let named = std::env::var_os(PROGRAMS).map(PathBuf::from);
    let mut debian: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|version| version.path().join("bin")).collect())
        .unwrap_or_default();
    debian.sort();
    let path = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect::<Vec<_>>();
    named.into_iter().chain(debian.into_iter().rev()).chain(path).find(complete).ok_or_else(|| {
        io::Error::other(
            "PostgreSQL's programs are missing: run `make test`, or install the Debian package postgresql",
        )
    })
}

/// PostgreSQL refuses to run as root: then it runs as `postgres`, or as `nobody`.
pub(crate) fn unprivileged() -> io::Result<Option<(u32, u32)>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let is_root =
        status.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"));
    if !is_root {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Ok(ids("postgres").or_else(|| ids("nobody")))
}

pub(crate) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
